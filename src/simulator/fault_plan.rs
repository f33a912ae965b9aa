//! Which call plays which fault: scripts come first, then chance, which is no chance at all: the
//! seed, the payment and the ordinal of the call on it decide, so that concurrency changes nothing.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    fault::{Fault, Moment},
    model::{Model, Operation, ProviderName},
};

/// Random faults: the first rule whose draw strikes is played.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Tried in order.
    pub rules: Vec<FaultRule>,
}

/// So many of a thousand calls of one kind play one of these faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRule {
    /// Of a thousand calls; 1000 is every one.
    pub per_mille: u16,
    /// One is drawn from those that fit the call.
    pub faults: Vec<Fault>,
    /// Only these calls.
    pub operation: Operation,
    /// Only at this provider.
    pub provider: Option<ProviderName>,
}

impl FaultPlan {
    /// No faults.
    pub fn none() -> Self {
        Self::default()
    }

    /// One named set.
    pub fn of(set: FaultSet, per_mille: u16) -> Self {
        Self::none().and(set, per_mille)
    }

    /// One more named set.
    pub fn and(mut self, set: FaultSet, per_mille: u16) -> Self {
        self.rules.push(FaultRule {
            per_mille,
            faults: set.faults(),
            operation: set.operation(),
            provider: None,
        });
        self
    }

    pub(super) fn choose(&self, seed: u64, call: &CallName<'_>) -> Option<Fault> {
        for (place, rule) in self.rules.iter().enumerate() {
            let meant = rule.operation == call.operation
                && rule.provider.is_none_or(|provider| provider == call.model.provider());
            let draw = draw(seed, place as u64, call);
            if !meant || draw % 1000 >= u64::from(rule.per_mille) {
                continue;
            }
            let fitting: Vec<Fault> = rule
                .faults
                .iter()
                .copied()
                .filter(|fault| fault.fits(call.model, call.operation))
                .collect();
            let count = fitting.len() as u64;
            if count > 0 {
                return fitting.get(((draw / 1000) % count) as usize).copied();
            }
        }
        None
    }
}

/// What the choice depends on, and nothing else.
pub(super) struct CallName<'a> {
    pub(super) model: Model,
    pub(super) operation: Operation,
    pub(super) payment_id: Option<&'a str>,
    /// Of the calls of this operation on this payment, from 0.
    pub(super) ordinal: u32,
}

fn draw(seed: u64, rule: u64, call: &CallName<'_>) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(rule.to_be_bytes());
    hash.update([call.model as u8, call.operation as u8]);
    hash.update(call.ordinal.to_be_bytes());
    hash.update(call.payment_id.unwrap_or_default().as_bytes());
    let digest = hash.finalize();
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Faults that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultSet {
    /// Everything that the network and the boxes in front do to a capture, before and after the money moved.
    Lossy,
    /// Business refusals.
    Declines,
    /// 429 in its kinds.
    Limits,
    /// What reads suffer, lag included.
    Reads,
}

impl FaultSet {
    /// The calls that the set is about.
    pub fn operation(self) -> Operation {
        match self {
            Self::Reads => Operation::Read,
            Self::Lossy | Self::Declines | Self::Limits => Operation::Capture,
        }
    }

    /// The faults of the set.
    pub fn faults(self) -> Vec<Fault> {
        use Moment::{After, Before, Late};
        match self {
            Self::Lossy => {
                let mut faults = vec![
                    Fault::CloseAtAccept,
                    Fault::ResetAtAccept,
                    Fault::CloseAfterAnswer,
                    Fault::Truncated,
                    Fault::WrongLength,
                    Fault::ChunkCut,
                    Fault::CutAt(1),
                    Fault::CutAt(60),
                    Fault::NotJson,
                    Fault::InvalidJson,
                    Fault::MissingFields,
                    Fault::InvalidUtf8,
                    Fault::Gzip,
                    Fault::Slow,
                    Fault::InProgress,
                    Fault::Html(200, After),
                    Fault::Html(502, Late),
                    Fault::Status(504, Late),
                    Fault::Close(Late),
                ];
                for moment in [Before, After] {
                    faults.extend([
                        Fault::Reset(moment),
                        Fault::Close(moment),
                        Fault::Silence(moment),
                        Fault::Stall(moment),
                        Fault::Empty(500, moment),
                        Fault::Html(502, moment),
                        Fault::Html(520, moment),
                        Fault::Html(524, moment),
                        Fault::Status(408, moment),
                        Fault::Status(499, moment),
                        Fault::Status(500, moment),
                        Fault::Status(503, moment),
                        Fault::Status(504, moment),
                    ]);
                }
                faults
            }
            Self::Declines => vec![
                Fault::Declined,
                Fault::DeclinedWith402,
                Fault::PendingThenFailed,
                Fault::Refuse(412, "invalid_state"),
                Fault::Refuse(422, "invalid_amount"),
            ],
            Self::Limits => vec![
                Fault::RateLimited,
                Fault::RateLimitedRetryAfter,
                Fault::Html(429, Before),
            ],
            Self::Reads => vec![
                Fault::LaggingRead,
                Fault::Reset(Before),
                Fault::Close(Before),
                Fault::Truncated,
                Fault::Empty(500, Before),
                Fault::Html(503, Before),
                Fault::Status(500, Before),
                Fault::NotJson,
            ],
        }
    }
}

/// Which calls a script is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Only at this provider.
    pub provider: Option<ProviderName>,
    /// Only on this payment.
    pub payment_id: Option<String>,
    /// Only these calls.
    pub operation: Operation,
}

impl Target {
    /// Captures of one payment.
    pub fn payment(payment_id: impl Into<String>) -> Self {
        Self {
            payment_id: Some(payment_id.into()),
            ..Self::default()
        }
    }

    /// Captures at one provider.
    pub fn provider(provider: ProviderName) -> Self {
        Self {
            provider: Some(provider),
            ..Self::default()
        }
    }

    /// All captures.
    pub fn any() -> Self {
        Self::default()
    }

    /// The same, for calls of another kind.
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = operation;
        self
    }
}

impl From<&str> for Target {
    fn from(payment_id: &str) -> Self {
        Self::payment(payment_id)
    }
}

impl From<String> for Target {
    fn from(payment_id: String) -> Self {
        Self::payment(payment_id)
    }
}

impl From<ProviderName> for Target {
    fn from(provider: ProviderName) -> Self {
        Self::provider(provider)
    }
}

/// Faults waiting for their calls; the closest target is asked first.
#[derive(Debug, Default)]
pub(super) struct Script(HashMap<Target, VecDeque<Fault>>);

impl Script {
    pub(super) fn add(&mut self, target: Target, faults: impl IntoIterator<Item = Fault>) {
        self.0.entry(target).or_default().extend(faults);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for the next call, taken out.
    pub(super) fn take(
        &mut self,
        provider: ProviderName,
        payment_id: Option<&str>,
        operation: Operation,
    ) -> Option<Fault> {
        if self.0.is_empty() {
            return None;
        }
        let payment_id = payment_id.map(str::to_owned);
        let mut closest_first = vec![(Some(provider), None), (None, None)];
        if payment_id.is_some() {
            closest_first.splice(0..0, [(Some(provider), payment_id.clone()), (None, payment_id)]);
        }
        for (provider, payment_id) in closest_first {
            let target = Target {
                provider,
                payment_id,
                operation,
            };
            if let Some(queue) = self.0.get_mut(&target) {
                let fault = queue.pop_front();
                if queue.is_empty() {
                    self.0.remove(&target);
                }
                if fault.is_some() {
                    return fault;
                }
            }
        }
        None
    }

    /// A fault that strikes before anything is read, if the provider's script begins with one.
    pub(super) fn take_at_accept(&mut self, provider: ProviderName) -> Option<Fault> {
        for provider in [Some(provider), None] {
            let target = Target {
                provider,
                ..Target::default()
            };
            let queue = self.0.get_mut(&target);
            if let Some(fault) = queue.and_then(|queue| queue.pop_front_if(|fault| fault.at_accept())) {
                return Some(fault);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(payment_id: &str, ordinal: u32) -> CallName<'_> {
        CallName {
            model: Model::Afterpay,
            operation: Operation::Capture,
            payment_id: Some(payment_id),
            ordinal,
        }
    }

    #[test]
    fn the_same_call_always_draws_the_same_fault_and_the_share_is_kept() {
        let plan = FaultPlan::of(FaultSet::Lossy, 200);
        let choices: Vec<Option<Fault>> = (0..4000).map(|ordinal| plan.choose(7, &call("100", ordinal))).collect();
        let again: Vec<Option<Fault>> = (0..4000).map(|ordinal| plan.choose(7, &call("100", ordinal))).collect();
        assert_eq!(choices, again);
        let struck = choices.iter().flatten().count();
        assert!((700..900).contains(&struck), "{struck}");
        let other_seed: Vec<Option<Fault>> = (0..4000).map(|ordinal| plan.choose(8, &call("100", ordinal))).collect();
        assert_ne!(choices, other_seed);
    }

    #[test]
    fn the_closest_target_is_asked_first() {
        let mut script = Script::default();
        script.add(Target::any(), [Fault::Drip]);
        script.add(Target::provider(ProviderName::Optty), [Fault::Gzip]);
        script.add("77".into(), [Fault::Nul, Fault::Slow]);
        let mut take = |payment| script.take(ProviderName::Optty, Some(payment), Operation::Capture);
        assert_eq!(take("77"), Some(Fault::Nul));
        assert_eq!(take("78"), Some(Fault::Gzip));
        assert_eq!(take("78"), Some(Fault::Drip));
        assert_eq!(take("77"), Some(Fault::Slow));
        assert_eq!(take("77"), None);
    }
}

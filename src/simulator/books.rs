//! All that the simulator knows, under one lock that is never held across a wait.

use std::collections::{HashMap, HashSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    fault::Fault,
    fault_plan::{CallName, FaultPlan, Script},
    ledger::{IntentName, LedgerEntry, Writer},
    ledger_file::{Line, Movement, Standing},
    model::{Model, Operation, ProviderName},
    payment::{Payment, PaymentKey},
    record::{Counts, RequestRecord},
    refusal::Refusal,
    route::Call,
    settings::{Limits, Pace},
};

/// The scope of an idempotency key: provider, account, payment, key. That it is the merchant's is
/// documented; that the payment belongs to it is an assumption.
pub(super) type KeyScope = (ProviderName, String, String, String);

/// What a key stands for.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) at: DateTime<Utc>,
    pub(super) body_sha256: Option<String>,
    pub(super) said: Said,
}

#[derive(Clone, Debug)]
pub(super) enum Said {
    /// The movement at this place of the payment.
    Movement {
        payment: PaymentKey,
        place: usize,
    },
    Refusal(Refusal),
}

/// A capture that is not decided yet.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) payment: PaymentKey,
    pub(super) capture_id: String,
    pub(super) until: DateTime<Utc>,
    pub(super) succeeds: bool,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) payments: HashMap<PaymentKey, Payment>,
    pub(super) remembered: HashMap<KeyScope, Remembered>,
    pub(super) running: HashSet<KeyScope>,
    pub(super) captures: Vec<LedgerEntry>,
    pub(super) captured_names: HashSet<IntentName>,
    pub(super) requests: VecDeque<RequestRecord>,
    pub(super) requests_kept: usize,
    pub(super) counts: Counts,
    pub(super) script: Script,
    pub(super) plan: FaultPlan,
    pub(super) seed: u64,
    pub(super) limits: Limits,
    pub(super) pace: Pace,
    /// Tokens minted before this are void.
    pub(super) tokens_from: DateTime<Utc>,
    pub(super) ordinals: HashMap<(Model, Operation, Option<String>), u32>,
    pub(super) windows: HashMap<(ProviderName, String), VecDeque<DateTime<Utc>>>,
}

/// How a rate limit stands after a request was counted, or refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) limit: u32,
    pub(super) remaining: u32,
    pub(super) resets_at: DateTime<Utc>,
    pub(super) refused: bool,
}

impl Books {
    /// The payment that this account sees under this id.
    pub(super) fn find(&self, provider: ProviderName, account: &str, id: &str) -> Option<&Payment> {
        self.payments
            .get(&(provider, Some(account.to_owned()), id.to_owned()))
            .or_else(|| self.payments.get(&(provider, None, id.to_owned())))
    }

    pub(super) fn payment(&self, key: &PaymentKey) -> Option<&Payment> {
        self.payments.get(key)
    }

    /// Payments of any provider and account with this id.
    pub(super) fn named(&self, provider: Option<ProviderName>, id: &str) -> Vec<PaymentKey> {
        let meant = |key: &&PaymentKey| key.2 == id && provider.is_none_or(|provider| provider == key.0);
        let unowned = ProviderName::ALL.map(|provider| (provider, None, id.to_owned()));
        let direct: Vec<PaymentKey> = unowned
            .into_iter()
            .filter(|key| self.payments.contains_key(key))
            .filter(|key| meant(&key))
            .collect();
        if direct.is_empty() {
            return self.payments.keys().filter(meant).cloned().collect();
        }
        direct
    }

    /// Makes a line of the ledger true. The same for what happens now and what is read back.
    pub(super) fn apply(&mut self, line: &Line, now: DateTime<Utc>) {
        match line {
            Line::Authorization(authorization) => {
                let payment = Payment::new(authorization.clone(), now);
                self.payments.entry(payment.key()).or_insert(payment);
            }
            Line::Capture(movement) | Line::Pending(movement) | Line::Declined(movement) => {
                self.apply_movement(movement);
            }
            Line::Settled {
                provider,
                payment_account,
                payment_id,
                capture_id,
                captured,
                at,
            } => {
                let key = (*provider, payment_account.clone(), payment_id.clone());
                let movements = self.payments.get_mut(&key).map(|payment| &mut payment.movements);
                let movement =
                    movements.and_then(|movements| movements.iter_mut().find(|m| m.capture_id == *capture_id));
                if let Some(movement) = movement {
                    movement.standing = if *captured {
                        Standing::Captured
                    } else {
                        Standing::Failed
                    };
                    if *captured {
                        let mut entry = LedgerEntry::of(movement);
                        entry.captured_at = *at;
                        self.enter(entry);
                    }
                }
            }
            Line::Refused {
                provider,
                account,
                payment_id,
                key,
                status,
                code,
                message,
                at,
                body_sha256,
            } => {
                let scope = (*provider, account.clone(), payment_id.clone(), key.clone());
                let refusal = Refusal::new(*status, code, message.clone());
                self.remembered.insert(
                    scope,
                    Remembered {
                        at: *at,
                        body_sha256: Some(body_sha256.clone()),
                        said: Said::Refusal(refusal),
                    },
                );
            }
            Line::Voided {
                provider,
                payment_account,
                payment_id,
                at,
            } => {
                let key = (*provider, payment_account.clone(), payment_id.clone());
                if let Some(payment) = self.payments.get_mut(&key) {
                    payment.voided_at = Some(*at);
                }
            }
            Line::Marked {
                provider,
                payment_account,
                payment_id,
                metadata,
            } => {
                let key = (*provider, payment_account.clone(), payment_id.clone());
                if let Some(payment) = self.payments.get_mut(&key) {
                    payment.metadata.extend(metadata.clone());
                }
            }
            Line::Shipped {
                provider,
                payment_account,
                payment_id,
                parcel,
                replaces,
            } => {
                let key = (*provider, payment_account.clone(), payment_id.clone());
                if let Some(payment) = self.payments.get_mut(&key) {
                    if *replaces {
                        payment.parcels.clear();
                    }
                    payment.parcels.push(parcel.clone());
                }
            }
            Line::Clock { .. } => {}
        }
    }

    fn apply_movement(&mut self, movement: &Movement) {
        let key: PaymentKey = (
            movement.provider,
            movement.payment_account.clone(),
            movement.payment_id.clone(),
        );
        let Some(payment) = self.payments.get_mut(&key) else {
            return;
        };
        if payment.authorization.any_currency {
            payment.authorization.currency.clone_from(&movement.currency);
            payment.authorization.any_currency = false;
        }
        payment.movements.push(movement.clone());
        let place = payment.movements.len() - 1;
        if let (Some(account), Some(id)) = (&movement.account, &movement.key) {
            let scope = (
                movement.provider,
                account.clone(),
                movement.payment_id.clone(),
                id.clone(),
            );
            self.remembered.insert(
                scope,
                Remembered {
                    at: movement.at,
                    body_sha256: movement.body_sha256.clone(),
                    said: Said::Movement { payment: key, place },
                },
            );
        }
        if movement.standing == Standing::Captured {
            self.enter(LedgerEntry::of(movement));
        }
    }

    fn enter(&mut self, entry: LedgerEntry) {
        match entry.writer {
            Writer::Ours => {
                self.counts.captures_ours += 1;
                self.counts.doubles += u64::from(!self.captured_names.insert(entry.intent_name()));
            }
            Writer::Foreign => self.counts.captures_foreign += 1,
        }
        self.captures.push(entry);
    }

    pub(super) fn pending(&self) -> Vec<Pending> {
        let mut pending = Vec::new();
        for (key, payment) in &self.payments {
            for movement in &payment.movements {
                if let Standing::Pending { until, succeeds } = movement.standing {
                    pending.push(Pending {
                        payment: key.clone(),
                        capture_id: movement.capture_id.clone(),
                        until,
                        succeeds,
                    });
                }
            }
        }
        pending
    }

    /// The fault that this call is to play.
    pub(super) fn choose_fault(&mut self, call: &Call) -> Option<Fault> {
        let payment_id = call.payment_id.as_deref();
        let ordinal = self
            .ordinals
            .entry((call.model, call.operation, call.payment_id.clone()))
            .or_default();
        let name = CallName {
            model: call.model,
            operation: call.operation,
            payment_id,
            ordinal: *ordinal,
        };
        *ordinal += 1;
        let scripted = self.script.take(call.model.provider(), payment_id, call.operation);
        scripted
            .or_else(|| self.plan.choose(self.seed, &name))
            .filter(|fault| *fault != Fault::None && fault.fits(call.model, call.operation))
    }

    /// Counts a request against the sliding minute of its account.
    pub(super) fn count_against_limit(
        &mut self,
        provider: ProviderName,
        account: &str,
        now: DateTime<Utc>,
    ) -> Option<Window> {
        let limit = self.limits.per_minute(provider)?;
        let window = self.windows.entry((provider, account.to_owned())).or_default();
        let minute = TimeDelta::minutes(1);
        while window.front().is_some_and(|at| *at + minute <= now) {
            window.pop_front();
        }
        let refused = window.len() >= limit as usize;
        if !refused {
            window.push_back(now);
        }
        let used = u32::try_from(window.len()).unwrap_or(u32::MAX);
        Some(Window {
            limit,
            remaining: limit.saturating_sub(used),
            resets_at: window.front().map_or(now, |at| *at + minute),
            refused,
        })
    }

    /// Remembers a request and gives it its number.
    pub(super) fn record(&mut self, mut record: RequestRecord) -> u64 {
        let seq = self.counts.requests;
        record.seq = seq;
        self.counts.requests += 1;
        if let Some(fault) = record.fault {
            *self.counts.faults.entry(fault.to_string()).or_default() += 1;
        }
        if let Some(provider) = record.provider {
            *self.counts.by_provider.entry(provider).or_default() += 1;
        }
        *self.counts.by_operation.entry(record.operation).or_default() += 1;
        self.requests.push_back(record);
        while self.requests.len() > self.requests_kept {
            self.requests.pop_front();
        }
        seq
    }

    /// Adds to what is remembered of a request, if it still is.
    pub(super) fn amend(&mut self, seq: u64, change: impl FnOnce(&mut RequestRecord)) {
        let first = self.requests.front().map_or(seq, |record| record.seq);
        let place = seq.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        if let Some(record) = place.and_then(|place| self.requests.get_mut(place)) {
            change(record);
        }
    }
}

//! What an act on one capture would come to, in words, before it is done: the safety of a replay above all.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AbilitiesByLane, Act, OperationError};
use crate::clock::{Boottime, SendGuard};
use crate::filter::State;
use crate::intent::{Currency, IntentId, Lane, Money};
use crate::outbox::{CaptureFacts, Outbox, RESOLVED_NOT_CAPTURED, Resolution, Rest};
use crate::outcome::Observation;
use crate::provider::{Abilities, Call, Provider, Repeat};
use crate::retry::DeadReason;
use crate::verify::plan_replay;

/// How safe a replay of a dead letter is, and what it would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Safety {
    /// No second capture can come of it, and it is not in vain.
    pub safe: bool,
    /// `safe: …` or `not safe: …`, and why.
    pub says: String,
    /// The right next act, in words.
    pub next_act: String,
    /// Under which key or reference it would be sent; `None`: the provider knows none.
    pub key: Option<String>,
    /// The generation of that key.
    pub key_generation: i16,
    /// How long ago the present key was first sent; `None`: it never was.
    pub key_age_seconds: Option<i64>,
    /// For how long the provider knows a key; `None`: it knows none, or for as long as we have reason to believe.
    pub key_window_seconds: Option<i64>,
    /// What a read shows now, if one was asked for.
    pub read: Option<String>,
    /// How long the authorisation still holds; negative: it is over; `None`: nobody said.
    pub seconds_to_deadline: Option<i64>,
    /// What is left of the authorisation for this capture, in minor units; `None`: nobody said what was authorised.
    pub left_minor: Option<i64>,
}

/// What an act on one capture comes to before anything is done.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// The capture, as it was read.
    pub facts: CaptureFacts,
    /// It would be acted on.
    pub acts: bool,
    /// What would be done, or why it would be left alone.
    pub says: String,
    /// The same without what differs from one to the next: what captures are counted under.
    pub group: String,
    /// Of a dead letter.
    pub safety: Option<Safety>,
    /// See `ReplayPlan`.
    pub fresh_key: bool,
}

/// Why a letter is not settled as not captured.
pub const RECEIPT_HELD: &str =
    "the provider's receipt came late and is held: replay it, which records the capture and sends nothing";

/// Judges what an act on a capture would come to, by what is behind it and by what its provider can do.
pub fn judge(act: &Act, facts: CaptureFacts, abilities: &AbilitiesByLane) -> Prospect {
    let state = State::from_name(&facts.row.state);
    match act {
        Act::Replay { also_resolved } if state == Some(State::Dead) => of_letter(facts, abilities, *also_resolved),
        Act::Resolve { captured: false, .. } if state == Some(State::Dead) && facts.late_receipt => {
            plain(facts, false, RECEIPT_HELD.to_owned())
        }
        Act::Resolve { captured, .. } if state == Some(State::Dead) => {
            let accepted = facts.progress.as_ref().is_some_and(|progress| progress.accepted);
            let says = if *captured {
                "becomes captured, by a person's word"
            } else if accepted {
                "stays dead, settled as not captured by a person's word, against the provider's, which once took it"
            } else {
                "stays dead, settled as not captured by a person's word"
            };
            plain(facts, true, says.to_owned())
        }
        Act::Replay { .. } | Act::Resolve { .. } => {
            let says = not_dead(&facts);
            let group = format!("it is {}, not dead", facts.row.state);
            Prospect {
                group,
                ..plain(facts, false, says)
            }
        }
        Act::Cancel => match state {
            Some(State::Held | State::Scheduled | State::Ready) => plain(facts, true, "is taken back".to_owned()),
            Some(State::Leased | State::Verifying) => plain(
                facts,
                true,
                "may be in flight: the wish is kept, and applied if a read shows that nothing was captured".to_owned(),
            ),
            Some(State::Captured | State::Dead | State::Cancelled) | None => match facts.rest {
                Some(rest) => of_split(facts, rest),
                None => {
                    let says = ended(&facts);
                    plain(facts, false, says)
                }
            },
        },
    }
}

/// A cancel of what shipments have split is for what is left of it, and so are the sums.
fn of_split(mut facts: CaptureFacts, rest: Rest) -> Prospect {
    facts.row.amount_minor = rest.amount_minor;
    let says = format!("was split: what is left of it, {}, is taken back", rest.id);
    Prospect {
        says,
        ..plain(facts, true, "was split: what is left of it is taken back".to_owned())
    }
}

/// Why a cancel does nothing to what has ended.
pub(super) fn ended(facts: &CaptureFacts) -> String {
    match facts.was_split {
        true => "it was split, and nothing is left of it to take back".to_owned(),
        false => format!("it is {}", facts.row.state),
    }
}

fn plain(facts: CaptureFacts, acts: bool, says: String) -> Prospect {
    Prospect {
        facts,
        acts,
        group: says.clone(),
        says,
        safety: None,
        fresh_key: false,
    }
}

/// `it is verifying, not dead`; and if a person said that it was captured, who.
pub(super) fn not_dead(facts: &CaptureFacts) -> String {
    let state = &facts.row.state;
    match &facts.resolution {
        // Their word can be asked after; it is not undone here: the money may have moved.
        Some(person) if *state == State::Captured.name() => format!(
            "it is {state}, not dead: {}; capture refunds nothing and sends nothing again, settle it with the provider",
            said(person)
        ),
        _ => format!("it is {state}, not dead"),
    }
}

/// `tess resolved it as not-captured at 2026-03-10T12:00:00Z (evidence: dashboard 7; reason: customer left)`.
fn said(person: &Resolution) -> String {
    format!(
        "{} resolved it as {} at {} (evidence: {}; reason: {})",
        person.actor,
        person.truth,
        second(person.at),
        person.evidence,
        person.reason
    )
}

fn second(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// What keeps a dead letter from being replayed, or what should be known although it is.
struct Finding {
    safe: bool,
    acts: bool,
    says: String,
    group: String,
}

impl Finding {
    fn left_alone(says: String, group: &str) -> Finding {
        Finding {
            safe: false,
            acts: false,
            says,
            group: group.to_owned(),
        }
    }
}

fn of_letter(facts: CaptureFacts, abilities: &AbilitiesByLane, also_resolved: bool) -> Prospect {
    let lane = Lane {
        provider: facts.row.provider.clone(),
        account: facts.row.account.clone(),
    };
    let reason = DeadReason::ALL
        .into_iter()
        .find(|reason| Some(reason.name()) == facts.row.dead_reason.as_deref());
    let progress = facts.progress.clone().unwrap_or_default();
    let left = facts
        .authorized_minor
        .map(|sum| sum.saturating_sub(facts.committed_minor));
    let mut safety = Safety {
        safe: false,
        says: String::new(),
        next_act: String::new(),
        key: None,
        key_generation: progress.generation.0,
        key_age_seconds: progress.first_sent_at.map(|first| (facts.now - first).num_seconds()),
        key_window_seconds: None,
        read: None,
        seconds_to_deadline: facts
            .row
            .authorization_expires_at
            .map(|end| (end - facts.now).num_seconds()),
        left_minor: left,
    };
    let mut fresh_key = false;
    let finding = match (reason, facts.progress.is_some(), abilities.get(&lane)) {
        (Some(reason), true, Some(abilities)) => {
            let plan = plan_replay(reason, &progress, *abilities, facts.now);
            safety.key = key_of(facts.row.id, *abilities, plan.next_generation);
            safety.key_generation = plan.next_generation.0;
            safety.key_window_seconds = window_of(*abilities);
            fresh_key = plan.fresh_key;
            finding(&facts, reason, plan.says, left, also_resolved)
        }
        (Some(_), true, None) if !is_closed(&facts) || also_resolved => {
            // Without its account nobody knows whether a key protects it.
            let says = format!("{lane} is not among the accounts of these settings; use the workers' capture.toml");
            Finding::left_alone(says.clone(), &says)
        }
        (Some(reason), true, None) => finding(&facts, reason, String::new(), left, also_resolved),
        (None, _, _) | (_, false, _) => {
            let says = "not safe: what is behind it was written by another version, and cannot be read by this one";
            Finding::left_alone(says.to_owned(), says)
        }
    };
    safety.safe = finding.safe;
    safety.says = finding.says.clone();
    safety.next_act = next_act(&facts, reason, &finding);
    Prospect {
        acts: finding.acts,
        says: finding.says,
        group: finding.group,
        safety: Some(safety),
        fresh_key,
        facts,
    }
}

/// Has a person settled it as not captured?
fn is_closed(facts: &CaptureFacts) -> bool {
    facts.row.last_code.as_deref() == Some(RESOLVED_NOT_CAPTURED)
}

fn finding(facts: &CaptureFacts, reason: DeadReason, plan: String, left: Option<i64>, also_resolved: bool) -> Finding {
    let person = facts
        .resolution
        .as_ref()
        .map_or_else(|| "a person resolved it as not-captured".to_owned(), said);
    if is_closed(facts) && !also_resolved {
        // They may have taken the money in another way since, on the strength of this.
        let says = format!(
            "{person}; if it is to be sent all the same, ask them whether the money was taken in another way, look at the \
             provider once more, then replay it by its id with --resolved"
        );
        return Finding::left_alone(says, "a person resolved it as not captured");
    }
    let progress = facts.progress.as_ref();
    let in_doubt = reason == DeadReason::Undecided
        || facts.late_receipt
        || progress.is_some_and(|progress| progress.tainted || progress.accepted);
    // Where something may have been captured, reads can still tell, whatever the authorisation.
    // What a provider told once may have been extended since, and what is assumed may be wrong: the provider says so then, and
    // nothing is lost by asking it.
    let is_known = facts.row.expiry_source.as_deref() == Some("producer");
    let over = facts
        .row
        .authorization_expires_at
        .filter(|over| is_known && *over <= facts.now);
    if let (Some(over), false) = (over, in_doubt) {
        return Finding::left_alone(
            format!(
                "not safe: the authorisation ended at {}, so it would only be refused",
                second(over)
            ),
            "not safe: the authorisation has ended, so it would only be refused",
        );
    }
    if let (Some(left), false) = (left, in_doubt)
        && left < facts.row.amount_minor
    {
        return Finding::left_alone(
            format!(
                "not safe: only {} is left of the authorisation, so it would be refused",
                money(left.max(0), &facts.row.currency)
            ),
            "not safe: too little is left of the authorisation, so it would be refused",
        );
    }
    let caution = match (over, reason) {
        (Some(over), _) => Some(format!(
            "but nothing is sent any more: the authorisation ended at {}",
            second(over)
        )),
        (None, DeadReason::CapturedElsewhere) => {
            Some("but in vain, unless somebody else's capture was undone".to_owned())
        }
        (None, DeadReason::Poison) => Some("but it killed workers before: it is claimed alone".to_owned()),
        (None, DeadReason::Rejected | DeadReason::Exhausted | DeadReason::Expired | DeadReason::Undecided) => None,
    };
    let mut says = match caution {
        Some(caution) => format!("{plan}; {caution}"),
        None => plan,
    };
    let mut group = words_without_times(&says);
    if is_closed(facts) {
        says = format!("{says}; but {person}");
        group = format!("{group}; but a person resolved it as not captured");
    }
    Finding {
        safe: !is_closed(facts),
        acts: true,
        says,
        group,
    }
}

fn next_act(facts: &CaptureFacts, reason: Option<DeadReason>, finding: &Finding) -> String {
    let text = match (finding.acts, reason) {
        _ if is_closed(facts) => "nothing, unless the person who resolved it says so",
        (false, Some(_)) if finding.says.starts_with("not safe: the authorisation ended") => {
            "re-authorise: let the customer pay anew, enqueue a capture of the new payment, and resolve this one as \
             not-captured"
        }
        (false, Some(_)) if finding.says.starts_with("not safe: only") => {
            "look at the order: capture less by a new intent, or re-authorise; then resolve this one as not-captured"
        }
        (false, _) => "use settings and a version that know this capture",
        (true, Some(DeadReason::Undecided)) => {
            "replay it, it reads first; or, if the provider's dashboard shows it, resolve it as captured with that as \
             evidence"
        }
        (true, Some(DeadReason::CapturedElsewhere)) => {
            "find out who captured it; if it was for this order, resolve it as captured with that as evidence"
        }
        (true, Some(DeadReason::Rejected)) => {
            "mend what was refused, then replay it; if it cannot be mended, resolve it as not-captured"
        }
        (true, Some(DeadReason::Expired)) => "replay it: reads tell whether it was captured; else re-authorise",
        (true, Some(DeadReason::Poison)) => "look at the log of the workers that it ended, then replay it",
        (true, Some(DeadReason::Exhausted) | None) => "replay it",
    };
    text.to_owned()
}

fn key_of(id: Uuid, abilities: Abilities, generation: crate::intent::KeyGeneration) -> Option<String> {
    match abilities.repeat {
        Repeat::Key { .. } => Some(IntentId(id).key(generation).to_string()),
        Repeat::UniqueReference => Some(IntentId(id).reference()),
        Repeat::Nothing => None,
    }
}

fn window_of(abilities: Abilities) -> Option<i64> {
    match abilities.repeat {
        Repeat::Key { window } => window.and_then(|window| i64::try_from(window.as_secs()).ok()),
        Repeat::UniqueReference | Repeat::Nothing => None,
    }
}

fn money(minor: i64, currency: &str) -> String {
    match Currency::from_code(currency) {
        Some(currency) => Money::new(minor, currency).to_string(),
        None => format!("{minor} minor units of {currency}"),
    }
}

/// A time makes every letter its own group, so it is left out where letters are counted.
fn words_without_times(says: &str) -> String {
    let is_time = |word: &str| word.trim_end_matches([';', ',']).parse::<DateTime<Utc>>().is_ok();
    let words = says
        .split(' ')
        .map(|word| if is_time(word) { "its time" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The safety of one dead letter; `None`: there is no such capture, or it is not dead.
pub async fn safety(
    outbox: &Outbox,
    abilities: &AbilitiesByLane,
    intent: Uuid,
) -> Result<Option<Safety>, OperationError> {
    let facts = outbox.capture_facts(&[intent]).await?.into_iter().next();
    Ok(facts.and_then(|facts| judge(&Act::Replay { also_resolved: false }, facts, abilities).safety))
}

/// Asks the provider what it knows of one capture, and tells it in words; `None`: there is no such capture. Only a read:
/// nothing is sent, marked or written.
pub async fn read_now(
    outbox: &Outbox,
    provider: &dyn Provider,
    intent: Uuid,
) -> Result<Option<String>, OperationError> {
    let Some(question) = outbox.question(intent).await? else {
        return Ok(None);
    };
    // A guard that is over: whatever an adapter may do, no capture can start under it.
    let now = Boottime::now();
    let call = Call {
        intent: &question.intent,
        generation: question.generation,
        first_sent_at: question.first_sent_at,
        // A person who asks wants to hear of whatever is there.
        refused: true,
        accepted_id: question.accepted_id.as_deref(),
        pending_id: question.pending_id.as_deref(),
        siblings: &question.siblings,
        guard: SendGuard::new(now, std::time::Duration::ZERO, std::time::Duration::ZERO),
    };
    let observation = provider.read(&call).await;
    let currency = question.intent.amount.currency;
    Ok(Some(match observation {
        Observation::Captured(receipt) if question.is_a_siblings(&receipt) => {
            format!(
                "a read shows the capture {} of another intent of this payment",
                receipt.provider_capture_id
            )
        }
        Observation::Captured(receipt) => format!(
            "a read shows it captured: {}, at the provider {}, proven by {}; a replay would record that and send nothing",
            receipt.amount,
            receipt.provider_capture_id,
            receipt.proof.name()
        ),
        Observation::Pending { .. } => {
            "a read shows it taken by the provider, and not final yet; a replay would wait for it".to_owned()
        }
        Observation::Declined { code, .. } => format!("a read shows it refused by the provider for good: {code}"),
        Observation::NotCaptured {
            open_minor: Some(open), ..
        } => format!(
            "a read shows nothing of ours, and {} still open",
            Money::new(open, currency)
        ),
        Observation::NotCaptured { open_minor: None, .. } => {
            "a read shows nothing of ours, and an authorisation that can still take it".to_owned()
        }
        Observation::Closed { code, .. } => {
            format!("a read shows nothing of ours, and an authorisation that can no longer take it: {code}")
        }
        Observation::Foreign { .. } if question.siblings_explain() => {
            "a read shows nothing of ours: other captures of this payment left no room for it".to_owned()
        }
        Observation::Foreign { .. } => "a read shows it captured by somebody else".to_owned(),
        Observation::Contradicts { code, .. } => {
            format!("what a read shows fits no story: {code}; look at the provider's dashboard")
        }
        Observation::Failed(failure) => format!(
            "the read failed ({}: {}): it says nothing about the money",
            failure.class.name(),
            failure.code
        ),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_do_not_split_the_counts() {
        let says = "safe: the same key, which the provider knows until 2026-03-10T12:00:00Z";
        assert_eq!(
            words_without_times(says),
            "safe: the same key, which the provider knows until its time"
        );
    }
}

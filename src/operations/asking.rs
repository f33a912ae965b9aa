//! What a capture's provider says of it now, beside what we say. Only reads: nothing is sent, marked or written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Boottime, SendGuard};
use crate::filter::State;
use crate::intent::Lane;
use crate::outbox::{CaptureRow, Outbox, OutboxError, Question};
use crate::outcome::Observation;
use crate::provider::{Call, Provider};

/// A provider of each account whose credentials are here.
pub type ProvidersByLane = BTreeMap<Lane, Arc<dyn Provider>>;

/// A provider's word about one capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// In words.
    pub says: String,
    /// Does it contradict our state? `None`: it says nothing about it.
    pub differs: Option<bool>,
}

impl Told {
    /// The provider said nothing, for that reason.
    pub fn nothing(says: impl Into<String>) -> Told {
        Told {
            says: says.into(),
            differs: None,
        }
    }
}

/// Reads what the provider knows of a capture. Never sends one: the guard of the call is over. No connection to the
/// database is held while the provider is waited for.
pub async fn ask(outbox: &Outbox, providers: &ProvidersByLane, capture: &CaptureRow) -> Result<Told, OutboxError> {
    let lane = Lane {
        provider: capture.provider.clone(),
        account: capture.account.clone(),
    };
    let Some(provider) = providers.get(&lane) else {
        return Ok(Told::nothing(format!("not asked: no account {lane} in the settings")));
    };
    let Some(question) = outbox.question(capture.id).await? else {
        return Ok(Told::nothing("not asked: it is gone"));
    };
    let call = Call {
        intent: &question.intent,
        generation: question.generation,
        first_sent_at: question.first_sent_at,
        // A person who asks wants to hear of whatever is there.
        refused: true,
        accepted_id: question.accepted_id.as_deref(),
        pending_id: question.pending_id.as_deref(),
        siblings: &question.siblings,
        guard: SendGuard::new(Boottime::now(), Duration::ZERO, Duration::ZERO),
    };
    Ok(told(capture, &question, &provider.read(&call).await))
}

/// What the provider's word means beside our state. While a capture is on its way everything is possible, so only ends
/// and captures that were never sent can differ.
fn told(capture: &CaptureRow, question: &Question, observation: &Observation) -> Told {
    let state = State::from_name(&capture.state);
    let captured = state == Some(State::Captured);
    let undecided = capture.dead_reason.as_deref() == Some("undecided");
    // Do we say that no money of ours moved?
    let unsent = match state {
        Some(State::Held | State::Cancelled) => true,
        Some(State::Dead) => !undecided,
        Some(State::Captured | State::Scheduled | State::Ready | State::Leased | State::Verifying) | None => false,
    };
    let (says, differs) = match observation {
        Observation::Captured(receipt) if question.is_a_siblings(receipt) => (
            format!(
                "captured as {} for another capture of this payment",
                receipt.provider_capture_id
            ),
            Some(captured),
        ),
        Observation::Captured(receipt) => {
            let other_amount = capture
                .captured_minor
                .is_some_and(|minor| minor != receipt.amount.minor);
            let other_id = capture
                .provider_capture_id
                .as_ref()
                .is_some_and(|id| *id != receipt.provider_capture_id);
            (
                format!(
                    "captured {} as {} ({})",
                    receipt.amount,
                    receipt.provider_capture_id,
                    receipt.proof.name()
                ),
                Some(unsent || undecided || other_amount || other_id),
            )
        }
        Observation::Pending { .. } => ("ours, and not final yet".to_owned(), Some(captured || unsent)),
        Observation::Declined { code, .. } => (format!("declined ({code})"), Some(captured)),
        Observation::NotCaptured { open_minor, .. } => {
            let open = open_minor
                .map(|minor| format!(", {minor} minor units are open"))
                .unwrap_or_default();
            (format!("nothing of ours is captured{open}"), Some(captured))
        }
        Observation::Closed { code, .. } => (format!("nothing of ours, and closed ({code})"), Some(captured)),
        // What others of ours took is no difference: their rows say so.
        Observation::Foreign { .. } if question.siblings_explain() => (
            "nothing of ours is captured: other captures of this payment left no room".to_owned(),
            Some(captured),
        ),
        Observation::Foreign { .. } => (
            "captured by somebody else".to_owned(),
            Some(captured || capture.dead_reason.as_deref() != Some("captured_elsewhere")),
        ),
        Observation::Contradicts { code, .. } => (format!("it fits no story ({code})"), Some(true)),
        Observation::Failed(failure) => (format!("the read failed: {} {}", failure.class, failure.code), None),
    };
    Told { says, differs }
}

//! What the worker relies on, as laws that an adapter can be tried by.
//!
//! The worker knows a provider by its [`Abilities`] and by what its outcomes say about money, so an adapter that says
//! something untrue makes it capture twice or lose a capture. Here is what must be true, for those that come with this
//! crate and for any other: bring a [`Stand`], a provider of your own making that moves pretended money and breaks down
//! when told, and [`try_all`] plays each [`Law`] against the adapter. It knows nothing of how either works inside.
//!
//! ```text
//! let broken = contract::try_all(&stand).await;
//! assert!(broken.is_empty(), "{broken:#?}");
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use uuid::Uuid;

use super::{Abilities, Call, Exactness, Provider, Repeat, Siblings};
use crate::clock::{Boottime, SendGuard};
use crate::intent::{CaptureIntent, Details, IntentId, KeyGeneration, Lane, Money};
use crate::outcome::{Class, Observation, Outcome, Proof};

/// What happens to the next capture POST at the stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The money moves, and the connection breaks before the answer.
    AnswerLost,
    /// The money moves, and a gateway answers 502 with a page of its own.
    GatewayAfterwards,
    /// The connection breaks, and no money moves.
    Broken,
    /// No money moves, and the answer is a page with status 200 that is none of the provider's documents.
    Nonsense,
    /// The provider refuses for good, in its own documented form.
    Refused,
}

/// A pretended provider, and the adapter that talks to it.
#[async_trait]
pub trait Stand: Send + Sync {
    /// The adapter under trial. Its time-outs should be short.
    fn provider(&self) -> Arc<dyn Provider>;
    /// The lane of its intents.
    fn lane(&self) -> Lane;
    /// An amount that the provider takes. It is authorised twice over.
    fn amount(&self) -> Money;
    /// Authorises that much on a new payment, and returns the payment's id.
    async fn authorize(&self, amount: Money) -> String;
    /// What befalls the next capture POST.
    async fn next(&self, trouble: Trouble);
    /// The amounts that were captured of a payment, in minor units.
    async fn captured(&self, payment_id: &str) -> Vec<i64>;
    /// How many capture POSTs have arrived.
    async fn posts(&self) -> usize;
}

/// What an adapter must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// What it says of itself makes sense.
    Abilities,
    /// A capture moves its amount once, in one POST, and is told as captured or accepted.
    MovesMoneyOnce,
    /// A read finds what was captured, and proves no more than the adapter says it can.
    ReadFindsIt,
    /// A read of an untouched payment shows nothing, and moves nothing.
    ReadMovesNothing,
    /// A read does not take another intent's capture for ours, or tells it under the id that the other's receipt had.
    ReadKnowsOthers,
    /// Where the answer was lost, the outcome is open; then a read finds the capture.
    LostAnswerIsOpen,
    /// Where the same send is repeated and the provider has a key or a unique reference, no more money moves.
    RepeatMovesNothing,
    /// What broke or is no document of the provider is never told as captured, and never as refused.
    NonsenseIsOpen,
    /// A refusal moves nothing, and is told as the provider's own answer: final, or such as our own capture would explain.
    RefusalIsAnAnswer,
    /// When the lease is too short, nothing leaves.
    GuardForbids,
}

impl Law {
    /// Every law.
    pub const ALL: [Law; 10] = [
        Law::Abilities,
        Law::MovesMoneyOnce,
        Law::ReadFindsIt,
        Law::ReadMovesNothing,
        Law::ReadKnowsOthers,
        Law::LostAnswerIsOpen,
        Law::RepeatMovesNothing,
        Law::NonsenseIsOpen,
        Law::RefusalIsAnAnswer,
        Law::GuardForbids,
    ];
}

/// A law that does not hold, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub law: Law,
    /// What was seen instead.
    pub seen: String,
}

/// Tries every law; what is returned is broken.
pub async fn try_all(stand: &dyn Stand) -> Vec<Broken> {
    let mut broken = Vec::new();
    for law in Law::ALL {
        if let Err(seen) = try_one(law, stand).await {
            broken.push(Broken { law, seen });
        }
    }
    broken
}

/// Tries a law; `Err`: what was seen instead.
pub async fn try_one(law: Law, stand: &dyn Stand) -> Result<(), String> {
    let mut trial = Trial::new(stand).await;
    match law {
        Law::Abilities => sensible(trial.abilities),
        Law::MovesMoneyOnce => {
            let before = stand.posts().await;
            let outcome = trial.send().await;
            trial.is_captured_or_accepted(&outcome)?;
            trial.moved(&[trial.intent.amount.minor]).await?;
            held(
                stand.posts().await == before + 1,
                "more or fewer POSTs than one",
                &outcome,
            )
        }
        Law::ReadFindsIt => {
            let outcome = trial.send().await;
            trial.is_captured_or_accepted(&outcome)?;
            trial.is_found().await
        }
        Law::ReadMovesNothing => {
            let before = stand.posts().await;
            let seen = trial.read().await;
            held(
                matches!(seen, Observation::NotCaptured { .. }),
                "the payment is untouched",
                &seen,
            )?;
            trial.moved(&[]).await?;
            held(stand.posts().await == before, "a read sent a capture", &seen)
        }
        Law::ReadKnowsOthers => {
            let outcome = trial.send().await;
            trial.is_captured_or_accepted(&outcome)?;
            let mut other = trial.beside();
            // Told apart by reference, or by the other's id.
            other.siblings.capture_ids = match outcome {
                Outcome::Captured(receipt) => vec![receipt.provider_capture_id],
                Outcome::Accepted { .. } | Outcome::Failed(_) | Outcome::NotSent => Vec::new(),
            };
            let seen = other.read().await;
            // One that carries the other's id is taken for what it is by the worker.
            let ours = match &seen {
                Observation::Captured(receipt) => !other.siblings.capture_ids.contains(&receipt.provider_capture_id),
                Observation::Pending { .. } => true,
                Observation::Declined { .. }
                | Observation::NotCaptured { .. }
                | Observation::Closed { .. }
                | Observation::Foreign { .. }
                | Observation::Contradicts { .. }
                | Observation::Failed(_) => false,
            };
            held(!ours, "a capture of another intent is not ours", &seen)
        }
        Law::LostAnswerIsOpen => {
            for trouble in [Trouble::AnswerLost, Trouble::GatewayAfterwards] {
                trial = Trial::new(stand).await;
                stand.next(trouble).await;
                let outcome = trial.send().await;
                is_open(trouble, &outcome)?;
                trial.moved(&[trial.intent.amount.minor]).await?;
                trial.is_found().await?;
            }
            Ok(())
        }
        Law::RepeatMovesNothing => {
            if trial.abilities.repeat == Repeat::Nothing {
                return Ok(());
            }
            stand.next(Trouble::AnswerLost).await;
            let _lost = trial.send().await;
            let again = trial.send().await;
            trial.moved(&[trial.intent.amount.minor]).await?;
            match &again {
                Outcome::Captured(_) | Outcome::Accepted { .. } => Ok(()),
                Outcome::Failed(failure) => {
                    let settled = matches!(failure.class, Class::Rejected | Class::Misconfigured);
                    held(!settled, "what our own capture explains is no final refusal", &again)
                }
                Outcome::NotSent => Err(format!("it was not sent again: {again:?}")),
            }
        }
        Law::NonsenseIsOpen => {
            for trouble in [Trouble::Broken, Trouble::Nonsense] {
                trial = Trial::new(stand).await;
                stand.next(trouble).await;
                let outcome = trial.send().await;
                is_open(trouble, &outcome)?;
                trial.moved(&[]).await?;
            }
            Ok(())
        }
        Law::RefusalIsAnAnswer => {
            stand.next(Trouble::Refused).await;
            let outcome = trial.send().await;
            trial.moved(&[]).await?;
            let Outcome::Failed(failure) = &outcome else {
                return Err(format!("it was refused: {outcome:?}"));
            };
            let told = matches!(failure.class, Class::Rejected | Class::MaybeDone) && failure.answered;
            held(told, "the provider itself refused", &outcome)
        }
        Law::GuardForbids => {
            let before = stand.posts().await;
            trial.guard = SendGuard::new(Boottime::now(), Duration::ZERO, Duration::ZERO);
            let outcome = trial.send().await;
            held(outcome == Outcome::NotSent, "the lease was over", &outcome)?;
            held(stand.posts().await == before, "it was sent nevertheless", &outcome)
        }
    }
}

/// One intent on a payment of its own.
struct Trial<'a> {
    stand: &'a dyn Stand,
    provider: Arc<dyn Provider>,
    abilities: Abilities,
    intent: CaptureIntent,
    siblings: Siblings,
    guard: SendGuard,
}

impl<'a> Trial<'a> {
    async fn new(stand: &'a dyn Stand) -> Trial<'a> {
        let amount = stand.amount();
        let authorized = Money::new(amount.minor.saturating_mul(2), amount.currency);
        let payment_id = stand.authorize(authorized).await;
        let provider = stand.provider();
        Trial {
            stand,
            abilities: provider.abilities(),
            provider,
            intent: CaptureIntent {
                id: IntentId(Uuid::now_v7()),
                lane: stand.lane(),
                order_id: "1001".to_owned(),
                payment_id,
                capture_ref: "first".to_owned(),
                amount,
                authorized_minor: Some(authorized.minor),
                authorization_expires_at: None,
                details: Details::default(),
                traceparent: None,
                created_at: Utc::now(),
            },
            siblings: Siblings::default(),
            guard: SendGuard::new(Boottime::now(), Duration::from_secs(600), Duration::ZERO),
        }
    }

    /// Another intent of the same payment, which was never sent.
    fn beside(&self) -> Trial<'a> {
        Trial {
            stand: self.stand,
            provider: self.provider.clone(),
            abilities: self.abilities,
            intent: CaptureIntent {
                id: IntentId(Uuid::now_v7()),
                capture_ref: "second".to_owned(),
                ..self.intent.clone()
            },
            siblings: Siblings::default(),
            guard: self.guard,
        }
    }

    fn call(&self) -> Call<'_> {
        Call {
            intent: &self.intent,
            generation: KeyGeneration(0),
            first_sent_at: Some(self.intent.created_at),
            refused: false,
            accepted_id: None,
            pending_id: None,
            siblings: &self.siblings,
            guard: self.guard,
        }
    }

    /// As the worker sends: with a read and a marker before, where the adapter wants them.
    async fn send(&self) -> Outcome {
        let call = self.call();
        if self.abilities.read_before_send && self.guard.may_send() {
            if let Observation::Failed(failure) = self.provider.read(&call).await {
                return Outcome::Failed(failure);
            }
            if let Err(failure) = self.provider.mark(&call).await {
                return Outcome::Failed(failure);
            }
        }
        self.provider.capture(&call).await
    }

    async fn read(&self) -> Observation {
        self.provider.read(&self.call()).await
    }

    async fn moved(&self, wanted: &[i64]) -> Result<(), String> {
        let moved = self.stand.captured(&self.intent.payment_id).await;
        held(moved == wanted, &format!("captured should be {wanted:?}"), &moved)
    }

    fn is_captured_or_accepted(&self, outcome: &Outcome) -> Result<(), String> {
        match outcome {
            Outcome::Captured(receipt) => held(receipt.amount == self.intent.amount, "another amount", receipt),
            Outcome::Accepted { .. } => Ok(()),
            Outcome::Failed(_) | Outcome::NotSent => Err(format!("nothing went wrong: {outcome:?}")),
        }
    }

    async fn is_found(&self) -> Result<(), String> {
        let seen = self.read().await;
        match &seen {
            Observation::Captured(receipt) => {
                held(receipt.amount == self.intent.amount, "another amount", receipt)?;
                let exact = matches!(receipt.proof, Proof::Reference);
                let said = self.abilities.exactness == Exactness::Reference;
                held(said || !exact, "the proof is more than the abilities say", receipt)
            }
            Observation::Pending { .. } => Ok(()),
            Observation::Declined { .. }
            | Observation::NotCaptured { .. }
            | Observation::Closed { .. }
            | Observation::Foreign { .. }
            | Observation::Contradicts { .. }
            | Observation::Failed(_) => Err(format!("it was captured: {seen:?}")),
        }
    }
}

fn sensible(abilities: Abilities) -> Result<(), String> {
    held(
        abilities.calls.send > 0 && abilities.calls.read > 0,
        "a step makes a call",
        &abilities,
    )?;
    match abilities.repeat {
        Repeat::Key { window } => held(window != Some(Duration::ZERO), "a key has a window", &abilities),
        Repeat::UniqueReference => Ok(()),
        // Two sends that do not see each other would both move money.
        Repeat::Nothing => held(
            abilities.read_before_send,
            "what cannot be repeated is read first",
            &abilities,
        ),
    }
}

/// Neither captured nor surely not: the worker goes on to verify, or sends again with the same key.
fn is_open(trouble: Trouble, outcome: &Outcome) -> Result<(), String> {
    let open = match outcome {
        Outcome::Failed(failure) => match failure.class {
            Class::Ambiguous | Class::MaybeDone | Class::InProgress => true,
            // "Surely not processed": only where that is so.
            Class::Transient | Class::RateLimited => trouble == Trouble::Broken,
            Class::Rejected | Class::Misconfigured => false,
        },
        Outcome::Accepted { .. } => matches!(trouble, Trouble::AnswerLost | Trouble::GatewayAfterwards),
        Outcome::Captured(_) | Outcome::NotSent => false,
    };
    held(open, &format!("after {trouble:?} nobody can know"), outcome)
}

fn held(holds: bool, why: &str, seen: &dyn std::fmt::Debug) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{why}: {seen:?}")) }
}

//! The providers: one adapter each behind one trait.
//!
//! The worker knows no provider by name. It asks what a provider *can do* ([`Abilities`]) and acts on that: whether a
//! repeat of an unknown capture is safe by its key, by a unique reference, or not at all; how exact a read is; how many
//! calls each step costs of a shared rate budget. An adapter builds the documented request, has `transport` put it on
//! the wire at most once, and classes the answer by a total match. It never retries, never sleeps, and never says
//! "captured" but for the one shape that the provider documents for it.

mod account;
mod afterpay;
mod answer;
#[doc(hidden)]
pub mod bare;
mod breakage;
mod channel;
#[cfg(feature = "contract")]
pub mod contract;
mod gate;
mod json;
mod optty;
mod resolve;
mod resolve_charge;
mod resolve_order;
#[cfg(test)]
mod samples;
mod token;
mod transport;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::clock::SendGuard;
use crate::intent::{CaptureIntent, IdempotencyKey, KeyGeneration, Parcel};
use crate::outcome::{Failure, Observation, Outcome};

pub use self::account::{AccountSettings, AddressError, Model, SettingsError, build};
pub use self::answer::{TLS, TOKEN_EXPIRED};

/// What happens when a capture whose outcome is unknown is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The provider knows the key and tells the first outcome, for `window` from the first send (`None`: for as long as
    /// we have reason to believe). After it the same key may move money again.
    Key {
        /// For how long; already shortened by a margin.
        window: Option<Duration>,
    },
    /// Our reference is unique at the provider, but the answer to a duplicate is not documented: reads first.
    UniqueReference,
    /// A repeat moves money again. Reads before every send, and quiet reads before a second one.
    Nothing,
}

/// How exactly a read can tell that a capture is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exactness {
    /// Our reference is on it.
    Reference,
    /// It can only be told from amount, time and a marker, with nobody else writing.
    Inference,
}

/// How many calls a step makes, for the rate budget of the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// A capture, with the reads and markers before and after it.
    pub send: u32,
    /// One verification by reads.
    pub read: u32,
}

/// What a provider does with shipping data that comes after the capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// It takes none, or takes it with the capture.
    NotTaken,
    /// It keeps the last that it was told: telling again changes nothing.
    Replaces,
    /// Each telling adds a record: after an answer that was lost a second one may stand beside the first.
    Adds,
}

/// What a provider can do. The worker acts on this, never on names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// What a repeat does.
    pub repeat: Repeat,
    /// How exact a read is.
    pub exactness: Exactness,
    /// By how much a read may lag behind a capture, as far as known. Quiet reads are at least this far apart.
    pub read_lag: Duration,
    /// Must the worker read (and mark) before every capture POST?
    pub read_before_send: bool,
    /// Calls per step.
    pub calls: Calls,
}

/// What is known of the other intents of the same payment. They cannot change meanwhile: one money movement at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Siblings {
    /// The provider's ids of their captures: none of these is ours.
    pub capture_ids: Vec<String>,
    /// The outcome of one of them is left to a person, or was settled by a person's word, whose evidence need not be the
    /// provider's id: a capture without a reference may be its.
    pub undecided: bool,
}

/// One intent on its way to the provider: everything that a request is made of.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// What was asked.
    pub intent: &'a CaptureIntent,
    /// The generation of the key.
    pub generation: KeyGeneration,
    /// When this intent was first sent, by the database's clock; `None` if it never was, or if every send of it was answered
    /// and refused. A capture that was there before, or without any send that may have acted, cannot be ours.
    pub first_sent_at: Option<DateTime<Utc>>,
    /// Our last send was refused in a way that a capture made before it would explain. Then a read is not only to say
    /// whether ours is there, but also whether such a capture is.
    pub refused: bool,
    /// The provider once took this capture, and gave it this id.
    pub accepted_id: Option<&'a str>,
    /// A read inferred that the capture of this id is ours, before that was final.
    pub pending_id: Option<&'a str>,
    /// What other intents did to the same payment.
    pub siblings: &'a Siblings,
    /// Until when the POST may start.
    pub guard: SendGuard,
}

impl Call<'_> {
    /// The idempotency key of this call.
    pub fn key(&self) -> IdempotencyKey {
        self.intent.id.key(self.generation)
    }
}

/// A payment provider.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// The host and environment that calls go to, for the record of each attempt. No secret in it.
    fn host(&self) -> &str;

    /// Refuses, before anything is sent, an intent that this provider can never take.
    fn check(&self, intent: &CaptureIntent) -> Result<(), Failure>;

    /// Leaves our marker on the payment, where that is how a read will later know our capture. Idempotent; moves no
    /// money. The default has nothing to mark.
    async fn mark(&self, _call: &Call<'_>) -> Result<(), Failure> {
        Ok(())
    }

    /// Sends exactly one capture POST, if the guard still allows, and classes the answer.
    async fn capture(&self, call: &Call<'_>) -> Outcome;

    /// Reads what the provider knows of this capture. Moves no money.
    async fn read(&self, call: &Call<'_>) -> Observation;

    /// What it does with shipping data that comes after the capture. The default: none is taken.
    fn shipping(&self) -> Follow {
        Follow::NotTaken
    }

    /// Tells of the goods of a capture that is on record. Moves no money, and nothing of the capture hangs on it. Only asked
    /// where [`Provider::shipping`] says that it is taken. A failure is [`crate::outcome::Class::Rejected`] if telling the
    /// same again can come to nothing else; any other class is tried again, a few times.
    async fn tell_shipping(&self, _parcel: &Parcel) -> Result<(), Failure> {
        Err(Failure::new(crate::outcome::Class::Rejected, "not_taken"))
    }
}

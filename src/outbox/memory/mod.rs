//! The outbox in memory: the same protocol on plain data.
//!
//! [`Tables`] is one state of the outbox; each operation is one committed statement of Postgres, with the meaning of the
//! function of the same name in `migrations/`. `tests/conformance` runs the same operations on both and compares all
//! tables after every step: what is proven here holds there. For model checking and simulation, which need to copy a
//! state, hash it, and go back to it; so: no clock (time is a parameter), no randomness, no hash maps, little to copy.
//!
//! The protocol. An intent that has not ended is in exactly one of `ready`, `waiting` and `leases`:
//!
//! ```text
//! enqueue ──► ready ──claim──► lease ──settle──► outcome   captured, dead, cancelled
//!    │        ▲   ▲              │ │                │
//!    │        │   └──give_back───┘ ├─settle─► waiting (backoff, verify)
//!    │     move_due                └─rescue─► waiting (verify)
//!    └─────► waiting ◄── a sibling holds the payment; held; scheduled; a replay of a dead letter
//! ```
//!
//! What other sessions do at the same time is no part of it: Postgres makes each statement as if it were alone, and
//! `tests/conformance` holds one open while another runs to see that it is so.
//!
//! Left out: shipment events, heartbeats and notifications; what is refused at the insert, save a capture reference taken
//! and a payment asked for too much; what an attempt measured (host, duration, when it began), for nothing asks for it;
//! `request_format`, of which there is one.

mod check;
mod claim;
mod events;
mod flow;
mod operators;
mod rows;
mod settle;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{LaneId, Purpose};
use crate::intent::IntentId;
use crate::progress::Progress;

pub use events::{Event, Told};
pub use flow::{Cancelled, Enqueued, Terms};
pub use rows::{
    Act, Attempt, Cause, Deadline, End, Epoch, IntentRow, LaneState, LateResult, Lease, OutcomeRow, ProgressRow, Ready,
    ReadyKey, ReleaseRow, SlotRow, Waiting, Wish,
};

/// All tables of one outbox. The fields are the tables; whoever explores states may forget `events` and `audit`, which no
/// operation reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tables {
    /// What was asked; never changes.
    pub intents: BTreeMap<IntentId, Arc<IntentRow>>,
    /// Lanes by number.
    pub lanes: BTreeMap<LaneId, LaneState>,
    /// May be claimed now, in the order of claims.
    pub ready: BTreeMap<ReadyKey, Ready>,
    /// Waits for a time or a release.
    pub waiting: BTreeMap<IntentId, Waiting>,
    /// Open attempts, by the batch in which they were claimed.
    pub leases: BTreeMap<Uuid, Lease>,
    /// What is behind an intent.
    pub progress: BTreeMap<IntentId, Arc<ProgressRow>>,
    /// Closed attempts, by intent and fence.
    pub attempts: BTreeMap<(IntentId, i32), Arc<Attempt>>,
    /// How intents ended.
    pub outcomes: BTreeMap<IntentId, Arc<OutcomeRow>>,
    /// Results that came after their lease was lost, by intent, fence and lease.
    pub late_results: BTreeMap<(IntentId, i32, Uuid), Arc<LateResult>>,
    /// Ends of authorisations.
    pub deadlines: BTreeMap<IntentId, Deadline>,
    /// Wishes to cancel what was in flight.
    pub cancel_requests: BTreeMap<IntentId, Wish>,
    /// Releases of held intents, the oldest first.
    pub releases: Vec<ReleaseRow>,
    /// The history of the database.
    pub epoch: Epoch,
    /// The feed.
    pub events: Vec<Event>,
    /// What operators did.
    pub audit: Vec<Act>,
}

impl Tables {
    /// An empty outbox.
    pub fn new() -> Tables {
        Tables::default()
    }

    /// The database's history becomes another one (a fail-over, a restore). The next claim or rescue finds out.
    pub fn change_history(&mut self) {
        self.epoch.unnoticed = true;
    }

    /// Looks at the server's history, and begins a new epoch if it is another one: the first thing in claim and rescue.
    pub fn begin_epoch(&mut self, now: DateTime<Utc>) -> i32 {
        if self.epoch.unnoticed {
            self.epoch = Epoch {
                number: self.epoch.number + 1,
                unnoticed: false,
                began_at: now,
            };
        }
        self.epoch.number
    }

    /// The row of `ready` of an intent.
    pub fn ready_of(&self, intent: IntentId) -> Option<(ReadyKey, Ready)> {
        let row = self.ready.iter().find(|(_, row)| row.intent == intent)?;
        Some((*row.0, *row.1))
    }

    /// The open slot of an intent, and its lease.
    pub fn open_slot_of(&self, intent: IntentId) -> Option<(Uuid, SlotRow)> {
        self.leases
            .iter()
            .find_map(|(id, lease)| lease.open().find(|slot| slot.intent == intent).map(|slot| (*id, *slot)))
    }

    /// The other intents of the same payment.
    fn siblings(&self, of: &IntentRow) -> impl Iterator<Item = &Arc<IntentRow>> {
        let (id, lane, payment) = (of.capture.id, of.lane, of.capture.payment_id.clone());
        self.intents
            .values()
            .filter(move |row| row.lane == lane && row.capture.id != id && row.capture.payment_id == payment)
    }

    fn put_ready(&mut self, lane: LaneId, purpose: Purpose, alone: bool, urgency: i16, row: Ready) {
        // Only the order counts: Postgres numbers them from a sequence.
        let seq = self.ready.keys().map(|key| key.seq + 1).max().unwrap_or(0);
        let key = ReadyKey {
            lane,
            purpose,
            alone,
            urgency,
            seq,
        };
        debug_assert!(self.ready_of(row.intent).is_none(), "{} is ready twice", row.intent);
        self.ready.insert(key, row);
    }

    fn put_waiting(&mut self, intent: IntentId, row: Waiting) {
        let before = self.waiting.insert(intent, row);
        debug_assert!(before.is_none(), "{intent} waits twice");
    }

    /// Two leases were lost in a row: claimed with nothing else in flight.
    fn alone(&self, intent: IntentId) -> bool {
        self.progress
            .get(&intent)
            .is_some_and(|row| row.progress.lost_leases >= 2)
    }

    fn urgency(&self, intent: &IntentRow, now: DateTime<Utc>) -> i16 {
        urgency_of(intent.priority, intent.capture.authorization_expires_at, now)
    }

    fn progress_mut(&mut self, intent: IntentId) -> &mut ProgressRow {
        Arc::make_mut(self.progress.entry(intent).or_default())
    }

    fn tell(&mut self, intent: IntentId, at: DateTime<Utc>, told: Told) {
        self.events.push(Event { intent, at, told });
    }

    /// The oldest late receipt of an intent that is proof enough to end it.
    fn late_receipt(&self, intent: IntentId) -> Option<&Arc<LateResult>> {
        self.late_results
            .range((intent, i32::MIN, Uuid::nil())..=(intent, i32::MAX, Uuid::max()))
            .map(|(_, late)| late)
            .find(|late| late.receipt.as_ref().is_some_and(End::is_ours))
    }

    /// What is behind an intent.
    pub fn progress_of(&self, intent: IntentId) -> Progress {
        self.progress
            .get(&intent)
            .map(|row| row.progress.clone())
            .unwrap_or_default()
    }
}

/// The producer's priority, but first of all once the authorisation ends within a day.
fn urgency_of(priority: i16, expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> i16 {
    let soon = expires_at.is_some_and(|at| at < now + TimeDelta::hours(24));
    if soon { i16::MIN } else { priority }
}

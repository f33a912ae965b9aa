//! The rows of the tables. Names are those of the columns; texts are shared, so that a state is cheap to copy.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::super::{LaneId, Purpose};
use crate::intent::{CaptureIntent, IntentId, KeyGeneration, Lane, Shipping};
use crate::outcome::{Evidence, Proof};
use crate::progress::Progress;
use crate::retry::DeadReason;

/// A row of `intents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentRow {
    /// What was asked.
    pub capture: CaptureIntent,
    /// Its lane's number.
    pub lane: LaneId,
    /// It waits for a release.
    pub hold: bool,
    /// Not to be captured before.
    pub not_before: Option<DateTime<Utc>>,
    /// Smaller goes first.
    pub priority: i16,
}

/// A row never changes, so its id says it all; and states are hashed often.
impl std::hash::Hash for IntentRow {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.capture.id.hash(state);
    }
}

/// A row of `lanes`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaneState {
    /// Provider and account.
    pub lane: Arc<Lane>,
    /// Since when it is paused, by whom and why.
    pub paused: Option<(DateTime<Utc>, Arc<str>, Arc<str>)>,
    /// Calls a minute; 0 is no limit.
    pub rate_per_minute: i32,
    /// Until when the budget is spent; `None`: nothing was ever spent.
    pub budget_spent_until: Option<DateTime<Utc>>,
    /// The provider asked to wait until then.
    pub limited_until: Option<DateTime<Utc>>,
    /// Calls in a row without an answer.
    pub unanswered: i32,
    /// The breaker is open until then.
    pub open_until: Option<DateTime<Utc>>,
    /// For how long it was opened last.
    pub open_ms: i64,
    /// One capture was let through to test.
    pub testing: bool,
}

/// The primary key of `ready`: the order of claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReadyKey {
    /// Its lane.
    pub lane: LaneId,
    /// What it is claimed for.
    pub purpose: Purpose,
    /// Only with nothing else in flight.
    pub alone: bool,
    /// Smaller goes first.
    pub urgency: i16,
    /// Then whoever came first.
    pub seq: i64,
}

/// A row of `ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ready {
    /// The intent.
    pub intent: IntentId,
    /// Of the last claim.
    pub fence: i32,
    /// In which it was written.
    pub epoch: i32,
    /// Since when it is here.
    pub since: DateTime<Utc>,
}

/// Why a row waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// For its time.
    Scheduled,
    /// For a release.
    Held,
    /// For its next try.
    Backoff,
    /// To be verified.
    Verify,
    /// A sibling holds the payment.
    Sibling,
}

impl Cause {
    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Scheduled => "scheduled",
            Cause::Held => "held",
            Cause::Backoff => "backoff",
            Cause::Verify => "verify",
            Cause::Sibling => "sibling",
        }
    }
}

/// A row of `waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Its lane.
    pub lane: LaneId,
    /// What it will be claimed for.
    pub purpose: Purpose,
    /// Smaller goes first.
    pub urgency: i16,
    /// Of the last claim.
    pub fence: i32,
    /// In which it was written.
    pub epoch: i32,
    /// Why it waits.
    pub cause: Cause,
    /// For what time; `None`: for a release.
    pub due_at: Option<DateTime<Utc>>,
    /// Since when it is here.
    pub since: DateTime<Utc>,
}

/// A row of `leases`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Whose.
    pub worker: Uuid,
    /// In which it was given.
    pub epoch: i32,
    /// Since when.
    pub claimed_at: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// The attempts.
    pub slots: Vec<SlotRow>,
}

impl Lease {
    /// The attempts that are not settled.
    pub fn open(&self) -> impl Iterator<Item = &SlotRow> {
        self.slots.iter().filter(|slot| !slot.settled)
    }
}

/// One attempt in a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotRow {
    /// The intent.
    pub intent: IntentId,
    /// Its lane.
    pub lane: LaneId,
    /// Of this claim.
    pub fence: i32,
    /// The key's, when it was claimed.
    pub generation: KeyGeneration,
    /// What it was claimed for.
    pub purpose: Purpose,
    /// Of the row as it was claimed.
    pub epoch: i32,
    /// Its bit.
    pub settled: bool,
}

/// A row of `progress`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ProgressRow {
    /// What a worker knows of it.
    pub progress: Progress,
    /// Came back from a dead letter and was not claimed since.
    pub replayed: bool,
}

/// A row of `attempts`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Under which lease.
    pub lease: Uuid,
    /// By whom.
    pub worker: Uuid,
    /// What it was claimed for.
    pub purpose: Purpose,
    /// The key's.
    pub generation: KeyGeneration,
    /// Was a capture POST on the wire? `None`: nobody knows.
    pub sent: Option<bool>,
    /// What it came to.
    pub outcome: &'static str,
    /// Class of the failure.
    pub class: Option<&'static str>,
    /// Its code.
    pub code: Option<Arc<str>>,
    /// Its HTTP status.
    pub http_status: Option<u16>,
    /// When it was recorded.
    pub ended_at: DateTime<Utc>,
    /// What was seen; `None`: nobody looked.
    pub evidence: Option<Evidence>,
}

/// How an intent ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum End {
    /// With a receipt.
    Captured {
        /// Minor units.
        minor: i64,
        /// The provider's id of the capture.
        id: Arc<str>,
        /// When, if the provider says.
        at: Option<DateTime<Utc>>,
        /// How it is known.
        proof: Proof,
    },
    /// Without.
    Dead(DeadReason),
    /// Taken back.
    Cancelled,
}

impl End {
    /// The state in SQL.
    pub fn state(&self) -> &'static str {
        match self {
            End::Captured { .. } => "captured",
            End::Dead(_) => "dead",
            End::Cancelled => "cancelled",
        }
    }

    /// Is it surely our own capture: the answer to our POST, or a read that showed our reference? What a read only inferred
    /// may be a sibling's.
    pub fn is_ours(&self) -> bool {
        match self {
            End::Captured { proof, .. } => matches!(proof, Proof::Answer | Proof::Reference),
            End::Dead(_) | End::Cancelled => false,
        }
    }

    /// The provider's id of the capture, if there is one.
    pub fn capture_id(&self) -> Option<&Arc<str>> {
        match self {
            End::Captured { id, .. } => Some(id),
            End::Dead(_) | End::Cancelled => None,
        }
    }
}

/// A row of `outcomes`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutcomeRow {
    /// Its lane.
    pub lane: LaneId,
    /// How.
    pub end: End,
    /// Of the last claim.
    pub fence: i32,
    /// Capture POSTs that counted.
    pub attempts: i16,
    /// When.
    pub ended_at: DateTime<Utc>,
    /// Class of the last failure.
    pub last_class: Option<Arc<str>>,
    /// Its code.
    pub last_code: Option<Arc<str>>,
    /// What was seen; `None`: nobody looked.
    pub evidence: Option<Evidence>,
}

/// A row of `late_results`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LateResult {
    /// Of the lost claim.
    pub fence: i32,
    /// The lost lease.
    pub lease: Uuid,
    /// Whose it was.
    pub worker: Uuid,
    /// What the attempt came to.
    pub outcome: &'static str,
    /// Class of the failure.
    pub class: Option<&'static str>,
    /// Its code.
    pub code: Option<Arc<str>>,
    /// The receipt: `End::Captured`, if there is one.
    pub receipt: Option<End>,
    /// What was seen.
    pub evidence: Evidence,
    /// When it came.
    pub recorded_at: DateTime<Utc>,
}

/// A row of `deadlines`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deadline {
    /// When the authorisation ends.
    pub expires_at: DateTime<Utc>,
    /// 0 nothing said, 1 said at 48 h, 2 said at 24 h, 3 given up.
    pub warned: i16,
}

/// A row of `cancel_requests`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wish {
    /// Why.
    pub reason: Arc<str>,
    /// Since when.
    pub requested_at: DateTime<Utc>,
}

/// A row of `releases`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReleaseRow {
    /// Provider and account.
    pub lane: Arc<Lane>,
    /// The payment, or
    pub payment_id: Option<Arc<str>>,
    /// the order.
    pub order_id: Option<Arc<str>>,
    /// Just this capture.
    pub capture_ref: Option<Arc<str>>,
    /// The shipment: the same one again changes nothing.
    pub shipment_ref: Option<Arc<str>>,
    /// Where the goods went.
    pub shipping: Option<Arc<Shipping>>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it is looked at next.
    pub next_try_at: DateTime<Utc>,
    /// What it freed, and when.
    pub matched: Option<(IntentId, DateTime<Utc>)>,
}

/// The row of `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Its number.
    pub number: i32,
    /// The server's history is another one, and no worker has looked yet.
    pub unnoticed: bool,
    /// When it was first noticed.
    pub began_at: DateTime<Utc>,
}

impl Default for Epoch {
    fn default() -> Epoch {
        Epoch {
            number: 1,
            unnoticed: false,
            began_at: DateTime::<Utc>::MIN_UTC,
        }
    }
}

/// A row of `audit`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Act {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: Arc<str>,
    /// `replay`, `resolve`, `lane pause`, `lane resume`.
    pub action: &'static str,
    /// Why.
    pub reason: Arc<str>,
    /// On which intent.
    pub intent: Option<IntentId>,
    /// In which lane.
    pub lane: Option<LaneId>,
}

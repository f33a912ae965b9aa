//! The world as a value.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use capture::clock::{Boottime, SendGuard};
use capture::intent::{CaptureIntent, Currency, Details, IntentId, KeyGeneration, Lane, Money};
use capture::outbox::memory::{Tables, Terms};
use capture::outbox::{Claim, Settlement};
use capture::outcome::Observation;
use capture::progress::Progress;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Law;
use super::scope::{AUTHORISED, Asked, LEASE, LONGEST_CALL, REMEMBERED, Scope};
use crate::bank::{Answer, Bank, Request};

/// That many seconds after the beginning of the world.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

pub fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap()
}

pub fn intent_id(number: usize) -> IntentId {
    IntentId(Uuid::from_u128(u128::try_from(number).unwrap() + 1))
}

/// What the database holds, and what was said of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Book {
    pub tables: Tables,
    /// How often `capture.captured` was told.
    pub told: BTreeMap<IntentId, u8>,
    /// Of which intents a receipt was brought, in time or late.
    pub receipts: BTreeSet<IntentId>,
}

/// A capture POST on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Posted {
    pub request: Request,
    /// The last instant at which it may be executed.
    pub last: i64,
    /// The claim whose worker waits for its answer; `None`: a copy.
    pub lease: Option<Uuid>,
    /// A middlebox sent it twice: one of the two.
    pub doubled: bool,
}

/// A claimed intent, in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    pub claim: Claim,
    pub lease: Uuid,
    pub claimed_from: i64,
}

impl Errand {
    pub fn until(&self) -> i64 {
        self.claimed_from + seconds(LEASE)
    }

    pub fn guard(&self) -> SendGuard {
        SendGuard::new(boottime(self.claimed_from), LEASE, LONGEST_CALL)
    }

    pub fn intent(&self) -> IntentId {
        self.claim.intent.id
    }
}

pub fn boottime(seconds: i64) -> Boottime {
    Boottime::at(Duration::from_secs(u64::try_from(seconds.max(0)).unwrap()))
}

// What was asked never changes, so its id, which the lease's id holds, says it all.
impl Hash for Errand {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let claim = &self.claim;
        (self.lease, self.claimed_from, &claim.progress).hash(state);
        (claim.ticket.purpose(), claim.history_changed, claim.cancel_requested).hash(state);
        (
            &claim.late_receipt,
            claim.committed_minor,
            claim.open_minor,
            &claim.siblings,
            claim.unreleased,
        )
            .hash(state);
    }
}

/// What comes back for a capture POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reply {
    Bank(Answer),
    /// 409: another one like it is at work.
    Conflict,
    /// A check in front of the keys finds too little left.
    TooLittleLeft,
}

/// How far an errand is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stage {
    Claimed,
    Read {
        observation: Observation,
        progress: Box<Progress>,
        began: i64,
    },
    Sending(Box<Progress>),
    Awaiting {
        progress: Box<Progress>,
        reply: Option<Reply>,
    },
    Settling(Box<Settlement>),
}

/// A slot of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Worker {
    Idle,
    /// It asked for a claim, and the answer was lost.
    InTheDark(Uuid),
    Busy {
        errand: Arc<Errand>,
        stage: Stage,
        /// It stood still beyond its lease.
        frozen: bool,
    },
}

impl Worker {
    pub fn errand(&self) -> Option<&Arc<Errand>> {
        match self {
            Worker::Idle | Worker::InTheDark(_) => None,
            Worker::Busy { errand, .. } => Some(errand),
        }
    }
}

/// The world.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct State {
    pub now: i64,
    pub book: Book,
    /// What a standby has, from the moment at which it gets no more.
    pub standby: Option<Arc<Book>>,
    pub failed_over: bool,
    pub bank: Bank,
    pub wire: Vec<Posted>,
    pub workers: Vec<Worker>,
    pub faults: u8,
    pub acts: u8,
    pub broken: Option<Law>,
}

fn capture_intent(number: usize, asked: Asked, scope: &Scope) -> CaptureIntent {
    CaptureIntent {
        id: intent_id(number),
        lane: Lane {
            provider: "bank".to_owned(),
            account: "default".to_owned(),
        },
        order_id: "o".to_owned(),
        payment_id: asked.payment.to_owned(),
        capture_ref: number.to_string(),
        amount: Money::new(asked.minor, Currency::from_code("USD").unwrap()),
        authorized_minor: Some(AUTHORISED),
        authorization_expires_at: scope.deadline.map(at),
        details: Details::default(),
        traceparent: None,
        created_at: at(0),
    }
}

impl State {
    pub fn begin(scope: &Scope) -> State {
        let mut state = State {
            now: 0,
            book: Book {
                tables: Tables::new(),
                told: BTreeMap::new(),
                receipts: BTreeSet::new(),
            },
            standby: None,
            failed_over: false,
            bank: Bank::new(scope.kind, REMEMBERED),
            wire: Vec::new(),
            workers: vec![Worker::Idle; scope.workers],
            faults: scope.faults,
            acts: scope.acts,
            broken: None,
        };
        for (number, asked) in scope.asked.iter().enumerate() {
            state.bank.authorise(asked.payment, AUTHORISED);
            if !asked.later {
                state.enqueue(number, scope);
            }
            if asked.lost_leases > 0 {
                state.wear_out(intent_id(number), asked.lost_leases);
            }
        }
        state.tidy();
        state
    }

    pub fn enqueue(&mut self, number: usize, scope: &Scope) {
        let asked = scope.asked[number];
        let terms = Terms {
            hold: asked.hold,
            ..Terms::default()
        };
        let intent = capture_intent(number, asked, scope);
        self.book.tables.enqueue(at(self.now), intent, terms);
    }

    /// As if so many leases of it had been lost, one after the other, long ago.
    fn wear_out(&mut self, intent: IntentId, leases: i16) {
        let progress = Progress {
            generation: KeyGeneration(0),
            tainted: true,
            first_sent_at: Some(at(0)),
            quiet_after: Some(at(0)),
            unknown_since: Some(at(0)),
            lost_leases: leases,
            ..Progress::default()
        };
        let tables = &mut self.book.tables;
        if let Some((key, row)) = tables.ready_of(intent) {
            tables.ready.remove(&key);
            let key = capture::outbox::memory::ReadyKey {
                purpose: capture::outbox::Purpose::Verify,
                ..key
            };
            tables.ready.insert(key, row);
        }
        let row = capture::outbox::memory::ProgressRow {
            progress,
            replayed: false,
        };
        tables.progress.insert(intent, Arc::new(row));
    }

    /// Has every intent ended?
    pub fn is_over(&self) -> bool {
        self.book.tables.outcomes.len() == self.book.tables.intents.len()
    }
}

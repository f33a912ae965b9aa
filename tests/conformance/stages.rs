//! What two sessions may do at once, and the states in which they do it.

use std::time::Duration;

use capture::clock::Boottime;
use capture::intent::IntentId;
use capture::outbox::memory::Tables;
use capture::outbox::{AttemptRecord, Claim, HeldRelease, LaneRequest, Settlement};
use capture::outcome::{Evidence, Proof, Receipt};
use capture::retry::{DeadReason, Decision, Disposition, Wait};
use chrono::TimeDelta;
use uuid::Uuid;

use crate::draw::{Draw, LEASE, worker};
use crate::operation::{Answer, Ask, Operation};
use crate::twins::{Twins, lane};

/// What one of the two sessions does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Claim,
    ClaimAlone,
    MoveDue,
    Rescue,
    MatchReleases,
    WatchDeadlines,
    Cancel,
    CancelSibling,
    Replay,
    ResolveCaptured,
    ResolveNotCaptured,
    /// By the worker that claimed first.
    SettleCaptured,
    SettleRetry,
    /// By the one that claimed last.
    SettleDead,
    SettleVerify,
    SettleCancelled,
}

impl Act {
    pub const ALL: [Act; 16] = [
        Act::Claim,
        Act::ClaimAlone,
        Act::MoveDue,
        Act::Rescue,
        Act::MatchReleases,
        Act::WatchDeadlines,
        Act::Cancel,
        Act::CancelSibling,
        Act::Replay,
        Act::ResolveCaptured,
        Act::ResolveNotCaptured,
        Act::SettleCaptured,
        Act::SettleRetry,
        Act::SettleDead,
        Act::SettleVerify,
        Act::SettleCancelled,
    ];

    /// Takes what is free, and leaves what is locked to its next round?
    pub fn passes_over(self) -> bool {
        match self {
            Act::Claim | Act::ClaimAlone | Act::MoveDue | Act::Rescue | Act::MatchReleases | Act::WatchDeadlines => {
                true
            }
            Act::Cancel
            | Act::CancelSibling
            | Act::Replay
            | Act::ResolveCaptured
            | Act::ResolveNotCaptured
            | Act::SettleCaptured
            | Act::SettleRetry
            | Act::SettleDead
            | Act::SettleVerify
            | Act::SettleCancelled => false,
        }
    }
}

/// Who is on the stage: an intent, a sibling on the same payment, and the tickets that were given for the intent.
#[derive(Clone, Default)]
pub struct Cast {
    pub intent: IntentIds,
    pub tickets: Vec<Claim>,
}

#[derive(Clone, Copy, Default)]
pub struct IntentIds {
    pub main: Uuid,
    pub sibling: Uuid,
}

#[derive(Debug, Clone, Copy)]
pub enum Stage {
    Ready,
    Leased,
    Lapsed,
    LapsedWithAnother,
    Held,
    SiblingWaits,
    Backoff,
    VerifyDue,
    VerifyReady,
    ClaimedAgain,
    Dead,
    Replayed,
}

impl Stage {
    pub const ALL: [Stage; 12] = [
        Stage::Ready,
        Stage::Leased,
        Stage::Lapsed,
        Stage::LapsedWithAnother,
        Stage::Held,
        Stage::SiblingWaits,
        Stage::Backoff,
        Stage::VerifyDue,
        Stage::VerifyReady,
        Stage::ClaimedAgain,
        Stage::Dead,
        Stage::Replayed,
    ];
}

fn ask(twins: &Tables, n: u128, alone: bool) -> Ask {
    let lanes = twins.lanes.keys().map(|lane| LaneRequest {
        lane: *lane,
        free: 4,
        sending: 0,
        retrying: 0,
        verifying: 0,
        favour: 0,
        send_calls: 1,
        read_calls: 1,
    });
    Ask {
        lease: Uuid::from_u128(0x1ea5_0000 + n),
        worker: worker(n),
        lease_for: LEASE,
        batch: 10,
        alone,
        lanes: lanes.collect(),
    }
}

fn settlement(claim: &Claim, disposition: Disposition) -> Settlement {
    let (outcome, sent) = match &disposition {
        Disposition::Captured(_) => ("captured", true),
        Disposition::Retry(_) | Disposition::Verify(_) | Disposition::Dead(..) => ("failed", true),
        Disposition::Cancelled | Disposition::Return => ("not_sent", false),
    };
    let record = AttemptRecord {
        sent,
        outcome,
        class: (outcome == "failed").then_some("transient"),
        code: (outcome == "failed").then(|| "http_500".to_owned()),
        http_status: None,
        generation: claim.progress.generation,
        began: Boottime::now(),
        took: Duration::ZERO,
        host: "host".to_owned(),
        evidence: Evidence::default(),
    };
    let decision = Decision::of(disposition, claim.progress.clone());
    Settlement::with_delay(
        claim.ticket.clone(),
        &claim.progress,
        decision,
        record,
        Duration::from_secs(30),
    )
}

fn captured(claim: &Claim) -> Disposition {
    Disposition::Captured(Receipt {
        provider_capture_id: format!("receipt-{}", claim.ticket.fence()),
        amount: claim.intent.amount,
        captured_at: None,
        proof: Proof::Answer,
        authorization_expires_at: None,
        evidence: Evidence::default(),
    })
}

impl Cast {
    pub fn operation(&self, tables: &Tables, what: Act, n: u128) -> Option<Operation> {
        let (first, last) = (self.tickets.first(), self.tickets.last());
        let settle = |claim: &Claim, disposition| Operation::Settle(vec![settlement(claim, disposition)], Vec::new());
        let (intent, sibling) = (IntentId(self.intent.main), IntentId(self.intent.sibling));
        match what {
            Act::Claim => Some(Operation::Claim(ask(tables, n, false))),
            Act::ClaimAlone => Some(Operation::Claim(ask(tables, n, true))),
            Act::MoveDue => Some(Operation::MoveDue(1000)),
            Act::Rescue => Some(Operation::Rescue),
            Act::MatchReleases => Some(Operation::MatchReleases),
            Act::WatchDeadlines => Some(Operation::WatchDeadlines(Duration::from_secs(100_000))),
            Act::Cancel => Some(Operation::Cancel(intent)),
            Act::CancelSibling => Some(Operation::Cancel(sibling)),
            Act::Replay => {
                let ended_at = tables.outcomes.get(&intent)?.ended_at;
                Some(Operation::Replay(intent, ended_at, false))
            }
            Act::ResolveCaptured => Some(Operation::Resolve(intent, true)),
            Act::ResolveNotCaptured => Some(Operation::Resolve(intent, false)),
            Act::SettleCaptured => first.map(|claim| settle(claim, captured(claim))),
            Act::SettleRetry => first.map(|claim| settle(claim, Disposition::Retry(Wait::None))),
            Act::SettleDead => {
                last.map(|claim| settle(claim, Disposition::Dead(DeadReason::Undecided, Evidence::default())))
            }
            Act::SettleVerify => last.map(|claim| settle(claim, Disposition::Verify(Wait::None))),
            Act::SettleCancelled => last.map(|claim| settle(claim, Disposition::Cancelled)),
        }
    }
}

impl Twins {
    async fn enqueue(&mut self, draw: &mut Draw, payment: &str, hold: bool) -> Uuid {
        let Operation::Enqueue(mut capture, mut terms) = draw.enqueue(&self.tables, self.now) else {
            panic!("not an intent")
        };
        capture.lane = lane(0);
        capture.payment_id = payment.to_owned();
        capture.capture_ref = format!("c{}", self.tables.intents.len());
        capture.authorized_minor = None;
        capture.authorization_expires_at = Some(self.now + TimeDelta::hours(26));
        terms.hold = hold;
        terms.not_before = None;
        terms.priority = 0;
        let id = capture.id.0;
        self.both(&Operation::Enqueue(capture, terms)).await;
        id
    }

    async fn claim(&mut self, n: u128) -> Vec<Claim> {
        self.both(&Operation::MoveDue(1000)).await;
        let Answer::Claimed(claimed) = self.both(&Operation::Claim(ask(&self.tables, n, false))).await else {
            panic!("not a claim")
        };
        claimed.claims
    }

    async fn settle(&mut self, claim: &Claim, disposition: Disposition) {
        self.both(&Operation::Settle(vec![settlement(claim, disposition)], Vec::new()))
            .await;
    }

    pub async fn set(&mut self, stage: Stage) -> Cast {
        self.clear().await;
        let mut draw = Draw::new(1);
        let mut cast = Cast::default();
        let held = matches!(stage, Stage::Held);
        cast.intent.main = self.enqueue(&mut draw, "p1", held).await;
        if matches!(stage, Stage::LapsedWithAnother) {
            self.enqueue(&mut draw, "p2", false).await;
        }
        let lease_end = TimeDelta::from_std(LEASE).unwrap() + TimeDelta::seconds(1);
        match stage {
            Stage::Ready => {}
            Stage::Held => {
                let release = HeldRelease {
                    provider: lane(0).provider,
                    account: Some(lane(0).account),
                    payment_id: Some("p1".to_owned()),
                    ..HeldRelease::default()
                };
                self.both(&Operation::Release(release)).await;
            }
            Stage::Leased | Stage::SiblingWaits | Stage::Backoff => cast.tickets = self.claim(1).await,
            Stage::Lapsed
            | Stage::LapsedWithAnother
            | Stage::VerifyDue
            | Stage::VerifyReady
            | Stage::ClaimedAgain
            | Stage::Dead
            | Stage::Replayed => {
                cast.tickets = self.claim(1).await;
                cast.tickets.retain(|claim| claim.intent.id.0 == cast.intent.main);
                self.pass(lease_end).await;
            }
        }
        cast.intent.sibling = self.enqueue(&mut draw, "p1", false).await;
        match stage {
            Stage::Ready | Stage::Held | Stage::Leased | Stage::Lapsed | Stage::LapsedWithAnother => {}
            Stage::SiblingWaits => {
                assert!(self.claim(2).await.is_empty(), "the sibling is not held off");
            }
            Stage::Backoff => {
                let ticket = cast.tickets[0].clone();
                self.settle(&ticket, Disposition::Retry(Wait::None)).await;
                self.pass(TimeDelta::seconds(31)).await;
            }
            Stage::VerifyDue | Stage::VerifyReady | Stage::ClaimedAgain | Stage::Dead | Stage::Replayed => {
                self.both(&Operation::Rescue).await;
                if matches!(stage, Stage::VerifyReady) {
                    self.both(&Operation::MoveDue(1000)).await;
                }
            }
        }
        if matches!(stage, Stage::ClaimedAgain | Stage::Dead | Stage::Replayed) {
            let again = self.claim(2).await;
            assert_eq!(again.len(), 1, "the sibling is not held off");
            cast.tickets.extend(again);
        }
        if matches!(stage, Stage::Dead | Stage::Replayed) {
            let ticket = cast.tickets[1].clone();
            self.settle(&ticket, Disposition::Dead(DeadReason::Undecided, Evidence::default()))
                .await;
            self.pass(TimeDelta::seconds(10)).await;
        }
        if matches!(stage, Stage::Replayed) {
            let ended_at = self.tables.outcomes[&IntentId(cast.intent.main)].ended_at;
            self.both(&Operation::Replay(IntentId(cast.intent.main), ended_at, false))
                .await;
            self.both(&Operation::MoveDue(1000)).await;
        }
        cast
    }
}

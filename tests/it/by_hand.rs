//! A worker's steps taken one by one, so that a test may stop between any two of them.

use std::time::Duration;

use capture::clock::{Boottime, SendGuard};
use capture::outbox::{
    AttemptRecord, Claim, ClaimRequest, LaneId, LaneNews, LaneRequest, Outbox, OutboxError, Settled, Settlement,
};
use capture::outcome::{Evidence, Outcome, Proof, Receipt};
use capture::provider::Call;
use capture::retry::{Decision, Disposition};
use uuid::Uuid;

use crate::kind::Kind;
use crate::world::World;

pub const LEASE: Duration = Duration::from_secs(120);

/// What to ask of a claim.
#[derive(Clone)]
pub struct Ask {
    pub kinds: Vec<Kind>,
    pub free: u32,
    pub batch: u32,
    pub alone: bool,
    pub lease: Uuid,
    pub worker: Uuid,
    pub calls: (u32, u32),
    pub favour: i16,
    /// Slots in use by first sends, retries, verifications.
    pub in_use: (u32, u32, u32),
}

impl Ask {
    pub fn of(kind: Kind) -> Ask {
        Ask {
            kinds: vec![kind],
            free: 100,
            batch: 500,
            alone: false,
            lease: Uuid::new_v4(),
            worker: Uuid::new_v4(),
            calls: (1, 1),
            favour: 0,
            in_use: (0, 0, 0),
        }
    }

    pub fn free(mut self, free: u32) -> Ask {
        self.free = free;
        self
    }
}

/// Claims as a worker would. Rows that cannot be read are not expected.
pub async fn claim(outbox: &Outbox, ask: &Ask) -> Vec<Claim> {
    try_claim(outbox, ask).await.unwrap()
}

/// As [`claim`]; what the outbox could not do is returned.
pub async fn try_claim(outbox: &Outbox, ask: &Ask) -> Result<Vec<Claim>, OutboxError> {
    let mut lanes = Vec::new();
    for kind in &ask.kinds {
        let lane = kind.lane();
        let rows = outbox.lanes().await.unwrap();
        let id: LaneId = rows.iter().find(|row| row.lane == lane).unwrap().id;
        lanes.push(LaneRequest {
            lane: id,
            free: ask.free,
            sending: ask.in_use.0,
            retrying: ask.in_use.1,
            verifying: ask.in_use.2,
            favour: ask.favour,
            send_calls: ask.calls.0,
            read_calls: ask.calls.1,
        });
    }
    let request = ClaimRequest {
        lease: ask.lease,
        worker: ask.worker,
        lease_for: LEASE,
        batch: ask.batch,
        alone: ask.alone,
        lanes: &lanes,
    };
    let claimed = outbox.claim(&request).await?;
    assert!(claimed.unreadable.is_empty(), "{:?}", claimed.unreadable);
    Ok(claimed.claims)
}

impl World {
    /// Claims all that is ready in a lane.
    pub async fn claim(&self, kind: Kind) -> Vec<Claim> {
        self.outbox.move_due(1000).await.unwrap();
        claim(&self.outbox, &Ask::of(kind)).await
    }

    /// Claims the one thing that is ready in a lane.
    pub async fn claim_one(&self, kind: Kind) -> Claim {
        let mut claims = self.claim(kind).await;
        assert_eq!(claims.len(), 1, "not one claim");
        claims.remove(0)
    }

    /// Sends the claimed capture, once, and returns what the provider told.
    pub async fn send(&self, kind: Kind, claim: &Claim) -> Outcome {
        let call = Call {
            intent: &claim.intent,
            generation: claim.progress.generation,
            first_sent_at: claim.progress.first_sent_at,
            refused: claim.progress.refusal_code.is_some(),
            accepted_id: claim.progress.accepted_id.as_deref(),
            pending_id: claim.progress.pending_id.as_deref(),
            siblings: &claim.siblings,
            guard: SendGuard::new(Boottime::now(), LEASE, Duration::from_secs(1)),
        };
        kind.adapter(&self.simulator).capture(&call).await
    }

    /// Records what became of a claim.
    pub async fn settle(&self, claim: Claim, disposition: Disposition) -> Settled {
        self.outbox
            .settle(&[settlement(claim, disposition)], &[])
            .await
            .unwrap()[0]
    }

    /// As [`World::settle`], with news of the lane.
    pub async fn settle_with(&self, claim: Claim, disposition: Disposition, news: LaneNews) -> Settled {
        let settlement = settlement(claim, disposition);
        self.outbox.settle(&[settlement], &[news]).await.unwrap()[0]
    }

    /// The lease of a worker that is no more runs out, and others find out.
    pub async fn lose_lease(&mut self) -> i32 {
        self.pass(LEASE + Duration::from_secs(1)).await;
        self.outbox.rescue(100).await.unwrap()
    }
}

/// The record of a claim whose call, if there was one, ended like this.
pub fn settlement(claim: Claim, disposition: Disposition) -> Settlement {
    let mut progress = claim.progress.clone();
    let (sent, outcome) = match &disposition {
        Disposition::Captured(_) => (true, "captured"),
        Disposition::Verify(_) => {
            progress.may_be_in_flight(claim.now, claim.now);
            progress.becomes_unknown(claim.now);
            (true, "failed")
        }
        Disposition::Retry(_) | Disposition::Dead(..) => (true, "failed"),
        Disposition::Cancelled | Disposition::Return => (false, "not_sent"),
    };
    if sent {
        progress.attempts += 1;
    }
    let record = AttemptRecord {
        sent,
        outcome,
        class: (outcome == "failed").then_some("transient"),
        code: (outcome == "failed").then(|| "by_hand".to_owned()),
        http_status: None,
        generation: claim.progress.generation,
        began: Boottime::now(),
        took: Duration::ZERO,
        host: "by.hand".to_owned(),
        evidence: Evidence::default(),
    };
    let before = claim.progress.clone();
    Settlement::new(claim.ticket, &before, Decision::of(disposition, progress), record)
}

/// A receipt over the whole amount.
pub fn receipt(claim: &Claim) -> Receipt {
    Receipt {
        provider_capture_id: format!("receipt-{}", claim.ticket.fence()),
        amount: claim.intent.amount,
        captured_at: Some(claim.now),
        proof: Proof::Answer,
        authorization_expires_at: None,
        evidence: Evidence::new(b"{}".to_vec()),
    }
}

/// What [`World::send`] told, if it was a receipt.
pub fn captured(outcome: Outcome) -> Receipt {
    match outcome {
        Outcome::Captured(receipt) => receipt,
        other => panic!("not captured: {other:?}"),
    }
}

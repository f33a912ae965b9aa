//! A read by a worker that has lost its lease: what it proves is kept, what it only infers ends nothing.

use std::time::Duration;

use capture::clock::Boottime;
use capture::outbox::{AttemptRecord, Claim, Settled, Settlement};
use capture::outcome::{Evidence, Proof, Receipt};
use capture::retry::{DeadReason, Decision, Disposition, Wait};

use crate::by_hand::{captured, receipt, settlement};
use crate::kind::Kind;
use crate::world::World;

fn dead(reason: DeadReason) -> Disposition {
    Disposition::Dead(reason, Evidence::default())
}

/// What a read showed to a worker that has lost its lease meanwhile.
fn seen_late(claim: Claim, proof: Proof) -> Settlement {
    let receipt = Receipt {
        proof,
        ..receipt(&claim)
    };
    let record = AttemptRecord {
        sent: false,
        outcome: "observed",
        class: None,
        code: None,
        http_status: Some(200),
        generation: claim.progress.generation,
        began: Boottime::now(),
        took: Duration::ZERO,
        host: "by.hand".to_owned(),
        evidence: Evidence::default(),
    };
    let before = claim.progress.clone();
    let decision = Decision::of(Disposition::Captured(receipt), claim.progress);
    Settlement::new(claim.ticket, &before, decision, record)
}

/// A search index lags: one read shows our capture, two later ones do not, and the second capture would be sent.
#[tokio::test]
async fn a_capture_that_a_read_showed_under_our_reference_is_not_forgotten_with_the_lease() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Optty, 1, 1234).await;
    let first = world.claim_one(Kind::Optty).await;
    captured(world.send(Kind::Optty, &first).await);
    world.lose_lease().await;
    let second = world.claim_one(Kind::Optty).await;
    let late = [seen_late(first, Proof::Reference)];
    assert_eq!(world.outbox.settle(&late, &[]).await.unwrap(), [Settled::LeaseLost]);
    assert_eq!(
        world.settle(second, Disposition::Retry(Wait::None)).await,
        Settled::Recorded
    );
    let again = world.claim_one(Kind::Optty).await;
    assert_eq!(
        again.late_receipt.as_ref().map(|late| late.proof),
        Some(Proof::Reference)
    );
    assert_eq!(
        world.settle(again, dead(DeadReason::Exhausted)).await,
        Settled::Recorded
    );
    assert_eq!(world.end(intent).await, "captured");
    world.books_agree().await;
}

/// A worker that was frozen before its read sees what a sibling captured meanwhile: no reference tells whose it is.
#[tokio::test]
async fn a_capture_that_a_read_only_inferred_after_the_lease_was_lost_ends_nothing() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::ResolveCharge, 1, 1234).await;
    let first = world.claim_one(Kind::ResolveCharge).await;
    world.lose_lease().await;
    let second = world.claim_one(Kind::ResolveCharge).await;
    // Both in one batch, and then the next claim.
    let batch = [
        seen_late(first, Proof::SoleWriter),
        settlement(second, dead(DeadReason::Undecided)),
    ];
    let said = world.outbox.settle(&batch, &[]).await.unwrap();
    assert_eq!(said, [Settled::LeaseLost, Settled::Recorded]);
    assert_eq!(world.end(intent).await, "dead: undecided (by_hand)");
    world.replay(Kind::ResolveCharge, intent).await;
    assert_eq!(world.claim_one(Kind::ResolveCharge).await.late_receipt, None);
}

//! Who lost its lease moves nothing any more, and what it learned is not lost either.

use std::collections::BTreeSet;
use std::time::Duration;

use capture::outbox::{Settled, Settlement};
use capture::outcome::{Evidence, Receipt};
use capture::retry::{DeadReason, Disposition, Wait};
use uuid::Uuid;

use crate::by_hand::{Ask, LEASE, captured, claim, receipt, settlement};
use crate::database::Session;
use crate::kind::Kind;
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

fn dead(reason: DeadReason) -> Disposition {
    Disposition::Dead(reason, Evidence::default())
}

#[tokio::test]
async fn a_lapsed_lease_becomes_a_verification_and_its_worker_can_record_nothing_but_a_late_result() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let old = world.claim_one(Kind::Afterpay).await;
    assert_eq!(world.state(intent).await, "leased");
    assert_eq!(world.outbox.rescue(100).await.unwrap(), 0, "it has not lapsed yet");
    assert_eq!(world.lose_lease().await, 1);
    assert_eq!(world.state(intent).await, "verifying");
    assert_eq!(world.attempts(intent).await, ["send lost lease_lost"]);
    assert_eq!(world.story(intent).await, ["enqueued", "outcome_unknown lease_lost"]);

    let said = world.settle(old, Disposition::Retry(Wait::None)).await;
    assert_eq!(said, Settled::LeaseLost);
    assert_eq!(world.state(intent).await, "verifying", "nothing moved");
    assert_eq!(
        world.story(intent).await,
        ["enqueued", "outcome_unknown lease_lost", "late_result by_hand"]
    );
    let new = world.claim_one(Kind::Afterpay).await;
    assert_eq!((new.ticket.fence(), new.progress.tainted), (2, true));
}

#[tokio::test]
async fn a_late_receipt_ends_the_verification_as_captured_without_another_call() {
    for kind in Kind::ALL {
        let mut world = World::new().await;
        let intent = world.capture(kind, 1, 1234).await;
        let old = world.claim_one(kind).await;
        let receipt = captured(world.send(kind, &old).await);
        let id = receipt.provider_capture_id.clone();
        assert_eq!(world.lose_lease().await, 1);
        assert_eq!(
            world.settle(old, Disposition::Captured(receipt)).await,
            Settled::LeaseLost
        );
        let calls = world.wire(&kind.payment(1)).len();
        world.drain().await;
        assert_eq!(
            world.story(intent).await,
            ["enqueued", "outcome_unknown lease_lost", "late_result", "captured"],
            "{kind:?}"
        );
        let row = world.outbox.capture(intent).await.unwrap().unwrap();
        assert_eq!(row.provider_capture_id, Some(id));
        assert_eq!(
            world.wire(&kind.payment(1)).len(),
            calls,
            "{kind:?}: nobody asked again"
        );
        world.books_agree().await;
    }
}

/// What another worker may make of the verification while the receipt is on its way.
#[tokio::test]
async fn a_late_receipt_is_not_lost_whatever_the_verification_comes_to_meanwhile() {
    let mut world = World::new().await;
    for (n, disposition) in (0..).zip([
        dead(DeadReason::Undecided),
        dead(DeadReason::Expired),
        dead(DeadReason::Rejected),
        Disposition::Cancelled,
        Disposition::Retry(Wait::None),
        Disposition::Verify(Wait::Exactly(MINUTE)),
        Disposition::Return,
    ]) {
        let intent = world.capture(Kind::Afterpay, n, 1234).await;
        let old = world.claim_one(Kind::Afterpay).await;
        let receipt = captured(world.send(Kind::Afterpay, &old).await);
        world.lose_lease().await;
        let verification = world.claim_one(Kind::Afterpay).await;
        assert_eq!(
            world.settle(old, Disposition::Captured(receipt)).await,
            Settled::LeaseLost
        );
        let told = format!("{disposition:?}");
        assert_eq!(world.settle(verification, disposition).await, Settled::Recorded);
        assert_eq!(world.until_ended(intent, MINUTE).await, "captured", "{told}");
        assert_eq!(world.sends(&Kind::Afterpay.payment(n)), 1, "{told}");
    }
    world.books_agree().await;
}

#[tokio::test]
async fn a_late_receipt_for_what_is_dead_or_cancelled_rings_an_alarm() {
    for (disposition, alarm) in [
        (dead(DeadReason::Undecided), "late_result captured_after_dead"),
        (Disposition::Cancelled, "late_result captured_after_cancelled"),
    ] {
        let mut world = World::new().await;
        let intent = world.capture(Kind::Afterpay, 1, 1234).await;
        let old = world.claim_one(Kind::Afterpay).await;
        world.lose_lease().await;
        let verification = world.claim_one(Kind::Afterpay).await;
        world.settle(verification, disposition).await;
        let receipt = receipt(&old);
        assert_eq!(
            world.settle(old, Disposition::Captured(receipt)).await,
            Settled::LeaseLost
        );
        assert_eq!(world.story(intent).await.last().unwrap(), alarm);
        assert_eq!(world.outbox.doctor_facts().await.unwrap().unclaimed_receipts, 1);
    }
}

#[tokio::test]
async fn a_second_receipt_under_another_id_rings_an_alarm_and_the_same_one_does_not() {
    for (id, last) in [("receipt-2", "late_result"), ("another", "late_result second_receipt")] {
        let mut world = World::new().await;
        let intent = world.capture(Kind::Afterpay, 1, 1234).await;
        let old = world.claim_one(Kind::Afterpay).await;
        world.lose_lease().await;
        let verification = world.claim_one(Kind::Afterpay).await;
        let first = receipt(&verification);
        world.settle(verification, Disposition::Captured(first)).await;
        let late = Receipt {
            provider_capture_id: id.to_owned(),
            ..receipt(&old)
        };
        world.settle(old, Disposition::Captured(late)).await;
        assert_eq!(world.story(intent).await.last().unwrap(), last);
        assert_eq!(world.end(intent).await, "captured");
    }
}

#[tokio::test]
async fn what_is_settled_twice_is_recorded_once() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let claim = world.claim_one(Kind::Afterpay).await;
    let receipt = receipt(&claim);
    let twice = [settlement(claim, Disposition::Captured(receipt))];
    assert_eq!(world.outbox.settle(&twice, &[]).await.unwrap(), [Settled::Recorded]);
    assert_eq!(
        world.outbox.settle(&twice, &[]).await.unwrap(),
        [Settled::AlreadyRecorded]
    );
    assert_eq!(world.story(intent).await, ["enqueued", "captured"]);

    // The same when the lease was lost: kept once, told once.
    let intent = world.capture(Kind::Afterpay, 2, 1234).await;
    let claim = world.claim_one(Kind::Afterpay).await;
    world.lose_lease().await;
    let late = [settlement(claim, Disposition::Retry(Wait::None))];
    assert_eq!(world.outbox.settle(&late, &[]).await.unwrap(), [Settled::LeaseLost]);
    assert_eq!(
        world.outbox.settle(&late, &[]).await.unwrap(),
        [Settled::AlreadyRecorded]
    );
    assert_eq!(
        world.story(intent).await,
        ["enqueued", "outcome_unknown lease_lost", "late_result by_hand"]
    );
}

#[tokio::test]
async fn half_a_lease_may_be_settled_and_the_other_half_lost() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for n in 0..10 {
        intents.push(world.capture(Kind::Afterpay, n, 1234).await);
    }
    let mut claims = world.claim(Kind::Afterpay).await;
    let lost = claims.split_off(5);
    for claim in claims {
        let receipt = receipt(&claim);
        let one = [settlement(claim, Disposition::Captured(receipt))];
        assert_eq!(world.outbox.settle(&one, &[]).await.unwrap(), [Settled::Recorded]);
        // Its answer was lost: the same again, while the lease is still there for the others.
        assert_eq!(
            world.outbox.settle(&one, &[]).await.unwrap(),
            [Settled::AlreadyRecorded]
        );
    }
    // The lease has settled captures: it was worked on, and cannot be given back.
    let lease: Uuid = world.db.scalar("select id from capture.leases").await;
    assert_eq!(world.outbox.give_back(lease).await.unwrap(), 0);
    assert_eq!(world.lose_lease().await, 5);
    let states: Vec<String> = world
        .db
        .column("select state || ' ' || count(*) from capture.status group by state order by state")
        .await;
    assert_eq!(states, ["captured 5", "verifying 5"]);
    for claim in lost {
        assert_eq!(world.settle(claim, Disposition::Return).await, Settled::LeaseLost);
    }
    assert_eq!(world.outbox.doctor_facts().await.unwrap().misplaced, 0);
}

#[tokio::test]
async fn workers_that_claim_at_once_never_get_the_same_row() {
    let mut world = World::new().await;
    for n in 0..60 {
        world.capture(Kind::Afterpay, n, 1234).await;
    }
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let outbox = crate::database::connect(&world.url).await;
        racers.spawn(async move {
            let mut got = Vec::new();
            for _ in 0..5 {
                got.extend(claim(&outbox, &Ask::of(Kind::Afterpay).free(4)).await);
            }
            got
        });
    }
    let claims: Vec<_> = racers.join_all().await.into_iter().flatten().collect();
    let different: BTreeSet<Uuid> = claims.iter().map(|claim| claim.intent.id.0).collect();
    assert_eq!((claims.len(), different.len()), (60, 60));
    assert_eq!(world.outbox.doctor_facts().await.unwrap().misplaced, 0);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_given_back_as_it_was() {
    let mut world = World::new().await;
    let sent = world.capture(Kind::Afterpay, 1, 1234).await;
    let ask = Ask::of(Kind::Afterpay);
    let claims = claim(&world.outbox, &ask).await;
    assert_eq!(world.outbox.give_back(ask.lease).await.unwrap(), 1);
    assert_eq!(world.outbox.give_back(ask.lease).await.unwrap(), 0, "once");
    assert_eq!(world.state(sent).await, "ready");
    assert_eq!(world.story(sent).await, ["enqueued"], "nothing is unknown");
    for claim in claims {
        assert_eq!(
            world.settle(claim, Disposition::Return).await,
            Settled::LeaseLost,
            "who gave it back cannot use it"
        );
    }
    let again = world.claim_one(Kind::Afterpay).await;
    assert_eq!((again.ticket.fence(), again.history_changed), (2, false));
}

#[tokio::test]
async fn a_lapsed_lease_cannot_be_given_back() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let ask = Ask::of(Kind::Afterpay);
    drop(claim(&world.outbox, &ask).await);
    world.lose_lease().await;
    assert_eq!(world.outbox.give_back(ask.lease).await.unwrap(), 0);
    assert_eq!(world.state(intent).await, "verifying");
}

/// Neither may miss the other, whoever is first: the receipt is the end, or the alarm rings.
#[tokio::test]
async fn a_late_receipt_and_a_decision_against_it_at_the_same_instant_do_not_miss_each_other() {
    let mut world = World::new().await;
    for n in 0..24 {
        world.capture(Kind::Afterpay, n, 1234).await;
    }
    let old = world.claim(Kind::Afterpay).await;
    world.lose_lease().await;
    let mut verifications: Vec<_> = world.claim(Kind::Afterpay).await;
    for (n, old) in old.into_iter().enumerate() {
        let intent = old.intent.id.0;
        let place = verifications.iter().position(|claim| claim.intent.id.0 == intent);
        let verification = verifications.remove(place.unwrap());
        let receipt = receipt(&old);
        let late = [settlement(old, Disposition::Captured(receipt))];
        let against = [settlement(verification, dead(DeadReason::Undecided))];
        let (a, b) = (&late, &against);
        let (first, second) = if n % 2 == 0 {
            tokio::join!(world.outbox.settle(a, &[]), world.outbox.settle(b, &[]))
        } else {
            let (second, first) = tokio::join!(world.outbox.settle(b, &[]), world.outbox.settle(a, &[]));
            (first, second)
        };
        assert_eq!(first.unwrap(), [Settled::LeaseLost]);
        assert_eq!(second.unwrap(), [Settled::Recorded]);
        let story = world.story(intent).await;
        let rang = story.contains(&"late_result captured_after_dead".to_owned());
        let is_captured = world.end(intent).await == "captured";
        assert!(is_captured != rang, "captured, or an alarm, and not both: {story:?}");
    }
}

/// One worker may hold both: the call that outlived its lease, and the verification that came after it.
#[tokio::test]
async fn a_late_receipt_and_the_end_of_its_verification_in_one_batch_do_not_miss_each_other() {
    for late_first in [true, false] {
        let mut world = World::new().await;
        let intent = world.capture(Kind::Afterpay, 1, 1234).await;
        let old = world.claim_one(Kind::Afterpay).await;
        world.lose_lease().await;
        let verification = world.claim_one(Kind::Afterpay).await;
        let receipt = receipt(&old);
        let mut batch = [
            settlement(old, Disposition::Captured(receipt)),
            settlement(verification, dead(DeadReason::Undecided)),
        ];
        if !late_first {
            batch.reverse();
        }
        let mut settled = world.outbox.settle(&batch, &[]).await.unwrap();
        if !late_first {
            settled.reverse();
        }
        assert_eq!(settled, [Settled::LeaseLost, Settled::Recorded]);
        assert_eq!(world.end(intent).await, "captured");
        let mut story = world.story(intent).await;
        story.sort();
        assert_eq!(
            story,
            [
                "attempt_failed by_hand",
                "captured",
                "enqueued",
                "late_result",
                "outcome_unknown lease_lost"
            ]
        );
        assert_eq!(world.outbox.doctor_facts().await.unwrap().unclaimed_receipts, 0);
    }
}

#[tokio::test]
async fn a_late_receipt_under_another_id_rings_an_alarm_in_one_batch_too() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let old = world.claim_one(Kind::Afterpay).await;
    world.lose_lease().await;
    let verification = world.claim_one(Kind::Afterpay).await;
    let first = receipt(&verification);
    let late = Receipt {
        provider_capture_id: "another".to_owned(),
        ..receipt(&old)
    };
    let batch = [
        settlement(old, Disposition::Captured(late)),
        settlement(verification, Disposition::Captured(first)),
    ];
    world.outbox.settle(&batch, &[]).await.unwrap();
    assert!(
        world
            .story(intent)
            .await
            .contains(&"late_result second_receipt".to_owned()),
        "{:?}",
        world.story(intent).await
    );
    assert_eq!(world.end(intent).await, "captured");
}

#[tokio::test]
async fn what_a_lost_worker_sent_may_act_until_its_lease_would_have_ended() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let claim = world.claim_one(Kind::Afterpay).await;
    world.lose_lease().await;
    let quiet_until_the_end: bool = world
        .db
        .scalar(&format!(
            "select quiet_after >= '{}'::timestamptz + interval '{} seconds' from capture.progress where intent = '{intent}'",
            claim.now.to_rfc3339(),
            LEASE.as_secs()
        ))
        .await;
    assert!(
        quiet_until_the_end,
        "no read before that proves that nothing was captured"
    );
}

/// The connection broke while the first try still ran: the second comes before it has ended.
#[tokio::test]
async fn a_late_result_that_is_settled_twice_at_once_is_kept_once_and_refused_to_nobody() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let claim = world.claim_one(Kind::Afterpay).await;
    world.lose_lease().await;
    let late = [settlement(claim, Disposition::Retry(Wait::None))];
    let settle = Settlement::statement(&late, &[]).replace("from settle(", "from capture.settle(");
    let mut running = Session::open(&world.url).await;
    running.run(&format!("begin; {settle}")).await;
    let outbox = world.outbox.clone();
    let again = tokio::spawn(async move { outbox.settle(&late, &[]).await });
    world.db.until_blocked(&again).await;
    running.run("commit").await;
    assert_eq!(again.await.unwrap().unwrap(), [Settled::AlreadyRecorded]);
    assert_eq!(
        world.story(intent).await,
        ["enqueued", "outcome_unknown lease_lost", "late_result by_hand"]
    );
}

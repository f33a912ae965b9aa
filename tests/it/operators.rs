//! What people do to captures: cancel, replay, resolve. Who, when and why is written, and no money is doubled by it.

use std::time::Duration;

use capture::outbox::{AuditStamp, Replayed, Resolved};
use capture::outcome::Evidence;
use capture::retry::{DeadReason, Disposition, Wait};
use capture::simulator::Moment;
use capture::verify::plan_replay;
use uuid::Uuid;

use crate::by_hand::{captured, receipt};
use crate::kind::Kind;
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn stamp(actor: &str) -> AuditStamp {
    AuditStamp {
        actor: actor.to_owned(),
        reason: "ticket 4711".to_owned(),
    }
}

fn dead(reason: DeadReason) -> Disposition {
    Disposition::Dead(reason, Evidence::default())
}

impl World {
    pub async fn cancel(&self, intent: Uuid) -> String {
        self.outbox
            .cancel(intent, "the customer changed her mind")
            .await
            .unwrap()
    }

    /// Out of the way, whatever it came to.
    async fn finish_all(&self) {
        for claim in self.claim(Kind::Afterpay).await {
            self.settle(claim, dead(DeadReason::Rejected)).await;
        }
    }

    async fn audit(&mut self) -> Vec<String> {
        self.db
            .column("select actor || ' ' || action || ' ' || reason from capture.audit order by id")
            .await
    }
}

#[tokio::test]
async fn what_was_never_sent_or_surely_not_processed_is_cancelled_at_once() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    let ready = world.capture(kind, 1, 1000).await;
    let mut intents = vec![ready];
    for (n, more) in [
        (2, ", not_before => now() + interval '1 hour'"),
        (3, ", hold => 'shipment'"),
    ] {
        world.authorize(kind, &kind.payment(n), 5000);
        intents.push(world.insert(kind, &kind.payment(n), "c1", 1000, more).await);
    }
    let backing_off = world.capture(kind, 4, 1000).await;
    for claim in world.claim(kind).await {
        let is_it = claim.intent.id.0 == backing_off;
        let disposition = if is_it {
            Disposition::Retry(Wait::Exactly(HOUR))
        } else {
            Disposition::Return
        };
        world.settle(claim, disposition).await;
    }
    intents.push(backing_off);
    let sibling = world.insert(kind, &kind.payment(1), "c2", 1000, "").await;
    for claim in world.claim(kind).await {
        world.settle(claim, Disposition::Return).await;
    }
    intents.push(sibling);
    for intent in intents {
        assert_eq!(world.cancel(intent).await, "cancelled");
        assert_eq!(world.state(intent).await, "cancelled");
        assert_eq!(
            world.story(intent).await.last().unwrap(),
            "cancelled the customer changed her mind"
        );
        assert_eq!(world.cancel(intent).await, "ended");
    }
    world.pass(2 * HOUR).await;
    assert_eq!(world.drain().await, 0);
    assert_eq!(world.simulator.requests().len(), 0);
    world.books_agree().await;
}

#[tokio::test]
async fn a_cancel_without_reason_or_of_nothing_is_refused() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1000).await;
    for (sql, sqlstate) in [
        (format!("select capture.cancel('{intent}', ' ')"), "23514"),
        (format!("select capture.cancel('{intent}', null)"), "23514"),
        (format!("select capture.cancel('{}', 'why')", Uuid::new_v4()), "P0002"),
    ] {
        let refused = world.db.try_run(&sql).await.unwrap_err();
        assert_eq!(refused.sqlstate, sqlstate);
        assert!(!refused.hint.is_empty());
    }
    assert_eq!(world.state(intent).await, "ready");
}

#[tokio::test]
async fn a_wish_to_cancel_what_is_in_flight_is_applied_when_the_call_has_ended() {
    let mut world = World::new().await;
    // The call captured: too late.
    let intent = world.capture(Kind::Afterpay, 1, 1000).await;
    let claim = world.claim_one(Kind::Afterpay).await;
    assert_eq!(world.cancel(intent).await, "in_flight");
    assert_eq!(world.cancel(intent).await, "in_flight", "again, and nothing more");
    // Whoever looks meanwhile is told of the wish, in the capture and in its story.
    let wished = world.outbox.capture(intent).await.unwrap().unwrap().cancel_requested_at;
    assert!(wished.is_some());
    let story = world.outbox.timeline(intent).await.unwrap();
    let entry = story.iter().find(|entry| entry.what == "cancel_requested").unwrap();
    assert_eq!(Some(entry.at), wished);
    assert!(!entry.data["reason"].as_str().unwrap().is_empty(), "{entry:?}");
    let told = captured(world.send(Kind::Afterpay, &claim).await);
    world.settle(claim, Disposition::Captured(told)).await;
    assert_eq!(world.cancel(intent).await, "ended");
    assert_eq!(world.state(intent).await, "captured");
    assert_eq!(
        world.outbox.capture(intent).await.unwrap().unwrap().cancel_requested_at,
        None
    );

    // It surely did not: cancelled at once, not when the back-off is over.
    let intent = world.capture(Kind::Afterpay, 2, 1000).await;
    let claim = world.claim_one(Kind::Afterpay).await;
    assert_eq!(world.cancel(intent).await, "in_flight");
    world.settle(claim, Disposition::Retry(Wait::Exactly(HOUR))).await;
    world.drain().await;
    assert_eq!(world.state(intent).await, "cancelled");
    assert_eq!(world.sends(&Kind::Afterpay.payment(2)), 0);
    let wishes: i64 = world.db.scalar("select count(*) from capture.cancel_requests").await;
    assert_eq!(wishes, 0);
    world.books_agree().await;
}

#[tokio::test]
async fn a_wish_to_cancel_what_is_unknown_is_decided_by_reads_only() {
    for moment in [Moment::Before, Moment::After] {
        let mut world = World::new().await;
        let mut intents = Vec::new();
        for kind in Kind::ALL {
            intents.push(world.capture(kind, 1, 1000).await);
            let claim = world.claim_one(kind).await;
            if moment == Moment::After {
                captured(world.send(kind, &claim).await);
            }
        }
        world.lose_lease().await;
        for intent in &intents {
            assert_eq!(world.cancel(*intent).await, "in_flight");
        }
        let sent = world.simulator.ledger().ours().len();
        let ends = world.until_all_ended(&intents, 30 * MINUTE).await;
        let expected = if moment == Moment::After {
            "captured"
        } else {
            "cancelled"
        };
        assert!(ends.values().all(|end| end == expected), "{ends:?}");
        for kind in Kind::ALL {
            assert_eq!(
                world.sends(&kind.payment(1)),
                sent / 4,
                "{kind:?}: nothing is sent after a cancel"
            );
        }
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_cancel_and_a_claim_at_once_never_both_have_it() {
    let mut world = World::new().await;
    for n in 0..30 {
        let intent = world.capture(Kind::Afterpay, n, 1000).await;
        let (said, claims) = tokio::join!(world.cancel(intent), world.claim(Kind::Afterpay));
        match said.as_str() {
            "cancelled" => assert!(claims.is_empty()),
            "in_flight" => assert_eq!(claims.len(), 1),
            other => panic!("{other}"),
        }
        for claim in claims {
            world.settle(claim, Disposition::Cancelled).await;
        }
    }
    world.books_agree().await;
}

#[tokio::test]
async fn of_two_operators_one_replays_and_the_other_is_told() {
    let mut world = World::new().await;
    for n in 0..10 {
        let intent = world.capture(Kind::Afterpay, n, 1000).await;
        let claim = world.claim_one(Kind::Afterpay).await;
        world.settle(claim, dead(DeadReason::Rejected)).await;
        let letter = world.outbox.dead_letter(intent).await.unwrap().unwrap();
        let abilities = Kind::Afterpay.adapter(&world.simulator).abilities();
        let plan = plan_replay(letter.reason, &letter.progress, abilities, letter.now);
        let (ada, bob) = (stamp("ada"), stamp("bob"));
        let (a, b) = tokio::join!(
            world.outbox.replay(&letter, &plan, &ada),
            world.outbox.replay(&letter, &plan, &bob)
        );
        let mut said = [a.unwrap(), b.unwrap()];
        said.sort_by_key(|said| *said != Replayed::Replayed);
        assert_eq!(said, [Replayed::Replayed, Replayed::MovedMeanwhile]);
        // An old screen, much later: the letter is another one now, or none.
        let again = world.outbox.replay(&letter, &plan, &ada).await.unwrap();
        assert_eq!(again, Replayed::MovedMeanwhile);
        world.finish_all().await;
    }
    assert_eq!(world.audit().await.len(), 10, "one act, one line");
}

#[tokio::test]
async fn of_a_replay_and_a_resolve_at_once_one_wins() {
    let mut world = World::new().await;
    for n in 0..10 {
        let intent = world.capture(Kind::Afterpay, n, 1000).await;
        let claim = world.claim_one(Kind::Afterpay).await;
        world.settle(claim, dead(DeadReason::Undecided)).await;
        let letter = world.outbox.dead_letter(intent).await.unwrap().unwrap();
        let abilities = Kind::Afterpay.adapter(&world.simulator).abilities();
        let plan = plan_replay(letter.reason, &letter.progress, abilities, letter.now);
        let (ada, bob) = (stamp("ada"), stamp("bob"));
        let (replayed, resolved) = tokio::join!(
            world.outbox.replay(&letter, &plan, &ada),
            world.outbox.resolve(intent, true, "receipt 7", &bob)
        );
        let resolved = resolved.unwrap() == Resolved::Resolved;
        assert_ne!(replayed.unwrap() == Replayed::Replayed, resolved, "one of them");
        let state = world.state(intent).await;
        assert_eq!(state, if resolved { "captured" } else { "verifying" });
        world.finish_all().await;
    }
    assert_eq!(world.audit().await.len(), 10);
}

#[tokio::test]
async fn a_person_resolves_a_dead_letter_either_way_and_what_it_was_before_stays_on_record() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for n in 1..=2 {
        intents.push(world.capture(Kind::Afterpay, n, 1000).await);
        let claim = world.claim_one(Kind::Afterpay).await;
        world.settle(claim, dead(DeadReason::Undecided)).await;
    }
    let (ours, not_ours) = (intents[0], intents[1]);
    let resolve = async |world: &World, intent, captured| {
        world
            .outbox
            .resolve(intent, captured, "dashboard 99", &stamp("ada"))
            .await
            .unwrap()
    };
    assert_eq!(resolve(&world, ours, true).await, Resolved::Resolved);
    assert_eq!(resolve(&world, not_ours, false).await, Resolved::Resolved);
    assert_eq!(world.end(ours).await, "captured");
    assert_eq!(world.end(not_ours).await, "dead: rejected (resolved_not_captured)");
    let row = world.outbox.capture(ours).await.unwrap().unwrap();
    assert_eq!(
        (row.captured_minor, row.provider_capture_id.as_deref()),
        (Some(1000), Some("dashboard 99"))
    );
    assert_eq!(
        world.story(ours).await[3..],
        ["resolved ticket 4711", "audit ticket 4711"]
    );
    assert_eq!(
        resolve(&world, ours, false).await,
        Resolved::NotDead("captured".to_owned())
    );
    assert_eq!(resolve(&world, Uuid::new_v4(), true).await, Resolved::NotFound);
    let before: Vec<String> = world
        .db
        .column(
            "select detail -> 'before' ->> 'dead_reason' || ' as ' || (detail ->> 'as') from capture.audit order by id",
        )
        .await;
    assert_eq!(before, ["undecided as captured", "undecided as not-captured"]);

    // What was resolved as not captured may be replayed, and reads first all the same.
    let open = world.capture(Kind::Afterpay, 3, 1000).await;
    assert_eq!(
        resolve(&world, open, true).await,
        Resolved::NotDead("in_flight".to_owned())
    );
    world.replay(Kind::Afterpay, not_ours).await;
    assert_eq!(world.until_ended(not_ours, MINUTE).await, "captured");
    assert_eq!(world.wire(&Kind::Afterpay.payment(2))[0], "read 200");
}

#[tokio::test]
async fn a_late_receipt_after_a_replay_is_the_end_of_it() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Optty, 1, 1000).await;
    let old = world.claim_one(Kind::Optty).await;
    let late = receipt(&old);
    world.lose_lease().await;
    let claim = world.claim_one(Kind::Optty).await;
    world.settle(claim, dead(DeadReason::Undecided)).await;
    world.settle(old, Disposition::Captured(late)).await;
    assert_eq!(
        world.story(intent).await.last().unwrap(),
        "late_result captured_after_dead"
    );
    assert_eq!(
        world
            .outbox
            .resolve(intent, false, "dashboard", &stamp("ada"))
            .await
            .unwrap(),
        Resolved::ReceiptHeld,
        "no word goes against the provider's"
    );
    world.replay(Kind::Optty, intent).await;
    world.drain().await;
    assert_eq!(world.state(intent).await, "captured", "without a call");
    assert_eq!(world.simulator.requests().len(), 0);
}

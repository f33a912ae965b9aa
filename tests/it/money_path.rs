//! From an INSERT to an event: whole stories, and what came over the wire, as data.

use std::time::Duration;

use capture::simulator::{Fault, Moment};

use crate::by_hand::captured;
use crate::kind::Kind;
use crate::world::{Plan, World};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_insert_becomes_a_capture_and_an_event_at_every_provider() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        intents.push((kind, world.capture(kind, 1, 1234).await));
    }
    assert_eq!(world.drain().await, 4);
    for (kind, intent) in intents {
        assert_eq!(world.story(intent).await, ["enqueued", "captured"]);
        let row = world.outbox.capture(intent).await.unwrap().unwrap();
        assert_eq!(
            (row.state.as_str(), row.captured_minor, row.attempts),
            ("captured", Some(1234), 1)
        );
        let wire: &[&str] = match kind {
            Kind::Afterpay => &["capture 201!"],
            Kind::ResolveOrder => &["capture 200!"],
            Kind::Optty => &["capture 200!", "read 200"],
            // Nothing is sent to a charge before it was read; its invoice tells the amount.
            Kind::ResolveCharge => &["read 200", "capture 200!", "read 200"],
        };
        assert_eq!(world.wire(&kind.payment(1)), wire, "{kind:?}");
    }
    world.books_agree().await;
}

#[tokio::test]
async fn an_order_that_rolls_back_leaves_nothing() {
    let mut world = World::new().await;
    world.db.run("begin").await;
    world.capture(Kind::Afterpay, 1, 1000).await;
    world.db.run("rollback").await;
    assert_eq!(world.drain().await, 0);
    for table in ["intents", "ready", "waiting", "events"] {
        let rows: i64 = world.db.scalar(&format!("select count(*) from capture.{table}")).await;
        assert_eq!(rows, 0, "{table} kept something");
    }
}

#[tokio::test]
async fn a_reply_lost_after_the_money_moved_is_found_out_by_the_key_or_by_a_read() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        let intent = world.capture(kind, 1, 1234).await;
        world
            .simulator
            .script(kind.payment(1).as_str(), [Fault::Reset(Moment::After)]);
        intents.push(intent);
    }
    world.until_all_ended(&intents, MINUTE).await;
    for (kind, intent) in Kind::ALL.into_iter().zip(intents) {
        assert_eq!(
            world.story(intent).await,
            [
                "enqueued",
                "attempt_failed connection_reset",
                "outcome_unknown connection_reset",
                "captured"
            ]
        );
        let wire: &[&str] = match kind {
            Kind::Afterpay => &["capture 201!", "capture 201"],
            Kind::Optty => &["capture 200!", "read 200"],
            Kind::ResolveCharge => &["read 200", "capture 200!", "read 200", "read 200"],
            Kind::ResolveOrder => &["capture 200!", "read 200"],
        };
        assert_eq!(world.wire(&kind.payment(1)), wire, "{kind:?}");
    }
    world.books_agree().await;
}

#[tokio::test]
async fn a_request_lost_before_the_money_moved_is_sent_again_after_proof_or_under_its_key() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        let intent = world.capture(kind, 1, 1234).await;
        world
            .simulator
            .script(kind.payment(1).as_str(), [Fault::Reset(Moment::Before)]);
        intents.push(intent);
    }
    world.until_all_ended(&intents, MINUTE).await;
    for (kind, intent) in Kind::ALL.into_iter().zip(intents) {
        let proof = match kind {
            Kind::Afterpay | Kind::ResolveOrder => None,
            // A read at once, which proves nothing while the call may still arrive; then two quiet reads, ten minutes
            // apart; and only then again.
            Kind::Optty | Kind::ResolveCharge => Some("retry_scheduled connection_reset"),
        };
        let mut story = vec![
            "enqueued",
            "attempt_failed connection_reset",
            "outcome_unknown connection_reset",
        ];
        story.extend(proof);
        story.push("captured");
        assert_eq!(world.story(intent).await, story, "{kind:?}");
        let wire: &[&str] = match kind {
            Kind::Afterpay => &["capture 200", "capture 201!"],
            Kind::Optty => &[
                "capture 200",
                "read 200",
                "read 200",
                "read 200",
                "capture 200!",
                "read 200",
            ],
            Kind::ResolveCharge => &[
                "read 200",
                "capture 200",
                "read 200",
                "read 200",
                "read 200",
                "read 200",
                "capture 200!",
                "read 200",
            ],
            Kind::ResolveOrder => &["capture 200", "read 200", "capture 200!"],
        };
        assert_eq!(world.wire(&kind.payment(1)), wire, "{kind:?}");
    }
    world.books_agree().await;
}

#[tokio::test]
async fn a_worker_killed_between_claim_and_send_loses_nothing() {
    for kind in Kind::ALL {
        let mut world = World::new().await;
        let intent = world.capture(kind, 1, 1234).await;
        drop(world.claim_one(kind).await);
        assert_eq!(world.lose_lease().await, 1);
        assert_eq!(world.until_ended(intent, MINUTE).await, "captured", "{kind:?}");
        assert_eq!(world.sends(&kind.payment(1)), 1, "{kind:?}");
        let story = world.story(intent).await;
        assert_eq!(story[..2], ["enqueued", "outcome_unknown lease_lost"], "{kind:?}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_worker_killed_between_send_and_record_captures_nothing_twice() {
    for kind in Kind::ALL {
        let mut world = World::new().await;
        let intent = world.capture(kind, 1, 1234).await;
        let claim = world.claim_one(kind).await;
        captured(world.send(kind, &claim).await);
        assert_eq!(world.lose_lease().await, 1);
        assert_eq!(world.until_ended(intent, MINUTE).await, "captured", "{kind:?}");
        assert_eq!(
            world.story(intent).await,
            ["enqueued", "outcome_unknown lease_lost", "captured"],
            "{kind:?}"
        );
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_capture_that_was_refused_is_not_ours_because_somebody_captured_the_same_amount() {
    for kind in Kind::ALL {
        let mut plan = Plan::default();
        plan.simulator.resolve_recapture = capture::simulator::Recapture::Refuse400;
        let mut world = World::of(plan).await;
        // Between our read, where there is one, and our POST.
        world
            .simulator
            .script(kind.payment(1).as_str(), [Fault::ForeignCaptureFirst]);
        let intent = world.capture(kind, 1, 5000).await;
        let end = world.until_ended(intent, MINUTE).await;
        assert!(end.starts_with("dead: "), "{kind:?}: {end}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn workers_that_start_together_register_the_same_lanes() {
    let world = World::new().await;
    for round in 0..20 {
        let lane = capture::intent::Lane {
            provider: "afterpay".to_owned(),
            account: format!("new-{round}"),
        };
        let (a, b, c) = tokio::join!(
            world.outbox.register_lane(&lane, 0),
            world.outbox.register_lane(&lane, 0),
            world.outbox.register_lane(&lane, 0),
        );
        assert_eq!(a.unwrap(), b.unwrap());
        c.unwrap();
    }
}

#[tokio::test]
async fn after_the_end_of_the_keys_window_a_read_finds_what_moved() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let claim = world.claim_one(Kind::Afterpay).await;
    captured(world.send(Kind::Afterpay, &claim).await);
    world.pass(23 * HOUR).await;
    world.outbox.rescue(100).await.unwrap();
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    assert_eq!(world.wire(&Kind::Afterpay.payment(1)), ["capture 201!", "read 200"]);
    world.books_agree().await;
}

#[tokio::test]
async fn after_the_end_of_the_keys_window_a_new_key_follows_two_quiet_reads() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    drop(world.claim_one(Kind::Afterpay).await);
    world.pass(23 * HOUR).await;
    world.outbox.rescue(100).await.unwrap();
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    assert_eq!(
        world.wire(&Kind::Afterpay.payment(1)),
        ["read 200", "read 200", "capture 201!"]
    );
    let generations: Vec<i16> = world
        .db
        .column("select generation from capture.attempts order by fence")
        .await;
    assert_eq!(
        generations,
        [0, 0, 0, 1],
        "lost, two reads, and the capture under a new key"
    );
    world.books_agree().await;
}

#[tokio::test]
async fn inside_its_window_the_same_key_is_repeated_until_the_provider_answers() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let payment = Kind::Afterpay.payment(1);
    let faults = [
        Fault::Empty(500, Moment::After),
        Fault::Html(502, Moment::Before),
        Fault::Close(Moment::Before),
    ];
    world.simulator.script(payment.as_str(), faults);
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    assert_eq!(world.sends(&payment), 4);
    let requests = world.simulator.requests();
    let mut bodies: Vec<_> = requests.iter().map(|request| &request.body_sha256).collect();
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "a repeat is byte-identical");
}

#[tokio::test]
async fn a_token_that_is_old_is_told_from_one_that_is_refused_although_it_is_new() {
    let mut world = World::new().await;
    let codes = async |world: &World, intent| -> Vec<String> {
        let attempts = world.outbox.attempts(intent).await.unwrap();
        attempts.into_iter().filter_map(|attempt| attempt.code).collect()
    };
    world
        .simulator
        .script(Kind::Optty.payment(1).as_str(), [Fault::TokenExpired]);
    let first = world.capture(Kind::Optty, 1, 1234).await;
    assert_eq!(world.until_ended(first, MINUTE).await, "captured");
    assert_eq!(codes(&world, first).await, ["token_not_taken"]);

    world.simulator.expire_tokens();
    let second = world.capture(Kind::Optty, 2, 1234).await;
    assert_eq!(world.until_ended(second, MINUTE).await, "captured");
    assert_eq!(codes(&world, second).await, ["token_expired"]);
    world.books_agree().await;
}

//! From an INSERT to an event, whatever dies in between.

use std::time::Duration;

use capture::simulator::{Fault, Moment};

use crate::world::{Kind, World};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_insert_becomes_a_capture_and_an_event_at_every_provider() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for (n, kind) in Kind::ALL.into_iter().enumerate() {
        intents.push(world.capture(kind, u32::try_from(n).unwrap(), 1234).await);
    }
    assert_eq!(world.drain().await, 4);
    for intent in intents {
        assert_eq!(world.story(intent).await, ["enqueued", "captured"]);
        let row = world.outbox.capture(intent).await.unwrap().unwrap();
        assert_eq!(
            (row.state.as_str(), row.captured_minor, row.attempts),
            ("captured", Some(1234), 1)
        );
    }
    world.books_agree().await;
}

#[tokio::test]
async fn an_order_that_rolls_back_leaves_nothing() {
    let mut world = World::new().await;
    world.sql("begin").await;
    world.capture(Kind::Afterpay, 1, 1000).await;
    world.sql("rollback").await;
    assert_eq!(world.drain().await, 0);
    for table in ["intents", "ready", "waiting", "events"] {
        let rows: i64 = world.scalar(&format!("select count(*) from capture.{table}")).await;
        assert_eq!(rows, 0, "{table} kept something");
    }
}

#[tokio::test]
async fn a_reply_lost_after_the_money_moved_is_found_out_and_never_captured_again() {
    for kind in Kind::ALL {
        for fault in [
            Fault::Reset(Moment::After),
            Fault::Close(Moment::After),
            Fault::Truncated,
            Fault::Html(502, Moment::After),
            Fault::Silence(Moment::After),
        ] {
            let mut world = World::new().await;
            let intent = world.capture(kind, 1, 1234).await;
            world.simulator.script(kind.payment(1).as_str(), [fault]);
            assert_eq!(
                world.until_ended(intent, MINUTE).await,
                "captured",
                "{kind:?} after {fault:?}: {:?}",
                world.story(intent).await
            );
            let story = world.story(intent).await;
            assert!(
                story.iter().any(|line| line.starts_with("outcome_unknown")),
                "{kind:?} after {fault:?}: {story:?}"
            );
            world.books_agree().await;
        }
    }
}

#[tokio::test]
async fn a_request_lost_before_the_money_moved_is_captured_once_in_the_end() {
    for kind in Kind::ALL {
        for fault in [
            Fault::Reset(Moment::Before),
            Fault::Html(503, Moment::Before),
            Fault::Empty(500, Moment::Before),
        ] {
            let mut world = World::new().await;
            let intent = world.capture(kind, 1, 1234).await;
            world.simulator.script(kind.payment(1).as_str(), [fault]);
            assert_eq!(
                world.until_ended(intent, 11 * MINUTE).await,
                "captured",
                "{kind:?} after {fault:?}: {:?}",
                world.story(intent).await
            );
            world.books_agree().await;
        }
    }
}

#[tokio::test]
async fn a_capture_that_was_refused_is_not_ours_because_somebody_captured_the_same_amount() {
    for kind in Kind::ALL {
        let mut world = World::with(
            |_| {},
            |simulator| simulator.resolve_recapture = capture::simulator::Recapture::Refuse400,
        )
        .await;
        // Between our read, where there is one, and our POST.
        world
            .simulator
            .script(kind.payment(1).as_str(), [Fault::ForeignCaptureFirst]);
        let intent = world.capture(kind, 1, 5000).await;
        assert_eq!(
            world.until_ended(intent, MINUTE).await,
            "dead",
            "{kind:?}: {:?}",
            world.story(intent).await
        );
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

#[tokio::test]
async fn the_role_of_a_worker_is_enough_for_a_worker() {
    let world = World::new().await;
    let worker = uuid::Uuid::new_v4();
    let url = format!("{}&options=-c%20role%3Dcapture_worker", world.url);
    let outbox = capture::outbox::Outbox::connect(&capture::outbox::ConnectSettings::new(url))
        .await
        .unwrap();
    outbox.heartbeat(worker, None, &[]).await.unwrap();
    // Twice: the second time it renews its row.
    outbox.lie_down(worker).await.unwrap();
    outbox.lie_down(worker).await.unwrap();
    outbox.get_up(worker).await.unwrap();
    outbox.move_due(10).await.unwrap();
    outbox.rescue(10).await.unwrap();
    outbox.take_shipments(10).await.unwrap();
    outbox.match_releases(10).await.unwrap();
    outbox.watch_deadlines(MINUTE, 10).await.unwrap();
    outbox.sweep_waiters().await.unwrap();
    outbox.depart(worker).await.unwrap();
}

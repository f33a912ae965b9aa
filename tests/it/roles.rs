//! Each role is enough for its work. What it may not do, to the last column, is in `tests/security/matrix.rs`.

use std::time::Duration;

use capture::outbox::{ConnectSettings, Outbox};
use capture::worker::Worker;
use uuid::Uuid;

use crate::by_hand::LEASE;
use crate::database::{Session, log_in, migrated_database};
use crate::kind::Kind;
use crate::world::{World, enqueue};

async fn as_role(url: &str, role: &str) -> ConnectSettings {
    ConnectSettings::new(log_in(url, role).await)
}

#[tokio::test]
async fn a_producer_asks_cancels_and_reads_the_feed_and_that_is_all() {
    let url = migrated_database().await;
    let mut db = Session::open(&url).await;
    db.run("set role capture_producer").await;
    db.run("begin").await;
    let plain = "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
                 values ('afterpay', 'o', '1', 'c', 100, 'USD') returning id";
    let id: Uuid = db.scalar(plain).await;
    db.run(&enqueue(Kind::Afterpay, "2", "c", 100, "")).await;
    db.run("select * from capture.enqueue_json('{\"provider\":\"optty\",\"order_id\":\"o\",\"payment_id\":\"3\",\"capture_ref\":\"c\",\"amount_minor\":1,\"currency\":\"JPY\"}')")
        .await;
    db.run("commit").await;
    let states: Vec<String> = db.column("select state from capture.status").await;
    assert_eq!(states, ["ready"; 3]);
    let said: String = db.scalar(&format!("select capture.cancel('{id}', 'why')")).await;
    assert_eq!(said, "cancelled");
    db.run("select * from capture.events_after(null, 10)").await;
    for forbidden in [
        "select capture.release(provider => 'afterpay', payment_id => '1')",
        "select capture.rescue(1)",
        "select capture.settle_each('[]', '[]')",
        "select capture.set_lane_pause(1, true, 'me', 'why')",
        "update capture.clock set ahead = '1 year'",
        "create table capture.mine ()",
        "alter table capture.intents disable trigger all",
    ] {
        let refused = db.try_run(forbidden).await.expect_err(forbidden);
        assert_eq!(refused.sqlstate, "42501", "{forbidden}");
    }
}

#[tokio::test]
async fn the_role_of_a_worker_is_enough_for_a_worker() {
    let mut world = World::new().await;
    let outbox = Outbox::connect(&as_role(&world.url, "capture_worker").await)
        .await
        .unwrap();
    let worker = Worker::new(
        outbox.clone(),
        world.plan.lanes(&world.simulator),
        world.plan.settings.clone(),
    )
    .await
    .unwrap();
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        intents.push(world.capture(kind, 1, 1234).await);
    }
    assert_eq!(worker.drain().await.unwrap(), 4);
    for intent in &intents {
        assert_eq!(world.state(*intent).await, "captured");
    }
    outbox.check_schema().await.unwrap();
    outbox.verify_schema().await.unwrap();
    outbox.heartbeat(worker.id(), None, &[], LEASE).await.unwrap();
    // Twice: the second time it renews its row.
    outbox.lie_down(worker.id()).await.unwrap();
    outbox.lie_down(worker.id()).await.unwrap();
    outbox.listen().await.unwrap();
    outbox.get_up(worker.id()).await.unwrap();
    outbox.rescue(10).await.unwrap();
    outbox.take_shipments(10).await.unwrap();
    outbox.match_releases(10).await.unwrap();
    outbox
        .watch_shipments(Duration::ZERO, Duration::ZERO, 10)
        .await
        .unwrap();
    outbox.unmatched_shipments().await.unwrap();
    outbox.shipment_requests().await.unwrap();
    outbox.watch_deadlines(Duration::from_secs(60), 10).await.unwrap();
    outbox.watch_dead_letters(10).await.unwrap();
    outbox.watch_replayed().await.unwrap();
    outbox.put_off_item(Uuid::new_v4(), 1, "why").await.unwrap();
    assert_eq!(outbox.capture_facts(&intents).await.unwrap().len(), 4);
    outbox.give_back(Uuid::new_v4()).await.unwrap();
    outbox.chores(&[]).await.unwrap();
    outbox.backlog().await.unwrap();
    outbox.sweep_waiters().await.unwrap();
    outbox.depart(worker.id()).await.unwrap();
    world.books_agree().await;
}

#[tokio::test]
async fn the_role_of_metrics_is_enough_to_look_and_that_of_an_operator_to_act() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    for role in ["capture_metrics", "capture_readonly", "capture_operator"] {
        let outbox = Outbox::connect(&as_role(&world.url, role).await).await.unwrap();
        outbox.backlog().await.unwrap();
        let checks = outbox.checks().await.unwrap();
        let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
        // The operator, who comes last, has not cancelled it yet.
        assert_eq!(names, ["lane_unserved"], "{role}");
        outbox.at_risk().await.unwrap();
        outbox.counts().await.unwrap();
        outbox.lanes().await.unwrap();
        outbox.workers().await.unwrap();
        outbox.capture(intent).await.unwrap();
        outbox.timeline(intent).await.unwrap();
        outbox
            .dead_groups(&capture::filter::Filter::default(), &capture::outbox::GroupBy::ALL)
            .await
            .unwrap();
        outbox.doctor_facts().await.unwrap();
        // What every act of a person, and every step of an operation, looks at first.
        let facts = outbox.capture_facts(&[intent]).await;
        assert_eq!(facts.is_ok(), role != "capture_metrics", "{role}: {facts:?}");
        let acts = outbox.cancel(intent, "why").await;
        assert_eq!(acts.is_ok(), role == "capture_operator", "{role}");
    }
    assert_eq!(world.state(intent).await, "cancelled");
}

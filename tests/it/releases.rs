//! Held captures wait for their release, whichever comes first.

use std::time::Duration;

use capture::retry::Policy;
use sqlx::Row;
use uuid::Uuid;

use crate::database::{Session, connect};
use crate::kind::Kind;
use crate::world::{World, enqueue};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
pub const HELD: &str = ", hold => 'shipment'";

impl World {
    pub async fn held(&mut self, n: u32, reference: &str) -> Uuid {
        let payment = Kind::Afterpay.payment(n);
        self.authorize(Kind::Afterpay, &payment, 5000);
        self.insert(Kind::Afterpay, &payment, reference, 1000, HELD).await
    }

    /// A release of Afterpay; `what`: the other arguments as SQL.
    async fn release(&mut self, what: &str) -> (i64, bool) {
        let sql = format!("select release_id, created from capture.release(provider => 'afterpay', {what})");
        let rows = self.db.rows(&sql).await;
        (rows[0].get(0), rows[0].get(1))
    }

    /// What any worker does every second, and the work that follows.
    pub async fn fulfil(&mut self) {
        self.pass(2 * SECOND).await;
        self.outbox.take_shipments(100).await.unwrap();
        self.outbox.match_releases(100).await.unwrap();
        self.drain().await;
    }

    pub async fn states(&self, intents: &[Uuid]) -> Vec<String> {
        let mut states = Vec::new();
        for intent in intents {
            states.push(self.state(*intent).await);
        }
        states
    }
}

fn payment(n: u32) -> String {
    format!("payment_id => '{}'", Kind::Afterpay.payment(n))
}

#[tokio::test]
async fn a_held_capture_waits_for_its_release() {
    let mut world = World::new().await;
    let intent = world.held(1, "c1").await;
    for _ in 0..3 {
        world.fulfil().await;
    }
    assert_eq!(
        (world.state(intent).await.as_str(), world.simulator.requests().len()),
        ("held", 0)
    );
    world.release(&payment(1)).await;
    world.fulfil().await;
    assert_eq!(world.story(intent).await, ["held", "released", "captured"]);
    world.books_agree().await;
}

#[tokio::test]
async fn a_release_may_come_before_its_capture_even_long_before() {
    for before in [SECOND, 48 * HOUR] {
        let mut world = World::new().await;
        world.release(&payment(1)).await;
        world.fulfil().await;
        world.pass(before).await;
        world.fulfil().await;
        let intent = world.held(1, "c1").await;
        // An old release is looked at every ten minutes.
        world.pass(11 * 60 * SECOND).await;
        world.fulfil().await;
        assert_eq!(world.state(intent).await, "captured", "{before:?}");
    }
}

#[tokio::test]
async fn a_release_rolls_back_with_its_transaction() {
    let mut world = World::new().await;
    let intent = world.held(1, "c1").await;
    world.db.run("begin").await;
    world.release(&payment(1)).await;
    world.db.run("rollback").await;
    world.fulfil().await;
    assert_eq!(world.state(intent).await, "held");
}

#[tokio::test]
async fn the_same_shipment_again_changes_nothing() {
    let mut world = World::new().await;
    let intents = [world.held(1, "c1").await, world.held(1, "c2").await];
    let parcel = format!("{}, shipment_ref => 'parcel-1'", payment(1));
    let (id, created) = world.release(&parcel).await;
    assert!(created);
    assert_eq!(world.release(&parcel).await, (id, false));
    world.fulfil().await;
    assert_eq!(world.release(&parcel).await, (id, false), "nor after it was matched");
    world.fulfil().await;
    assert_eq!(world.states(&intents).await, ["captured", "held"]);
}

#[tokio::test]
async fn releases_free_the_oldest_first_one_each_and_what_is_left_is_kept() {
    let mut world = World::new().await;
    let intents = [
        world.held(1, "c1").await,
        world.held(1, "c2").await,
        world.held(1, "c3").await,
    ];
    world.release(&payment(1)).await;
    world.fulfil().await;
    assert_eq!(world.states(&intents).await, ["captured", "held", "held"]);
    world.release(&format!("{}, capture_ref => 'c3'", payment(1))).await;
    world.fulfil().await;
    assert_eq!(world.states(&intents).await, ["captured", "held", "captured"]);
    world.release("order_id => 'order of 10010001'").await;
    world.release("order_id => 'order of 10010001'").await;
    world.fulfil().await;
    assert_eq!(world.states(&intents).await, ["captured"; 3]);
    let left: i64 = world
        .db
        .scalar("select count(*) from capture.releases where intent is null")
        .await;
    assert_eq!(left, 1, "one more release than captures");
    world.books_agree().await;
}

#[tokio::test]
async fn a_release_by_order_finds_every_payment_of_it_and_no_other() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for (n, order) in [(1, "A"), (2, "A"), (3, "B")] {
        let sql = enqueue(Kind::Afterpay, &Kind::Afterpay.payment(n), "c", 1000, HELD);
        let sql = sql.replace(&format!("order of {}", Kind::Afterpay.payment(n)), order);
        world.authorize(Kind::Afterpay, &Kind::Afterpay.payment(n), 5000);
        intents.push(world.db.scalar(&sql).await);
    }
    for _ in 0..3 {
        world.release("order_id => 'A'").await;
        world.fulfil().await;
    }
    assert_eq!(world.states(&intents).await, ["captured", "captured", "held"]);
}

#[tokio::test]
async fn a_release_does_not_make_a_scheduled_capture_earlier() {
    let mut world = World::new().await;
    world.authorize(Kind::Afterpay, &Kind::Afterpay.payment(1), 5000);
    let later = ", hold => 'shipment', not_before => now() + interval '1 hour'";
    let intent = world
        .insert(Kind::Afterpay, &Kind::Afterpay.payment(1), "c", 1000, later)
        .await;
    world.release(&payment(1)).await;
    world.fulfil().await;
    assert_eq!(world.state(intent).await, "scheduled");
    world.pass(HOUR).await;
    world.fulfil().await;
    assert_eq!(world.state(intent).await, "captured");
}

#[tokio::test]
async fn a_bad_release_is_refused_by_name() {
    let mut world = World::new().await;
    for (arguments, constraint) in [
        ("provider => 'klarna', payment_id => '1'", "releases_provider_known"),
        ("provider => null, payment_id => '1'", "releases_provider_known"),
        ("provider => 'optty'", "releases_name_a_payment_or_an_order"),
        (
            "provider => 'optty', payment_id => '1', company => 'UPS'",
            "releases_shipping_all_or_none",
        ),
        (
            "provider => 'optty', payment_id => '1', shipment_ref => repeat('é', 256)",
            "releases_texts_short",
        ),
        (
            "provider => 'optty', order_id => (select string_agg(md5(n::text), '') from generate_series(1, 1000) n)",
            "releases_texts_short",
        ),
        (
            "provider => 'optty', payment_id => '1', company => 'UPS', method => 'air', tracking_number => repeat('1', 300)",
            "releases_texts_short",
        ),
    ] {
        let told = world.db.try_run(&format!("select capture.release({arguments})")).await;
        let refused = told.unwrap_err();
        assert_eq!(
            (refused.sqlstate.as_str(), refused.constraint.as_str()),
            ("23514", constraint)
        );
        assert!(!refused.hint.is_empty());
    }
}

#[tokio::test]
async fn workers_that_match_at_once_free_each_capture_once() {
    let mut world = World::new().await;
    for n in 0..20 {
        world.held(1, &format!("c{n}")).await;
        world.release(&format!("{}, shipment_ref => 's{n}'", payment(1))).await;
    }
    let other = connect(&world.url).await;
    let (a, b) = tokio::join!(world.outbox.match_releases(100), other.match_releases(100));
    let freed = a.unwrap() + b.unwrap();
    world.pass(2 * SECOND).await;
    assert_eq!(freed + world.outbox.match_releases(100).await.unwrap(), 20);
    let events: i64 = world
        .db
        .scalar("select count(*) from capture.events where type = 'capture.released'")
        .await;
    assert_eq!(events, 20);
    assert_eq!(world.outbox.doctor_facts().await.unwrap().misplaced, 0);
}

#[tokio::test]
async fn a_release_passes_over_a_capture_that_is_being_cancelled_and_comes_back_if_it_is_not() {
    for ending in ["commit", "rollback"] {
        let mut world = World::new().await;
        let intent = world.held(1, "c1").await;
        let mut clerk = Session::open(&world.url).await;
        clerk.run("begin").await;
        let said: String = clerk
            .scalar(&format!("select capture.cancel('{intent}', 'returned')"))
            .await;
        assert_eq!(said, "cancelled");
        world.release(&payment(1)).await;
        world.fulfil().await;
        clerk.run(ending).await;
        world.fulfil().await;
        let expected = if ending == "commit" { "cancelled" } else { "captured" };
        assert_eq!(world.state(intent).await, expected);
        world.books_agree().await;
    }
}

/// Told at 48 h and at 24 h, and given up at the margin: never sent, though another worker's margin is shorter.
#[tokio::test]
async fn a_held_capture_that_nobody_releases_is_told_of_and_given_up_and_never_sent() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        let payment = kind.payment(1);
        world.authorize(kind, &payment, 5000);
        let more = ", hold => 'shipment', authorization_expires_at => now() + interval '72 hours'";
        intents.push(world.insert(kind, &payment, "c", 1000, more).await);
    }
    let long_margin = Policy::default().deadline_margin;
    assert!(long_margin > world.plan.settings.policy.deadline_margin);
    for _ in 0..72 {
        world.outbox.watch_deadlines(long_margin, 100).await.unwrap();
        world.drain().await;
        world.pass(HOUR - 10 * SECOND).await;
    }
    world.outbox.watch_deadlines(long_margin, 100).await.unwrap();
    world.drain().await;
    for intent in intents {
        assert_eq!(
            world.story(intent).await,
            [
                "held",
                "auth_expiring",
                "auth_expiring",
                "auth_expiring",
                "dead_lettered expired"
            ]
        );
    }
    assert_eq!(world.simulator.requests().len(), 0);
}

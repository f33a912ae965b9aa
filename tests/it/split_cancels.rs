//! Who cancels an order names the capture that they asked for; if shipments have split it meanwhile, what is left of it is
//! taken back, and what has left stays.

use std::time::Duration;

use capture::operations::{self, AbilitiesByLane, Act, Choice, run_due};
use capture::shipment::{ReleaseOn, ShipmentAmount};
use sqlx::Row;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::database::{Session, connect};
use crate::operations::{request, stamp};
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);
const LAST: (&str, &str) = (", is_final", ", 'true'");

/// A world with 50.00 held, from which shipments take parts.
async fn split_by(parcels: &[(&str, &str)]) -> (World, Uuid) {
    let mut world = World::new().await;
    world.rule(ReleaseOn::Shipped, ShipmentAmount::RemainingOnFinal).await;
    let whole = world.held_of("c1", 5000).await;
    for (number, minor) in parcels {
        world.ship(number, minor).await;
        world.outbox.match_releases(10).await.unwrap();
    }
    (world, whole)
}

impl World {
    /// A parcel of that amount is told, and nothing is released yet.
    async fn ship(&mut self, number: &str, minor: &str) {
        let amount = format!(", '{minor}'");
        self.parcel(number, number, "shipped", (", amount_minor", &amount))
            .await;
        self.outbox.take_shipments(10).await.unwrap();
    }

    async fn id_of(&mut self, reference: &str) -> Uuid {
        let sql = format!("select id from capture.intents where capture_ref = '{reference}'");
        self.db.scalar(&sql).await
    }

    /// Somebody else cancels, in a task of their own.
    async fn cancelling(&self, intent: Uuid) -> JoinHandle<String> {
        let outbox = connect(&self.url).await;
        tokio::spawn(async move { outbox.cancel(intent, "changed their mind").await.unwrap() })
    }

    async fn carry_out(&self, id: Uuid) -> Vec<String> {
        for _ in 0..1000 {
            run_due(&self.outbox, &AbilitiesByLane::new()).await.unwrap();
            if self.outbox.operation(id).await.unwrap().unwrap().is_over() {
                break;
            }
        }
        let items = self.outbox.operation_items(id, 0, 100, false).await.unwrap();
        let told = items.into_iter().map(|item| {
            let verdict = item.verdict.unwrap_or_default();
            format!("{verdict} {}", item.says.unwrap_or_default())
                .trim_end()
                .to_owned()
        });
        told.collect()
    }
}

#[tokio::test]
async fn a_cancel_of_what_was_split_takes_back_what_is_left_and_the_parts_that_left_stay() {
    let (mut world, whole) = split_by(&[("1Z1", "1200"), ("1Z2", "800")]).await;
    assert_eq!(world.cancel(whole).await, "cancelled");
    assert_eq!(world.cancel(whole).await, "ended", "nothing is left");
    let rest = world.id_of("after shipment 1Z2").await;
    assert_eq!(
        world.story(rest).await,
        ["held", "cancelled the customer changed her mind"]
    );
    // The last parcel leaves all the same.
    world.parcel("1Z3", "1Z3", "shipped", LAST).await;
    world.fulfil().await;
    assert_eq!(
        world.intents().await,
        [
            "c1 5000 cancelled",
            "shipment 1Z1 1200 captured",
            "after shipment 1Z1 3800 cancelled",
            "shipment 1Z2 800 captured",
            "after shipment 1Z2 3000 cancelled"
        ]
    );
    world.books_agree().await;
}

#[tokio::test]
async fn a_part_whose_goods_have_left_is_taken_back_only_by_its_own_name() {
    let (mut world, whole) = split_by(&[("1Z1", "1200")]).await;
    world.parcel("1Z2", "1Z2", "shipped", LAST).await;
    world.outbox.take_shipments(10).await.unwrap();
    world.outbox.match_releases(10).await.unwrap();
    // All of it has left, and nothing was sent yet.
    assert_eq!(world.cancel(whole).await, "ended");
    let part = world.id_of("shipment 1Z1").await;
    assert_eq!(world.cancel(part).await, "cancelled");
    assert_eq!(world.cancel(whole).await, "ended");
    world.drain().await;
    assert_eq!(
        world.intents().await,
        [
            "c1 5000 cancelled",
            "shipment 1Z1 1200 cancelled",
            "after shipment 1Z1 3800 captured"
        ]
    );
    world.books_agree().await;
}

#[tokio::test]
async fn a_cancel_that_meets_a_split_under_way_waits_for_it_and_takes_back_what_it_leaves() {
    for (end, said, intents) in [
        (
            "commit",
            "cancelled",
            &[
                "c1 5000 cancelled",
                "shipment 1Z1 1200 captured",
                "after shipment 1Z1 3800 cancelled",
            ][..],
        ),
        ("rollback", "cancelled", &["c1 5000 cancelled"][..]),
    ] {
        let (mut world, whole) = split_by(&[]).await;
        world.ship("1Z1", "1200").await;
        let mut splitting = Session::open(&world.url).await;
        splitting.run("begin").await;
        assert_eq!(splitting.scalar::<i32>("select capture.match_releases(10)").await, 1);
        let cancelling = world.cancelling(whole).await;
        world.db.until_blocked(&cancelling).await;
        splitting.run(end).await;
        assert_eq!(cancelling.await.unwrap(), said, "{end}");
        world.fulfil().await;
        assert_eq!(world.intents().await, intents, "{end}");
        world.books_agree().await;
    }
}

/// What was made soon after a fail-over is only wished to be cancelled: the wish reaches what the split leaves all the same.
#[tokio::test]
async fn a_wish_that_meets_a_split_under_way_waits_for_it_and_is_for_what_it_leaves() {
    for (end, wished) in [("commit", "after shipment 1Z1"), ("rollback", "c1")] {
        let (mut world, whole) = split_by(&[]).await;
        world
            .db
            .run(
                "update capture.epoch set number = 2, began_at = capture.clock_now();
                 update capture.waiting set epoch = 2",
            )
            .await;
        world.ship("1Z1", "1200").await;
        let mut splitting = Session::open(&world.url).await;
        splitting.run("begin").await;
        assert_eq!(splitting.scalar::<i32>("select capture.match_releases(10)").await, 1);
        let cancelling = world.cancelling(whole).await;
        world.db.until_blocked(&cancelling).await;
        splitting.run(end).await;
        assert_eq!(cancelling.await.unwrap(), "in_flight", "{end}");
        let wishes = "select i.capture_ref from capture.cancel_requests c join capture.intents i on i.id = c.intent";
        assert_eq!(world.db.column::<String>(wishes).await, [wished], "{end}");
    }
}

#[tokio::test]
async fn a_further_split_and_the_last_shipment_are_waited_for_too() {
    for (parcel, more, said, end) in [
        (
            "1Z2",
            (", amount_minor", ", '800'"),
            "cancelled",
            "after shipment 1Z2 3000 cancelled",
        ),
        ("1Z2", LAST, "ended", "after shipment 1Z1 3800 captured"),
    ] {
        let (mut world, whole) = split_by(&[("1Z1", "1200")]).await;
        world.parcel(parcel, parcel, "shipped", more).await;
        world.outbox.take_shipments(10).await.unwrap();
        let mut releasing = Session::open(&world.url).await;
        releasing.run("begin").await;
        assert_eq!(releasing.scalar::<i32>("select capture.match_releases(10)").await, 1);
        let cancelling = world.cancelling(whole).await;
        world.db.until_blocked(&cancelling).await;
        releasing.run("commit").await;
        assert_eq!(cancelling.await.unwrap(), said);
        world.fulfil().await;
        assert_eq!(world.intents().await.last().unwrap(), end);
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_split_that_meets_a_cancel_under_way_waits_for_nobody_and_splits_nothing_that_was_cancelled() {
    for (end, intents) in [
        ("commit", &["c1 5000 cancelled"][..]),
        (
            "rollback",
            &[
                "c1 5000 cancelled",
                "shipment 1Z1 1200 captured",
                "after shipment 1Z1 3800 held",
            ][..],
        ),
    ] {
        let (mut world, whole) = split_by(&[]).await;
        world.ship("1Z1", "1200").await;
        let mut shop = Session::open(&world.url).await;
        shop.run("begin").await;
        let cancel = format!("select capture.cancel(intent_id => '{whole}', reason => 'changed their mind')");
        assert_eq!(shop.scalar::<String>(&cancel).await, "cancelled");
        assert_eq!(world.outbox.match_releases(10).await.unwrap(), 0);
        shop.run(end).await;
        world.fulfil().await;
        assert_eq!(world.intents().await, intents, "{end}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn many_splits_and_a_cancel_at_once_end_with_nothing_held() {
    for _ in 0..10 {
        let (mut world, whole) = split_by(&[]).await;
        for number in ["1Z1", "1Z2", "1Z3", "1Z4"] {
            world.ship(number, "700").await;
        }
        let (one, other) = (connect(&world.url).await, connect(&world.url).await);
        let cancelling = world.cancelling(whole).await;
        let (one, other) = tokio::join!(one.match_releases(2), other.match_releases(4));
        one.unwrap();
        other.unwrap();
        assert_eq!(cancelling.await.unwrap(), "cancelled", "a rest is left at every moment");
        world.fulfil().await;
        let intents = world.intents().await;
        let open: Vec<&String> = intents.iter().filter(|told| told.ends_with("held")).collect();
        assert!(open.is_empty(), "{intents:?}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn after_a_fail_over_what_is_left_is_looked_at_before_it_is_taken_back() {
    let (mut world, whole) = split_by(&[("1Z1", "1200")]).await;
    world.db.run("update capture.epoch set number = number + 1").await;
    assert_eq!(world.cancel(whole).await, "in_flight");
    assert_eq!(world.cancel(whole).await, "in_flight", "the wish is kept");
    let rest = world.id_of("after shipment 1Z1").await;
    // Afterpay's key may act for 23 hours: so long no read proves that it will not.
    assert_eq!(world.until_ended(rest, 30 * MINUTE).await, "cancelled");
    let ended = world.intents().await;
    assert_eq!(
        ended[1..],
        ["shipment 1Z1 1200 captured", "after shipment 1Z1 3800 cancelled"]
    );
    world.books_agree().await;
}

#[tokio::test]
async fn an_operators_cancel_of_what_was_split_stands_in_the_audit_of_what_it_took_back() {
    let (mut world, whole) = split_by(&[("1Z1", "1200")]).await;
    let rest = world.id_of("after shipment 1Z1").await;
    assert_eq!(world.outbox.cancel_by(whole, &stamp("ada")).await.unwrap(), "cancelled");
    assert_eq!(world.outbox.cancel_by(whole, &stamp("ada")).await.unwrap(), "ended");
    let audit = world
        .db
        .rows("select intent, detail - 'named', (detail ->> 'named')::uuid from capture.audit where action = 'cancel'")
        .await;
    let told: Vec<(Uuid, serde_json::Value, Uuid)> =
        audit.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(
        told,
        [(rest, serde_json::json!({"said": "cancelled", "before": "held"}), whole)]
    );
}

#[tokio::test]
async fn a_cancel_of_many_reaches_what_was_split_since_its_list_was_frozen_and_before() {
    for split_first in [false, true] {
        let (mut world, whole) = split_by(&[]).await;
        let choice = Choice::Ids(vec![whole]);
        if split_first {
            world.ship("1Z1", "1200").await;
            world.outbox.match_releases(10).await.unwrap();
            let (nobody, act) = (AbilitiesByLane::new(), Act::Cancel);
            let preview = operations::survey(&world.outbox, &nobody, &act, &choice, true, 100, &mut |_| {})
                .await
                .unwrap();
            assert_eq!((preview.will_act, preview.sums[0].amount_minor), (1, 3800));
        }
        let id = operations::begin(&world.outbox, request("ada", Act::Cancel, choice.clone()))
            .await
            .unwrap();
        if !split_first {
            world.ship("1Z1", "1200").await;
            world.outbox.match_releases(10).await.unwrap();
        }
        assert_eq!(world.carry_out(id).await, ["cancelled"]);
        // Once more: nobody is told that it was this one who cancelled it.
        let again = operations::begin(&world.outbox, request("bob", Act::Cancel, choice))
            .await
            .unwrap();
        assert_eq!(
            world.carry_out(again).await,
            ["skipped it was split, and nothing is left of it to take back"]
        );
        world.drain().await;
        assert_eq!(
            world.intents().await,
            [
                "c1 5000 cancelled",
                "shipment 1Z1 1200 captured",
                "after shipment 1Z1 3800 cancelled"
            ]
        );
        world.books_agree().await;
    }
}

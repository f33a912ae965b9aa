//! What a shipment captures by the rule of its account, what is split and what is left, and what nobody can place.

use std::time::Duration;

use capture::outbox::{AuditStamp, Matched, ShipmentMatch};
use capture::shipment::{Fulfilment, ReleaseOn, ShipmentAmount};
use sqlx::Row;
use uuid::Uuid;

use crate::database::Session;
use crate::kind::Kind;
use crate::releases::HELD;
use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
pub const PAYMENT: &str = "10010001";

impl World {
    pub async fn rule(&self, release_on: ReleaseOn, amount: ShipmentAmount) {
        let fulfilment = Fulfilment {
            release_on,
            amount,
            ..Fulfilment::default()
        };
        self.outbox
            .set_fulfilment(&Kind::Afterpay.lane(), fulfilment)
            .await
            .unwrap();
    }

    /// An event of the payment's parcel; `more`: columns and values as SQL.
    pub async fn parcel(&mut self, event: &str, number: &str, kind: &str, more: (&str, &str)) {
        let (columns, values) = more;
        self.db
            .run(&format!(
                "insert into capture.shipment_events (source, event_id, provider, payment_id, tracking_number, kind {columns})
                 values ('wms', '{event}', 'afterpay', '{PAYMENT}', '{number}', '{kind}' {values})"
            ))
            .await;
    }

    /// What is held of 50.00 that are authorised.
    pub async fn held_of(&mut self, reference: &str, minor: i64) -> Uuid {
        self.authorize(Kind::Afterpay, PAYMENT, 5000);
        let more = format!("{HELD}, authorized_minor => 5000");
        self.insert(Kind::Afterpay, PAYMENT, reference, minor, &more).await
    }

    /// Reference, amount and state of every intent, in the order in which they came.
    pub async fn intents(&mut self) -> Vec<String> {
        let sql =
            "select capture_ref || ' ' || amount_minor || ' ' || state from capture.status order by created_at, id";
        self.db.column(sql).await
    }

    async fn captured(&mut self) -> i64 {
        let sql = "select coalesce(sum(captured_minor), 0)::bigint from capture.outcomes where state = 'captured'";
        self.db.scalar(sql).await
    }

    async fn handled(&mut self) -> Vec<String> {
        let sql = "select coalesce(handling, 'open') from capture.shipment_events order by seq";
        self.db.column(sql).await
    }

    /// Shipment, state and what is said, of those that nothing came of.
    async fn unmatched(&mut self) -> Vec<String> {
        let rows = self.outbox.shipments(true, 100).await.unwrap();
        let told = rows.into_iter().map(|row| {
            assert_eq!(row.state, "unmatched");
            format!("{}: {}", row.id, row.says.unwrap_or_default())
        });
        told.collect()
    }

    async fn watch(&mut self) -> i32 {
        self.outbox.watch_shipments(HOUR, MONTH, 100).await.unwrap()
    }
}

fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "tess".to_owned(),
        reason: "the label had a misprint".to_owned(),
    }
}

#[tokio::test]
async fn nothing_is_released_before_a_worker_has_said_by_which_rule() {
    let mut world = World::new().await;
    world.held_of("c1", 5000).await;
    world
        .db
        .run("update capture.lanes set release_on = null, shipment_amount = null")
        .await;
    world.parcel("1", "1Z1", "shipped", ("", "")).await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 5000 held"]);
    world.rule(ReleaseOn::Shipped, ShipmentAmount::Explicit).await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 5000 captured"]);
}

#[tokio::test]
async fn an_account_may_wait_for_the_first_scan_and_then_releases_once() {
    let mut world = World::new().await;
    world.rule(ReleaseOn::FirstScan, ShipmentAmount::Explicit).await;
    world.held_of("c1", 2000).await;
    world.held_of("c2", 2000).await;
    world.parcel("1", "1Z1", "label_created", ("", "")).await;
    world.parcel("2", "1Z1", "shipped", ("", "")).await;
    for _ in 0..3 {
        world.fulfil().await;
        world.pass(HOUR).await;
    }
    assert_eq!(world.intents().await, ["c1 2000 held", "c2 2000 held"]);
    assert_eq!(world.watch().await, 0, "what waits for its scan is not missing");
    world.parcel("3", "1Z1", "in_transit", ("", "")).await;
    world.parcel("4", "1Z1", "delivered", ("", "")).await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 2000 captured", "c2 2000 held"]);
    // A scan that comes before the shipment is told is a scan.
    world.parcel("5", "1Z2", "in_transit", ("", "")).await;
    world.parcel("6", "1Z2", "shipped", ("", "")).await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 2000 captured", "c2 2000 captured"]);
    world.books_agree().await;
}

/// A deadline that is written, or a cancel that is open: what is in other hands is not left behind by what takes everything.
#[tokio::test]
async fn what_somebody_is_at_is_waited_for_and_not_passed_over() {
    let mut world = World::new().await;
    world.rule(ReleaseOn::Shipped, ShipmentAmount::FullOnFirst).await;
    world.held_of("c1", 2000).await;
    let second = world.held_of("c2", 3000).await;
    world.parcel("1", "1Z1", "shipped", ("", "")).await;
    let mut busy = Session::open(&world.url).await;
    busy.run("begin").await;
    busy.run(&format!(
        "select from capture.waiting where intent = '{second}' for update"
    ))
    .await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 2000 held", "c2 3000 held"]);
    busy.run("rollback").await;
    world.pass(Duration::from_secs(5)).await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 2000 captured", "c2 3000 captured"]);
    world.books_agree().await;
}

#[tokio::test]
async fn the_first_shipment_takes_everything_and_the_others_are_covered() {
    let mut world = World::new().await;
    world.rule(ReleaseOn::Shipped, ShipmentAmount::FullOnFirst).await;
    world.held_of("c1", 2000).await;
    world.held_of("c2", 3000).await;
    world.parcel("1", "1Z1", "shipped", (", amount_minor", ", '10'")).await;
    world.parcel("2", "1Z2", "shipped", ("", "")).await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 2000 captured", "c2 3000 captured"]);
    world.pass(2 * HOUR).await;
    assert_eq!((world.watch().await, world.unmatched().await), (0, vec![]));
    world.books_agree().await;
}

#[tokio::test]
async fn parts_are_split_off_and_the_last_takes_what_is_left_never_more_than_was_authorised() {
    let mut world = World::new().await;
    world.rule(ReleaseOn::Shipped, ShipmentAmount::RemainingOnFinal).await;
    let whole = world.held_of("c1", 5000).await;
    world
        .parcel("1", "1Z1", "shipped", (", amount_minor, currency", ", '1200', 'USD'"))
        .await;
    world.fulfil().await;
    let after_one = [
        "c1 5000 cancelled",
        "shipment 1Z1 1200 captured",
        "after shipment 1Z1 3800 held",
    ];
    assert_eq!(world.intents().await, after_one);
    // The same parcel again, and its scans: nothing more.
    world
        .parcel("1b", "1Z1", "in_transit", (", amount_minor", ", '1200'"))
        .await;
    world.fulfil().await;
    assert_eq!(world.intents().await, after_one);
    // One that says no amount goes with the last.
    world.parcel("2", "1Z2", "shipped", ("", "")).await;
    world.fulfil().await;
    assert_eq!(world.intents().await, after_one);
    world.parcel("3", "1Z3", "shipped", (", amount_minor", ", '800'")).await;
    world.parcel("4", "1Z4", "shipped", (", is_final", ", 'true'")).await;
    world.fulfil().await;
    assert_eq!(world.captured().await, 5000, "{:?}", world.intents().await);
    assert!(
        world
            .intents()
            .await
            .contains(&"after shipment 1Z3 3000 captured".to_owned())
    );
    let story = world.story(whole).await;
    assert_eq!(story, ["held", "cancelled split: shipment 1Z1 takes 1200 of 5000"]);
    world.pass(2 * HOUR).await;
    assert_eq!(
        (world.watch().await, world.unmatched().await),
        (0, vec![]),
        "1Z2 is covered"
    );
    world.books_agree().await;
}

#[tokio::test]
async fn the_last_may_be_told_first_and_nothing_is_captured_twice() {
    let mut world = World::new().await;
    world.rule(ReleaseOn::Shipped, ShipmentAmount::RemainingOnFinal).await;
    world.held_of("c1", 5000).await;
    world.parcel("2", "1Z2", "shipped", (", is_final", ", 'true'")).await;
    world.fulfil().await;
    world
        .parcel("1", "1Z1", "shipped", (", amount_minor", ", '1200'"))
        .await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 5000 captured"]);
    world.pass(2 * HOUR).await;
    assert_eq!((world.watch().await, world.unmatched().await), (0, vec![]));
    world.books_agree().await;
}

#[tokio::test]
async fn a_shipment_that_is_told_to_be_the_last_after_it_went_takes_the_rest_with_it() {
    let mut world = World::new().await;
    world.rule(ReleaseOn::Shipped, ShipmentAmount::LineItems).await;
    world.held_of("c1", 5000).await;
    world
        .parcel("1", "1Z1", "shipped", (", amount_minor", ", '1200'"))
        .await;
    world.fulfil().await;
    for event in ["2", "3"] {
        world.parcel(event, "1Z1", "delivered", (", is_final", ", 'yes'")).await;
        world.fulfil().await;
    }
    assert_eq!(world.captured().await, 5000);
    world.books_agree().await;
}

#[tokio::test]
async fn an_equal_amount_is_taken_before_a_larger_one_is_split_and_one_too_large_waits_for_a_person() {
    let mut world = World::new().await;
    world.rule(ReleaseOn::Shipped, ShipmentAmount::LineItems).await;
    world.held_of("c1", 3000).await;
    world.held_of("c2", 2000).await;
    world
        .parcel("1", "1Z1", "shipped", (", amount_minor", ", '2000'"))
        .await;
    world
        .parcel("2", "1Z2", "shipped", (", amount_minor", ", '3001'"))
        .await;
    world
        .parcel("3", "1Z3", "shipped", (", amount_minor", ", '12.34'"))
        .await;
    world
        .parcel("4", "1Z4", "shipped", (", amount_minor, currency", ", '100', 'EUR'"))
        .await;
    // What would be left is less than this provider captures.
    world
        .parcel("5", "1Z5", "shipped", (", amount_minor", ", '2999'"))
        .await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 3000 held", "c2 2000 captured"]);
    world.pass(2 * HOUR).await;
    assert_eq!(world.watch().await, 4);
    assert_eq!(world.watch().await, 0, "each is told once");
    let mut unmatched = world.unmatched().await;
    unmatched.sort();
    assert_eq!(
        unmatched,
        [
            "2: takes 3001, more than any capture that is held",
            "3: says no amount, and the rule of the account is line_items",
            "4: is in EUR, and what is held is not",
            "5: afterpay captures no less than 1.00 USD",
        ]
    );
    world.books_agree().await;
}

#[tokio::test]
async fn a_shipment_whose_payment_and_order_do_not_belong_together_releases_nothing_and_says_why() {
    let mut world = World::new().await;
    world.held_of("c1", 3000).await;
    let order: String = world.db.scalar("select order_id from capture.intents").await;
    world
        .parcel("1", "1Z1", "shipped", (", order_id", ", 'somebody-else'"))
        .await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 3000 held"]);
    world.pass(2 * HOUR).await;
    assert_eq!(world.watch().await, 1);
    let says = format!("1: payment {PAYMENT} has captures of order {order}, and none of order somebody-else");
    assert_eq!(world.unmatched().await, [says]);
    // The payment pays for that order too, as it turns out: its intent was late.
    world
        .db
        .run(&format!(
            "select capture.enqueue(provider => 'afterpay', order_id => 'somebody-else', payment_id => '{PAYMENT}', capture_ref => 'c2',
                 amount_minor => 1000, currency => 'USD', hold => 'shipment')"
        ))
        .await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 3000 held", "c2 1000 captured"]);
    world.books_agree().await;
}

#[tokio::test]
async fn two_workers_that_split_at_once_make_one_intent_of_each_shipment() {
    for _ in 0..5 {
        let mut world = World::new().await;
        world.rule(ReleaseOn::Shipped, ShipmentAmount::LineItems).await;
        world.held_of("c1", 5000).await;
        for n in 0..10 {
            let event = format!("{n}");
            world
                .parcel(&event, &format!("1Z{n}"), "shipped", (", amount_minor", ", '500'"))
                .await;
        }
        for _ in 0..12 {
            let matched = tokio::join!(
                world.outbox.take_shipments(3),
                world.outbox.take_shipments(100),
                world.outbox.match_releases(100),
                world.outbox.match_releases(100)
            );
            matched.0.unwrap();
            matched.1.unwrap();
            matched.2.unwrap();
            matched.3.unwrap();
            world.pass(Duration::from_secs(2)).await;
        }
        world.drain().await;
        assert_eq!(world.captured().await, 5000, "{:?}", world.intents().await);
        let parts: i64 = world
            .db
            .scalar("select count(*) from capture.status where state = 'captured' and amount_minor = 500")
            .await;
        assert_eq!(parts, 10);
        world.books_agree().await;
    }
}

#[tokio::test]
async fn what_is_held_from_before_a_fail_over_is_never_split() {
    for (rule, more) in [
        (ShipmentAmount::LineItems, (", amount_minor", ", '1200'")),
        // Of the same amount: a part of another amount may have gone before.
        (ShipmentAmount::LineItems, (", amount_minor", ", '5000'")),
        // And the last does not take the whole for the rest.
        (ShipmentAmount::RemainingOnFinal, (", is_final", ", 'true'")),
    ] {
        is_not_released_by_itself_after_a_fail_over(rule, more).await;
    }
}

async fn is_not_released_by_itself_after_a_fail_over(rule: ShipmentAmount, more: (&str, &str)) {
    let mut world = World::new().await;
    world.rule(ReleaseOn::Shipped, rule).await;
    let held = world.held_of("c1", 5000).await;
    world.db.run("update capture.epoch set number = number + 1").await;
    world.parcel("1", "1Z1", "shipped", more).await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 5000 held"], "{rule:?} {more:?}");
    let says: String = world.db.scalar("select says from capture.releases").await;
    assert!(says.contains("before a fail-over"), "{says}");
    // A person lets it go whole; it is read before it is sent.
    let said = ShipmentMatch {
        shipment: "1".to_owned(),
        payment_id: Some(PAYMENT.to_owned()),
        whole: true,
        ..ShipmentMatch::default()
    };
    assert_eq!(
        world.outbox.match_shipment(&said, &stamp()).await.unwrap(),
        Matched::Matched
    );
    world.fulfil().await;
    assert_eq!(world.until_ended(held, Duration::from_secs(600)).await, "captured");
    world.books_agree().await;
}

#[tokio::test]
async fn a_cancelled_shipment_is_withdrawn_until_a_carrier_proves_otherwise() {
    let mut world = World::new().await;
    world.parcel("1", "1Z1", "shipped", ("", "")).await;
    world.parcel("2", "1Z1", "cancelled", ("", "")).await;
    world.parcel("3", "1Z2", "cancelled", ("", "")).await;
    world.parcel("4", "1Z2", "shipped", ("", "")).await;
    world.fulfil().await;
    world.held_of("c1", 2000).await;
    world.pass(HOUR).await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 2000 held"]);
    assert_eq!(
        world.handled().await,
        [
            "released",
            "withdrawn",
            "withdrawn",
            "ignored: this shipment was cancelled"
        ]
    );
    assert_eq!((world.watch().await, world.unmatched().await), (0, vec![]));
    world.parcel("5", "1Z2", "in_transit", ("", "")).await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 2000 captured"]);
    world.parcel("6", "1Z2", "cancelled", ("", "")).await;
    world.fulfil().await;
    assert_eq!(world.handled().await[5], "too late: its capture was released");
}

#[tokio::test]
async fn a_parcel_that_two_sources_tell_in_their_own_words_releases_once() {
    let mut world = World::new().await;
    world.held_of("c1", 1000).await;
    world.held_of("c2", 1000).await;
    let shop = "insert into capture.shipment_events (source, event_id, provider, payment_id, order_id, shipment_ref, tracking_number, kind)";
    for (event, values) in [
        // The shop has no number yet, and then it has; the warehouse knows the number; a carrier knows nothing else.
        (
            "a",
            format!("('shop', 'a', 'afterpay', '{PAYMENT}', null, '77', null, 'shipped')"),
        ),
        (
            "b",
            format!("('shop', 'b', 'afterpay', '{PAYMENT}', null, '77', '1Z1', 'shipped')"),
        ),
        (
            "c",
            format!("('wms', 'c', 'afterpay', '{PAYMENT}', null, null, '1Z1', 'shipped')"),
        ),
        (
            "d",
            "('carrier', 'd', null, null, null, null, '1Z1', 'in_transit')".to_owned(),
        ),
        // By its order: another name for the same payment.
        (
            "e",
            format!("('erp', 'e', 'afterpay', null, 'order of {PAYMENT}', null, '1Z1', 'shipped')"),
        ),
    ] {
        world.db.run(&format!("{shop} values {values}")).await;
        world.fulfil().await;
        assert_eq!(world.intents().await, ["c1 1000 captured", "c2 1000 held"], "{event}");
    }
    world.pass(2 * HOUR).await;
    assert_eq!((world.watch().await, world.unmatched().await), (0, vec![]));
}

#[tokio::test]
async fn a_carrier_that_knows_the_parcel_alone_may_be_first() {
    let mut world = World::new().await;
    world.rule(ReleaseOn::FirstScan, ShipmentAmount::Explicit).await;
    world.held_of("c1", 1000).await;
    world
        .db
        .run("insert into capture.shipment_events (source, event_id, tracking_number, kind) values ('carrier', '1', '1Z1', 'in_transit')")
        .await;
    world.fulfil().await;
    assert_eq!(world.handled().await, ["ignored: provider is missing"]);
    // A label says whose parcel it is, and releases nothing by itself.
    world.parcel("2", "1Z1", "label_created", ("", "")).await;
    world.fulfil().await;
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 1000 captured"]);
    assert_eq!(world.handled().await, ["released", "ignored: goods have not left"]);
}

#[tokio::test]
async fn goods_that_left_without_a_capture_are_told_after_an_hour_and_a_person_says_whose_they_are() {
    let mut world = World::new().await;
    world
        .db
        .run(
            "insert into capture.shipment_events (source, event_id, provider, order_id, tracking_number) values
             ('wms', '1', 'afterpay', 'misprinted', '1Z1'), ('wms', '2', null, 'o-2', '1Z2'), ('wms', '3', 'afterpay', 'a gift', '1Z3')",
        )
        .await;
    let call = "select release_id from capture.release(provider => 'afterpay', order_id => 'nobody''s')";
    let by_call: i64 = world.db.scalar(call).await;
    world.fulfil().await;
    assert_eq!(world.watch().await, 0, "its capture may still come");
    world.pass(HOUR).await;
    assert_eq!(world.watch().await, 4);
    assert_eq!(world.watch().await, 0);
    let unmatched = world.outbox.unmatched_shipments().await.unwrap();
    assert_eq!(unmatched.shipments, 4);
    assert!(unmatched.oldest_s >= 3600);
    assert_eq!(world.unmatched().await.len(), 4);
    let told: Vec<String> = world
        .db
        .column(
            "select concat_ws(' ', intent_id, amount_minor, currency, order_id, data ->> 'says') from capture.events
             where type = 'capture.shipment_unmatched' order by order_id, seq",
        )
        .await;
    let nil = format!("{} 0 XXX", Uuid::nil());
    assert_eq!(
        told,
        [
            format!("{nil} a gift no capture of this payment is held"),
            format!("{nil} misprinted no capture of this payment is held"),
            format!("{nil} nobody's no capture of this payment is held"),
            format!("{nil} o-2 ignored: provider is missing"),
        ]
    );
    let checks = world.outbox.checks().await.unwrap();
    assert!(
        checks
            .iter()
            .any(|check| check.name == "shipment_unmatched" && check.intents == 4)
    );

    world.held_of("c1", 1000).await;
    world.held_of("c2", 1000).await;
    let of = |shipment: &str, provider: Option<&str>, payment: Option<&str>| ShipmentMatch {
        shipment: shipment.to_owned(),
        provider: provider.map(str::to_owned),
        payment_id: payment.map(str::to_owned),
        ..ShipmentMatch::default()
    };
    let outbox = world.outbox.clone();
    let say = async |said: ShipmentMatch| outbox.match_shipment(&said, &stamp()).await;
    assert!(
        say(of("2", None, Some(PAYMENT))).await.is_err(),
        "nobody has named a provider"
    );
    assert!(say(of("2", Some("nobody"), Some(PAYMENT))).await.is_err());
    assert_eq!(
        say(of("2", Some("afterpay"), Some(PAYMENT))).await.unwrap(),
        Matched::Matched
    );
    assert_eq!(say(of("1", None, Some(PAYMENT))).await.unwrap(), Matched::Matched);
    assert_eq!(say(of("3", None, None)).await.unwrap(), Matched::Dismissed);
    assert_eq!(
        say(of(&format!("r{by_call}"), None, None)).await.unwrap(),
        Matched::Dismissed
    );
    assert_eq!(say(of("99", None, None)).await.unwrap(), Matched::NotFound);
    world.fulfil().await;
    assert_eq!(world.intents().await, ["c1 1000 captured", "c2 1000 captured"]);
    assert_eq!(say(of("1", None, Some("10010002"))).await.unwrap(), Matched::Freed);
    assert_eq!(world.outbox.unmatched_shipments().await.unwrap().shipments, 0);
    assert_eq!((world.watch().await, world.unmatched().await), (0, vec![]));
    let audit = world
        .db
        .rows("select action, actor, reason from capture.audit where action like 'shipment%' order by id")
        .await;
    let acts: Vec<String> = audit.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        acts,
        [
            "shipment match",
            "shipment match",
            "shipment dismiss",
            "shipment dismiss"
        ]
    );
    assert!(
        audit
            .iter()
            .all(|row| row.get::<String, _>(1) == "tess" && !row.get::<String, _>(2).is_empty())
    );
    world.books_agree().await;
}

#[tokio::test]
async fn an_order_that_was_captured_at_once_misses_nothing_when_it_ships() {
    let mut world = World::new().await;
    world.authorize(Kind::Afterpay, PAYMENT, 5000);
    world.insert(Kind::Afterpay, PAYMENT, "c1", 5000, "").await;
    world.parcel("1", "1Z1", "shipped", ("", "")).await;
    world
        .db
        .run(&format!(
            "insert into capture.shipment_events (source, event_id, provider, order_id) values ('wms', '2', 'afterpay', 'order of {PAYMENT}')"
        ))
        .await;
    world.fulfil().await;
    world.pass(2 * HOUR).await;
    assert_eq!((world.watch().await, world.unmatched().await), (0, vec![]));
    // One whose capture was taken back, or refused, is another matter.
    let held = world.insert(Kind::Afterpay, "10010002", "c1", 100, HELD).await;
    world.outbox.cancel(held, "the order was cancelled").await.unwrap();
    world
        .db
        .run("insert into capture.shipment_events (source, event_id, provider, payment_id) values ('wms', '3', 'afterpay', '10010002')")
        .await;
    world.fulfil().await;
    world.pass(2 * HOUR).await;
    assert_eq!(world.watch().await, 1);
    assert_eq!(world.unmatched().await, ["3: "]);
}

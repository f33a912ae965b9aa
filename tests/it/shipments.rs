//! What the warehouse says becomes releases, and its data goes along with the capture.

use std::time::Duration;

use capture::outbox::HeldRelease;
use capture::simulator::{Authorization, Fault, Moment};
use uuid::Uuid;

use crate::database::Session;
use crate::kind::Kind;
use crate::releases::HELD;
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

impl World {
    /// An event of the warehouse; `columns` and `values` as SQL.
    async fn shipment_event(&mut self, columns: &str, values: &str) {
        self.db
            .run(&format!(
                "insert into capture.shipment_events (source, {columns}) values ('wms', {values})"
            ))
            .await;
    }
}

#[tokio::test]
async fn goods_that_left_free_a_capture_and_a_label_frees_nothing() {
    for (kind, frees) in [
        ("'shipped'", true),
        ("'in_transit'", true),
        ("'delivered'", true),
        ("' Shipped '", true),
        ("null", true),
        ("'label_created'", false),
        ("'picked'", false),
        ("'returned'", false),
        ("''", false),
    ] {
        let mut world = World::new().await;
        let intent = world.held(1, "c1").await;
        let values = format!("'1', 'afterpay', '10010001', {kind}");
        world
            .shipment_event("event_id, provider, payment_id, kind", &values)
            .await;
        world.fulfil().await;
        let state = world.state(intent).await;
        assert_eq!(state == "captured", frees, "{kind}: {state}");
        let open: i64 = world
            .db
            .scalar("select count(*) from capture.shipment_events where handled_at is null")
            .await;
        assert_eq!(open, 0, "{kind} is noted");
    }
}

#[tokio::test]
async fn a_parcel_frees_one_capture_whatever_becomes_of_it_and_parcels_without_a_number_one_each() {
    let mut world = World::new().await;
    let intents = [
        world.held(1, "c1").await,
        world.held(1, "c2").await,
        world.held(1, "c3").await,
        world.held(1, "c4").await,
    ];
    let columns = "event_id, provider, payment_id, kind, tracking_number";
    for (event, kind) in [(1, "shipped"), (2, "in_transit"), (3, "delivered")] {
        let values = format!("'{event}', 'afterpay', '10010001', '{kind}', '1Z999'");
        world.shipment_event(columns, &values).await;
        world.fulfil().await;
    }
    assert_eq!(world.states(&intents).await, ["captured", "held", "held", "held"]);
    // An empty number is no number.
    for (event, number) in [(4, "''"), (5, "' '"), (6, "''")] {
        let values = format!("'{event}', 'afterpay', '10010001', 'shipped', {number}");
        world.shipment_event(columns, &values).await;
    }
    world.fulfil().await;
    assert_eq!(world.states(&intents).await, ["captured"; 4]);
}

#[tokio::test]
async fn events_that_say_too_little_are_noted_and_stop_nobody() {
    let mut world = World::new().await;
    let intent = world.held(1, "c1").await;
    world.shipment_event("event_id", "'1'").await;
    world
        .shipment_event("event_id, provider, kind", "'2', 'afterpay', 'shipped'")
        .await;
    world
        .shipment_event("event_id, payment_id, kind", "'3', '10010001', 'shipped'")
        .await;
    world
        .shipment_event("provider, payment_id, kind", "'nobody', '1', 'shipped'")
        .await;
    world
        .shipment_event("event_id, provider, payment_id", "'4', ' afterpay ', ' 10010001 '")
        .await;
    world.fulfil().await;
    assert_eq!(world.state(intent).await, "captured");
    let handling: Vec<String> = world
        .db
        .column("select coalesce(handling, '') from capture.shipment_events order by seq")
        .await;
    assert_eq!(
        handling,
        [
            "ignored: provider is missing",
            "ignored: neither order_id nor payment_id",
            "ignored: provider is missing",
            "released",
            "released"
        ]
    );
}

#[tokio::test]
async fn shipping_data_goes_along_where_the_capture_takes_it_and_a_repeat_carries_the_same() {
    let mut world = World::new().await;
    let order = Kind::Optty.payment(1);
    let mut authorization = Authorization::new(Kind::Optty.provider_name(), order.clone(), 5000, "USD");
    authorization.requires_shipping = true;
    world.simulator.create_authorization(authorization);
    world
        .simulator
        .script(order.as_str(), [Fault::Reset(Moment::Before), Fault::None]);
    let intent = world.insert(Kind::Optty, &order, "c1", 1000, HELD).await;
    let release = HeldRelease {
        provider: "optty".to_owned(),
        payment_id: Some(order.clone()),
        shipping: Some(("UPS".to_owned(), "Ground".to_owned(), "1Z 999/ä".to_owned())),
        ..HeldRelease::default()
    };
    world.outbox.release(&release).await.unwrap();
    world.fulfil().await;
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    let requests = world.simulator.requests();
    let mut bodies: Vec<_> = requests
        .iter()
        .filter(|request| request.path.ends_with("/capture"))
        .map(|request| &request.body_sha256)
        .collect();
    assert_eq!(bodies.len(), 2);
    bodies.dedup();
    assert_eq!(bodies.len(), 1);

    // Half of it is nothing, and so are blanks.
    for (n, (company, method, number)) in (2..).zip([("UPS", "", ""), ("", " ", ""), ("UPS", "Ground", "")]) {
        let order = Kind::Optty.payment(n);
        world.authorize(Kind::Optty, &order, 5000);
        let half = world.insert(Kind::Optty, &order, "c1", 1000, HELD).await;
        let columns = "event_id, provider, payment_id, company, method, tracking_number";
        let values = format!("'{n}', 'optty', '{order}', '{company}', '{method}', '{number}'");
        world.shipment_event(columns, &values).await;
        world.fulfil().await;
        assert_eq!(world.end(half).await, "captured");
    }
    let order = Kind::Optty.payment(9);
    world.authorize(Kind::Optty, &order, 5000);
    let blank = world.insert(Kind::Optty, &order, "c1", 1000, HELD).await;
    let release = HeldRelease {
        provider: "optty".to_owned(),
        payment_id: Some(order),
        shipping: Some((String::new(), " ".to_owned(), String::new())),
        ..HeldRelease::default()
    };
    world.outbox.release(&release).await.unwrap();
    world.fulfil().await;
    assert_eq!(world.end(blank).await, "captured");
}

/// The trigger of the documents, as it stands there.
fn template() -> String {
    let text = include_str!("../../docs/fulfilment.md");
    let from = text.find("create function shop.tell_capture()").unwrap();
    let length = text[from..].find("```").unwrap();
    text[from..from + length].to_owned()
}

#[tokio::test]
async fn a_trigger_on_the_shops_own_table_releases_and_never_fails_a_write_of_the_warehouse() {
    let mut world = World::new().await;
    let role = format!("warehouse_{}", Uuid::new_v4().simple());
    world
        .db
        .run(&format!(
            "create schema shop;
             create table shop.shipments (id bigint primary key, order_id text, status text, carrier text, service text, tracking_number text);
             {};
             create role {role}_owner; grant capture_fulfilment to {role}_owner; grant usage, create on schema shop to {role}_owner;
             alter function shop.tell_capture() owner to {role}_owner;
             create role {role}; grant usage on schema shop to {role}; grant select, insert, update on shop.shipments to {role}",
            template()
        ))
        .await;
    let intents = [world.held(1, "c1").await, world.held(1, "c2").await];
    let order = "order of 10010001";
    let mut warehouse = Session::open(&world.url).await;
    warehouse.run(&format!("set role {role}")).await;
    warehouse
        .run(&format!(
            "insert into shop.shipments values (1, '{order}', 'label_created', 'UPS', 'Ground', null)"
        ))
        .await;
    world.fulfil().await;
    assert_eq!(world.states(&intents).await, ["held", "held"], "a label is no shipment");
    for status in ["shipped", "in_transit", "delivered", "shipped"] {
        warehouse
            .run(&format!("update shop.shipments set status = '{status}'"))
            .await;
        world.fulfil().await;
    }
    assert_eq!(
        world.states(&intents).await,
        ["captured", "held"],
        "one shipment, one capture"
    );

    // Whatever is wrong on our side, the warehouse goes on.
    world
        .db
        .run("revoke all on capture.shipment_events from capture_fulfilment")
        .await;
    warehouse
        .run(&format!(
            "insert into shop.shipments values (2, '{order}', 'shipped', null, null, null)"
        ))
        .await;
    world.db.run("drop table capture.shipment_events cascade").await;
    warehouse
        .run(&format!(
            "insert into shop.shipments values (3, '{order}', 'shipped', null, null, null)"
        ))
        .await;
    let rows: i64 = warehouse.scalar("select count(*) from shop.shipments").await;
    assert_eq!(rows, 3);
    world
        .db
        .run(&format!(
            "drop owned by {role}, {role}_owner cascade; drop role {role}, {role}_owner"
        ))
        .await;
}

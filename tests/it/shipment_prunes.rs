//! What a prune takes of shipments. What is gone is not known when it is repeated: so nothing goes that a repeat could free.

use std::collections::BTreeMap;
use std::time::Duration;

use capture::outbox::{AuditStamp, ShipmentMatch, ShipmentPart};
use capture::simulator::Fault;
use uuid::Uuid;

use crate::kind::Kind;
use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "tess".to_owned(),
        reason: "the yearly clean-up".to_owned(),
    }
}

impl World {
    /// The warehouse tells of a parcel of a payment.
    async fn tell(&mut self, event: &str, n: u32, kind: &str) {
        let payment = Kind::Afterpay.payment(n);
        self.db
            .run(&format!(
                "insert into capture.shipment_events (source, event_id, provider, payment_id, kind, tracking_number)
                 values ('wms', '{event}', 'afterpay', '{payment}', '{kind}', 'parcel {n}') on conflict do nothing"
            ))
            .await;
    }

    /// A step at a time; gives how many went of what.
    async fn prune_shipments(&mut self, older: Duration) -> BTreeMap<&'static str, i64> {
        let would = self.outbox.would_prune(older).await.unwrap();
        let audit = self.outbox.begin_prune(older, false, &stamp()).await.unwrap();
        let mut gone = BTreeMap::new();
        for part in ShipmentPart::ALL {
            let name = match part {
                ShipmentPart::Releases => "releases",
                ShipmentPart::Shipments => "shipments",
                ShipmentPart::Bodies => "bodies",
                ShipmentPart::Unmatched => "unmatched",
            };
            let (mut sum, mut after) = (0, None);
            loop {
                let (rows, next) = self.outbox.prune_shipments_some(audit, part, after, 2).await.unwrap();
                sum += rows;
                after = next;
                if after.is_none() {
                    break;
                }
            }
            gone.insert(name, sum);
        }
        assert_eq!(
            (gone["releases"], gone["shipments"]),
            (would.releases, would.shipments),
            "the preview"
        );
        gone
    }

    /// The parcels that are still known, by their payment.
    async fn known(&mut self, table: &str) -> Vec<u32> {
        let column = if table == "releases" {
            "parcel"
        } else {
            "tracking_number"
        };
        let parcels: Vec<String> = self
            .db
            .column(&format!(
                "select distinct {column} from capture.{table} where {column} is not null order by 1"
            ))
            .await;
        parcels
            .iter()
            .map(|parcel| parcel["parcel ".len()..].parse().unwrap())
            .collect()
    }
}

#[tokio::test]
async fn a_prune_takes_shipments_that_are_done_with_after_ninety_days_and_nothing_that_may_still_free_a_capture() {
    let mut world = World::new().await;
    // 1: released and captured. 2: a second capture of the payment is still held. 3: nothing of that payment is known.
    let captured = world.held(1, "c1").await;
    let (first, second) = (world.held(2, "c1").await, world.held(2, "c2").await);
    // 4: captured without its shipment. 5: cancelled before anything was asked for. 6: cancelled, and still held.
    world.capture(Kind::Afterpay, 4, 1000).await;
    let kept = world.held(6, "c1").await;
    // 7: released, and refused by the provider: a replay would send its shipping data.
    let dead = world.held(7, "c1").await;
    let refused = Fault::Refuse(412, "invalid_state");
    world.simulator.script(Kind::Afterpay.payment(7).as_str(), [refused]);
    // 8: nothing of that payment is known, and a person has said that nothing need be.
    for n in [1, 2, 3, 4, 7, 8] {
        world.tell(&format!("shipped {n}"), n, "shipped").await;
    }
    for n in [5, 6] {
        world.tell(&format!("cancelled {n}"), n, "cancelled").await;
    }
    // 9: a label, of goods that leave one day. 10: a label of goods that have not been asked for.
    let later = world.held(9, "c1").await;
    for n in [9, 10] {
        world.tell(&format!("label {n}"), n, "label_created").await;
    }
    world.fulfil().await;
    world.fulfil().await;
    world.pass(2 * HOUR).await;
    assert_eq!(
        world.outbox.watch_shipments(HOUR, 30 * DAY, 100).await.unwrap(),
        2,
        "3 and 8"
    );
    let eighth: String = world
        .db
        .scalar("select seq::text from capture.shipment_events where tracking_number = 'parcel 8'")
        .await;
    let of_nobody = ShipmentMatch {
        shipment: eighth,
        provider: None,
        account: None,
        order_id: None,
        payment_id: None,
        whole: false,
    };
    world.outbox.match_shipment(&of_nobody, &stamp()).await.unwrap();
    let all = [captured, first, second, kept, dead, later];
    let states = ["captured", "captured", "held", "held", "dead", "held"];
    assert_eq!(world.states(&all).await, states);

    // For ninety days every repeat is known, however short the span; what the feed told of the dismissed one is gone.
    world.pass(80 * DAY).await;
    let gone = world.prune_shipments(10 * DAY).await;
    assert_eq!(
        gone,
        BTreeMap::from([("releases", 0), ("shipments", 0), ("bodies", 0), ("unmatched", 1)])
    );

    world.pass(20 * DAY).await;
    let gone = world.prune_shipments(10 * DAY).await;
    assert_eq!(
        gone,
        BTreeMap::from([("releases", 4), ("shipments", 5), ("bodies", 0), ("unmatched", 0)])
    );
    assert_eq!(world.known("releases").await, [2, 3, 6, 7]);
    assert_eq!(world.known("shipment_events").await, [2, 3, 6, 7, 9]);
    let told: i64 = world
        .db
        .scalar("select count(*) from capture.events where type = 'capture.shipment_unmatched'")
        .await;
    assert_eq!(told, 1, "that of what is still unmatched");

    // Whatever is told again now, under the old id or a new one, nothing more goes.
    for n in [1, 2, 4, 5, 6] {
        world.tell(&format!("shipped {n}"), n, "shipped").await;
        world.tell(&format!("shipped {n} once more"), n, "shipped").await;
    }
    world.fulfil().await;
    assert_eq!(world.states(&all).await, states);
    world.books_agree().await;
}

#[tokio::test]
async fn a_shipment_by_call_is_pruned_as_one_by_event_and_open_ones_stay() {
    let mut world = World::new().await;
    let held = world.held(1, "c1").await;
    for n in [1, 2] {
        let payment = Kind::Afterpay.payment(n);
        let release =
            format!("select capture.release(provider => 'afterpay', payment_id => '{payment}', shipment_ref => 's')");
        world.db.run(&release).await;
    }
    world.fulfil().await;
    assert_eq!(world.state(held).await, "captured");
    world.pass(200 * DAY).await;
    let gone = world.prune_shipments(180 * DAY).await;
    assert_eq!(gone["releases"], 1);
    // What it waits for may be asked for today.
    let late = world.held(2, "c1").await;
    world.pass(HOUR).await;
    world.fulfil().await;
    assert_eq!(world.state(late).await, "captured");
    let unannounced = world
        .outbox
        .prune_shipments_some(1_000, ShipmentPart::Releases, None, 10)
        .await;
    assert_eq!(unannounced.unwrap_err().refusal().unwrap().sqlstate, "22023");
}

#[tokio::test]
async fn what_is_left_of_a_body_goes_with_its_shipment() {
    let mut world = World::new().await;
    let held: Uuid = world.held(1, "c1").await;
    let payment = Kind::Afterpay.payment(1);
    let receive = |digest: &str, fault: &str| {
        format!(
            "select capture.receive_shipment('shop', '{digest}', sha256('{digest}'), '{{}}', {fault},
                 '{{\"provider\": \"afterpay\", \"payment_id\": \"{payment}\", \"kind\": \"shipped\", \"tracking_number\": \"parcel 1\"}}')"
        )
    };
    world.db.run(&receive("e1", "null")).await;
    world.db.run(&receive("e2", "'no shipment'")).await;
    world.fulfil().await;
    assert_eq!(world.state(held).await, "captured");
    world.pass(80 * DAY).await;
    let gone = world.prune_shipments(10 * DAY).await;
    assert_eq!((gone["shipments"], gone["bodies"]), (0, 0));
    let again: Option<i64> = world.db.scalar(&receive("e1", "null")).await;
    assert_eq!(again, None, "known after eighty days");
    world.pass(20 * DAY).await;
    let gone = world.prune_shipments(10 * DAY).await;
    assert_eq!((gone["releases"], gone["shipments"], gone["bodies"]), (1, 1, 2));
}

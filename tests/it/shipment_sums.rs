//! A held capture that was split counts no more: its two parts do, wherever money is summed.

use std::time::Duration;

use capture::shipment::{ReleaseOn, ShipmentAmount};

use crate::kind::Kind;
use crate::releases::HELD;
use crate::shipment_rules::PAYMENT;
use crate::world::World;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl World {
    /// Captured, held, on its way, unknown, dead: of the one payment of the order.
    async fn ledger(&self) -> [i64; 5] {
        let order = format!("order of {PAYMENT}");
        let ledger = self.outbox.order(&order, None, None).await.unwrap().unwrap();
        let [payment] = &ledger.payments[..] else {
            panic!("not one payment: {ledger:?}")
        };
        assert_eq!(payment.authorized_minor, Some(5000));
        [
            payment.captured_minor,
            payment.held_minor,
            payment.open_minor,
            payment.unknown_minor,
            payment.dead_minor,
        ]
    }

    /// What each row of the money at risk is for, how many captures, and their sum.
    async fn at_risk(&self) -> Vec<String> {
        let rows = self.outbox.risk(Some(DAY)).await.unwrap().rows;
        rows.into_iter()
            .map(|row| format!("{} {} {}", row.reason, row.captures, row.amount_minor))
            .collect()
    }

    /// The same as the gauge has it, and how many captures the check of near deadlines counts.
    async fn gauged(&self) -> (i64, i64) {
        let minor = self
            .outbox
            .at_risk()
            .await
            .unwrap()
            .iter()
            .map(|sum| sum.day_minor)
            .sum();
        let checks = self.outbox.checks().await.unwrap();
        let near = checks.iter().find(|check| check.name == "deadline_near");
        (minor, near.map_or(0, |check| check.intents))
    }
}

#[tokio::test]
async fn no_sum_of_money_counts_a_held_capture_beside_the_parts_that_replace_it() {
    let mut world = World::new().await;
    world.rule(ReleaseOn::Shipped, ShipmentAmount::LineItems).await;
    world.authorize(Kind::Afterpay, PAYMENT, 5000);
    let more = format!("{HELD}, authorized_minor => 5000, authorization_expires_at => now() + interval '20 hours'");
    world.insert(Kind::Afterpay, PAYMENT, "c1", 5000, &more).await;
    assert_eq!(world.ledger().await, [0, 5000, 0, 0, 0]);
    assert_eq!(
        (world.at_risk().await, world.gauged().await),
        (vec!["held 1 5000".to_owned()], (5000, 1))
    );

    world
        .parcel("1", "1Z1", "shipped", (", amount_minor", ", '1200'"))
        .await;
    world.outbox.take_shipments(10).await.unwrap();
    assert_eq!(world.outbox.match_releases(10).await.unwrap(), 1);
    assert_eq!(world.ledger().await, [0, 3800, 1200, 0, 0]);
    assert_eq!(world.at_risk().await, ["held 1 3800", "scheduled 1 1200"]);
    assert_eq!(world.gauged().await, (5000, 2));

    world.drain().await;
    assert_eq!(
        world.intents().await,
        [
            "c1 5000 cancelled",
            "shipment 1Z1 1200 captured",
            "after shipment 1Z1 3800 held"
        ]
    );
    assert_eq!(world.ledger().await, [1200, 3800, 0, 0, 0]);
    assert_eq!(
        (world.at_risk().await, world.gauged().await),
        (vec!["held 1 3800".to_owned()], (3800, 1))
    );
    world.books_agree().await;
}

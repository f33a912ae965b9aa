use std::time::Duration;

use chrono::Utc;

use super::*;
use crate::cli::demo::orders::Fate;
use crate::intent::{Currency, Money};
use crate::simulator::{Model, ProviderName};

/// One order of 50.00 USD at Afterpay, and what each side says of it.
struct World {
    plan: Plan,
    sales: Sales,
    orders: Vec<String>,
    rows: Vec<CaptureRow>,
    seen: Seen,
    ledger: Vec<LedgerEntry>,
}

impl World {
    fn captured() -> World {
        let intent = Uuid::new_v4();
        let order = Order {
            order_id: "A-1001".to_owned(),
            way: Way::Afterpay,
            payment_id: "400101001".to_owned(),
            fate: Fate::Plain,
            captures: vec![Money::new(5000, Currency::from_code("USD").unwrap())],
        };
        let mut world = World {
            plan: Plan {
                length: Duration::from_secs(1),
                orders: vec![order],
                deeds: Vec::new(),
                troubles: Vec::new(),
            },
            sales: Sales {
                asked: vec![Asked {
                    order: 0,
                    capture: 0,
                    intent,
                }],
                ..Sales::default()
            },
            orders: vec!["A-1001".to_owned()],
            rows: vec![row(intent)],
            seen: Seen::default(),
            ledger: vec![entry(&intent.to_string())],
        };
        world.told(End::Captured { minor: 5000 });
        world
    }

    fn dead(reason: &str) -> World {
        let mut world = World::captured();
        world.rows[0].state = "dead".to_owned();
        world.rows[0].dead_reason = Some(reason.to_owned());
        world.rows[0].captured_minor = None;
        world.ledger.clear();
        world.told(End::Dead {
            reason: reason.to_owned(),
        });
        world
    }

    fn told(&mut self, end: End) {
        self.seen.ends.insert(self.sales.asked[0].intent, vec![end]);
    }

    fn books(&self) -> Books {
        Books::compare(&Sides {
            plan: &self.plan,
            sales: &self.sales,
            orders: &self.orders,
            rows: &self.rows,
            seen: &self.seen,
            ledger: &self.ledger,
        })
    }

    /// The kinds of what does not fit.
    fn differences(&self) -> Vec<Difference> {
        self.books().differences.into_iter().map(|(what, _)| what).collect()
    }
}

fn row(id: Uuid) -> CaptureRow {
    CaptureRow {
        id,
        provider: "afterpay".to_owned(),
        account: "default".to_owned(),
        order_id: "A-1001".to_owned(),
        payment_id: "400101001".to_owned(),
        capture_ref: "A-1001".to_owned(),
        amount_minor: 5000,
        currency: "USD".to_owned(),
        state: "captured".to_owned(),
        attempts: 1,
        last_class: None,
        last_code: None,
        next_attempt_at: None,
        captured_minor: Some(5000),
        provider_capture_id: Some("c-1".to_owned()),
        captured_at: None,
        dead_reason: None,
        created_at: Utc::now(),
        authorization_expires_at: None,
        expiry_source: None,
        cancel_requested_at: None,
    }
}

fn entry(reference: &str) -> LedgerEntry {
    LedgerEntry {
        provider: ProviderName::Afterpay,
        model: Some(Model::Afterpay),
        account: None,
        payment_id: "400101001".to_owned(),
        capture_id: Uuid::new_v4().to_string(),
        reference: Some(reference.to_owned()),
        key: None,
        amount_minor: 5000,
        currency: "USD".to_owned(),
        captured_at: Utc::now(),
        writer: Writer::Ours,
    }
}

#[test]
fn a_capture_that_all_sides_know_agrees() {
    let books = World::captured().books();
    assert!(books.agree(), "{:?}", books.differences);
    assert_eq!(books.captured, books.ledger);
    assert_eq!((books.captured.count, books.captured.minor["USD"]), (1, 5000));
}

#[test]
fn money_that_moved_twice_or_never_or_in_another_amount_is_named() {
    let mut twice = World::captured();
    twice.ledger.push(twice.ledger[0].clone());
    assert_eq!(twice.differences(), [Difference::Doubled]);

    let mut never = World::captured();
    never.ledger.clear();
    assert_eq!(never.differences(), [Difference::Invented]);
    assert!(never.books().differences[0].1.contains("A-1001 (Afterpay, 50.00 USD)"));

    let mut less = World::captured();
    less.ledger[0].amount_minor = 4999;
    assert_eq!(less.differences(), [Difference::Amount]);

    let mut recorded_less = World::captured();
    recorded_less.rows[0].captured_minor = Some(4999);
    assert_eq!(recorded_less.differences(), [Difference::Amount]);
}

#[test]
fn a_dead_letter_whose_money_moved_is_lost_unless_it_says_that_it_does_not_know() {
    for reason in ["rejected", "exhausted", "expired", "captured_elsewhere", "poison"] {
        let mut world = World::dead(reason);
        assert_eq!(world.differences(), [], "{reason}");
        world.ledger.push(entry(&world.sales.asked[0].intent.to_string()));
        assert_eq!(world.differences(), [Difference::Lost], "{reason}");
    }
    let mut undecided = World::dead("undecided");
    undecided
        .ledger
        .push(entry(&undecided.sales.asked[0].intent.to_string()));
    let books = undecided.books();
    assert!(books.agree());
    assert!(matches!(books.left_to_a_person.as_slice(), [(_, true)]));
}

#[test]
fn what_was_committed_and_is_gone_or_never_ends_is_named() {
    let mut gone = World::captured();
    gone.rows.clear();
    assert!(gone.differences().contains(&Difference::Lost));

    let mut no_order = World::captured();
    no_order.orders.clear();
    assert_eq!(no_order.differences(), [Difference::Lost]);

    let mut open = World::captured();
    open.rows[0].state = "verifying".to_owned();
    open.seen.ends.clear();
    assert_eq!(open.differences(), [Difference::Open]);
}

#[test]
fn what_nobody_asked_for_is_named() {
    let mut stranger = World::captured();
    stranger.ledger.push(entry("somebody"));
    assert_eq!(stranger.differences(), [Difference::LeftBehind]);

    let mut foreign = World::captured();
    foreign.ledger.push(LedgerEntry {
        writer: Writer::Foreign,
        ..entry("somebody")
    });
    assert_eq!(foreign.differences(), []);
    assert_eq!(foreign.books().elsewhere.count, 1);

    let mut rolled_back = World::captured();
    rolled_back.sales = Sales {
        rolled_back: vec![0],
        ..Sales::default()
    };
    // The order, the intent and the capture are all still there.
    assert_eq!(rolled_back.differences(), [Difference::LeftBehind; 3]);
    rolled_back.orders.clear();
    rolled_back.rows.clear();
    rolled_back.ledger.clear();
    assert_eq!(rolled_back.differences(), []);
}

#[test]
fn a_feed_that_misses_repeats_or_changes_an_end_is_named() {
    let mut missed = World::captured();
    missed.seen.ends.clear();
    assert_eq!(missed.differences(), [Difference::Feed]);

    let mut twice = World::captured();
    twice.seen.ends.values_mut().for_each(|ends| ends.push(ends[0].clone()));
    assert_eq!(twice.differences(), [Difference::Feed]);

    let mut other = World::captured();
    other.told(End::Cancelled);
    assert_eq!(other.differences(), [Difference::Feed]);

    let mut repeated = World::captured();
    repeated.seen.repeated = 1;
    assert_eq!(repeated.differences(), [Difference::Feed]);
}

#[test]
fn a_capture_under_a_second_key_of_the_same_intent_is_a_double() {
    let mut world = World::captured();
    let intent = IntentId(world.sales.asked[0].intent);
    let mut second = entry("other");
    second.key = Some(intent.key(KeyGeneration(1)).to_string());
    world.ledger.push(second);
    assert_eq!(world.differences(), [Difference::Doubled]);
}

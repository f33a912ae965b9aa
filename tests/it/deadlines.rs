//! When an authorisation ends: as the producer said, as the provider told, or as the account assumes.

use std::time::Duration;

use capture::outbox::{Hours, ToldDeadline};
use capture::outcome::Evidence;
use capture::retry::{DeadReason, Disposition};
use capture::simulator::{Authorization, Fault};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::by_hand::{receipt, settlement};
use crate::kind::Kind;
use crate::world::{Plan, World};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MARGIN: Duration = Duration::from_secs(60);
const HELD: &str = ", hold => 'shipment'";

impl World {
    async fn assuming(lifetime: Duration) -> World {
        World::of(Plan {
            authorization_lifetime: Some(lifetime),
            ..Plan::default()
        })
        .await
    }

    /// What upkeep does.
    async fn look_ahead(&self) {
        let mut after = None;
        loop {
            after = self.outbox.assume_deadlines(after, 3).await.unwrap();
            if after.is_none() {
                break;
            }
        }
        self.outbox.watch_deadlines(MARGIN, 100).await.unwrap();
        self.outbox.watch_dead_letters(100).await.unwrap();
    }

    /// In how many hours from when the test began it ends, and who said so.
    async fn ends(&mut self, intent: Uuid) -> String {
        let row = self.outbox.capture(intent).await.unwrap().unwrap();
        let Some(at) = row.authorization_expires_at else {
            assert_eq!(row.expiry_source, None);
            return "unknown".to_owned();
        };
        let began: DateTime<Utc> = self.db.scalar("select min(created_at) from capture.intents").await;
        let hours = ((at - began).num_minutes() + 5) / 60;
        format!("{hours} h {}", row.expiry_source.unwrap())
    }

    async fn tell_end(&mut self, intent: Uuid, hours: i64) -> i32 {
        let at: DateTime<Utc> = self
            .db
            .scalar(&format!("select capture.clock_now() + interval '{hours} hours'"))
            .await;
        self.tell_at(intent, at).await
    }

    async fn tell_at(&self, intent: Uuid, at: DateTime<Utc>) -> i32 {
        let told = ToldDeadline {
            intent: capture::intent::IntentId(intent),
            expires_at: at,
        };
        self.outbox.tell_deadlines(&[told]).await.unwrap()
    }

    /// `48 assumed held`, as the feed told of it.
    async fn told_of(&mut self, intent: Uuid) -> Vec<String> {
        self.db
            .column(&format!(
                "select (data ->> 'within_hours') || ' ' || (data ->> 'source') || ' ' || (data ->> 'state')
                 from capture.events where type = 'capture.auth_expiring' and intent_id = '{intent}' order by seq"
            ))
            .await
    }

    /// As [`World::authorize`], of an authorisation that ends so much later.
    async fn authorize_until(&mut self, kind: Kind, payment: &str, hours: i64) {
        let at: DateTime<Utc> = self
            .db
            .scalar(&format!("select capture.clock_now() + interval '{hours} hours'"))
            .await;
        let authorization = Authorization::new(kind.provider_name(), payment, 5000, "USD");
        self.simulator.create_authorization(authorization.expiring_at(at));
    }
}

#[tokio::test]
async fn of_two_known_ends_the_earlier_counts_and_an_assumed_one_only_where_nobody_said_anything() {
    // Producer, provider, account, in hours; what counts, in an order in which each is heard.
    let rows = [
        (None, None, None, "unknown"),
        (None, None, Some(240), "240 h assumed"),
        (None, Some(300), None, "300 h provider"),
        (None, Some(300), Some(240), "300 h provider"),
        (None, Some(100), Some(240), "100 h provider"),
        (Some(200), None, None, "200 h producer"),
        (Some(200), None, Some(100), "200 h producer"),
        (Some(200), Some(100), Some(240), "100 h provider"),
        (Some(200), Some(300), Some(100), "200 h producer"),
    ];
    for (producer, provider, account, expected) in rows {
        for told_first in [false, true] {
            let mut world = World::of(Plan {
                authorization_lifetime: account.map(|hours| HOUR * hours),
                ..Plan::default()
            })
            .await;
            let more = producer.map_or(String::new(), |hours| {
                format!(", authorization_expires_at => now() + interval '{hours} hours'")
            });
            let payment = Kind::Afterpay.payment(1);
            let intent = world
                .insert(Kind::Afterpay, &payment, "c", 1000, &format!("{HELD}{more}"))
                .await;
            if !told_first {
                world.look_ahead().await;
            }
            if let Some(hours) = provider {
                world.tell_end(intent, hours).await;
                assert_eq!(
                    world.tell_end(intent, hours + 1).await,
                    i32::from(expected.contains("provider")),
                    "another end"
                );
                world.tell_end(intent, hours).await;
            }
            world.look_ahead().await;
            let row = format!("{producer:?} {provider:?} {account:?} {told_first}");
            assert_eq!(world.ends(intent).await, expected, "{row}");
            // What stops a send is what is known.
            world.outbox.cancel(intent, "test").await.unwrap();
            assert_eq!(
                world.db.scalar::<i64>("select count(*) from capture.deadlines").await,
                0,
                "{row}"
            );
        }
    }
}

#[tokio::test]
async fn only_the_producers_word_is_handed_to_the_worker_that_may_send() {
    let mut world = World::assuming(240 * HOUR).await;
    let kind = Kind::Afterpay;
    let assumed = world.capture(kind, 1, 1000).await;
    world.look_ahead().await;
    assert_eq!(world.ends(assumed).await, "240 h assumed");
    let claim = world.claim_one(kind).await;
    assert_eq!(claim.intent.authorization_expires_at, None);
    world.settle(claim, Disposition::Return).await;
    world.tell_end(assumed, 100).await;
    let claim = world.claim_one(kind).await;
    assert_eq!(
        claim.intent.authorization_expires_at, None,
        "it may have been extended since"
    );
}

/// A worker that stops hands back what it had claimed: as urgent as it was.
#[tokio::test]
async fn what_goes_back_goes_on_being_urgent() {
    let mut world = World::assuming(240 * HOUR).await;
    let kind = Kind::Afterpay;
    let intent = world.capture(kind, 1, 1000).await;
    world.tell_end(intent, 10).await;
    world.look_ahead().await;
    let urgency = format!("select urgency from capture.ready where intent = '{intent}'");
    assert_eq!(world.db.scalar::<i16>(&urgency).await, i16::MIN);
    let claim = world.claim_one(kind).await;
    world.settle(claim, Disposition::Return).await;
    assert_eq!(world.db.scalar::<i16>(&urgency).await, i16::MIN);
    let claim = world.claim_one(kind).await;
    let lease: Uuid = world.db.scalar("select id from capture.leases").await;
    assert_eq!(world.outbox.give_back(lease).await.unwrap(), 1);
    drop(claim);
    assert_eq!(world.db.scalar::<i16>(&urgency).await, i16::MIN);
}

/// Held, and nobody said when its authorisation ends.
#[tokio::test]
async fn a_held_capture_is_warned_of_by_its_accounts_lifetime_and_an_assumption_ends_nothing() {
    let mut world = World::assuming(72 * HOUR).await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        let payment = kind.payment(1);
        world.authorize(kind, &payment, 5000);
        intents.push((kind, world.insert(kind, &payment, "c", 1000, HELD).await));
    }
    for _ in 0..20 {
        world.look_ahead().await;
        world.drain().await;
        world.pass(4 * HOUR).await;
    }
    for (kind, intent) in &intents {
        assert_eq!(
            world.told_of(*intent).await,
            ["48 assumed held", "24 assumed held", "0 assumed held"],
            "{kind:?}"
        );
        assert_eq!(world.state(*intent).await, "held");
        assert_eq!(world.ends(*intent).await, "72 h assumed");
    }
    assert_eq!(world.simulator.requests().len(), 0);
    // Over by assumption: at risk, and nothing that trips for ever.
    let risk = world.outbox.risk(None).await.unwrap();
    assert!(
        risk.rows
            .iter()
            .all(|row| row.hours == Hours::Over && row.assumed == row.captures)
    );
    assert_eq!(risk.rows.iter().map(|row| row.captures).sum::<i64>(), 4);
    let checks = world.outbox.checks().await.unwrap();
    assert!(checks.iter().all(|check| check.name != "deadline_near"), "{checks:?}");
    assert!(world.outbox.at_risk().await.unwrap().is_empty());
    assert!(world.outbox.forecast(100).await.unwrap().rows.is_empty());
    // The assumption was wrong: the provider still takes it.
    for (kind, _) in &intents {
        let (provider, payment) = (kind.provider_name(), kind.payment(1));
        let account = kind.lane().account;
        world
            .db
            .run(&format!(
                "select capture.release(provider => '{provider}', account => '{account}', payment_id => '{payment}',
                     company => 'c', method => 'm', tracking_number => 't')"
            ))
            .await;
    }
    world.outbox.match_releases(100).await.unwrap();
    let ids: Vec<Uuid> = intents.iter().map(|(_, intent)| *intent).collect();
    let ends = world.until_all_ended(&ids, HOUR).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    world.books_agree().await;
}

#[tokio::test]
async fn an_assumed_end_that_is_near_is_counted_shown_and_urgent() {
    let mut world = World::assuming(60 * HOUR).await;
    let payment = Kind::Afterpay.payment(1);
    let intent = world.insert(Kind::Afterpay, &payment, "c", 1000, HELD).await;
    world.look_ahead().await;
    assert!(world.outbox.at_risk().await.unwrap().is_empty(), "there is time");
    world.pass(40 * HOUR).await;
    world.look_ahead().await;
    let checks = world.outbox.checks().await.unwrap();
    let near = checks.iter().find(|check| check.name == "deadline_near").unwrap();
    assert_eq!(near.intents, 1);
    let risk = world.outbox.at_risk().await.unwrap();
    assert_eq!((risk[0].day_minor, risk[0].two_days_minor), (1000, 1000));
    let forecast = world.outbox.forecast(10).await.unwrap();
    assert_eq!(
        (forecast.rows[0].id, forecast.rows[0].expiry_source.as_str()),
        (intent, "assumed")
    );
    let filter = capture::filter::Filter {
        expires_within: Some(DAY),
        ..capture::filter::Filter::default()
    };
    let rows = world.outbox.list(&filter, 10).await.unwrap();
    assert_eq!(rows[0].expiry_source.as_deref(), Some("assumed"));
    let near: Option<String> = world
        .db
        .scalar(&format!(
            "select source from capture.expiries where intent = '{intent}'"
        ))
        .await;
    assert_eq!(near.as_deref(), Some("assumed"));
    world
        .db
        .run(&format!(
            "select capture.release(provider => 'afterpay', payment_id => '{payment}')"
        ))
        .await;
    world.outbox.match_releases(10).await.unwrap();
    world.outbox.move_due(10).await.unwrap();
    let urgency: i16 = world.db.scalar("select urgency from capture.ready").await;
    assert_eq!(urgency, i16::MIN);
}

#[tokio::test]
async fn a_lifetime_that_is_changed_or_taken_back_moves_what_was_assumed_and_warns_again() {
    let mut world = World::assuming(40 * HOUR).await;
    let lane = Kind::Afterpay.lane();
    let payment = Kind::Afterpay.payment(1);
    let intent = world.insert(Kind::Afterpay, &payment, "c", 1000, HELD).await;
    world.look_ahead().await;
    assert_eq!(world.told_of(intent).await, ["48 assumed held"]);
    world
        .outbox
        .set_authorization_lifetime(&lane, Some(100 * HOUR))
        .await
        .unwrap();
    world.look_ahead().await;
    assert_eq!(world.ends(intent).await, "100 h assumed");
    world.pass(60 * HOUR).await;
    world.look_ahead().await;
    assert_eq!(world.told_of(intent).await, ["48 assumed held", "48 assumed held"]);
    for kind in Kind::ALL {
        world
            .outbox
            .set_authorization_lifetime(&kind.lane(), None)
            .await
            .unwrap();
    }
    world.look_ahead().await;
    assert_eq!(world.ends(intent).await, "unknown");
    assert_eq!(world.state(intent).await, "held");
}

/// The authorisation is the payment's: what comes later of it does not begin anew.
#[tokio::test]
async fn the_first_intent_of_a_payment_is_what_its_lifetime_is_counted_from() {
    let mut world = World::assuming(240 * HOUR).await;
    let payment = Kind::Afterpay.payment(1);
    world.insert(Kind::Afterpay, &payment, "a", 1000, HELD).await;
    world.pass(100 * HOUR).await;
    world
        .db
        .run("create function pg_temp.later() returns timestamptz language sql as 'select capture.clock_now()'")
        .await;
    let later = world.insert(Kind::Afterpay, &payment, "b", 1000, HELD).await;
    world.look_ahead().await;
    assert_eq!(world.ends(later).await, "240 h assumed");
}

#[tokio::test]
async fn the_answer_of_one_part_tells_the_end_for_those_that_are_held() {
    for kind in [Kind::Afterpay, Kind::ResolveOrder] {
        let mut world = World::assuming(240 * HOUR).await;
        let payment = kind.payment(1);
        world.authorize_until(kind, &payment, 60).await;
        let held = world.insert(kind, &payment, "rest", 1000, HELD).await;
        world.look_ahead().await;
        assert_eq!(world.ends(held).await, "240 h assumed");
        let first = world.insert(kind, &payment, "part", 1000, "").await;
        world.drain().await;
        assert_eq!(world.state(first).await, "captured");
        assert_eq!(world.ends(held).await, "60 h provider", "{kind:?}");
        assert_eq!(world.ends(first).await, "unknown", "it needs none any more");
        // Warned of, and not given up: it may have been extended since, and nobody would hear of it.
        for _ in 0..31 {
            world.look_ahead().await;
            world.drain().await;
            world.pass(2 * HOUR).await;
        }
        assert_eq!(world.state(held).await, "held");
        assert_eq!(
            world.told_of(held).await,
            ["48 provider held", "24 provider held", "0 provider held"]
        );
        assert_eq!(world.ends(held).await, "60 h provider");
        assert_eq!(world.sends(&payment), 1);
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_payment_with_nothing_left_to_capture_writes_no_deadline() {
    let mut world = World::assuming(240 * HOUR).await;
    let payment = Kind::Afterpay.payment(1);
    world.authorize_until(Kind::Afterpay, &payment, 60).await;
    world.insert(Kind::Afterpay, &payment, "all", 5000, "").await;
    world.drain().await;
    assert_eq!(
        world.db.scalar::<i64>("select count(*) from capture.deadlines").await,
        0
    );
}

#[tokio::test]
async fn a_read_tells_the_end_of_what_it_verifies() {
    for kind in [Kind::Afterpay, Kind::ResolveOrder] {
        let mut world = World::new().await;
        let payment = kind.payment(1);
        // Refused, for there is no such payment yet.
        let intent = world.insert(kind, &payment, "c", 1000, "").await;
        let end = world.until_ended(intent, HOUR).await;
        assert!(end.starts_with("dead: rejected"), "{end}");
        world.authorize_until(kind, &payment, 60).await;
        // A replay reads first, and is then refused for a while.
        world.simulator.script(payment.as_str(), [Fault::RateLimitedRetryAfter]);
        world.replay(kind, intent).await;
        world.drain().await;
        assert_eq!(
            world.wire(&payment).last().map(String::as_str),
            Some("capture 429"),
            "{kind:?}"
        );
        let source: Option<String> = world
            .db
            .scalar(&format!(
                "select source from capture.expiries where intent = '{intent}'"
            ))
            .await;
        assert_eq!(source.as_deref(), Some("provider"), "{kind:?}");
        assert_eq!(world.until_ended(intent, HOUR).await, "captured");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn an_end_that_is_over_or_makes_no_sense_changes_nothing() {
    let mut world = World::assuming(240 * HOUR).await;
    let payment = Kind::Afterpay.payment(1);
    let intent = world.insert(Kind::Afterpay, &payment, "c", 1000, HELD).await;
    world.look_ahead().await;
    for at in ["2001-01-01T00:00:00Z", "2199-12-31T23:59:59Z", "9999-12-31T23:59:59Z"] {
        let expected = i32::from(at.starts_with("2199"));
        assert_eq!(world.tell_at(intent, at.parse().unwrap()).await, expected, "{at}");
    }
    assert_eq!(world.tell_end(intent, -1).await, 0);
    // Nor does an intent that is none.
    assert_eq!(world.tell_end(Uuid::from_u128(7), 10).await, 0);
}

#[tokio::test]
async fn a_dead_letter_keeps_the_end_that_its_provider_told_or_its_account_assumes_and_is_warned_of() {
    let mut world = World::assuming(60 * HOUR).await;
    let kind = Kind::Afterpay;
    let mut letters = Vec::new();
    for n in 1..=2 {
        letters.push(world.capture(kind, n, 1000).await);
    }
    world.look_ahead().await;
    world.tell_end(letters[1], 50).await;
    let dead = || Disposition::Dead(DeadReason::Rejected, Evidence::default());
    for claim in world.claim(kind).await {
        world.settle(claim, dead()).await;
    }
    assert_eq!(world.ends(letters[0]).await, "60 h assumed");
    assert_eq!(world.ends(letters[1]).await, "50 h provider");
    // A dead letter is told as well.
    world.tell_end(letters[1], 49).await;
    assert_eq!(world.ends(letters[1]).await, "49 h provider");
    for _ in 0..62 {
        world.look_ahead().await;
        world.pass(HOUR).await;
    }
    world.look_ahead().await;
    assert_eq!(
        world.told_of(letters[0]).await,
        ["48 assumed dead", "24 assumed dead", "0 assumed dead"]
    );
    assert_eq!(
        world.told_of(letters[1]).await,
        ["48 provider dead", "24 provider dead", "0 provider dead"]
    );
    // A replay takes it along, and what was only assumed keeps nothing from being sent.
    world.authorize(kind, &kind.payment(3), 5000);
    for letter in &letters {
        world.replay(kind, *letter).await;
    }
    assert_eq!(world.ends(letters[0]).await, "60 h assumed");
    assert_eq!(world.ends(letters[1]).await, "49 h provider");
    assert_eq!(world.until_ended(letters[0], HOUR).await, "captured");
}

/// Whoever ends an intent and whoever tells of it meet: no deadline is left behind by what has ended.
#[tokio::test]
async fn what_somebody_is_at_is_passed_over() {
    let mut world = World::assuming(240 * HOUR).await;
    let payment = Kind::Afterpay.payment(1);
    let intent = world.insert(Kind::Afterpay, &payment, "c", 1000, HELD).await;
    world
        .db
        .run(&format!("begin; select capture.cancel('{intent}', 'test')"))
        .await;
    world.look_ahead().await;
    let told = ToldDeadline {
        intent: capture::intent::IntentId(intent),
        expires_at: Utc::now() + DAY,
    };
    assert_eq!(world.outbox.tell_deadlines(&[told]).await.unwrap(), 0);
    world.db.run("commit").await;
    assert_eq!(world.tell_end(intent, 10).await, 0, "it has ended");
    world.look_ahead().await;
    assert_eq!(
        world.db.scalar::<i64>("select count(*) from capture.deadlines").await,
        0
    );
}

/// As when the answer to a settle is lost: the record stands alone.
#[tokio::test]
async fn what_was_told_is_no_part_of_the_record() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    let payment = kind.payment(1);
    world.insert(kind, &payment, "a", 1000, "").await;
    let held = world.insert(kind, &payment, "b", 1000, HELD).await;
    let claim = world.claim_one(kind).await;
    let receipt = receipt(&claim);
    let done = settlement(claim, Disposition::Captured(receipt)).telling(Some(Utc::now() + DAY));
    assert!(done.told().is_some());
    world.outbox.settle(std::slice::from_ref(&done), &[]).await.unwrap();
    assert_eq!(world.ends(held).await, "unknown");
    world.outbox.tell_deadlines(&[done.told().unwrap()]).await.unwrap();
    assert_eq!(world.ends(held).await, "24 h provider");
}

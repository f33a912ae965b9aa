//! What people look at: money at risk, the ledger of an order, forecasts, codes, counts; and what they set: rates, prunes.

use std::time::Duration;

use capture::filter::Filter;
use capture::outbox::{AuditStamp, GroupBy, Hours, LaneTest};
use capture::simulator::{Fault, Moment};

use crate::kind::Kind;
use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "tess".to_owned(),
        reason: "ticket 4711".to_owned(),
    }
}

impl World {
    async fn acts(&mut self) -> Vec<String> {
        self.db
            .column("select actor || ' ' || action || ' ' || reason from capture.audit order by id")
            .await
    }

    async fn count(&mut self, table: &str) -> i64 {
        self.db.scalar(&format!("select count(*) from capture.{table}")).await
    }
}

#[tokio::test]
async fn money_at_risk_is_told_by_hours_and_by_what_it_waits_for() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    for (n, more) in [
        (1, ", authorization_expires_at => now() + interval '3 hours'"),
        (
            2,
            ", authorization_expires_at => now() + interval '3 hours', hold => 'shipment'",
        ),
        (3, ", authorization_expires_at => now() + interval '30 hours'"),
        (4, ", authorization_expires_at => now() + interval '30 days'"),
        (5, ""),
    ] {
        world.insert(kind, &kind.payment(n), "c1", 1000, more).await;
    }
    let risk = world.outbox.risk(None).await.unwrap();
    let told: Vec<(Hours, &str, i64)> = risk
        .rows
        .iter()
        .map(|row| (row.hours, row.reason.as_str(), row.amount_minor))
        .collect();
    assert_eq!(
        told,
        [
            (Hours::To6, "held", 1000),
            (Hours::To6, "ready", 1000),
            (Hours::To48, "ready", 1000),
            (Hours::Later, "ready", 1000),
            (Hours::Unknown, "ready", 1000)
        ]
    );
    assert_eq!(world.outbox.risk(Some(DAY)).await.unwrap().rows.len(), 2);
    world.pass(4 * HOUR).await;
    assert_eq!(world.outbox.risk(Some(HOUR)).await.unwrap().rows[0].hours, Hours::Over);
    // Nothing was captured within the hour, so nothing gets its turn; what has no known end is in no forecast.
    let forecast = world.outbox.forecast(3).await.unwrap();
    assert_eq!((forecast.rows.len(), forecast.more), (3, true));
    assert!(forecast.rows.iter().all(|row| row.turn_at.is_none()));
}

#[tokio::test]
async fn a_lane_that_captures_has_a_rate_and_its_queue_gets_its_turns() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    for n in 0..4 {
        world.capture(kind, n, 1000).await;
    }
    world.drain().await;
    // Four an hour: the first in line goes at once, the sixth after more than an hour.
    for n in 10..16 {
        let more = ", authorization_expires_at => now() + interval '50 minutes'";
        world.insert(kind, &kind.payment(n), "c1", 1000, more).await;
    }
    let forecast = world.outbox.forecast(10).await.unwrap();
    let lane = forecast.lanes.iter().find(|lane| lane.lane == kind.lane()).unwrap();
    assert_eq!(
        (lane.captured_last_hour, lane.captured_last_minute, lane.in_line),
        (4, 4, 6)
    );
    let places: Vec<Option<i64>> = forecast.rows.iter().map(|row| row.before_it).collect();
    assert_eq!(
        places,
        [Some(4), Some(5)],
        "15 minutes each: these two come after 50 minutes"
    );

    // A lane that stands still gives nobody a turn, however fast it was.
    let id = lane.id;
    let rates = async |world: &World| {
        let forecast = world.outbox.forecast(10).await.unwrap();
        let lane = forecast.lanes.iter().find(|lane| lane.id == id).unwrap();
        let turns = forecast.rows.iter().filter(|row| row.turn_at.is_some()).count();
        (lane.stands_still, lane.per_hour(), forecast.rows.len(), turns)
    };
    world.outbox.set_lane_pause(id, true, &stamp()).await.unwrap();
    assert_eq!(rates(&world).await, (Some("paused"), 0, 6, 0));
    world.outbox.set_lane_pause(id, false, &stamp()).await.unwrap();
    assert_eq!(rates(&world).await, (None, 4, 2, 2));
    world
        .db
        .run("update capture.lanes set open_until = now() + interval '5 seconds'")
        .await;
    assert_eq!(rates(&world).await, (Some("breaker_open"), 0, 6, 0));
}

#[tokio::test]
async fn the_ledger_of_an_order_says_where_all_of_its_money_is() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    let payment = kind.payment(1);
    world.authorize(kind, &payment, 9000);
    world
        .insert(kind, &payment, "c1", 1000, ", authorized_minor => 9000")
        .await;
    world.drain().await;
    world.insert(kind, &payment, "c2", 2000, "").await;
    world.insert(kind, &payment, "c3", 3000, ", hold => 'shipment'").await;
    let order = format!("order of {payment}");
    let ledger = world.outbox.order(&order, None, None).await.unwrap().unwrap();
    let [sums] = ledger.payments.as_slice() else {
        panic!("{ledger:?}")
    };
    assert_eq!(
        (
            sums.authorized_minor,
            sums.captured_minor,
            sums.open_minor,
            sums.held_minor,
            sums.unknown_minor,
            sums.dead_minor
        ),
        (Some(9000), 1000, 2000, 3000, 0, 0)
    );
    assert_eq!(sums.captures.len(), 3);
    assert!(world.outbox.order(&order, Some("optty"), None).await.unwrap().is_none());
    assert!(world.outbox.order("nobody's", None, None).await.unwrap().is_none());
    let tally = world.outbox.tally().await.unwrap();
    let mut states: Vec<(String, i64)> = tally
        .states
        .into_iter()
        .map(|count| (count.state, count.captures))
        .collect();
    states.sort();
    assert_eq!(
        states,
        [
            ("captured".to_owned(), 1),
            ("held".to_owned(), 1),
            ("ready".to_owned(), 1)
        ]
    );
}

#[tokio::test]
async fn a_code_is_new_once_and_dead_letters_are_summed_by_what_is_asked() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    for n in 1..4 {
        // Not authorised: refused.
        world.insert(kind, &kind.payment(n), "c1", 1000, "").await;
    }
    world.drain().await;
    let groups = world
        .outbox
        .dead_groups(&Filter::default(), &[GroupBy::Reason])
        .await
        .unwrap();
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!((groups[0].captures, groups[0].amount_minor), (3, 3000));
    assert_eq!(
        (groups[0].of(GroupBy::Reason), groups[0].of(GroupBy::Code)),
        (Some("rejected"), None)
    );
    let now = world.outbox.now().await.unwrap();
    let codes = world.outbox.new_codes(now - HOUR).await.unwrap();
    assert_eq!(codes.len(), 1, "{codes:?}");
    assert!(codes[0].new && codes[0].attempts == 3 && codes[0].provider == "afterpay");
    assert!(world.outbox.new_codes(now + HOUR).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_operators_rate_goes_before_the_settings_until_it_is_taken_back() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    let lane = kind.lane();
    let id = world.outbox.register_lane(&lane, 600).await.unwrap();
    assert!(world.outbox.set_lane_rate(id, Some(10), &stamp()).await.unwrap());
    assert!(!world.outbox.set_lane_rate(id, Some(10), &stamp()).await.unwrap());
    // A worker that starts writes its settings, and changes nothing.
    world.outbox.register_lane(&lane, 700).await.unwrap();
    let row = async |world: &World| {
        world
            .outbox
            .lanes()
            .await
            .unwrap()
            .into_iter()
            .find(|row| row.id == id)
            .unwrap()
    };
    assert_eq!(row(&world).await.rate_in_force(), Some(10));
    for n in 1..=5 {
        world.capture(kind, n, 1000).await;
    }
    world.drain().await;
    let captured: i64 = world.count("outcomes").await;
    assert!(
        (1..3).contains(&captured),
        "a budget of 10 a minute bursts one, not {captured}"
    );
    assert!(world.outbox.set_lane_rate(id, None, &stamp()).await.unwrap());
    assert_eq!(row(&world).await.rate_in_force(), Some(700));
    assert_eq!(
        world.acts().await,
        ["tess lane limit ticket 4711", "tess lane limit ticket 4711"]
    );
}

#[tokio::test]
async fn a_probe_lets_an_open_breaker_test_at_once_and_leaves_a_paused_lane_alone() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    let id = world.outbox.register_lane(&kind.lane(), 0).await.unwrap();
    let trip = format!(
        "update capture.lanes set open_until = now() + interval '1 hour', open_ms = 5000, unanswered = 20 where id = {}",
        id.0
    );
    assert_eq!(world.outbox.test_lane(id, &stamp()).await.unwrap(), LaneTest::Closed);
    world.capture(kind, 1, 1000).await;
    world.db.run(&trip).await;
    world.drain().await;
    assert_eq!(world.count("outcomes").await, 0, "the breaker is open");
    world.outbox.set_lane_pause(id, true, &stamp()).await.unwrap();
    assert_eq!(world.outbox.test_lane(id, &stamp()).await.unwrap(), LaneTest::Paused);
    world.outbox.set_lane_pause(id, false, &stamp()).await.unwrap();
    world.db.run(&trip).await;
    assert_eq!(world.outbox.test_lane(id, &stamp()).await.unwrap(), LaneTest::Probing);
    assert_eq!(world.outbox.test_lane(id, &stamp()).await.unwrap(), LaneTest::Due);
    world.drain().await;
    assert_eq!(world.count("outcomes").await, 1);
    let open: bool = world
        .db
        .scalar("select bool_or(open_until is not null) from capture.lanes")
        .await;
    assert!(!open, "the answer closed it");
}

#[tokio::test]
async fn a_prune_takes_what_ended_long_ago_and_nothing_else() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    let old = world.capture(kind, 1, 1000).await;
    let retried = world.capture(kind, 5, 1000).await;
    world
        .simulator
        .script(kind.payment(5).as_str(), [Fault::RateLimitedRetryAfter]);
    let refused = world.insert(kind, &kind.payment(2), "c1", 1000, "").await;
    world.drain().await;
    assert_eq!(world.until_ended(retried, HOUR).await, "captured");
    assert_eq!(world.attempts(retried).await.len(), 2);
    let held = world
        .insert(kind, &kind.payment(3), "c1", 1000, ", hold => 'shipment'")
        .await;
    // The intent's own time and its first event's are the server's; the clock of the rest can be set ahead.
    world.pass(30 * DAY).await;
    let fresh = world.capture(kind, 4, 1000).await;
    world.drain().await;
    let short = world.outbox.begin_prune(2 * DAY, false, &stamp()).await.unwrap_err();
    assert_eq!(
        short.refusal().unwrap().constraint.as_deref(),
        Some("prune_keeps_a_week")
    );
    let unannounced = world.outbox.prune_some(1, None, 10).await.unwrap_err();
    assert_eq!(
        unannounced.refusal().unwrap().sqlstate,
        "22023",
        "without an act there is no prune"
    );
    let preview = world.outbox.would_prune(10 * DAY).await.unwrap();
    let audit = world.outbox.begin_prune(10 * DAY, false, &stamp()).await.unwrap();
    let (mut attempts, mut events, mut place) = (0, 0, None);
    loop {
        let step = world.outbox.prune_some(audit, place, 1).await.unwrap();
        attempts += step.attempts;
        events += step.events;
        place = step.next;
        if place.is_none() {
            break;
        }
    }
    assert_eq!((attempts, events), (preview.attempts, preview.events));
    assert_eq!((preview.releases, preview.shipments), (0, 0));
    assert_eq!(
        attempts, 2,
        "those of the retried one; the dead letter waits for a person"
    );
    assert!(world.outbox.attempts(retried).await.unwrap().is_empty());
    assert_eq!(
        world.attempts(old).await,
        ["send captured"],
        "of what passed at once it stands in the outcome, and stays"
    );
    for kept in [refused, held, fresh] {
        assert!(!world.outbox.timeline(kept).await.unwrap().is_empty());
    }
    assert_eq!(world.state(old).await, "captured");
    let tried = world.db.try_run("delete from capture.events").await.unwrap_err();
    assert_eq!(tried.sqlstate, "55000");
    assert_eq!(world.acts().await, ["tess prune ticket 4711"]);
}

#[tokio::test]
async fn an_alert_says_what_is_at_stake_without_asking_back() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    let more = ", authorization_expires_at => now() + interval '20 hours'";
    world.insert(kind, &kind.payment(1), "c1", 1000, more).await;
    let held = format!("{more}, hold => 'shipment'");
    world.insert(kind, &kind.payment(2), "c1", 2000, &held).await;
    world.insert(kind, &kind.payment(3), "c1", 3000, more).await;
    world.authorize(kind, &kind.payment(3), 5000);
    world
        .simulator
        .script(kind.payment(3).as_str(), [Fault::Reset(Moment::After)]);
    world.drain().await;
    world.outbox.watch_deadlines(HOUR, 100).await.unwrap();
    let of = |kind: &str| {
        format!(
            "select count(*) from capture.events where type = 'capture.{kind}' and order_id <> '' and payment_id <> ''
             and amount_minor > 0 and currency = 'USD' and (data ->> 'expires_at')::timestamptz > now()"
        )
    };
    let dead: i64 = world
        .db
        .scalar(&format!(
            "{} and data ->> 'reason' = 'rejected' and data ->> 'class' = 'rejected' and data ? 'code'",
            of("dead_lettered")
        ))
        .await;
    assert_eq!(dead, 1);
    let expiring: i64 = world
        .db
        .scalar(&format!("{} and data ->> 'state' = 'held'", of("auth_expiring")))
        .await;
    assert_eq!(expiring, 1);
    let unknown: i64 = world
        .db
        .scalar(&format!(
            "{} and data ? 'class' and data ? 'code'",
            of("outcome_unknown")
        ))
        .await;
    assert_eq!(unknown, 1);
}

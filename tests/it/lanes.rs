//! Lanes: pause, the shared rate budget, the breaker, and whose turn it is.

use std::time::Duration;

use capture::outbox::{LaneNews, LaneRow};
use capture::retry::{Disposition, Wait};
use capture::simulator::{Fault, Moment, ProviderName, Target};
use chrono::{DateTime, TimeDelta, Utc};

use crate::answers::stamp;
use crate::by_hand::{Ask, claim, receipt, settlement};
use crate::kind::Kind;
use crate::world::{Plan, World};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

impl World {
    pub async fn lane(&self, kind: Kind) -> LaneRow {
        let rows = self.outbox.lanes().await.unwrap();
        rows.into_iter().find(|row| row.lane == kind.lane()).unwrap()
    }

    async fn many(&mut self, kind: Kind, count: u32) {
        for n in 0..count {
            self.capture(kind, n, 100).await;
        }
    }
}

#[tokio::test]
async fn a_paused_lane_yields_nothing_and_burns_no_attempt_and_the_others_go_on() {
    let mut world = World::new().await;
    let lane = world.lane(Kind::Afterpay).await.id;
    assert!(world.outbox.set_lane_pause(lane, true, &stamp()).await.unwrap());
    assert!(
        !world.outbox.set_lane_pause(lane, true, &stamp()).await.unwrap(),
        "it is"
    );
    let held = world.capture(Kind::Afterpay, 1, 1234).await;
    let free = world.capture(Kind::Optty, 1, 1234).await;
    for _ in 0..3 {
        world.drain().await;
        world.pass(MINUTE).await;
    }
    assert_eq!(world.state(held).await, "ready");
    assert_eq!(world.state(free).await, "captured");
    let fence: i32 = world.db.scalar("select fence from capture.ready").await;
    assert_eq!(fence, 0, "it was not even looked at");
    assert!(world.outbox.set_lane_pause(lane, false, &stamp()).await.unwrap());
    world.drain().await;
    assert_eq!(world.story(held).await, ["enqueued", "captured"]);
    let acts: Vec<String> = world
        .db
        .column("select actor || ': ' || action || ': ' || reason from capture.audit order by id")
        .await;
    assert_eq!(acts, ["ada: lane pause: mended", "ada: lane resume: mended"]);
}

/// Whatever two workers take, no sliding minute sees more calls than the limit.
#[tokio::test]
async fn the_rate_budget_is_one_for_all_workers_and_holds_in_every_sliding_minute() {
    for (rate, calls) in [(5, (1, 1)), (6, (3, 2)), (20, (3, 2)), (100, (1, 1)), (100, (3, 2))] {
        let mut world = World::of(Plan {
            rate_per_minute: rate,
            ..Plan::default()
        })
        .await;
        let kind = Kind::Afterpay;
        world
            .db
            .run(
                "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
                 select 'afterpay', 'o', n::text, 'c', 100, 'USD' from generate_series(1, 700) n",
            )
            .await;
        let mut workers = [Ask::of(kind).free(7), Ask::of(kind).free(50)];
        let mut taken: Vec<(DateTime<Utc>, u32)> = Vec::new();
        for step in 0..300u32 {
            let ask = &mut workers[usize::try_from(step % 2).unwrap()];
            ask.calls = calls;
            ask.lease = uuid::Uuid::new_v4();
            let claims = claim(&world.outbox, ask).await;
            let mut settlements = Vec::new();
            for claim in claims {
                taken.push((claim.now, calls.0));
                let receipt = receipt(&claim);
                settlements.push(settlement(claim, Disposition::Captured(receipt)));
            }
            world.outbox.settle(&settlements, &[]).await.unwrap();
            // Now and then nobody is there for a while, and then all come at once.
            world.pass(if step % 50 == 49 { MINUTE } else { SECOND }).await;
        }
        let minute = TimeDelta::seconds(60);
        let mut most = 0;
        for (place, (from, _)) in taken.iter().enumerate() {
            let window = taken[place..].iter().take_while(|(at, _)| *at < *from + minute);
            most = most.max(window.map(|(_, calls)| calls).sum());
        }
        assert!(most <= rate, "{rate} a minute, {calls:?} a row: {most} in one minute");
        let all: u32 = taken.iter().map(|(_, calls)| calls).sum();
        let least = rate * 5 / 2;
        assert!(
            all >= least,
            "{rate} a minute, {calls:?} a row: only {all} in ten minutes"
        );
    }
}

#[tokio::test]
async fn a_providers_own_limit_is_never_met() {
    for kind in [Kind::ResolveCharge, Kind::ResolveOrder] {
        let mut plan = Plan {
            rate_per_minute: 100,
            concurrency: 20,
            ..Plan::default()
        };
        plan.simulator.limits.resolve_per_minute = Some(100);
        let mut world = World::of(plan).await;
        let mut intents = Vec::new();
        for n in 0..90 {
            intents.push(world.capture(kind, n, 100).await);
            // One in three is lost on the way and has to be verified.
            if n % 3 == 0 {
                let lost = [Fault::Reset(Moment::After), Fault::Reset(Moment::Before)][usize::try_from(n % 2).unwrap()];
                world.simulator.script(kind.payment(n).as_str(), [lost]);
            }
        }
        let ends = world.until_all_ended(&intents, 15 * SECOND).await;
        assert!(ends.values().all(|end| end == "captured"), "{kind:?}: {ends:?}");
        assert_eq!(world.simulator.counts().rate_limited, 0, "{kind:?}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_breaker_opens_lets_one_through_opens_for_longer_and_closes() {
    // Minutes, because the real clock goes on as well, and a busy machine may take seconds for a step.
    let mut plan = Plan {
        concurrency: 5,
        ..Plan::default()
    };
    plan.settings.breaker_failures = 5;
    plan.settings.breaker_open = 10 * MINUTE;
    plan.settings.breaker_open_max = 60 * MINUTE;
    let mut world = World::of(plan).await;
    world.many(Kind::Afterpay, 12).await;
    let other = world.capture(Kind::Optty, 1, 100).await;
    world.simulator.set_down(ProviderName::Afterpay, true).unwrap();
    let tried = async |world: &mut World| -> i64 {
        world
            .db
            .scalar("select count(*) from capture.attempts a join capture.intents i on i.id = a.intent where i.provider = 'afterpay'")
            .await
    };
    world.drain().await;
    // Five calls at once, and one that was claimed ahead.
    assert_eq!(tried(&mut world).await, 6, "the breaker is open");
    assert!(world.lane(Kind::Afterpay).await.open_until.is_some());
    assert_eq!(world.state(other).await, "captured", "the others go on");
    world.pass(9 * MINUTE).await;
    assert_eq!(world.drain().await, 0);
    world.pass(2 * MINUTE).await;
    assert_eq!(world.drain().await, 1, "one to test");
    world.pass(19 * MINUTE).await;
    assert_eq!(world.drain().await, 0, "twice as long");
    world.pass(2 * MINUTE).await;
    assert_eq!(world.drain().await, 1);
    world.pass(39 * MINUTE).await;
    assert_eq!(world.drain().await, 0, "and twice as long again");
    world.simulator.set_down(ProviderName::Afterpay, false).unwrap();
    world.pass(2 * MINUTE).await;
    world.drain().await;
    let lane = world.lane(Kind::Afterpay).await;
    assert_eq!((lane.open_until, lane.unanswered), (None, 0), "an answer closes it");
    for _ in 0..20 {
        world.pass(MINUTE).await;
        world.drain().await;
    }
    let open: i64 = world
        .db
        .scalar("select count(*) from capture.status where state <> 'captured'")
        .await;
    assert_eq!(open, 0);
    world.books_agree().await;
}

#[tokio::test]
async fn answers_that_are_failures_open_no_breaker() {
    let mut plan = Plan::default();
    plan.settings.breaker_failures = 3;
    let mut world = World::of(plan).await;
    let faults = vec![Fault::Status(500, Moment::Before); 40];
    world.simulator.script(Target::provider(ProviderName::Afterpay), faults);
    world.many(Kind::Afterpay, 20).await;
    world.drain().await;
    assert_eq!(world.lane(Kind::Afterpay).await.open_until, None);
}

#[tokio::test]
async fn of_two_workers_one_tests_an_open_breaker() {
    let mut world = World::new().await;
    world.many(Kind::Afterpay, 5).await;
    let first = world.claim(Kind::Afterpay).await.remove(0);
    let lane = first.ticket.lane();
    let news = |answered: bool| LaneNews {
        lane,
        answered,
        unanswered: u32::from(!answered),
        failures: 1,
        open_ms: 600_000,
        open_max_ms: 3_600_000,
        wait_ms: None,
        pause_reason: None,
    };
    world
        .settle_with(first, Disposition::Retry(Wait::None), news(false))
        .await;
    world.many(Kind::Afterpay, 0).await;
    for n in 10..15 {
        world.capture(Kind::Afterpay, n, 100).await;
    }
    assert_eq!(world.claim(Kind::Afterpay).await.len(), 0, "open");
    world.pass(11 * MINUTE).await;
    let mut tests = world.claim(Kind::Afterpay).await;
    assert_eq!(tests.len(), 1);
    assert_eq!(world.claim(Kind::Afterpay).await.len(), 0, "nobody else meanwhile");
    let test = tests.remove(0);
    let receipt = receipt(&test);
    world
        .settle_with(test, Disposition::Captured(receipt), news(true))
        .await;
    assert!(world.claim(Kind::Afterpay).await.len() > 1);
}

/// Of 60 rows, as many of each purpose, all ready: in which order they are worked on.
async fn order_of_purposes(concurrency: u32) -> Vec<i16> {
    let mut world = World::of(Plan {
        concurrency,
        ..Plan::default()
    })
    .await;
    world.many(Kind::Afterpay, 60).await;
    world
        .db
        .run(
            "with gone as (delete from capture.ready returning *), numbered as (select *, row_number() over (order by seq) % 3 as turn from gone)
             insert into capture.ready (lane, purpose, urgency, intent, fence, epoch, since)
             select lane, turn, urgency, intent, fence, epoch, since from numbered order by seq",
        )
        .await;
    world.drain().await;
    world
        .db
        .column("select purpose from capture.attempts where fence = 1 order by ended_at, intent")
        .await
}

#[tokio::test]
async fn no_purpose_starves_another_in_a_wide_lane_or_a_narrow_one() {
    for concurrency in [1, 4] {
        let order = order_of_purposes(concurrency).await;
        assert_eq!(order.len(), 60);
        // While all three have rows: half of the slots for first sends, a quarter each for the others.
        for (place, window) in order.windows(12).take(24).enumerate() {
            for purpose in [0, 1, 2] {
                let had = window.iter().filter(|had| **had == purpose).count();
                assert!(
                    had >= 2,
                    "{concurrency} slots, from {place}: purpose {purpose} had {had} of 12: {order:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_smaller_priority_goes_first_and_what_ends_within_a_day_before_all() {
    let mut world = World::new().await;
    let mut expected = Vec::new();
    for (n, more) in (0..).zip([
        ", priority => 5",
        "",
        ", priority => -5",
        ", priority => 5, authorization_expires_at => now() + interval '20 hours'",
    ]) {
        expected.push(
            world
                .insert(Kind::Afterpay, &Kind::Afterpay.payment(n), "c", 100, more)
                .await,
        );
    }
    expected.swap(0, 3);
    expected.swap(1, 2);
    let claims = world.claim(Kind::Afterpay).await;
    let order: Vec<_> = claims.iter().map(|claim| claim.intent.id.0).collect();
    assert_eq!(order, expected);
}

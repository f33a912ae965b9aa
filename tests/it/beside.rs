//! The shop goes on selling while a hundred thousand dead letters are replayed, or a thousand endpoints are told of what happens:
//! how much later is a fresh capture captured?

use std::time::{Duration, Instant};

use capture::filter::Filter;
use capture::operations::{self, Choice};
use tokio_util::sync::CancellationToken;

use crate::database::{Session, connect};
use crate::kind::Kind;
use crate::operations::{REPLAY, letters, request};
use crate::receiver::{Manner, Receiver};
use crate::webhook_stories::{another_process, as_set, some_hang};
use crate::world::{Plan, World, enqueue};

/// How far apart fresh captures come.
const TICK: Duration = Duration::from_millis(50);
/// How long they come alone, before and after.
const ALONE: Duration = Duration::from_secs(60);

fn asked(name: &str, usual: u32) -> u32 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Fresh captures, one a tick, until told to end.
async fn sell(url: String, until: CancellationToken) {
    let mut shop = Session::open(&url).await;
    let mut ticks = tokio::time::interval(TICK);
    for n in 1.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = until.cancelled() => return,
        }
        shop.run(&enqueue(Kind::Afterpay, &format!("9{n:07}"), "fresh", 1000, ""))
            .await;
    }
}

/// Captures that came within that span of seconds: how many, and their p50 and p99 in ms, from the insert to the recorded end.
async fn fresh(db: &mut Session, from: f64, to: f64) -> (i64, i64, i64) {
    let rows = db
        .rows(&format!(
            "select count(*), coalesce(percentile_disc(0.5) within group (order by ms), 0), coalesce(percentile_disc(0.99) within group (order by ms), 0)
             from (
                 select (extract(epoch from coalesce(o.ended_at, clock_timestamp()) - i.created_at) * 1000)::bigint as ms
                 from capture.intents i left join capture.outcomes o on o.intent = i.id and o.state = 'captured'
                 where i.capture_ref = 'fresh' and extract(epoch from i.created_at) between {from} and {to}
             ) t"
        ))
        .await;
    let of = |column| sqlx::Row::get(&rows[0], column);
    (of(0), of(1), of(2))
}

async fn clock(db: &mut Session) -> f64 {
    db.scalar("select extract(epoch from clock_timestamp())::float8").await
}

fn tell(spans: &[(&str, (i64, i64, i64))]) {
    for (name, (captures, p50, p99)) in spans {
        println!("{name:6}  {captures:6} fresh captures  p50 {p50:5} ms  p99 {p99:5} ms");
    }
}

/// `REPLAY_LETTERS=100000 REPLAY_RATE=50 REPLAY_PROVIDER_MS=20 cargo test --release --test it beside:: -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes many minutes, and a machine for itself"]
async fn fresh_captures_beside_a_hundred_thousand_replays() {
    let (count, rate) = (asked("REPLAY_LETTERS", 100_000), asked("REPLAY_RATE", 50));
    let mut plan = Plan {
        concurrency: 32,
        ..Plan::default()
    };
    plan.simulator.auto_authorize = true;
    plan.simulator.pace.answer_after = Duration::from_millis(asked("REPLAY_PROVIDER_MS", 20).into());
    let mut world = World::of(plan).await;
    letters(&mut world.db, 1, count).await;
    world.db.run("vacuum analyze").await;
    let shutdown = CancellationToken::new();
    let (other, url, until) = (world.another_worker().await, world.url.clone(), shutdown.clone());
    let working = tokio::spawn(async move { other.run(until).await });
    let selling = tokio::spawn(sell(url, shutdown.clone()));
    // Whatever is cold at the beginning is no part of it.
    tokio::time::sleep(ALONE / 6).await;
    let began = clock(&mut world.db).await;
    tokio::time::sleep(ALONE).await;
    let replaying = clock(&mut world.db).await;
    let filter = Filter::from_pairs([("class", "transient")], chrono::Utc::now()).unwrap();
    let mut wanted = request("ada", REPLAY, Choice::Filter(filter));
    wanted.rate_per_second = rate;
    let outbox = connect(&world.url).await;
    let freezing = Instant::now();
    let id = operations::begin(&outbox, wanted).await.unwrap();
    let frozen = freezing.elapsed();
    let row = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let row = outbox.operation(id).await.unwrap().unwrap();
        if row.is_over() {
            break row;
        }
    };
    let ended = clock(&mut world.db).await;
    tokio::time::sleep(ALONE).await;
    let last = clock(&mut world.db).await;
    shutdown.cancel();
    selling.await.unwrap();
    working.await.unwrap();

    let before = fresh(&mut world.db, began, replaying).await;
    let during = fresh(&mut world.db, replaying, ended).await;
    let after = fresh(&mut world.db, ended, last - 5.0).await;
    println!(
        "{count} letters at {rate} a second, the list frozen in {frozen:?}, replayed in {:.0} s",
        ended - replaying
    );
    tell(&[("before", before), ("during", during), ("after", after)]);
    println!(
        "during to before: p50 {} %, p99 {} %",
        during.1 * 100 / before.1.max(1),
        during.2 * 100 / before.2.max(1)
    );
    assert_eq!((row.state.as_str(), row.done), ("done", i64::from(count)), "{row:?}");
    let twice: i64 = world
        .db
        .scalar("select count(*) from (select intent_id from capture.events where type = 'capture.replayed' group by 1 having count(*) > 1) t")
        .await;
    assert_eq!(twice, 0);
}

/// `ENDPOINTS_TOLD_EVERY_MS=5000 OF_TEN_ENDPOINTS_HANG=3 cargo test --release --test it beside::fresh_captures_beside_a_thousand_endpoints -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and a machine for itself"]
async fn fresh_captures_beside_a_thousand_endpoints_of_which_a_third_hang() {
    let every = Duration::from_millis(asked("ENDPOINTS_TOLD_EVERY_MS", 5000).into());
    let mut plan = Plan {
        concurrency: 32,
        ..Plan::default()
    };
    plan.simulator.auto_authorize = true;
    plan.simulator.pace.answer_after = Duration::from_millis(20);
    let mut world = World::of(plan).await;
    let receiver = Receiver::start(Manner::HangBelow("/hang")).await;
    let hanging = usize::try_from(asked("OF_TEN_ENDPOINTS_HANG", 3)).unwrap();
    some_hang(&world.outbox, &receiver, 1000, hanging).await;
    let shutdown = CancellationToken::new();
    let (other, url, until) = (world.another_worker().await, world.url.clone(), shutdown.clone());
    let working = tokio::spawn(async move { other.run(until).await });
    let selling = tokio::spawn(sell(url, shutdown.clone()));
    let process = another_process(&world.url, as_set());
    // Whatever is cold at the beginning is no part of it.
    tokio::time::sleep(ALONE / 6).await;
    let began = clock(&mut world.db).await;
    tokio::time::sleep(ALONE).await;
    let telling = clock(&mut world.db).await;
    // One cancelled capture, held so that nobody captures it before, is a thousand messages.
    let mut ticks = tokio::time::interval(every);
    for n in 0..(2 * ALONE.as_millis() / every.as_millis()) {
        ticks.tick().await;
        let held = world
            .insert(
                Kind::Afterpay,
                &format!("7{n:07}"),
                "told",
                1000,
                ", hold => 'shipment'",
            )
            .await;
        world.outbox.cancel(held, "to be told").await.unwrap();
    }
    ticks.tick().await;
    let told = clock(&mut world.db).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    shutdown.cancel();
    selling.await.unwrap();
    working.await.unwrap();
    process.shutdown_background();

    let before = fresh(&mut world.db, began, telling).await;
    let during = fresh(&mut world.db, telling, told).await;
    tell(&[("before", before), ("during", during)]);
    println!(
        "during to before: p50 {} %, p99 {} %",
        during.1 * 100 / before.1.max(1),
        during.2 * 100 / before.2.max(1)
    );
    let rows = world
        .db
        .rows(
            "select count(*) filter (where d.state = 'delivered'), count(*) filter (where d.state <> 'delivered'),
                    (percentile_disc(0.5) within group (order by d.ended_at - v.occurred_at) filter (where d.state = 'delivered'))::text,
                    (percentile_disc(0.99) within group (order by d.ended_at - v.occurred_at) filter (where d.state = 'delivered'))::text
             from capture.webhook_deliveries d join capture.events v on v.id = d.event",
        )
        .await;
    let of = |column| sqlx::Row::get::<Option<String>, _>(&rows[0], column).unwrap_or_default();
    let (delivered, others): (i64, i64) = (sqlx::Row::get(&rows[0], 0), sqlx::Row::get(&rows[0], 1));
    println!(
        "{delivered} messages delivered, from the event p50 {}, p99 {}; {others} to those that hang",
        of(2),
        of(3)
    );
    assert!(delivered > 0);
}

//! Stories of many endpoints, and of processes that die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use capture::outbox::Outbox;
use capture::webhook::signature::Secret;
use capture::webhook::{Deliverer, Settings};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::database::{Session, connect};
use crate::kind::Kind;
use crate::receiver::{Manner, Receiver};
use crate::webhooks::{HOUR, Hooks, genuine, settings, stamp};
use crate::world::{World, enqueue};

/// With retries at once.
fn soon() -> Settings {
    Settings {
        retry_initial: Duration::from_millis(10),
        retry_max: Duration::from_millis(20),
        ..settings()
    }
}

/// A deliverer on a runtime of its own: when that is shut down, nothing of it goes on, as if its process were killed.
pub fn another_process(url: &str, settings: Settings) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let url = url.to_owned();
    runtime.spawn(async move {
        let deliverer = Deliverer::new(connect(&url).await, settings).unwrap();
        deliverer.run(CancellationToken::new()).await;
    });
    runtime
}

#[tokio::test]
async fn goods_that_left_uncaptured_are_told_without_a_capture_to_look_for() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(200)).await;
    let (_, secret) = hooks.endpoint(&receiver.url(), &["shipment_unmatched"]).await;
    hooks.happens(1).await;
    hooks
        .db
        .run(
            "insert into capture.shipment_events (source, event_id, provider, order_id, tracking_number, kind)
             values ('wms', '1', 'afterpay', 'o-1', '1Z1', 'shipped')",
        )
        .await;
    hooks.outbox.take_shipments(10).await.unwrap();
    hooks.outbox.match_releases(10).await.unwrap();
    hooks.pass(HOUR).await;
    assert_eq!(hooks.outbox.watch_shipments(HOUR, 24 * HOUR, 10).await.unwrap(), 1);
    assert_eq!(hooks.deliver().await, 1);
    let [got] = &receiver.got()[..] else {
        panic!("not one message")
    };
    assert_eq!(genuine(got, &secret), Ok(()));
    assert_eq!(got.header("ce-type"), "capture.shipment_unmatched");
    assert!(!got.headers.contains_key("ce-subject"));
    let told: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(told["intent_id"], Uuid::nil().to_string());
    assert_eq!((&told["amount_minor"], &told["currency"]), (&0.into(), &"XXX".into()));
    assert_eq!((&told["order_id"], &told["payment_id"]), (&"o-1".into(), &"".into()));
    assert_eq!(told["data"]["tracking_number"], "1Z1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn endpoints_that_hang_hold_their_slots_and_healthy_ones_are_drained_nevertheless() {
    const ENDPOINTS: usize = 20;
    const HUNG: usize = 6;
    const EVENTS: u32 = 10;
    // Fewer slots than the hung ones would take: if they kept them, nobody else were ever told.
    let mut hooks = Hooks::new().await;
    let few = Settings {
        concurrency: 8,
        slow_concurrency: 16,
        timeout: Duration::from_secs(60),
        ..soon()
    };
    let mut receivers = Vec::new();
    for n in 0..ENDPOINTS {
        let receiver = Receiver::start(if n < HUNG { Manner::Hang } else { Manner::Status(200) }).await;
        hooks.endpoint(&receiver.url(), &[]).await;
        receivers.push(receiver);
    }
    for n in 0..EVENTS {
        hooks.happens(n).await;
    }
    let process = another_process(&hooks.url, few);
    for healthy in &receivers[HUNG..] {
        healthy.until(EVENTS as usize).await;
    }
    // None of the hung ones was answered or given up yet: they still hold what they took.
    let taken: usize = receivers[..HUNG].iter().map(|hung| hung.got().len()).sum();
    assert!(taken >= 8, "only {taken} hung");
    let ended: i64 = hooks
        .db
        .scalar("select count(*) from capture.webhook_deliveries where last_code = 'timeout'")
        .await;
    assert_eq!(ended, 0);
    process.shutdown_background();
}

/// Events come, deliverers are killed, the receiver loses answers, and a reader of the feed is killed and goes on from the
/// last cursor it kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_feed_reader_and_a_receiver_killed_at_random_end_with_the_same_events_as_the_table() {
    const EVENTS: u32 = 120;
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Cut(7)).await;
    let (endpoint, secret) = hooks.endpoint(&receiver.url(), &[]).await;
    let mut writer = Session::open(&hooks.url).await;
    let writing = tokio::spawn(async move {
        for n in 0..EVENTS {
            writer.run("begin").await;
            writer
                .run(&enqueue(Kind::Afterpay, &format!("{n}"), "c1", 100, ""))
                .await;
            writer.run(if n % 10 == 9 { "rollback" } else { "commit" }).await;
        }
    });
    let all = u64::from(EVENTS - EVENTS / 10);
    let mut killed = 0;
    let mut read: Vec<Uuid> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        // The reader dies after some pages, sometimes with a page in hand whose cursor it has not kept.
        for page in 0..3 {
            let got = hooks.outbox.events_after(cursor.as_deref(), 5).await.unwrap();
            if page == 2 && killed % 2 == 0 {
                break;
            }
            read.extend(got.events.iter().map(|event| event.id));
            cursor = got.cursor;
        }
        let process = another_process(&hooks.url, soon());
        let before = receiver.got().len();
        let some = 1 + rand::random_range(0..25);
        let _ = tokio::time::timeout(Duration::from_millis(500), receiver.until(before + some)).await;
        process.shutdown_background();
        killed += 1;
        // What the dead one held lapses; a success may be lost between the answer and the record. A circuit closes too.
        hooks.pass(Duration::from_secs(600)).await;
        let told: i64 = hooks
            .db
            .scalar("select count(*) from capture.webhook_deliveries where state = 'delivered'")
            .await;
        let done = u64::try_from(told).unwrap() == all && read.len() as u64 == all;
        if writing.is_finished() && done {
            break;
        }
        assert!(killed < 2000, "{told} of {all} delivered, {} read", read.len());
    }
    let table: BTreeSet<Uuid> = hooks
        .db
        .column::<Uuid>("select id from capture.events")
        .await
        .into_iter()
        .collect();
    assert_eq!(table.len() as u64, all);
    let read_set: BTreeSet<Uuid> = read.iter().copied().collect();
    assert_eq!(
        (read.len(), &read_set),
        (table.len(), &table),
        "the reader that keeps its cursor"
    );
    let mut bodies: BTreeMap<Uuid, Vec<u8>> = BTreeMap::new();
    let mut messages = 0;
    for got in receiver.got() {
        messages += 1;
        assert_eq!(genuine(&got, &secret), Ok(()));
        let id: Uuid = got.id().parse().unwrap();
        let event: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(event["id"], got.id());
        let first = bodies.entry(id).or_insert_with(|| got.body.clone());
        assert_eq!(*first, got.body, "a repeat is the same message");
    }
    assert_eq!(bodies.keys().copied().collect::<BTreeSet<_>>(), table, "the receiver");
    assert!(messages > table.len(), "nothing was told twice: nothing was tested");
    let state = hooks.outbox.webhook_endpoint(endpoint).await.unwrap().unwrap();
    assert_eq!((state.pending, state.disabled_at), (0, None));
    println!(
        "{messages} messages of {} events, {killed} deliverers killed",
        table.len()
    );
}

/// As in production, but for the network and the poll.
pub fn as_set() -> Settings {
    Settings {
        networks: settings().networks,
        ..Settings::default()
    }
}

/// Endpoints that want to know what is cancelled; so many of ten hang.
pub async fn some_hang(outbox: &Outbox, receiver: &Receiver, endpoints: usize, of_ten: usize) {
    for n in 0..endpoints {
        let manner = if n % 10 < of_ten { "hang" } else { "ok" };
        let url = format!("{}{manner}/{n}", receiver.url());
        let secret = Secret::make().unwrap();
        let types = ["capture.cancelled".to_owned()];
        let made = outbox
            .create_webhook_endpoint(&url, &types, "", secret.bytes(), &stamp())
            .await;
        made.unwrap();
    }
}

/// The figures of the story above at full size; run it alone: `cargo test --test it a_thousand_endpoints -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes, and prints figures"]
async fn a_thousand_endpoints_of_which_a_third_hang_and_captures_go_on_as_before() {
    const ENDPOINTS: usize = 1000;
    const EVENTS: u32 = 30;
    const CAPTURES: u32 = 400;
    let mut world = World::new().await;
    let receiver = Receiver::start(Manner::HangBelow("/hang")).await;
    some_hang(&world.outbox, &receiver, ENDPOINTS, 3).await;
    let healthy = ENDPOINTS * 7 / 10 * EVENTS as usize;
    for n in 0..EVENTS {
        let intent = world.capture(Kind::Afterpay, n, 100).await;
        world.outbox.cancel(intent, "to be told").await.unwrap();
    }
    let mut next = EVENTS;
    let mut round = async |world: &mut World| -> Duration {
        for _ in 0..CAPTURES {
            world.capture(Kind::Afterpay, next, 100).await;
            next += 1;
        }
        let began = std::time::Instant::now();
        world.drain().await;
        began.elapsed()
    };
    round(&mut world).await;
    let mut alone = [
        round(&mut world).await,
        round(&mut world).await,
        round(&mut world).await,
    ];
    let process = another_process(&world.url, as_set());
    let began = std::time::Instant::now();
    let mut beside = Vec::new();
    let (told, mut rounds_on) = (receiver.clone(), true);
    let drained = tokio::spawn(async move {
        told.until(healthy).await;
        began.elapsed()
    });
    while rounds_on {
        beside.push(round(&mut world).await);
        rounds_on = !drained.is_finished();
    }
    let drained = drained.await.unwrap();
    let mut hung = [
        round(&mut world).await,
        round(&mut world).await,
        round(&mut world).await,
    ];
    process.shutdown_background();
    alone.sort();
    beside.sort();
    hung.sort();
    println!(
        "{healthy} messages to 700 healthy endpoints of {ENDPOINTS} in {drained:?}\n{CAPTURES} captures, min/median/max: alone {:?}/{:?}/{:?}; \
         beside all of that {:?}/{:?}/{:?} ({} rounds); with 300 that hang {:?}/{:?}/{:?}",
        alone[0],
        alone[1],
        alone[2],
        beside[0],
        beside[beside.len() / 2],
        beside[beside.len() - 1],
        beside.len(),
        hung[0],
        hung[1],
        hung[2]
    );
}

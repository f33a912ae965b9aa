//! Lists of captures: each page is right, whatever the filter, and a walk over all of them meets each capture once.

use std::time::Duration;

use capture::filter::{Filter, State};
use capture::outbox::{Cursor, Outbox};
use capture::outcome::Class;
use chrono::Utc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::crowd::{Known, crowd, ids, known};
use crate::database::{Session, connect, migrated_database};
use crate::kind::Kind;
use crate::world::{World, enqueue};

const DAY: chrono::TimeDelta = chrono::TimeDelta::days(1);

/// More than one page looks at when it walks along the order.
const MANY: u32 = 100_000;

async fn walk(outbox: &Outbox, filter: &Filter, limit: u32) -> (Vec<Uuid>, usize) {
    let mut met = Vec::new();
    let mut after: Option<Cursor> = None;
    for pages in 1.. {
        let page = outbox.page(filter, after.as_ref(), limit).await.unwrap();
        assert!(page.rows.len() <= limit as usize);
        met.extend(ids(&page.rows));
        after = page.next;
        if after.is_none() {
            return (met, pages);
        }
    }
    unreachable!()
}

fn some_filter(chance: &mut StdRng, all: &[Known]) -> Filter {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    let row = &all[chance.random_range(0..all.len())];
    let words = |words: &[&str], chance: &mut StdRng| words[chance.random_range(0..words.len())].to_owned();
    if chance.random_ratio(1, 3) {
        pairs.push(("provider", words(&["afterpay", "optty", "resolve", "nobody"], chance)));
    }
    if chance.random_ratio(1, 4) {
        pairs.push(("account", words(&["default", "outlet", "charges", "orders"], chance)));
    }
    for _ in 0..chance.random_range(0..3) {
        let state = State::ALL[chance.random_range(0..State::ALL.len())];
        pairs.push(("state", state.name().to_owned()));
    }
    if chance.random_ratio(1, 4) {
        pairs.push((
            "class",
            Class::ALL[chance.random_range(0..Class::ALL.len())].name().to_owned(),
        ));
    }
    if chance.random_ratio(1, 5) {
        pairs.push((
            "code",
            words(
                &["declined", "http_503", "timeout", "unclassified", "no' or true --"],
                chance,
            ),
        ));
    }
    if chance.random_ratio(1, 6) {
        pairs.push(("order", row.order().to_owned()));
    }
    if chance.random_ratio(1, 6) {
        pairs.push(("payment", row.payment().to_owned()));
    }
    if chance.random_ratio(1, 4) {
        pairs.push(("since", format!("{}h", chance.random_range(1..600))));
    }
    if chance.random_ratio(1, 5) {
        pairs.push(("until", format!("{}m", chance.random_range(1..60))));
    }
    if chance.random_ratio(1, 5) {
        let sign = words(&["<", "<=", "=", ">=", ">"], chance);
        pairs.push(("amount", format!("{sign}{}.00 USD", chance.random_range(5..2000))));
    }
    if chance.random_ratio(1, 5) {
        pairs.push(("expires-within", format!("{}h", chance.random_range(1..400))));
    }
    let pairs = pairs.iter().map(|(name, text)| (*name, text.as_str()));
    Filter::from_pairs(pairs, Utc::now()).unwrap()
}

#[tokio::test]
async fn every_filter_finds_what_it_says_and_nothing_is_read_from_end_to_end() {
    let url = migrated_database().await;
    let mut db = Session::open(&url).await;
    crowd(&mut db, MANY).await;
    let outbox = connect(&url).await;
    let facts = outbox.doctor_facts().await.unwrap();
    assert_eq!(
        (facts.misplaced, facts.unclaimed_receipts),
        (0, 0),
        "the crowd is not as real work leaves it"
    );
    let all = known(&mut db).await;
    let scans = "select coalesce(sum(seq_scan), 0)::bigint from pg_stat_user_tables where relname in ('intents', 'outcomes', 'attempts')";
    let mut chance = StdRng::seed_from_u64(9);
    db.run("select pg_stat_force_next_flush()").await;
    let before: i64 = db.scalar(scans).await;
    for _ in 0..150 {
        let filter = some_filter(&mut chance, &all);
        let limit = [1, 7, 50, 1000][chance.random_range(0..4)];
        let now = outbox.now().await.unwrap();
        let right: Vec<Uuid> = all
            .iter()
            .filter(|row| row.matches(&filter, now))
            .map(|row| row.id)
            .collect();
        // Of what matches many, a few pages tell as much as all of them.
        if right.len() / limit as usize > 20 {
            let page = outbox.page(&filter, None, limit).await.unwrap();
            assert_eq!(ids(&page.rows), right[..limit as usize], "{filter:?}");
            assert!(page.next.is_some());
        } else {
            let (met, _) = walk(&outbox, &filter, limit).await;
            assert_eq!(met, right, "{filter:?}");
        }
    }
    outbox.close().await;
    db.run("select pg_stat_clear_snapshot()").await;
    let after: i64 = db.scalar(scans).await;
    assert_eq!(after, before, "a page read a large table from end to end");
}

#[tokio::test]
async fn a_page_that_looked_in_vain_says_where_to_go_on() {
    let url = migrated_database().await;
    let mut db = Session::open(&url).await;
    crowd(&mut db, MANY).await;
    let outbox = connect(&url).await;
    let rare = Filter::from_pairs([("state", "captured"), ("amount", "=4321.00 EUR")], Utc::now()).unwrap();
    let page = outbox.page(&rare, None, 50).await.unwrap();
    assert!(page.rows.is_empty() && page.next.is_some(), "{page:?}");
    let (met, pages) = walk(&outbox, &rare, 50).await;
    assert_eq!((met.len(), pages), (0, 2));
}

#[tokio::test]
async fn a_walk_meets_each_capture_once_while_others_are_inserted_and_captured() {
    let mut world = World::new().await;
    let mut there = Vec::new();
    for n in 0..60 {
        there.push(world.capture(Kind::ALL[n as usize % Kind::ALL.len()], n, 1000).await);
    }
    // Of ids that are in no order, and of one transaction, which have all one time.
    world
        .db
        .run(
            "insert into capture.intents (id, provider, order_id, payment_id, capture_ref, amount_minor, currency)
             select gen_random_uuid(), 'optty', 'o', 'p' || n, 'c', 1000, 'USD' from generate_series(1, 40) n",
        )
        .await;
    let random: Vec<Uuid> = world
        .db
        .column("select id from capture.intents where order_id = 'o'")
        .await;
    there.extend(random);
    let mut met: Vec<Uuid> = Vec::new();
    let mut after = None;
    for n in 0.. {
        let page = world.outbox.page(&Filter::default(), after.as_ref(), 7).await.unwrap();
        met.extend(ids(&page.rows));
        after = page.next;
        if after.is_none() {
            break;
        }
        world
            .db
            .run(&enqueue(Kind::Afterpay, &format!("77000{n}"), "c1", 1000, ""))
            .await;
        if n == 3 {
            world.drain().await;
        }
    }
    let mut sorted = met.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), met.len(), "met twice");
    assert!(there.iter().all(|id| sorted.binary_search(id).is_ok()), "not met");
}

/// Medians of 20 runs, at three million captures unless CAPTURE_CROWD says how many:
/// `cargo test --release --test it pages::speed -- --ignored --nocapture`. CAPTURE_CROWD_URL: a database that has them.
#[tokio::test]
#[ignore = "fills a database for minutes"]
async fn speed() {
    let url = match std::env::var("CAPTURE_CROWD_URL") {
        Ok(url) => url,
        Err(_) => {
            let url = migrated_database().await;
            let captures = std::env::var("CAPTURE_CROWD").map_or(3_000_000, |text| text.parse().unwrap());
            crowd(&mut Session::open(&url).await, captures).await;
            url
        }
    };
    let outbox = connect(&url).await;
    let some = outbox
        .list(
            &Filter::from_pairs([("state", "dead"), ("limit", "1")], Utc::now()).unwrap(),
            1,
        )
        .await
        .unwrap();
    let (order, payment) = (some[0].order_id.clone(), some[0].payment_id.clone());
    let mut db = Session::open(&url).await;
    let mut slow = Vec::new();
    let filters: Vec<Vec<(&str, &str)>> = vec![
        vec![],
        vec![("state", "held")],
        vec![("state", "scheduled")],
        vec![("state", "ready")],
        vec![("state", "leased")],
        vec![("state", "verifying")],
        vec![("state", "captured")],
        vec![("state", "dead")],
        vec![("state", "cancelled")],
        vec![("state", "held,scheduled,ready,leased,verifying")],
        vec![("order", &order)],
        vec![("payment", &payment)],
        vec![("class", "rejected")],
        vec![("class", "transient")],
        vec![("code", "unclassified")],
        vec![("provider", "afterpay"), ("state", "dead")],
        vec![("provider", "resolve"), ("state", "captured")],
        vec![("account", "orders")],
        vec![("account", "outlet"), ("class", "ambiguous")],
        vec![("since", "1h")],
        vec![("until", "2000h")],
        vec![("since", "48h"), ("state", "dead")],
        vec![("expires-within", "24h")],
        vec![("amount", ">=1999.00 USD")],
        vec![("state", "captured"), ("amount", "=4321.00 EUR")],
    ];
    for pairs in filters {
        let name = pairs
            .iter()
            .map(|(name, text)| format!(" {name}={text}"))
            .collect::<String>();
        let filter = Filter::from_pairs(pairs, Utc::now()).unwrap();
        measure(&mut db, &mut slow, &format!("page{name}"), async || {
            outbox.page(&filter, None, 50).await.unwrap();
        })
        .await;
    }
    let all = Filter::default();
    measure(&mut db, &mut slow, "dead_groups by reason, class, code", async || {
        use capture::outbox::GroupBy::{Class, Code, Reason};
        outbox.dead_groups(&all, &[Reason, Class, Code]).await.unwrap();
    })
    .await;
    measure(&mut db, &mut slow, "risk", async || {
        outbox.risk(None).await.unwrap();
    })
    .await;
    measure(&mut db, &mut slow, "risk within 48h", async || {
        outbox.risk(Some(Duration::from_secs(48 * 3600))).await.unwrap();
    })
    .await;
    measure(&mut db, &mut slow, "order", async || {
        outbox.order(&order, None, None).await.unwrap();
    })
    .await;
    measure(&mut db, &mut slow, "backlog", async || {
        outbox.backlog().await.unwrap();
    })
    .await;
    measure(&mut db, &mut slow, "forecast", async || {
        outbox.forecast(200).await.unwrap();
    })
    .await;
    measure(&mut db, &mut slow, "new_codes since 24h", async || {
        outbox.new_codes(Utc::now() - DAY).await.unwrap();
    })
    .await;
    measure(&mut db, &mut slow, "counts by state (tally)", async || {
        outbox.tally().await.unwrap();
    })
    .await;
    measure(&mut db, &mut slow, "lanes", async || {
        outbox.lanes().await.unwrap();
    })
    .await;
    assert!(slow.is_empty(), "more than 300 ms: {slow:?}");
}

/// Time that the outbox's sessions have spent on a processor, in ms; 0 where the server is on another machine. Unlike the
/// clock's it does not depend on what else the machine does.
async fn on_processor(db: &mut Session) -> u64 {
    let pids: Vec<i32> = db
        .column("select pid from pg_stat_activity where datname = current_database() and application_name = 'capture'")
        .await;
    let ticks = |pid: i32| -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    pids.into_iter().filter_map(ticks).sum::<u64>() * 10
}

async fn measure(db: &mut Session, slow: &mut Vec<String>, what: &str, mut run: impl AsyncFnMut()) {
    run().await;
    let mut times = Vec::new();
    let before = on_processor(db).await;
    for _ in 0..20 {
        let began = std::time::Instant::now();
        run().await;
        times.push(began.elapsed().as_millis());
    }
    let busy = (on_processor(db).await - before) / 20;
    times.sort_unstable();
    println!(
        "{what:56} median {:>5} ms   best {:>5} ms   on the processor {busy:>4} ms",
        times[10], times[0]
    );
    if busy > 300 {
        slow.push(what.to_owned());
    }
}

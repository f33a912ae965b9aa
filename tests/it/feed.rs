//! The feed misses nothing and repeats nothing, and what happened stays.

use std::collections::BTreeSet;

use capture::outbox::{EventPage, Outbox};
use sqlx::Row;
use uuid::Uuid;

use crate::database::{Session, connect, migrated_database};
use crate::kind::Kind;
use crate::world::{World, enqueue};

/// Reads on until there are so many. (Any transaction of the whole server that is older and still open holds them back.)
async fn read_on(outbox: &Outbox, cursor: Option<String>, count: usize) -> EventPage {
    let mut page = EventPage {
        events: Vec::new(),
        cursor,
    };
    while page.events.len() < count {
        let more = outbox.events_after(page.cursor.as_deref(), 7).await.unwrap();
        page.events.extend(more.events);
        page.cursor = more.cursor;
        tokio::task::yield_now().await;
    }
    page
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_missed() {
    let url = migrated_database().await;
    let outbox = connect(&url).await;
    let (mut slow, mut quick) = (Session::open(&url).await, Session::open(&url).await);
    // The first capture of a lane makes the lane, and others of that lane wait for it.
    slow.run(&enqueue(Kind::Afterpay, "1", "first", 100, "")).await;
    let start = read_on(&outbox, None, 1).await.cursor;
    slow.run("begin").await;
    slow.run(&enqueue(Kind::Afterpay, "1", "slow", 100, "")).await;
    quick.run(&enqueue(Kind::Afterpay, "2", "quick", 100, "")).await;
    let first = outbox.events_after(start.as_deref(), 100).await.unwrap();
    assert_eq!(
        first.events.len(),
        0,
        "what came after is held back as long as what came before is open"
    );
    slow.run("commit").await;
    let page = read_on(&outbox, first.cursor, 2).await;
    let references: Vec<_> = page.events.iter().map(|event| event.capture_ref.as_str()).collect();
    assert_eq!(references, ["slow", "quick"]);
    let rest = outbox.events_after(page.cursor.as_deref(), 100).await.unwrap();
    assert_eq!((rest.events.len(), rest.cursor), (0, page.cursor), "and nothing twice");
}

/// Many writers whose transactions overlap, some of which roll back, and a reader that keeps its cursor.
#[tokio::test]
async fn a_reader_that_keeps_its_cursor_sees_every_event_once_in_one_order() {
    const WRITERS: usize = 8;
    const EACH: usize = 30;
    let url = migrated_database().await;
    let mut db = Session::open(&url).await;
    db.run(&enqueue(Kind::Afterpay, "1", "first", 100, "")).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let mut db = Session::open(&url).await;
        writers.spawn(async move {
            for n in 0..EACH {
                db.run("begin").await;
                db.run(&enqueue(Kind::Afterpay, &format!("{writer}{n:03}"), "a", 100, ""))
                    .await;
                for _ in 0..(writer * 7 + n) % 5 {
                    db.run("select 1").await;
                }
                db.run(&enqueue(Kind::Afterpay, &format!("{writer}{n:03}"), "b", 100, ""))
                    .await;
                db.run(if n % 6 == 5 { "rollback" } else { "commit" }).await;
            }
        });
    }
    let outbox = connect(&url).await;
    let count = 1 + WRITERS * EACH * 2 * 5 / 6;
    // It reads while they write, and goes on until all is there.
    let page = read_on(&outbox, None, count).await;
    writers.join_all().await;
    let rest = outbox.events_after(page.cursor.as_deref(), 100).await.unwrap();
    assert_eq!(rest.events, [], "there is more than was written");
    let seen: Vec<Uuid> = page.events.into_iter().map(|event| event.id).collect();
    let all: Vec<Uuid> = db.column("select id from capture.events order by xid, seq").await;
    assert_eq!(all.len(), count);
    let different: BTreeSet<_> = seen.iter().collect();
    assert_eq!(different.len(), seen.len(), "something was told twice");
    assert_eq!(seen, all, "something was missed, or told out of order");
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused_and_so_is_a_page_without_bounds() {
    let mut db = Session::open(&migrated_database().await).await;
    for arguments in [
        "'yesterday', 10",
        "'1', 10",
        "'1-2-3', 10",
        "'-1-1', 10",
        "null, 0",
        "null, 10001",
        "null, null",
    ] {
        let told = db
            .try_run(&format!("select * from capture.events_after({arguments})"))
            .await;
        let refused = told.expect_err(arguments);
        assert_eq!(refused.sqlstate, "22023", "{arguments}");
        assert!(!refused.hint.is_empty());
    }
    for arguments in ["null, 10", "'', 10", "' ', 10", "null"] {
        db.run(&format!("select * from capture.events_after({arguments})"))
            .await;
    }
}

#[tokio::test]
async fn a_cursor_of_another_history_is_refused_and_one_of_this_never_is() {
    let url = migrated_database().await;
    let (mut db, mut other) = (Session::open(&url).await, Session::open(&url).await);
    let outbox = connect(&url).await;
    db.run(&enqueue(Kind::Afterpay, "1", "first", 100, "")).await;
    // The newest cursor that anybody can have, while an older transaction is open and while none is.
    other.run("begin").await;
    other.run("select pg_current_xact_id()").await;
    db.run(&enqueue(Kind::Afterpay, "2", "second", 100, "")).await;
    let newest: String = db
        .scalar("select xid::text || '-' || seq || '-' || replace(id::text, '-', '') from capture.events order by xid desc, seq desc limit 1")
        .await;
    assert_eq!(outbox.events_after(Some(&newest), 10).await.unwrap().events, []);
    other.run("commit").await;
    assert_eq!(outbox.events_after(Some(&newest), 10).await.unwrap().events, []);
    // What the next transaction will get nobody can have been given, let alone what comes epochs later.
    let next = "select pg_snapshot_xmax(pg_current_snapshot())::text";
    for cursor in [
        format!("{}-0", db.scalar::<String>(next).await.parse::<u64>().unwrap() + 1000),
        "4294967296000-1".to_owned(),
        "9999999999999999999-999999999999999999".to_owned(),
    ] {
        let error = outbox.events_after(Some(&cursor), 10).await.expect_err(&cursor);
        let refused = error.refusal().unwrap();
        assert_eq!(refused.sqlstate, "22023");
        assert_eq!(refused.constraint.as_deref(), Some("events_cursor_of_this_history"));
        assert!(refused.hint.unwrap().contains("begin anew from null"));
    }
}

#[tokio::test]
async fn a_cursor_whose_event_is_of_a_lost_history_is_refused_though_its_number_has_come_again() {
    let url = migrated_database().await;
    let mut db = Session::open(&url).await;
    let outbox = connect(&url).await;
    for n in ["1", "2", "3"] {
        db.run(&enqueue(Kind::Afterpay, n, "first", 100, "")).await;
    }
    let events = read_on(&outbox, None, 3).await.events;
    let [kept, lost, again] = &events[..] else {
        panic!("{events:?}")
    };
    // What a fail-over leaves that loses the second, and where the third's numbers were given anew.
    db.run(&format!(
        "set session_replication_role = replica;
         delete from capture.events where id = '{}';
         update capture.events set id = capture.new_id() where id = '{}'",
        lost.id, again.id
    ))
    .await;
    for cursor in [&lost.cursor, &again.cursor] {
        let error = outbox.events_after(Some(cursor), 10).await.expect_err(cursor);
        let refused = error.refusal().unwrap();
        assert_eq!(
            refused.constraint.as_deref(),
            Some("events_cursor_of_this_history"),
            "{cursor}"
        );
        assert!(refused.hint.unwrap().contains("begin anew from null"));
    }
    // Before the place where they part both histories are one; and who makes a cursor of two numbers is believed.
    let behind = read_on(&outbox, Some(kept.cursor.clone()), 1).await.events;
    assert_ne!(behind[0].id, again.id);
    let (numbers, _) = again.cursor.rsplit_once('-').unwrap();
    assert_eq!(outbox.events_after(Some(numbers), 10).await.unwrap().events, []);
}

#[tokio::test]
async fn a_cursor_whose_event_was_pruned_goes_on() {
    let url = migrated_database().await;
    let mut db = Session::open(&url).await;
    let outbox = connect(&url).await;
    db.run(&enqueue(Kind::Afterpay, "1", "first", 100, "")).await;
    let cursor = read_on(&outbox, None, 1).await.cursor;
    db.run("update capture.clock set ahead = interval '10 days'").await;
    db.run(
        "select capture.begin_prune(interval '8 days', false, 'me', 'old');
         set session_replication_role = replica; delete from capture.events; set session_replication_role = origin",
    )
    .await;
    db.run(&enqueue(Kind::Afterpay, "2", "second", 100, "")).await;
    assert_eq!(read_on(&outbox, cursor, 1).await.events.len(), 1);
}

#[tokio::test]
async fn events_of_another_cluster_are_counted_for_doctor() {
    let url = migrated_database().await;
    let mut db = Session::open(&url).await;
    let outbox = connect(&url).await;
    db.run(&enqueue(Kind::Afterpay, "1", "first", 100, "")).await;
    assert_eq!(outbox.doctor_facts().await.unwrap().events_ahead, 0);
    // As a logical restore leaves it: the rows keep the numbers of the cluster that they come from.
    db.run(
        "insert into capture.events (xid, type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency)
         select '9999999999', e.type, e.intent_id, e.provider, e.account, e.order_id, e.payment_id, e.capture_ref, e.amount_minor, e.currency
         from capture.events e",
    )
    .await;
    assert_eq!(outbox.doctor_facts().await.unwrap().events_ahead, 1);
}

#[tokio::test]
async fn the_columns_of_the_feed_are_those_of_the_contract() {
    let mut world = World::new().await;
    world.capture(Kind::Afterpay, 1, 1234).await;
    world.drain().await;
    read_on(&world.outbox, None, 2).await;
    let rows = world.db.rows("select * from capture.events_after(null, 10)").await;
    let columns: Vec<String> = sqlx::Row::columns(&rows[0])
        .iter()
        .map(|column| sqlx::Column::name(column).to_owned())
        .collect();
    assert_eq!(
        columns,
        [
            "cursor",
            "seq",
            "xid",
            "id",
            "type",
            "intent_id",
            "provider",
            "account",
            "order_id",
            "payment_id",
            "capture_ref",
            "amount_minor",
            "currency",
            "data",
            "occurred_at"
        ]
    );
    let types: Vec<String> = rows.iter().map(|row| row.get("type")).collect();
    assert_eq!(types, ["capture.enqueued", "capture.captured"]);
}

#[tokio::test]
async fn what_happened_cannot_be_changed_or_removed_not_even_by_the_owner() {
    let mut world = World::new().await;
    world.capture(Kind::Afterpay, 1, 1234).await;
    world.drain().await;
    for (table, column) in [
        ("events", "currency"),
        ("audit", "actor"),
        ("attempts_apart", "code"),
        ("outcomes", "provider_capture_id"),
        ("intents", "currency"),
    ] {
        for statement in [
            format!("update capture.{table} set {column} = 'x'"),
            format!("delete from capture.{table}"),
            format!("truncate capture.{table}"),
            format!("truncate capture.{table} cascade"),
        ] {
            let refused = world.db.try_run(&statement).await.expect_err(&statement);
            assert_eq!(refused.sqlstate, "55000", "{statement}");
            assert!(!refused.hint.is_empty(), "{statement}");
        }
    }
    let rows: i64 = world.db.scalar("select count(*) from capture.events").await;
    assert_eq!(rows, 2);
}

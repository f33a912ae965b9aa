//! Each role can do what it must, and is refused everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use capture::outbox::{ConnectSettings, Outbox};
use capture::worker::Worker;
use sqlx::Row;
use uuid::Uuid;

use crate::database::{Session, migrated_database};
use crate::kind::Kind;
use crate::world::{World, enqueue};

const ROLES: [&str; 6] = [
    "capture_producer",
    "capture_fulfilment",
    "capture_worker",
    "capture_readonly",
    "capture_operator",
    "capture_metrics",
];
const VERBS: [&str; 5] = ["select", "insert", "update", "delete", "truncate"];

/// May that role do that to that table or view? As the contract says, and nothing more.
fn may(role: &str, relation: &str, verb: &str) -> bool {
    match (role, relation, verb) {
        ("capture_producer", "intents", "select" | "insert") => true,
        ("capture_producer", "status" | "events", "select") => true,
        ("capture_producer", ..) => false,
        ("capture_fulfilment", "shipment_events", "insert") => true,
        ("capture_fulfilment", ..) => false,
        (_, _, "select") => true,
        ("capture_worker", "workers" | "waiters", "insert" | "update" | "delete") => true,
        ("capture_worker", "lanes", "insert") => true,
        ("capture_operator", "intents", "insert") => true,
        _ => false,
    }
}

/// The functions each role may call.
fn calls(role: &str) -> BTreeSet<&'static str> {
    let all: &[&str] = match role {
        "capture_producer" => &["new_id", "enqueue", "enqueue_json", "cancel", "events_after"],
        "capture_fulfilment" => &["release"],
        "capture_worker" => &[
            "clock_now",
            "current_epoch",
            "server_timeline",
            "server_identifier",
            "claim",
            "give_back",
            "settle",
            "rescue",
            "move_due",
            "take_shipments",
            "match_releases",
            "watch_deadlines",
            "operation_step",
            "operation_tokens",
        ],
        "capture_readonly" => &["events_after", "clock_now", "verify_audit"],
        "capture_operator" => &[
            "clock_now",
            "new_id",
            "enqueue",
            "enqueue_json",
            "events_after",
            "cancel",
            "release",
            "replay",
            "resolve",
            "set_lane_pause",
            "cancel_by",
            "begin_operation",
            "set_operation_state",
            "operation_step",
            "operation_tokens",
            "verify_audit",
        ],
        "capture_metrics" => &["clock_now"],
        other => panic!("{other}"),
    };
    all.iter().copied().collect()
}

/// A statement that does nothing, and needs just that right.
fn harmless(relation: &str, verb: &str, column: &str) -> String {
    match verb {
        "select" => format!("select {column} from capture.{relation} limit 0"),
        "insert" => format!("insert into capture.{relation} ({column}) select null where false"),
        "update" => format!("update capture.{relation} set {column} = null where false"),
        "delete" => format!("delete from capture.{relation} where false"),
        _ => format!("truncate capture.{relation}"),
    }
}

#[tokio::test]
async fn each_role_may_touch_the_tables_it_must_and_no_other() {
    let url = migrated_database().await;
    let mut owner = Session::open(&url).await;
    let rows = owner
        .rows(
            "select c.relname::text, c.relkind = 'v',
                    (select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                     and a.attidentity = '' and a.attname not in ('rate_per_minute') order by a.attnum limit 1)
             from pg_class c where c.relnamespace = 'capture'::regnamespace and c.relkind in ('r', 'v', 'p') order by 1",
        )
        .await;
    assert!(rows.len() > 20);
    let mut wrong = Vec::new();
    let mut tried = 0;
    for role in ROLES {
        let mut db = Session::open(&url).await;
        db.run(&format!("set role {role}")).await;
        for row in &rows {
            let (relation, is_view, column): (String, bool, String) = (row.get(0), row.get(1), row.get(2));
            for verb in VERBS {
                if is_view && verb != "select" {
                    continue;
                }
                tried += 1;
                let told = db.try_run(&harmless(&relation, verb, &column)).await;
                let refused = told.is_err_and(|refused| refused.sqlstate == "42501");
                if refused == may(role, &relation, verb) {
                    wrong.push(format!("{role} {verb} {relation}: refused is {refused}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 500, "{tried}");
}

#[tokio::test]
async fn each_role_may_call_what_it_must_and_nobody_else_may_call_anything() {
    let mut db = Session::open(&migrated_database().await).await;
    let functions: Vec<String> = db
        .column(
            "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'capture'::regnamespace order by 1",
        )
        .await;
    let name = |signature: &str| signature.split(['(', '.']).nth(1).unwrap().to_owned();
    let mut may_call: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for role in ROLES {
        for function in &functions {
            let sql = format!("select has_function_privilege('{role}', '{function}', 'execute')");
            if db.scalar::<bool>(&sql).await {
                may_call.entry(role).or_default().insert(name(function));
            }
        }
    }
    for role in ROLES {
        let expected: BTreeSet<String> = calls(role).into_iter().map(str::to_owned).collect();
        assert_eq!(may_call[role], expected, "{role}");
    }
    let anybody = format!("nobody_{}", Uuid::new_v4().simple());
    db.run(&format!(
        "create role {anybody}; grant usage on schema capture to {anybody}"
    ))
    .await;
    for function in &functions {
        let sql = format!("select has_function_privilege('{anybody}', '{function}', 'execute')");
        assert!(!db.scalar::<bool>(&sql).await, "anybody may call {function}");
    }
    db.run(&format!("drop owned by {anybody}; drop role {anybody}")).await;
}

#[tokio::test]
async fn functions_with_their_owners_rights_look_nowhere_but_in_their_schema() {
    let mut db = Session::open(&migrated_database().await).await;
    let loose: Vec<String> = db
        .column(
            "select p.proname || ': ' || coalesce(array_to_string(p.proconfig, '; '), 'nothing is pinned')
             from pg_proc p join pg_language l on l.oid = p.prolang
             where p.pronamespace = 'capture'::regnamespace
               and (p.prosecdef or l.lanname = 'plpgsql')
               and not coalesce('search_path=capture,pg_temp' = any (p.proconfig), false)",
        )
        .await;
    assert_eq!(loose, [""; 0], "pg_temp is last, and nothing else is looked at");
    let theirs: i64 = db
        .scalar("select count(*) from pg_proc where pronamespace = 'capture'::regnamespace and prosecdef")
        .await;
    assert!(theirs > 10, "{theirs}");
}

/// A producer may make temporary tables: they must not stand in for ours.
#[tokio::test]
async fn a_temporary_table_does_not_stand_in_for_ours() {
    let mut world = World::new().await;
    let mut db = Session::open(&world.url).await;
    db.run("set role capture_producer").await;
    for table in [
        "ready",
        "waiting",
        "outcomes",
        "lanes",
        "epoch",
        "providers",
        "currencies",
        "events",
        "clock",
        "progress",
    ] {
        db.run(&format!("create temporary table {table} (like capture.events)"))
            .await;
    }
    let id: Uuid = db.scalar(&enqueue(Kind::Afterpay, "1", "c", 100, "")).await;
    assert_eq!(world.state(id).await, "ready");
    let said: String = db.scalar(&format!("select capture.cancel('{id}', 'why')")).await;
    assert_eq!(said, "cancelled");
    assert_eq!(world.state(id).await, "cancelled");
    world.db.run("select 1").await;
}

fn as_role(url: &str, role: &str) -> ConnectSettings {
    ConnectSettings::new(format!("{url}&options=-c%20role%3D{role}"))
}

#[tokio::test]
async fn a_producer_asks_cancels_and_reads_the_feed_and_that_is_all() {
    let url = migrated_database().await;
    let mut db = Session::open(&url).await;
    db.run("set role capture_producer").await;
    db.run("begin").await;
    let plain = "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
                 values ('afterpay', 'o', '1', 'c', 100, 'USD') returning id";
    let id: Uuid = db.scalar(plain).await;
    db.run(&enqueue(Kind::Afterpay, "2", "c", 100, "")).await;
    db.run("select * from capture.enqueue_json('{\"provider\":\"optty\",\"order_id\":\"o\",\"payment_id\":\"3\",\"capture_ref\":\"c\",\"amount_minor\":1,\"currency\":\"JPY\"}')")
        .await;
    db.run("commit").await;
    let states: Vec<String> = db.column("select state from capture.status").await;
    assert_eq!(states, ["ready"; 3]);
    let said: String = db.scalar(&format!("select capture.cancel('{id}', 'why')")).await;
    assert_eq!(said, "cancelled");
    db.run("select * from capture.events_after(null, 10)").await;
    for forbidden in [
        "select capture.release(provider => 'afterpay', payment_id => '1')",
        "select capture.rescue(1)",
        "select capture.settle('[]', '[]')",
        "select capture.set_lane_pause(1, true, 'me', 'why')",
        "update capture.clock set ahead = '1 year'",
        "create table capture.mine ()",
        "alter table capture.intents disable trigger all",
    ] {
        let refused = db.try_run(forbidden).await.expect_err(forbidden);
        assert_eq!(refused.sqlstate, "42501", "{forbidden}");
    }
}

#[tokio::test]
async fn the_role_of_a_worker_is_enough_for_a_worker() {
    let mut world = World::new().await;
    let outbox = Outbox::connect(&as_role(&world.url, "capture_worker")).await.unwrap();
    let worker = Worker::new(
        outbox.clone(),
        world.plan.lanes(&world.simulator),
        world.plan.settings.clone(),
    )
    .await
    .unwrap();
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        intents.push(world.capture(kind, 1, 1234).await);
    }
    assert_eq!(worker.drain().await.unwrap(), 4);
    for intent in intents {
        assert_eq!(world.state(intent).await, "captured");
    }
    outbox.check_schema().await.unwrap();
    outbox.verify_schema().await.unwrap();
    outbox.heartbeat(worker.id(), None, &[]).await.unwrap();
    // Twice: the second time it renews its row.
    outbox.lie_down(worker.id()).await.unwrap();
    outbox.lie_down(worker.id()).await.unwrap();
    outbox.listen().await.unwrap();
    outbox.get_up(worker.id()).await.unwrap();
    outbox.rescue(10).await.unwrap();
    outbox.take_shipments(10).await.unwrap();
    outbox.match_releases(10).await.unwrap();
    outbox.watch_deadlines(Duration::from_secs(60), 10).await.unwrap();
    outbox.give_back(Uuid::new_v4()).await.unwrap();
    outbox.releases_are_open().await.unwrap();
    outbox.backlog().await.unwrap();
    outbox.sweep_waiters().await.unwrap();
    outbox.depart(worker.id()).await.unwrap();
    world.books_agree().await;
}

#[tokio::test]
async fn the_role_of_metrics_is_enough_to_look_and_that_of_an_operator_to_act() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    for role in ["capture_metrics", "capture_readonly", "capture_operator"] {
        let outbox = Outbox::connect(&as_role(&world.url, role)).await.unwrap();
        outbox.backlog().await.unwrap();
        outbox.checks().await.unwrap();
        outbox.counts().await.unwrap();
        outbox.lanes().await.unwrap();
        outbox.workers().await.unwrap();
        outbox.capture(intent).await.unwrap();
        outbox.timeline(intent).await.unwrap();
        outbox
            .dead_groups(&capture::filter::Filter::default(), &capture::outbox::GroupBy::ALL)
            .await
            .unwrap();
        outbox.doctor_facts().await.unwrap();
        let acts = outbox.cancel(intent, "why").await;
        assert_eq!(acts.is_ok(), role == "capture_operator", "{role}");
    }
    assert_eq!(world.state(intent).await, "cancelled");
}

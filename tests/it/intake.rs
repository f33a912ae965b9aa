//! The door of the outbox: what is refused, in which words, and what a repeat does.

use std::sync::Arc;
use std::time::Duration;

use capture::outcome::Evidence;
use capture::retry::{DeadReason, Disposition, Wait};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sqlx::Row;
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::by_hand::receipt;
use crate::database::{Refused, Session, migrated_database};
use crate::kind::Kind;
use crate::world::{World, enqueue};

/// A row that must be refused, and how.
#[derive(Deserialize)]
struct BadRow {
    name: String,
    row: Map<String, Value>,
    sqlstate: String,
    constraint: String,
    column: String,
    hint_contains: String,
}

fn bad_rows() -> Vec<BadRow> {
    serde_json::from_str(include_str!("../intake/bad_rows.json")).unwrap()
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => panic!("neither null nor a string: {other}"),
    }
}

fn insert(row: &Map<String, Value>) -> String {
    let columns: Vec<&str> = row.keys().map(String::as_str).collect();
    let values: Vec<String> = row.values().map(literal).collect();
    format!(
        "insert into capture.intents ({}) values ({})",
        columns.join(", "),
        values.join(", ")
    )
}

#[tokio::test]
async fn a_bad_row_is_refused_by_name_with_its_column_and_with_what_to_do() {
    let mut db = Session::open(&migrated_database().await).await;
    let rows = bad_rows();
    assert!(rows.len() >= 119, "the catalogue has shrunk to {}", rows.len());
    let mut wrong = Vec::new();
    for bad in rows {
        let refused = db.try_run(&insert(&bad.row)).await.expect_err(&bad.name);
        let as_told = refused.sqlstate == bad.sqlstate
            && refused.constraint == bad.constraint
            && refused.column == bad.column
            && refused.hint.contains(&bad.hint_contains);
        if !as_told {
            wrong.push(format!("{}: {refused:?}", bad.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let rows: i64 = db.scalar("select count(*) from capture.intents").await;
    assert_eq!(rows, 0, "nothing got in");
}

#[tokio::test]
async fn enqueue_and_its_document_refuse_a_bad_row_in_the_same_words() {
    let mut db = Session::open(&migrated_database().await).await;
    let mut compared = 0;
    for bad in bad_rows() {
        // The function has no such parameter, or takes what the column would have to parse.
        if bad.row.contains_key("created_at") || bad.sqlstate != "23514" {
            continue;
        }
        let arguments: Vec<String> = bad
            .row
            .iter()
            .map(|(name, value)| format!("{name} => {}", literal(value)))
            .collect();
        let sql = format!("select * from capture.enqueue({})", arguments.join(", "));
        let refused = db.try_run(&sql).await.expect_err(&bad.name);
        assert_eq!(
            (&refused.constraint, &refused.column),
            (&bad.constraint, &bad.column),
            "{}",
            bad.name
        );
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

fn good(reference: &str, more: &str) -> String {
    enqueue(Kind::Afterpay, "400101010", reference, 1234, more).replace("select id from", "select id, created from")
}

async fn enqueued(db: &mut Session, sql: &str) -> Result<(Uuid, bool), Refused> {
    let rows = db.try_rows(sql).await?;
    Ok((rows[0].get(0), rows[0].get(1)))
}

#[tokio::test]
async fn the_same_reference_with_the_same_content_is_the_same_intent() {
    let mut db = Session::open(&migrated_database().await).await;
    let (id, created) = enqueued(&mut db, &good("invoice-17", "")).await.unwrap();
    assert!(created);
    for again in [
        good("invoice-17", ""),
        good("invoice-17", ", priority => null, details => null"),
        good(
            "invoice-17",
            ", traceparent => '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'",
        ),
        good("invoice-17", &format!(", id => '{}'", Uuid::new_v4())),
    ] {
        assert_eq!(enqueued(&mut db, &again).await.unwrap(), (id, false), "{again}");
    }
    let document = json!({"provider": "afterpay", "order_id": "order of 400101010", "payment_id": "400101010",
        "capture_ref": "invoice-17", "amount_minor": 1234, "currency": "USD"});
    let sql = format!("select * from capture.enqueue_json('{document}')");
    assert_eq!(enqueued(&mut db, &sql).await.unwrap(), (id, false));
    let rows: i64 = db.scalar("select count(*) from capture.ready").await;
    assert_eq!(rows, 1, "one intent, one place");
}

#[tokio::test]
async fn the_same_reference_with_other_content_is_refused_and_says_what_differs() {
    let mut db = Session::open(&migrated_database().await).await;
    enqueued(&mut db, &good("invoice-17", "")).await.unwrap();
    for (more, column) in [
        (", authorized_minor => 5000", "authorized_minor"),
        (
            ", authorization_expires_at => '2090-01-01Z'",
            "authorization_expires_at",
        ),
        (", hold => 'shipment'", "hold"),
        (", not_before => '2090-01-01Z'", "not_before"),
        (", priority => 1", "priority"),
        (", details => '{\"po_number\": \"7\"}'", "details"),
    ] {
        let refused = enqueued(&mut db, &good("invoice-17", more)).await.unwrap_err();
        assert_eq!(
            (
                refused.sqlstate.as_str(),
                refused.constraint.as_str(),
                refused.column.as_str()
            ),
            ("23505", "intents_capture_ref_unique", column)
        );
        assert!(refused.hint.contains("new capture_ref"), "{refused:?}");
    }
    let other_amount = good("invoice-17", "").replace("1234", "1235");
    let refused = enqueued(&mut db, &other_amount).await.unwrap_err();
    assert_eq!(
        (refused.sqlstate.as_str(), refused.column.as_str()),
        ("23505", "amount_minor")
    );
}

#[tokio::test]
async fn of_racers_for_one_reference_one_creates_it_and_all_have_its_id() {
    let url = migrated_database().await;
    let barrier = Arc::new(Barrier::new(32));
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let mut db = Session::open(&url).await;
        let barrier = Arc::clone(&barrier);
        racers.spawn(async move {
            barrier.wait().await;
            enqueued(&mut db, &good("invoice-17", "")).await.unwrap()
        });
    }
    let said = racers.join_all().await;
    assert_eq!(said.iter().filter(|(_, created)| *created).count(), 1);
    assert!(said.iter().all(|(id, _)| *id == said[0].0), "{said:?}");
    let mut db = Session::open(&url).await;
    let places: i64 = db
        .scalar("select count(*) from capture.ready join capture.intents on id = intent")
        .await;
    assert_eq!(places, 1);
}

/// A lane that is not there yet is made by the first of them; who cannot see it must not place its intent nowhere.
#[tokio::test]
async fn of_racers_for_a_new_lane_every_one_that_commits_is_placed() {
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let url = migrated_database().await;
        let barrier = Arc::new(Barrier::new(12));
        let mut racers = tokio::task::JoinSet::new();
        for n in 0..12 {
            let mut db = Session::open(&url).await;
            let barrier = Arc::clone(&barrier);
            racers.spawn(async move {
                db.run(&format!(
                    "begin isolation level {isolation}; select 1 from capture.providers"
                ))
                .await;
                barrier.wait().await;
                match db.try_run(&enqueue(Kind::Optty, &format!("p{n}"), "c", 100, "")).await {
                    Ok(_) => db.try_run("commit").await,
                    Err(refused) => {
                        db.run("rollback").await;
                        Err(refused)
                    }
                }
            });
        }
        for said in racers.join_all().await {
            if let Err(refused) = said {
                assert_ne!(isolation, "read committed", "{refused:?}");
                assert_eq!(refused.sqlstate, "40001", "{isolation}: {refused:?}");
            }
        }
        let mut db = Session::open(&url).await;
        let lost: i64 = db
            .scalar("select count(*) from capture.intents where id not in (select intent from capture.ready)")
            .await;
        assert_eq!(lost, 0, "{isolation}: an intent is nowhere");
    }
}

#[tokio::test]
async fn a_document_is_read_strictly() {
    let mut db = Session::open(&migrated_database().await).await;
    for (document, sqlstate, constraint) in [
        ("", "22P02", "intents_document_readable"),
        ("[]", "22P02", "intents_document_readable"),
        (
            "{\"provider\": \"afterpay\\u0000\"}",
            "22P02",
            "intents_document_readable",
        ),
        ("{\"amount_minor\": 1e400000}", "22P02", "intents_document_readable"),
        (
            "{\"amount_minor\": 1, \"amount_minor\": 2}",
            "22023",
            "intents_document_keys_known",
        ),
        ("{\"amount\": 1}", "22023", "intents_document_keys_known"),
        ("{\"amount_minor\": true}", "22023", "intents_document_types"),
        ("{\"amount_minor\": \"12,34\"}", "22023", "intents_document_types"),
        ("{\"priority\": 1.5}", "22023", "intents_document_types"),
        ("{\"not_before\": \"tomorrow\"}", "22023", "intents_document_types"),
        ("{\"details\": \"{}\"}", "22023", "intents_document_types"),
        ("{\"id\": \"17\"}", "22023", "intents_document_types"),
        ("{}", "23514", "intents_provider_given"),
    ] {
        let sql = format!("select * from capture.enqueue_json('{document}')");
        let refused = db.try_run(&sql).await.expect_err(document);
        assert_eq!(
            (refused.sqlstate.as_str(), refused.constraint.as_str()),
            (sqlstate, constraint),
            "{document}"
        );
        assert!(!refused.hint.is_empty(), "{document}");
    }
}

/// What siblings leave of 50.00, by what became of them.
#[tokio::test]
async fn siblings_that_ended_without_money_leave_room_and_all_others_do_not() {
    let dead = |reason| Disposition::Dead(reason, Evidence::default());
    let mut world = World::new().await;
    for (n, (name, disposition, leaves_room)) in (0..).zip([
        ("dead: rejected", Some(dead(DeadReason::Rejected)), true),
        ("dead: exhausted", Some(dead(DeadReason::Exhausted)), true),
        ("dead: expired", Some(dead(DeadReason::Expired)), true),
        (
            "dead: captured_elsewhere",
            Some(dead(DeadReason::CapturedElsewhere)),
            true,
        ),
        ("dead: poison", Some(dead(DeadReason::Poison)), true),
        ("dead: undecided", Some(dead(DeadReason::Undecided)), false),
        ("cancelled", Some(Disposition::Cancelled), true),
        (
            "backing off",
            Some(Disposition::Retry(Wait::Exactly(Duration::from_secs(60)))),
            false,
        ),
        (
            "unknown",
            Some(Disposition::Verify(Wait::Exactly(Duration::from_secs(60)))),
            false,
        ),
        ("captured", None, false),
    ]) {
        let payment = Kind::Afterpay.payment(n);
        world
            .insert(Kind::Afterpay, &payment, "a", 3000, ", authorized_minor => 5000")
            .await;
        let claim = world.claim_one(Kind::Afterpay).await;
        let disposition = disposition.unwrap_or_else(|| Disposition::Captured(receipt(&claim)));
        world.settle(claim, disposition).await;
        let told = world
            .db
            .try_run(&enqueue(Kind::Afterpay, &payment, "b", 3000, ""))
            .await;
        match told {
            Ok(_) => assert!(leaves_room, "{name} leaves no room"),
            Err(refused) => {
                assert!(!leaves_room, "{name} leaves room: {refused:?}");
                assert_eq!(refused.constraint, "intents_within_authorized", "{name}");
                assert!(refused.hint.contains("2000"), "what is left: {refused:?}");
            }
        }
        world.pass(Duration::from_secs(1)).await;
        // Nothing of this payment is to be claimed in the next round.
        world.db.run("delete from capture.ready").await;
    }
}

#[tokio::test]
async fn the_databases_currencies_are_those_of_the_program() {
    let mut db = Session::open(&migrated_database().await).await;
    let rows = db
        .rows("select code, exponent::int from capture.currencies order by code")
        .await;
    let theirs: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut wrong = Vec::new();
    for (code, exponent) in &theirs {
        let ours = capture::intent::Currency::from_code(code).map(|currency| currency.exponent());
        if ours != u32::try_from(*exponent).ok() {
            wrong.push(format!("{code}: {exponent} in the database, {ours:?} in the program"));
        }
    }
    let letters = || 'A'..='Z';
    let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| format!("{a}{b}{c}"))));
    assert!(wrong.is_empty(), "{wrong:#?}");
    let in_the_program = codes.filter(|code| capture::intent::Currency::from_code(code).is_some());
    let withdrawn: Vec<String> = in_the_program
        .filter(|code| !theirs.iter().any(|(known, _)| known == code))
        .collect();
    assert_eq!(
        withdrawn,
        ["BGN", "CUC", "HRK", "SLL", "ZWL"],
        "what the program knows beyond is no money any more"
    );
}

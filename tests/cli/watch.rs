//! `--watch` of `dead` and `order`: drawn anew on a terminal, one document a line for programs.

use rustix::process::Signal;
use serde_json::Value;

use super::place::{Place, Running};
use super::terminal::Terminal;

/// What clears the screen before each page.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// A place with a dead letter of order o-1001.
async fn with_a_dead_letter() -> Place {
    let place = Place::with_outbox().await;
    die(&place, "1001", 1234).await;
    place
}

/// Enqueues a capture, and lets it die as if its provider had refused it.
async fn die(place: &Place, payment: &str, minor: u32) -> String {
    let document = format!(
        r#"{{"provider":"afterpay","order_id":"o-{payment}","payment_id":"{payment}","capture_ref":"r","amount_minor":{minor},"currency":"USD"}}"#
    );
    let id = place.run(&["enqueue", &document, "-o", "id"]).await.ends_with(0).stdout;
    let id = id.trim().to_owned();
    place
        .run_sql(&format!(
            "with gone as (delete from capture.ready where intent = '{id}' returning *)
             insert into capture.outcomes (intent, lane, state, fence, attempts, ended_at, dead_reason, last_class, last_code,
                                           created_at, amount_minor, currency, expires_at)
             select g.intent, g.lane, 'dead', g.fence, 1, now(), 'rejected', 'rejected', 'invalid_amount',
                    i.created_at, i.amount_minor, i.currency, i.authorization_expires_at
             from gone g join capture.intents i on i.id = g.intent"
        ))
        .await;
    id
}

async fn document(running: &mut Running) -> Value {
    let line = running.stdout.next_line().await.unwrap().unwrap();
    serde_json::from_str(&line).unwrap()
}

#[tokio::test]
async fn dead_is_drawn_anew_with_what_died_meanwhile_until_ctrl_c() {
    let place = with_a_dead_letter().await;
    let Some(mut terminal) = Terminal::open(&place, "dead --watch=500ms") else {
        return;
    };
    terminal.until(CLEAR).await;
    let first = terminal.until("12.34 USD").await;
    assert!(first.contains("rejected") && !first.contains("56.78"), "{first:?}");
    die(&place, "1002", 5678).await;
    while !terminal.until(CLEAR).await.contains("56.78 USD") {}
    terminal.until("rejected").await;
    terminal.press(b"\x03").await;
    let (code, _) = terminal.ended().await;
    assert_eq!(code, 130);
}

#[tokio::test]
async fn an_order_is_drawn_anew_with_where_its_money_is_by_now_until_ctrl_c() {
    let place = Place::with_outbox().await;
    let id = place.enqueue("1001", 1234).await;
    let Some(mut terminal) = Terminal::open(&place, "order o-1001 --watch=500ms") else {
        return;
    };
    terminal.until(CLEAR).await;
    let first = terminal.until(CLEAR).await;
    assert!(first.contains("ready") && !first.contains("cancelled"), "{first:?}");
    place.run(&["cancel", &id, "--reason", "x"]).await.ends_with(0);
    while !terminal.until(CLEAR).await.contains("cancelled") {}
    terminal.press(b"\x03").await;
    let (code, _) = terminal.ended().await;
    assert_eq!(code, 130);
}

#[tokio::test]
async fn a_watch_in_json_is_a_document_a_line() {
    let place = with_a_dead_letter().await;
    let watches = [
        vec!["dead", "--watch=500ms", "-o", "json"],
        vec!["order", "o-1001", "--watch=500ms", "-o", "json"],
        vec!["dead", "--group-by", "reason", "--watch=500ms", "-o", "json"],
    ];
    for watch in watches {
        let mut running = place.start(&watch);
        let first = document(&mut running).await;
        assert_eq!(first.as_array().unwrap().len(), 1, "{watch:?}: {first}");
        assert_eq!(document(&mut running).await.as_array().unwrap().len(), 1, "{watch:?}");
        running.signal(Signal::INT);
        assert_eq!(running.ended().await, Some(130), "{watch:?}");
    }

    let mut dead = place.start(&["dead", "--watch=500ms", "-o", "json"]);
    let mut order = place.start(&["order", "o-1001", "--watch=500ms", "-o", "json"]);
    let state = |rows: &Value| rows[0]["state"].as_str().unwrap().to_owned();
    assert_eq!(document(&mut dead).await[0]["order_id"], "o-1001");
    assert_eq!(state(&document(&mut order).await), "dead");
    let second = die(&place, "1002", 5678).await;
    let both = loop {
        let rows = document(&mut dead).await;
        if rows.as_array().unwrap().len() == 2 {
            break rows;
        }
    };
    // The newest first.
    assert_eq!(both[0]["id"], second.as_str());
    let first = both[1]["id"].as_str().unwrap();
    let resolve = [
        "resolve",
        first,
        "--as",
        "captured",
        "--evidence",
        "statement 7",
        "--reason",
        "x",
        "--yes",
    ];
    place.run(&resolve).await.ends_with(0);
    while state(&document(&mut order).await) != "captured" {}
    while document(&mut dead).await.as_array().unwrap().len() != 1 {}
    for running in [dead, order] {
        running.signal(Signal::INT);
        assert_eq!(running.ended().await, Some(130));
    }
}

#[tokio::test]
async fn what_can_not_be_watched_is_said_at_once_and_a_reader_that_goes_ends_a_watch() {
    let place = with_a_dead_letter().await;
    for verb in [vec!["dead"], vec!["order", "o-1001"]] {
        for form in ["table", "ndjson", "csv", "id"] {
            let run = place
                .run(&[&verb[..], &["--watch", "-o", form]].concat())
                .await
                .ends_with(2);
            assert!(run.stderr.contains("-o json"), "{run:?}");
        }
    }
    place
        .run(&["order", "nobodys", "--watch", "-o", "json"])
        .await
        .ends_with(3);
    let watch = place.start(&["dead", "--watch=500ms", "-o", "json"]);
    assert_eq!(watch.closed_by_reader(async || {}).await, Some(0));
}

//! `list`, `get`, `timeline`, `status`, `lane list`, `events`, `release`.

use rustix::process::Signal;

use super::place::Place;

#[tokio::test]
async fn a_capture_is_listed_shown_and_told() {
    let place = Place::with_outbox().await;
    let id = place.enqueue("1001", 1234).await;
    let page = place.run(&["list"]).await.ends_with(0).stdout;
    assert!(page.contains("12.34 USD") && page.contains(&id), "{page}");
    let rows = place.run(&["list", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(rows[0]["amount_minor"], 1234);
    assert_eq!(rows[0]["state"], "ready");
    let csv = place.run(&["list", "-o", "csv"]).await.ends_with(0).stdout;
    assert!(
        csv.starts_with("id,provider,account,order_id,payment_id,capture_ref,amount_minor,currency,state,"),
        "{csv}"
    );
    let one = place.run(&["get", &id, "-o", "json"]).await.ends_with(0).json();
    assert_eq!(one, rows[0]);
    let story = place.run(&["timeline", &id, "-o", "json"]).await.ends_with(0).json();
    assert_eq!(story[0]["what"], "enqueued");
}

#[tokio::test]
async fn what_is_not_there_ends_with_3() {
    let place = Place::with_outbox().await;
    let nobody = "01900000-0000-7000-8000-000000000000";
    for verb in ["get", "timeline"] {
        let run = place.run(&[verb, nobody]).await.ends_with(3);
        assert!(run.stderr.contains(nobody), "{}", run.stderr);
    }
    for verb in ["cancel", "replay"] {
        place.run(&[verb, nobody, "--reason", "x"]).await.ends_with(3);
    }
    let resolve = [
        "resolve",
        nobody,
        "--as",
        "captured",
        "--evidence",
        "e",
        "--reason",
        "x",
    ];
    place.run(&resolve).await.ends_with(3);
    let run = place
        .run(&["lane", "pause", "afterpay", "--reason", "x"])
        .await
        .ends_with(3);
    assert!(run.stderr.contains("none yet"), "{}", run.stderr);
}

#[tokio::test]
async fn filters_choose_alike_on_every_verb() {
    let place = Place::with_outbox().await;
    let small = place.enqueue("1001", 500).await;
    let large = place.enqueue("1002", 50_000).await;
    let listed = async |arguments: &[&str]| {
        let mut all = vec!["list", "-o", "id"];
        all.extend(arguments);
        place.run(&all).await.ends_with(0).stdout
    };
    assert_eq!(listed(&["--amount", ">=100.00 USD"]).await.trim(), large);
    assert_eq!(listed(&["--payment", "1001"]).await.trim(), small);
    assert_eq!(
        listed(&["--order", "o-1001", "--state", "ready,held", "--since", "1h"])
            .await
            .trim(),
        small
    );
    assert_eq!(listed(&["--until", "1h"]).await, "");
    assert_eq!(listed(&["--limit", "1"]).await.trim(), large, "the newest first");
}

#[tokio::test]
async fn status_shows_lanes_and_trips_over_what_nobody_serves() {
    let place = Place::with_outbox().await;
    assert!(
        place
            .run(&["status"])
            .await
            .ends_with(0)
            .stdout
            .contains("no lanes yet")
    );
    place.run(&["status", "--check"]).await.ends_with(0);
    place.enqueue("1001", 500).await;
    let status = place.run(&["status", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(status["lanes"][0]["lane"], "afterpay/default");
    assert_eq!(status["lanes"][0]["ready"], 1);
    assert_eq!(status["states"]["ready"], 1);
    assert_eq!(status["workers"], serde_json::json!([]));
    let check = place
        .run(&["status", "--check", "-o", "json"])
        .await
        .ends_with(7)
        .json();
    assert_eq!(check[0]["check"], "lane_unserved");
    let page = place.run(&["status"]).await.ends_with(0).stdout;
    assert!(page.contains("ready 1 ·"), "{page}");
}

#[tokio::test]
async fn lanes_are_paused_and_resumed_with_who_and_why() {
    let place = Place::with_outbox().await;
    place.enqueue("1001", 500).await;
    let result = async |arguments: &[&str]| {
        let mut all = vec!["lane"];
        all.extend(arguments);
        all.extend(["-o", "json"]);
        place.run(&all).await.ends_with(0).json()[0]["result"].clone()
    };
    assert_eq!(result(&["pause", "afterpay", "-n"]).await, "would_pause");
    assert_eq!(
        result(&["pause", "afterpay", "--reason", "their maintenance"]).await,
        "paused"
    );
    let again = ["lane", "pause", "afterpay/default", "--reason", "again", "-o", "json"];
    let again = place.run(&again).await.ends_with(5);
    assert_eq!(again.json()[0]["result"], "was_paused");
    assert!(
        again.stderr.contains("is paused already: by tess since") && again.stderr.contains(": their maintenance"),
        "{}",
        again.stderr
    );
    assert_eq!(
        result(&["pause", "afterpay", "--reason", "again", "-n"]).await,
        "was_paused"
    );
    let lane = place.run(&["lane", "list", "-o", "json"]).await.ends_with(0).json()[0].clone();
    assert_eq!(lane["paused_by"], "tess");
    assert_eq!(lane["pause_reason"], "their maintenance");
    assert_eq!(result(&["resume", "afterpay", "--reason", "over"]).await, "resumed");
    let run = place
        .run(&["lane", "pause", "afterpai", "--reason", "x"])
        .await
        .ends_with(3);
    assert!(run.stderr.contains("there are afterpay/default"), "{}", run.stderr);
}

#[tokio::test]
async fn events_are_read_on_behind_a_cursor_and_followed() {
    let place = Place::with_outbox().await;
    place.enqueue("1001", 500).await;
    place.enqueue("1002", 500).await;
    // The feed waits for the oldest transaction of the whole server: other tests have theirs.
    place.wait_for_events("enqueued", 2).await;
    let all = place
        .run(&["events", "tail", "--after", "0-0", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[0]["type"], "capture.enqueued");
    let cursor = all[0]["cursor"].as_str().unwrap();
    let rest = place
        .run(&["events", "tail", "--after", cursor, "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(rest.as_array().unwrap().len(), 1);
    assert_eq!(rest[0], all[1]);
    let last = place
        .run(&["events", "tail", "--last", "1", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(last[0], all[1]);
    place
        .run(&["events", "tail", "--after", "yesterday"])
        .await
        .ends_with(2);
    let elsewhere = place
        .run(&["events", "tail", "--after", "9999999999-1"])
        .await
        .ends_with(2)
        .stderr;
    assert!(elsewhere.contains("events_cursor_of_this_history"), "{elsewhere}");
    assert!(elsewhere.contains("begin anew from null"), "{elsewhere}");
    let none = place
        .run(&["events", "tail", "--type", "captured"])
        .await
        .ends_with(0)
        .stdout;
    assert_eq!(none, "");

    let mut follow = place.start(&["events", "tail", "-f", "--last", "0", "-o", "ndjson"]);
    // The feed's end is looked up before the first line, so what is enqueued now may come before it: two are enough.
    let mut seen = None;
    for payment in 1003.. {
        let id = place.enqueue(&payment.to_string(), 700).await;
        let line = tokio::time::timeout(std::time::Duration::from_millis(700), follow.stdout.next_line()).await;
        if let Ok(line) = line {
            let event: serde_json::Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
            assert_eq!(event["amount_minor"], 700);
            seen = Some(id);
            break;
        }
    }
    assert!(seen.is_some());
    follow.signal(Signal::INT);
    assert_eq!(follow.ended().await, Some(130));
}

#[tokio::test]
async fn the_last_events_of_a_type_are_found_however_many_others_follow() {
    let place = Place::with_outbox().await;
    let first = place.enqueue("1001", 500).await;
    let second = place.enqueue("1002", 500).await;
    place
        .run(&["cancel", &first, &second, "--reason", "x"])
        .await
        .ends_with(0);
    for payment in 1003..1015 {
        place.enqueue(&payment.to_string(), 500).await;
    }
    place.wait_for_events("enqueued", 14).await;
    let ids = async |arguments: &[&str]| -> Vec<String> {
        let mut all = vec!["events", "tail", "-o", "json"];
        all.extend(arguments);
        let events = place.run(&all).await.ends_with(0).json();
        let events = events.as_array().unwrap().iter();
        events
            .map(|event| event["intent_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        ids(&["--type", "cancelled"]).await,
        [first.clone(), second.clone()],
        "in feed order"
    );
    assert_eq!(
        ids(&["--type", "capture.cancelled", "--last", "1"]).await,
        std::slice::from_ref(&second)
    );
    assert_eq!(ids(&["--type", "cancelled,held", "--after", "0-0"]).await.len(), 2);
    assert_eq!(ids(&[]).await.len(), 10);
    assert_eq!(ids(&["--last", "0"]).await.len(), 0);

    // Followed, it goes on with what comes, and tells nothing twice.
    let mut follow = place.start(&[
        "events",
        "tail",
        "-f",
        "--type",
        "cancelled",
        "--last",
        "1",
        "-o",
        "ndjson",
    ]);
    let mut next = async || {
        let line = follow.stdout.next_line().await.unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        event["intent_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(next().await, second);
    let third = place.enqueue("1015", 500).await;
    place.run(&["cancel", &third, "--reason", "x"]).await.ends_with(0);
    assert_eq!(next().await, third);
    follow.signal(Signal::INT);
    assert_eq!(follow.ended().await, Some(130));
}

#[tokio::test]
async fn a_table_in_a_pipe_is_whole_however_narrow_the_terminal_behind_it() {
    let mut place = Place::with_outbox().await;
    let id = place.enqueue("1001", 500).await;
    place.set("COLUMNS", "40");
    let page = place.run(&["list"]).await.ends_with(0).stdout;
    let lines: Vec<&str> = page.lines().collect();
    assert_eq!(lines.len(), 2, "{page}");
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["ID", "LANE", "ORDER", "AMOUNT", "STATE", "ATTEMPTS", "LAST", "CREATED"]
    );
    assert!(lines[1].starts_with(&id), "{page}");
}

#[tokio::test]
async fn a_release_may_come_before_and_is_told_once() {
    let place = Place::with_outbox().await;
    let release = [
        "release",
        "--provider",
        "afterpay",
        "--payment",
        "1001",
        "--shipment-ref",
        "s1",
        "--reason",
        "parcel 7 left",
        "-o",
        "json",
    ];
    let would = place
        .run(&["release", "--provider", "afterpay", "--payment", "1001", "-n"])
        .await
        .ends_with(0);
    assert!(would.stderr.contains("would wait"), "{}", would.stderr);
    assert_eq!(place.run(&release).await.ends_with(0).json()["created"], true);
    assert_eq!(place.run(&release).await.ends_with(0).json()["created"], false);
    let audit = place.run(&["audit", "list", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(audit.as_array().unwrap().len(), 1, "{audit}");
    assert_eq!(
        (&audit[0]["action"], &audit[0]["actor"], &audit[0]["reason"]),
        (&"release".into(), &"tess".into(), &"parcel 7 left".into())
    );
    // What frees another capture when it is tried again says so.
    let unnamed = [
        "release",
        "--provider",
        "afterpay",
        "--payment",
        "1001",
        "--reason",
        "x",
    ];
    let warned = place.run(&unnamed).await.ends_with(0);
    assert!(warned.stderr.contains("--shipment-ref"), "{}", warned.stderr);
    let named = [&unnamed[..], &["--capture-ref", "a", "-o", "json"]].concat();
    let told = place.run(&named).await.ends_with(0);
    assert!(told.stderr.is_empty(), "{}", told.stderr);
    assert_eq!(told.json()["created"], true);
    assert_eq!(place.run(&named).await.ends_with(0).json()["created"], false);
    // Who gives no reason is known by the login alone, and may be of fulfilment.
    let plain = [&named[..5], &["--capture-ref", "b", "-o", "json"]].concat();
    assert_eq!(place.run(&plain).await.ends_with(0).json()["created"], true);
    let audit = place.run(&["audit", "list", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(audit.as_array().unwrap().len(), 3, "{audit}");
    let held = r#"{"provider":"afterpay","order_id":"1","payment_id":"1001","capture_ref":"a","amount_minor":1234,"currency":"USD","hold":"shipment"}"#;
    let id = place.run(&["enqueue", held, "-o", "id"]).await.ends_with(0).stdout;
    let would = place
        .run(&["release", "--provider", "afterpay", "--order", "1", "-n", "-o", "id"])
        .await
        .ends_with(0);
    assert_eq!(would.stdout, id);
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::with_outbox().await;
    place.enqueue("1001", 500).await;
    let mut gone = place.start(&["events", "tail", "--follow", "--after", "0-0", "-o", "ndjson"]);
    gone.stdout.next_line().await.unwrap().unwrap();
    let code = gone.closed_by_reader(|| place.enqueue("1002", 500)).await;
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn a_verb_that_acts_goes_on_without_its_reader_and_keeps_its_exit_code() {
    let place = Place::with_outbox().await;
    // More than a pipe's writer keeps back: the pipe is found closed in the middle.
    let mut documents: Vec<String> = (0..300)
        .map(|n| {
            format!(
                r#"{{"provider":"afterpay","order_id":"o","payment_id":"90{n}","capture_ref":"r","amount_minor":100,"currency":"USD"}}"#
            )
        })
        .collect();
    documents.push(r#"{"provider":"nobody"}"#.to_owned());
    place.write("documents.json", &documents.join("\n"));
    let act = place.start(&["enqueue", "documents.json", "-o", "ndjson"]);
    let code = act.closed_by_reader(|| async {}).await;
    assert_eq!(code, Some(6), "one of them was refused");
    let status = place.run(&["status", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(status["states"]["ready"], 300);
}

//! `risk`, `order`, `dead codes`, `top`, `export`, `prune`, `lane limit|probe`, `completion`, `man`, `--watch`.

use capture::simulator::{Authorization, ProviderName};

use super::place::Place;

#[tokio::test]
async fn money_at_risk_and_the_ledger_of_an_order_are_told_in_every_form() {
    let place = Place::with_outbox().await;
    let none = place.run(&["risk"]).await.ends_with(0);
    assert!(none.stderr.contains("nothing is authorised"), "{none:?}");
    assert_eq!(
        place.run(&["risk", "-o", "json"]).await.ends_with(0).stdout.trim(),
        "[]"
    );
    let id = place.enqueue("1001", 1234).await;
    let risk = place.run(&["risk", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(
        (&risk[0]["hours"], &risk[0]["reason"]),
        (&"unknown".into(), &"ready".into()),
        "{risk}"
    );
    assert_eq!(risk[0]["amount_minor"], 1234);
    assert!(place.run(&["risk"]).await.ends_with(0).stdout.contains("12.34 USD"));
    let forecast = place.run(&["risk", "--forecast"]).await.ends_with(0);
    assert!(forecast.stderr.contains("every known deadline is kept"), "{forecast:?}");
    // One that has a deadline, in a lane that captured nothing yet, and then in one that is paused.
    let end = (chrono::Utc::now() + chrono::TimeDelta::hours(5)).to_rfc3339();
    let document = format!(
        r#"{{"provider":"afterpay","order_id":"o-1002","payment_id":"1002","capture_ref":"r","amount_minor":700,"currency":"USD","authorization_expires_at":"{end}"}}"#
    );
    let late = place.run(&["enqueue", &document, "-o", "id"]).await.ends_with(0).stdout;
    let forecast = place
        .run(&["risk", "--forecast", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(forecast.as_array().unwrap().len(), 1, "{forecast}");
    assert_eq!(
        (&forecast[0]["id"], &forecast[0]["turn_at"]),
        (&late.trim().into(), &serde_json::Value::Null)
    );
    let forecast = place.run(&["risk", "--forecast"]).await.ends_with(0);
    assert!(
        forecast.stderr.contains("afterpay/default 0 an hour, 2 in line"),
        "{forecast:?}"
    );
    place
        .run(&["lane", "pause", "afterpay", "--reason", "x"])
        .await
        .ends_with(0);
    let forecast = place.run(&["risk", "--forecast"]).await.ends_with(0);
    assert!(
        forecast
            .stderr
            .contains("afterpay/default is paused, so none of 2 in line gets its turn"),
        "{forecast:?}"
    );
    for bad in [
        vec!["risk", "--within", "soon"],
        vec!["risk", "--limit", "3"],
        vec!["risk", "--watch=1ms"],
    ] {
        place.run(&bad).await.ends_with(2);
    }
    let page = place.run(&["order", "o-1001"]).await.ends_with(0).stdout;
    assert!(page.contains("12.34 USD") && page.contains(&id), "{page}");
    let rows = place.run(&["order", "o-1001", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(rows[0]["id"], id.as_str());
    assert_eq!(
        place
            .run(&["order", "o-1001", "-o", "id"])
            .await
            .ends_with(0)
            .stdout
            .trim(),
        id
    );
    place.run(&["order", "nobody's"]).await.ends_with(3);
    // Without accounts nobody can be asked.
    place.run(&["order", "o-1001", "--ask"]).await.ends_with(2);
}

#[tokio::test]
async fn the_provider_is_asked_and_a_difference_is_marked() {
    let (place, simulator) = Place::with_simulator(|_| {}).await;
    place.enqueue("1001", 1234).await;
    place.work_until("captured", 1).await;
    let same = place
        .run(&["order", "o-1001", "--ask", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(same[0]["differs"], false, "{same}");
    assert!(
        same[0]["provider_says"]
            .as_str()
            .unwrap()
            .starts_with("captured 12.34 USD"),
        "{same}"
    );
    let probe = place
        .run(&["lane", "probe", "afterpay", "--read", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(probe[0]["result"], "answered");
    let captures = simulator
        .requests()
        .iter()
        .filter(|request| request.money_moved)
        .count();
    assert_eq!(captures, 1, "a question is never a capture");
    let id = same[0]["id"].as_str().unwrap();
    // What only a damaged or foreign copy of the books could say: of what was captured nothing can be changed.
    let theirs = format!(
        "set session_replication_role = replica; update capture.outcomes set provider_capture_id = 'another' where intent = '{id}'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(theirs))
        .execute(&mut place.connection().await)
        .await
        .unwrap();
    let other = place
        .run(&["order", "o-1001", "--ask", "-o", "json"])
        .await
        .ends_with(7);
    assert_eq!(other.json()[0]["differs"], true);
}

#[tokio::test]
async fn what_siblings_captured_is_no_difference_and_a_pruned_capture_is_still_ours() {
    let (place, simulator) = Place::with_simulator(|_| {}).await;
    simulator.create_authorization(Authorization::new(ProviderName::Afterpay, "1001", 5000, "USD"));
    let ours = place.enqueue("1001", 4000).await;
    place.work_until("captured", 1).await;
    // The rest of the payment is too little for this one: refused, and dead.
    let document = r#"{"provider":"afterpay","order_id":"o-1001","payment_id":"1001","capture_ref":"second","amount_minor":4500,"currency":"USD"}"#;
    let second = place.run(&["enqueue", document, "-o", "id"]).await.ends_with(0).stdout;
    place.work_until("dead_lettered", 1).await;
    let asked = place
        .run(&["order", "o-1001", "--ask", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    let of = |id: &str| {
        let mut rows = asked.as_array().unwrap().iter();
        rows.find(|row| row["id"] == id.trim()).unwrap().clone()
    };
    assert_eq!(of(&ours)["differs"], false, "{asked}");
    assert_eq!(of(&second)["differs"], false, "{asked}");
    assert!(
        of(&second)["provider_says"]
            .as_str()
            .unwrap()
            .contains("other captures of this payment"),
        "{asked}"
    );
    let look = place.run(&["replay", second.trim(), "-n", "--read"]).await.ends_with(0);
    let said = format!("{}{}", look.stdout, look.stderr);
    assert!(
        said.contains("other captures of this payment left no room") && !said.contains("somebody else"),
        "{said}"
    );
    place.run_sql("update capture.clock set ahead = '100 days'").await;
    place
        .run(&["prune", "--older-than", "90d", "--reason", "x"])
        .await
        .ends_with(0);
    place.run(&["order", "o-1001", "--ask"]).await.ends_with(0);
    let captures = simulator
        .requests()
        .iter()
        .filter(|request| request.money_moved)
        .count();
    assert_eq!(captures, 1);
}

#[tokio::test]
async fn an_export_goes_on_behind_any_of_its_rows() {
    let place = Place::with_outbox().await;
    for n in 1001..1006 {
        place.enqueue(&n.to_string(), 500).await;
    }
    for what in ["captures", "events"] {
        let all = place.run(&["export", what]).await.ends_with(0);
        let lines: Vec<serde_json::Value> = all
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 5, "{all:?}");
        let cursor = lines[1]["cursor"].as_str().unwrap();
        let rest = place
            .run(&["export", what, "--after", cursor])
            .await
            .ends_with(0)
            .stdout;
        assert_eq!(
            rest,
            all.stdout
                .lines()
                .skip(2)
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        );
        let csv = place.run(&["export", what, "-o", "csv"]).await.ends_with(0).stdout;
        assert_eq!(csv.lines().count(), 6);
        place
            .run(&["export", what, "--after", "'; drop table"])
            .await
            .ends_with(2);
    }
    let some = place
        .run(&["export", "captures", "--limit", "2", "-o", "id"])
        .await
        .ends_with(0)
        .stdout;
    assert_eq!(some.lines().count(), 2);
    assert!(place.run(&["export", "audit"]).await.ends_with(0).stdout.is_empty());
    place
        .run(&["lane", "limit", "afterpay", "--rate-per-minute", "30", "--reason", "x"])
        .await
        .ends_with(0);
    let audit = place.run(&["export", "audit"]).await.ends_with(0).json();
    assert_eq!(
        (&audit["action"], &audit["lane"]),
        (&"lane limit".into(), &"afterpay/default".into())
    );
    place.run(&["export", "audit", "--after", "x"]).await.ends_with(2);
}

#[tokio::test]
async fn a_lane_is_limited_cleared_and_probed() {
    let place = Place::with_outbox().await;
    place
        .run(&["lane", "limit", "afterpay", "--rate-per-minute", "30", "--reason", "x"])
        .await
        .ends_with(3);
    place.enqueue("1001", 500).await;
    let limit = [
        "lane",
        "limit",
        "afterpay/default",
        "--rate-per-minute",
        "30",
        "-o",
        "json",
    ];
    let dry = place.run(&[&limit[..], &["-n"]].concat()).await.ends_with(0).json();
    assert_eq!(dry[0]["result"], "would_limit");
    let done = place
        .run(&[&limit[..], &["--reason", "a call from them"]].concat())
        .await
        .ends_with(0)
        .json();
    assert_eq!(done[0]["result"], "limited");
    assert!(
        place
            .run(&["lane", "list"])
            .await
            .ends_with(0)
            .stdout
            .contains("30 (operator)")
    );
    let lanes = place.run(&["lane", "list", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(
        (&lanes[0]["rate_override"], &lanes[0]["rate_per_minute"]),
        (&30.into(), &0.into())
    );
    let cleared = place
        .run(&["lane", "limit", "afterpay", "--clear", "--reason", "over", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(cleared[0]["result"], "cleared");
    for bad in [
        vec!["--rate-per-minute", "0"],
        vec!["--rate-per-minute", "5", "--clear"],
        vec![],
    ] {
        place
            .run(&[&["lane", "limit", "afterpay", "--reason", "x"][..], &bad].concat())
            .await
            .ends_with(2);
    }
    let probed = place
        .run(&["lane", "probe", "afterpay", "--reason", "x", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(probed[0]["result"], "closed");
    place.run(&["lane", "probe", "afterpay"]).await.ends_with(2);
    place
        .run(&["lane", "pause", "afterpay", "--reason", "x"])
        .await
        .ends_with(0);
    place
        .run(&["lane", "probe", "afterpay", "--reason", "x"])
        .await
        .ends_with(5);
}

#[tokio::test]
async fn a_prune_says_what_it_takes_and_keeps_a_week() {
    let place = Place::with_outbox().await;
    let short = place
        .run(&["prune", "--older-than", "2d", "--reason", "x"])
        .await
        .ends_with(2);
    assert!(short.stderr.contains("--force"), "{short:?}");
    place.run(&["prune", "--older-than", "90d"]).await.ends_with(2);
    // Of two old ones one has ended, with two events.
    let ended = place.enqueue("1001", 500).await;
    place.enqueue("1002", 500).await;
    place.run(&["cancel", &ended, "--reason", "x"]).await.ends_with(0);
    place.run_sql("update capture.clock set ahead = '100 days'").await;
    let dry = place
        .run(&["prune", "--older-than", "90d", "-n", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!((&dry["attempts"], &dry["events"]), (&0.into(), &2.into()));
    let prune = ["prune", "--older-than", "90d", "--reason", "x", "-o", "json"];
    let done = place.run(&prune).await.ends_with(0).json();
    assert_eq!((&done["captures"], &done["events"]), (&2.into(), &2.into()));
    assert_eq!(place.run(&prune).await.ends_with(0).json()["events"], 0);
}

#[tokio::test]
async fn top_writes_one_frame_where_there_is_no_terminal() {
    let place = Place::with_outbox().await;
    place.enqueue("1001", 1234).await;
    let frame = place.run(&["top"]).await.ends_with(0).stdout;
    for part in [
        "afterpay/default",
        "12.34 USD",
        "workers: none",
        "operations: none is running",
    ] {
        assert!(frame.contains(part), "{frame}");
    }
    assert!(!frame.contains('\u{1b}'), "{frame:?}");
    place.run(&["top", "-o", "json"]).await.ends_with(2);
    for verb in ["list", "status", "risk"] {
        let run = place.run(&[verb, "--watch=5s"]).await.ends_with(2);
        assert!(run.stderr.contains("needs a terminal"), "{run:?}");
    }
    let codes = place.run(&["dead", "codes", "--since", "24h"]).await.ends_with(0);
    assert!(codes.stderr.contains("no new codes"), "{codes:?}");
    assert_eq!(
        place
            .run(&["dead", "codes", "-o", "json"])
            .await
            .ends_with(0)
            .stdout
            .trim(),
        "[]"
    );
    place.run(&["dead", "codes", "--since", "long ago"]).await.ends_with(2);
}

#[tokio::test]
async fn completion_and_manual_pages_need_no_database() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completion", shell]).await.ends_with(0).stdout;
        assert!(script.contains("replay") && script.contains("older-than"), "{shell}");
    }
    place.run(&["completion", "cmd"]).await.ends_with(2);
    let page = place.run(&["man", "lane", "limit"]).await.ends_with(0).stdout;
    assert!(page.contains(".TH") && page.contains("rate\\-per\\-minute"), "{page}");
    place.run(&["man", "nothing"]).await.ends_with(2);
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("man-{}", uuid::Uuid::new_v4()));
    place
        .run(&["man", "--dir", directory.to_str().unwrap()])
        .await
        .ends_with(0);
    assert!(directory.join("capture-lane-limit.1").exists() && directory.join("capture.1").exists());
    std::fs::remove_dir_all(&directory).unwrap();
}

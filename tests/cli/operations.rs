//! `replay` and its kin on many captures, `operations`, `audit`: as an operator's shell sees them.

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::acts::with_dead_letters;
use super::place::{Place, Running};

/// An account, and so many dead letters, by hand.
async fn with_letters(count: u32) -> (Place, PgConnection) {
    let mut place = Place::with_outbox().await;
    place.set("SECRET", "s");
    place.write(
        "capture.toml",
        "[[account]]\nprovider = \"afterpay\"\nbase_url = \"http://127.0.0.1:1\"\nmerchant_id = \"1\"\nsecret_env = \"SECRET\"\n",
    );
    let mut connection = place.connection().await;
    run(
        &mut connection,
        &format!(
            "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
             select 'afterpay', 'o-' || n, (20010000 + n)::text, 'c1', 1000, 'USD' from generate_series(1, {count}) n;
             with gone as (delete from capture.ready returning *)
             insert into capture.outcomes (intent, lane, state, fence, attempts, ended_at, dead_reason, last_class, last_code, created_at, amount_minor, currency)
             select intent, gone.lane, 'dead', fence, 0, capture.clock_now(), 'exhausted', 'transient', 'http_500', i.created_at, i.amount_minor, i.currency
             from gone join capture.intents i on i.id = intent"
        ),
    )
    .await;
    (place, connection)
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap();
}

async fn count(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .unwrap()
}

/// What a killed process had asked for goes on in the server to its end, which is no part of what we count.
async fn until_alone(db: &mut PgConnection) {
    let others = "select count(*) from pg_stat_activity
                  where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()";
    while count(db, others).await > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_process_that_is_killed_in_the_middle_loses_and_repeats_nothing() {
    let (place, mut db) = with_letters(300).await;
    let driver = place.start(&["replay", "--all", "--yes", "--rate", "60", "--reason", "they are back"]);
    place.wait_for_events("replayed", 100).await;
    driver.signal(Signal::KILL);
    driver.ended().await;
    until_alone(&mut db).await;
    let told = "select count(*) from capture.events where type = 'capture.replayed'";
    let done = count(&mut db, told).await;
    assert!((100..300).contains(&done), "{done}");
    let written = count(
        &mut db,
        "select count(*) from capture.operation_items where verdict = 'replayed'",
    )
    .await;
    let counted = count(&mut db, "select done from capture.operations").await;
    assert_eq!((written, counted), (done, done));
    let listed = place
        .run(&["operations", "list", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(listed[0]["state"], "running");
    let id = listed[0]["id"].as_str().unwrap();
    run(&mut db, "update capture.operations set rate_per_second = 10000").await;
    let end = place
        .run(&["operations", "watch", id, "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!((&end["state"], &end["done"]), (&"done".into(), &300.into()));
    assert_eq!(count(&mut db, told).await, 300);
    let once = "select count(distinct intent_id) from capture.events where type = 'capture.replayed'";
    assert_eq!(count(&mut db, once).await, 300);
    let whole = place.run(&["audit", "verify", "-o", "json"]).await.ends_with(0).json();
    assert_eq!((&whole["result"], &whole["rows"]), (&"whole".into(), &302.into()));
    db.close().await.unwrap();
}

/// A server, and where it answers.
async fn serving(place: &Place) -> (Running, String) {
    let mut server = place.start(&["serve", "--listen", "127.0.0.1:0"]);
    let line = server.logged("serving the API").await;
    (server, format!("http://{}", line["address"].as_str().unwrap()))
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_of_an_operation_loses_and_repeats_nothing() {
    let (place, mut db) = with_letters(300).await;
    let scopes = ["--scope", "read,operate", "--reason", "the night shift"];
    let made = place
        .run(&[&["key", "create", "ops", "-o", "json"][..], &scopes].concat())
        .await;
    let made = made.ends_with(0).json();
    let key = made["key"].as_str().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();

    let (server, base) = serving(&place).await;
    let body = serde_json::json!({ "act": "replay", "filter": {}, "all": true, "reason": "they are back", "rate_per_second": 60 });
    let begun = client
        .post(format!("{base}/v1/operations"))
        .bearer_auth(key)
        .json(&body)
        .send();
    let begun = begun.await.unwrap();
    assert_eq!(begun.status(), 202);
    let path = begun.headers()["location"].to_str().unwrap().to_owned();
    place.wait_for_events("replayed", 100).await;
    server.signal(Signal::KILL);
    server.ended().await;
    until_alone(&mut db).await;
    let told = "select count(*) from capture.events where type = 'capture.replayed'";
    let done = count(&mut db, told).await;
    assert!((100..300).contains(&done), "{done}");
    let written = "select count(*) from capture.operation_items where verdict = 'replayed'";
    let counted = count(&mut db, "select done from capture.operations").await;
    assert_eq!((count(&mut db, written).await, counted), (done, done));

    // Another process takes it up where it was; so would a worker.
    run(&mut db, "update capture.operations set rate_per_second = 10000").await;
    let (server, base) = serving(&place).await;
    // The database is asked until then: a key that asked the server so often would be answered with 429.
    let running = "select count(*) from capture.operations where state = 'running'";
    while count(&mut db, running).await > 0 {
        tokio::task::yield_now().await;
    }
    let answer = client.get(format!("{base}{path}")).bearer_auth(key).send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let ended: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!((&ended["state"], &ended["done"]), (&"done".into(), &300.into()));
    let once = "select count(distinct intent_id) from capture.events where type = 'capture.replayed'";
    assert_eq!((count(&mut db, told).await, count(&mut db, once).await), (300, 300));
    assert_eq!(count(&mut db, written).await, 300);
    let whole = place.run(&["audit", "verify", "-o", "json"]).await.ends_with(0).json();
    assert_eq!((&whole["result"], &whole["rows"]), (&"whole".into(), &303.into()));
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    db.close().await.unwrap();
}

#[tokio::test]
async fn ctrl_c_leaves_an_operation_to_others_and_says_how_to_steer_it() {
    let (place, mut db) = with_letters(300).await;
    let mut driver = place.start(&["replay", "--all", "--yes", "--rate", "20", "--reason", "they are back"]);
    place.wait_for_events("replayed", 20).await;
    driver.signal(Signal::INT);
    let mut said = Vec::new();
    while let Some(line) = driver.stderr.next_line().await.unwrap() {
        said.push(line);
    }
    assert_eq!(driver.ended().await, Some(130));
    let said = said.join("\n");
    assert!(
        said.contains("of 300 have their verdict; the operation goes on"),
        "{said}"
    );
    let id: String = sqlx::query_scalar("select id::text from capture.operations")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert!(said.contains(&format!("capture operations watch {id}")), "{said}");

    let steer = async |verb: &str, code| {
        place
            .run(&["operations", verb, &id, "--reason", "lunch"])
            .await
            .ends_with(code)
    };
    assert!(steer("pause", 0).await.stdout.contains("paused"));
    assert!(steer("pause", 5).await.stderr.contains("is paused"));
    steer("resume", 0).await;
    place.run(&["operations", "cancel", &id, "-n"]).await.ends_with(0);
    steer("cancel", 0).await;
    assert!(steer("resume", 5).await.stderr.contains("begin another one"));
    let items = place
        .run(&["operations", "get", &id, "--not-done", "-o", "ndjson"])
        .await
        .ends_with(0);
    assert!(items.stderr.contains("cancelled by tess: lunch"), "{}", items.stderr);
    let left = count(&mut db, "select total - done from capture.operations").await;
    assert_eq!(i64::try_from(items.stdout.lines().count()).unwrap(), left);
    place.run(&["operations", "watch", &id]).await.ends_with(6);
    let nobody = "01900000-0000-7000-8000-000000000000";
    for verb in ["get", "watch"] {
        place.run(&["operations", verb, nobody]).await.ends_with(3);
    }
}

#[tokio::test]
async fn ids_come_from_stdin_and_many_of_them_need_a_yes() {
    let (place, mut db) = with_letters(60).await;
    let ids = place.run(&["dead", "-o", "id"]).await.ends_with(0).stdout;
    let replay = ["replay", "-", "--reason", "x"];
    let run = place.run_with(&replay, &ids).await.ends_with(2);
    assert!(
        run.stderr
            .contains("60 captures: 600.00 USD: nobody is there to say yes"),
        "{}",
        run.stderr
    );
    let looked = place.run_with(&["replay", "-", "-n"], &ids).await.ends_with(0);
    assert!(
        looked.stderr.contains("60 would be replayed, in 2 s"),
        "{}",
        looked.stderr
    );
    place.run_with(&replay, "not an id\n").await.ends_with(2);
    place.run_with(&replay, "\n").await.ends_with(2);
    assert_eq!(count(&mut db, "select count(*) from capture.operations").await, 0);
    let done = place
        .run_with(
            &[
                "replay", "-", "--yes", "--rate", "1000", "--reason", "x", "-o", "ndjson",
            ],
            &ids,
        )
        .await
        .ends_with(0);
    assert_eq!(done.stdout.lines().count(), 60);
    assert!(done.stdout.lines().all(|line| line.contains(r#""result":"replayed""#)));
}

#[tokio::test]
async fn a_detached_operation_is_carried_out_by_whoever_comes_by() {
    let (place, mut db) = with_letters(5).await;
    let id = place
        .run(&["replay", "--all", "--yes", "--detach", "--reason", "x", "-o", "id"])
        .await
        .ends_with(0)
        .stdout;
    assert_eq!(
        count(
            &mut db,
            "select count(*) from capture.operations where state = 'running' and done = 0"
        )
        .await,
        1
    );
    place.run(&["operations", "watch", id.trim()]).await.ends_with(0);
    let page = place
        .run(&["operations", "get", id.trim(), "-o", "csv"])
        .await
        .ends_with(0)
        .stdout;
    assert_eq!(page.matches(",replayed,").count(), 5, "{page}");
    let audit = place
        .run(&["audit", "list", "--operation", id.trim(), "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(audit.as_array().unwrap().len(), 7);
    assert_eq!(audit[0]["action"], "operation end");
}

#[tokio::test]
async fn an_altered_audit_trips_the_check_and_names_the_row() {
    let (place, mut db) = with_letters(2).await;
    place
        .run(&["replay", "--all", "--yes", "--reason", "x"])
        .await
        .ends_with(0);
    let head = place.run(&["audit", "verify", "-o", "json"]).await.ends_with(0).json()["head"].clone();
    place
        .run(&["audit", "verify", "--expect", head.as_str().unwrap()])
        .await
        .ends_with(0);
    place
        .run(&["audit", "verify", "--expect", &"0".repeat(64)])
        .await
        .ends_with(7);
    place.run(&["audit", "verify", "--expect", "head"]).await.ends_with(2);
    run(
        &mut db,
        "alter table capture.audit disable trigger user; update capture.audit set reason = 'y' where id = 2;
         alter table capture.audit enable trigger user",
    )
    .await;
    let told = place.run(&["audit", "verify", "-o", "json"]).await.ends_with(7).json();
    assert_eq!((&told["result"], &told["fault_row"]), (&"broken".into(), &2.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_one_letter_tells_what_the_provider_shows_now_and_sends_nothing() {
    let (place, simulator, ids) = with_dead_letters().await;
    let captures = || {
        let requests = simulator.requests();
        let is_capture =
            |request: &&capture::simulator::RequestRecord| request.operation == capture::simulator::Operation::Capture;
        requests.iter().filter(is_capture).count()
    };
    let before = captures();
    let look = place.run(&["replay", &ids[0], "-n", "--read"]).await.ends_with(0);
    assert!(look.stderr.contains("now: a read shows"), "{}", look.stderr);
    assert!(
        look.stderr.contains("next: mend what was refused, then replay it"),
        "{}",
        look.stderr
    );
    assert!(look.stderr.contains("key: "), "{}", look.stderr);
    assert_eq!(captures(), before);
    place
        .run(&["replay", &ids[0], "--read", "--reason", "x"])
        .await
        .ends_with(2);
    place
        .run(&["replay", &ids[0], &ids[1], "-n", "--read"])
        .await
        .ends_with(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_resolved_and_cancelled_with_a_verdict_each() {
    let (place, _simulator, ids) = with_dead_letters().await;
    let fresh = place.enqueue("2001", 700).await;
    let resolve = [
        "resolve",
        "--as",
        "not-captured",
        "--evidence",
        "statement 7",
        "--reason",
        "x",
        "-o",
        "json",
    ];
    let with = |more: &[&'static str]| [&resolve[..], more].concat();
    place.run(&with(&[])).await.ends_with(2);
    place.run(&with(&["--all"])).await.ends_with(2);
    let told = place
        .run(&[&with(&["-n"])[..], &[ids[0].as_str(), fresh.as_str()]].concat())
        .await
        .ends_with(6);
    assert_eq!(told.json()[1]["result"], "not_resolved");
    let told = place.run(&with(&["--all", "--yes"])).await.ends_with(0).json();
    assert_eq!(told.as_array().unwrap().len(), 3);
    assert_eq!(told[0]["result"], "resolved");
    // Cancelled by a person: their name is in the audit.
    place
        .run(&["cancel", "--all", "--reason", "closing", "--actor", "ops"])
        .await
        .ends_with(0);
    let audit = place
        .run(&["audit", "list", "--intent", &fresh, "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(
        (&audit[0]["action"], &audit[0]["actor"]),
        (&"cancel".into(), &"ops".into())
    );
    let story = place.run(&["timeline", &fresh]).await.ends_with(0).stdout;
    assert_eq!(story.matches("closing").count(), 1, "told once: {story}");
}

#[tokio::test]
async fn what_came_to_match_after_the_look_is_told_and_not_acted_on() {
    let (place, mut db) = with_letters(1).await;
    // Whoever looks at the first letter waits for the audit; meanwhile another one dies.
    let mut holder = place.connection().await;
    run(&mut holder, "begin; lock table capture.audit in access exclusive mode").await;
    let mut looking = place.start(&["replay", "--class", "transient", "--reason", "they are back"]);
    let waits = "select count(*) from pg_locks where relation = 'capture.audit'::regclass and not granted";
    while count(&mut db, waits).await == 0 {
        tokio::task::yield_now().await;
    }
    run(
        &mut db,
        "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
         values ('afterpay', 'o-late', '777', 'c1', 500, 'USD');
         with gone as (delete from capture.ready returning *)
         insert into capture.outcomes (intent, lane, state, fence, attempts, ended_at, dead_reason, last_class, last_code, created_at, amount_minor, currency)
         select intent, gone.lane, 'dead', fence, 0, capture.clock_now(), 'exhausted', 'transient', 'http_500', i.created_at, i.amount_minor, i.currency
             from gone join capture.intents i on i.id = intent",
    )
    .await;
    run(&mut holder, "rollback").await;
    let mut said = Vec::new();
    while let Some(line) = looking.stderr.next_line().await.unwrap() {
        said.push(line);
    }
    assert_eq!(looking.ended().await, Some(5), "{said:#?}");
    let said = said.join("\n");
    assert!(
        said.contains("2 captures match now") && said.contains("it would now be 2 captures: 15.00 USD"),
        "{said}"
    );
    assert_eq!(count(&mut db, "select count(*) from capture.operations").await, 0);
}

//! `migrate` and `doctor`.

use std::process::Stdio;

use capture::local_postgres::{DataDir, Durability, Listen, LocalPostgres, Settings};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::io::AsyncWriteExt;

use super::place::{Place, server};

#[tokio::test]
async fn migrations_are_shown_applied_once_and_verified() {
    let place = Place::with_bare_database().await;
    let run = place.run(&["list"]).await.ends_with(5);
    assert!(run.stderr.contains("capture migrate"), "{}", run.stderr);
    assert!(
        place
            .run(&["migrate", "verify"])
            .await
            .ends_with(7)
            .stderr
            .contains("is not set up")
    );

    let would = place
        .run(&["migrate", "up", "-n", "-o", "id"])
        .await
        .ends_with(0)
        .stdout;
    let status = place
        .run(&["migrate", "status", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert!(status.as_array().unwrap().iter().all(|row| row["applied"] == false));
    let applied = place.run(&["migrate", "up", "-o", "id"]).await.ends_with(0).stdout;
    assert_eq!(would, applied);
    assert_eq!(place.run(&["migrate", "up", "-o", "id"]).await.ends_with(0).stdout, "");
    place.run(&["migrate", "verify"]).await.ends_with(0);
}

#[tokio::test]
async fn the_script_makes_the_schema_that_the_binary_makes() {
    let mut place = Place::with_bare_database_for_any_schema().await;
    place.set("CAPTURE_SCHEMA", "payments");
    let script = place.run(&["migrate", "sql"]).await.ends_with(0).stdout;
    let database = {
        let mut connection = place.connection().await;
        let name: String = sqlx::query_scalar("select current_database()")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        name
    };
    let server = server().await;
    let mut psql = tokio::process::Command::new("sh")
        .args([
            "-c",
            &format!("{} -q -v ON_ERROR_STOP=1 -f -", server.psql_line(&database)),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = psql.stdin.take().unwrap();
    pipe.write_all(script.as_bytes()).await.unwrap();
    drop(pipe);
    assert!(psql.wait().await.unwrap().success());
    place.run(&["migrate", "verify"]).await.ends_with(0);
    assert_eq!(place.run(&["migrate", "up", "-o", "id"]).await.ends_with(0).stdout, "");
    place.run(&["status"]).await.ends_with(0);
}

#[tokio::test]
async fn a_changed_migration_is_found() {
    let place = Place::with_outbox().await;
    let mut connection = place.connection().await;
    sqlx::raw_sql("update capture._sqlx_migrations set checksum = '\\x00' where version = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    let run = place.run(&["migrate", "verify"]).await.ends_with(7);
    assert!(run.stderr.contains("migration 2"), "{}", run.stderr);
}

#[tokio::test]
async fn a_worker_does_not_start_without_a_schema_or_on_a_server_that_loses_commits() {
    let (place, _simulator) = Place::with_simulator(|_| {}).await;
    let mut careful = Place::with_bare_database().await;
    let settings = |allow: bool| {
        format!(
            "[worker]\nallow_lost_commits = {allow}\n[[account]]\nprovider = \"afterpay\"\nbase_url = \"http://127.0.0.1:1\"\nmerchant_id = \"1\"\nsecret_env = \"SECRET\"\n"
        )
    };
    careful.set("SECRET", "s");
    careful.write("capture.toml", &settings(true));
    assert!(
        careful
            .run(&["work"])
            .await
            .ends_with(5)
            .stderr
            .contains("capture migrate up")
    );
    careful.run(&["migrate", "up"]).await.ends_with(0);
    careful.write("capture.toml", &settings(false));
    assert!(careful.run(&["work"]).await.ends_with(5).stderr.contains("fsync = off"));
    drop(place);
}

#[tokio::test]
async fn a_worker_does_not_start_on_a_schema_that_lacks_a_migration_or_needs_a_newer_worker() {
    let (place, _simulator) = Place::with_simulator(|_| {}).await;
    let mut connection = place.connection().await;
    let mut run = async |sql: &'static str| sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    run("update capture.requirements set least_worker_version = '99.0.0'").await;
    let told = place.run(&["work"]).await.ends_with(5).stderr;
    let said = format!(
        "needs workers of version 99.0.0 or later; this is {}",
        env!("CARGO_PKG_VERSION")
    );
    assert!(told.contains(&said), "{told}");
    run("delete from capture._sqlx_migrations where version = 4").await;
    let told = place.run(&["work"]).await.ends_with(5).stderr;
    assert!(told.contains("lacks migration 0004"), "{told}");
    assert!(told.contains("capture migrate up"), "{told}");
}

#[tokio::test]
async fn doctor_names_what_is_wrong_and_what_to_do() {
    let place = Place::with_bare_database().await;
    let run = place.run(&["doctor", "-o", "json"]).await.ends_with(7);
    let found = run.json();
    let check = |name: &str| {
        let found = found.as_array().unwrap();
        found.iter().find(|row| row["check"] == name).unwrap().clone()
    };
    assert_eq!(check("schema")["level"], "fail");

    let place = Place::with_outbox().await;
    let found = place.run(&["doctor", "-o", "json"]).await.ends_with(7).json();
    let check = |name: &str| {
        let found = found.as_array().unwrap();
        found.iter().find(|row| row["check"] == name).unwrap().clone()
    };
    // The tests' server runs without fsync: the one thing that fails.
    assert_eq!(check("durability")["level"], "fail");
    assert!(check("durability")["fix"].is_string());
    for name in [
        "schema",
        "pooler",
        "encoding",
        "primary",
        "version",
        "misplaced",
        "lapsed_leases",
        "unclaimed_receipts",
        "event_history",
        "test_clock",
    ] {
        assert_eq!(check(name)["level"], "ok", "{name}");
    }
    let failed = found
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["level"] == "fail")
        .count();
    assert_eq!(failed, 1);
    let page = place.run(&["doctor"]).await.ends_with(7).stdout;
    assert!(page.contains("fail  durability") && page.contains("→ "), "{page}");
}

#[tokio::test]
async fn doctor_sees_the_clock_of_a_test_and_a_lane_that_nobody_serves() {
    let place = Place::with_outbox().await;
    place.enqueue("1001", 500).await;
    let mut connection = place.connection().await;
    sqlx::raw_sql("update capture.clock set ahead = interval '1 hour'")
        .execute(&mut connection)
        .await
        .unwrap();
    let found = place.run(&["doctor", "-o", "ndjson"]).await.ends_with(7).stdout;
    assert!(found.contains(r#"{"check":"test_clock","level":"fail""#), "{found}");
    assert!(found.contains("no worker serves afterpay/default"), "{found}");
}

#[tokio::test]
async fn a_login_without_any_right_is_told_so_and_which_role_it_needs() {
    let mut place = Place::with_outbox().await;
    let login = place.log_in_as("").await;
    place.set("SECRET", "s");
    place.write(
        "capture.toml",
        "[worker]\nallow_lost_commits = true\n[[account]]\nprovider = \"afterpay\"\nbase_url = \"http://127.0.0.1:1\"\nmerchant_id = \"1\"\nsecret_env = \"SECRET\"\n",
    );
    let enqueue = r#"{"provider":"afterpay","order_id":"o","payment_id":"1","capture_ref":"r","amount_minor":1,"currency":"USD"}"#;
    for verb in [
        &["work"][..],
        &["list"],
        &["status"],
        &["enqueue", enqueue],
        &["migrate", "up"],
        &["migrate", "status"],
        &["migrate", "verify"],
    ] {
        let run = place.run(verb).await.ends_with(4);
        let said = format!("role \"{login}\" has no right to look into schema \"capture\"");
        assert!(run.stderr.contains(&said), "{}", run.stderr);
        let grant = format!("GRANT capture_readonly TO \"{login}\"");
        assert!(run.stderr.contains(&grant), "{}", run.stderr);
    }
    // Doctor tells it among the rest.
    let page = place.run(&["doctor"]).await.ends_with(7).stdout;
    assert!(page.contains("has no right to look into schema"), "{page}");
    assert!(page.contains(&format!("role {login} may do nothing here")), "{page}");
    assert!(!page.contains("is not set up"), "{page}");
}

#[tokio::test]
async fn a_producer_that_asks_for_more_than_its_role_may_is_told_which_role_it_needs() {
    let mut place = Place::with_outbox().await;
    place.log_in_as("in role capture_producer").await;
    let run = place.run(&["migrate", "verify"]).await.ends_with(4);
    assert!(run.stderr.contains("GRANT capture_readonly"), "{}", run.stderr);
    assert!(!run.stderr.contains("GRANT capture_worker"), "{}", run.stderr);
    for verb in [&["list"][..], &["status"], &["dead", "list"], &["order", "o-1001"]] {
        let told = place.run(verb).await.ends_with(4).stderr;
        assert!(told.contains("capture_readonly (to look)"), "{verb:?}: {told}");
    }
    place.enqueue("1001", 500).await;
}

/// On a server of its own: roles belong to the server, and on that of the other tests they exist.
#[tokio::test]
async fn who_may_not_create_roles_is_told_which_are_missing_and_what_to_run() {
    let server = LocalPostgres::start(Settings {
        data: DataDir::Temporary,
        durability: Durability::ForTests,
        listen: Listen::SocketOnly,
        ..Settings::default()
    })
    .await
    .unwrap();
    let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
    sqlx::raw_sql("create database shop").execute(&mut admin).await.unwrap();
    let mut place = Place::empty();
    place.set("DATABASE_URL", &server.url("shop"));
    let mut owner = place.connection().await;
    let deployer = place.log_in_as("").await;
    sqlx::raw_sql(AssertSqlSafe(format!("grant create on database shop to {deployer}")))
        .execute(&mut admin)
        .await
        .unwrap();

    let told = place.run(&["migrate", "up"]).await.ends_with(0).stderr;
    assert!(told.contains("these roles do not exist"), "{told}");
    let said = |told: &str, beginning: &str| {
        let lines = told.lines().map(str::trim).filter(|line| line.starts_with(beginning));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let creates = said(&told, "create role");
    assert_eq!(creates.len(), 6, "{told}");
    let grants = said(&told, "select");
    assert_eq!(grants, ["select \"capture\".grant_roles();"]);

    // What it says to run is run as it stands.
    sqlx::raw_sql(AssertSqlSafe(creates.join("\n")))
        .execute(&mut admin)
        .await
        .unwrap();
    let told = place.run(&["migrate", "up"]).await.ends_with(0).stderr;
    assert!(told.contains("have no rights in schema"), "{told}");
    assert_eq!(said(&told, "create role").len(), 0, "{told}");
    assert_eq!(said(&told, "select"), grants);

    sqlx::raw_sql(AssertSqlSafe(format!("set role {deployer}; {}", grants.join("\n"))))
        .execute(&mut owner)
        .await
        .unwrap();
    let told = place.run(&["migrate", "up"]).await.ends_with(0).stderr;
    assert!(!told.contains("role"), "{told}");
}

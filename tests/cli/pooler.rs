//! Through a pooler in transaction mode, which lends each transaction another session.

use capture::local_postgres::LocalPostgres;
use serde_json::Value;

use super::pgbouncer::{Mode, Pooler, program};
use super::place::{Place, own_server};

const SAID: &str = "a pooler in transaction mode stands between";
const TO_DO: &str = "connect workers to PostgreSQL itself";

/// A place with an outbox behind a pooler in transaction mode; `None`, and said so, on a person's machine that has none.
async fn behind_a_pooler() -> Option<(Place, Pooler, LocalPostgres)> {
    if program().is_none() && std::env::var("CI").is_ok_and(|ci| ci == "true") {
        unreachable!("no PgBouncer here: apt-get install pgbouncer");
    }
    if program().is_none() {
        println!("skipped, for there is no PgBouncer here: apt-get install pgbouncer");
        return None;
    }
    // A server of its own: the settings of its roles are part of the story.
    let (server, mut place) = own_server("shop").await;
    place.run(&["migrate", "up"]).await.ends_with(0);
    place
        .run_sql("alter role postgres set search_path = capture, pg_temp")
        .await;
    place.set("SECRET", "s");
    place.write(
        "capture.toml",
        "[worker]\nallow_lost_commits = true\n[[account]]\nprovider = \"afterpay\"\nbase_url = \"http://127.0.0.1:1\"\nmerchant_id = \"1\"\nsecret_env = \"SECRET\"\n",
    );
    let pooler = Pooler::start(&server, Mode::Transaction, 5);
    place.set("DATABASE_URL", &pooler.url(&server.url("shop")));
    Some((place, pooler, server))
}

#[tokio::test]
async fn doctor_recognises_transaction_mode_and_a_worker_does_not_start_through_it() {
    let Some((place, _pooler, _server)) = behind_a_pooler().await else {
        return;
    };
    let found = place.run(&["doctor", "-o", "json"]).await.ends_with(7).json();
    let of_pooler = |row: &&Value| row["check"] == "pooler";
    let finding = found.as_array().unwrap().iter().find(of_pooler).unwrap();
    assert_eq!(finding["level"], "fail", "{finding}");
    assert!(finding["says"].as_str().unwrap().starts_with(SAID), "{finding}");
    assert!(finding["fix"].as_str().unwrap().starts_with(TO_DO), "{finding}");

    // It drops what connections ask for, too, which nobody would notice before a lock is waited for.
    let of_session = |row: &&Value| row["check"] == "session";
    let finding = found.as_array().unwrap().iter().find(of_session).unwrap();
    assert_eq!(finding["level"], "warn", "{finding}");
    assert!(
        finding["says"].as_str().unwrap().contains("lock_timeout is 0, not 10s"),
        "{finding}"
    );
    assert!(finding["fix"].as_str().unwrap().contains("ALTER ROLE"), "{finding}");

    // Each time: not only while nobody has prepared anything yet.
    for _ in 0..3 {
        let told = place.run(&["work"]).await.ends_with(5).stderr;
        assert!(told.contains(SAID) && told.contains(TO_DO), "{told}");
    }
    // Whoever else stumbles over it is told the same.
    let told = place.run(&["list"]).await.ends_with(5).stderr;
    assert!(told.contains(SAID) && told.contains(TO_DO), "{told}");
}

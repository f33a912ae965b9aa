//! The feed as logical decoding tells it, with the publication of `docs/feed.md`; and the hint that the feed has grown.

use std::process::Command;
use std::time::Duration;

use capture::local_postgres::{DataDir, Durability, Listen, LocalPostgres, Settings};
use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::database::{Session, connect};
use crate::kind::Kind;
use crate::world::{World, enqueue};

/// The statement of the document.
fn publication() -> String {
    let document = include_str!("../../docs/feed.md");
    let from = document.find("create publication").unwrap();
    document[from..].split("```").next().unwrap().to_owned()
}

fn recvlogical(server: &LocalPostgres, more: &[&str]) -> Vec<u8> {
    let run = Command::new(server.bin_dir().join("pg_recvlogical"))
        .arg("-h")
        .arg(server.socket_dir())
        .args([
            "-p",
            &server.port().to_string(),
            "-U",
            "postgres",
            "-d",
            "feed",
            "--slot",
            "feed",
        ])
        .args(more)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}

#[tokio::test]
async fn logical_decoding_tells_every_event_once_in_the_order_of_the_commits_and_nothing_that_was_rolled_back() {
    let server = LocalPostgres::start(Settings {
        data: DataDir::Temporary,
        durability: Durability::ForTests,
        listen: Listen::SocketOnly,
        max_connections: 30,
        extra: vec![("wal_level".to_owned(), "logical".to_owned())],
        ..Settings::default()
    })
    .await
    .unwrap();
    if !server.bin_dir().join("pg_recvlogical").exists() {
        println!("this Postgres was installed without pg_recvlogical: nothing is tested");
        return;
    }
    let mut admin = Session::open(&server.url("postgres")).await;
    admin.run("create database feed").await;
    let url = server.url("feed");
    let outbox = connect(&url).await;
    outbox.migrate().await.unwrap();
    let mut db = Session::open(&url).await;
    db.run(&publication()).await;
    recvlogical(&server, &["--create-slot", "--plugin", "pgoutput"]);

    let (mut slow, mut gone) = (Session::open(&url).await, Session::open(&url).await);
    db.run(&enqueue(Kind::Afterpay, "1", "first", 100, "")).await;
    slow.run("begin").await;
    slow.run(&enqueue(Kind::Afterpay, "2", "commits late", 100, "")).await;
    gone.run("begin").await;
    gone.run(&enqueue(Kind::Afterpay, "3", "rolled back", 100, "")).await;
    gone.run("rollback").await;
    let intent: Uuid = db.scalar(&enqueue(Kind::Afterpay, "4", "fourth", 100, "")).await;
    slow.run("commit").await;
    outbox.cancel(intent, "to have another event").await.unwrap();
    // This server commits without waiting for its log: what is inserted there may not be written yet.
    let end: String = db.scalar("select pg_current_wal_insert_lsn()::text").await;
    db.run("checkpoint").await;
    db.run("select pg_switch_wal()").await;

    let told = recvlogical(
        &server,
        &[
            "--start",
            "--endpos",
            &end,
            "--no-loop",
            "-f",
            "-",
            "-o",
            "proto_version=1",
            "-o",
            "publication_names=capture_events",
        ],
    );
    let told = String::from_utf8_lossy(&told).into_owned();
    let rows = db
        .rows("select id::text, capture_ref || ' ' || type from capture.events order by seq")
        .await;
    let mut places: Vec<(usize, String)> = Vec::new();
    for row in &rows {
        let (id, what): (String, String) = (sqlx::Row::get(row, 0), sqlx::Row::get(row, 1));
        assert_eq!(told.matches(&id).count(), 1, "{what}");
        places.push((told.find(&id).unwrap(), what));
    }
    places.sort();
    let order: Vec<&str> = places.iter().map(|(_, what)| what.as_str()).collect();
    assert_eq!(
        order,
        [
            "first capture.enqueued",
            "fourth capture.enqueued",
            "commits late capture.enqueued",
            "fourth capture.cancelled",
        ]
    );
    assert!(!told.contains("rolled back"));
    // Pruning is no news: only inserts are published.
    let published: String = db
        .scalar("select concat(pubinsert, pubupdate, pubdelete, pubtruncate) from pg_publication where pubname = 'capture_events'")
        .await;
    assert_eq!(published, "tfff");
    outbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_is_told_after_the_commit_that_the_feed_has_grown_and_not_for_every_result() {
    let mut world = World::new().await;
    if std::env::var_os("CAPTURE_TEST_PGBOUNCER").is_some() {
        return;
    }
    let mut listener = PgListener::connect(&world.url).await.unwrap();
    listener.listen("capture.events").await.unwrap();
    let mut intents = Vec::new();
    for n in 0..40 {
        intents.push(world.capture(Kind::Afterpay, n, 1000).await);
    }
    let shutdown = CancellationToken::new();
    let (worker, stop) = (world.another_worker().await, shutdown.clone());
    let running = tokio::spawn(async move { worker.run(stop).await });
    listener.recv().await.unwrap();
    let captured: i64 = world
        .db
        .scalar("select count(*) from capture.events where type = 'capture.captured'")
        .await;
    assert!(captured > 0, "the hint comes behind the commit");
    world.until_all_ended(&intents, Duration::from_secs(1)).await;
    shutdown.cancel();
    running.await.unwrap();
    let mut hints = 1;
    while let Ok(Ok(_)) = tokio::time::timeout(Duration::ZERO, listener.recv()).await {
        hints += 1;
    }
    assert!(hints < intents.len(), "{hints} hints for {} captures", intents.len());
}

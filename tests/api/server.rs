//! The server itself: slow clients, a database that goes away, a drain.

use std::time::Duration;

use capture::local_postgres::{DataDir, Durability, Listen, LocalPostgres, Settings};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Row;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::database::{Session, connect, log_in};
use crate::world::{Plan, Server, World, answer, client};

async fn sent(world: &World, text: &str) -> String {
    let address = world.server.base.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(text.as_bytes()).await.unwrap();
    let mut told = String::new();
    connection.read_to_string(&mut told).await.unwrap();
    told
}

#[tokio::test]
async fn a_slow_head_is_hung_up_on_and_a_slow_body_is_told() {
    let plan = Plan {
        patience: Duration::from_millis(300),
        ..Plan::default()
    };
    let world = World::planned(&plan).await;
    let told = sent(&world, "GET /v1/version HTT").await;
    assert!(!told.contains("200"), "{told}");
    let head = format!(
        "POST /v1/captures HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        world.key
    );
    let told = sent(&world, &head).await;
    assert!(
        told.starts_with("HTTP/1.1 408") && told.contains("body_too_slow"),
        "{told}"
    );
}

#[tokio::test]
async fn a_database_that_goes_away_is_told_and_waited_out() {
    let mut postgres = LocalPostgres::start(Settings {
        data: DataDir::Temporary,
        durability: Durability::Durable,
        listen: Listen::SocketOnly,
        ..Settings::default()
    })
    .await
    .unwrap();
    let url = postgres.url("postgres");
    let outbox = connect(&url).await;
    outbox.migrate().await.unwrap();
    outbox.close().await;
    let world = World::at(url, &Plan::default()).await;
    world.get("/v1/version").await.is(200);
    let restarting = postgres.crash_and_restart();
    // Until it is back, and nobody asks in between: it may be back too soon to be seen gone.
    let watching = async {
        loop {
            let told = world.get("/v1/captures").await;
            match told.status {
                200 => tokio::task::yield_now().await,
                503 => {
                    assert_eq!(told.code(), "database_unreachable");
                    assert!(!told.header("retry-after").is_empty());
                }
                _ => panic!("{told:#?}"),
            }
        }
    };
    tokio::select! {
        restarted = restarting => restarted.unwrap(),
        () = watching => {}
    }
    let mut last = world.get("/v1/captures").await;
    while last.status == 503 {
        last = world.get("/v1/captures").await;
    }
    last.is(200);
    // And for good.
    postgres.stop().await.unwrap();
    let told = world.get("/v1/captures").await.is(503);
    assert_eq!(told.code(), "database_unreachable");
    assert!(!told.header("retry-after").is_empty());
    assert!(
        !told.json["hint"].as_str().unwrap().contains("no second time"),
        "{told:#?}"
    );
    let told = answer(client().get(format!("{}/health/ready", world.server.base)))
        .await
        .is(503);
    assert_eq!(told.json["ready"], false);
    answer(client().get(format!("{}/health/live", world.server.base)))
        .await
        .is(200);
}

#[tokio::test]
async fn a_server_that_drains_ends_and_takes_nobody_new() {
    let world = World::new().await;
    world.get("/v1/version").await.is(200);
    world.server.draining.cancel();
    world.server.running.await.unwrap();
    let address = world.server.base.trim_start_matches("http://");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_server_holds_five_connections_at_most_also_while_operations_begin() {
    let world = World::new().await;
    let id = world.enqueue("r1").await;
    // A login of its own tells the server's connections from all others.
    let server = Server::start(&log_in(&world.url, "capture_operator").await, &Plan::default()).await;
    let ask = |method: Method, path: &str, body: Option<Value>| {
        let request = client()
            .request(method, format!("{}{path}", server.base))
            .bearer_auth(&world.key);
        tokio::spawn(answer(match body {
            Some(body) => request.json(&body),
            None => request,
        }))
    };
    let mut watching = Session::open(&world.url).await;
    let user: String = watching
        .scalar("select max(rolname::text) from pg_roles where rolname like 'login_%' and pg_has_role(rolname, 'capture_operator', 'member')")
        .await;
    let mut most = 0;
    let mut until_so_many_wait = async |so_many: i64| {
        loop {
            let rows = watching
                .rows(&format!(
                    "select count(*), count(*) filter (where wait_event_type = 'Lock') from pg_stat_activity where usename = '{user}'"
                ))
                .await;
            let (held, wait): (i64, i64) = (rows[0].get(0), rows[0].get(1));
            most = most.max(held);
            if wait >= so_many {
                return most;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut holder = Session::open(&world.url).await;
    holder
        .run("begin; lock table capture.intents in access exclusive mode")
        .await;
    let begin = json!({ "act": "cancel", "ids": [id], "reason": "the shop has closed" });
    let mut acts = vec![
        ask(Method::POST, "/v1/operations", Some(begin.clone())),
        ask(Method::POST, "/v1/operations", Some(begin)),
    ];
    until_so_many_wait(1).await;
    let path = format!("/v1/captures/{id}");
    for _ in 0..3 {
        acts.push(ask(
            Method::POST,
            &format!("{path}/cancel"),
            Some(json!({ "reason": "the shop has closed" })),
        ));
    }
    until_so_many_wait(2).await;
    let looks: Vec<_> = (0..5).map(|_| ask(Method::GET, &path, None)).collect();
    let most = until_so_many_wait(5).await;
    assert_eq!(most, 5);
    for look in looks {
        assert_eq!(look.await.unwrap().status, 503);
    }
    holder.run("rollback").await;
    let mut told: Vec<u16> = Vec::new();
    for act in acts {
        told.push(act.await.unwrap().status);
    }
    assert_eq!(told[..2], [202, 202], "{told:?}");
    assert_eq!(world.get(&path).await.is(200).json["state"], "cancelled");
}

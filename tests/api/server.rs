//! The server itself: slow clients, a database that goes away, a drain.

use std::time::Duration;

use capture::local_postgres::{DataDir, Durability, Listen, LocalPostgres, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::database::connect;
use crate::world::{Plan, World, answer, client};

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

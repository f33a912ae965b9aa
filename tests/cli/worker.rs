//! `work`, `simulate` and `health`, as processes.

use capture::simulator::Fault;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::place::Place;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_captures_answers_probes_and_drains() {
    let (place, simulator) = Place::with_simulator(|_| {}).await;
    let ids = [place.enqueue("1001", 1000).await, place.enqueue("1002", 2000).await];
    // An account that this worker does not have.
    let other = r#"{"provider":"optty","order_id":"1","payment_id":"1","capture_ref":"a","amount_minor":1234,"currency":"USD"}"#;
    place.run(&["enqueue", other]).await.ends_with(0);

    let mut worker = place.start(&["work"]);
    let unserved = worker.logged("the outbox has captures of an account").await;
    assert_eq!(unserved["provider"], "optty");
    let serving = worker.logged("serving /metrics").await;
    let url = format!("http://{}", serving["address"].as_str().unwrap());
    place.wait_for_events("captured", 2).await;
    for id in &ids {
        let one = place.run(&["get", id, "-o", "json"]).await.ends_with(0).json();
        assert_eq!(one["state"], "captured");
        assert_eq!(one["captured_minor"], one["amount_minor"]);
    }
    assert_eq!(simulator.counts().captures_ours, 2);
    place.run(&["health", "live", "--url", &url]).await.ends_with(0);
    let ready = place
        .run(&["health", "ready", "--url", &url, "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(ready["ready"], true);
    let status = place.run(&["status", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(status["workers"].as_array().unwrap().len(), 1);
    assert_eq!(status["states"]["captured"], 2);

    worker.signal(Signal::TERM);
    worker.logged("drained").await;
    assert_eq!(worker.ended().await, Some(0));
    let status = place.run(&["status", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(status["workers"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_worker_is_live_not_ready_and_ends_at_a_second_signal() {
    let (place, simulator) = Place::with_simulator(|_| {}).await;
    simulator.script("1001", [Fault::Silence(capture::simulator::Moment::After)]);
    place.enqueue("1001", 1000).await;
    let mut worker = place.start(&["work"]);
    let serving = worker.logged("serving /metrics").await;
    let url = format!("http://{}", serving["address"].as_str().unwrap());
    simulator.wait_until(|simulator| simulator.counts().requests > 0).await;
    worker.signal(Signal::TERM);
    worker.logged("draining").await;
    place.run(&["health", "live", "--url", &url]).await.ends_with(0);
    let ready = place
        .run(&["health", "ready", "--url", &url, "-o", "json"])
        .await
        .ends_with(7)
        .json();
    assert_eq!(ready["reason"], "this worker is draining");
    worker.signal(Signal::TERM);
    assert_eq!(worker.ended().await, Some(143));
    // What was open stays open, for others to verify.
    let rows = place.run(&["list", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(rows[0]["state"], "leased");
}

#[tokio::test]
async fn the_simulator_tells_its_addresses_and_ends_when_it_is_told_to() {
    let place = Place::empty();
    let mut simulator = place.start(&[
        "simulate",
        "-o",
        "json",
        "--ledger",
        "ledger.ndjson",
        "--faults",
        "lossy=5%",
        "--own-ports",
    ]);
    let line = simulator.stdout.next_line().await.unwrap().unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    for name in ["control", "afterpay", "optty", "optty_auth", "resolve"] {
        assert!(told[name].as_str().unwrap().starts_with("http://127.0.0.1:"), "{told}");
    }
    let control = told["control"].as_str().unwrap().trim_start_matches("http://");
    let (address, path) = control.split_once('/').unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    simulator.signal(Signal::TERM);
    assert_eq!(simulator.ended().await, Some(0));

    let run = place.run(&["simulate", "--listen", "0.0.0.0:0"]).await.ends_with(1);
    assert!(run.stderr.contains("loopback only"), "{}", run.stderr);
}

/// A cancelled wait for a synchronous standby answers with success and a warning: after a fail-over the lease may be gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_commit_came_with_a_warning_is_never_sent() {
    let (place, simulator) = Place::with_simulator(|_| {}).await;
    let mut connection = place.connection().await;
    let source: String = sqlx::query_scalar("select pg_get_functiondef('capture.claim'::regproc)")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let warning = "raise warning 'canceling wait for synchronous replication due to user request';";
    let doubtful = source.replacen("    return query", &format!("    {warning}\n    return query"), 1);
    assert_ne!(source, doubtful);
    sqlx::raw_sql(sqlx::AssertSqlSafe(doubtful))
        .execute(&mut connection)
        .await
        .unwrap();
    place.enqueue("1001", 1000).await;
    let mut worker = place.start(&["work"]);
    let refusals = async {
        for _ in 0..3 {
            worker.logged("cannot claim").await;
        }
    };
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, refusals).await.expect("it claims");
    assert_eq!(simulator.counts().captures_ours, 0);
    sqlx::raw_sql(sqlx::AssertSqlSafe(source))
        .execute(&mut connection)
        .await
        .unwrap();
    place.wait_for_events("captured", 1).await;
    let requests = simulator.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    worker.signal(Signal::TERM);
    assert_eq!(worker.ended().await, Some(0));
}

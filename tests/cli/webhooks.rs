//! `webhook`, and a worker that delivers, as processes.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use super::place::Place;

/// A port that nobody has now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_an_endpoint_and_a_listener_finds_every_message_genuine() {
    let (mut place, _simulator) = Place::with_simulator(|_| {}).await;
    place.set("CAPTURE_WEBHOOKS_ALLOW_NETWORKS", "127.0.0.0/8");
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}/hook");
    let why = ["--reason", "a test", "-o", "json"];
    let add = [
        &["webhook", "endpoint", "add", &url, "--type", "captured,enqueued"][..],
        &why,
    ]
    .concat();
    let made = place.run(&add).await.ends_with(0);
    assert!(made.stderr.contains("it is not shown again"), "{}", made.stderr);
    let made = made.json();
    let id = made["id"].as_str().unwrap();
    place.write("secret", made["secret"].as_str().unwrap());

    let mut listener = place.start(&[
        "webhook",
        "listen",
        "--listen",
        &address,
        "--secret-file",
        "secret",
        "-o",
        "ndjson",
    ]);
    let said = listener.stderr.next_line().await.unwrap().unwrap();
    assert_eq!(said, format!("listening at http://{address}/"));
    let worker = place.start(&["work"]);
    place.enqueue("1001", 1000).await;
    let mut types = BTreeSet::new();
    while types.len() < 2 {
        let line = listener.stdout.next_line().await.unwrap().unwrap();
        let message: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["signature"], "genuine", "{message}");
        assert_eq!(message["body"]["id"], message["id"]);
        types.insert(message["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        types,
        ["capture.captured", "capture.enqueued"].map(str::to_owned).into()
    );
    worker.signal(Signal::TERM);
    assert_eq!(worker.ended().await, Some(0), "the drain records what was told");
    listener.signal(Signal::INT);
    assert_eq!(listener.ended().await, Some(130));

    let told = place
        .run(&["webhook", "delivery", "list", "--state", "delivered", "-o", "json"])
        .await;
    let told = told.ends_with(0).json();
    assert_eq!(told.as_array().unwrap().len(), 2);
    let delivery = told[0]["id"].as_str().unwrap();
    let one = place
        .run(&["webhook", "delivery", "get", delivery, "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(
        (&one["last_status"], &one["last_code"]),
        (&204.into(), &"delivered".into())
    );
    let endpoint = place
        .run(&["webhook", "endpoint", "get", id, "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(
        (&endpoint["state"], &endpoint["pending"]),
        (&"enabled".into(), &0.into())
    );
    let status = place.run(&["status", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(status["webhooks"]["enabled"], 1);
    let status = place.run(&["status"]).await.ends_with(0).stdout;
    assert!(
        status.contains("webhooks: 1 endpoint; 0 deliveries pending"),
        "{status}"
    );

    // Once more, with nobody there: it is behind as long as it takes, and says what it met.
    let again = [&["webhook", "delivery", "redeliver", delivery][..], &why].concat();
    let again = place.run(&again).await.ends_with(0).json();
    assert_eq!(again["deliveries"], 1);
    let span = [
        &[
            "webhook",
            "delivery",
            "redeliver",
            "--endpoint",
            id,
            "--since",
            "1h",
            "-n",
        ][..],
        &["-o", "json"],
    ]
    .concat();
    assert_eq!(place.run(&span).await.ends_with(0).json()["deliveries"], 2);
    let pending = place
        .run(&["webhook", "delivery", "list", "--state", "pending", "-o", "id"])
        .await;
    assert_eq!(pending.ends_with(0).stdout.trim(), delivery);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_changed_rotated_disabled_and_removed_and_each_act_says_what_it_found() {
    let place = Place::with_outbox().await;
    let why = ["--reason", "a test"];
    for (url, told) in [
        ("https://169.254.169.254/latest", "link-local"),
        ("https://0x7f.1/", "a loopback address"),
        ("http://hooks.example/", "must begin with https://"),
        ("https://me@hooks.example/", "no user and no password"),
        ("hooks.example", "is no URL"),
    ] {
        let run = place
            .run(&[&["webhook", "endpoint", "add", url][..], &why].concat())
            .await
            .ends_with(2);
        assert!(run.stderr.contains(told), "{url}: {}", run.stderr);
    }
    let wrong = [
        &[
            "webhook",
            "endpoint",
            "add",
            "https://hooks.example/",
            "--type",
            "captred",
        ][..],
        &why,
    ]
    .concat();
    assert!(
        place
            .run(&wrong)
            .await
            .ends_with(2)
            .stderr
            .contains("did you mean captured?")
    );
    let add = [
        &["webhook", "endpoint", "add", "https://hooks.example/"][..],
        &why,
        &["-o", "json"],
    ]
    .concat();
    let made = place.run(&add).await.ends_with(0).json();
    let id = made["id"].as_str().unwrap();
    let act = |verb: &'static str, more: &[&'static str]| {
        let mut line = vec!["webhook", "endpoint", verb, id];
        line.extend_from_slice(more);
        line.extend(why);
        line
    };
    place.run(&act("set", &[])).await.ends_with(2);
    place
        .run(&act("set", &["--type", "dead_lettered", "--description", "ops"]))
        .await
        .ends_with(0);
    let run = place.run(&act("rotate", &["-o", "json"])).await.ends_with(0);
    assert_ne!(run.json()["secret"], made["secret"]);
    let run = place.run(&act("rotate", &[])).await.ends_with(5);
    assert!(run.stderr.contains("--grace 0s"), "{}", run.stderr);
    place.run(&act("rotate", &["--grace", "0s"])).await.ends_with(0);
    let run = place.run(&act("disable", &["-n"])).await.ends_with(0);
    assert!(run.stderr.contains("nothing was written"));
    place.run(&act("disable", &[])).await.ends_with(0);
    let run = place.run(&act("disable", &[])).await.ends_with(0);
    assert!(run.stderr.contains("it was disabled before"));
    let listed = place.run(&["webhook", "endpoint", "list"]).await.ends_with(0).stdout;
    assert!(
        listed.contains("disabled") && listed.contains("dead_lettered"),
        "{listed}"
    );
    place.run(&act("enable", &[])).await.ends_with(0);
    place.run(&act("remove", &[])).await.ends_with(0);
    place.run(&act("remove", &[])).await.ends_with(3);
    place.run(&["webhook", "endpoint", "get", id]).await.ends_with(3);
    place.run(&["webhook", "delivery", "get", "1"]).await.ends_with(3);
    let audit = place.run(&["audit", "list", "-o", "json"]).await.ends_with(0).stdout;
    assert!(
        audit.contains("webhook endpoint rotate") && !audit.contains("whsec_"),
        "{audit}"
    );
}

#[tokio::test]
async fn a_message_is_verified_against_a_secret_from_a_file_the_environment_or_stdin() {
    let mut place = Place::empty();
    let vectors: Value = serde_json::from_str(include_str!("../webhooks/vectors.json")).unwrap();
    let text = |name: &str| vectors[0][name].as_str().unwrap();
    let timestamp = vectors[0]["timestamp"].to_string();
    place.write("body.json", text("body"));
    place.write("other.json", "{}");
    place.write("secret", text("secret"));
    place.set("HOOK_SECRET", text("secret"));
    let line = |body: &'static str, more: &[&'static str]| {
        let mut line = vec!["webhook", "verify", body, "--id", text("id")];
        line.extend(["--timestamp", &timestamp, "--signature", text("signature")]);
        line.extend_from_slice(more);
        line
    };
    let old = ["--any-time"];
    let with = |more: &[&'static str]| [&old[..], more].concat();
    let file = with(&["--secret-file", "secret"]);
    let run = place.run(&line("body.json", &file)).await.ends_with(0);
    assert_eq!(run.stderr, "genuine\n");
    place
        .run(&line("body.json", &with(&["--secret-env", "HOOK_SECRET"])))
        .await
        .ends_with(0);
    let stdin = with(&["--secret-file", "-"]);
    place
        .run_with(&line("body.json", &stdin), text("secret"))
        .await
        .ends_with(0);
    place.run_with(&line("-", &file), text("body")).await.ends_with(0);
    let run = place.run(&line("other.json", &file)).await.ends_with(7);
    assert!(run.stderr.contains("no signature fits"), "{}", run.stderr);
    let run = place
        .run(&line("body.json", &["--secret-file", "secret"]))
        .await
        .ends_with(7);
    assert!(run.stderr.contains("--any-time"), "{}", run.stderr);
    for (more, told) in [
        (vec![], "no secret is named"),
        (vec!["--secret-env", "NOBODY"], "NOBODY is not set"),
        (vec!["--secret-file", "other.json"], "begins with whsec_"),
        (vec!["--secret-file", "nowhere"], "cannot be read"),
    ] {
        let run = place.run(&line("body.json", &more)).await.ends_with(2);
        assert!(run.stderr.contains(told), "{}", run.stderr);
    }
}

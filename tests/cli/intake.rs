//! `enqueue`, and the refusals of the table.

use super::place::Place;

const GOOD: &str = r#"{"provider":"afterpay","order_id":"1","payment_id":"1001","capture_ref":"a","amount_minor":1234,"currency":"USD"}"#;

#[tokio::test]
async fn a_document_or_flags_ask_for_the_same_capture_once() {
    let place = Place::with_outbox().await;
    let first = place.run(&["enqueue", GOOD, "-o", "json"]).await.ends_with(0).json();
    assert_eq!(first[0]["created"], true);
    let flags = [
        "enqueue",
        "--provider",
        "afterpay",
        "--order",
        "1",
        "--payment",
        "1001",
        "--capture-ref",
        "a",
        "--amount",
        "12.34 USD",
        "-o",
        "json",
    ];
    let again = place.run(&flags).await.ends_with(0).json();
    assert_eq!(again[0]["created"], false);
    assert_eq!(again[0]["id"], first[0]["id"]);
    place.write("order.json", GOOD);
    let again = place
        .run(&["enqueue", "order.json", "-o", "id"])
        .await
        .ends_with(0)
        .stdout;
    assert_eq!(again.trim(), first[0]["id"]);
}

#[tokio::test]
async fn a_refused_row_names_its_rule_and_what_to_do() {
    let place = Place::with_outbox().await;
    let run = place
        .run(&["enqueue", &GOOD.replace("1234", "12.34")])
        .await
        .ends_with(2);
    assert!(
        run.stderr
            .contains("constraint intents_amount_whole, column amount_minor"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("hint: pass whole minor units: 1234 for 12.34 USD"),
        "{}",
        run.stderr
    );
    place.run(&["enqueue", GOOD]).await.ends_with(0);
    let run = place
        .run(&["enqueue", &GOOD.replace("1234", "1235")])
        .await
        .ends_with(5);
    assert!(run.stderr.contains("intents_capture_ref_unique"), "{}", run.stderr);
    assert_eq!(
        place
            .run(&["list", "-o", "id"])
            .await
            .ends_with(0)
            .stdout
            .lines()
            .count(),
        1
    );
}

#[tokio::test]
async fn a_dry_run_asks_every_rule_and_writes_nothing() {
    let place = Place::with_outbox().await;
    let would = place
        .run(&["enqueue", "-n", GOOD, "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(would, serde_json::json!([{"id": null, "would_create": true}]));
    place
        .run(&["enqueue", "-n", &GOOD.replace("1001", "x")])
        .await
        .ends_with(2);
    assert_eq!(place.run(&["list", "-o", "id"]).await.ends_with(0).stdout, "");
    assert_eq!(place.run(&["events", "tail", "-o", "id"]).await.ends_with(0).stdout, "");
}

#[tokio::test]
async fn of_several_documents_the_good_ones_are_taken() {
    let place = Place::with_outbox().await;
    let documents = format!(
        "{GOOD}\n{}\n{}",
        GOOD.replace("1001", "x"),
        GOOD.replace("1001", "1002")
    );
    let run = place
        .run_with(&["enqueue", "-", "-o", "id"], &documents)
        .await
        .ends_with(6);
    assert_eq!(run.stdout.lines().count(), 2);
    assert!(run.stderr.contains("document 2: error: payment_id"), "{}", run.stderr);
    let bad = GOOD.replace("1001", "x");
    place
        .run_with(&["enqueue", "-"], &format!("{bad} {bad}"))
        .await
        .ends_with(2);
}

#[tokio::test]
async fn a_role_that_may_only_look_is_told_so() {
    let mut place = Place::with_outbox().await;
    place.enqueue("1001", 500).await;
    let looker = place.log_in_as("in role capture_readonly").await;
    assert_eq!(
        place
            .run(&["list", "-o", "id"])
            .await
            .ends_with(0)
            .stdout
            .lines()
            .count(),
        1
    );
    let run = place
        .run(&["enqueue", &GOOD.replace("1001", "1002")])
        .await
        .ends_with(4);
    assert!(run.stderr.contains("capture doctor"), "{}", run.stderr);
    let doctor = place.run(&["doctor", "-o", "ndjson"]).await.stdout;
    assert!(doctor.contains(&format!("role {looker} may look\"")), "{doctor}");
}

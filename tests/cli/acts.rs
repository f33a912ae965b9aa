//! `cancel`, `dead`, `replay`, `resolve`: on real dead letters.

use capture::simulator::{Fault, FaultPlan, FaultRule, Operation, Simulator};

use super::place::Place;

/// Three dead letters: the provider declines everything.
pub async fn with_dead_letters() -> (Place, Simulator, Vec<String>) {
    let (place, simulator) = Place::with_simulator(|settings| {
        settings.faults = FaultPlan {
            rules: vec![FaultRule {
                per_mille: 1000,
                faults: vec![Fault::Declined],
                operation: Operation::Capture,
                provider: None,
            }],
        };
    })
    .await;
    let mut ids = Vec::new();
    for (payment, minor) in [("1001", 1000), ("1002", 2000), ("1003", 3500)] {
        ids.push(place.enqueue(payment, minor).await);
    }
    place.work_until("dead_lettered", 3).await;
    (place, simulator, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_summed_listed_previewed_replayed_and_resolved() {
    let (place, simulator, ids) = with_dead_letters().await;

    let sums = place
        .run(&["dead", "--group-by", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(sums[0]["dead_reason"], "rejected");
    assert_eq!(sums[0]["captures"], 3);
    assert_eq!(sums[0]["amount_minor"], 6500);
    let sums = place
        .run(&["dead", "--group-by", "provider", "--amount", "<20.00 USD", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(sums[0]["amount_minor"], 1000);
    let page = place.run(&["dead"]).await.ends_with(0).stdout;
    assert!(page.contains("65.00 USD") && page.contains(&ids[0]), "{page}");

    // A preview changes nothing, and says with which key.
    let preview = place
        .run(&["replay", "--class", "rejected", "-n", "-o", "json"])
        .await
        .ends_with(0);
    assert!(
        preview.stderr.contains("3 captures: 65.00 USD\n  safe"),
        "{}",
        preview.stderr
    );
    let preview = preview.json();
    assert_eq!(preview[0]["result"], "would_replay");
    assert_eq!(preview[0]["key"].as_str().unwrap().len(), 36);
    assert!(preview[0]["says"].as_str().unwrap().starts_with("safe"));
    assert_eq!(
        place
            .run(&["list", "--state", "dead", "-o", "id"])
            .await
            .stdout
            .lines()
            .count(),
        3
    );

    // Several by a filter need a yes.
    let run = place
        .run(&["replay", "--state", "dead", "--reason", "x"])
        .await
        .ends_with(2);
    assert!(run.stderr.contains("--yes"), "{}", run.stderr);

    // What a person has settled is left alone by filters.
    let resolve = [
        "resolve",
        &ids[2],
        "--as",
        "not-captured",
        "--evidence",
        "dashboard 7",
        "--reason",
        "customer left",
    ];
    let mut would = resolve.to_vec();
    would.push("-n");
    place.run(&would).await.ends_with(0);
    place.run(&resolve).await.ends_with(0);
    assert_eq!(
        place
            .run(&["dead", "-o", "id"])
            .await
            .ends_with(0)
            .stdout
            .lines()
            .count(),
        2
    );
    assert_eq!(
        place
            .run(&["dead", "--resolved", "-o", "id"])
            .await
            .ends_with(0)
            .stdout
            .lines()
            .count(),
        3
    );
    let run = place
        .run(&[
            "replay",
            "--state",
            "dead",
            "--reason",
            "they are back",
            "--yes",
            "-o",
            "json",
        ])
        .await
        .ends_with(0);
    assert!(
        run.stderr.contains("a person resolved them as not captured: 1"),
        "{}",
        run.stderr
    );
    assert_eq!(run.json().as_array().unwrap().len(), 2);

    // It goes back to reads; the next look says so, and a second replay finds nothing to do.
    let run = place.run(&["replay", &ids[0], "--reason", "again"]).await.ends_with(5);
    assert!(run.stdout.contains("it is verifying, not dead"), "{}", run.stdout);
    let story = place
        .run(&["timeline", &ids[0], "-o", "ndjson"])
        .await
        .ends_with(0)
        .stdout;
    assert!(
        story.contains(r#""action":"replay","actor":"tess","reason":"they are back""#),
        "{story}"
    );
    drop(simulator);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_dead_is_resolved_and_only_once() {
    let (place, _simulator, ids) = with_dead_letters().await;
    let resolve = |id: &str, evidence: &str| {
        [
            "resolve",
            id,
            "--as",
            "captured",
            "--evidence",
            evidence,
            "--reason",
            "seen",
            "-o",
            "json",
        ]
        .map(str::to_owned)
    };
    let run = async |arguments: [String; 10]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        place.run(&arguments).await
    };
    assert_eq!(
        run(resolve(&ids[0], "cap_1")).await.ends_with(0).json()["result"],
        "resolved"
    );
    assert!(
        run(resolve(&ids[0], "cap_1"))
            .await
            .ends_with(5)
            .stderr
            .contains("it is captured")
    );
    assert!(
        run(resolve(&ids[1], " "))
            .await
            .ends_with(2)
            .stderr
            .contains("--evidence is empty")
    );
    let one = place.run(&["get", &ids[0], "-o", "json"]).await.ends_with(0).json();
    assert_eq!(one["provider_capture_id"], "cap_1");
    assert_eq!(one["captured_minor"], 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_an_account_that_these_settings_lack_is_not_done() {
    let (place, _simulator, ids) = with_dead_letters().await;
    place.write("capture.toml", "");
    let run = place.run(&["replay", &ids[0], "--reason", "x"]).await.ends_with(5);
    assert!(
        run.stdout.contains("afterpay/default is not among the accounts"),
        "{}",
        run.stdout
    );
    assert_eq!(
        place
            .run(&["list", "--state", "dead", "-o", "id"])
            .await
            .stdout
            .lines()
            .count(),
        3
    );
}

#[tokio::test]
async fn a_cancel_tells_what_became_of_each() {
    let place = Place::with_outbox().await;
    let first = place.enqueue("1001", 1000).await;
    let second = place.enqueue("1002", 1000).await;
    let would = place
        .run(&["cancel", &first, "-n", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(would[0]["result"], "would_cancel");
    let done = place
        .run(&["cancel", &first, "--reason", "customer left", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(done[0]["result"], "cancelled");
    place.run(&["cancel", &first, "--reason", "again"]).await.ends_with(5);
    place
        .run(&["cancel", &first, &second, "--reason", "both", "--actor", "ops on call"])
        .await
        .ends_with(6);
    let story = place
        .run(&["timeline", &second, "-o", "ndjson"])
        .await
        .ends_with(0)
        .stdout;
    assert!(story.contains("both (by ops on call)"), "{story}");
    place.enqueue("1003", 1000).await;
    place
        .run(&["cancel", "--payment", "1003", "--reason", "one by a filter"])
        .await
        .ends_with(0);
    place.enqueue("1004", 1000).await;
    place.enqueue("1005", 1000).await;
    place
        .run(&["cancel", "--provider", "afterpay", "--reason", "many"])
        .await
        .ends_with(2);
    place
        .run(&["cancel", "--provider", "afterpay", "--reason", "many", "--yes"])
        .await
        .ends_with(0);
}

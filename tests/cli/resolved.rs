//! Dead letters that a person has resolved: closed, and told as such everywhere.

use super::acts::with_dead_letters;
use super::place::Place;

/// Resolves one, and says why.
async fn resolve(place: &Place, id: &str, truth: &str) {
    let resolve = [
        "resolve",
        id,
        "--as",
        truth,
        "--evidence",
        "dashboard 7",
        "--reason",
        "customer left",
    ];
    place.run(&resolve).await.ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_resolved_is_dead_in_no_count() {
    let (place, _simulator, ids) = with_dead_letters().await;
    let before = place.run(&["status"]).await.ends_with(0).stdout;
    assert!(before.contains("dead 3 ·") && !before.contains("resolved"), "{before}");
    resolve(&place, &ids[2], "not-captured").await;
    let page = place.run(&["status"]).await.ends_with(0).stdout;
    assert!(page.contains("dead 2 ·"), "{page}");
    assert!(page.trim_end().ends_with("· resolved as not captured 1"), "{page}");
    let status = place.run(&["status", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(status["states"]["dead"], 2);
    assert_eq!(status["states"]["resolved"], 1);
    assert_eq!(status["lanes"][0]["dead"], 2);

    let dead = place.run(&["dead", "list"]).await.ends_with(0);
    assert!(!dead.stdout.contains(&ids[2]), "{}", dead.stdout);
    assert!(
        dead.stderr
            .contains("a person resolved them as not captured: 1; --resolved"),
        "{}",
        dead.stderr
    );
    let all = place.run(&["dead", "list", "--resolved"]).await.ends_with(0);
    assert!(all.stdout.contains(&ids[2]), "{}", all.stdout);
    assert!(all.stderr.contains("the sums do not count them"), "{}", all.stderr);
    place
        .run(&["dead", "--resolved", "--group-by", "reason"])
        .await
        .ends_with(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_what_a_person_resolved_says_who_and_waits_for_a_second_word() {
    let (place, _simulator, ids) = with_dead_letters().await;
    resolve(&place, &ids[0], "not-captured").await;
    for dry in [false, true] {
        let mut replay = vec!["replay", &ids[0], "--reason", "they are back", "-o", "json"];
        replay.extend(dry.then_some("-n"));
        let row = place.run(&replay).await.ends_with(5).json()[0].clone();
        assert_eq!(row["result"], "not_replayed");
        let says = row["says"].as_str().unwrap();
        assert!(says.starts_with("tess resolved it as not-captured at 20"), "{says}");
        assert!(
            says.contains("(evidence: dashboard 7; reason: customer left)"),
            "{says}"
        );
        assert!(says.contains("by its id with --resolved"), "{says}");
    }
    let listed = place.run(&["dead", "--resolved", "-o", "id"]).await.ends_with(0).stdout;
    assert!(listed.contains(&ids[0]), "it stays closed: {listed}");

    // A filter never means them, whatever is added.
    place
        .run(&["replay", "--state", "dead", "--resolved", "--reason", "x", "--yes"])
        .await
        .ends_with(2);
    let row = place
        .run(&[
            "replay",
            &ids[0],
            "--resolved",
            "--reason",
            "they are back",
            "-o",
            "json",
        ])
        .await
        .ends_with(0)
        .json()[0]
        .clone();
    assert_eq!(row["result"], "replayed");
    assert!(
        row["says"].as_str().unwrap().contains("; but tess resolved it"),
        "{row}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_resolved_as_captured_is_never_replayed() {
    let (place, _simulator, ids) = with_dead_letters().await;
    resolve(&place, &ids[0], "captured").await;
    let row = place
        .run(&["replay", &ids[0], "--resolved", "--reason", "x", "-o", "json"])
        .await
        .ends_with(5)
        .json()[0]
        .clone();
    let says = row["says"].as_str().unwrap();
    assert!(
        says.starts_with("it is captured, not dead: tess resolved it as captured at 20"),
        "{says}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_is_told_once_to_people_and_whole_to_programs() {
    let (place, _simulator, ids) = with_dead_letters().await;
    place
        .run(&["replay", &ids[0], "--reason", "they are back"])
        .await
        .ends_with(0);
    resolve(&place, &ids[1], "not-captured").await;
    for (id, event, reason) in [
        (&ids[0], "replayed", "they are back"),
        (&ids[1], "resolved", "customer left"),
    ] {
        let page = place.run(&["timeline", id]).await.ends_with(0).stdout;
        assert_eq!(page.matches(reason).count(), 1, "{page}");
        let line = page.lines().find(|line| line.contains(reason)).unwrap();
        assert!(line.contains(event) && line.contains("by=tess"), "{line}");
        let story = place.run(&["timeline", id, "-o", "json"]).await.ends_with(0).json();
        let told: Vec<&str> = story
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["data"]["reason"] == reason)
            .map(|entry| entry["what"].as_str().unwrap())
            .collect();
        assert_eq!(told, [event, "audit"]);
    }
}

//! Settings, and a database or a worker that does not answer.

use super::place::Place;

#[tokio::test]
async fn a_database_that_does_not_answer_ends_with_8_and_its_address() {
    let mut place = Place::empty();
    place.set("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d");
    for verb in [
        vec!["list"],
        vec!["status"],
        vec!["migrate", "up"],
        vec!["doctor"],
        vec!["get", "01900000-0000-7000-8000-000000000000"],
        vec!["events", "tail"],
        vec!["lane", "pause", "afterpay", "--reason", "x"],
    ] {
        let run = place.run(&verb).await.ends_with(8);
        assert!(
            run.stderr.contains("127.0.0.1:1 cannot be reached"),
            "{verb:?}: {}",
            run.stderr
        );
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}

#[tokio::test]
async fn a_flag_is_stronger_than_the_environment_and_the_environment_than_the_file() {
    let mut place = Place::empty();
    let reached = async |place: &Place, arguments: &[&str]| place.run(arguments).await.ends_with(8).stderr;
    place.set("CAPTURE_DATABASE_URL", "postgres://u@127.0.0.1:2/d");
    assert!(reached(&place, &["list"]).await.contains("127.0.0.1:2"));
    let flag = ["list", "--database-url", "postgres://u@127.0.0.1:3/d"];
    assert!(reached(&place, &flag).await.contains("127.0.0.1:3"));
}

#[tokio::test]
async fn faults_of_the_settings_are_told_all_at_once() {
    let place = Place::empty();
    place.write("capture.toml", "[worker]\nlease = \"10s\"\ncolour = \"red\"\n");
    let run = place.run(&["work"]).await.ends_with(2);
    assert!(run.stderr.contains("capture.toml:2: worker.lease"), "{}", run.stderr);
    assert!(run.stderr.contains("capture.toml:3: worker.colour"), "{}", run.stderr);
    let page = place.run(&["config", "check"]).await.ends_with(7).stdout;
    assert!(page.contains("fault    capture.toml:2: worker.lease: "), "{page}");
    assert!(page.contains("\n         → "), "{page}");
    place.run(&["list", "--config", "elsewhere.toml"]).await.ends_with(2);
}

#[tokio::test]
async fn without_a_database_or_an_account_it_says_how_to_name_one() {
    let mut place = Place::empty();
    let run = place.run(&["list"]).await.ends_with(2);
    assert!(run.stderr.contains("DATABASE_URL"), "{}", run.stderr);
    place.set("DATABASE_URL", "postgres://u@127.0.0.1:1/d");
    let run = place.run(&["work"]).await.ends_with(2);
    assert!(run.stderr.contains("[[account]]"), "{}", run.stderr);
    place.set("DATABASE_URL", "mysql://u:hunter2@h/d");
    let run = place.run(&["list"]).await.ends_with(2);
    assert!(
        run.stderr.contains("postgres://") && !run.stderr.contains("hunter2"),
        "{}",
        run.stderr
    );
}

#[tokio::test]
async fn settings_that_no_worker_could_start_with_are_not_in_order() {
    let mut place = Place::empty();
    place.set("DATABASE_URL", "postgres://u@127.0.0.1:1/d");
    let run = place.run(&["config", "check", "-o", "json"]).await.ends_with(7);
    assert!(!run.stderr.contains("in order"), "{}", run.stderr);
    let faults = run.json();
    assert_eq!(faults[0]["level"], "fault");
    assert!(faults[0]["wrong"].as_str().unwrap().contains("no account"), "{faults}");
    place.set("SECRET", "s");
    place.write(
        "capture.toml",
        "[[account]]\nprovider = \"afterpay\"\nbase_url = \"http://127.0.0.1:1\"\nmerchant_id = \"1\"\nsecret_env = \"SECRET\"\n",
    );
    let run = place.run(&["config", "check"]).await.ends_with(0);
    assert!(run.stderr.contains("in order (1 account)"), "{}", run.stderr);
}

#[tokio::test]
async fn a_missing_secret_stops_a_worker_and_nobody_else() {
    let mut place = Place::empty();
    place.set("DATABASE_URL", "postgres://u@127.0.0.1:1/d");
    place.write(
        "capture.toml",
        "[[account]]\nprovider = \"afterpay\"\nbase_url = \"http://127.0.0.1:1\"\nmerchant_id = \"1\"\nsecret_env = \"NOT_SET\"\n",
    );
    assert!(place.run(&["work"]).await.ends_with(2).stderr.contains("NOT_SET"));
    place.run(&["list"]).await.ends_with(8);
}

#[tokio::test]
async fn a_misspelt_variable_is_warned_of() {
    let mut place = Place::empty();
    place.set("CAPTURE_SCHEMAA", "x");
    let run = place.run(&["migrate", "sql", "--after", "99"]).await.ends_with(0);
    assert!(run.stderr.contains("warning: env CAPTURE_SCHEMAA"), "{}", run.stderr);
}

#[tokio::test]
async fn a_worker_that_does_not_answer_ends_health_with_8() {
    let place = Place::empty();
    let run = place
        .run(&["health", "live", "--url", "http://127.0.0.1:1"])
        .await
        .ends_with(8);
    assert!(run.stderr.contains("127.0.0.1:1"));
    assert!(
        place
            .run(&["health", "ready"])
            .await
            .ends_with(2)
            .stderr
            .contains("--url")
    );
}

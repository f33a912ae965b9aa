//! Help, usage, and what needs no database.

use capture::cli::CommandLine;
use capture::cli::explanations::EXPLANATIONS;

use super::place::Place;

/// The words of every verb that is shown, such as `lane pause`.
fn verbs() -> Vec<Vec<String>> {
    fn below(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
        for verb in command.get_subcommands() {
            let mut path = path.to_vec();
            path.push(verb.get_name().to_owned());
            found.push(path.clone());
            below(verb, &path, found);
        }
    }
    let mut found = Vec::new();
    below(&CommandLine::definition(), &[], &mut found);
    found
}

#[tokio::test]
async fn the_front_page_names_every_verb_and_every_exit_code() {
    let page = Place::empty().run(&["--help"]).await.ends_with(0).stdout;
    for verb in verbs().iter().filter(|path| path.len() == 1) {
        assert!(page.contains(&format!("\n  {} ", verb[0])), "{verb:?} in {page}");
    }
    for code in [
        "0 done",
        "1 failed",
        "2 wrong",
        "3 not found",
        "4 not allowed",
        "6 partly done",
        "7 a check",
        "130",
    ] {
        assert!(page.contains(code), "{code}");
    }
}

#[tokio::test]
async fn every_verb_has_help_and_every_argument_is_explained() {
    let place = Place::empty();
    for path in verbs() {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        place.run(&arguments).await.ends_with(0);
    }
    let mut commands = vec![CommandLine::definition()];
    while let Some(command) = commands.pop() {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(
                argument.get_help().is_some(),
                "{} {}",
                command.get_name(),
                argument.get_id()
            );
        }
        commands.extend(command.get_subcommands().cloned());
    }
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_2_and_says_what_would_be_right() {
    let place = Place::empty();
    for (arguments, told) in [
        (vec![], "Usage: capture"),
        (vec!["lst"], "list"),
        (vec!["get", "123"], "ids are whole uuids"),
        (vec!["list", "--state", "ded"], "did you mean dead?"),
        (
            vec!["list", "--since", "yesterday", "--amount", "5"],
            "--amount: write it like '>=100.00 USD'",
        ),
        (vec!["list", "-o", "yaml"], "ndjson"),
        (vec!["dead", "explain", "fatal"], "there are ambiguous"),
        (vec!["dead", "--state", "held"], "capture list"),
        (vec!["events", "tail", "--type", "captred"], "did you mean captured?"),
        (
            vec!["events", "tail", "--type", "captured,settled"],
            "it is one of enqueued",
        ),
        (vec!["replay", "--reason", "x"], "--state dead means all"),
        (
            vec!["replay", "--state", "captured", "--reason", "x"],
            "it acts on dead",
        ),
        (vec!["cancel", "01900000-0000-7000-8000-000000000000"], "--reason"),
        (vec!["cancel", "--state", "dead", "--reason", "x"], "it acts on held"),
        (
            vec!["replay", "--class", "rejected", "--reason", " "],
            "--reason is empty",
        ),
        (vec!["release", "--provider", "afterpay"], "--payment <ID>|--order <ID>"),
        (vec!["enqueue"], "--provider"),
        (vec!["enqueue", "{"], "this is no JSON"),
        (vec!["enqueue", "nowhere.json"], "nowhere.json cannot be read"),
        (
            vec!["enqueue", "--provider", "afterpay", "--amount", "12,34 USD"],
            "write it like '12.34 USD'",
        ),
        (vec!["simulate", "--faults", "loosy"], "there is no fault 'loosy'"),
        (vec!["simulate", "--faults", "lossy=20"], "write 20%"),
        (vec!["simulate", "--limits", "visa=5"], "write afterpay=100"),
        (vec!["status", "--watch"], "needs a terminal"),
        (vec!["health", "live", "--url", "https://127.0.0.1"], "plain http"),
    ] {
        let run = place.run(&arguments).await.ends_with(2);
        assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}: talk is for stderr");
    }
}

#[tokio::test]
async fn help_tells_all_that_a_verb_says_of_itself() {
    let place = Place::empty();
    for (verb, told) in [
        (vec!["demo"], "Nothing is left behind"),
        (vec!["dev"], "nothing moves money"),
        (vec!["work"], "SIGTERM or SIGINT drains"),
        (vec!["simulate"], "Nothing here moves money"),
        (vec!["status"], "as resolved, not as dead"),
        (vec!["list"], "Without --limit at most 200"),
        (vec!["dead"], "For people first their sums"),
        (vec!["enqueue"], "naming the rule"),
        (vec!["release"], "may come before the capture"),
        (vec!["cancel"], "Each is told as cancelled (0)"),
        (vec!["replay"], "under which key"),
        (vec!["resolve"], "Nothing is sent"),
        (vec!["events", "tail"], "Every event carries its cursor"),
    ] {
        let mut arguments = verb.clone();
        arguments.push("--help");
        let page = place.run(&arguments).await.ends_with(0).stdout;
        // However the lines are broken.
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains(told), "{verb:?}: {page}");
    }
}

#[tokio::test]
async fn who_names_nobody_acts_as_the_user_of_the_process() {
    let mut place = Place::with_outbox().await;
    place.unset("USER");
    place.enqueue("1001", 500).await;
    let uid = rustix::process::getuid().as_raw().to_string();
    let entries = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = entries
        .lines()
        .find(|line| line.split(':').nth(2) == Some(uid.as_str()))
        .and_then(|line| line.split(':').next());
    let pause = ["lane", "pause", "afterpay", "--reason", "x"];
    let Some(name) = name else {
        let run = place.run(&pause).await.ends_with(2);
        assert!(run.stderr.contains("--actor NAME"), "{}", run.stderr);
        return;
    };
    place.run(&pause).await.ends_with(0);
    let lanes = place.run(&["lane", "list", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(lanes[0]["paused_by"], name);
}

#[tokio::test]
async fn every_class_is_explained_for_people_and_for_programs() {
    let place = Place::empty();
    for explanation in EXPLANATIONS {
        let page = place
            .run(&["dead", "explain", explanation.name])
            .await
            .ends_with(0)
            .stdout;
        assert!(page.contains(&format!("{} ({})", explanation.name, explanation.of.name())));
        assert!(page.lines().all(|line| line.chars().count() <= 100), "{page}");
    }
    let all = place.run(&["dead", "explain", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(all.as_array().unwrap().len(), EXPLANATIONS.len());
    assert!(all[0]["do"].is_string());
}

#[tokio::test]
async fn the_version_says_what_the_binary_is_made_of() {
    let version = Place::empty().run(&["version", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["rustc"].as_str().unwrap().starts_with("rustc 1."));
    assert_eq!(version["migrations"][0]["name"], "intents");
    assert!(version.get("commit").is_some());
}

//! "X does not know Y": who may know what, read from the sources themselves.

use std::fs;
use std::path::{Path, PathBuf};

/// What is looked for, and the only places (by the start of the path below `src/`) where it may stand.
const RULES: [(&str, &[&str]); 6] = [
    // The client runs in order systems, and knows what they know: the contract. The demo's order system is somebody else's
    // program; the local Postgres asks its server whether it is there; the programs in bin/ look from outside.
    (
        "sqlx::",
        &[
            "outbox/",
            "client/",
            "cli/demo",
            "cli/dev",
            "local_postgres/",
            "cli/refusal",
            "telemetry",
            "bin/capture-bench/",
            "bin/capture-chaos/",
        ],
    ),
    (
        "reqwest",
        &[
            "provider/transport",
            "provider/breakage",
            "provider/gate",
            "webhook/sender",
            "cli/demo",
            "cli/health",
            "bin/capture-bench/",
            "bin/capture-chaos/",
        ],
    ),
    (
        "std::env::var",
        &["config/environment", "local_postgres/environment", "planted"],
    ),
    (
        "crate::provider",
        &[
            "provider/",
            "outbox/",
            "operations/",
            "worker/",
            "retry",
            "verify",
            "way",
            "cli/",
        ],
    ),
    ("backoff::", &["retry/schedule"]),
    ("crate::config", &["config/", "cli/"]),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.to_string_lossy().ends_with("tests.rs")
        {
            found.push(path);
        }
    }
}

/// Path below `src/` and its lines of code, comments left out.
fn code() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 50, "the sources are not where they were");
    let strip = |text: String| {
        text.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    found
        .into_iter()
        .map(|path| {
            (
                path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
                strip(fs::read_to_string(&path).unwrap()),
            )
        })
        .collect()
}

#[test]
fn nobody_knows_what_is_not_theirs_to_know() {
    let code = code();
    let mut broken = Vec::new();
    for (word, allowed) in RULES {
        for (path, text) in &code {
            if text.contains(word) && !allowed.iter().any(|place| path.starts_with(place)) {
                broken.push(format!("{path} knows {word}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_worker_knows_no_provider_by_name() {
    for (path, text) in code() {
        if path.starts_with("worker/") || path.starts_with("retry") || path.starts_with("verify") {
            for name in ["afterpay", "optty", "resolve_", "Afterpay", "Optty", "\"resolve\""] {
                assert!(!text.contains(name), "{path} knows {name}");
            }
        }
    }
}

#[test]
fn the_simulator_shares_nothing_with_what_it_judges() {
    for (path, text) in code() {
        if path.starts_with("simulator/") {
            for room in [
                "crate::provider",
                "crate::intent",
                "crate::outcome",
                "crate::worker",
                "crate::outbox",
            ] {
                assert!(!text.contains(room), "{path} knows {room}");
            }
        }
    }
}

#[test]
fn decisions_do_no_input_or_output() {
    for (path, text) in code() {
        if path.starts_with("retry") || path.starts_with("verify") || path == "progress.rs" {
            for word in [
                "async ",
                "tokio",
                "sqlx",
                "Utc::now",
                "SystemTime",
                "Instant::now",
                "std::fs",
                "std::env",
                "Boottime::now",
            ] {
                assert!(!text.contains(word), "{path} does {word}");
            }
        }
    }
}

#[test]
fn http_asks_the_outbox_and_operations_and_decides_nothing_about_money() {
    for (path, text) in code() {
        if path.starts_with("http/") {
            for room in text.split("crate::").skip(1) {
                let room = room.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                let known = [
                    "api_key",
                    "filter",
                    "http",
                    "intent",
                    "metrics",
                    "operations",
                    "outbox",
                    "outcome",
                    "shipment",
                    "webhook",
                ];
                assert!(known.contains(&room), "{path} knows {room}");
            }
        }
    }
}

#[test]
fn what_a_shipment_says_is_read_without_asking_anybody() {
    for (path, text) in code() {
        if path.starts_with("shipment/") {
            for word in [
                "crate::",
                "tokio",
                "axum",
                "std::fs",
                "std::net",
                "Utc::now",
                "SystemTime",
            ] {
                assert!(!text.contains(word), "{path} knows {word}");
            }
        }
    }
}

//! Other Postgres queues, each by its adapter in `benches/peers/NAME/`. What an adapter must do: `benches/peers/README.md`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::process::Command;

use crate::figures::{number, ratio};
use crate::processes;
use crate::report::Chapter;
use crate::scenario::Scenario;
use crate::server::{Server, Spent};
use crate::stage::Stage;
use crate::stub::Stub;

use super::noop::CONCURRENCY;

const DELAY: Duration = Duration::from_millis(20);

/// What an adapter prints at its end. Times are microseconds since 1970.
#[derive(Debug, Deserialize)]
struct Told {
    version: String,
    started: i64,
    finished: i64,
    jobs: u64,
}

pub async fn run(stage: &Stage) -> anyhow::Result<Chapter> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let noop = stage.size(20_000, 500);
    let http = stage.size(5_000, 200);
    let mut chapter = Chapter::new(
        Scenario::Peers,
        format!(
            "others' queues: {noop} jobs that do nothing, and {http} that call a provider that takes {} ms, 64 at once, and four times as many, 512 at once",
            DELAY.as_millis()
        ),
    );
    let peers = peers(&directory, &stage.peers)?;
    let mut present = Vec::new();
    for peer in peers {
        eprintln!("peers: installing {}", peer.name);
        match call(&peer, "install", &[], "").await {
            Ok(_) => present.push(peer),
            Err(error) => chapter.note(format!(
                "{}: absent ({})",
                peer.name,
                format!("{error:#}").lines().next().unwrap_or_default()
            )),
        }
    }
    let mut server = Server::start(&[]).await?;
    for _ in stage.rounds("peers") {
        for peer in &present {
            let loads = [
                Load::Noop { jobs: noop },
                Load::Http {
                    jobs: http,
                    at_once: 64,
                },
                Load::Http {
                    jobs: 4 * http,
                    at_once: 512,
                },
            ];
            for load in loads {
                if let Err(error) = measure(&mut server, &mut chapter, peer, load).await {
                    chapter.note(format!("{}, {load}: failed: {error:#}", peer.name));
                }
            }
        }
    }
    server.stop().await?;
    chapter.note("none of them does what a capture needs beside: no fence, no attempt before the send, no event, no lock per payment");
    Ok(chapter)
}

/// What a peer is given to do.
#[derive(Debug, Clone, Copy)]
enum Load {
    Noop { jobs: u64 },
    Http { jobs: u64, at_once: u32 },
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Load::Noop { .. } => f.write_str("noop"),
            Load::Http { at_once, .. } => write!(f, "http {at_once}"),
        }
    }
}

struct Peer {
    name: String,
    program: PathBuf,
}

fn peers(directory: &Path, only: &[String]) -> anyhow::Result<Vec<Peer>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))? {
        let entry = entry?;
        let (name, program) = (
            entry.file_name().to_string_lossy().into_owned(),
            entry.path().join("run"),
        );
        if program.is_file() && (only.is_empty() || only.contains(&name)) {
            found.push(Peer { name, program });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

async fn measure(server: &mut Server, chapter: &mut Chapter, peer: &Peer, load: Load) -> anyhow::Result<()> {
    let mut database = server.empty_database().await?;
    let stub = Stub::start().await?;
    let (jobs, concurrency, target) = match load {
        Load::Noop { jobs } => (jobs, CONCURRENCY, "noop".to_owned()),
        Load::Http { jobs, at_once } => (jobs, at_once, stub.url(DELAY)),
    };
    let arguments = [
        "--jobs".to_owned(),
        jobs.to_string(),
        "--mode".to_owned(),
        target,
        "--concurrency".to_owned(),
        concurrency.to_string(),
    ];
    call(peer, "enqueue", &arguments, &database.url).await?;
    database.run("analyze").await?;
    let ended_before = processes::ended_children_cpu_ms();
    let before = server.mark(&database, &[]).await?;
    let (said, peak) = call(peer, "work", &arguments, &database.url).await?;
    let after = server.mark(&database, &[]).await?;
    let own = number(processes::ended_children_cpu_ms().saturating_sub(ended_before));
    let line = said.lines().last().unwrap_or_default();
    let told: Told = serde_json::from_str(line).with_context(|| format!("it printed {line:?}"))?;
    if told.jobs < jobs {
        bail!("it did {} of {jobs} jobs", told.jobs);
    }
    if matches!(load, Load::Http { .. }) && stub.requests() < jobs {
        bail!("the provider saw {} of {jobs} calls", stub.requests());
    }
    let case = format!("{} {}, {load}", peer.name, told.version);
    chapter.add(
        &case,
        "jobs",
        "1/s",
        ratio(number(told.jobs) * 1_000_000.0, number(told.finished - told.started)),
    );
    let mut spent = Spent::between(&before, &after);
    spent.workers_ms = own;
    spent.tell(chapter, &case, number(told.jobs));
    chapter.add(&case, "peak RSS", "MiB", number(peak) / 1024.0);
    server.drop(database).await
}

/// Runs an adapter to its end: what it printed, and the most memory that it and its children were seen to have, in KiB.
async fn call(peer: &Peer, verb: &str, arguments: &[String], database_url: &str) -> anyhow::Result<(String, u64)> {
    let child = Command::new(&peer.program)
        .arg(verb)
        .args(arguments)
        .env("DATABASE_URL", database_url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} cannot be started", peer.program.display()))?;
    let pid = child.id().unwrap_or(0);
    let mut output = std::pin::pin!(child.wait_with_output());
    let mut peak = 0;
    let output = loop {
        tokio::select! {
            output = &mut output => break output?,
            () = tokio::time::sleep(Duration::from_millis(100)) => peak = peak.max(processes::tree_rss_kib(pid)),
        }
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{verb} ended with {}: {}",
            output.status,
            said.trim().lines().last().unwrap_or("it said nothing")
        );
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), peak))
}

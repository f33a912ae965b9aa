//! `capture-bench`: what the product makes of a machine, with all its guarantees on, beside what the machine would give
//! without it. Starts its own Postgres (durable), its own provider and its own workers; needs nothing and leaves nothing.
//! The method, and what each figure is: `docs/performance.md`.
#![forbid(unsafe_code)]
#![expect(
    clippy::float_arithmetic,
    reason = "rates, ratios and percentiles; no money anywhere in it"
)]

mod bare;
mod ceiling;
mod child;
mod crowd;
mod drain;
mod figures;
mod latency;
mod load;
mod machine;
mod noop;
mod plot;
mod processes;
mod raw;
mod report;
mod scenario;
mod scenarios;
mod server;
mod stage;
mod stub;
mod talk;
mod targets;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicU32;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use child::Part;
use machine::Machine;
use report::Report;
use scenario::Scenario;
use server::Server;
use stage::Stage;

/// Measures capture against the raw SQL, against the bare HTTP client and against itself.
///
/// Exit codes: 0 measured (whatever the figures are), 1 something failed, 2 usage.
#[derive(Debug, Parser)]
#[command(name = "capture-bench", version)]
struct Args {
    /// What to measure; all but the peers if none is named
    #[arg(value_enum, ignore_case = true)]
    scenarios: Vec<Scenario>,
    /// How often each case is measured; cases take turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Sizes that prove that it runs, in seconds; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Captures in the long drains of A and E; H has a quarter. Fewer are for a machine that is slow or busy
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(2_000..=5_000_000))]
    captures: u64,
    /// Finished captures behind the huge backlog of D
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(..=50_000_000))]
    finished: u64,
    /// Only these peers, with commas
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    peers: Vec<String>,
    /// Tell on stderr which statements cost the server most
    #[arg(long)]
    statements: bool,
    /// The capture binary to measure; else `capture` beside this one
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// The form of the report on stdout
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
    /// Draw bars of what was measured into this folder, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Measure nothing: draw what an earlier `-o json` has printed into this file
    #[arg(long, value_name = "FILE", requires = "plots", conflicts_with = "scenarios")]
    from: Option<PathBuf>,
    /// Be a part of a measurement; what to do comes on stdin
    #[arg(long, hide = true)]
    part: Option<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let _chosen_already = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to work with: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = match (args.part, &args.from, &args.plots) {
        (Some(part), _, _) => runtime.block_on(child::play(part)),
        (None, Some(from), Some(into)) => redraw(from, into),
        (None, _, _) => runtime.block_on(measure(args)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn redraw(from: &Path, into: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
    let document = serde_json::from_slice(&text).with_context(|| format!("{} is no report", from.display()))?;
    tell_drawn(&plot::draw(&document, into)?);
    Ok(())
}

fn tell_drawn(files: &[PathBuf]) {
    for file in files {
        eprintln!("drawn: {}", file.display());
    }
}

async fn measure(args: Args) -> anyhow::Result<()> {
    let binary = binary(args.bin)?;
    let directory = std::env::temp_dir().join(format!("capture-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let rounds = if args.quick { 1 } else { args.rounds };
    let stage = Stage {
        binary,
        directory: directory.clone(),
        rounds,
        quick: args.quick,
        captures: args.captures,
        finished: args.finished,
        peers: args.peers,
        statements: args.statements,
        payments: AtomicU32::new(0),
    };
    let mut scenarios = args.scenarios;
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants()
            .iter()
            .copied()
            .filter(|one| *one != Scenario::Peers)
            .collect();
    }
    scenarios.sort_unstable();
    scenarios.dedup();
    let mut told_to_end = signal(SignalKind::terminate())?;
    let measured = tokio::select! {
        measured = in_turn(&stage, &scenarios, args.output, args.plots.as_deref()) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = told_to_end.recv() => Err(anyhow::anyhow!("told to end")),
    };
    std::fs::remove_dir_all(&directory).with_context(|| format!("{} cannot be removed", directory.display()))?;
    measured
}

/// One scenario after the other. Tables are told as they are made, and one that fails takes none of the others with it: what was
/// measured for an hour must not be lost.
async fn in_turn(stage: &Stage, scenarios: &[Scenario], form: Form, plots: Option<&Path>) -> anyhow::Result<()> {
    let mut server = Server::start(&[]).await?;
    let bare_commit_ms = server.bare_commit_ms().await?;
    let machine = Machine::look(server.version().to_owned(), bare_commit_ms);
    server.stop().await?;
    let mut report = Report {
        machine,
        rounds: stage.rounds,
        quick: stage.quick,
        chapters: Vec::new(),
    };
    if form == Form::Table {
        print!("{}", report.head());
    }
    let mut failed = Vec::new();
    for scenario in scenarios {
        match scenarios::run(*scenario, stage).await {
            Ok(chapter) => {
                if form == Form::Table {
                    print!("\n{}", chapter.for_people());
                }
                report.chapters.push(chapter);
            }
            Err(error) => {
                eprintln!("error: scenario {}: {error:#}", scenario.name());
                failed.push(scenario.name());
            }
        }
    }
    report.machine.look_again();
    match form {
        Form::Table => println!("\nload at the end: {}", report.machine.load_after),
        Form::Json => println!("{}", report.document()?),
    }
    if let Some(into) = plots {
        tell_drawn(&plot::draw(&report.document()?, into)?);
    }
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn binary(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let binary = given.unwrap_or_else(|| own.parent().unwrap_or(Path::new(".")).join("capture"));
    anyhow::ensure!(
        binary.is_file(),
        "there is no {}: build it (cargo build --release), or name it with --bin",
        binary.display()
    );
    Ok(std::path::absolute(binary)?)
}

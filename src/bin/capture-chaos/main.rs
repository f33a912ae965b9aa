//! `capture-chaos`: a black box checker. Real worker processes, a real Postgres with standbys, the simulated providers, a
//! proxy on each leg that knows its protocol, and a seed that decides what goes wrong and when. Then all is healed, the
//! rest drains, and the provider's ledger is compared with everything that `capture` says.
#![forbid(unsafe_code)]

mod aftermath;
mod cluster;
mod compare;
mod counters;
mod database_door;
mod disk;
mod exchange;
mod feed;
mod frames;
mod kind;
mod leash;
mod load;
mod nemesis;
mod orders;
mod progress;
mod provider_door;
mod report;
mod run;
mod schedule;
mod server;
mod simulator;
mod stage;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use kind::{Kind, Track};

/// Checks a capture binary under faults of many kinds, and compares what it says with what the providers did.
///
/// Exit codes: 0 everything held, 1 something did not (or the run itself failed), 2 usage.
#[derive(Debug, Parser)]
#[command(name = "capture-chaos", version)]
struct Args {
    /// How long there is trouble; healing, draining and comparing come on top
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
    /// Decides kinds, victims and times; the same seed gives the same schedule
    #[arg(long)]
    seed: Option<u64>,
    /// Orders in all; else 12 a second
    #[arg(long)]
    intents: Option<u64>,
    /// Worker processes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=32))]
    workers: u16,
    /// The capture binary to check; else `capture` beside this one
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Keep logs, ledger and configurations here; else they go, unless something broke
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Only these kinds, with commas; else all
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = kind)]
    only: Vec<Kind>,
    /// Of a thousand provider calls, how many the simulator itself spoils
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = clap::value_parser!(u16).range(0..=900))]
    lossy: u16,
    /// How long everything may take to end once all is healed
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    drain: u64,
    /// Print the schedule and end
    #[arg(long)]
    schedule: bool,
    /// The form of the report on stdout
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

fn kind(name: &str) -> Result<Kind, String> {
    let found = Kind::all().find(|kind| kind.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = Kind::all().map(Kind::name).collect();
        format!("there are {}", names.join(", "))
    })
}

/// A seed of the moment, short enough to type.
fn any_seed() -> u64 {
    u64::from(rand::random::<u32>())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let _chosen_already = rustls::crypto::ring::default_provider().install_default();
    let seed = args.seed.unwrap_or_else(any_seed);
    let kinds = if args.only.is_empty() {
        Kind::all().collect()
    } else {
        args.only
    };
    let steps: Vec<_> = [Track::Wire, Track::Process, Track::Server, Track::World]
        .into_iter()
        .map(|track| schedule::of(track, &kinds, seed, args.seconds, usize::from(args.workers)))
        .collect();
    let mut all: Vec<_> = steps.iter().flatten().copied().collect();
    all.sort_by_key(|step| step.at_ms);
    eprintln!("seed {seed}: {} steps of {} s", all.len(), args.seconds);
    for step in &all {
        eprintln!("{step}");
    }
    if args.schedule {
        return ExitCode::SUCCESS;
    }
    let wish = run::Wish {
        seconds: args.seconds,
        seed,
        orders: args.intents.unwrap_or(args.seconds * 12),
        workers: usize::from(args.workers),
        binary: args.bin,
        keep: args.keep,
        lossy: args.lossy,
        drain: Duration::from_secs(args.drain),
        steps,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to work with: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = match runtime.block_on(run::run(wish)) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: the run itself failed: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match args.output {
        Form::Text => println!("{}", report.for_people()),
        Form::Json => match serde_json::to_string_pretty(&report) {
            Ok(document) => {
                println!("{document}");
                eprintln!("{}", report.verdict());
            }
            Err(error) => eprintln!("error: the report cannot be written: {error}"),
        },
    }
    if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

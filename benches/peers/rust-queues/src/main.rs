//! Drives three Postgres queues written in Rust for capture-bench: see ../README.md.

mod apalis;
mod awa;
mod graphile_worker;
mod work;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};

use work::{Times, Work};

#[derive(Parser)]
struct Arguments {
    queue: Queue,
    verb: Verb,
    #[arg(long)]
    jobs: u64,
    /// `noop`, or the base URL of a provider.
    #[arg(long)]
    mode: String,
    #[arg(long)]
    concurrency: usize,
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Queue {
    Apalis,
    Awa,
    GraphileWorker,
}

#[derive(Clone, Copy, ValueEnum)]
enum Verb {
    Enqueue,
    Work,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments {
        queue,
        verb,
        jobs,
        mode,
        concurrency,
        database_url: url,
    } = Arguments::parse();
    match verb {
        Verb::Enqueue => match queue {
            Queue::Apalis => apalis::enqueue(&url, jobs).await,
            Queue::Awa => awa::enqueue(&url, jobs).await,
            Queue::GraphileWorker => graphile_worker::enqueue(&url, jobs).await,
        },
        Verb::Work => {
            let work = Work::new(jobs, &mode)?;
            let (package, times) = match queue {
                Queue::Apalis => ("apalis-postgres", apalis::work(&url, work, concurrency).await?),
                Queue::Awa => ("awa", awa::work(&url, work, concurrency).await?),
                Queue::GraphileWorker => ("graphile_worker", graphile_worker::work(&url, work, concurrency).await?),
            };
            let Times { started, finished } = times;
            let version = version(package)?;
            println!(
                "{}",
                serde_json::json!({ "version": version, "started": started, "finished": finished, "jobs": jobs })
            );
            Ok(())
        }
    }
}

/// The version that was built, from the lock file that it was built by.
fn version(package: &str) -> anyhow::Result<&'static str> {
    let name = format!("name = \"{package}\"\nversion = \"");
    let (_, rest) = include_str!("../Cargo.lock")
        .split_once(&name)
        .with_context(|| format!("Cargo.lock has no {package}"))?;
    match rest.split_once('"') {
        Some((version, _)) => Ok(version),
        None => bail!("Cargo.lock ends within the version of {package}"),
    }
}

//! Parts of the bench that run as processes of their own, so that what they cost is counted to nobody else.
//!
//! The parent writes one line of JSON (what to do), waits for a line "ready", writes "go", and gets one line of JSON when
//! all is done. The child stays until its stdin ends, so that the parent can still look at what it cost.

use std::io::{BufRead, Write};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use super::talk::Talk;
use super::{bare, ceiling, drain, raw};

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The product's worker over a provider in process
    Worker,
    /// The product's SQL without its worker
    Raw,
    /// The HTTP client without anything else
    Http,
    /// The product's SQL and HTTP client without its worker, for many at once
    Bare,
    /// The same for a stream
    BareStream,
}

/// What it is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Given {
    /// The database; where there is none, the provider's base URL.
    pub url: String,
    /// The provider's base URL, where there is a database too.
    pub provider: Option<String>,
    /// Captures to make.
    pub jobs: u64,
    /// Calls in flight.
    pub concurrency: u32,
}

/// What it says at the end. Times are microseconds since 1970.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Done {
    pub started: i64,
    pub finished: i64,
    pub jobs: u64,
}

impl Done {
    pub fn seconds(&self) -> f64 {
        super::figures::number(self.finished - self.started) / 1_000_000.0
    }
}

/// Longer than any of them takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(3600);

pub fn micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A running child.
pub struct Child {
    process: tokio::process::Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    talk: Talk,
    pub pid: u32,
}

impl Child {
    /// Starts it, and returns when it is ready to begin.
    pub async fn start(part: Part, given: &Given) -> anyhow::Result<Child> {
        let name = part
            .to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default();
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--part", &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the bench cannot start itself")?;
        let talk = process.stderr.take().context("no stderr")?;
        let mut child = Child {
            talk: Talk::hear(talk),
            stdin: process.stdin.take().context("no stdin")?,
            lines: BufReader::new(process.stdout.take().context("no stdout")?).lines(),
            pid: process.id().context("it has ended already")?,
            process,
        };
        child.say(&serde_json::to_string(given)?).await?;
        let said = child.hear().await?;
        if said != "ready" {
            bail!("the part {name} said {said:?} instead of ready");
        }
        Ok(child)
    }

    /// Has it begin, and waits for its end.
    pub async fn go(&mut self) -> anyhow::Result<Done> {
        self.say("go").await?;
        Ok(serde_json::from_str(&self.hear().await?)?)
    }

    /// Has it end.
    pub async fn end(mut self) -> anyhow::Result<()> {
        drop(self.stdin);
        let status = self.process.wait().await?;
        if !status.success() {
            bail!("a part of the bench ended with {status}");
        }
        Ok(())
    }

    async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(self.stdin.flush().await?)
    }

    async fn hear(&mut self) -> anyhow::Result<String> {
        match tokio::time::timeout(PATIENCE, self.lines.next_line()).await?? {
            Some(line) => Ok(line),
            None => bail!("a part of the bench ended early; it said: {}", self.talk.last()),
        }
    }
}

/// The child's own side: plays that part.
pub async fn play(part: Part) -> anyhow::Result<()> {
    let given: Given = serde_json::from_str(&line().await?)?;
    let done = match part {
        Part::Worker => drain::play(given).await?,
        Part::Raw => raw::play(given).await?,
        Part::Http => ceiling::play(given).await?,
        Part::Bare => bare::drain(given).await?,
        Part::BareStream => bare::stream(given).await?,
    };
    println!("{}", serde_json::to_string(&done)?);
    let _end = line().await;
    Ok(())
}

/// Says that all is prepared, and waits for the word to begin.
pub async fn ready() -> anyhow::Result<()> {
    println!("ready");
    std::io::stdout().flush()?;
    match line().await?.as_str() {
        "go" => Ok(()),
        other => bail!("told {other:?} instead of go"),
    }
}

async fn line() -> anyhow::Result<String> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    Ok(read.await??.trim_end().to_owned())
}

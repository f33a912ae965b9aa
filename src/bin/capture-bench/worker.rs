//! `capture work`, as it is deployed: a process of its own with a configuration file.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use super::talk::Talk;

/// `worker.drain_timeout` and some more.
const DRAIN: Duration = Duration::from_secs(100);

/// One account of Afterpay.
pub struct Account {
    pub name: &'static str,
    pub base_url: String,
    /// `None`: the default.
    pub concurrency: Option<u32>,
}

/// A running worker.
pub struct WorkerProcess {
    child: Child,
    /// Closed, it would end the worker at once.
    stdin: ChildStdin,
    talk: Talk,
    pub pid: u32,
}

impl WorkerProcess {
    /// Starts one with the default settings, and these accounts. `directory`: for its configuration.
    pub async fn start(
        binary: &Path,
        directory: &Path,
        database_url: &str,
        accounts: &[Account],
    ) -> anyhow::Result<WorkerProcess> {
        // Quoted as TOML quotes, which JSON's strings satisfy.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut config = format!("database_url = {}\n", quoted(database_url));
        for account in accounts {
            write!(
                config,
                "\n[[account]]\nprovider = \"afterpay\"\nname = {}\nbase_url = {}\nmerchant_id = \"m\"\nsecret_env = \"BENCH_SECRET\"\n",
                quoted(account.name),
                quoted(&account.base_url)
            )?;
            if let Some(concurrency) = account.concurrency {
                writeln!(config, "concurrency = {concurrency}")?;
            }
        }
        let file: PathBuf = directory.join(format!("{}.toml", uuid::Uuid::new_v4().simple()));
        tokio::fs::write(&file, config).await?;
        let mut child = Command::new(binary)
            .args(["work", "--until-stdin-closes", "--config"])
            .arg(&file)
            .env("BENCH_SECRET", "secret")
            .env_remove("DATABASE_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        Ok(WorkerProcess {
            stdin: child.stdin.take().context("no stdin")?,
            talk: Talk::hear(child.stderr.take().context("no stderr")?),
            pid: child.id().context("it has ended already")?,
            child,
        })
    }

    /// What it said last, if it has ended.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("a worker ended with {status}; it said: {}", self.talk.last()),
        }
    }

    /// SIGTERM, and waits for its drain.
    pub async fn drain(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .context("no process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::time::timeout(DRAIN, self.child.wait()).await??;
        drop(self.stdin);
        if !status.success() {
            bail!("a worker drained with {status}; it said: {}", self.talk.last());
        }
        Ok(())
    }

    /// Ends it at once, whatever it has in flight.
    pub async fn abandon(mut self) -> anyhow::Result<()> {
        drop(self.stdin);
        let _status = self.child.wait().await?;
        Ok(())
    }
}

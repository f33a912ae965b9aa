//! The worker processes: `capture work`, each with a configuration, a log and two proxies of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;

use super::cluster::Who;
use super::stage::{Stage, locked};
use super::{database_door, provider_door};

/// Of every account. Unlike anything else in a log or a row, so that one look finds it.
pub const SECRET: &str = "canary-3f9c1d7e-secret";

/// A process that has ended by itself is started again after this.
const RESPAWN: Duration = Duration::from_millis(150);
/// `drain_timeout` and some more.
const DRAIN: Duration = Duration::from_secs(6);

#[derive(Debug)]
struct Slot {
    child: Option<Child>,
    /// Closed, it would end the worker at once.
    stdin: Option<ChildStdin>,
    config: PathBuf,
    log: PathBuf,
    /// For metrics.
    listen: String,
    /// What libfaketime is told, while this worker's clock is to be wrong.
    clock: Option<String>,
    /// How often its configuration was changed.
    changes: u64,
    addresses: Addresses,
}

#[derive(Debug, Clone)]
struct Addresses {
    database: u16,
    provider: u16,
}

#[derive(Debug)]
pub struct Workers {
    binary: PathBuf,
    stage: Arc<Stage>,
    slots: Vec<Mutex<Slot>>,
    /// None is started again any more.
    over: AtomicBool,
    /// How processes ended, and how often.
    ends: std::sync::Mutex<BTreeMap<String, u64>>,
}

impl Workers {
    /// Opens the proxies and starts the processes.
    pub async fn start(
        binary: &Path,
        directory: &Path,
        count: usize,
        stage: &Arc<Stage>,
    ) -> anyhow::Result<Arc<Workers>> {
        let mut slots = Vec::new();
        for worker in 0..count {
            let database = TcpListener::bind("127.0.0.1:0").await?;
            let provider = TcpListener::bind("127.0.0.1:0").await?;
            let addresses = Addresses {
                database: database.local_addr()?.port(),
                provider: provider.local_addr()?.port(),
            };
            tokio::spawn(database_door::serve(database, worker, Arc::clone(stage)));
            tokio::spawn(provider_door::serve(provider, worker, Arc::clone(stage)));
            // Free a moment ago; a worker that finds it taken says so and is started again.
            let listen = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string();
            let slot = Slot {
                child: None,
                stdin: None,
                config: directory.join(format!("worker-{worker}.toml")),
                log: directory.join(format!("worker-{worker}.log")),
                listen,
                clock: None,
                changes: 0,
                addresses,
            };
            fs::write(&slot.config, config(&slot))?;
            slots.push(Mutex::new(slot));
        }
        let workers = Arc::new(Workers {
            binary: binary.to_path_buf(),
            stage: Arc::clone(stage),
            slots,
            over: AtomicBool::new(false),
            ends: std::sync::Mutex::default(),
        });
        for worker in 0..count {
            let watched = Arc::clone(&workers);
            tokio::spawn(async move { watched.keep(worker).await });
        }
        Ok(workers)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Starts a worker whenever it does not run.
    async fn keep(&self, worker: usize) {
        let Some(slot) = self.slots.get(worker) else { return };
        while !self.over.load(Ordering::SeqCst) {
            {
                let mut slot = slot.lock().await;
                let ended = match slot.child.as_mut() {
                    None => true,
                    Some(child) => match child.try_wait() {
                        Ok(None) => false,
                        Ok(Some(status)) => {
                            self.stage.set_pid(worker, 0);
                            self.note(format!("by itself or killed: {status}"));
                            true
                        }
                        Err(_) => true,
                    },
                };
                if ended {
                    slot.child = None;
                    if let Ok(mut child) = self.spawn(&slot) {
                        self.stage
                            .set_pid(worker, child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0));
                        slot.stdin = child.stdin.take();
                        slot.child = Some(child);
                    }
                }
            }
            tokio::time::sleep(RESPAWN).await;
        }
    }

    fn spawn(&self, slot: &Slot) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(&slot.log)?;
        let mut command = Command::new(&self.binary);
        command
            .args(["work", "--until-stdin-closes", "--listen", &slot.listen, "--config"])
            .arg(&slot.config)
            .env("CHAOS_SECRET", SECRET)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        if let (Some(clock), Some(library)) = (&slot.clock, faketime()) {
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME", clock)
                // The monotonic clock of a machine does not jump; only what it says the time is.
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command
            .spawn()
            .with_context(|| format!("{} cannot be started", self.binary.display()))
    }

    /// kill -9 of a worker; true if there was one.
    pub fn kill(&self, worker: usize) -> bool {
        self.stage.signal(worker, Signal::KILL)
    }

    /// SIGTERM, and waits for the drain. True: it ended by itself, with 0.
    pub async fn drain(&self, worker: usize) -> bool {
        let Some(slot) = self.slots.get(worker) else {
            return false;
        };
        let mut slot = slot.lock().await;
        let Some(child) = slot.child.as_mut() else { return false };
        if !matches!(child.try_wait(), Ok(None)) || !self.stage.signal(worker, Signal::TERM) {
            return false;
        }
        let ended = tokio::time::timeout(DRAIN, child.wait()).await;
        self.stage.set_pid(worker, 0);
        let drained = match ended {
            Ok(Ok(status)) => {
                self.note(format!("told to drain: {status}"));
                status.success()
            }
            Ok(Err(_)) | Err(_) => {
                self.note("told to drain: still there after 6 s, and killed".to_owned());
                let _gone = child.start_kill();
                let _gone = child.wait().await;
                false
            }
        };
        slot.child = None;
        drained
    }

    fn note(&self, end: String) {
        *locked(&self.ends).entry(end).or_default() += 1;
    }

    /// How processes ended, and how often.
    pub fn ends(&self) -> BTreeMap<String, u64> {
        locked(&self.ends).clone()
    }

    /// Kills a worker so that its next start has that clock.
    pub async fn set_clock(&self, worker: usize, clock: Option<String>) {
        if let Some(slot) = self.slots.get(worker) {
            slot.lock().await.clock = clock;
            self.kill(worker);
        }
    }

    /// Whether the last line of a worker's log has a time that is far from ours.
    pub async fn clock_is_wrong(&self, worker: usize) -> bool {
        let Some(slot) = self.slots.get(worker) else {
            return false;
        };
        let log = slot.lock().await.log.clone();
        let text = fs::read_to_string(log).unwrap_or_default();
        let last = text.lines().last().unwrap_or_default();
        let line: serde_json::Value = serde_json::from_str(last).unwrap_or_default();
        let time = line.get("timestamp").and_then(|time| time.as_str()).unwrap_or_default();
        let time = chrono::DateTime::parse_from_rfc3339(time);
        time.is_ok_and(|time| (chrono::Utc::now() - time.to_utc()).num_seconds().abs() > 5)
    }

    /// Writes another configuration for a worker, valid as well; its next start reads it.
    pub async fn reconfigure(&self, worker: usize) -> anyhow::Result<()> {
        let Some(slot) = self.slots.get(worker) else {
            return Ok(());
        };
        let mut slot = slot.lock().await;
        slot.changes += 1;
        let text = config(&slot);
        Ok(fs::write(&slot.config, text)?)
    }

    /// Everybody has the right clock again.
    pub async fn heal(&self) {
        for (worker, slot) in self.slots.iter().enumerate() {
            if slot.lock().await.clock.take().is_some() {
                self.kill(worker);
            }
        }
    }

    /// The configuration of the first, for the command line.
    pub async fn config(&self) -> Option<PathBuf> {
        Some(self.slots.first()?.lock().await.config.clone())
    }

    /// Where each tells its metrics.
    pub async fn listens(&self) -> Vec<String> {
        let mut listens = Vec::new();
        for slot in &self.slots {
            listens.push(slot.lock().await.listen.clone());
        }
        listens
    }

    /// What the workers say of themselves; `None` for one that does not answer.
    pub async fn metrics(&self) -> Vec<Option<String>> {
        let mut told = Vec::new();
        for listen in self.listens().await {
            told.push(page(&listen, Duration::from_secs(5)).await);
        }
        told
    }

    /// All logs, by worker.
    pub async fn logs(&self) -> Vec<PathBuf> {
        let mut logs = Vec::new();
        for slot in &self.slots {
            logs.push(slot.lock().await.log.clone());
        }
        logs
    }

    /// Ends all of them, each by a drain.
    pub async fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
        for worker in 0..self.slots.len() {
            self.drain(worker).await;
        }
    }
}

/// The metrics that a worker shows there, if it does so in time.
pub async fn page(listen: &str, within: Duration) -> Option<String> {
    let url = format!("http://{listen}/metrics");
    let answer = async { reqwest::get(url).await.ok()?.error_for_status().ok()?.text().await.ok() };
    tokio::time::timeout(within, answer).await.ok().flatten()
}

/// Where Debian, Fedora and others keep libfaketime.
pub fn faketime() -> Option<PathBuf> {
    const PLACES: [&str; 5] = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib64/faketime/libfaketimeMT.so.1",
        "/usr/lib/faketime/libfaketimeMT.so.1",
        "/usr/local/lib/faketime/libfaketimeMT.so.1",
    ];
    PLACES.into_iter().map(PathBuf::from).find(|place| place.exists())
}

/// Short times, so that patience, leases and quiet reads all pass many times in a run. Changes vary what may be varied.
fn config(slot: &Slot) -> String {
    let concurrency = 16 - slot.changes % 3 * 5;
    let window = 10 + slot.changes % 4 * 15;
    let provider = format!("http://127.0.0.1:{}", slot.addresses.provider);
    let account = |name: &str, account: &str, more: &str| {
        format!(
            "[[account]]\nprovider = \"{name}\"\nname = \"{account}\"\nbase_url = \"{provider}/{name}\"\nmerchant_id = \"m\"\n\
             secret_env = \"CHAOS_SECRET\"\nconcurrency = {concurrency}\nrate_per_minute = 0\n{more}\n"
        )
    };
    [
        format!(
            "database_url = \"postgres://{}@127.0.0.1:{}/postgres?sslmode=disable\"\n\n\
             [worker]\nconnect_timeout = \"1s\"\nread_timeout = \"2s\"\nlease = \"10s\"\ndrain_timeout = \"4s\"\n\
             settle_window = \"{window}ms\"\n\n\
             [retry]\ninitial = \"200ms\"\nmax = \"3s\"\nverify_quiet = \"3s\"\n\n\
             [breaker]\nopen = \"500ms\"\nopen_max = \"2s\"\n\n[telemetry]\nformat = \"json\"\n",
            Who::Worker.name(),
            slot.addresses.database
        ),
        account("afterpay", "default", ""),
        account("optty", "default", &format!("auth_url = \"{provider}/optty/token\"")),
        account("resolve", "charges", "model = \"charge\"\nother_writers = false"),
        account("resolve", "orders", "model = \"order\""),
    ]
    .join("\n")
}

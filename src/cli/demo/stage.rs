//! Everything that runs: a private Postgres, the simulator, and the workers, each a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::cli::exit::Exit;
use crate::cli::output::Error;
use crate::local_postgres::{DataDir, LocalPostgres, Settings};
use crate::outbox::{ConnectSettings, Outbox};

use super::contract;
use super::control::{Control, calls_in_flight};
use super::orders::Way;
use super::processes::{Launch, Process};
use super::simulated;
use super::story::{Story, Tone};

/// So many workers.
const WORKERS: usize = 3;

/// How long the workers' leases are: connect, read and 5 s, and 2 s to begin a call in. In production minutes.
pub(super) const LEASE: Duration = Duration::from_secs(9);

/// How long a worker may take from its start to its first heartbeat.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// What stands on it.
pub(super) struct Stage {
    // Dropped in this order: those who use the database first.
    pub(super) workers: Vec<Worker>,
    simulator: Process,
    pub(super) control: Control,
    pub(super) outbox: Outbox,
    pub(super) postgres: LocalPostgres,
    home: PathBuf,
}

/// A place for a worker; the process in it may change.
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) process: Option<Process>,
    pub(super) frozen: bool,
}

impl Worker {
    pub(super) fn name(&self) -> String {
        format!("worker {}", self.number)
    }
}

impl Stage {
    /// Starts it all. `keep`: where everything is written and stays; else in a directory that goes with us.
    pub(super) async fn set(keep: Option<&Path>, seed: u64, story: &Story) -> Result<Stage, Error> {
        let postgres = start_postgres(keep).await?;
        let home = match keep {
            Some(keep) => keep.to_path_buf(),
            // Removed with the server's own, even if we are killed.
            None => postgres.socket_dir().join("demo"),
        };
        std::fs::create_dir_all(&home).map_err(|error| Error::failed(format!("{}: {error}", home.display())))?;
        let url = postgres.url("postgres");
        let outbox = Outbox::connect(&ConnectSettings::new(&url)).await?;
        outbox.migrate().await?;
        contract::set_up(&url).await?;
        story.tell(
            Tone::Plain,
            format!(
                "PostgreSQL {} runs, private and durable (fsync on), with the outbox in its schema `capture`",
                postgres.server_version()
            ),
        );
        let arguments = [
            "--seed".to_owned(),
            seed.to_string(),
            // Resolve's documented limit of 100 calls a minute would let a minute see no more than 20 of its captures.
            "--limits".to_owned(),
            "resolve=none".to_owned(),
        ];
        let (simulator, control) = simulated::start(&home, arguments).await?;
        // What takes minutes at a provider takes less than the quiet time of a verification here.
        let pace = json!({ "late_after_ms": 700, "running_for_ms": 900, "retry_after_ms": 1000, "silence_ms": 5000 });
        control.post("pace", pace).await?;
        story.tell(
            Tone::Plain,
            format!(
                "a simulator plays Afterpay, Optty and Resolve (process {}); its ledger, synced to disk, is the truth. Resolve's limit of 100 calls a minute is off",
                simulator.pid()
            ),
        );
        let workers = (1..=WORKERS)
            .map(|number| Worker {
                number,
                process: None,
                frozen: false,
            })
            .collect();
        let mut stage = Stage {
            workers,
            simulator,
            control,
            outbox,
            postgres,
            home,
        };
        stage.write_settings().await?;
        for place in 0..WORKERS {
            stage.start_worker(place)?;
        }
        stage.workers_are_up().await?;
        let pids: Vec<String> = stage
            .workers
            .iter()
            .filter_map(|worker| Some(worker.process.as_ref()?.pid().to_string()))
            .collect();
        story.tell(
            Tone::Plain,
            format!(
                "{WORKERS} workers are up (processes {}), with leases of {} s",
                pids.join(", "),
                LEASE.as_secs()
            ),
        );
        Ok(stage)
    }

    /// The URL of the database.
    pub(super) fn url(&self) -> String {
        self.postgres.url("postgres")
    }

    /// The simulator's ledger.
    pub(super) fn ledger(&self) -> PathBuf {
        simulated::ledger(&self.home)
    }

    /// Starts a worker in its place.
    pub(super) fn start_worker(&mut self, place: usize) -> Result<i32, Error> {
        // The role that a worker has in production: it may do what it needs and nothing else.
        let url = simulated::with_role(&self.url(), "capture_worker");
        let environment = [("DATABASE_URL", url), simulated::secret()];
        let config = self.home.join("capture.toml");
        let Some(worker) = self.workers.get_mut(place) else {
            return Err(Error::failed("there is no such worker"));
        };
        let process = Process::start(Launch {
            name: worker.name(),
            arguments: vec!["work".into(), "--config".into(), config.into()],
            environment: &environment,
            log: self.home.join(format!("worker-{}.log", worker.number)),
            heard: false,
        })?;
        let pid = process.pid();
        worker.process = Some(process);
        worker.frozen = false;
        Ok(pid)
    }

    /// Waits until every worker has given a sign of life.
    async fn workers_are_up(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            self.look_after()?;
            let up = self.outbox.workers().await?.len();
            if up >= self.workers.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::failed(format!("only {up} of {WORKERS} workers came up")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An error if a process has ended that should not have. A worker that found no database as it started is started
    /// again, as whoever supervises it would: Postgres may crash in just that moment.
    pub(super) fn look_after(&mut self) -> Result<(), Error> {
        let mut again = Vec::new();
        for (place, worker) in self.workers.iter_mut().enumerate() {
            let Some(process) = worker.process.as_mut() else {
                continue;
            };
            match process.ended() {
                None => {}
                Some(status) if status.code() == Some(i32::from(Exit::Unreachable.code())) => again.push(place),
                Some(status) => return Err(process.why_failed(&format!("ended by itself ({status})"))),
            }
        }
        if let Some(status) = self.simulator.ended() {
            return Err(self.simulator.why_failed(&format!("ended by itself ({status})")));
        }
        for place in again {
            self.start_worker(place)?;
        }
        Ok(())
    }

    /// The running worker that has the most calls in flight, and how many. Looks until there is one, or patience ends.
    pub(super) async fn busiest_worker(&mut self, patience: Duration) -> Option<(usize, u64)> {
        let began = Instant::now();
        loop {
            let rows = self.outbox.workers().await.unwrap_or_default();
            let mut busiest = None;
            for (place, worker) in self.workers.iter().enumerate() {
                let Some(process) = worker.process.as_ref().filter(|_| !worker.frozen) else {
                    continue;
                };
                let row = rows.iter().find(|row| row.pid == process.pid());
                let listen: Option<SocketAddr> = row.and_then(|row| row.listen.as_ref()?.parse().ok());
                let calls = match listen {
                    Some(listen) => calls_in_flight(listen).await.unwrap_or(0),
                    None => 0,
                };
                if busiest.is_none_or(|(_, most)| calls > most) {
                    busiest = Some((place, calls));
                }
            }
            // One is enough, but rather several.
            let found = busiest.is_some_and(|(_, calls)| calls >= if began.elapsed() < patience / 5 { 3 } else { 1 });
            if found || began.elapsed() > patience {
                return busiest;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGTERM to all workers at once: each finishes what it holds and ends. How many did so by themselves.
    pub(super) async fn drain_workers(&mut self) -> usize {
        let processes = self.workers.iter_mut().filter_map(|worker| worker.process.take());
        let mut stopping = tokio::task::JoinSet::new();
        for mut process in processes {
            stopping.spawn(async move { process.stop().await });
        }
        stopping.join_all().await.into_iter().filter(|drained| *drained).count()
    }

    /// Ends the rest, in order.
    pub(super) async fn strike(mut self) -> Result<(), Error> {
        self.simulator.kill().await;
        self.outbox.close().await;
        self.postgres
            .stop()
            .await
            .map_err(|error| Error::failed(error.to_string()))
    }

    async fn write_settings(&self) -> Result<(), Error> {
        let mut text = format!(
            "# Written by `capture demo`. Short times, so that a minute shows what otherwise takes hours.\n\
             [worker]\nlease = \"{}s\"\nconnect_timeout = \"500ms\"\nread_timeout = \"1500ms\"\ndrain_timeout = \"7s\"\n\
             poll_max = \"1s\"\ndeadline_margin = \"10s\"\n\n\
             [retry]\ninitial = \"200ms\"\nmax = \"3s\"\nattempts = 40\nverify_quiet = \"2s\"\n\n\
             [breaker]\nfailures = 8\nopen = \"1s\"\nopen_max = \"3s\"\n\n\
             [telemetry]\nlisten = \"127.0.0.1:0\"\nformat = \"json\"\n",
            LEASE.as_secs()
        );
        for way in Way::ALL {
            text.push_str(&simulated::account(&self.control, way).await?);
        }
        let path = self.home.join("capture.toml");
        std::fs::write(&path, text).map_err(|error| Error::failed(format!("{}: {error}", path.display())))
    }
}

async fn start_postgres(keep: Option<&Path>) -> Result<LocalPostgres, Error> {
    let data = match keep {
        Some(keep) => DataDir::Persistent(keep.join("postgres")),
        None => DataDir::Temporary,
    };
    let settings = Settings {
        data,
        ..Settings::default()
    };
    let started = LocalPostgres::start(settings).await;
    started.map_err(|error| Error::failed(error.to_string()))
}

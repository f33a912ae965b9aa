//! The server process: started, waited for until ready, told to stop.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::binaries::Installation;
use super::children::{self, Gated};
use super::error::{StartError, cannot};
use super::leash::{Leash, Stop};
use super::log;
use super::run_as::RunAs;

/// 30–60 ms on a fresh directory; replaying the log after a crash takes longer.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A fast stop writes a checkpoint. After this the server is told to stop at once, which loses nothing either.
const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The server itself kills what has not ended after 5 s of an immediate stop.
const IMMEDIATE_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// After a killed server, its last processes may hold its memory for a moment, and a new one refuses to start. In
/// PostgreSQL 14 the autovacuum launcher was seen to wait 10 s for a collector that had died.
const OLD_MEMORY_TIMEOUT: Duration = Duration::from_secs(15);
const OLD_MEMORY_POLL: Duration = Duration::from_millis(50);

/// One server on one data directory. May be stopped and launched again.
pub(super) struct Server {
    pub(super) installation: Installation,
    pub(super) run_as: RunAs,
    /// `PATH` of its processes.
    pub(super) path: OsString,
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// How the leash stops it.
    pub(super) stop: Stop,
    /// While it runs.
    pub(super) postmaster: Option<Child>,
    /// Of the process that runs or ran last; 0 before the first.
    pub(super) pid: u32,
}

impl Server {
    /// Starts the server and waits until it takes connections.
    pub(super) async fn launch(&mut self, leash: &mut Leash) -> Result<(), StartError> {
        let deadline = tokio::time::Instant::now() + OLD_MEMORY_TIMEOUT;
        loop {
            match self.launch_once(leash).await {
                Err(StartError::Server { log, .. })
                    if log.contains("pre-existing shared memory block") && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(OLD_MEMORY_POLL).await;
                }
                other => return other,
            }
        }
    }

    async fn launch_once(&mut self, leash: &mut Leash) -> Result<(), StartError> {
        let log_start = log::length(&self.log);
        let program = self.installation.bin.join("postgres");
        let gated = Gated::new(&program, &self.arguments, &self.log, &self.run_as, &self.path)
            .map_err(cannot("start", Path::new("/bin/sh")))?;
        self.pid = gated.pid();
        leash.watches_server(self.pid, self.stop)?;
        let postmaster = self.postmaster.insert(gated.open().map_err(cannot("start", &program))?);

        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        while !is_ready(&self.data, self.pid) {
            if let Some(status) = postmaster.try_wait().map_err(cannot("wait for", &program))? {
                self.postmaster = None;
                leash.rests();
                return Err(self.why_it_ended(status, log_start));
            }
            if tokio::time::Instant::now() >= deadline {
                self.halt(Signal::QUIT, leash).await?;
                let what = format!("not ready after {} s", READY_TIMEOUT.as_secs());
                return Err(self.failed(what, log_start));
            }
            tokio::time::sleep(children::POLL).await;
        }
        Ok(())
    }

    /// Tells the server to stop, first by `signal`, and waits until it has. Does nothing if it does not run.
    pub(super) async fn halt(&mut self, signal: Signal, leash: &mut Leash) -> Result<(), StartError> {
        let Some(postmaster) = &mut self.postmaster else {
            return Ok(());
        };
        let steps = [
            (Signal::INT, FAST_STOP_TIMEOUT),
            (Signal::QUIT, IMMEDIATE_STOP_TIMEOUT),
            (Signal::KILL, IMMEDIATE_STOP_TIMEOUT),
        ];
        let program = &self.installation.bin;
        for (step, patience) in steps.into_iter().skip_while(|(step, _)| *step != signal) {
            if postmaster.try_wait().is_ok_and(|status| status.is_none()) {
                // It may have ended just now, by itself.
                let _ = kill_process(Pid::from_child(postmaster), step);
            }
            let ended = children::ended_within(postmaster, patience).await;
            if ended.map_err(cannot("wait for", program))?.is_some() {
                self.postmaster = None;
                leash.rests();
                return Ok(());
            }
        }
        Err(StartError::TimedOut {
            what: "stopping the server",
            after: IMMEDIATE_STOP_TIMEOUT,
        })
    }

    /// Tells the server to stop, without waiting, in the way the leash would.
    pub(super) fn ask_to_stop(&self) {
        let signal = match self.stop {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        if let Some(postmaster) = &self.postmaster {
            // It may have ended just now, by itself.
            let _ = kill_process(Pid::from_child(postmaster), signal);
        }
    }

    /// Whether the server has ended, looked at without waiting.
    pub(super) fn has_ended(&mut self) -> bool {
        let running = self.postmaster.as_mut().map(Child::try_wait);
        let ended = !matches!(running, Some(Ok(None)));
        if ended {
            self.postmaster = None;
        }
        ended
    }

    fn why_it_ended(&self, status: ExitStatus, log_start: u64) -> StartError {
        let failed = self.failed(children::in_words(status), log_start);
        match &failed {
            StartError::Server { log, .. } if log.contains(r#"lock file "postmaster.pid" already exists"#) => {
                StartError::InUse {
                    directory: self.data.clone(),
                    pid: postmaster_file(&self.data).first().cloned().unwrap_or_default(),
                }
            }
            _ => failed,
        }
    }

    fn failed(&self, what: String, log_start: u64) -> StartError {
        StartError::Server {
            what,
            log: log::end_of(&self.log, log_start),
            log_file: self.log.clone(),
        }
    }
}

/// Line 8 says `ready` once connections are taken. Line 1 must be our process: the file of a server that was killed
/// may say `ready` as well.
fn is_ready(data: &Path, pid: u32) -> bool {
    let lines = postmaster_file(data);
    let line = |number: usize| lines.get(number - 1).map(|line| line.trim());
    line(1) == Some(pid.to_string().as_str()) && line(8) == Some("ready")
}

fn postmaster_file(data: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

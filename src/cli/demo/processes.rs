//! Further processes of this very program, on a leash.
//!
//! Each has a pipe as its standard input that only we hold open, and ends at once when the pipe does (`--until-stdin-closes`):
//! however we end, SIGKILL included, nothing is left behind. Each has a process group of its own, so that Ctrl-C in a
//! terminal reaches us alone. A process that we had frozen asked the kernel to be woken at our death, and then finds its
//! pipe closed.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::cli::output::Error;

/// The hidden flag of `work` and `simulate`.
const LEASH_FLAG: &str = "--until-stdin-closes";

/// How long a process that was asked to stop may take, before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What to start.
pub(in crate::cli) struct Launch<'a> {
    /// As the story calls it.
    pub(in crate::cli) name: String,
    /// The verb and its arguments.
    pub(in crate::cli) arguments: Vec<OsString>,
    /// Its whole environment: nothing of ours is handed on, because a variable is stronger than the file we wrote.
    pub(in crate::cli) environment: &'a [(&'static str, String)],
    /// Where its stderr goes.
    pub(in crate::cli) log: PathBuf,
    /// Is its stdout read by us? Else it goes to the log.
    pub(in crate::cli) heard: bool,
}

/// A running process. Killed when dropped.
pub(in crate::cli) struct Process {
    pub(in crate::cli) name: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
    /// The leash.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts it.
    pub(in crate::cli) fn start(launch: Launch<'_>) -> Result<Process, Error> {
        let cannot = |what: &str, error: std::io::Error| Error::failed(format!("{}: {what}: {error}", launch.name));
        let program = std::env::current_exe().map_err(|error| cannot("this program cannot be found", error))?;
        let log = open_log(&launch.log).map_err(|error| cannot("its log cannot be written", error))?;
        let stdout = if launch.heard {
            Stdio::piped()
        } else {
            Stdio::from(
                log.try_clone()
                    .map_err(|error| cannot("its log cannot be written", error))?,
            )
        };
        let mut child = Command::new(program)
            .args(&launch.arguments)
            .arg(LEASH_FLAG)
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(Stdio::from(log))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| cannot("cannot be started", error))?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let Some(pid) = pid else {
            return Err(Error::failed(format!("{} ended at once", launch.name)));
        };
        // Taken out, because waiting for a child closes the pipe that it still has.
        let stdin = child.stdin.take();
        Ok(Process {
            name: launch.name,
            child,
            pid,
            log: launch.log,
            _stdin: stdin,
        })
    }

    /// Its number.
    pub(in crate::cli) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The first line of its stdout that `wanted` makes something of.
    pub(in crate::cli) async fn hears<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
        let stdout: Option<ChildStdout> = self.child.stdout.take();
        let mut lines = match stdout {
            Some(stdout) => BufReader::new(stdout).lines(),
            None => return Err(Error::failed(format!("{} is not listened to", self.name))),
        };
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(found) = wanted(&line) {
                // Read on, or it would one day find its stdout closed, or full.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok(found);
            }
        }
        Err(self.why_failed("ended before it was ready"))
    }

    /// How it ended, if it has.
    pub(in crate::cli) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// An error with the last lines of its log.
    pub(in crate::cli) fn why_failed(&self, what: &str) -> Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(5)..)
            .unwrap_or_default()
            .join("\n");
        Error::failed(format!("{} {what}. The last lines of its log:\n{last}", self.name))
    }

    /// SIGSTOP: the process stands still, and knows nothing of it.
    pub(in crate::cli) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(in crate::cli) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL, and waits for the end.
    pub(in crate::cli) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
    }

    /// SIGTERM, and waits for the end. True if it ended well; if that takes too long, it is killed.
    pub(in crate::cli) async fn stop(&mut self) -> bool {
        self.signal(Signal::TERM);
        match tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await {
            Ok(status) => status.is_ok_and(|status| status.success()),
            Err(_) => {
                self.kill().await;
                false
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // Not waited for yet, so the number is still this process's. It may have ended just now, by itself.
        let _ = kill_process(self.pid, signal);
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

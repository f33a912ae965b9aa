//! How child processes are started: with a bare environment, and behind a gate.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use super::run_as::RunAs;

/// How often a process or a file is looked at again while waiting for it.
pub(super) const POLL: Duration = Duration::from_millis(5);

/// Waits for the word to go, then becomes the program given as the remaining arguments, with its output added to
/// the log. The log is opened here, by the server's user, and not by us, who may be root.
const GATE: &str = r#"umask 077; log=$1; shift; read -r go && exec "$@" </dev/null >>"$log" 2>&1"#;

/// A command with nothing of our environment but `PATH`: our secrets are not the server's business, and
/// `PGDATA` or `LC_ALL` of the caller must not change what it does. Messages in English, time in UTC.
pub(super) fn bare(program: &Path, run_as: &RunAs, path: &OsStr) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", path)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        // The caller's directory may be closed to the server's user.
        .current_dir("/")
        .stdin(Stdio::null());
    run_as.apply(&mut command);
    command
}

/// Runs a command to its end and collects what it says. Killed if the caller goes away.
pub(super) async fn output(command: Command) -> std::io::Result<Output> {
    tokio::process::Command::from(command).kill_on_drop(true).output().await
}

/// A process that exists, has its id, and does nothing until [`Gated::open`].
///
/// Between making a process and telling the leash of it there is an instant in which our death would leave it
/// running unseen. A gated process ends by itself if we die before the word to go.
pub(super) struct Gated {
    child: Child,
    gate: ChildStdin,
}

impl Gated {
    /// Makes the process, in a process group of its own, so that Ctrl-C in a terminal does not reach it.
    pub(super) fn new(
        program: &Path,
        arguments: &[std::ffi::OsString],
        log: &Path,
        run_as: &RunAs,
        path: &OsStr,
    ) -> std::io::Result<Gated> {
        let mut command = bare(Path::new("/bin/sh"), run_as, path);
        let mut child = command
            .args(["-c", GATE, "sh"])
            .arg(log)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let gate = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        Ok(Gated { child, gate })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn open(mut self) -> std::io::Result<Child> {
        self.gate.write_all(b"go\n")?;
        Ok(self.child)
    }
}

/// Waits for a process to end, at most so long. `None`: it has not.
pub(super) async fn ended_within(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if tokio::time::Instant::now() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How a process ended, in words.
pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

//! The leash: a shell process that outlives us, however we end, and cleans up after us.
//!
//! It reads a pipe that only we hold open. When the pipe ends without the word `done`, it stops what we had running
//! and removes what was temporary. Rust opens pipes close-on-exec, so no process that we start later holds the pipe
//! open in our place.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::children::POLL;
use super::error::{StartError, cannot};

const SCRIPT: &str = include_str!("leash.sh");

/// How long letting go waits for the leash to have cleaned up. An immediate stop takes some 50 ms, a fast one
/// some 200 ms on an idle disk. After this the leash goes on alone.
const LET_GO_WAITS: Duration = Duration::from_secs(30);

/// How the leash is to stop a server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    /// Disconnects clients, writes a checkpoint: the data stays.
    Fast,
    /// At once: the data goes anyway.
    Immediate,
}

/// Our end of the leash. Dropping it makes the leash clean up, and waits for that.
pub(super) struct Leash {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Leash {
    /// Starts the shell, in its own process group: Ctrl-C in a terminal must not end it before us.
    pub(super) fn hold(path: &OsStr) -> Result<Leash, StartError> {
        let sh = Path::new("/bin/sh");
        let mut path = path.to_os_string();
        path.push(":/usr/bin:/bin");
        let mut shell = Command::new(sh)
            // Not as an argument, where `ps` would show all of it.
            .args(["-c", r#"eval "$LEASH""#, "capture-leash"])
            .env_clear()
            .env("LEASH", SCRIPT)
            .env("PATH", path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(cannot("start", sh))?;
        let pipe = shell.stdin.take();
        Ok(Leash { shell, pipe })
    }

    /// The directory is removed when the leash cleans up. Said before it is made, and of no directory whose name is
    /// not freshly drawn: nothing of anybody else's may ever be removed.
    pub(super) fn removes(&mut self, directory: &Path) -> Result<(), StartError> {
        self.say_path("remove", directory)
    }

    /// The server's data is here.
    pub(super) fn data_is(&mut self, directory: &Path) -> Result<(), StartError> {
        self.say_path("data", directory)
    }

    pub(super) fn watches_initdb(&mut self, pid: u32) -> Result<(), StartError> {
        self.say(format!("initdb {pid}").as_bytes())
    }

    pub(super) fn watches_server(&mut self, pid: u32, stop: Stop) -> Result<(), StartError> {
        let signal = match stop {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        self.say(format!("server {signal} {pid}").as_bytes())
    }

    /// Nothing runs. Said as soon as a process has been waited for, as its number is then free for another.
    pub(super) fn rests(&mut self) {
        // If it cannot be told, it has been killed, and stops nothing.
        let _ = self.say(b"rest");
    }

    /// All is cleaned up; the leash ends without doing anything.
    pub(super) fn done(&mut self) {
        // If it cannot be told, it finds nothing left to do.
        let _ = self.say(b"done");
        self.let_go();
    }

    /// Closes the pipe: from here on the leash cleans up. [`Leash::is_gone`] says when it has.
    pub(super) fn let_go(&mut self) {
        self.pipe = None;
    }

    #[cfg(test)]
    pub(super) fn process(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.shell)
    }

    pub(super) fn is_gone(&mut self) -> bool {
        !matches!(self.shell.try_wait(), Ok(None))
    }

    fn say_path(&mut self, word: &str, path: &Path) -> Result<(), StartError> {
        let path_bytes = path.as_os_str().as_bytes();
        // A line break would make two lines of it, and the leash would remove something else.
        if path_bytes.contains(&b'\n') || !path.is_absolute() {
            return Err(cannot("use (no line break, please)", path)(
                std::io::ErrorKind::InvalidInput.into(),
            ));
        }
        self.say(&[word.as_bytes(), b" ", path_bytes].concat())
    }

    fn say(&mut self, line: &[u8]) -> Result<(), StartError> {
        let lost = cannot("speak to", Path::new("the process that cleans up"));
        match &mut self.pipe {
            // One write, so that dying here leaves a whole line or none.
            Some(pipe) => pipe.write_all(&[line, b"\n"].concat()).map_err(lost),
            None => Err(lost(std::io::ErrorKind::BrokenPipe.into())),
        }
    }
}

/// Waits until `all_ended` says so, or for as long as letting go may take. Blocks: for `drop` only.
pub(super) fn wait_after_letting_go(mut all_ended: impl FnMut() -> bool) {
    let deadline = Instant::now() + LET_GO_WAITS;
    while !all_ended() && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.let_go();
        wait_after_letting_go(|| self.is_gone());
    }
}

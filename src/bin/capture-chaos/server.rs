//! One Postgres server process: started, killed in several ways, copied, promoted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::leash::Leash;

/// Starting after a crash replays the log.
const START: Duration = Duration::from_secs(60);

/// Where programs, sockets and logs are, and who runs them.
#[derive(Debug, Clone)]
pub struct Ground {
    pub bin: PathBuf,
    /// Of sockets, data and logs.
    pub directory: PathBuf,
    /// Who owns the data; Postgres refuses root.
    pub owner: (u32, u32),
    pub leash: Arc<Leash>,
}

/// Of a server: data, number and what it is told beside.
#[derive(Debug)]
pub struct Server {
    ground: Ground,
    pub data: PathBuf,
    /// The number in the socket's name.
    pub port: u16,
    settings: Vec<String>,
    child: Child,
    pid: u32,
    /// Of its System V shared memory, which only a new start on the same data would remove.
    memory: Option<String>,
}

impl Ground {
    /// Whoever owns the data directory.
    pub fn new(bin: &Path, directory: &Path, data: &Path, leash: Arc<Leash>) -> anyhow::Result<Ground> {
        let owner = fs::metadata(data).with_context(|| format!("{} is not there", data.display()))?;
        Ok(Ground {
            bin: bin.to_path_buf(),
            directory: directory.to_path_buf(),
            owner: (owner.uid(), owner.gid()),
            leash,
        })
    }

    /// A program of Postgres, as the owner of the data.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        if rustix::process::geteuid().is_root() {
            command.uid(self.owner.0).gid(self.owner.1);
        }
        command.current_dir(&self.directory).stdin(Stdio::null());
        command
    }

    /// Runs one to its end.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = self.command(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let done = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("{program} cannot be run"))?;
        if !done.status.success() {
            bail!("{program} failed: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(())
    }

    /// A directory that the server's user may write to.
    pub fn make_directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(self.owner.0), Some(self.owner.1))?;
        }
        Ok(path)
    }
}

impl Server {
    /// Starts a server on data that is there, and waits until it takes connections.
    pub async fn start(ground: &Ground, data: PathBuf, port: u16, settings: Vec<String>) -> anyhow::Result<Server> {
        let (child, pid) = launch(ground, &data, port, &settings)?;
        let mut server = Server {
            ground: ground.clone(),
            data,
            port,
            settings,
            child,
            pid,
            memory: None,
        };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Starts it again after it has ended.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            (self.child, self.pid) = launch(&self.ground, &self.data, self.port, &self.settings)?;
            match self.wait_until_ready().await {
                // The last process of the former server may hold its memory for a moment.
                Err(_) if began.elapsed() < Duration::from_secs(15) && self.child.id().is_none() => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                other => return other,
            }
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.ground.directory.join(format!(".s.PGSQL.{}", self.port))
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let lines = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            let line = |number: usize| lines.lines().nth(number).map(str::trim).unwrap_or_default();
            let ours = line(0) == self.pid.to_string();
            if ours && matches!(line(7), "ready" | "standby") {
                self.memory = line(6).split_whitespace().nth(1).map(str::to_owned);
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                self.ground.leash.ended(self.pid);
                bail!(
                    "Postgres ended at its start with {status}; its log is {}",
                    self.log().display()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "Postgres was not ready after {START:?}; its log is {}",
                    self.log().display()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> PathBuf {
        log_of(&self.ground, &self.data)
    }

    /// An immediate stop: as a crash, but told to all processes.
    pub async fn stop_at_once(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::QUIT);
        self.ended().await
    }

    /// kill -9 of every process, the children first, so that none goes on for a moment without its master.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP);
        for child in self.children() {
            let _ended_meanwhile = kill_process(child, Signal::KILL);
        }
        self.signal(Signal::KILL);
        self.ended().await
    }

    /// Ends it for good, and what it leaves in the system.
    pub async fn bury(mut self) -> anyhow::Result<()> {
        self.kill().await?;
        if let Some(memory) = &self.memory {
            let _gone = Command::new("ipcrm")
                .args(["-m", memory])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        fs::remove_dir_all(&self.data).with_context(|| format!("{} cannot be removed", self.data.display()))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = pid_of(self.pid) {
            let _ended_meanwhile = kill_process(pid, signal);
        }
    }

    /// Stops or continues the children of which `what` is part of the title, such as `walreceiver`.
    pub fn signal_children(&self, what: &str, signal: Signal) -> usize {
        let meant = self.children().into_iter().filter(|child| title(*child).contains(what));
        meant.filter(|child| kill_process(*child, signal).is_ok()).count()
    }

    fn children(&self) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| parent(*pid) == Some(self.pid))
            .filter_map(pid_of)
            .collect()
    }

    async fn ended(&mut self) -> anyhow::Result<()> {
        let waited = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        waited.context("Postgres did not end within 30 s")??;
        self.ground.leash.ended(self.pid);
        Ok(())
    }
}

fn launch(ground: &Ground, data: &Path, port: u16, settings: &[String]) -> anyhow::Result<(Child, u32)> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(log_of(ground, data))
        .context("the log of Postgres cannot be opened")?;
    let mut command = ground.command("postgres");
    command.arg("-D").arg(data).arg("-p").arg(port.to_string());
    for setting in settings {
        command.arg("-c").arg(setting);
    }
    command
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C is for us.
        .process_group(0);
    let child = tokio::process::Command::from(command)
        .spawn()
        .context("Postgres cannot be started")?;
    let pid = child.id().context("Postgres ended at once")?;
    ground.leash.watches(pid);
    Ok((child, pid))
}

fn log_of(ground: &Ground, data: &Path) -> PathBuf {
    let name = data.file_name().unwrap_or_default().to_string_lossy();
    ground.directory.join(format!("{name}.log"))
}

fn pid_of(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// The parent of a process: the second field behind the name, which may hold blanks and brackets itself.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(1)?.parse().ok()
}

fn title(pid: Pid) -> String {
    let raw = pid.as_raw_nonzero();
    let bytes = fs::read(format!("/proc/{raw}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

//! Ground for real processes: a directory, a database of its own, settings, and the binary.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::database::{Session, migrated_database};

/// Far more than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What a run said and how it ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Where processes run.
pub struct Ground {
    pub directory: PathBuf,
    pub url: String,
    pub db: Session,
    environment: Vec<(String, String)>,
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Ground {
    pub async fn new() -> Ground {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("security-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&directory).unwrap();
        let url = migrated_database().await;
        Ground {
            directory,
            db: Session::open(&url).await,
            environment: vec![
                ("DATABASE_URL".to_owned(), url.clone()),
                ("USER".to_owned(), "tess".to_owned()),
            ],
            url,
        }
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Writes a file and gives its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capture"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().await.unwrap();
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a worker and waits until it works.
    pub async fn work(&self) -> Process {
        let mut child = self.command(&["work"]).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        gather(child.stdout.take().unwrap(), said.clone());
        gather(child.stderr.take().unwrap(), said.clone());
        let process = Process { child, said };
        until(async || {
            let said = process.said();
            assert!(!said.contains("error:"), "{said}");
            said.contains("working") && said.contains("serving /metrics")
        })
        .await;
        process
    }

    /// Waits until a condition in SQL is true.
    pub async fn until_sql(&mut self, condition: &str) {
        let began = std::time::Instant::now();
        while !self.db.scalar::<bool>(condition).await {
            assert!(began.elapsed() < PATIENCE, "it does not come true: {condition}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Waits until it is so.
async fn until(is_so: impl AsyncFn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "it does not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn gather(mut pipe: impl tokio::io::AsyncRead + Unpin + Send + 'static, into: Arc<Mutex<Vec<u8>>>) {
    tokio::spawn(async move {
        let mut chunk = [0; 8192];
        while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
            into.lock().unwrap().extend_from_slice(&chunk[..read]);
        }
    });
}

/// A worker that runs.
pub struct Process {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    /// Everything it wrote until now.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    fn address(&self) -> String {
        let said = self.said();
        let line = said.lines().find(|line| line.contains("serving /metrics")).unwrap();
        // In JSON and in text alike, the address is what begins with the loopback's.
        let from = line.find("127.0.0.1:").unwrap();
        let address = line[from..].split(['"', ' ', '\u{1b}']).next().unwrap();
        address.to_owned()
    }

    /// The whole answer to a GET of its own server.
    pub async fn page(&self, path: &str) -> String {
        let address = self.address();
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A file of its directory in `/proc`.
    pub fn proc(&self, name: &str) -> String {
        let bytes = std::fs::read(format!("/proc/{}/{name}", self.child.id().unwrap())).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The most memory that it ever had, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Drains it: everything that it said, and its exit code.
    pub async fn stop(mut self) -> (String, Option<i32>) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap()
            .unwrap();
        (self.said(), status.code())
    }
}

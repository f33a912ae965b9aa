//! `capture demo`, as a newcomer runs it, only shorter.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, outside of test functions"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A demo whose temporary files are in a directory of its own, so that what it leaves behind can be seen.
struct Demo {
    child: Child,
    temporary: PathBuf,
}

impl Demo {
    fn start(arguments: &[&str]) -> Demo {
        let temporary = PathBuf::from(format!("/tmp/capture-demo-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&temporary).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&temporary, open).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_capture"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", &temporary)
            // Stronger than any file: a demo must not care.
            .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
            .env("CAPTURE_WORKER_LEASE", "1h")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Demo { child, temporary }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Reads stderr until a line that holds the word; all lines.
    fn hear(&mut self, word: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for line in BufReader::new(self.child.stderr.as_mut().unwrap()).lines() {
            let line = line.unwrap();
            let found = line.contains(word);
            lines.push(line);
            if found {
                return lines;
            }
        }
        panic!("no line with {word:?} in {lines:#?}");
    }

    /// The processes whose command line or working files are this demo's, and its files.
    fn remains(&self) -> Vec<String> {
        let name = self.temporary.to_str().unwrap();
        let mut found: Vec<String> = std::fs::read_dir(&self.temporary)
            .unwrap()
            .map(|entry| entry.unwrap().path().display().to_string())
            .collect();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(name) {
                found.push(command);
            }
        }
        found
    }

    fn leaves_nothing(self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let remains = self.remains();
            if remains.is_empty() {
                std::fs::remove_dir(&self.temporary).unwrap();
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {remains:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn the_books_agree_after_every_trouble_and_json_says_so() {
    let began = Instant::now();
    let mut demo = Demo::start(&["--seconds", "6", "--seed", "7", "-o", "json"]);
    let first = demo.hear("seed 7");
    assert_eq!(first.len(), 1, "the first line tells the seed: {first:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // The rest is read by a thread, or the pipe would be full one day.
    let stderr = demo.child.stderr.take().unwrap();
    let story = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap());
    let mut stdout = String::new();
    demo.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let status = demo.child.wait().unwrap();
    let story = story.join().unwrap();

    let books: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout:?}\n{story}"));
    assert_eq!(status.code(), Some(0), "{books:#}\n{story}");
    assert_eq!(books["books_agree"], true);
    assert_eq!(books["seed"], 7);
    assert_eq!(books["captured"], books["ledger"]);
    assert!(books["captured"]["count"].as_u64().unwrap() > 30);
    for nothing in [
        "lost",
        "doubled",
        "invented",
        "still_open",
        "left_by_rollback",
        "feed_differs",
    ] {
        assert_eq!(books[nothing], 0, "{nothing}");
    }
    for something in [
        "workers_killed",
        "workers_frozen",
        "outages",
        "postgres_crashes",
        "rolled_back_orders",
        "faults",
    ] {
        assert!(books[something].as_u64().unwrap() > 0, "{something}");
    }
    demo.leaves_nothing();
}

#[test]
fn a_demo_that_is_killed_while_a_worker_is_frozen_leaves_nothing_behind() {
    let mut demo = Demo::start(&["--seconds", "6", "--seed", "1", "-o", "json"]);
    demo.hear("SIGSTOP");
    assert!(demo.remains().len() > 3, "{:?}", demo.remains());
    demo.signal(Signal::KILL);
    demo.child.wait().unwrap();
    demo.leaves_nothing();
}

#[test]
fn ctrl_c_stops_everything_and_ends_with_130() {
    let mut demo = Demo::start(&["--seconds", "30", "--seed", "1", "-o", "json"]);
    demo.hear("workers are up");
    demo.signal(Signal::INT);
    demo.hear("interrupted");
    assert_eq!(demo.child.wait().unwrap().code(), Some(130));
    demo.leaves_nothing();
}

#[test]
fn the_books_of_two_runs_are_not_mixed() {
    let mut demo = Demo::start(&["--keep", "/etc"]);
    assert_eq!(demo.child.wait().unwrap().code(), Some(2));
    demo.leaves_nothing();
}

#[test]
fn rows_are_not_what_a_demo_has() {
    let mut demo = Demo::start(&["-o", "csv"]);
    assert_eq!(demo.child.wait().unwrap().code(), Some(2));
    demo.leaves_nothing();
}

//! A terminal for what draws on one.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::place::Place;

/// A shell on a terminal of its own, which script(1) of util-linux makes.
pub struct Terminal {
    script: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    seen: String,
}

impl Terminal {
    /// Runs `capture` with these there, and then tells how it ended and how the terminal is. `None`: there is no script(1).
    pub fn open(place: &Place, arguments: &str) -> Option<Terminal> {
        if !Path::new("/usr/bin/script").exists() {
            assert!(
                std::env::var("CI").is_ok_and(|ci| ci != "true"),
                "no script(1) here: apt-get install bsdutils"
            );
            println!("skipped, for there is no script(1) here: apt-get install bsdutils");
            return None;
        }
        let shell = format!(
            "trap : INT; stty rows 24 cols 80; echo tty=$(tty); '{}' {arguments}; echo ended=$?; stty -a; echo over",
            env!("CARGO_BIN_EXE_capture")
        );
        let mut command = Command::new("/usr/bin/script");
        command
            .args(["-q", "-e", "-c", &shell, "/dev/null"])
            .envs(place.environment())
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut script = command.spawn().unwrap();
        Some(Terminal {
            keys: script.stdin.take().unwrap(),
            screen: script.stdout.take().unwrap(),
            script,
            seen: String::new(),
        })
    }

    /// Reads on until this has been written since the last call; gives what was.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let mut bytes = [0; 4096];
            let read = self.screen.read(&mut bytes).await.unwrap();
            assert!(read > 0, "it ended without {text:?}: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    pub async fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).await.unwrap();
        self.keys.flush().await.unwrap();
    }

    /// The name of its terminal.
    pub async fn name(&mut self) -> String {
        self.until("tty=").await;
        self.until("\n").await.trim().to_owned()
    }

    /// Its code, and what it wrote last; the terminal must be as it was.
    pub async fn ended(mut self) -> (i32, String) {
        let last = self.until("ended=").await;
        let code = self.until("\n").await.trim().parse().unwrap();
        let modes = self.until("over").await;
        let words: Vec<&str> = modes.split([' ', ';', '\n', '\r']).collect();
        for mode in ["icanon", "echo", "isig"] {
            assert!(words.contains(&mode), "{mode} is not back: {modes}");
        }
        drop(self.keys);
        self.script.wait().await.unwrap();
        (code, last)
    }
}

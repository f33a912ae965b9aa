//! Where and when it was measured: figures mean nothing without it.

use std::fs;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Machine {
    pub began_at: String,
    pub cores: usize,
    pub processor: String,
    /// The load average of the last minute, before the first scenario and behind the last.
    pub load_before: String,
    pub load_after: String,
    /// Of this process, and of all that it starts.
    pub nice: i32,
    pub build: &'static str,
    pub postgres: String,
    /// The median of bare commits of one row, alone: what this disk takes for a sync, in milliseconds.
    pub bare_commit_ms: f64,
}

impl Machine {
    pub fn look(postgres: String, bare_commit_ms: f64) -> Machine {
        Machine {
            began_at: chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor(),
            load_before: load(),
            load_after: String::new(),
            nice: nice(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            postgres,
            bare_commit_ms,
        }
    }

    pub fn look_again(&mut self) {
        self.load_after = load();
    }

    pub fn for_people(&self) -> String {
        format!(
            "{}, {} cores ({}), load {} before, nice {}, {} build, Postgres {}, a bare commit {:.2} ms\n",
            self.began_at,
            self.cores,
            self.processor,
            self.load_before,
            self.nice,
            self.build,
            self.postgres,
            self.bare_commit_ms
        )
    }
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name));
    name.map_or("unknown", str::trim).to_owned()
}

fn nice() -> i32 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields
        .split_whitespace()
        .nth(16)
        .and_then(|nice| nice.parse().ok())
        .unwrap_or(0)
}

//! What worker processes count of themselves, as far as it was heard before they were killed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;

use super::stage::{Stage, locked};
use super::workers::{Workers, page};

/// How often a worker is asked. What it counts between the last time and its death is heard by nobody.
const EVERY: Duration = Duration::from_millis(500);

/// Counters of one process, or sums over all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Worker processes that were heard.
    pub processes: u64,
    /// Capture POSTs that were tried (`capture_attempts_total` without `not_sent`).
    pub attempts: u64,
    /// Of these, the ones that were answered as captured.
    pub captured: u64,
    /// Money that was captured and recorded (`capture_captured_minor_total`).
    pub captured_minor: u64,
}

#[derive(Debug, Default)]
pub struct Counters {
    /// The last that was heard, by worker and process.
    heard: Mutex<BTreeMap<(usize, i32), Counted>>,
    over: AtomicBool,
}

impl Counters {
    /// Asks all workers on and on, until told to end.
    pub async fn listen(self: Arc<Counters>, workers: Arc<Workers>, stage: Arc<Stage>) {
        while !self.over.load(Ordering::SeqCst) {
            let listens = workers.listens().await;
            let asked = listens
                .iter()
                .enumerate()
                .map(|(worker, listen)| self.ask(worker, listen, &stage));
            futures_util::future::join_all(asked).await;
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn ask(&self, worker: usize, listen: &str, stage: &Stage) {
        let process = stage.process(worker);
        let page = page(listen, Duration::from_secs(1)).await;
        // An answer that another process may have given belongs to nobody.
        if let Some(page) = page
            && process != 0
            && stage.process(worker) == process
        {
            self.heard(worker, process, &page);
        }
    }

    /// A page of a worker's metrics.
    pub fn heard(&self, worker: usize, process: i32, page: &str) {
        locked(&self.heard).insert((worker, process), read(page));
    }

    pub fn finish(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Over all processes.
    pub fn sum(&self) -> Counted {
        let heard = locked(&self.heard);
        heard.values().fold(Counted::default(), |sum, one| Counted {
            processes: sum.processes + 1,
            attempts: sum.attempts + one.attempts,
            captured: sum.captured + one.captured,
            captured_minor: sum.captured_minor + one.captured_minor,
        })
    }
}

fn read(page: &str) -> Counted {
    let mut counted = Counted::default();
    for line in page.lines() {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let value: u64 = value.parse().unwrap_or(0);
        if name.starts_with("capture_attempts_total{") && !name.contains("outcome=\"not_sent\"") {
            counted.attempts += value;
            if name.contains("outcome=\"captured\"") {
                counted.captured += value;
            }
        } else if name.starts_with("capture_captured_minor_total{") {
            counted.captured_minor += value;
        }
    }
    counted
}

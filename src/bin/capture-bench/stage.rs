//! What every scenario is given.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// How, and how much.
#[derive(Debug)]
pub struct Stage {
    /// The product.
    pub binary: PathBuf,
    /// For configurations.
    pub directory: PathBuf,
    pub rounds: u32,
    /// Sizes that prove that it runs, and nothing else.
    pub quick: bool,
    /// Captures in a long drain.
    pub captures: u64,
    /// Finished captures behind the huge backlog.
    pub finished: u64,
    /// Other queues: only these, or all if none is named.
    pub peers: Vec<String>,
    /// Tell which statements cost the server most.
    pub statements: bool,
    /// Payments that were given out.
    pub payments: AtomicU32,
}

impl Stage {
    /// Captures in a long drain.
    pub fn long_drain(&self) -> u64 {
        self.size(self.captures, 2_000)
    }

    /// One of two sizes.
    pub fn size(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }

    /// Where the next backlog's payments begin, so that none comes twice in one database.
    pub fn fresh_payments(&self) -> u64 {
        // Ten million for each: more than any backlog has.
        u64::from(self.payments.fetch_add(1, Ordering::Relaxed) + 1) * 10_000_000
    }

    /// Tells what a case cost the server, if that was asked for.
    pub fn tell_statements(&self, case: &str, dearest: &[String]) {
        for statement in dearest.iter().filter(|_| self.statements) {
            eprintln!("   {case}: {statement}");
        }
    }

    /// The rounds, told as they begin.
    pub fn rounds(&self, of: &'static str) -> impl Iterator<Item = u32> + use<> {
        let rounds = self.rounds;
        (1..=rounds).inspect(move |round| eprintln!("{of}: round {round} of {rounds}"))
    }
}

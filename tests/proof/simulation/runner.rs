//! Many stories, on as many threads as there are cores for them, and what they came to.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::story::tell;
use super::tally::Tally;

const THREADS: u64 = 2;
/// So many broken stories are enough.
const ENOUGH: u64 = 10;

pub struct Run {
    pub seeds: u64,
    pub took: Duration,
    pub tally: Tally,
    /// By seed.
    pub breached: Vec<(u64, Vec<String>)>,
}

pub fn run(first: u64, seeds: u64) -> Run {
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let broken = AtomicU64::new(0);
    let work = || {
        let mut told = 0;
        let mut tally = Tally::default();
        let mut breached = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds || broken.load(Ordering::Relaxed) >= ENOUGH {
                return (told, tally, breached);
            }
            told += 1;
            let breaches = match std::panic::catch_unwind(AssertUnwindSafe(|| tell(seed, false))) {
                Ok(told) => {
                    tally.add(&told.tally);
                    told.breaches
                }
                Err(_) => vec!["PANICKED".to_owned()],
            };
            if !breaches.is_empty() {
                broken.fetch_add(1, Ordering::Relaxed);
                breached.push((seed, breaches));
            }
        }
    };
    let mut run = Run {
        seeds: 0,
        took: Duration::ZERO,
        tally: Tally::default(),
        breached: Vec::new(),
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let (told, tally, breached) = thread.join().unwrap();
            run.seeds += told;
            run.tally.add(&tally);
            run.breached.extend(breached);
        }
    });
    run.breached.sort();
    run.took = began.elapsed();
    run
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        let micros = self.took.as_micros() * u128::from(THREADS) / u128::from(self.seeds.max(1));
        writeln!(
            f,
            "{} stories in {:.1?} ({micros} us each on one of {THREADS} threads), {} s of simulated time",
            self.seeds, self.took, tally.virtual_seconds
        )?;
        writeln!(
            f,
            "{} intents, {} captures sent, {} faults of {} kinds, {} breaches",
            tally.intents,
            tally.sends,
            tally.all_faults(),
            tally.faults.len(),
            self.breached.len()
        )?;
        writeln!(f, "ends:   {:?}", tally.ends)?;
        writeln!(f, "faults: {:?}", tally.faults)?;
        write!(f, "paths:  {:?}", tally.paths)
    }
}

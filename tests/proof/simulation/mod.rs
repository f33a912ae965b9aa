//! The real worker, in simulated stories.
//!
//! `capture::worker::Worker` as it is, its claim loop, errands, settling, rest and upkeep, over the outbox in memory and a
//! bank in memory, on a clock that jumps to whatever comes next. One number is a whole story: what is asked for, what goes
//! wrong, each latency, each draw of jitter. Faults last for the first half minute; then all heals, and the story must
//! end, with the outbox's books equal to the bank's (`verdict.rs`).
//!
//! ```sh
//! cargo test --test proof simulation                                               # as many as fit in a moment
//! CAPTURE_SEEDS=1000000 CAPTURE_FIRST_SEED=0 cargo test --release --test proof simulation::no_seed -- --nocapture
//! CAPTURE_SEED=4711 cargo test --test proof simulation::one_seed -- --nocapture    # with its trace
//! ```

mod life;
mod provider;
mod runner;
mod script;
mod store;
mod story;
mod tally;
mod verdict;
mod wire;
mod world;

use std::hash::{DefaultHasher, Hash, Hasher};

use story::tell;

/// A setting of the command line.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn no_seed_doubles_loses_or_invents_a_capture() {
    let first = number("CAPTURE_FIRST_SEED").unwrap_or(0);
    let seeds = number("CAPTURE_SEEDS").unwrap_or(1_000);
    let run = runner::run(first, seeds);
    println!("{run}");
    for (seed, breaches) in run.breached.iter().take(10) {
        println!(
            "seed {seed}: {breaches:#?}\n  CAPTURE_SEED={seed} cargo test --test proof simulation::one_seed -- --nocapture"
        );
    }
    if let Some((seed, _)) = run.breached.first() {
        println!("{}", tell(*seed, true).trace);
    }
    assert!(
        run.breached.is_empty(),
        "{} of {seeds} seeds breach an invariant",
        run.breached.len()
    );
    // A few seeds reach few places.
    if seeds >= 1_000 {
        assert_eq!(
            run.tally.never(),
            Vec::<String>::new(),
            "never reached, so nothing is proven about it"
        );
    }
}

#[test]
fn one_seed() {
    let seed = number("CAPTURE_SEED").unwrap_or(0);
    let told = tell(seed, true);
    println!("{}\n{:#?}", told.trace, told.tally);
    assert_eq!(told.breaches, Vec::<String>::new(), "seed {seed}");
}

#[test]
fn a_seed_is_the_whole_story() {
    let hash = |text: &str| {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    };
    for seed in 0..20 {
        let (once, again) = (tell(seed, true), tell(seed, true));
        assert!(once.trace.lines().count() > 10, "seed {seed} tells nothing");
        assert_eq!(
            hash(&once.trace),
            hash(&again.trace),
            "seed {seed} was told twice, and differs"
        );
        assert_eq!(once.trace, again.trace);
        assert_eq!(once.tally, again.tally);
        assert_eq!(
            tell(seed, false).tally,
            once.tally,
            "who watches seed {seed} changes it"
        );
    }
}

//! Time and chance of a simulated thread (feature `proof` only; a released program has neither this module nor its hooks).
//!
//! A simulation runs workers on one thread of a paused `tokio` clock. After [`begin`], that thread's [`Boottime`] is the
//! paused clock, and its random ids and jitter come from one seed: the seed is the whole story. Other threads are as ever.

use std::cell::RefCell;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use uuid::Uuid;

use crate::clock::Boottime;

struct Simulated {
    origin: tokio::time::Instant,
    dice: StdRng,
}

thread_local! {
    static HERE: RefCell<Option<Simulated>> = const { RefCell::new(None) };
}

/// From here on this thread's time and chance are simulated. To be called within a paused runtime.
pub fn begin(seed: u64) {
    let simulated = Simulated {
        origin: tokio::time::Instant::now(),
        dice: StdRng::seed_from_u64(seed),
    };
    HERE.with(|here| *here.borrow_mut() = Some(simulated));
}

/// This thread is as ever.
pub fn end() {
    HERE.with(|here| *here.borrow_mut() = None);
}

pub(crate) fn now() -> Option<Boottime> {
    HERE.with(|here| {
        let here = here.borrow();
        here.as_ref()
            .map(|simulated| Boottime::at(tokio::time::Instant::now().saturating_duration_since(simulated.origin)))
    })
}

pub(crate) fn up_to(ceiling: Duration) -> Option<Duration> {
    let most = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
    HERE.with(|here| {
        let mut here = here.borrow_mut();
        here.as_mut()
            .map(|simulated| Duration::from_millis(simulated.dice.random_range(0..=most)))
    })
}

pub(crate) fn uuid() -> Option<Uuid> {
    HERE.with(|here| {
        let mut here = here.borrow_mut();
        here.as_mut().map(|simulated| {
            let mut bytes = [0; 16];
            simulated.dice.fill_bytes(&mut bytes);
            uuid::Builder::from_random_bytes(bytes).into_uuid()
        })
    })
}

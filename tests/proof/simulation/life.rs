//! Whether a worker's process runs.
//!
//! All that a process does to the world, it does by calls. One that is dead gets no further than its next call, for ever;
//! one that is frozen not before it thaws. So it may be stopped between any two of its calls, whatever it is at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::world::{Shared, lock};

pub struct Life {
    pub name: String,
    world: Shared,
    dead: AtomicBool,
    frozen_until: AtomicU64,
}

impl Life {
    pub fn new(world: &Shared, name: String) -> Arc<Life> {
        Arc::new(Life {
            name,
            world: world.clone(),
            dead: AtomicBool::new(false),
            frozen_until: AtomicU64::new(0),
        })
    }

    pub fn end(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub fn freeze(&self, until_ms: u64) {
        self.frozen_until.store(until_ms, Ordering::Relaxed);
    }

    /// Comes back only while the process runs.
    pub async fn runs(&self) {
        loop {
            if self.is_over() {
                std::future::pending::<()>().await;
            }
            let now = lock(&self.world).ms();
            let until = self.frozen_until.load(Ordering::Relaxed);
            if until <= now {
                return;
            }
            tokio::time::sleep(Duration::from_millis(until - now)).await;
        }
    }
}

/// A pause of so many milliseconds; none is none.
pub async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

//! How many messages are in flight for each endpoint, and which was served last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// Counts, shared by the claim and the attempts.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<Mutex<BTreeMap<Uuid, i32>>>);

/// One message in flight; it is no more when this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    counts: InFlight,
    endpoint: Uuid,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more for that endpoint.
    pub(super) fn count(&self, endpoint: Uuid) -> Counted {
        *self.lock().entry(endpoint).or_default() += 1;
        Counted {
            counts: self.clone(),
            endpoint,
        }
    }

    /// By endpoint, those with none left out.
    pub(super) fn counts(&self) -> Vec<(Uuid, i32)> {
        self.lock()
            .iter()
            .map(|(endpoint, count)| (*endpoint, *count))
            .collect()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.endpoint) {
            *count -= 1;
            if *count <= 0 {
                counts.remove(&self.endpoint);
            }
        }
    }
}

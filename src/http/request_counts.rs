//! How many requests of each source of shipments came to what: counted here, and added up in the database every few
//! seconds, where the metrics read it. Whoever floods a server with forged requests costs it no write each.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::outbox::Outbox;

/// Counts by source and result, both from closed sets.
#[derive(Debug, Default)]
pub struct RequestCounts(Mutex<BTreeMap<(String, &'static str), i64>>);

impl RequestCounts {
    /// One more.
    pub fn add(&self, source: &str, result: &'static str) {
        self.add_all(source, result, 1);
    }

    fn add_all(&self, source: &str, result: &'static str, count: i64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((source.to_owned(), result)).or_default() += count;
    }

    /// Writes what was counted since the last time. What cannot be written now is kept for the next.
    pub async fn write(&self, outbox: &Outbox) {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for ((source, result), count) in counts {
            if let Err(error) = outbox.count_shipment_requests(&source, result, count).await {
                tracing::debug!(error = %error, "requests could not be counted; trying again");
                self.add_all(&source, result, count);
            }
        }
    }
}

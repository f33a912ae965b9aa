//! A provider that answers in process and at once: what is left is the worker and the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use capture::intent::CaptureIntent;
use capture::outcome::{Class, Evidence, Failure, Observation, Outcome, Proof, Receipt};
use capture::provider::{Abilities, Call, Calls, Exactness, Provider, Repeat};
use tokio::sync::Notify;

/// As much evidence as an Afterpay capture leaves behind.
pub const EVIDENCE: &str = "{\"status\":201,\"facts\":{\"status\":\"APPROVED\",\"payment_state\":\"CAPTURED\",\"events\":[{\"ours\":true,\
     \"id\":\"c-1\",\"type\":\"CAPTURED\",\"amount\":\"10.00 USD\",\"created\":\"2026-01-01T00:00:00Z\"}]}}";

/// Captures everything, counts it, and tells when it was so many.
pub struct Noop {
    captured: AtomicU64,
    enough: u64,
    reached: Notify,
}

impl Noop {
    pub fn new(enough: u64) -> Arc<Noop> {
        Arc::new(Noop {
            captured: AtomicU64::new(0),
            enough,
            reached: Notify::new(),
        })
    }

    /// Until enough was captured.
    pub async fn enough(&self) {
        self.reached.notified().await;
    }

    pub fn captured(&self) -> u64 {
        self.captured.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Provider for Noop {
    fn abilities(&self) -> Abilities {
        Abilities {
            repeat: Repeat::Key {
                window: Some(Duration::from_secs(23 * 3600)),
            },
            exactness: Exactness::Reference,
            read_lag: Duration::from_secs(1),
            read_before_send: false,
            calls: Calls { send: 1, read: 1 },
        }
    }

    fn host(&self) -> &str {
        "in-process"
    }

    fn check(&self, _intent: &CaptureIntent) -> Result<(), Failure> {
        Ok(())
    }

    async fn capture(&self, call: &Call<'_>) -> Outcome {
        if !call.guard.may_send() {
            return Outcome::NotSent;
        }
        let before = self.captured.fetch_add(1, Ordering::Relaxed);
        if before + 1 == self.enough {
            self.reached.notify_one();
        }
        Outcome::Captured(Receipt {
            provider_capture_id: format!("c-{before}"),
            amount: call.intent.amount,
            captured_at: None,
            proof: Proof::Answer,
            authorization_expires_at: None,
            evidence: Evidence::new(EVIDENCE.as_bytes()),
        })
    }

    async fn read(&self, _call: &Call<'_>) -> Observation {
        // Nothing is ever unknown here; if something is, the count of captures does not come out, and the run fails.
        Observation::Failed(Failure::new(Class::Transient, "no_reads_here"))
    }
}

//! The feed: what others learn.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::End;
use crate::intent::IntentId;
use crate::retry::DeadReason;

/// A row of `events`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// Of which intent.
    pub intent: IntentId,
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub told: Told,
}

/// What an event tells: its type, and what others decide by. The names are those of its document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Told {
    Enqueued,
    Held,
    AttemptFailed {
        class: Option<&'static str>,
        code: Option<Arc<str>>,
        fence: i32,
        attempts: i16,
    },
    Captured {
        receipt: End,
        attempts: i16,
    },
    RetryScheduled {
        in_ms: i64,
        attempts: i16,
    },
    OutcomeUnknown {
        fence: i32,
        class: Option<Arc<str>>,
        code: Option<Arc<str>>,
    },
    DeadLettered {
        reason: DeadReason,
        attempts: i16,
    },
    Cancelled,
    LateResult {
        fence: i32,
        outcome: &'static str,
        state: Option<&'static str>,
        alarm: Option<&'static str>,
    },
    AuthExpiring {
        expires_at: DateTime<Utc>,
        within_hours: u8,
    },
    Released {
        shipment_ref: Option<Arc<str>>,
    },
    Replayed,
    Resolved {
        captured: bool,
    },
}

impl Told {
    /// The event's type, without `capture.`.
    pub fn name(&self) -> &'static str {
        match self {
            Told::Enqueued => "enqueued",
            Told::Held => "held",
            Told::AttemptFailed { .. } => "attempt_failed",
            Told::Captured { .. } => "captured",
            Told::RetryScheduled { .. } => "retry_scheduled",
            Told::OutcomeUnknown { .. } => "outcome_unknown",
            Told::DeadLettered { .. } => "dead_lettered",
            Told::Cancelled => "cancelled",
            Told::LateResult { .. } => "late_result",
            Told::AuthExpiring { .. } => "auth_expiring",
            Told::Released { .. } => "released",
            Told::Replayed => "replayed",
            Told::Resolved { .. } => "resolved",
        }
    }
}

//! What an intent has behind it: attempts spent, the generation of its key, what is unknown about it.
//!
//! Travels with the intent through the outbox (table `progress`, same names) from its first trouble to its end. An intent
//! that passes at once never has a row.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::intent::KeyGeneration;
use crate::outcome::{Class, Code};

/// What is known about the past of an intent that has not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Capture POSTs that count against the limit.
    pub attempts: i16,
    /// Which key is in use.
    pub generation: KeyGeneration,
    /// An attempt was ambiguous: a later refusal may be the echo of its success.
    pub tainted: bool,
    /// The provider once took the capture with our reference and amount: never sent again.
    pub accepted: bool,
    /// The provider's id of what it took, where its answer gave one.
    pub accepted_id: Option<String>,
    /// The provider's id of the capture that a read took for ours while it was not final, where nothing but its fitting said
    /// so: once that is refused, so is ours, or it never arrived.
    pub pending_id: Option<String>,
    /// When this generation was first on the wire, by the database's clock.
    pub first_sent_at: Option<DateTime<Utc>>,
    /// No read counts as quiet before this: something of ours may still be in flight.
    pub quiet_after: Option<DateTime<Utc>>,
    /// Reads in a row, far enough apart, that showed nothing of ours.
    pub quiet_reads: i16,
    /// The last of them.
    pub last_quiet_at: Option<DateTime<Utc>>,
    /// Since when the provider says that an earlier send is still running.
    pub in_progress_since: Option<DateTime<Utc>>,
    /// Since when the outcome is unknown; `None`: it is known that nothing was captured.
    pub unknown_since: Option<DateTime<Utc>>,
    /// A refusal that our own earlier success would explain, until a read decides.
    pub refusal_class: Option<String>,
    /// Its code.
    pub refusal_code: Option<String>,
    /// A new key may be used once a read shows nothing (a replay after a definite, untainted refusal).
    pub fresh_key: bool,
    /// Nothing is sent, not even a repeat of the key, before a read.
    pub read_first: bool,
    /// Verifications so far.
    pub looks: i16,
    /// Failures in a row that are ours to fix.
    pub own_faults: i16,
    /// Leases lost in a row.
    pub lost_leases: i16,
    /// Class of the last failure.
    pub last_class: Option<String>,
    /// Code of the last failure.
    pub last_code: Option<String>,
}

impl Progress {
    /// For a past that cannot be read: it may have been sent at any time since it was made, and something of it may be in
    /// flight for `in_flight` more.
    pub fn unknown(created_at: DateTime<Utc>, now: DateTime<Utc>, in_flight: Duration) -> Progress {
        let mut progress = Progress {
            read_first: true,
            ..Progress::default()
        };
        let until = TimeDelta::from_std(in_flight)
            .ok()
            .and_then(|span| now.checked_add_signed(span));
        progress.may_be_in_flight(created_at, until.unwrap_or(DateTime::<Utc>::MAX_UTC));
        progress.becomes_unknown(now);
        progress
    }

    /// Notes the failure that was last seen.
    pub fn saw(&mut self, class: Class, code: &Code) {
        self.last_class = Some(class.name().to_owned());
        self.last_code = Some(code.as_str().to_owned());
    }

    /// Notes that the outcome is unknown from `now` on, if it was not already.
    pub fn becomes_unknown(&mut self, now: DateTime<Utc>) {
        self.unknown_since = Some(self.unknown_since.unwrap_or(now));
    }

    /// Notes that something of ours may have reached the provider at `sent_at` and may act until `until`: whatever was
    /// quiet before proves nothing any more.
    pub fn may_be_in_flight(&mut self, sent_at: DateTime<Utc>, until: DateTime<Utc>) {
        self.tainted = true;
        self.first_sent_at = Some(self.first_sent_at.unwrap_or(sent_at));
        self.quiet_after = Some(self.quiet_after.map_or(until, |before| before.max(until)));
        self.quiet_reads = 0;
        self.last_quiet_at = None;
    }

    /// Notes that it is proven that nothing of ours was captured: nothing is unknown, nothing is tainted.
    pub fn proven_not_captured(&mut self) {
        self.tainted = false;
        self.unknown_since = None;
        self.quiet_after = None;
        self.quiet_reads = 0;
        self.last_quiet_at = None;
        self.in_progress_since = None;
        self.read_first = false;
        self.first_sent_at = None;
        self.looks = 0;
    }
}

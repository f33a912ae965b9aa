//! What a call told us.
//!
//! Each answer is classed once, at the edge, by the adapter of its provider; after that only these enums travel, never
//! the answer's text. Two kinds of calls exist: the capture POST, whose result is an [`Outcome`], and reads, whose result
//! is an [`Observation`].

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::intent::Money;

/// The kind of a failure: what it says about the money, and so what may be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Surely not processed; may pass later.
    Transient,
    /// Surely not processed; the provider asks for a pause of the whole lane.
    RateLimited,
    /// An earlier send with our key is still running.
    InProgress,
    /// Money may have moved.
    Ambiguous,
    /// Refused in a way that our own earlier success, or somebody else's capture, would explain.
    MaybeDone,
    /// Will never pass.
    Rejected,
    /// Ours to fix: credentials, scope, address.
    Misconfigured,
}

impl Class {
    /// Every class, for tables and for closed sets of labels.
    pub const ALL: [Class; 7] = [
        Class::Transient,
        Class::RateLimited,
        Class::InProgress,
        Class::Ambiguous,
        Class::MaybeDone,
        Class::Rejected,
        Class::Misconfigured,
    ];

    /// The name in SQL, CLI, HTTP and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Class::Transient => "transient",
            Class::RateLimited => "rate_limited",
            Class::InProgress => "in_progress",
            Class::Ambiguous => "ambiguous",
            Class::MaybeDone => "maybe_done",
            Class::Rejected => "rejected",
            Class::Misconfigured => "misconfigured",
        }
    }

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A short machine-readable code: the provider's own where it has one, else ours. Lower-case ASCII letters, digits,
/// `_`, `-` and `.`; at most 64 characters; anything else in the source becomes `_`. So it can always be stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Code(String);

impl Code {
    /// From any text, cleaned and cut.
    pub fn new(text: &str) -> Code {
        let clean: String = text
            .chars()
            .take(64)
            .map(|c| match c.to_ascii_lowercase() {
                kept @ ('a'..='z' | '0'..='9' | '_' | '-' | '.') => kept,
                _ => '_',
            })
            .collect();
        Code(if clean.is_empty() { "none".to_owned() } else { clean })
    }

    /// The code's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is kept of an answer so that a person can check it: capped, redacted bytes (never text or jsonb: a `\u0000` in
/// an answer must not make the record of a capture fail). Adapters put only white-listed fields in it.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Evidence(Vec<u8>);

impl Evidence {
    /// The most bytes kept.
    pub const LIMIT: usize = 2048;

    /// From bytes that hold no secret and no personal data; cut at [`Evidence::LIMIT`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Evidence {
        let mut bytes = bytes.into();
        bytes.truncate(Evidence::LIMIT);
        Evidence(bytes)
    }

    /// The kept bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Evidence({})", self.0.escape_ascii())
    }
}

/// A call that did not end as hoped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Failure {
    /// What it says about the money.
    pub class: Class,
    /// What it was.
    pub code: Code,
    /// The HTTP status, if an answer came.
    pub http_status: Option<u16>,
    /// What the provider asked us to wait (`Retry-After`, `X-Ratelimit-Reset`), unclamped.
    pub retry_after: Option<Duration>,
    /// Did the provider itself answer? (A gateway's page or a broken connection is no answer.) Feeds the breaker.
    pub answered: bool,
    /// What was seen.
    pub evidence: Evidence,
}

impl Failure {
    /// A failure of that class and code, without answer, wait or evidence.
    pub fn new(class: Class, code: &str) -> Failure {
        Failure {
            class,
            code: Code::new(code),
            http_status: None,
            retry_after: None,
            answered: false,
            evidence: Evidence::default(),
        }
    }

    /// The same, with the status of an answer that the provider itself gave.
    pub fn answered(mut self, http_status: u16) -> Failure {
        self.http_status = Some(http_status);
        self.answered = true;
        self
    }

    /// The same, with evidence.
    pub fn with_evidence(mut self, evidence: Evidence) -> Failure {
        self.evidence = evidence;
        self
    }
}

/// Why a capture is known to be ours and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The answer to our own POST, in the one shape that means captured, with our reference, amount and currency.
    Answer,
    /// A read shows our reference with our amount.
    Reference,
    /// A read shows a capture that was not there before our send, with our amount and in its time, and nobody else writes.
    SoleWriter,
    /// As `SoleWriter`, and our own marker is on it.
    Marker,
    /// A person said so, with evidence.
    Person,
}

impl Proof {
    /// The name in SQL and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Proof::Answer => "answer",
            Proof::Reference => "reference",
            Proof::SoleWriter => "sole_writer",
            Proof::Marker => "marker",
            Proof::Person => "person",
        }
    }
}

/// The provider's proof of a capture. Only an adapter makes one, and only from a white-listed shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The provider's own id of the capture (printable ASCII, at most 128), or our reference where it has none.
    pub provider_capture_id: String,
    /// What was captured; equal to what was asked.
    pub amount: Money,
    /// When, by the provider's clock, if it says.
    pub captured_at: Option<DateTime<Utc>>,
    /// How we know.
    pub proof: Proof,
    /// When the authorisation of what is left ends, if the same answer tells. Advice: it never decides about this capture.
    pub authorization_expires_at: Option<DateTime<Utc>>,
    /// What was seen.
    pub evidence: Evidence,
}

/// Keeps printable ASCII only and at most 128 characters: a provider's id that can always be stored and shown.
pub fn printable_id(text: &str) -> String {
    printable(text, 128)
}

/// Keeps printable ASCII only and at most `longest` characters.
pub(crate) fn printable(text: &str, longest: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(longest));
    kept.extend(text.chars().filter(char::is_ascii_graphic).take(longest));
    kept
}

/// What one capture POST told us. At most one POST was put on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The provider captured exactly what we asked, and says so in the one shape that means it.
    Captured(Receipt),
    /// The provider took the capture (2xx with our reference and our amount), but it is not final, or its amount has to
    /// be read elsewhere. Never sent again; only reads or a person end it.
    Accepted {
        /// The provider's id of it, where the answer gave one: a read knows it by that, also where it carries no reference.
        capture_id: Option<String>,
        /// What was seen.
        evidence: Evidence,
    },
    /// Anything else.
    Failed(Failure),
    /// Nothing left this machine: the lease was too short, or the worker is stopping. Spends no attempt.
    NotSent,
}

/// What a read shows about our capture, compared with what we asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Observation {
    /// Ours, final, with our amount.
    Captured(Receipt),
    /// Ours, with our amount, not final yet.
    Pending {
        /// Its id, where nothing says that it is ours but that it fits, and that nothing else does.
        inferred_id: Option<String>,
        /// What was seen.
        evidence: Evidence,
    },
    /// Ours, and finally refused by the provider.
    Declined {
        /// The provider's state.
        code: Code,
        /// How sure it is that it is ours.
        proof: Proof,
        /// What was seen.
        evidence: Evidence,
    },
    /// Nothing of ours, and the authorisation can still take our amount.
    NotCaptured {
        /// What is left open, in minor units, where the provider tells.
        open_minor: Option<i64>,
        /// What others captured of the same payment, in minor units, where the provider tells.
        others_minor: Option<i64>,
        /// When the authorisation ends, if the same answer tells. Advice, as in [`Receipt`].
        authorization_expires_at: Option<DateTime<Utc>>,
        /// What was seen.
        evidence: Evidence,
    },
    /// Nothing of ours, and the authorisation can no longer take it: expired, voided, cancelled, or too little left.
    Closed {
        /// Why.
        code: Code,
        /// What was seen.
        evidence: Evidence,
    },
    /// Captured, and surely not by us.
    Foreign {
        /// What was seen.
        evidence: Evidence,
    },
    /// The read fits no story we can prove: our reference with another amount, two new captures, no way to tell whose.
    Contradicts {
        /// What does not fit.
        code: Code,
        /// What was seen.
        evidence: Evidence,
    },
    /// The read itself failed; it says nothing about the money.
    Failed(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_and_ids_from_outside_can_always_be_stored(text in ".*") {
            let code = Code::new(&text);
            prop_assert!(!code.as_str().is_empty() && code.as_str().len() <= 64);
            prop_assert!(code.as_str().bytes().all(|b| b.is_ascii_graphic()));
            prop_assert!(printable_id(&text).bytes().all(|b| b.is_ascii_graphic()));
        }
    }
}

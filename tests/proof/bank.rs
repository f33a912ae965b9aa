//! A payment provider as plain data: what it captured, which keys it remembers, what a read shows.
//!
//! The model check and the simulation share it. It is written from what the providers promise, not from the adapters, and
//! where they promise nothing it does the worst: a repeat without a key it knows moves money again.

use std::collections::BTreeMap;
use std::time::Duration;

use capture::intent::{CaptureIntent, IntentId, KeyGeneration};
use capture::outcome::{Class, Code, Evidence, Failure, Observation, Outcome, Proof, Receipt};
use capture::provider::{Abilities, Calls, Exactness, Repeat};
use chrono::{DateTime, Utc};

/// How a provider treats a repeat, and what its reads show: the four models of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A key, known for a window; many captures on a payment; reads show our reference (Afterpay).
    KeyWithWindow,
    /// A key, known for ever (Resolve, orders).
    KeyForEver,
    /// A unique reference whose repeat is not documented (Optty).
    UniqueReference,
    /// Neither; one capture on a payment, told by amount and time (Resolve, charges).
    Nothing,
}

impl Kind {
    pub const ALL: [Kind; 4] = [
        Kind::KeyWithWindow,
        Kind::KeyForEver,
        Kind::UniqueReference,
        Kind::Nothing,
    ];

    /// What the worker is told that it can do. `window`: shorter than the bank's own memory of keys by a margin.
    pub fn abilities(self, window: Duration, read_lag: Duration) -> Abilities {
        let (repeat, exactness, read_before_send) = match self {
            Kind::KeyWithWindow => (Repeat::Key { window: Some(window) }, Exactness::Reference, false),
            Kind::KeyForEver => (Repeat::Key { window: None }, Exactness::Reference, false),
            Kind::UniqueReference => (Repeat::UniqueReference, Exactness::Reference, false),
            Kind::Nothing => (Repeat::Nothing, Exactness::Inference, true),
        };
        Abilities {
            repeat,
            exactness,
            read_lag,
            read_before_send,
            calls: Calls { send: 1, read: 1 },
        }
    }
}

/// Money that moved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moved {
    /// Whose capture: known to the bank's books for the comparison, and shown by reads that are exact.
    pub intent: IntentId,
    pub minor: i64,
    pub at: DateTime<Utc>,
    /// The bank's own id of it.
    pub id: u32,
    /// Nobody's intent: somebody captured by hand.
    pub by_hand: bool,
}

/// An authorised payment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Payment {
    pub authorised_minor: i64,
    /// Cancelled, or expired: takes no more captures.
    pub closed: bool,
    pub captures: Vec<Moved>,
}

/// What the bank answers to a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Moved, under that id.
    Captured(u32),
    /// Refused for good: too little left, or closed.
    Refused,
}

/// A capture request on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request {
    pub intent: IntentId,
    pub payment: String,
    pub minor: i64,
    pub generation: KeyGeneration,
}

impl Request {
    pub fn of(intent: &CaptureIntent, generation: KeyGeneration) -> Request {
        Request {
            intent: intent.id,
            payment: intent.payment_id.clone(),
            minor: intent.amount.minor,
            generation,
        }
    }
}

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bank {
    pub kind: Kind,
    /// For how long a key is known ([`Kind::KeyWithWindow`]).
    pub remembers: Duration,
    pub payments: BTreeMap<String, Payment>,
    /// Keys: first use, and what was answered.
    pub keys: BTreeMap<(IntentId, KeyGeneration), (DateTime<Utc>, Answer)>,
    pub next_id: u32,
}

impl Bank {
    pub fn new(kind: Kind, remembers: Duration) -> Bank {
        Bank {
            kind,
            remembers,
            payments: BTreeMap::new(),
            keys: BTreeMap::new(),
            next_id: 1,
        }
    }

    pub fn authorise(&mut self, payment: &str, minor: i64) {
        let payment = self.payments.entry(payment.to_owned()).or_insert(Payment {
            authorised_minor: 0,
            closed: false,
            captures: Vec::new(),
        });
        payment.authorised_minor = minor;
    }

    /// Executes a request: the moment at which money moves.
    pub fn execute(&mut self, request: &Request, now: DateTime<Utc>) -> Answer {
        let key = (request.intent, request.generation);
        let keyed = match self.kind {
            Kind::KeyWithWindow => true,
            Kind::KeyForEver => true,
            Kind::UniqueReference | Kind::Nothing => false,
        };
        if keyed && let Some((first, answer)) = self.keys.get(&key) {
            let known = match self.kind {
                Kind::KeyWithWindow => now - *first < chrono::TimeDelta::from_std(self.remembers).unwrap(),
                Kind::KeyForEver | Kind::UniqueReference | Kind::Nothing => true,
            };
            if known {
                return *answer;
            }
        }
        let answer = self.capture(&request.payment, request.intent, request.minor, false, now);
        if keyed {
            self.keys.insert(key, (now, answer));
        }
        answer
    }

    /// Somebody captures from the provider's own site.
    pub fn capture_by_hand(&mut self, payment: &str, minor: i64, now: DateTime<Utc>) -> Answer {
        self.capture(payment, IntentId(uuid::Uuid::nil()), minor, true, now)
    }

    fn capture(&mut self, payment: &str, intent: IntentId, minor: i64, by_hand: bool, now: DateTime<Utc>) -> Answer {
        let Some(payment) = self.payments.get_mut(payment) else {
            return Answer::Refused;
        };
        let moved: i64 = payment.captures.iter().map(|moved| moved.minor).sum();
        // A charge is captured as a whole and once; that it moves money again when sent again is the worst it can do to a
        // worker that sends twice, so it is what happens here.
        let room = match self.kind {
            Kind::Nothing => true,
            Kind::KeyWithWindow | Kind::KeyForEver | Kind::UniqueReference => moved + minor <= payment.authorised_minor,
        };
        if payment.closed || !room {
            return Answer::Refused;
        }
        let id = self.next_id;
        self.next_id += 1;
        payment.captures.push(Moved {
            intent,
            minor,
            at: now,
            id,
            by_hand,
        });
        Answer::Captured(id)
    }

    /// What the answer to a capture means, as an adapter would say it.
    pub fn outcome(&self, request: &Request, intent: &CaptureIntent, answer: Answer, now: DateTime<Utc>) -> Outcome {
        match answer {
            Answer::Captured(id) => Outcome::Captured(Receipt {
                provider_capture_id: id.to_string(),
                amount: capture::intent::Money::new(request.minor, intent.amount.currency),
                captured_at: Some(now),
                proof: Proof::Answer,
                authorization_expires_at: None,
                evidence: Evidence::default(),
            }),
            Answer::Refused => Outcome::Failed(Failure::new(Class::Rejected, "refused").answered(422)),
        }
    }

    /// What a read at `now` shows of an intent; captures younger than `lag` are not shown yet. `first_sent_at`: as in
    /// [`capture::provider::Call`].
    pub fn read(
        &self,
        intent: &CaptureIntent,
        first_sent_at: Option<DateTime<Utc>>,
        siblings: &[String],
        lag: Duration,
        now: DateTime<Utc>,
    ) -> Observation {
        let evidence = Evidence::default();
        let Some(payment) = self.payments.get(&intent.payment_id) else {
            return Observation::Closed {
                code: Code::new("not_found"),
                evidence,
            };
        };
        let lag = chrono::TimeDelta::from_std(lag).unwrap();
        let shown: Vec<&Moved> = payment.captures.iter().filter(|moved| now - moved.at >= lag).collect();
        let receipt = |moved: &Moved, proof| {
            Observation::Captured(Receipt {
                provider_capture_id: moved.id.to_string(),
                amount: intent.amount,
                captured_at: Some(moved.at),
                proof,
                authorization_expires_at: None,
                evidence: Evidence::default(),
            })
        };
        let ours = match self.kind {
            Kind::KeyWithWindow | Kind::KeyForEver | Kind::UniqueReference => shown
                .iter()
                .find(|moved| !moved.by_hand && moved.intent == intent.id)
                .map(|moved| receipt(moved, Proof::Reference)),
            // Whose it is does not show: amount, time, and what siblings have on record.
            Kind::Nothing => {
                let mut others = shown.iter().filter(|moved| !siblings.contains(&moved.id.to_string()));
                match (others.next(), others.next()) {
                    (None, _) => None,
                    (Some(_), Some(_)) => Some(Observation::Contradicts {
                        code: Code::new("two_captures"),
                        evidence: evidence.clone(),
                    }),
                    (Some(one), None) => Some(match first_sent_at {
                        Some(first) if one.at >= first && one.minor == intent.amount.minor => {
                            receipt(one, Proof::SoleWriter)
                        }
                        Some(first) if one.at >= first => Observation::Contradicts {
                            code: Code::new("wrong_amount"),
                            evidence: evidence.clone(),
                        },
                        Some(_) | None => Observation::Foreign {
                            evidence: evidence.clone(),
                        },
                    }),
                }
            }
        };
        if let Some(ours) = ours {
            return ours;
        }
        let moved: i64 = shown.iter().map(|moved| moved.minor).sum();
        let open = payment.authorised_minor - moved;
        if payment.closed || open < intent.amount.minor {
            let by_hand = shown.iter().any(|moved| moved.by_hand);
            return if by_hand {
                Observation::Foreign { evidence }
            } else {
                Observation::Closed {
                    code: Code::new("too_little_left"),
                    evidence,
                }
            };
        }
        Observation::NotCaptured {
            open_minor: Some(open),
            others_minor: Some(moved),
            authorization_expires_at: None,
            evidence,
        }
    }

    /// How often money moved for an intent.
    pub fn times_captured(&self, intent: IntentId) -> usize {
        self.payments
            .values()
            .flat_map(|payment| &payment.captures)
            .filter(|moved| !moved.by_hand && moved.intent == intent)
            .count()
    }
}

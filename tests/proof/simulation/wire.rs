//! Requests that left a worker, on their way into a bank's books. What is on the wire acts, whoever still waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use capture::intent::{CaptureIntent, IntentId, KeyGeneration};
use capture::outcome::{Class, Code, Evidence, Failure, Observation, Outcome, Proof};
use chrono::{DateTime, TimeDelta, Utc};

use super::tally::Path;
use super::world::{Counter, World, short};
use crate::bank::{Answer, Kind, Request};

/// What the provider makes of a request when it executes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Executes,
    Declines,
    /// Takes it, and is only sure after so long (ms); then it declines, perhaps.
    Accepts {
        final_after_ms: u64,
        declines: bool,
    },
}

#[derive(Debug, Clone)]
pub struct Wire {
    pub request: Request,
    pub mood: Mood,
    /// What the world's upheavals stood at when it was claimed.
    pub upheavals: u32,
}

/// What a bank answered.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    Told(Answer),
    Accepted,
}

/// A capture that is not final.
#[derive(Debug, Clone)]
pub struct Open {
    request: Request,
    since: DateTime<Utc>,
    final_at: DateTime<Utc>,
    declines: bool,
}

/// All of one provider's.
#[derive(Debug, Default)]
pub struct Wires {
    /// By when they are executed (ms), and a number.
    on_the_way: BTreeMap<(u64, u32), Wire>,
    replies: BTreeMap<u32, Reply>,
    open: BTreeMap<IntentId, Open>,
    /// From when to when it was not final: a read that lags shows it so for a while longer.
    was_open: BTreeMap<IntentId, (DateTime<Utc>, DateTime<Utc>)>,
    declined: BTreeMap<IntentId, DateTime<Utc>>,
    next: u32,
}

impl Wires {
    pub fn put(&mut self, due_ms: u64, wire: Wire) -> u32 {
        self.next += 1;
        self.on_the_way.insert((due_ms, self.next), wire);
        self.next
    }

    pub fn take_reply(&mut self, number: u32) -> Option<Reply> {
        self.replies.remove(&number)
    }

    pub fn on_the_way(&self) -> impl Iterator<Item = &Wire> {
        self.on_the_way.values()
    }

    pub fn is_open(&self, intent: IntentId) -> bool {
        self.open.contains_key(&intent)
    }

    /// Nothing will happen any more.
    pub fn are_still(&self) -> bool {
        self.on_the_way.is_empty() && self.open.is_empty()
    }
}

impl World {
    /// Lets one provider do all that it has to do until now.
    pub fn run_bank(&mut self, place: usize) {
        let (ms, now) = (self.ms(), self.bank_now());
        loop {
            let counter = self.counter(place);
            counter.close_open(now);
            let Some((key, _)) = counter.wires.on_the_way.first_key_value() else {
                return;
            };
            let (due, number) = *key;
            if due > ms {
                return;
            }
            let wire = counter.wires.on_the_way.remove(&(due, number)).unwrap();
            let at = now - TimeDelta::milliseconds(i64::try_from(ms - due).unwrap());
            counter.close_open(at);
            let key = (wire.request.intent, wire.request.generation);
            let known = counter.bank.keys.contains_key(&key);
            let reply = counter.execute(&wire, at);
            counter.wires.replies.insert(number, reply);
            if known {
                self.path(Path::KeyRepeated);
            }
            let intent = short(wire.request.intent);
            self.say(|| format!("bank {place}: executes {intent} of {at}: {reply:?}"));
        }
    }
}

impl Counter {
    /// What was accepted becomes final.
    fn close_open(&mut self, now: DateTime<Utc>) {
        let due: Vec<IntentId> = self
            .wires
            .open
            .iter()
            .filter(|(_, open)| open.final_at <= now)
            .map(|(intent, _)| *intent)
            .collect();
        for intent in due {
            let open = self.wires.open.remove(&intent).unwrap();
            self.wires.was_open.insert(intent, (open.since, open.final_at));
            let key = (open.request.intent, open.request.generation);
            self.bank.keys.remove(&key);
            let answer = if open.declines {
                Answer::Refused
            } else {
                self.bank.execute(&open.request, open.final_at)
            };
            self.remember(key, open.since, answer);
            if answer == Answer::Refused {
                self.wires.declined.insert(intent, open.final_at);
            }
        }
    }

    /// A key is told the same again; where there is none the next request is another one.
    fn remember(&mut self, key: (IntentId, KeyGeneration), first: DateTime<Utc>, answer: Answer) {
        match self.bank.kind {
            Kind::KeyWithWindow | Kind::KeyForEver => {
                self.bank.keys.insert(key, (first, answer));
            }
            Kind::UniqueReference | Kind::Nothing => {}
        }
    }

    fn execute(&mut self, wire: &Wire, at: DateTime<Utc>) -> Reply {
        let request = &wire.request;
        let key = (request.intent, request.generation);
        if self.wires.open.contains_key(&request.intent) {
            return Reply::Accepted;
        }
        let known = self.bank.keys.get(&key).is_some_and(|(first, _)| match self.bank.kind {
            Kind::KeyWithWindow => at - *first < TimeDelta::from_std(self.bank.remembers).unwrap(),
            Kind::KeyForEver => true,
            Kind::UniqueReference | Kind::Nothing => false,
        });
        if known {
            return Reply::Told(self.bank.execute(request, at));
        }
        match wire.mood {
            Mood::Executes => {
                let answer = self.bank.execute(request, at);
                self.wires.declined.remove(&request.intent);
                Reply::Told(answer)
            }
            Mood::Declines => {
                self.remember(key, at, Answer::Refused);
                Reply::Told(Answer::Refused)
            }
            Mood::Accepts {
                final_after_ms,
                declines,
            } => {
                let open = Open {
                    request: request.clone(),
                    since: at,
                    final_at: at + TimeDelta::milliseconds(i64::try_from(final_after_ms).unwrap()),
                    declines,
                };
                self.wires.declined.remove(&request.intent);
                self.wires.open.insert(request.intent, open);
                Reply::Accepted
            }
        }
    }

    /// The answer as an adapter tells it.
    pub fn outcome(&self, request: &Request, intent: &CaptureIntent, reply: Reply, now: DateTime<Utc>) -> Outcome {
        match reply {
            Reply::Told(answer) => self.bank.outcome(request, intent, answer, now),
            Reply::Accepted => Outcome::Accepted {
                capture_id: None,
                evidence: Evidence::default(),
            },
        }
    }

    /// What a read shows, `lag` late.
    pub fn read(
        &self,
        intent: &CaptureIntent,
        first_sent_at: Option<DateTime<Utc>>,
        siblings: &[String],
        lag: Duration,
        now: DateTime<Utc>,
    ) -> Observation {
        let seen = now - TimeDelta::from_std(lag).unwrap();
        let was_open = self.wires.was_open.get(&intent.id);
        if self.wires.open.get(&intent.id).is_some_and(|open| open.since <= seen)
            || was_open.is_some_and(|(since, until)| *since <= seen && seen < *until)
        {
            return Observation::Pending {
                inferred_id: None,
                evidence: Evidence::default(),
            };
        }
        let shown = self.bank.read(intent, first_sent_at, siblings, lag, now);
        let declined = self.wires.declined.get(&intent.id).is_some_and(|at| *at <= seen);
        match shown {
            Observation::NotCaptured { evidence, .. } | Observation::Closed { evidence, .. } if declined => {
                Observation::Declined {
                    proof: Proof::Reference,
                    code: Code::new("declined"),
                    evidence,
                }
            }
            // As the adapter of such a provider has it: ours is what bears our marker.
            Observation::Captured(receipt)
                if receipt.proof == Proof::SoleWriter
                    && self
                        .markers
                        .get(&intent.payment_id)
                        .is_some_and(|marker| *marker != intent.id) =>
            {
                Observation::Contradicts {
                    code: Code::new("marked_by_another"),
                    evidence: receipt.evidence,
                }
            }
            other => other,
        }
    }
}

/// Something that an adapter makes of no answer, or of somebody else's.
pub fn failed(class: Class, code: &str) -> Outcome {
    Outcome::Failed(Failure::new(class, code))
}

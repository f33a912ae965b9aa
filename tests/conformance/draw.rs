//! Draws operations that a state can meet: what workers, producers and operators may do next.

use std::time::Duration;

use capture::clock::Boottime;
use capture::intent::{CaptureIntent, Currency, Details, IntentId, KeyGeneration, Money};
use capture::outbox::memory::{Cause, End, Tables, Terms, Waiting};
use capture::outbox::{AttemptRecord, Claim, HeldRelease, LaneId, LaneNews, LaneRequest, Settlement};
use capture::outcome::{Evidence, Proof, Receipt};
use capture::progress::Progress;
use capture::retry::{DeadReason, Decision, Disposition, Wait};
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::operation::{Ask, Operation};
use crate::twins;

pub const LEASE: Duration = Duration::from_secs(60);

pub struct Draw {
    pub rng: StdRng,
    ids: u64,
    most_intents: usize,
}

/// What the workers have in their hands.
#[derive(Default)]
pub struct Hands {
    pub claims: Vec<Claim>,
    /// Leases whose claim's answer was lost: nothing of them was sent.
    pub lost: Vec<Uuid>,
    /// What was settled, to be repeated.
    pub settled: Vec<(Vec<Settlement>, Vec<LaneNews>)>,
}

fn one_of<T: Copy>(rng: &mut StdRng, values: &[T]) -> T {
    *values.choose(rng).unwrap()
}

pub fn worker(n: u128) -> Uuid {
    Uuid::from_u128(0xabcd_0000 + n)
}

impl Draw {
    pub fn new(seed: u64) -> Draw {
        let mut rng = StdRng::seed_from_u64(seed);
        Draw {
            most_intents: rng.random_range(2..=4),
            rng,
            ids: 0,
        }
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        // Not in the order of their making.
        Uuid::from_u64_pair(self.rng.random(), self.ids)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub fn time(&mut self, tables: &Tables, now: DateTime<Utc>) -> TimeDelta {
        let due = tables.waiting.values().filter_map(|row| row.due_at);
        let lapses = tables.leases.values().map(|lease| lease.until);
        let next = due.chain(lapses).filter(|at| *at > now).min();
        match self.rng.random_range(0..100) {
            // Just when something may be done, and just after.
            0..25 if next.is_some() => {
                let after = TimeDelta::microseconds(self.rng.random_range(0..2));
                next.map_or(after, |at| at - now + after)
            }
            0..15 => TimeDelta::zero(),
            15..45 => TimeDelta::microseconds(self.rng.random_range(1..3_000_000)),
            45..70 => TimeDelta::seconds(self.rng.random_range(1..10)),
            70..90 => TimeDelta::seconds(61),
            90..97 => TimeDelta::minutes(self.rng.random_range(5..90)),
            _ => TimeDelta::hours(self.rng.random_range(10..30)),
        }
    }

    pub fn operation(&mut self, tables: &Tables, hands: &mut Hands, now: DateTime<Utc>) -> Operation {
        loop {
            // Mostly what does something.
            let idle = self.chance(10);
            let due = |row: &Waiting| row.due_at.is_some_and(|at| at <= now);
            let drawn = match self.rng.random_range(0..100) {
                0..12 if tables.intents.len() < self.most_intents => Some(self.enqueue(tables, now)),
                0..26 => (idle || !tables.ready.is_empty()).then(|| Operation::Claim(self.claim(tables))),
                26..52 => self.settle(hands, now),
                52..56 => self.repeat(hands),
                56..70 => (idle || tables.waiting.values().any(due)).then(|| {
                    Operation::MoveDue(if self.chance(80) {
                        1000
                    } else {
                        limit_without_ties(tables)
                    })
                }),
                70..76 => (idle || tables.leases.values().any(|lease| lease.until < now)).then_some(Operation::Rescue),
                76..78 => self.give_back(hands),
                78..80 => self.release(tables).map(Operation::Release),
                80..83 => {
                    let held = tables.waiting.values().any(|row| row.cause == Cause::Held);
                    (idle || held).then_some(Operation::MatchReleases)
                }
                83..86 => Some(Operation::WatchDeadlines(Duration::from_secs(one_of(
                    &mut self.rng,
                    &[0, 60, 3600],
                )))),
                86..89 => self.any_intent(tables).map(Operation::Cancel),
                89..93 => self.replay(tables),
                93..95 => self
                    .any_intent(tables)
                    .map(|intent| Operation::Resolve(intent, self.chance(50))),
                95..98 => Some(self.lane(tables)),
                _ => self.chance(50).then_some(Operation::ChangeHistory),
            };
            if let Some(operation) = drawn {
                return operation;
            }
        }
    }

    fn any_intent(&mut self, tables: &Tables) -> Option<IntentId> {
        let all: Vec<IntentId> = tables.intents.keys().copied().collect();
        all.choose(&mut self.rng).copied()
    }

    pub fn enqueue(&mut self, tables: &Tables, now: DateTime<Utc>) -> Operation {
        let n = tables.intents.len();
        let payment = one_of(&mut self.rng, &["p1", "p1", "p2"]);
        let amount = self.rng.random_range(1..1000);
        let span = one_of(&mut self.rng, &[1, 30, 60, 200]);
        let capture = CaptureIntent {
            id: IntentId(self.id()),
            lane: twins::lane(usize::from(self.chance(25))),
            order_id: one_of(&mut self.rng, &["o1", "o2"]).to_owned(),
            payment_id: payment.to_owned(),
            capture_ref: format!("c{}", if self.chance(5) { 0 } else { n }),
            amount: Money::new(amount, Currency::from_code("USD").unwrap()),
            authorized_minor: self.chance(30).then(|| amount + self.rng.random_range(0..2000)),
            authorization_expires_at: self
                .chance(40)
                .then(|| now + TimeDelta::hours(span) + TimeDelta::minutes(7)),
            details: Details::default(),
            traceparent: None,
            created_at: now,
        };
        let terms = Terms {
            hold: self.chance(25),
            not_before: self
                .chance(20)
                .then(|| now + TimeDelta::seconds(self.rng.random_range(-5..600))),
            priority: one_of(&mut self.rng, &[0, 0, 5, -5]),
        };
        Operation::Enqueue(Box::new(capture), terms)
    }

    pub fn claim(&mut self, tables: &Tables) -> Ask {
        let mut lanes: Vec<LaneId> = tables.lanes.keys().copied().collect();
        if self.chance(20) {
            lanes.remove(self.rng.random_range(0..lanes.len()));
        }
        Ask {
            lease: self.id(),
            worker: worker(self.rng.random_range(0..2)),
            lease_for: LEASE,
            batch: self.rng.random_range(1..=5),
            // Rows that must be alone are rare; asked for more often when there are some.
            alone: {
                let waits = tables.ready.keys().any(|key| key.alone);
                self.chance(if waits { 70 } else { 3 })
            },
            lanes: lanes
                .into_iter()
                .map(|lane| LaneRequest {
                    lane,
                    free: self.rng.random_range(0..=4).max(self.rng.random_range(0..=1)),
                    sending: self.rng.random_range(0..3),
                    retrying: self.rng.random_range(0..3),
                    verifying: self.rng.random_range(0..3),
                    favour: self.rng.random_range(0..3),
                    send_calls: self.rng.random_range(1..3),
                    read_calls: self.rng.random_range(1..3),
                })
                .collect(),
        }
    }

    fn settle(&mut self, hands: &mut Hands, now: DateTime<Utc>) -> Option<Operation> {
        if hands.claims.is_empty() {
            return None;
        }
        let mut batch = Vec::new();
        for _ in 0..self.rng.random_range(1..=3) {
            if hands.claims.is_empty() {
                break;
            }
            // The newest more often: what lies long loses its lease anyway.
            let last = hands.claims.len() - 1;
            let place = if self.chance(50) {
                last
            } else {
                self.rng.random_range(0..=last)
            };
            let claim = hands.claims.remove(place);
            batch.push(self.settlement(claim, now));
        }
        let news = if self.chance(30) {
            vec![self.news(batch[0].lane())]
        } else {
            Vec::new()
        };
        hands.settled.push((batch.clone(), news.clone()));
        Some(Operation::Settle(batch, news))
    }

    fn repeat(&mut self, hands: &Hands) -> Option<Operation> {
        let (batch, news) = hands.settled.choose(&mut self.rng)?.clone();
        Some(Operation::Settle(batch, news))
    }

    fn news(&mut self, lane: LaneId) -> LaneNews {
        let failures = self.rng.random_range(1..4);
        LaneNews {
            lane,
            answered: self.chance(50),
            unanswered: self.rng.random_range(0..3),
            failures,
            open_ms: one_of(&mut self.rng, &[1000, 5000]),
            open_max_ms: one_of(&mut self.rng, &[4000, 60_000]),
            wait_ms: self.chance(15).then(|| self.rng.random_range(1..5000)),
            pause_reason: self.chance(8).then(|| "credentials".to_owned()),
        }
    }

    pub fn settlement(&mut self, claim: Claim, now: DateTime<Utc>) -> Settlement {
        let evidence = Evidence::new(if self.chance(50) { b"{}".to_vec() } else { Vec::new() });
        let disposition = match self.rng.random_range(0..100) {
            0..30 => Disposition::Captured(Receipt {
                provider_capture_id: format!("cap{}", self.rng.random_range(0..3)),
                amount: claim.intent.amount,
                captured_at: self.chance(50).then_some(now),
                proof: one_of(
                    &mut self.rng,
                    &[
                        Proof::Answer,
                        Proof::Answer,
                        Proof::Reference,
                        Proof::SoleWriter,
                        Proof::Marker,
                    ],
                ),
                authorization_expires_at: None,
                evidence: evidence.clone(),
            }),
            30..48 => Disposition::Retry(Wait::None),
            48..68 => Disposition::Verify(Wait::None),
            68..86 => Disposition::Dead(one_of(&mut self.rng, &DeadReason::ALL), evidence.clone()),
            86..93 => Disposition::Cancelled,
            _ => Disposition::Return,
        };
        let outcome = match &disposition {
            Disposition::Captured(receipt) if receipt.proof == Proof::Answer => "captured",
            Disposition::Captured(_) => "observed",
            Disposition::Retry(_) | Disposition::Verify(_) | Disposition::Dead(..) => {
                one_of(&mut self.rng, &["failed", "failed", "accepted", "observed", "not_sent"])
            }
            Disposition::Cancelled | Disposition::Return => "not_sent",
        };
        let failed = outcome == "failed";
        let progress = self.progress(claim.progress.clone(), now);
        let record = AttemptRecord {
            sent: self.chance(50),
            outcome,
            class: failed.then(|| one_of(&mut self.rng, &["transient", "ambiguous", "rejected", "misconfigured"])),
            code: failed.then(|| one_of(&mut self.rng, &["http_500", "no_answer"]).to_owned()),
            http_status: self.chance(30).then_some(500),
            generation: claim.progress.generation,
            began: Boottime::now(),
            took: Duration::ZERO,
            host: "host".to_owned(),
            evidence,
        };
        let delay = Duration::from_micros(one_of(&mut self.rng, &[0, 1, 999, 1500, 2_000_000, 70_000_000]));
        let before = claim.progress;
        Settlement::with_delay(
            claim.ticket,
            &before,
            Decision::of(disposition, progress),
            record,
            delay,
        )
    }

    /// Anything that the table takes.
    fn progress(&mut self, mut progress: Progress, now: DateTime<Utc>) -> Progress {
        let some = |draw: &mut Draw| draw.chance(50).then_some(now);
        progress.attempts += self.rng.random_range(0..2);
        progress.generation = KeyGeneration(progress.generation.0 + self.rng.random_range(0..2));
        progress.first_sent_at = progress.first_sent_at.or(some(self));
        progress.tainted = progress.first_sent_at.is_some() && self.chance(50);
        progress.accepted = self.chance(10);
        progress.quiet_after = some(self);
        progress.last_quiet_at = some(self);
        progress.quiet_reads = if progress.last_quiet_at.is_some() {
            self.rng.random_range(0..3)
        } else {
            0
        };
        progress.in_progress_since = some(self);
        progress.unknown_since = some(self);
        progress.refusal_class = self.chance(20).then(|| "rejected".to_owned());
        progress.refusal_code = self.chance(20).then(|| "no".to_owned());
        progress.fresh_key = self.chance(20);
        progress.read_first = self.chance(20);
        progress.looks += 1;
        progress.own_faults = self.rng.random_range(0..3);
        progress.lost_leases = self.rng.random_range(0..3);
        progress.last_class = self
            .chance(70)
            .then(|| one_of(&mut self.rng, &["ambiguous", "misconfigured"]).to_owned());
        progress.last_code = self.chance(70).then(|| "http_500".to_owned());
        progress
    }

    /// Only whoever had no answer to its claim gives it back.
    fn give_back(&mut self, hands: &mut Hands) -> Option<Operation> {
        if hands.lost.is_empty() {
            return None;
        }
        let place = self.rng.random_range(0..hands.lost.len());
        Some(Operation::GiveBack(hands.lost.remove(place)))
    }

    fn release(&mut self, tables: &Tables) -> Option<HeldRelease> {
        let intent = self.any_intent(tables)?;
        let capture = &tables.intents.get(&intent)?.capture;
        let by_payment = self.chance(60);
        Some(HeldRelease {
            provider: capture.lane.provider.clone(),
            account: Some(capture.lane.account.clone()),
            payment_id: by_payment.then(|| capture.payment_id.clone()),
            order_id: (!by_payment || self.chance(30)).then(|| capture.order_id.clone()),
            capture_ref: self.chance(30).then(|| capture.capture_ref.clone()),
            shipment_ref: self.chance(50).then(|| one_of(&mut self.rng, &["s1", "s2"]).to_owned()),
            shipping: self
                .chance(40)
                .then(|| ("carrier".to_owned(), "service".to_owned(), "parcel".to_owned())),
        })
    }

    fn replay(&mut self, tables: &Tables) -> Option<Operation> {
        let dead: Vec<_> = tables
            .outcomes
            .iter()
            .filter(|(_, row)| matches!(row.end, End::Dead(_)) || self.chance(10))
            .map(|(intent, row)| (*intent, row.ended_at))
            .collect();
        let (intent, ended_at) = *dead.choose(&mut self.rng)?;
        let stale = self.chance(10);
        let ended_at = if stale {
            ended_at - TimeDelta::seconds(1)
        } else {
            ended_at
        };
        Some(Operation::Replay(intent, ended_at, self.chance(50)))
    }

    fn lane(&mut self, tables: &Tables) -> Operation {
        let n = self.rng.random_range(0..tables.lanes.len());
        let (id, state) = tables.lanes.iter().nth(n).unwrap();
        if self.chance(50) {
            let rate = one_of(&mut self.rng, &[0, 1, 6, 7, 45, 600]);
            return Operation::RegisterLane((*state.lane).clone(), rate);
        }
        // What is paused is resumed soon, or nothing more would happen.
        Operation::Pause(*id, state.paused.is_none() && self.chance(60))
    }
}

/// A limit that leaves nothing to choose: rows of one due time are moved together or not at all.
fn limit_without_ties(tables: &Tables) -> i32 {
    let mut due: Vec<_> = tables.waiting.values().filter_map(|row| row.due_at).collect();
    due.sort_unstable();
    match due.as_slice() {
        [first, second, ..] if first != second => 1,
        _ => 1000,
    }
}

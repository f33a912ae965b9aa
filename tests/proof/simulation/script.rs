//! What will be asked for and what will go wrong, and when: drawn from the seed before a story begins.

use std::time::Duration;

use capture::intent::{CaptureIntent, Currency, Details, IntentId, Lane, Money};
use capture::outbox::LaneId;
use capture::outbox::memory::Terms;
use chrono::TimeDelta;
use rand::Rng;
use rand::seq::SliceRandom;

use super::wire::Wires;
use super::world::{Counter, World};
use crate::bank::{Bank, Kind};

/// How long the worker relies on a key. The bank remembers it a little longer.
pub const WINDOW: Duration = Duration::from_secs(60);
const REMEMBERS: Duration = Duration::from_secs(65);
/// Nothing new is asked for after it (ms).
const ASKING_MS: u64 = 20_000;

/// A capture that somebody will ask for.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub capture: CaptureIntent,
    pub hold: bool,
    pub not_before_ms: Option<u64>,
    pub deadline_ms: Option<u64>,
    /// Its transaction crosses those of its siblings: neither sees the other, so it may ask for too much.
    pub crosses: bool,
}

/// Something that somebody does, or that happens.
#[derive(Debug, Clone)]
pub enum Act {
    Ask(Box<Wanted>),
    Release(Lane, String),
    Cancel(IntentId),
    Crash(usize),
    Drain(usize),
    Freeze(usize, u64),
    DatabaseDown(u64),
    Snapshot,
    FailOver(u64),
    Jump(u64),
    CaptureByHand(usize, String),
    ClosePayment(usize, String),
    Unauthorised(usize, u64),
}

/// A story.
pub struct Script {
    pub workers: usize,
    pub concurrency: u32,
    pub rate_per_minute: u32,
    /// Least time between two quiet reads.
    pub quiet: Duration,
    /// When faults end (ms).
    pub heals_at: u64,
    /// In the order of their times (ms).
    pub acts: Vec<(u64, Act)>,
}

impl World {
    pub fn write_script(&mut self) -> Script {
        self.storm = [0, 60, 100, 200, 300][usize::try_from(self.between(0, 4)).unwrap()];
        let workers = usize::try_from(self.between(1, 3)).unwrap();
        // A worker that is cut off by a fail-over, or by a jump of the database's clock, may act until its lease ends: two
        // quiet reads must be further apart than that. The settings keep to it (10 min, and 2 min).
        let upheavals = self.chance(50);
        let quiet = if upheavals { 14_000 } else { self.between(500, 5_000) };
        let heals_at = self.between(22_000, 34_000);
        let mut acts = Vec::new();
        self.open_counters();
        for place in 0..self.counters.len() {
            self.want(place, &mut acts);
        }
        if self.storm > 0 {
            self.trouble(workers, heals_at, &mut acts);
            if upheavals {
                self.upheave(heals_at, &mut acts);
            }
        }
        acts.sort_by_key(|(at, _)| *at);
        let rate_per_minute = if self.chance(20) { 240 } else { 0 };
        Script {
            workers,
            concurrency: u32::try_from(self.between(1, 4)).unwrap(),
            rate_per_minute,
            quiet: Duration::from_millis(quiet),
            heals_at,
            acts,
        }
    }

    fn open_counters(&mut self) {
        let mut kinds = Kind::ALL;
        kinds.shuffle(&mut self.dice);
        let lanes = usize::try_from(self.between(2, 4)).unwrap();
        for (kind, id) in kinds.into_iter().take(lanes).zip(1..) {
            let (provider, account) = match kind {
                Kind::KeyWithWindow => ("afterpay", "default"),
                Kind::KeyForEver => ("resolve", "order"),
                Kind::UniqueReference => ("optty", "default"),
                Kind::Nothing => ("resolve", "charge"),
            };
            let read_lag = Duration::from_secs(if self.chance(50) { 2 } else { 0 });
            let lane = Lane {
                provider: provider.to_owned(),
                account: account.to_owned(),
            };
            self.tables.register_lane(&lane, 0);
            self.counters.push(Counter {
                lane,
                id: LaneId(id),
                bank: Bank::new(kind, REMEMBERS),
                abilities: kind.abilities(WINDOW, read_lag),
                wires: Wires::default(),
                unauthorised_until: 0,
                markers: std::collections::BTreeMap::new(),
                by_hand: std::collections::BTreeSet::new(),
            });
        }
    }

    /// What is asked for in one lane, and what people do about it.
    fn want(&mut self, place: usize, acts: &mut Vec<(u64, Act)>) {
        for number in 0..self.between(1, 3) {
            let payment = format!("p{place}{number}");
            let captures = self.between(1, 3);
            // What takes one capture takes it as a whole.
            let whole = self.counter(place).bank.kind == Kind::Nothing;
            let room = if whole { 1 } else { captures };
            let authorised = i64::try_from(room * 100).unwrap() - if self.chance(15) { 50 } else { 0 };
            // What the order system believes may be less than what the provider would give.
            let more = if whole || self.chance(50) { 0 } else { 150 };
            self.counter(place).bank.authorise(&payment, authorised + more);
            let together = self.chance(25).then(|| self.between(0, ASKING_MS));
            for capture in 0..captures {
                let at = together.unwrap_or_else(|| self.between(0, ASKING_MS));
                let wanted = self.wanted(place, &payment, capture, authorised, at);
                let lane = wanted.capture.lane.clone();
                if self.storm > 0 && self.dice.random_range(0..300) == 0 {
                    self.killers.insert(wanted.capture.id);
                }
                if wanted.hold && self.chance(80) {
                    let early = self.chance(30);
                    let release_at = if early {
                        self.between(0, at)
                    } else {
                        at + self.between(0, 12_000)
                    };
                    acts.push((release_at, Act::Release(lane, payment.clone())));
                }
                if self.chance(20) {
                    let cancel_at = at + self.between(0, 15_000);
                    acts.push((cancel_at, Act::Cancel(wanted.capture.id)));
                }
                acts.push((at, Act::Ask(Box::new(wanted))));
            }
            if self.storm > 0 && self.chance(8) {
                let at = self.between(0, 25_000);
                acts.push((at, Act::CaptureByHand(place, payment.clone())));
            }
            if self.storm > 0 && self.chance(6) {
                let at = self.between(0, 25_000);
                acts.push((at, Act::ClosePayment(place, payment)));
            }
        }
    }

    fn wanted(&mut self, place: usize, payment: &str, capture: u64, authorised: i64, at: u64) -> Wanted {
        let mut bytes = [0; 16];
        rand::RngCore::fill_bytes(&mut self.dice, &mut bytes);
        let lane = self.counter(place).lane.clone();
        let capture = CaptureIntent {
            id: IntentId(uuid::Builder::from_random_bytes(bytes).into_uuid()),
            lane,
            order_id: format!("o-{payment}"),
            payment_id: payment.to_owned(),
            capture_ref: format!("{payment}-{capture}"),
            amount: Money::new(100, Currency::from_code("USD").unwrap()),
            authorized_minor: self.chance(60).then_some(authorised),
            authorization_expires_at: None,
            details: Details::default(),
            traceparent: None,
            created_at: self.bank_now(),
        };
        Wanted {
            capture,
            hold: self.chance(25),
            not_before_ms: self.chance(15).then(|| at + self.between(500, 10_000)),
            deadline_ms: self.chance(30).then(|| at + self.between(5_000, 60_000)),
            crosses: self.chance(50),
        }
    }

    fn trouble(&mut self, workers: usize, heals_at: u64, acts: &mut Vec<(u64, Act)>) {
        let last = u64::try_from(workers).unwrap() - 1;
        let often = u64::from(self.storm / 100);
        for _ in 0..self.between(0, 1 + often) {
            let (at, who) = (self.between(0, heals_at), self.between(0, last));
            acts.push((at, Act::Crash(usize::try_from(who).unwrap())));
        }
        for _ in 0..self.between(0, 1 + often) {
            let (at, who) = (self.between(0, heals_at), self.between(0, last));
            let long = self.between(500, 16_000);
            acts.push((at, Act::Freeze(usize::try_from(who).unwrap(), long)));
        }
        if self.chance(30) {
            let (at, who) = (self.between(0, heals_at), self.between(0, last));
            acts.push((at, Act::Drain(usize::try_from(who).unwrap())));
        }
        if self.chance(30) {
            let (at, long) = (self.between(0, heals_at), self.between(100, 8_000));
            acts.push((at, Act::DatabaseDown(long)));
        }
        if self.chance(20) {
            let last = u64::try_from(self.counters.len()).unwrap() - 1;
            let (at, place, long) = (
                self.between(0, heals_at - 2_000),
                self.between(0, last),
                self.between(200, 2_000),
            );
            acts.push((at, Act::Unauthorised(usize::try_from(place).unwrap(), long)));
        }
    }

    /// The database's history is cut, or its clock set ahead.
    fn upheave(&mut self, heals_at: u64, acts: &mut Vec<(u64, Act)>) {
        let mut at = self.between(3_000, heals_at);
        for _ in 0..self.between(0, 2) {
            let tail = self.between(0, 3_000);
            acts.push((at - tail, Act::Snapshot));
            acts.push((at, Act::FailOver(self.between(0, 3_000))));
            at += 3_000 + self.between(1, 8_000);
        }
        for _ in 0..self.between(0, 2) {
            let (at, by) = (self.between(0, heals_at), self.between(100, 12_000));
            acts.push((at, Act::Jump(by)));
        }
    }
}

impl Wanted {
    /// As it is inserted, with what follows from the database's clock.
    pub fn at(&self, world: &World) -> (CaptureIntent, Terms) {
        let after = |ms: u64| {
            world.bank_now() + TimeDelta::milliseconds(i64::try_from(ms).unwrap() - i64::try_from(world.ms()).unwrap())
        };
        let mut capture = self.capture.clone();
        capture.created_at = world.now();
        capture.authorization_expires_at = self.deadline_ms.map(after);
        let terms = Terms {
            hold: self.hold,
            not_before: self.not_before_ms.map(|ms| after(ms) + world.ahead),
            priority: 0,
        };
        (capture, terms)
    }
}

//! The simulated world: one outbox, some providers, a clock, dice, and what is to be said about it all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use capture::intent::{IntentId, Lane};
use capture::outbox::LaneId;
use capture::outbox::memory::Tables;
use capture::provider::Abilities;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use uuid::Uuid;

use super::tally::{Fault, Path, Tally};
use super::wire::Wires;
use crate::bank::Bank;

/// How far the provider's clock and the database's may be apart: the adapters allow for that much, and no story has more.
pub const SKEW: Duration = Duration::from_secs(30);

/// A lane, and the provider behind it.
pub struct Counter {
    pub lane: Lane,
    pub id: LaneId,
    pub bank: Bank,
    pub abilities: Abilities,
    pub wires: Wires,
    /// Our credentials are wrong until then (ms).
    pub unauthorised_until: u64,
    /// Whose marker is on a payment, where captures are told by one.
    pub markers: BTreeMap<String, IntentId>,
    /// Payments on which somebody captured by hand.
    pub by_hand: BTreeSet<String>,
}

/// A claim whose commit took effect: by its worker and intent, the last one.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    pub lease: Uuid,
    pub fence: i32,
    /// What the world's upheavals stood at then.
    pub upheavals: u32,
}

pub struct World {
    pub dice: StdRng,
    origin: tokio::time::Instant,
    /// By how much the database's clock was set ahead.
    pub ahead: TimeDelta,
    pub tables: Tables,
    pub counters: Vec<Counter>,
    /// Faults are over.
    pub healed: bool,
    /// How often faults are, in percent of the usual.
    pub storm: u32,
    pub database_down_until: u64,
    /// Fail-overs and jumps of the database's clock: what was leased before one may not be leased any more.
    pub upheavals: u32,
    /// When the last one was (ms).
    pub upheaved_at: Option<u64>,
    pub opened: BTreeMap<(Uuid, IntentId), Opened>,
    /// Workers that sleep, and what wakes them.
    pub sleepers: BTreeSet<Uuid>,
    pub inserted: Arc<Notify>,
    /// Intents whose replay, or release, a fail-over undid.
    pub acts_lost: BTreeSet<IntentId>,
    pub replayed: BTreeMap<IntentId, u32>,
    /// Whoever calls the provider for one of these dies.
    pub killers: BTreeSet<IntentId>,
    pub tally: Tally,
    pub breaches: Vec<String>,
    pub ended_at_ms: u64,
    trace: Option<String>,
}

/// The world as everybody in it holds it. One thread; the lock is only for the types.
pub type Shared = Arc<Mutex<World>>;

pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

impl World {
    /// Within a paused runtime.
    pub fn new(seed: u64, traced: bool) -> World {
        World {
            // Not the dice of the workers' jitter: else a fault and a jitter would be one and the same draw.
            dice: StdRng::seed_from_u64(seed ^ 0x5eed_0fa5_7012_11e5),
            origin: tokio::time::Instant::now(),
            ahead: TimeDelta::zero(),
            tables: Tables::new(),
            counters: Vec::new(),
            healed: false,
            storm: 100,
            database_down_until: 0,
            upheavals: 0,
            upheaved_at: None,
            opened: BTreeMap::new(),
            sleepers: BTreeSet::new(),
            inserted: Arc::new(Notify::new()),
            acts_lost: BTreeSet::new(),
            replayed: BTreeMap::new(),
            killers: BTreeSet::new(),
            tally: Tally::default(),
            breaches: Vec::new(),
            ended_at_ms: 0,
            trace: traced.then(String::new),
        }
    }

    /// Milliseconds since the story began.
    pub fn ms(&self) -> u64 {
        let spent = tokio::time::Instant::now().saturating_duration_since(self.origin);
        u64::try_from(spent.as_millis()).unwrap()
    }

    /// The providers' time.
    pub fn bank_now(&self) -> DateTime<Utc> {
        World::bank_at(self.ms())
    }

    pub fn bank_at(ms: u64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600, 0).unwrap() + TimeDelta::milliseconds(i64::try_from(ms).unwrap())
    }

    /// The database's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.bank_now() + self.ahead
    }

    pub fn database_is_down(&self) -> bool {
        self.ms() < self.database_down_until
    }

    pub fn counter(&mut self, place: usize) -> &mut Counter {
        &mut self.counters[place]
    }

    /// Where a lane is.
    pub fn place_of(&self, lane: &Lane) -> usize {
        self.counters.iter().position(|counter| counter.lane == *lane).unwrap()
    }

    /// So many times of a thousand, more in a storm, never once all has healed.
    pub fn strikes(&mut self, per_mille: u32) -> bool {
        !self.healed && self.dice.random_range(0..100_000) < per_mille * self.storm
    }

    /// So many times of a hundred.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.dice.random_range(0..100) < percent
    }

    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        self.dice.random_range(least..=most)
    }

    pub fn fault(&mut self, fault: Fault, who: &str) {
        self.tally.fault(fault);
        self.say(|| format!("{who}: FAULT {fault:?}"));
    }

    pub fn path(&mut self, path: Path) {
        self.tally.path(path);
    }

    /// One line of the trace, if there is one.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        let Some(mut trace) = self.trace.take() else { return };
        let ms = self.ms();
        {
            use std::fmt::Write;
            let _ = writeln!(trace, "{:>4}.{:03} {}", ms / 1000, ms % 1000, line());
        }
        self.trace = Some(trace);
    }

    /// Something that must never be.
    pub fn breach(&mut self, what: String) {
        if !self.breaches.contains(&what) {
            self.say(|| format!("BREACH {what}"));
            self.breaches.push(what);
        }
    }

    pub fn take_trace(&mut self) -> String {
        self.trace.take().unwrap_or_default()
    }
}

/// The last four digits of an id: enough to tell them apart in a trace.
pub fn short(id: impl ToString) -> String {
    let text = id.to_string();
    text[text.len() - 4..].to_owned()
}

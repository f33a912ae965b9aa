//! Upkeep: what every worker does every now and then for everybody. Each step takes a bounded number of rows, skips what
//! another worker is at, and is safe to do twice.
//!
//! One statement a second looks what there is to do at all, and only that is done. Workers share the looking: each of three
//! looks every three seconds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Settings;
use super::slots::Slots;
use crate::outbox::{LaneId, OutboxError, Store};

/// Between two looks for chores: releases and lapsed leases wait at most about this long where one worker runs. Several
/// share the looking.
const LOOK: Duration = Duration::from_secs(1);
/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(5);
/// Between two looks at deadlines, where one worker runs.
const WATCH: Duration = Duration::from_secs(15);
/// Between two rows that are claimed alone, where nobody else is idle: each has all calls of this worker end first.
const ALONE: Duration = Duration::from_secs(5);
/// Looks are at most so many times rarer, however many workers there are.
const SHARED: u32 = 5;
/// Rows (or leases) per step and round.
const ROWS: i32 = 200;
/// Captures looked at per step for an end that nobody told: a walk over all that have not ended, a hundred thousand of them
/// in four minutes.
const WALKED: i32 = 2000;
/// Shipments come in by the thousand when a warehouse closes its day: so often in a round while there are more.
const MORE: u32 = 10;
/// After this long a shipment that has released nothing is told: its order may come late, but not later than a till's.
const UNMATCHED_AFTER: Duration = Duration::from_secs(3600);
/// How long the bytes of a request are kept, for support: 30 days.
const BODIES_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) struct Upkeep {
    pub(super) outbox: Arc<dyn Store>,
    pub(super) settings: Arc<Settings>,
    pub(super) worker: Uuid,
    pub(super) lanes: Vec<LaneId>,
    pub(super) slots: Arc<Slots>,
    pub(super) operations_are_due: Arc<Notify>,
}

/// What a step that failed is called, and why it did.
type Faults = Vec<(&'static str, OutboxError)>;

/// When what is done next, and what is remembered from round to round.
struct Rounds {
    look_at: Instant,
    beat_at: Instant,
    watch_at: Instant,
    alone_at: Instant,
    /// Who shares the looking; this one too.
    workers: u32,
    lifetimes: bool,
    walked: Option<Uuid>,
}

impl Upkeep {
    pub(super) async fn keep_up(self, shutdown: CancellationToken) {
        let now = Instant::now();
        let mut rounds = Rounds {
            look_at: now,
            beat_at: now,
            watch_at: now,
            alone_at: now,
            workers: 1,
            lifetimes: true,
            walked: None,
        };
        let mut quiet = true;
        loop {
            let faults = self.one_round(&mut rounds).await;
            // Said once, not every second.
            if quiet {
                for (step, error) in &faults {
                    tracing::warn!(step, error = %error, "upkeep fails; trying again every second");
                }
            }
            quiet = faults.is_empty();
            let next = match quiet {
                true => rounds.look_at.min(rounds.beat_at).min(rounds.watch_at),
                false => Instant::now() + LOOK,
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// What is due of it. The steps do not depend on each other: one that fails, for whatever reason and for however long,
    /// keeps no other from being done, and is due again.
    async fn one_round(&self, rounds: &mut Rounds) -> Faults {
        let mut faults = Vec::new();
        let now = Instant::now();
        if rounds.beat_at <= now {
            let listen = self.settings.listen.as_deref();
            let lease = self.settings.lease;
            let beat = self.outbox.heartbeat(self.worker, listen, &self.lanes, lease).await;
            if note(&mut faults, "heartbeat", beat).is_some() {
                rounds.beat_at = now + BEAT;
            }
        }
        if rounds.look_at <= now {
            let before = faults.len();
            self.look(rounds, &mut faults).await;
            if faults.len() == before {
                rounds.look_at = now + self.share(LOOK, rounds.workers);
            }
        }
        if rounds.watch_at <= now {
            let before = faults.len();
            self.watch(rounds, &mut faults).await;
            if faults.len() == before {
                rounds.watch_at = now + self.share(WATCH, rounds.workers);
            }
        }
        faults
    }

    /// So many workers look in turns, each as much more seldom. A little more or less by worker, so that those that were
    /// started together do not go on looking together.
    fn share(&self, every: Duration, workers: u32) -> Duration {
        let workers = workers.clamp(1, SHARED);
        let own = u32::from(self.worker.as_bytes()[0]);
        match workers {
            1 => every,
            _ => every * workers - every / 4 + every / 2 * own / 255,
        }
    }

    /// Looks what there is to do now, and does it.
    async fn look(&self, rounds: &mut Rounds, faults: &mut Faults) {
        let outbox = self.outbox.as_ref();
        let Some(chores) = note(faults, "look for chores", outbox.chores(&self.lanes).await) else {
            return;
        };
        rounds.workers = chores.workers;
        rounds.lifetimes = chores.lifetimes;
        let now = Instant::now();
        if rounds.alone_at <= now {
            self.slots.set_alone_waiting(chores.alone);
            rounds.alone_at = now + ALONE;
        }
        if chores.operations {
            self.operations_are_due.notify_one();
        }
        if chores.releases {
            for _ in 0..MORE {
                let taken = note(faults, "take shipments", outbox.take_shipments(ROWS).await);
                let freed = note(faults, "match releases", outbox.match_releases(ROWS).await);
                if let Some(freed) = freed.filter(|freed| *freed > 0) {
                    tracing::info!(freed, "held captures were released");
                }
                if taken != Some(ROWS) && freed.is_none_or(|freed| freed < ROWS / 2) {
                    break;
                }
            }
        }
        if chores.lapsed {
            let rescued = note(faults, "rescue", outbox.rescue(ROWS).await);
            if let Some(rescued) = rescued.filter(|rescued| *rescued > 0) {
                crate::metrics::rescued(u64::try_from(rescued).unwrap_or(0));
                tracing::warn!(
                    rescued,
                    "leases lapsed: their outcomes are unknown and will be verified"
                );
            }
        }
        if chores.waiters {
            note(faults, "sweep waiters", outbox.sweep_waiters().await);
        }
    }

    /// Watches ends of authorisations, and shipments that released nothing.
    async fn watch(&self, rounds: &mut Rounds, faults: &mut Faults) {
        let outbox = self.outbox.as_ref();
        if rounds.lifetimes || rounds.walked.is_some() {
            let assumed = outbox.assume_deadlines(rounds.walked, WALKED).await;
            rounds.walked = note(faults, "assume deadlines", assumed).flatten();
        }
        let watched = outbox.watch_deadlines(self.settings.policy.deadline_margin, ROWS).await;
        note(faults, "watch deadlines", watched);
        let unmatched = outbox.watch_shipments(UNMATCHED_AFTER, BODIES_KEPT, ROWS).await;
        if let Some(unmatched) = note(faults, "watch shipments", unmatched).filter(|told| *told > 0) {
            tracing::warn!(
                unmatched,
                "goods left, and no capture of theirs is held: capture shipment list --unmatched"
            );
        }
    }
}

fn note<T>(faults: &mut Faults, step: &'static str, done: Result<T, OutboxError>) -> Option<T> {
    done.map_err(|error| faults.push((step, error))).ok()
}

//! What is due, what lapsed, what is given back: see the end of `migrations/0003_claim.sql`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::super::{Moved, Purpose};
use super::{Attempt, Cause, Lease, Ready, SlotRow, Tables, Told, Waiting, urgency_of};
use crate::intent::IntentId;

impl Tables {
    /// Moves what is due from `waiting` to `ready`, at most so many.
    pub fn move_due(&mut self, now: DateTime<Utc>, limit: usize) -> Moved {
        let mut due: Vec<(DateTime<Utc>, IntentId)> = self
            .waiting
            .iter()
            .filter_map(|(intent, row)| Some((row.due_at.filter(|at| *at <= now)?, *intent)))
            .collect();
        due.sort_unstable();
        due.truncate(limit);
        for (_, intent) in &due {
            let Some(row) = self.waiting.remove(intent) else {
                continue;
            };
            let expires_at = self.deadlines.get(intent).map(|deadline| deadline.expires_at);
            let urgency = urgency_of(row.urgency, expires_at, now);
            let ready = Ready {
                intent: *intent,
                fence: row.fence,
                epoch: row.epoch,
                since: now,
            };
            self.put_ready(row.lane, row.purpose, self.alone(*intent), urgency, ready);
        }
        let next = self.waiting.values().filter_map(|row| row.due_at).min();
        Moved {
            moved: i32::try_from(due.len()).unwrap_or(i32::MAX),
            // Half a millisecond counts as a whole one.
            next_due: next.map(|at| {
                let micros = (at - now).num_microseconds().unwrap_or(i64::MAX).max(0);
                Duration::from_millis(u64::try_from(micros.saturating_add(500) / 1000).unwrap_or(0))
            }),
            any_ready: !self.ready.is_empty(),
        }
    }

    /// Is there a lease for [`Tables::rescue`]?
    pub fn any_lapsed(&mut self, now: DateTime<Utc>) -> bool {
        let epoch = self.begin_epoch(now);
        self.leases
            .values()
            .any(|lease| lease.until < now || lease.epoch != epoch)
    }

    /// Leases that lapsed, or were given in another history: their unsettled attempts become verifications, never runs.
    /// Returns how many.
    pub fn rescue(&mut self, now: DateTime<Utc>, limit: usize) -> i32 {
        let epoch = self.begin_epoch(now);
        let mut lapsed: Vec<(DateTime<Utc>, Uuid)> = Vec::new();
        let mut void: Vec<(DateTime<Utc>, Uuid)> = Vec::new();
        for (id, lease) in &self.leases {
            if lease.until < now {
                lapsed.push((lease.until, *id));
            } else if lease.epoch != epoch {
                void.push((lease.until, *id));
            }
        }
        lapsed.sort_unstable();
        lapsed.truncate(limit);
        void.truncate(limit);
        let mut rescued = 0;
        for (_, id) in lapsed.into_iter().chain(void) {
            let Some(lease) = self.leases.remove(&id) else { continue };
            for slot in lease.open() {
                self.lose(now, id, &lease, slot);
                rescued += 1;
            }
        }
        rescued
    }

    fn lose(&mut self, now: DateTime<Utc>, id: Uuid, lease: &Lease, slot: &SlotRow) {
        let Some(intent) = self.intents.get(&slot.intent) else {
            return;
        };
        let row = Waiting {
            lane: slot.lane,
            purpose: Purpose::Verify,
            urgency: self.urgency(intent, now),
            fence: slot.fence,
            // What nobody has settled since its history was lost goes on being of that history.
            epoch: slot.epoch.min(lease.epoch),
            cause: Cause::Verify,
            due_at: Some(now),
            since: now,
        };
        self.put_waiting(slot.intent, row);
        let attempt = Attempt {
            lease: id,
            worker: lease.worker,
            purpose: slot.purpose,
            generation: slot.generation,
            sent: None,
            outcome: "lost",
            class: Some("ambiguous"),
            code: Some("lease_lost".into()),
            http_status: None,
            ended_at: now,
            evidence: None,
        };
        self.attempts.insert((slot.intent, slot.fence), Arc::new(attempt));
        let known = self.progress.contains_key(&slot.intent);
        let row = self.progress_mut(slot.intent);
        row.replayed = false;
        let progress = &mut row.progress;
        if !known {
            progress.generation = slot.generation;
        }
        // A verification may have sent again: what was quiet before it counts no more.
        progress.may_be_in_flight(lease.claimed_at, lease.until.max(now));
        progress.becomes_unknown(now);
        progress.lost_leases += 1;
        progress.last_class = Some("ambiguous".to_owned());
        progress.last_code = Some("lease_lost".to_owned());
        let told = Told::OutcomeUnknown {
            fence: slot.fence,
            class: Some("ambiguous".into()),
            code: Some("lease_lost".into()),
        };
        self.tell(slot.intent, now, told);
    }

    /// The answer of a claim was lost on its way to the worker, which therefore sent nothing: its intents go back to where
    /// they came from. Returns how many.
    pub fn give_back(&mut self, now: DateTime<Utc>, lease: Uuid) -> i32 {
        if self
            .leases
            .get(&lease)
            .is_none_or(|lease| lease.slots.iter().any(|slot| slot.settled))
        {
            return 0;
        }
        let Some(lease) = self.leases.remove(&lease) else {
            return 0;
        };
        for slot in &lease.slots {
            let Some(intent) = self.intents.get(&slot.intent) else {
                continue;
            };
            let urgency = self.urgency(intent, now);
            let ready = Ready {
                intent: slot.intent,
                fence: slot.fence,
                epoch: slot.epoch,
                since: now,
            };
            self.put_ready(slot.lane, slot.purpose, self.alone(slot.intent), urgency, ready);
        }
        i32::try_from(lease.slots.len()).unwrap_or(i32::MAX)
    }
}

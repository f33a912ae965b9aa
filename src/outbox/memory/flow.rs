//! What moves intents besides claim and settle: see `migrations/0002_outbox.sql` (the insert) and `0005_flow.sql`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::super::settle::ms;
use super::super::{HeldRelease, LaneId, Purpose};
use super::claim::divided;
use super::{Cause, Deadline, End, IntentRow, LaneState, OutcomeRow, Ready, ReleaseRow, Tables, Told, Waiting, Wish};
use crate::intent::{CaptureIntent, IntentId, Lane, Shipping};
use crate::retry::DeadReason;

/// The longest lease that a worker may be set to (`worker.lease`).
const LEASE_LONGEST: Duration = Duration::from_secs(3600);

/// What is asked for, beside the capture itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Wait for a release.
    pub hold: bool,
    /// Not before.
    pub not_before: Option<DateTime<Utc>>,
    /// Smaller goes first.
    pub priority: i16,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enqueued {
    /// It is on its way.
    Created,
    /// Refused under this name of the catalogue: `intents_capture_ref_unique` or `intents_within_authorized`.
    Refused(&'static str),
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cancelled {
    /// Taken back.
    Cancelled,
    /// Applied when the call in flight has ended.
    InFlight,
    /// It had ended.
    Ended,
    /// No such intent.
    NotFound,
}

impl Tables {
    /// Makes sure that a lane exists, and writes its rate limit.
    pub fn register_lane(&mut self, lane: &Lane, rate_per_minute: u32) -> LaneId {
        let id = self.lane(lane);
        if let Some(state) = self.lanes.get_mut(&id) {
            state.rate_per_minute = i32::try_from(rate_per_minute).unwrap_or(i32::MAX);
        }
        id
    }

    fn lane(&mut self, lane: &Lane) -> LaneId {
        if let Some((id, _)) = self.lanes.iter().find(|(_, state)| *state.lane == *lane) {
            return *id;
        }
        let id = LaneId(self.lanes.keys().last().map_or(1, |last| last.0 + 1));
        let state = LaneState {
            lane: Arc::new(lane.clone()),
            paused: None,
            rate_per_minute: 0,
            budget_spent_until: None,
            limited_until: None,
            unanswered: 0,
            open_until: None,
            open_ms: 0,
            testing: false,
        };
        self.lanes.insert(id, state);
        id
    }

    /// A producer's INSERT.
    pub fn enqueue(&mut self, now: DateTime<Utc>, capture: CaptureIntent, terms: Terms) -> Enqueued {
        let same = |row: &IntentRow| {
            let other = &row.capture;
            other.lane == capture.lane
                && other.payment_id == capture.payment_id
                && other.capture_ref == capture.capture_ref
        };
        if self.intents.contains_key(&capture.id) || self.intents.values().any(|row| same(row)) {
            return Enqueued::Refused("intents_capture_ref_unique");
        }
        let before = self.lanes.len();
        let row = IntentRow {
            lane: self.lane(&capture.lane),
            hold: terms.hold,
            not_before: terms.not_before,
            priority: terms.priority,
            capture,
        };
        if self.asks_too_much(&row) {
            if self.lanes.len() > before {
                self.lanes.remove(&row.lane);
            }
            return Enqueued::Refused("intents_within_authorized");
        }
        let (id, urgency) = (row.capture.id, self.urgency(&row, now));
        let not_before = row.not_before.filter(|at| *at > now);
        if row.hold || not_before.is_some() {
            let waiting = Waiting {
                lane: row.lane,
                purpose: Purpose::Send,
                urgency,
                fence: 0,
                epoch: self.epoch.number,
                cause: if row.hold { Cause::Held } else { Cause::Scheduled },
                due_at: not_before.filter(|_| !row.hold),
                since: now,
            };
            self.put_waiting(id, waiting);
        } else {
            let ready = Ready {
                intent: id,
                fence: 0,
                epoch: self.epoch.number,
                since: now,
            };
            self.put_ready(row.lane, Purpose::Send, false, urgency, ready);
        }
        self.watch(&row);
        self.tell(id, now, if row.hold { Told::Held } else { Told::Enqueued });
        self.intents.insert(id, Arc::new(row));
        Enqueued::Created
    }

    /// Siblings that ended without money leave room; one left to a person keeps its amount reserved.
    fn asks_too_much(&self, row: &IntentRow) -> bool {
        let mut asked = row.capture.amount.minor;
        let mut authorized = None;
        for sibling in self
            .siblings(row)
            .filter(|sibling| sibling.capture.amount.currency == row.capture.amount.currency)
        {
            let newest = (sibling.capture.created_at, sibling.capture.id);
            if let Some(minor) = sibling.capture.authorized_minor
                && authorized.is_none_or(|(before, _)| before < newest)
            {
                authorized = Some((newest, minor));
            }
            asked += match self.outcomes.get(&sibling.capture.id).map(|outcome| &outcome.end) {
                None | Some(End::Captured { .. } | End::Dead(DeadReason::Undecided)) => sibling.capture.amount.minor,
                Some(End::Dead(_) | End::Cancelled) => 0,
            };
        }
        let authorized = row.capture.authorized_minor.or(authorized.map(|(_, minor)| minor));
        authorized.is_some_and(|authorized| asked > authorized)
    }

    pub(super) fn watch(&mut self, row: &IntentRow) {
        if let Some(expires_at) = row.capture.authorization_expires_at {
            let deadline = Deadline { expires_at, warned: 0 };
            self.deadlines.entry(row.capture.id).or_insert(deadline);
        }
    }

    /// Writes a durable release; false if the same shipment is known. `match_releases` applies it.
    pub fn release(&mut self, now: DateTime<Utc>, release: &HeldRelease) -> bool {
        let text = |value: &Option<String>| value.as_deref().map(Arc::from);
        let row = ReleaseRow {
            lane: Arc::new(Lane {
                provider: release.provider.clone(),
                account: release.account.clone().unwrap_or_else(|| "default".to_owned()),
            }),
            payment_id: text(&release.payment_id),
            order_id: text(&release.order_id),
            capture_ref: text(&release.capture_ref),
            shipment_ref: text(&release.shipment_ref),
            shipping: release.shipping.clone().map(|(company, method, tracking_number)| {
                Arc::new(Shipping {
                    company,
                    method,
                    tracking_number,
                })
            }),
            created_at: now,
            next_try_at: now,
            matched: None,
        };
        let named = |row: &ReleaseRow| {
            let names = (row.payment_id.clone(), row.order_id.clone(), row.capture_ref.clone());
            (row.lane.clone(), names, row.shipment_ref.clone())
        };
        if row.shipment_ref.is_some() && self.releases.iter().any(|other| named(other) == named(&row)) {
            return false;
        }
        self.releases.push(row);
        true
    }

    /// Matches releases with held intents, each with the oldest it names; returns how many were freed.
    pub fn match_releases(&mut self, now: DateTime<Utc>, limit: usize) -> i32 {
        let mut open: Vec<usize> = (0..self.releases.len())
            .filter(|at| self.releases[*at].matched.is_none() && self.releases[*at].next_try_at <= now)
            .collect();
        open.sort_by_key(|at| (self.releases[*at].next_try_at, *at));
        // Half of them the latest due, half of them the longest due.
        let mut chosen: Vec<usize> = open.iter().rev().take(limit.div_ceil(2)).copied().collect();
        chosen.extend(open.iter().take(limit / 2));
        chosen.sort_unstable();
        chosen.dedup();
        let mut freed = 0;
        for at in chosen {
            let Some(intent) = self.freed_by(&self.releases[at]) else {
                let release = &mut self.releases[at];
                let age = (now - release.created_at).num_microseconds().unwrap_or(i64::MAX);
                let wait = divided(age, 10).clamp(1_000_000, 600_000_000);
                release.next_try_at = now + TimeDelta::microseconds(wait);
                continue;
            };
            let release = &mut self.releases[at];
            release.matched = Some((intent, now));
            let told = Told::Released {
                shipment_ref: release.shipment_ref.clone(),
            };
            let not_before = self.intents.get(&intent).and_then(|row| row.not_before);
            if let Some(row) = self.waiting.get_mut(&intent) {
                row.cause = Cause::Scheduled;
                row.due_at = Some(not_before.map_or(now, |at| at.max(now)));
                row.since = now;
            }
            self.tell(intent, now, told);
            freed += 1;
        }
        freed
    }

    fn freed_by(&self, release: &ReleaseRow) -> Option<IntentId> {
        let wanted = |name: &Option<Arc<str>>, is: &str| name.as_deref().is_none_or(|name| name == is);
        self.intents
            .values()
            .map(|row| (&row.capture, row.hold))
            .filter(|(capture, hold)| {
                capture.lane == *release.lane
                    && (*hold || release.payment_id.is_some())
                    && wanted(&release.payment_id, &capture.payment_id)
                    && wanted(&release.order_id, &capture.order_id)
                    && wanted(&release.capture_ref, &capture.capture_ref)
            })
            .filter(|(capture, _)| {
                self.waiting
                    .get(&capture.id)
                    .is_some_and(|row| row.cause == Cause::Held)
            })
            .map(|(capture, _)| (capture.created_at, capture.id))
            .min()
            .map(|(_, id)| id)
    }

    pub(super) fn release_of(&self, intent: IntentId) -> Option<&ReleaseRow> {
        self.releases
            .iter()
            .find(|release| release.matched.is_some_and(|(freed, _)| freed == intent))
    }

    /// Tells of authorisations that end within 48 h and 24 h, and makes what is over due at once. Returns of how many.
    pub fn watch_deadlines(&mut self, now: DateTime<Utc>, margin: Duration, limit: usize) -> i32 {
        let margin = TimeDelta::milliseconds(ms(margin));
        let level = |at: DateTime<Utc>| match at {
            at if at <= now + margin => 3,
            at if at <= now + TimeDelta::hours(24) => 2,
            _ => 1,
        };
        let mut near: Vec<(DateTime<Utc>, IntentId)> = self
            .deadlines
            .iter()
            .filter(|(_, row)| row.expires_at <= now + TimeDelta::hours(48) && row.warned < level(row.expires_at))
            .map(|(intent, row)| (row.expires_at, *intent))
            .collect();
        near.sort_unstable();
        near.truncate(limit);
        for (expires_at, intent) in &near {
            let level = level(*expires_at);
            if let Some((key, row)) = self.ready_of(*intent).filter(|_| level >= 2) {
                self.ready.remove(&key);
                let key = super::ReadyKey {
                    urgency: i16::MIN,
                    ..key
                };
                self.ready.insert(key, row);
            }
            if let Some(row) = self.waiting.get_mut(intent)
                && level == 3
                && row.purpose < Purpose::Verify
            {
                row.cause = Cause::Scheduled;
                row.due_at = Some(now);
            }
            if let Some(row) = self.deadlines.get_mut(intent) {
                row.warned = level;
            }
            let told = Told::AuthExpiring {
                expires_at: *expires_at,
                within_hours: match level {
                    1 => 48,
                    2 => 24,
                    _ => 0,
                },
            };
            self.tell(*intent, now, told);
        }
        i32::try_from(near.len()).unwrap_or(i32::MAX)
    }

    /// Takes back what was never sent, or surely not processed, and has not lost a history; else leaves a wish.
    pub fn cancel(&mut self, now: DateTime<Utc>, intent: IntentId, reason: &str) -> Cancelled {
        if !self.intents.contains_key(&intent) {
            return Cancelled::NotFound;
        }
        let waits = self
            .waiting
            .get(&intent)
            .map(|row| (row.purpose, row.epoch, row.lane, row.fence));
        let ready = self
            .ready_of(intent)
            .map(|(key, row)| (key.purpose, row.epoch, key.lane, row.fence));
        let unsent = waits.or(ready).filter(|(purpose, epoch, ..)| {
            let of_this_history = *epoch == self.epoch.number && !self.epoch.unnoticed;
            *purpose < Purpose::Verify && of_this_history && !self.may_be_asked_again(intent, LEASE_LONGEST)
        });
        match unsent {
            // One that is there already ends it as captured at its next claim.
            Some(_) if self.late_receipt(intent).is_some() => {}
            Some((_, _, lane, fence)) => {
                self.waiting.remove(&intent);
                self.ready.retain(|_, row| row.intent != intent);
                let progress = self.progress_of(intent);
                let outcome = OutcomeRow {
                    lane,
                    end: End::Cancelled,
                    fence,
                    attempts: progress.attempts,
                    ended_at: now,
                    last_class: progress.last_class.as_deref().map(Arc::from),
                    last_code: progress.last_code.as_deref().map(Arc::from),
                    evidence: None,
                };
                self.outcomes.insert(intent, Arc::new(outcome));
                self.progress.remove(&intent);
                self.deadlines.remove(&intent);
                self.cancel_requests.remove(&intent);
                self.tell(intent, now, Told::Cancelled);
                return Cancelled::Cancelled;
            }
            None if self.outcomes.contains_key(&intent) => return Cancelled::Ended,
            None => {}
        }
        self.cancel_requests.entry(intent).or_insert_with(|| Wish {
            reason: reason.into(),
            requested_at: now,
        });
        if let Some(row) = self.waiting.get_mut(&intent)
            && row.purpose < Purpose::Verify
            && matches!(row.cause, Cause::Held | Cause::Scheduled)
        {
            row.cause = Cause::Scheduled;
            row.due_at = Some(now);
        }
        Cancelled::InFlight
    }
}

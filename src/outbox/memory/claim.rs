//! Claim: see `migrations/0003_claim.sql`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::super::{Claim, ClaimRequest, Claimed, LaneId, LaneRequest, Purpose, Ticket};
use super::{Cause, End, Lease, Ready, ReadyKey, SlotRow, Tables, Waiting};
use crate::intent::{IntentId, KeyGeneration, Money};
use crate::outcome::{Evidence, Proof, Receipt};
use crate::provider::Siblings;
use crate::retry::DeadReason;

/// So often what is held off is passed over for who stands behind.
const ROUNDS: u32 = 100;

/// What a lane may take in this claim.
struct Asked<'a> {
    request: &'a LaneRequest,
    free: u32,
    budget: Option<Budget>,
}

/// A lane's rate budget: a leaky bucket.
#[derive(Clone, Copy)]
struct Budget {
    /// Microseconds from one call to the next.
    step: i64,
    /// And of the calls that may burst.
    span: i64,
    calls_left: i64,
}

/// A row of `ready` that a lane would take.
struct Seen {
    key: ReadyKey,
    row: Ready,
    cost: u32,
    turn: u32,
    favoured: bool,
    /// In its lane.
    place: u32,
}

impl Tables {
    /// Takes ready rows, and opens their attempts.
    pub fn claim(&mut self, now: DateTime<Utc>, request: &ClaimRequest<'_>) -> Claimed {
        let epoch = self.begin_epoch(now);
        let asked: Vec<Asked<'_>> = request
            .lanes
            .iter()
            .filter_map(|lane| self.ask(now, lane, request))
            .collect();
        let mut slots = Vec::new();
        let mut calls: BTreeMap<LaneId, i64> = BTreeMap::new();
        // Where all that was picked is held off, who stands behind them may go.
        for _ in 0..ROUNDS {
            if !slots.is_empty() {
                break;
            }
            let mut picked: Vec<Seen> = asked.iter().flat_map(|asked| self.rank(asked, request.alone)).collect();
            picked.sort_by_key(|seen| (seen.place, seen.key.lane));
            picked.truncate(usize::try_from(request.batch).unwrap_or(usize::MAX));
            let blocked: Vec<bool> = (0..picked.len()).map(|at| self.blocked(&picked, at)).collect();

            for (seen, blocked) in picked.iter().zip(blocked) {
                self.ready.remove(&seen.key);
                if blocked {
                    self.put_waiting(
                        seen.row.intent,
                        Waiting {
                            lane: seen.key.lane,
                            purpose: seen.key.purpose,
                            urgency: seen.key.urgency,
                            fence: seen.row.fence,
                            epoch: seen.row.epoch,
                            cause: Cause::Sibling,
                            due_at: Some(now + TimeDelta::seconds(5)),
                            since: now,
                        },
                    );
                    continue;
                }
                let progress = self.progress.get(&seen.row.intent);
                slots.push(SlotRow {
                    intent: seen.row.intent,
                    lane: seen.key.lane,
                    fence: seen.row.fence + 1,
                    generation: progress.map_or(KeyGeneration::default(), |row| row.progress.generation),
                    purpose: seen.key.purpose,
                    epoch: seen.row.epoch,
                    settled: false,
                });
                *calls.entry(seen.key.lane).or_default() += i64::from(seen.cost);
            }
        }
        let mut claims = Vec::new();
        for (slot, number) in slots.iter().zip(0..) {
            claims.extend(self.claimed(now, request, epoch, slot, number));
        }
        let until = now + TimeDelta::milliseconds(super::super::settle::ms(request.lease_for));
        for (lane, calls) in calls {
            let budget = asked
                .iter()
                .find(|asked| asked.request.lane == lane)
                .and_then(|asked| asked.budget);
            self.spend(now, until, lane, calls, budget);
        }
        if !slots.is_empty() {
            let lease = Lease {
                worker: request.worker,
                epoch,
                claimed_at: now,
                until,
                slots,
            };
            let before = self.leases.insert(request.lease, lease);
            debug_assert!(before.is_none(), "lease {} was used before", request.lease);
        }
        Claimed {
            claims,
            unreadable: Vec::new(),
        }
    }

    /// May this lane run, has it something to claim, and how much may it take?
    fn ask<'a>(&self, now: DateTime<Utc>, lane: &'a LaneRequest, request: &ClaimRequest<'_>) -> Option<Asked<'a>> {
        let state = self.lanes.get(&lane.lane)?;
        let runs = state.paused.is_none()
            && state.limited_until.is_none_or(|until| until <= now)
            && state.open_until.is_none_or(|until| until <= now);
        if !runs || lane.free == 0 || !self.ready.keys().any(|key| key.lane == lane.lane) {
            return None;
        }
        let most = if state.open_until.is_some() || request.alone {
            1
        } else {
            request.batch
        };
        let burst = i64::from(lane.send_calls.max(lane.read_calls)).max(i64::from(state.rate_per_minute / 10));
        let budget = (state.rate_per_minute > 0).then(|| {
            let step = divided(60_000_000, (i64::from(state.rate_per_minute) - burst).max(1));
            let span = step * burst;
            let floor = now - TimeDelta::microseconds(span);
            let spent = state.budget_spent_until.map_or(floor, |until| until.max(floor));
            let left = (now - spent).num_microseconds().unwrap_or(i64::MAX);
            Budget {
                step,
                span,
                calls_left: left.div_euclid(step).max(0),
            }
        });
        Some(Asked {
            request: lane,
            free: lane.free.min(most),
            budget,
        })
    }

    /// What a lane would take, in its order: slots are shared 2 : 1 : 1, and what a purpose does not use another may.
    fn rank(&self, asked: &Asked<'_>, alone: bool) -> Vec<Seen> {
        let request = asked.request;
        let mut seen: Vec<Seen> = Vec::new();
        for purpose in Purpose::ALL {
            let rows = self
                .ready
                .iter()
                .filter(|(key, _)| key.lane == request.lane && key.purpose == purpose && key.alone == alone);
            for ((key, row), place) in rows.zip(1..=asked.free) {
                let (cost, turn) = match purpose {
                    Purpose::Send => (request.send_calls, request.sending + place),
                    Purpose::Retry => (request.send_calls, 2 * (request.retrying + place)),
                    Purpose::Verify => (request.read_calls, 2 * (request.verifying + place)),
                };
                seen.push(Seen {
                    key: *key,
                    row: *row,
                    cost,
                    turn,
                    favoured: place == 1 && purpose.number() == request.favour,
                    place: 0,
                });
            }
        }
        seen.sort_by_key(|seen| {
            (
                !seen.favoured,
                seen.turn,
                seen.key.purpose,
                seen.key.urgency,
                seen.key.seq,
            )
        });
        let mut calls = 0;
        for (seen, place) in seen.iter_mut().zip(1..) {
            seen.place = place;
            calls += i64::from(seen.cost);
            if asked.budget.is_some_and(|budget| calls > budget.calls_left) {
                seen.place = u32::MAX;
            }
        }
        seen.retain(|seen| seen.place <= asked.free);
        seen
    }

    /// One money movement at a time per authorisation: does a sibling hold it, or go first in this very batch?
    fn blocked(&self, picked: &[Seen], at: usize) -> bool {
        let me = &picked[at];
        let replayed = |seen: &Seen| seen.key.purpose == Purpose::Verify && self.replayed(seen.row.intent);
        let returning = replayed(me);
        if me.key.purpose == Purpose::Verify && !returning {
            return false;
        }
        let Some(intent) = self.intents.get(&me.row.intent) else {
            return false;
        };
        let order = |seen: &Seen, at: usize| (std::cmp::Reverse(seen.key.purpose), replayed(seen), at);
        self.siblings(intent).any(|sibling| {
            let id = sibling.capture.id;
            let first = picked
                .iter()
                .enumerate()
                .any(|(place, seen)| seen.row.intent == id && order(seen, place) < order(me, at));
            first || self.holds(id, returning)
        })
    }

    /// Does this sibling hold the payment? It does in a lease, or while its outcome is unknown; not if it comes back from a
    /// dead letter as we do, and is in nobody's hands yet.
    fn holds(&self, sibling: crate::intent::IntentId, returning: bool) -> bool {
        if self.outcomes.contains_key(&sibling) {
            return false;
        }
        let ready = self.ready_of(sibling).map(|(key, _)| key.purpose);
        let waiting = self.waiting.get(&sibling).map(|row| row.purpose);
        match ready.or(waiting) {
            Some(Purpose::Send | Purpose::Retry) => false,
            Some(Purpose::Verify) => !(returning && self.replayed(sibling)),
            None => true,
        }
    }

    fn replayed(&self, intent: crate::intent::IntentId) -> bool {
        self.progress.get(&intent).is_some_and(|row| row.replayed)
    }

    fn spend(&mut self, now: DateTime<Utc>, until: DateTime<Utc>, lane: LaneId, calls: i64, budget: Option<Budget>) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        if budget.is_none() && state.open_until.is_none() {
            return;
        }
        if let Some(budget) = budget {
            let floor = now - TimeDelta::microseconds(budget.span);
            let from = state.budget_spent_until.map_or(floor, |until| until.max(floor));
            state.budget_spent_until = Some(from + TimeDelta::microseconds(calls * budget.step));
        }
        // The test capture has until the end of its lease to answer; nobody else is let through meanwhile.
        state.testing = state.open_until.is_some();
        state.open_until = state.open_until.map(|_| until);
    }

    /// Was it asked for so soon after a history was lost that it may have been asked for, and sent, in that one too?
    pub(super) fn may_be_asked_again(&self, intent: IntentId, lease_for: Duration) -> bool {
        let span = TimeDelta::milliseconds(super::super::settle::ms(lease_for).saturating_mul(5));
        let doubt = self.epoch.began_at.checked_add_signed(span);
        let created_at = self.intents.get(&intent).map(|row| row.capture.created_at);
        self.epoch.number > 1
            && self
                .progress
                .get(&intent)
                .is_none_or(|row| row.progress.lost_leases > 0)
            && created_at.zip(doubt).is_some_and(|(at, until)| at < until)
    }

    /// What the worker is given of one slot.
    fn claimed(
        &self,
        now: DateTime<Utc>,
        request: &ClaimRequest<'_>,
        epoch: i32,
        slot: &SlotRow,
        number: i32,
    ) -> Option<Claim> {
        let row = self.intents.get(&slot.intent)?;
        let mut intent = row.capture.clone();
        let release = self.release_of(slot.intent);
        if let Some(shipping) = release.and_then(|release| release.shipping.as_deref()) {
            intent.details.shipping = Some(shipping.clone());
        }
        let currency = intent.amount.currency;
        let late_receipt = self
            .late_receipt(slot.intent)
            .and_then(|late| match late.receipt.as_ref()? {
                End::Captured { minor, id, at, proof } => Some(Receipt {
                    provider_capture_id: id.to_string(),
                    amount: Money::new(*minor, currency),
                    captured_at: *at,
                    proof: *proof,
                    authorization_expires_at: None,
                    evidence: Evidence::new(b"{\"late_result\":true}".to_vec()),
                }),
                End::Dead(_) | End::Cancelled => None,
            });
        let mut siblings = Siblings::default();
        let (mut committed_minor, mut open_minor) = (0, 0);
        let mut authorized = None;
        for sibling in self.siblings(row) {
            let newest = (sibling.capture.created_at, sibling.capture.id);
            if let Some(minor) = sibling.capture.authorized_minor
                && authorized.is_none_or(|(before, _)| before < newest)
            {
                authorized = Some((newest, minor));
            }
            match self.outcomes.get(&sibling.capture.id).map(|outcome| &outcome.end) {
                Some(End::Captured { minor, id, proof, .. }) => {
                    committed_minor += minor;
                    siblings.undecided |= *proof == Proof::Person;
                    siblings.capture_ids.push(id.to_string());
                }
                Some(End::Dead(DeadReason::Undecided)) => {
                    committed_minor += sibling.capture.amount.minor;
                    siblings.undecided = true;
                }
                None => open_minor += sibling.capture.amount.minor,
                Some(End::Dead(_) | End::Cancelled) => {}
            }
        }
        Some(Claim {
            ticket: Ticket {
                lease: request.lease,
                worker: request.worker,
                slot: number,
                lane: slot.lane,
                intent: slot.intent,
                fence: slot.fence,
                purpose: slot.purpose,
                provider: intent.lane.provider.clone(),
            },
            progress: self.progress_of(slot.intent),
            now,
            history_changed: slot.epoch != epoch || self.may_be_asked_again(slot.intent, request.lease_for),
            cancel_requested: self.cancel_requests.contains_key(&slot.intent),
            late_receipt,
            authorized_minor: intent.authorized_minor.or(authorized.map(|(_, minor)| minor)),
            committed_minor,
            open_minor,
            siblings,
            unreleased: row.hold && release.is_none(),
            intent,
        })
    }
}

/// The nearest whole number, and the even one of two: as Postgres divides an interval.
pub(super) fn divided(whole: i64, by: i64) -> i64 {
    let (quotient, twice) = (whole.div_euclid(by), 2 * whole.rem_euclid(by));
    match twice.cmp(&by) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + (quotient & 1),
    }
}

//! Settle: see `migrations/0004_settle.sql`.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::super::settle::ms;
use super::super::{LaneNews, Purpose, Settled, Settlement};
use super::{Attempt, Cause, End, LateResult, OutcomeRow, ProgressRow, Ready, Tables, Told, Waiting};
use crate::intent::IntentId;
use crate::outcome::{Evidence, Receipt};
use crate::retry::Disposition;

fn end_of(receipt: &Receipt) -> End {
    End::Captured {
        minor: receipt.amount.minor,
        id: receipt.provider_capture_id.as_str().into(),
        at: receipt.captured_at,
        proof: receipt.proof,
    }
}

fn shared(text: Option<&str>) -> Option<Arc<str>> {
    text.map(Arc::from)
}

/// A recorded result, with what it comes to once the receipts that came late are looked at.
struct Held<'a> {
    settlement: &'a Settlement,
    /// `None`: it goes on.
    end: Option<End>,
    /// Its lease was given in this history, of which commits are lost: unless it ends captured, it is verified.
    void: Option<i32>,
    /// A late receipt took the place of an end without one.
    overruled: bool,
    evidence: Evidence,
}

impl Tables {
    /// Records what calls told, and moves their intents on. One answer per settlement, in order.
    pub fn settle(&mut self, now: DateTime<Utc>, settlements: &[Settlement], lanes: &[LaneNews]) -> Vec<Settled> {
        self.begin_epoch(now);
        let settled: Vec<Settled> = settlements.iter().map(|one| self.judge(one)).collect();
        let with = |wanted: Settled| {
            let pairs = settlements.iter().zip(&settled);
            pairs
                .filter(move |(_, settled)| **settled == wanted)
                .map(|(one, _)| one)
        };
        let late: Vec<&Settlement> = with(Settled::LeaseLost).collect();
        let held: Vec<Held<'_>> = with(Settled::Recorded).map(|one| self.hold(one, &late)).collect();

        // Both look at what was there before any of these moved.
        let siblings: BTreeSet<IntentId> = held
            .iter()
            .filter_map(|held| self.intents.get(&held.settlement.ticket.intent))
            .flat_map(|row| self.siblings(row).map(|sibling| sibling.capture.id).collect::<Vec<_>>())
            .filter(|id| self.waiting.get(id).is_some_and(|row| row.cause == Cause::Sibling))
            .collect();
        let readers = late
            .iter()
            .filter(|one| matches!(one.disposition, Disposition::Captured(_)))
            .map(|one| one.ticket.intent)
            .filter(|id| self.waiting.get(id).is_some_and(|row| row.cause != Cause::Held));
        for id in siblings.into_iter().chain(readers.collect::<Vec<_>>()) {
            if let Some(row) = self.waiting.get_mut(&id) {
                row.due_at = Some(now);
            }
        }

        for held in &held {
            self.close(now, held);
            self.move_on(now, held);
            self.tell_of(now, held);
        }
        for one in late {
            self.keep_late(now, one);
        }
        for news in lanes {
            self.hear(now, news);
        }
        settled
    }

    fn judge(&self, one: &Settlement) -> Settled {
        let ticket = &one.ticket;
        if !self.intents.contains_key(&ticket.intent) {
            return Settled::IntentLost;
        }
        let slot = usize::try_from(ticket.slot)
            .ok()
            .and_then(|slot| self.leases.get(&ticket.lease)?.slots.get(slot));
        let key = (ticket.intent, ticket.fence);
        if slot.is_some_and(|slot| slot.intent == ticket.intent && slot.fence == ticket.fence && !slot.settled) {
            Settled::Recorded
        } else if self
            .attempts
            .get(&key)
            .is_some_and(|attempt| attempt.lease == ticket.lease && attempt.outcome != "lost")
            || self
                .late_results
                .contains_key(&(ticket.intent, ticket.fence, ticket.lease))
        {
            Settled::AlreadyRecorded
        } else {
            Settled::LeaseLost
        }
    }

    /// Whoever ends an intent without a capture has not seen the receipt that came meanwhile: it ends captured.
    fn hold<'a>(&self, one: &'a Settlement, late: &[&Settlement]) -> Held<'a> {
        let intent = one.ticket.intent;
        let end = match &one.disposition {
            Disposition::Captured(receipt) => Some(end_of(receipt)),
            Disposition::Dead(reason, _) => Some(End::Dead(*reason)),
            Disposition::Cancelled => Some(End::Cancelled),
            Disposition::Retry(_) | Disposition::Verify(_) | Disposition::Return => None,
        };
        let given_in = self.leases.get(&one.ticket.lease).map(|lease| lease.epoch);
        let void = given_in.filter(|epoch| *epoch != self.epoch.number);
        let known = self
            .late_receipt(intent)
            .and_then(|late| Some((late.fence, late.receipt.clone()?, late.evidence.clone())));
        let batch = late
            .iter()
            .filter(|late| late.ticket.intent == intent)
            .filter_map(|late| {
                let Disposition::Captured(receipt) = &late.disposition else {
                    return None;
                };
                let receipt = Some(end_of(receipt)).filter(End::is_ours)?;
                Some((late.ticket.fence, receipt, late.evidence().clone()))
            });
        let oldest = batch.chain(known).min_by_key(|(fence, ..)| *fence);
        match (end, oldest) {
            (Some(End::Dead(_) | End::Cancelled), Some((_, receipt, evidence))) => Held {
                settlement: one,
                end: Some(receipt),
                void: None,
                overruled: true,
                evidence,
            },
            (end @ Some(End::Captured { .. }), _) => Held {
                settlement: one,
                end,
                void: None,
                overruled: false,
                evidence: one.evidence().clone(),
            },
            (end @ (Some(End::Dead(_) | End::Cancelled) | None), _) => Held {
                settlement: one,
                end: end.filter(|_| void.is_none()),
                void,
                overruled: false,
                evidence: one.evidence().clone(),
            },
        }
    }

    /// The attempt is on record, and its bit set; a full lease is gone.
    fn close(&mut self, now: DateTime<Utc>, held: &Held<'_>) {
        let (ticket, record) = (&held.settlement.ticket, &held.settlement.attempt);
        let attempt = Attempt {
            lease: ticket.lease,
            worker: ticket.worker,
            purpose: ticket.purpose,
            generation: record.generation,
            sent: Some(record.sent),
            outcome: record.outcome,
            class: record.class,
            code: shared(record.code.as_deref()),
            http_status: record.http_status,
            ended_at: now,
            // What showed a capture stands in its outcome alone.
            evidence: match held.settlement.disposition {
                Disposition::Captured(_) => None,
                Disposition::Retry(_)
                | Disposition::Verify(_)
                | Disposition::Dead(..)
                | Disposition::Cancelled
                | Disposition::Return => Some(held.settlement.evidence().clone()),
            },
        };
        let before = self.attempts.insert((ticket.intent, ticket.fence), Arc::new(attempt));
        debug_assert!(before.is_none(), "{} {} was closed before", ticket.intent, ticket.fence);
        let Some(lease) = self.leases.get_mut(&ticket.lease) else {
            return;
        };
        if let Some(slot) = usize::try_from(ticket.slot)
            .ok()
            .and_then(|slot| lease.slots.get_mut(slot))
        {
            slot.settled = true;
        }
        if lease.open().next().is_none() {
            self.leases.remove(&ticket.lease);
        }
    }

    fn move_on(&mut self, now: DateTime<Utc>, held: &Held<'_>) {
        let (ticket, progress) = (&held.settlement.ticket, &held.settlement.progress);
        let intent = ticket.intent;
        let Some(row) = self.intents.get(&intent) else { return };
        let urgency = self.urgency(row, now);
        if let Some(end) = &held.end {
            let record = &held.settlement.attempt;
            let outcome = OutcomeRow {
                lane: ticket.lane,
                end: end.clone(),
                fence: ticket.fence,
                attempts: progress.attempts,
                ended_at: now,
                last_class: shared(record.class.or(progress.last_class.as_deref())),
                last_code: shared(record.code.as_deref().or(progress.last_code.as_deref())),
                evidence: Some(held.evidence.clone()),
            };
            let before = self.outcomes.insert(intent, Arc::new(outcome));
            debug_assert!(before.is_none(), "{intent} ended twice");
            self.deadlines.remove(&intent);
            self.cancel_requests.remove(&intent);
        }
        let waits = |purpose, cause, due_at| Waiting {
            lane: ticket.lane,
            purpose,
            urgency,
            fence: ticket.fence,
            epoch: held.void.unwrap_or(self.epoch.number),
            cause,
            due_at: Some(due_at),
            since: now,
        };
        let later = now + TimeDelta::milliseconds(ms(held.settlement.delay));
        let keeps = match (&held.settlement.disposition, &held.end) {
            (_, Some(End::Captured { .. } | End::Cancelled)) => false,
            (_, Some(End::Dead(_))) => true,
            (_, None) if held.void.is_some() => {
                self.put_waiting(intent, waits(Purpose::Verify, Cause::Verify, now));
                true
            }
            (Disposition::Retry(_), None) => {
                // A wish to cancel makes what would wait ready at once: the next claim applies it.
                let wished = self.cancel_requests.contains_key(&intent);
                let row = waits(Purpose::Retry, Cause::Backoff, if wished { now } else { later });
                self.put_waiting(intent, row);
                true
            }
            (Disposition::Verify(_), None) => {
                let row = waits(Purpose::Verify, Cause::Verify, later);
                self.put_waiting(intent, row);
                true
            }
            (Disposition::Return | Disposition::Captured(_) | Disposition::Dead(..) | Disposition::Cancelled, None) => {
                let row = Ready {
                    intent,
                    fence: ticket.fence,
                    epoch: self.epoch.number,
                    since: now,
                };
                self.put_ready(ticket.lane, ticket.purpose, false, urgency, row);
                true
            }
        };
        if keeps {
            let mut progress = progress.clone();
            progress.lost_leases = 0;
            let row = ProgressRow {
                progress,
                replayed: false,
            };
            self.progress.insert(intent, Arc::new(row));
        } else {
            self.progress.remove(&intent);
        }
    }

    fn tell_of(&mut self, now: DateTime<Utc>, held: &Held<'_>) {
        let (one, ticket) = (held.settlement, &held.settlement.ticket);
        let (record, progress) = (&one.attempt, &one.progress);
        let attempts = progress.attempts;
        if record.outcome == "failed" {
            let failed = Told::AttemptFailed {
                class: record.class,
                code: shared(record.code.as_deref()),
                fence: ticket.fence,
                attempts,
            };
            self.tell(ticket.intent, now, failed);
        }
        let told = match (&one.disposition, &held.end) {
            (_, Some(receipt @ End::Captured { .. })) => Told::Captured {
                receipt: receipt.clone(),
                attempts,
            },
            (_, Some(End::Dead(reason))) => Told::DeadLettered {
                reason: *reason,
                attempts,
            },
            (_, Some(End::Cancelled)) => Told::Cancelled,
            (Disposition::Retry(_), None) if held.void.is_none() => Told::RetryScheduled {
                in_ms: ms(one.delay),
                attempts,
            },
            (Disposition::Verify(_), None) if one.begins_doubt() => Told::OutcomeUnknown {
                fence: ticket.fence,
                class: shared(progress.last_class.as_deref()),
                code: shared(progress.last_code.as_deref()),
            },
            (
                Disposition::Verify(_)
                | Disposition::Retry(_)
                | Disposition::Return
                | Disposition::Captured(_)
                | Disposition::Dead(..)
                | Disposition::Cancelled,
                None,
            ) => return,
        };
        debug_assert!(!held.overruled || matches!(told, Told::Captured { .. }));
        self.tell(ticket.intent, now, told);
    }

    /// A result that lost its lease is kept, and told; a receipt where none was expected rings an alarm.
    fn keep_late(&mut self, now: DateTime<Utc>, one: &Settlement) {
        let (ticket, record) = (&one.ticket, &one.attempt);
        let receipt = match &one.disposition {
            Disposition::Captured(receipt) => Some(end_of(receipt)),
            Disposition::Retry(_)
            | Disposition::Verify(_)
            | Disposition::Dead(..)
            | Disposition::Cancelled
            | Disposition::Return => None,
        };
        let end = self.outcomes.get(&ticket.intent).map(|outcome| &outcome.end);
        let alarm = match (&receipt, end) {
            (None, _) | (_, None) => None,
            (Some(_), Some(End::Dead(_))) => Some("captured_after_dead"),
            (Some(_), Some(End::Cancelled)) => Some("captured_after_cancelled"),
            (Some(receipt), Some(end @ End::Captured { .. })) => {
                (receipt.capture_id() != end.capture_id()).then_some("second_receipt")
            }
        };
        let told = Told::LateResult {
            fence: ticket.fence,
            outcome: record.outcome,
            state: end.map(End::state),
            alarm,
        };
        self.tell(ticket.intent, now, told);
        let late = LateResult {
            fence: ticket.fence,
            lease: ticket.lease,
            worker: ticket.worker,
            outcome: record.outcome,
            class: record.class,
            code: shared(record.code.as_deref()),
            receipt,
            evidence: one.evidence().clone(),
            recorded_at: now,
        };
        let key = (ticket.intent, ticket.fence, ticket.lease);
        let before = self.late_results.insert(key, Arc::new(late));
        debug_assert!(before.is_none(), "{} {} came late twice", ticket.intent, ticket.fence);
    }

    /// Breaker, rate limit and pause of a lane.
    fn hear(&mut self, now: DateTime<Utc>, news: &LaneNews) {
        let Some(lane) = self.lanes.get_mut(&news.lane) else {
            return;
        };
        let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        let span = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let (unanswered, most) = (number(news.unanswered), span(news.open_max_ms));
        let matters = news.wait_ms.is_some()
            || news.pause_reason.is_some()
            || lane.testing
            || (news.answered && (lane.unanswered != unanswered || lane.open_until.is_some()))
            || (!news.answered && unanswered > 0);
        // An answer on a healthy lane writes nothing.
        if !matters {
            return;
        }
        let trips = if unanswered == 0 {
            None
        } else if lane.testing {
            Some((lane.open_ms.max(span(news.open_ms)) * 2).min(most))
        } else if lane.open_until.is_none() && lane.unanswered + unanswered >= number(news.failures) {
            Some(span(news.open_ms).min(most))
        } else {
            None
        };
        lane.open_until = match trips {
            _ if news.answered => None,
            // A test that ended without a call lets the next one through.
            _ if lane.testing && unanswered == 0 => Some(now),
            Some(open) => Some(now + TimeDelta::milliseconds(open)),
            None => lane.open_until,
        };
        lane.open_ms = if news.answered {
            0
        } else {
            trips.unwrap_or(lane.open_ms)
        };
        lane.unanswered = if news.answered {
            unanswered
        } else {
            lane.unanswered + unanswered
        };
        lane.testing = false;
        if let Some(wait) = news.wait_ms {
            let until = now + TimeDelta::milliseconds(span(wait));
            lane.limited_until = Some(lane.limited_until.map_or(until, |before| before.max(until)));
        }
        if let Some(reason) = &news.pause_reason
            && lane.paused.is_none()
        {
            lane.paused = Some((now, "worker".into(), reason.as_str().into()));
        }
    }
}

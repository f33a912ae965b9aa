//! What people do with dead letters and lanes: see the end of `migrations/0005_flow.sql`.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::super::{AuditStamp, LaneId, Purpose, RESOLVED_NOT_CAPTURED, Replayed, Resolved};
use super::{Act, Cause, End, Tables, Told, Waiting};
use crate::intent::IntentId;
use crate::outcome::Proof;
use crate::retry::DeadReason;

impl Tables {
    /// Sends a dead letter, dead since `ended_at`, back to work: to a verification, never straight to a send.
    pub fn replay(
        &mut self,
        now: DateTime<Utc>,
        intent: IntentId,
        ended_at: DateTime<Utc>,
        fresh_key: bool,
        stamp: &AuditStamp,
    ) -> Replayed {
        let dead = self
            .outcomes
            .get(&intent)
            .filter(|row| matches!(row.end, End::Dead(_)) && row.ended_at == ended_at);
        // What died in an earlier history may have been replayed in the part of it that is lost.
        let of_this_history = ended_at >= self.epoch.began_at;
        let (Some((lane, fence)), Some(row)) = (
            dead.map(|row| (row.lane, row.fence)),
            self.intents.get(&intent).cloned(),
        ) else {
            return Replayed::MovedMeanwhile;
        };
        self.outcomes.remove(&intent);
        let waiting = Waiting {
            lane,
            purpose: Purpose::Verify,
            urgency: self.urgency(&row, now),
            fence,
            epoch: self.epoch.number - i32::from(!of_this_history),
            cause: Cause::Verify,
            due_at: Some(now),
            since: now,
        };
        self.put_waiting(intent, waiting);
        let kept = self.progress_mut(intent);
        kept.replayed = true;
        let progress = &mut kept.progress;
        progress.attempts = 0;
        progress.looks = 0;
        progress.own_faults = 0;
        progress.lost_leases = 0;
        progress.quiet_reads = 0;
        progress.last_quiet_at = None;
        progress.in_progress_since = None;
        progress.refusal_class = None;
        progress.refusal_code = None;
        progress.fresh_key = fresh_key;
        progress.read_first = true;
        progress.unknown_since = Some(now);
        progress.quiet_after = Some(progress.quiet_after.map_or(now, |before| before.max(now)));
        self.watch(&row);
        self.note(now, stamp, "replay", Some(intent), lane);
        self.tell(intent, now, Told::Replayed);
        Replayed::Replayed
    }

    /// A person settles a dead letter by evidence from outside.
    pub fn resolve(
        &mut self,
        now: DateTime<Utc>,
        intent: IntentId,
        captured: bool,
        evidence: &str,
        stamp: &AuditStamp,
    ) -> Resolved {
        let Some(asked) = self.intents.get(&intent) else {
            return Resolved::NotFound;
        };
        let minor = asked.capture.amount.minor;
        let receipt_held = !captured && self.late_receipt(intent).is_some();
        let Some(row) = self.outcomes.get_mut(&intent) else {
            return Resolved::NotDead("in_flight".to_owned());
        };
        if !matches!(row.end, End::Dead(_)) {
            return Resolved::NotDead(row.end.state().to_owned());
        }
        if receipt_held {
            return Resolved::ReceiptHeld;
        }
        let row = Arc::make_mut(row);
        row.ended_at = now;
        if captured {
            row.end = End::Captured {
                minor,
                id: evidence.into(),
                at: Some(now),
                proof: Proof::Person,
            };
        } else {
            row.end = End::Dead(DeadReason::Rejected);
            row.last_code = Some(RESOLVED_NOT_CAPTURED.into());
        }
        let lane = row.lane;
        self.note(now, stamp, "resolve", Some(intent), lane);
        self.tell(intent, now, Told::Resolved { captured });
        Resolved::Resolved
    }

    /// Pauses or resumes a lane; false if there was nothing to do. Either forgets what the lane was waiting for.
    pub fn set_lane_pause(&mut self, now: DateTime<Utc>, lane: LaneId, paused: bool, stamp: &AuditStamp) -> bool {
        let Some(state) = self
            .lanes
            .get_mut(&lane)
            .filter(|state| state.paused.is_some() != paused)
        else {
            return false;
        };
        state.paused = paused.then(|| (now, stamp.actor.as_str().into(), stamp.reason.as_str().into()));
        state.open_until = None;
        state.testing = false;
        state.unanswered = 0;
        state.open_ms = 0;
        state.limited_until = None;
        self.note(
            now,
            stamp,
            if paused { "lane pause" } else { "lane resume" },
            None,
            lane,
        );
        true
    }

    fn note(
        &mut self,
        at: DateTime<Utc>,
        stamp: &AuditStamp,
        action: &'static str,
        intent: Option<IntentId>,
        lane: LaneId,
    ) {
        self.audit.push(Act {
            at,
            actor: stamp.actor.as_str().into(),
            action,
            reason: stamp.reason.as_str().into(),
            intent,
            lane: Some(lane),
        });
    }
}

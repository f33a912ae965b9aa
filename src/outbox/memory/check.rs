//! What must be true of every state.

use std::collections::BTreeMap;

use super::{Attempt, Cause, End, Tables};
use crate::intent::IntentId;
use crate::outbox::Purpose;

impl Tables {
    /// What is wrong with this state, in words; empty if nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        self.check_places(&mut faults);
        self.check_fences(&mut faults);
        self.check_rows(&mut faults);
        self.check_payments(&mut faults);
        faults
    }

    /// I13: an intent is in exactly one place, and what goes along with it only while it is on its way.
    fn check_places(&self, faults: &mut Vec<String>) {
        let mut places: BTreeMap<IntentId, Vec<&'static str>> = BTreeMap::new();
        for row in self.ready.values() {
            places.entry(row.intent).or_default().push("ready");
        }
        for intent in self.waiting.keys() {
            places.entry(*intent).or_default().push("waiting");
        }
        for slot in self.leases.values().flat_map(super::Lease::open) {
            places.entry(slot.intent).or_default().push("leases");
        }
        for intent in self.outcomes.keys() {
            places.entry(*intent).or_default().push("outcomes");
        }
        for intent in self.intents.keys() {
            let found = places.remove(intent).unwrap_or_default();
            if found.len() != 1 {
                faults.push(format!("{intent} is in {found:?}, not in one place"));
            }
        }
        for intent in places.keys() {
            faults.push(format!("{intent} is somewhere, but was never asked for"));
        }
        for (intent, row) in &self.outcomes {
            if self.deadlines.contains_key(intent) || self.cancel_requests.contains_key(intent) {
                faults.push(format!("{intent} has ended, and still has a deadline or a wish"));
            }
            let forgets = match &row.end {
                End::Dead(_) => false,
                End::Cancelled => true,
                End::Captured { proof, .. } => *proof != crate::outcome::Proof::Person,
            };
            if forgets && self.progress.contains_key(intent) {
                faults.push(format!("{intent} is {}, and still has progress", row.end.state()));
            }
        }
        for (intent, row) in &self.intents {
            let wanted = row.capture.authorization_expires_at.is_some() && !self.outcomes.contains_key(intent);
            if wanted != self.deadlines.contains_key(intent) {
                faults.push(format!("{intent} and its deadline do not go together"));
            }
        }
    }

    /// I4, I6: each fence was opened once, and is closed by at most one attempt, or by one and a late result.
    fn check_fences(&self, faults: &mut Vec<String>) {
        let mut open: BTreeMap<IntentId, i32> = BTreeMap::new();
        for slot in self.leases.values().flat_map(super::Lease::open) {
            open.insert(slot.intent, slot.fence);
        }
        for intent in self.intents.keys() {
            let fence = (self.ready_of(*intent).map(|(_, row)| row.fence))
                .or(self.waiting.get(intent).map(|row| row.fence))
                .or(self.outcomes.get(intent).map(|row| row.fence))
                .or(open.get(intent).copied());
            let Some(fence) = fence else { continue };
            let last = self.attempts.range((*intent, 0)..=(*intent, i32::MAX)).next_back();
            if let Some(((_, closed), _)) = last
                && (*closed > fence || (*closed == fence && open.contains_key(intent)))
            {
                faults.push(format!("{intent} has fence {fence}, and attempt {closed} is closed"));
            }
        }
        // After a fail-over the claim itself may be lost, with its lease.
        let one_history = self.epoch == super::Epoch::default();
        for (intent, fence, _) in self.late_results.keys().filter(|_| one_history) {
            let attempt = self.attempts.get(&(*intent, *fence));
            // One that was given back was never closed; its worker had no answer and settles nothing.
            if attempt.is_none_or(|attempt| attempt.outcome != "lost") {
                faults.push(format!(
                    "{intent} has a late result of fence {fence}, which was not lost"
                ));
            }
        }
    }

    /// The CHECK constraints.
    fn check_rows(&self, faults: &mut Vec<String>) {
        for (intent, row) in &self.waiting {
            if (row.cause == Cause::Held) != row.due_at.is_none() {
                faults.push(format!("{intent}: waiting_held_iff_no_due_time"));
            }
            if row.cause == Cause::Held && row.purpose != Purpose::Send {
                faults.push(format!("{intent}: waiting_held_was_never_sent"));
            }
        }
        for (id, lease) in &self.leases {
            if lease.slots.is_empty() || lease.open().next().is_none() {
                faults.push(format!("lease {id} has nothing open"));
            }
            if lease.until <= lease.claimed_at {
                faults.push(format!("lease {id}: leases_end_after_they_begin"));
            }
        }
        for (intent, row) in &self.progress {
            let progress = &row.progress;
            if progress.quiet_reads < 0 || progress.attempts < 0 || progress.generation.0 < 0 {
                faults.push(format!("{intent}: a count of its progress is negative"));
            }
            if progress.quiet_reads > 0 && progress.last_quiet_at.is_none() {
                faults.push(format!("{intent}: progress_quiet_reads_have_a_time"));
            }
            if progress.tainted && progress.first_sent_at.is_none() {
                faults.push(format!("{intent}: progress_tainted_was_sent"));
            }
        }
        for ((intent, fence), attempt) in &self.attempts {
            let Attempt { outcome, sent, .. } = &**attempt;
            if *fence < 1 || (*outcome == "lost") != sent.is_none() {
                faults.push(format!("{intent} {fence}: attempts_lost_iff_unknown_whether_sent"));
            }
        }
        for state in self.lanes.values() {
            if state.testing && state.open_until.is_none() {
                faults.push(format!("{}: testing, but not open", state.lane));
            }
        }
    }

    /// I5: of the attempts that are open or unknown on one payment, none is of an intent that a sibling's blocked.
    /// A capture may only be claimed while no sibling is; so two sends are never open at once.
    fn check_payments(&self, faults: &mut Vec<String>) {
        let mut sending: BTreeMap<(i32, &str), IntentId> = BTreeMap::new();
        for slot in self.leases.values().flat_map(super::Lease::open) {
            let Some(row) = self.intents.get(&slot.intent) else {
                continue;
            };
            if slot.purpose == Purpose::Verify {
                continue;
            }
            if let Some(other) = sending.insert((row.lane.0, &row.capture.payment_id), slot.intent) {
                faults.push(format!("{} and {other} are sent on one payment at once", slot.intent));
            }
        }
    }
}

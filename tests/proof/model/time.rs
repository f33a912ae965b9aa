//! Time: it goes on from one instant at which something changes to the next.

use capture::outbox::memory::{Cause, Waiting};
use capture::provider::Repeat;
use capture::retry::later;

use super::World;
use super::scope::{DEADLINE_MARGIN, Fault, LEASE};
use super::state::{Stage, State, Worker, seconds};

impl World {
    /// To the next instant at which anything changes. Whoever is at work works on at once, unless something stops it; only
    /// the provider takes its time, and whoever has nothing in hand.
    pub fn tick(&self, state: &mut State) -> bool {
        let Some(next) = self.instants(state).into_iter().filter(|then| *then > state.now).min() else {
            return false;
        };
        // A worker waits for its answer until the call is over: without one it must have given up.
        let unanswered = state.wire.iter().any(|posted| {
            let awaited = |worker: &Worker| {
                matches!(worker, Worker::Busy { errand, stage: Stage::Awaiting { reply: None, .. }, .. }
                    if posted.lease == Some(errand.lease))
            };
            posted.last < next && state.workers.iter().any(awaited)
        });
        if unanswered {
            return false;
        }
        let mut froze = 0;
        for worker in &mut state.workers {
            let at_work = match worker {
                Worker::Idle | Worker::InTheDark(_) => false,
                Worker::Busy { stage, frozen, .. } => !*frozen && !matches!(stage, Stage::Awaiting { reply: None, .. }),
            };
            if at_work && let Worker::Busy { frozen, .. } = worker {
                *frozen = true;
                froze += 1;
            }
        }
        if froze > state.faults || (froze > 0 && !self.scope.may_fail(Fault::Frozen)) {
            return false;
        }
        state.faults -= froze;
        state.now = next;
        state.wire.retain(|posted| posted.last >= next);
        true
    }

    fn instants(&self, state: &State) -> Vec<i64> {
        let tables = &state.book.tables;
        let back = |instant: chrono::DateTime<chrono::Utc>| instant.timestamp();
        let mut instants = Vec::new();
        instants.extend(tables.leases.values().map(|lease| back(lease.until) + 1));
        // Behind a sibling a row looks again every few seconds; whatever changes for it changes at some other instant.
        let polls = |row: &&Waiting| row.cause == Cause::Sibling;
        let rows = tables.waiting.values().filter(|row| !polls(row));
        instants.extend(rows.filter_map(|row| row.due_at).map(back));
        instants.extend(state.wire.iter().map(|posted| posted.last));
        for worker in &state.workers {
            if let Worker::Busy { errand, stage, .. } = worker {
                instants.push(errand.until() + 1);
                match stage {
                    Stage::Claimed | Stage::Read { .. } | Stage::Sending(_) => {
                        let allowed = seconds(LEASE - super::scope::LONGEST_CALL);
                        instants.push(errand.claimed_from + allowed - 1);
                    }
                    Stage::Awaiting { .. } | Stage::Settling(_) => {}
                }
            }
        }
        let goes_on = |intent: &capture::intent::IntentId| !tables.outcomes.contains_key(intent);
        for (_, row) in tables.progress.iter().filter(|(intent, _)| goes_on(intent)) {
            instants.extend(row.progress.quiet_after.map(back));
            if let Repeat::Key { window: Some(window) } = self.scope.abilities().repeat
                && let Some(first) = row.progress.first_sent_at
            {
                let end = back(later(first, window));
                instants.extend([end - 1, end]);
            }
        }
        if !state.is_over() {
            instants.extend(self.scope.deadline.iter().flat_map(|deadline| {
                let last = deadline - seconds(DEADLINE_MARGIN);
                [last - 1, last, *deadline]
            }));
        }
        if instants.iter().all(|then| *then <= state.now) {
            let rows = tables.waiting.values().filter(polls);
            instants.extend(rows.filter_map(|row| row.due_at).map(back));
        }
        instants
    }
}

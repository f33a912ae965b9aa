//! Makes worlds equal that differ in nothing that any step will ever look at, so that each is explored once.
//!
//! What has been checked is forgotten: events (but for a count), the audit, closed attempts that nobody may still settle,
//! texts for people. Slots of workers and messages have no names. A time that is over, and that is only ever compared with
//! times to come, is as good as any other.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use capture::intent::IntentId;
use capture::outbox::memory::{End, Told};

use super::scope::DEADLINE_MARGIN;
use super::state::{Book, State, at};

impl State {
    pub fn tidy(&mut self) {
        let now = self.now;
        let held: BTreeSet<(IntentId, i32)> = self
            .workers
            .iter()
            .filter_map(|worker| worker.errand())
            .map(|errand| (errand.intent(), errand.claim.ticket.fence()))
            .collect();
        // What every worker does every second for everybody.
        let tables = &mut self.book.tables;
        if tables.releases.iter().any(|release| release.matched.is_none()) {
            tables.match_releases(at(now), 10);
        }
        if !tables.deadlines.is_empty() {
            tables.watch_deadlines(at(now), DEADLINE_MARGIN, 10);
        }
        if tables
            .waiting
            .values()
            .any(|row| row.due_at.is_some_and(|due| due <= at(now)))
        {
            tables.move_due(at(now), 10);
        }
        self.book.tidy(now, &held);
        self.wire.sort_unstable();
        self.workers.sort_by_cached_key(|worker| {
            let mut hasher = DefaultHasher::new();
            worker.hash(&mut hasher);
            hasher.finish()
        });
    }
}

impl Book {
    fn tidy(&mut self, now: i64, held: &BTreeSet<(IntentId, i32)>) {
        let tables = &mut self.tables;
        for event in tables.events.drain(..) {
            if matches!(event.told, Told::Captured { .. }) {
                *self.told.entry(event.intent).or_default() += 1;
            }
        }
        tables.audit.clear();
        for row in tables.ready.values_mut() {
            row.since = at(0);
        }
        for row in tables.waiting.values_mut() {
            row.since = at(0);
        }
        let late: BTreeSet<_> = tables
            .late_results
            .keys()
            .map(|(intent, fence, _)| (*intent, *fence))
            .collect();
        tables
            .attempts
            .retain(|key, _| held.contains(key) || late.contains(key));
        for row in tables.attempts.values_mut() {
            if row.ended_at != at(0) || row.evidence.is_some() || row.code.is_some() {
                let row = Arc::make_mut(row);
                row.ended_at = at(0);
                row.evidence = None;
                row.code = None;
                row.class = None;
            }
        }
        for row in tables.late_results.values_mut() {
            if row.recorded_at != at(0) {
                Arc::make_mut(row).recorded_at = at(0);
            }
        }
        for row in tables.outcomes.values_mut() {
            if row.ended_at != at(0) || row.last_code.is_some() || row.last_class.is_some() || row.evidence.is_some() {
                let row = Arc::make_mut(row);
                row.ended_at = at(0);
                row.attempts = 0;
                row.last_class = None;
                row.last_code = None;
                row.evidence = None;
                if let End::Captured { at: when, .. } = &mut row.end {
                    *when = None;
                }
            }
        }
        for wish in tables.cancel_requests.values_mut() {
            wish.requested_at = at(0);
        }
        for row in tables.progress.values_mut() {
            let over = row
                .progress
                .quiet_after
                .is_some_and(|after| after != at(0) && after <= at(now));
            let unknown = row.progress.unknown_since.is_some_and(|since| since != at(0));
            if over || unknown || row.progress.last_code.is_some() || row.progress.last_class.is_some() {
                let progress = &mut Arc::make_mut(row).progress;
                if over {
                    progress.quiet_after = Some(at(0));
                }
                // Only whether, until three days are over.
                progress.unknown_since = progress.unknown_since.map(|_| at(0));
                progress.last_code = None;
                progress.last_class = None;
            }
        }
    }
}

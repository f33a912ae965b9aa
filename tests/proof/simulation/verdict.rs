//! The verdict: at each send, and in the end the bank's books against the outbox's.

use capture::intent::{CaptureIntent, IntentId};
use capture::outbox::memory::{End, IntentRow, Told};
use capture::outcome::{Observation, Proof};
use capture::provider::Call;
use capture::retry::DeadReason;
use chrono::TimeDelta;
use uuid::Uuid;

use super::tally::Path;
use super::world::{SKEW, World, short};
use crate::bank::Kind;

impl World {
    /// Judges a story that is over.
    pub fn judge(&mut self) {
        for fault in self.tables.faults() {
            self.breach(fault);
        }
        let intents: Vec<_> = self.tables.intents.values().cloned().collect();
        for row in &intents {
            self.judge_intent(row);
        }
        for place in 0..self.counters.len() {
            self.judge_sums(place);
        }
    }

    fn judge_intent(&mut self, row: &IntentRow) {
        let id = row.capture.id;
        let place = self.place_of(&row.capture.lane);
        let counter = self.counter(place);
        let times = counter.bank.times_captured(id);
        // Where a read cannot tell whose a capture is, and somebody else makes one that looks like ours, nobody can: the
        // limit that the papers declare.
        let look_alike = counter.bank.kind == Kind::Nothing && counter.by_hand.contains(&row.capture.payment_id);
        if times > 1 {
            self.breach(format!("DOUBLED: {id} was captured {times} times"));
        }
        self.judge_feed(id);
        let end = self.tables.outcomes.get(&id).cloned();
        let Some(outcome) = end else {
            self.tally.end("held");
            // Whoever releases it again has it read first.
            if times > 0 && !self.acts_lost.contains(&id) {
                self.breach(format!("LOST: {id} was captured, and is still held"));
            }
            return;
        };
        let resolved = outcome.last_code.as_deref() == Some(capture::outbox::RESOLVED_NOT_CAPTURED);
        match &outcome.end {
            End::Captured { id: receipt, proof, .. } => {
                self.tally.end("captured");
                let ours = self
                    .counter(place)
                    .bank
                    .payments
                    .values()
                    .flat_map(|payment| &payment.captures);
                let ours = ours.filter(|moved| !moved.by_hand && moved.intent == id);
                let matches = ours
                    .into_iter()
                    .any(|moved| *proof == Proof::Person || moved.id.to_string() == **receipt);
                if !matches && look_alike {
                    self.path(Path::LookAlikeByHand);
                } else if !matches {
                    self.breach(format!(
                        "INVENTED: {id} is captured as {receipt}, and the bank knows nothing of it"
                    ));
                }
            }
            End::Cancelled => {
                self.tally.end("cancelled");
                if times > 0 {
                    self.breach(format!("LOST: {id} was captured, and is cancelled"));
                }
            }
            End::Dead(DeadReason::Undecided) => {
                let code = outcome.last_code.as_deref().unwrap_or("no code");
                if code == "lost_leases" {
                    self.path(Path::GivenUpAsKiller);
                }
                let readable = self.could_be_read(row, place);
                let (path, how) = if readable {
                    (Path::UndecidedThoughReadable, "a read would decide it")
                } else {
                    (Path::UndecidedRightly, "no read decides it")
                };
                self.path(path);
                self.tally.end(&format!("undecided, {code}: {how}"));
            }
            End::Dead(reason) => {
                self.tally.end(if resolved {
                    "resolved as not captured"
                } else {
                    reason.name()
                });
                if times > 0 && look_alike {
                    self.path(Path::LookAlikeByHand);
                } else if times > 0 && !self.acts_lost.contains(&id) {
                    self.breach(format!("LOST: {id} was captured, and is dead as {}", reason.name()));
                }
            }
        }
    }

    /// Of an intent that is left to a person: would one more read decide it?
    fn could_be_read(&mut self, row: &IntentRow, place: usize) -> bool {
        let progress = self.tables.progress_of(row.capture.id);
        let siblings: Vec<String> = self
            .tables
            .intents
            .values()
            .filter(|other| other.lane == row.lane && other.capture.payment_id == row.capture.payment_id)
            .filter_map(|other| {
                let end = &self.tables.outcomes.get(&other.capture.id)?.end;
                end.capture_id().map(|id| id.to_string())
            })
            .collect();
        let first = progress.first_sent_at.filter(|_| progress.tainted || progress.accepted);
        let first = first.map(|at| at - TimeDelta::from_std(SKEW).unwrap());
        let now = World::bank_at(self.ended_at_ms);
        let shown = self
            .counter(place)
            .read(&row.capture, first, &siblings, std::time::Duration::ZERO, now);
        match shown {
            Observation::Captured(_)
            | Observation::Declined { .. }
            | Observation::NotCaptured { .. }
            | Observation::Closed { .. } => true,
            Observation::Foreign { .. }
            | Observation::Pending { .. }
            | Observation::Contradicts { .. }
            | Observation::Failed(_) => false,
        }
    }

    /// I9: whoever reads the feed hears of each capture once.
    fn judge_feed(&mut self, id: IntentId) {
        let events = self.tables.events.iter().filter(|event| event.intent == id);
        let captured = events
            .filter(|event| matches!(event.told, Told::Captured { .. }))
            .count();
        let ended = match self.tables.outcomes.get(&id).map(|outcome| &outcome.end) {
            Some(End::Captured { proof, .. }) => usize::from(*proof != Proof::Person),
            Some(End::Dead(_) | End::Cancelled) | None => 0,
        };
        if captured != ended {
            self.breach(format!(
                "FEED: {id} has {captured} events of a capture, and {ended} captures"
            ));
        }
    }

    /// I7: never more than was authorised, where the producer said how much.
    fn judge_sums(&mut self, place: usize) {
        let counter = &self.counters[place];
        let mut over = Vec::new();
        for (name, payment) in &counter.bank.payments {
            let ours = payment.captures.iter().filter(|moved| !moved.by_hand);
            // An intent that a fail-over lost counts nowhere any more.
            let all_known = ours
                .clone()
                .all(|moved| self.tables.intents.contains_key(&moved.intent));
            // What only one that was not captured knows, perhaps later, bound nobody.
            let intents = ours.clone().filter_map(|moved| self.tables.intents.get(&moved.intent));
            let said = intents.filter_map(|row| row.capture.authorized_minor).max();
            let sum: i64 = ours.map(|moved| moved.minor).sum();
            if let Some(said) = said
                && all_known
                && sum > said
                && !counter.by_hand.contains(name)
            {
                over.push(format!("OVER: {sum} was captured on {name}, of {said}"));
            }
        }
        for what in over {
            self.breach(what);
        }
    }
}

impl World {
    /// The moment at which a capture leaves the machine: must it not?
    pub fn judge_send(&mut self, place: usize, worker: Uuid, call: &Call<'_>, name: &str) -> u32 {
        self.tally.sends += 1;
        let intent = call.intent;
        let id = intent.id;
        let now = self.now();
        let short_id = short(id);
        self.say(|| format!("{name}: SENDS {short_id} generation {}", call.generation.0));
        if call.generation.0 > 0 {
            self.path(Path::GenerationRaised);
        }
        let opened = self.opened.get(&(worker, id)).copied();
        let Some(opened) = opened else {
            self.breach(format!("{id} is sent by a worker that never claimed it"));
            return 0;
        };
        let leased = self.tables.leases.get(&opened.lease).is_some_and(|lease| {
            let mut open = lease.open();
            lease.until > now
                && open
                    .any(|slot| slot.intent == id && slot.fence == opened.fence && slot.generation == call.generation)
        });
        if !leased {
            // What was leased before a fail-over, or a jump of the database's clock, is void, and its worker cannot know.
            // (It may have claimed the same intent again meanwhile: what counts is that such a lease has not run out.)
            let lease_ms = u64::try_from(super::story::LEASE.as_millis()).unwrap();
            let just_now = self.upheaved_at.is_some_and(|at| self.ms() < at + lease_ms);
            if opened.upheavals == self.upheavals && !just_now {
                self.breach(format!("{id} is sent without a committed lease"));
            } else {
                self.path(Path::SentUnderLostLease);
            }
        }
        if intent
            .authorization_expires_at
            .is_some_and(|over| self.bank_now() >= over)
        {
            self.breach(format!("{id} is sent after its deadline"));
        }
        self.judge_terms(call.intent);
        let upheavals = self.upheavals;
        let counter = self.counter(place);
        let moving = counter.wires.on_the_way().find(|wire| {
            let key = (wire.request.intent, wire.request.generation);
            wire.request.payment == intent.payment_id
                && wire.request.intent != id
                && wire.upheavals == upheavals
                && opened.upheavals == upheavals
                // A copy of what was executed moves nothing.
                && !counter.bank.keys.contains_key(&key)
        });
        if let Some(other) = moving.map(|wire| wire.request.intent) {
            self.breach(format!("{id} is sent while {other} moves money on the same payment"));
        }
        opened.upheavals
    }

    fn judge_terms(&mut self, intent: &CaptureIntent) {
        let id = intent.id;
        let Some(row) = self.tables.intents.get(&id) else {
            return;
        };
        let released = || {
            let mut releases = self.tables.releases.iter();
            releases.any(|release| release.matched.is_some_and(|(freed, _)| freed == id))
        };
        let early = row.not_before.is_some_and(|at| self.now() < at);
        let unreleased = row.hold && !released();
        let cancelled = matches!(
            self.tables.outcomes.get(&id).map(|outcome| &outcome.end),
            Some(End::Cancelled)
        );
        if early {
            self.breach(format!("{id} is sent before its time"));
        }
        if unreleased && self.upheavals == 0 {
            self.breach(format!("{id} is sent, and nobody released it"));
        }
        if cancelled && self.upheavals == 0 {
            self.breach(format!("{id} is sent, and was cancelled"));
        }
    }
}

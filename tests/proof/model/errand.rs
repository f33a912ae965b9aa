//! An errand: the steps of `way.rs` in their order, as `worker/errand.rs` takes them, one action each; and in each the
//! mistake of a design that makes it.

use capture::clock::SendGuard;
use capture::intent::KeyGeneration;
use capture::outbox::memory::Tables;
use capture::outbox::{AttemptRecord, Settled, Settlement};
use capture::outcome::{Class, Evidence, Failure, Observation, Outcome};
use capture::provider::Repeat;
use capture::retry::{Decision, Disposition, LaneOrder, Policy, Wait, later};
use capture::way::{First, Then, Way};
use std::time::Duration;

use super::mistakes::without_fence;
use super::scope::{DEADLINE_MARGIN, Design, LEASE, LONGEST_CALL, READ_LAG, WINDOW};
use super::state::{Errand, Posted, Reply, Stage, State, Worker, at, boottime, seconds};
use super::{Law, World};
use crate::bank::{Answer, Request};

impl World {
    fn way<'a>(&self, errand: &'a Errand, policy: &'a Policy) -> Way<'a> {
        Way {
            claim: &errand.claim,
            abilities: self.scope.abilities(),
            policy,
            lease: match self.scope.design {
                Design::LostHistoryWaitsForOneCall => LONGEST_CALL,
                _ => LEASE,
            },
        }
    }

    /// Up to the first call; a read is made and answered in the same step. Nothing changes between the two: what shows
    /// later is read by a later read.
    pub fn begin(&self, state: &mut State, n: usize, read_is_lost: bool) -> bool {
        let (now, policy) = (state.now, self.scope.policy());
        let Worker::Busy { errand, stage, .. } = &mut state.workers[n] else {
            return false;
        };
        let design = self.scope.design;
        let way = self.way(errand, &policy);
        let mut first = way.begin(at(now), || Ok(()));
        if let First::Read(progress) = &mut first {
            let keyless = self.scope.abilities().repeat == Repeat::Nothing;
            let window_over = progress
                .first_sent_at
                .is_some_and(|first| at(now) >= later(first, WINDOW));
            if design == Design::NoReadBeforeAKeylessSend && keyless {
                first = First::Send(progress.clone());
            } else if design == Design::NewKeyAtTheWindowsEnd && window_over {
                let mut progress = progress.clone();
                progress.generation = progress.generation.next();
                first = First::Send(progress);
            }
        }
        *stage = match first {
            First::Decided(decision) => {
                if read_is_lost {
                    return false;
                }
                settling(errand, &way, *decision, "not_sent")
            }
            First::Send(progress) => {
                if read_is_lost {
                    return false;
                }
                Stage::Sending(progress)
            }
            First::Read(progress) => {
                let sent = progress.first_sent_at.filter(|_| progress.tainted || progress.accepted);
                let observation = if read_is_lost {
                    Observation::Failed(Failure::new(Class::Ambiguous, "read_timeout"))
                } else {
                    let siblings = &errand.claim.siblings.capture_ids;
                    state.bank.read(&errand.claim.intent, sent, siblings, READ_LAG, at(now))
                };
                Stage::Read {
                    observation: way.not_a_siblings(observation),
                    progress,
                    began: now,
                }
            }
        };
        true
    }

    pub fn weigh(&self, state: &mut State, n: usize) -> bool {
        let (now, policy) = (state.now, self.scope.policy());
        let Worker::Busy { errand, stage, .. } = &mut state.workers[n] else {
            return false;
        };
        let Stage::Read {
            observation,
            progress,
            began,
        } = stage
        else {
            return false;
        };
        let mut progress = progress.clone();
        if self.scope.design == Design::NoQuarantine {
            progress.quiet_after = None;
        }
        if self.scope.design == Design::OneQuietReadIsEnough {
            progress.quiet_reads = progress.quiet_reads.max(1);
        }
        let way = self.way(errand, &policy);
        *stage = match way.after_read(observation.clone(), progress, at(*began), at(now)) {
            Then::Decided(decision) => settling(errand, &way, *decision, "observed"),
            Then::Send(progress) => Stage::Sending(progress),
        };
        true
    }

    /// The guard and the deadline are asked in the very step in which the request leaves.
    pub fn send(&self, state: &mut State, n: usize, reached: bool) -> bool {
        let (now, policy, design) = (state.now, self.scope.policy(), self.scope.design);
        let Worker::Busy { errand, stage, .. } = &mut state.workers[n] else {
            return false;
        };
        let Stage::Sending(progress) = stage else {
            return false;
        };
        let way = self.way(errand, &policy);
        let (lease, claimed_from) = (errand.guard(), boottime(errand.claimed_from));
        let guard = match design {
            Design::NoSendGuard => way.guard(
                SendGuard::new(claimed_from, Duration::MAX, Duration::ZERO),
                claimed_from,
            ),
            // Behind the database's by more than a lease.
            Design::WallClock => {
                let late = boottime(errand.claimed_from + 100);
                way.guard(SendGuard::new(late, LEASE, LONGEST_CALL), claimed_from)
            }
            Design::NoDeadline => lease,
            _ => way.guard(lease, claimed_from),
        };
        if !guard.allows(boottime(now)) {
            let returned = Decision::of(Disposition::Return, (**progress).clone());
            *stage = settling(errand, &way, returned, "not_sent");
            return reached;
        }
        if !reached {
            let failure = Failure::new(Class::Transient, "connect");
            let decision = way.after_capture(Outcome::Failed(failure), progress, at(now));
            *stage = settling(errand, &way, decision, "failed");
            return true;
        }
        let generation = match design {
            Design::KeyFromTheAttempt => KeyGeneration(i16::try_from(errand.claim.ticket.fence()).unwrap()),
            _ => progress.generation,
        };
        let posted = Posted {
            request: Request::of(&errand.claim.intent, generation),
            last: now + seconds(LONGEST_CALL),
            lease: Some(errand.lease),
            doubled: false,
        };
        *stage = Stage::Awaiting {
            progress: progress.clone(),
            reply: None,
        };
        let errand = errand.clone();
        state.broken = self.judge_send(state, &errand, &posted);
        state.wire.push(posted);
        true
    }

    fn judge_send(&self, state: &State, errand: &Errand, posted: &Posted) -> Option<Law> {
        let intent = errand.intent();
        let deadline = self.scope.deadline.map(|deadline| deadline - seconds(DEADLINE_MARGIN));
        let leased = state.book.tables.leases.get(&errand.lease);
        let open = leased.is_some_and(|lease| lease.open().any(|slot| slot.intent == intent));
        // What its key answers for moves nothing any more: a repeat that overtook it was captured.
        let can_move = |other: &Posted| {
            let mut bank = state.bank.clone();
            bank.execute(&other.request, at(other.last));
            bank.next_id > state.bank.next_id
        };
        let mut others = state.wire.iter().filter(|other| other.request.intent != intent);
        let beside = others.any(|other| other.request.payment == posted.request.payment && can_move(other));
        // A fail-over may take the lease along, and what it says of siblings: then the epoch protects, and the keys.
        [
            (deadline.is_some_and(|last| state.now >= last), Law::SentInTime),
            (!open && !state.failed_over, Law::LeasedBeforeSent),
            (beside && !state.failed_over, Law::OneAtATime),
        ]
        .into_iter()
        .find_map(|(broken, law)| (broken && self.counts(law)).then_some(law))
    }

    pub fn receive(&self, state: &mut State, n: usize, is_final: bool) -> bool {
        let Worker::Busy { errand, stage, .. } = &state.workers[n] else {
            return false;
        };
        let Stage::Awaiting { reply: Some(reply), .. } = stage else {
            return false;
        };
        let intent = &errand.claim.intent;
        let request = Request::of(intent, KeyGeneration::default());
        let keyed = matches!(self.scope.abilities().repeat, Repeat::Key { .. });
        let outcome = match reply {
            Reply::Bank(Answer::Captured(_)) if !is_final => Outcome::Accepted {
                capture_id: None,
                evidence: Evidence::default(),
            },
            Reply::Bank(answer) => state.bank.outcome(&request, intent, *answer, at(0)),
            Reply::Conflict if keyed => Outcome::Failed(Failure::new(Class::InProgress, "in_progress").answered(409)),
            Reply::Conflict => Outcome::Failed(Failure::new(Class::MaybeDone, "conflict").answered(409)),
            Reply::TooLittleLeft => Outcome::Failed(Failure::new(Class::Rejected, "too_little_left").answered(422)),
        };
        let useful = is_final || matches!(outcome, Outcome::Accepted { .. });
        useful && self.answered(state, n, outcome)
    }

    /// No answer, however early: nobody knows.
    pub fn time_out(&self, state: &mut State, n: usize) -> bool {
        self.answered(
            state,
            n,
            Outcome::Failed(Failure::new(Class::Ambiguous, "read_timeout")),
        )
    }

    pub fn front_says_503(&self, state: &mut State, n: usize) -> bool {
        let mut failure = Failure::new(Class::Transient, "unavailable");
        failure.http_status = Some(503);
        if self.scope.design == Design::FrontsAnswerTakenForTheProviders {
            failure.http_status = None;
        }
        self.answered(state, n, Outcome::Failed(failure))
    }

    fn answered(&self, state: &mut State, n: usize, outcome: Outcome) -> bool {
        let (now, policy, design) = (state.now, self.scope.policy(), self.scope.design);
        let Worker::Busy { errand, stage, .. } = &mut state.workers[n] else {
            return false;
        };
        let Stage::Awaiting { progress, .. } = stage else {
            return false;
        };
        let mut before = (**progress).clone();
        if design == Design::RefusalTakenAtItsWord {
            before.tainted = false;
        }
        let name = match &outcome {
            Outcome::Captured(_) => "captured",
            Outcome::Accepted { .. } => "accepted",
            Outcome::Failed(_) => "failed",
            Outcome::NotSent => "not_sent",
        };
        let way = self.way(errand, &policy);
        let mut decision = way.after_capture(outcome, &before, at(now));
        if design == Design::QuietFromTheClaim {
            let over = later(errand.claim.now, LONGEST_CALL).max(at(now));
            decision.progress.quiet_after = decision.progress.quiet_after.map(|_| over);
        }
        if design == Design::TaintForgotten {
            decision.progress.tainted = false;
        }
        *stage = settling(errand, &way, decision, name);
        true
    }

    pub fn settle(&self, state: &mut State, n: usize, heard: bool) -> bool {
        let Worker::Busy { stage, .. } = &state.workers[n] else {
            return false;
        };
        let Stage::Settling(settlement) = stage else {
            return false;
        };
        let (intent, now) = (settlement.intent(), at(state.now));
        let tables = &mut state.book.tables;
        // Whoever settles may be the first to notice that the history is another one: that is no change of this result's.
        tables.begin_epoch(now);
        let before = tables.clone();
        let said = tables.settle(now, std::slice::from_ref(&**settlement), &[])[0];
        if said != Settled::IntentLost && matches!(settlement.disposition(), Disposition::Captured(_)) {
            state.book.receipts.insert(intent);
        }
        let fenced = match said {
            Settled::Recorded => true,
            Settled::AlreadyRecorded | Settled::IntentLost => before == *tables,
            Settled::LeaseLost => {
                if self.scope.design == Design::SettleWithoutFence {
                    without_fence(tables, settlement);
                }
                if self.scope.design == Design::LateReceiptDropped {
                    *tables = before.clone();
                }
                only_kept_late(&before, tables)
            }
        };
        if !fenced && self.counts(Law::Fenced) {
            state.broken = Some(Law::Fenced);
        }
        if heard {
            state.workers[n] = Worker::Idle;
        }
        true
    }
}

/// The last word, and what is recorded. Jitter waits for nothing: time may pass anyway.
fn settling(errand: &Errand, way: &Way<'_>, decision: Decision, outcome: &'static str) -> Stage {
    let mut decision = way.keep_unknown(decision);
    // Words for people; no step decides by them here, and worlds that differ in nothing else are equal.
    decision.progress.last_class = None;
    decision.progress.last_code = None;
    decision.lane = LaneOrder::None;
    let delay = match &decision.disposition {
        Disposition::Retry(Wait::Exactly(wait)) | Disposition::Verify(Wait::Exactly(wait)) => {
            Duration::from_millis(u64::try_from(wait.as_millis().div_ceil(1000) * 1000).unwrap())
        }
        Disposition::Retry(Wait::None | Wait::UpTo(_))
        | Disposition::Verify(Wait::None | Wait::UpTo(_))
        | Disposition::Captured(_)
        | Disposition::Dead(..)
        | Disposition::Cancelled
        | Disposition::Return => Duration::ZERO,
    };
    let record = AttemptRecord {
        sent: matches!(outcome, "captured" | "accepted" | "failed"),
        outcome,
        class: None,
        code: None,
        http_status: None,
        generation: decision.progress.generation,
        began: boottime(0),
        took: Duration::ZERO,
        host: String::new(),
        evidence: Evidence::default(),
    };
    let ticket = errand.claim.ticket.clone();
    let settlement = Settlement::with_delay(ticket, &errand.claim.progress, decision, record, delay);
    Stage::Settling(Box::new(settlement))
}

/// I6: a result that lost its lease leaves a late result, and has whoever waits look at it; it changes nothing else.
fn only_kept_late(before: &Tables, after: &Tables) -> bool {
    let mut same = after.clone();
    same.late_results = before.late_results.clone();
    same.events = before.events.clone();
    for (intent, row) in &mut same.waiting {
        if let Some(was) = before.waiting.get(intent) {
            row.due_at = was.due_at;
        }
    }
    same == *before
}

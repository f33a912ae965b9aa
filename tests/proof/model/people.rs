//! What people and other programs do: producers, fulfilment, operators, and whoever sits at the provider's own site.

use std::sync::Arc;

use capture::outbox::memory::{Cancelled, End, OutcomeRow};
use capture::outbox::{AuditStamp, HeldRelease, Purpose, Replayed, Resolved};
use capture::verify;

use super::World;
use super::scope::{Act, Design};
use super::state::{State, Worker, at, intent_id};
use super::step::Action;
use crate::bank::Answer;

/// More than what is left for an intent then, and not the amount of any.
const BY_HAND: i64 = 70;

fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "somebody".to_owned(),
        reason: "a reason".to_owned(),
    }
}

impl World {
    pub fn possible_acts(&self, state: &State, actions: &mut Vec<Action>) {
        if state.acts == 0 {
            return;
        }
        for n in 0..self.scope.asked.len() {
            for (act, action) in [
                (Act::Cancel, Action::Cancel(n)),
                (Act::Release, Action::Release(n)),
                (Act::Replay, Action::Replay(n)),
                (Act::Resolve, Action::Resolve(n)),
                (Act::Enqueue, Action::Enqueue(n)),
                (Act::ByHand, Action::CaptureByHand(n)),
            ] {
                if self.scope.may_act(act) {
                    actions.push(action);
                }
            }
        }
    }

    pub fn act(&self, state: &mut State, action: Action) -> bool {
        state.acts -= 1;
        match action {
            Action::Cancel(n) => self.cancel(state, n),
            Action::Release(n) => self.release(state, n),
            Action::Replay(n) => self.replay(state, n),
            Action::Resolve(n) => resolve(state, n),
            Action::Enqueue(n) => {
                let before = state.book.tables.intents.len();
                if self.scope.asked[n].later {
                    state.enqueue(n, &self.scope);
                }
                state.book.tables.intents.len() > before
            }
            Action::CaptureByHand(n) => {
                let payment = self.scope.asked[n].payment;
                state.bank.capture_by_hand(payment, BY_HAND, at(state.now)) != Answer::Refused
            }
            _ => false,
        }
    }

    fn cancel(&self, state: &mut State, n: usize) -> bool {
        let (intent, tables) = (intent_id(n), &mut state.book.tables);
        let again = tables.cancel_requests.contains_key(&intent);
        match tables.cancel(at(state.now), intent, "a reason") {
            Cancelled::Cancelled => true,
            Cancelled::InFlight if self.scope.design == Design::CancelEndsAtOnce => {
                let fence = tables.open_slot_of(intent).map_or(0, |(_, slot)| slot.fence);
                tables.ready.retain(|_, row| row.intent != intent);
                tables.waiting.remove(&intent);
                tables
                    .leases
                    .retain(|_, lease| lease.open().all(|slot| slot.intent != intent));
                tables.cancel_requests.remove(&intent);
                tables.deadlines.remove(&intent);
                tables.progress.remove(&intent);
                let row = OutcomeRow {
                    lane: capture::outbox::LaneId(1),
                    end: End::Cancelled,
                    fence,
                    attempts: 0,
                    ended_at: at(0),
                    last_class: None,
                    last_code: None,
                    evidence: None,
                };
                tables.outcomes.insert(intent, Arc::new(row));
                true
            }
            Cancelled::InFlight => !again,
            Cancelled::Ended | Cancelled::NotFound => false,
        }
    }

    pub fn release(&self, state: &mut State, n: usize) -> bool {
        let release = HeldRelease {
            provider: "bank".to_owned(),
            account: None,
            payment_id: Some(self.scope.asked[n].payment.to_owned()),
            order_id: None,
            capture_ref: Some(n.to_string()),
            shipment_ref: Some(n.to_string()),
            shipping: None,
        };
        self.scope.asked[n].hold && state.book.tables.release(at(state.now), &release)
    }

    fn replay(&self, state: &mut State, n: usize) -> bool {
        let (intent, now, tables) = (intent_id(n), at(state.now), &mut state.book.tables);
        let Some(dead) = tables.outcomes.get(&intent).cloned() else {
            return false;
        };
        let End::Dead(reason) = dead.end else {
            return false;
        };
        let progress = tables.progress_of(intent);
        let plan = verify::plan_replay(reason, &progress, self.scope.abilities(), now);
        let replayed = tables.replay(now, intent, dead.ended_at, plan.fresh_key, &stamp());
        if self.scope.design == Design::ReplaySendsAtOnce
            && let Some(row) = tables.waiting.get_mut(&intent)
            && let Some(kept) = tables.progress.get_mut(&intent)
        {
            row.purpose = Purpose::Retry;
            let generation = progress.generation.next();
            let kept = Arc::make_mut(kept);
            kept.progress = capture::progress::Progress {
                generation,
                ..capture::progress::Progress::default()
            };
        }
        replayed == Replayed::Replayed
    }
}

/// By what the provider says to a person, who waits until nobody is at it any more.
fn resolve(state: &mut State, n: usize) -> bool {
    let intent = intent_id(n);
    let busy = |worker: &Worker| match worker {
        Worker::Idle => false,
        Worker::InTheDark(_) => true,
        Worker::Busy { errand, .. } => errand.intent() == intent,
    };
    if state.wire.iter().any(|posted| posted.request.intent == intent) || state.workers.iter().any(busy) {
        return false;
    }
    let captured = state.bank.times_captured(intent) > 0;
    let tables = &mut state.book.tables;
    tables.resolve(at(state.now), intent, captured, "a letter", &stamp()) == Resolved::Resolved
}

//! A fair run: from here on nothing goes wrong, and everybody does what there is to do. Every intent must end by it.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::World;
use super::state::{Stage, State, Worker};
use super::step::Action;

/// Far more steps than any intent of these scopes takes.
const STEPS: usize = 400;

impl World {
    pub fn ends_well(&self, from: &State) -> bool {
        let mut state = from.clone();
        state.standby = None;
        state.acts = 0;
        let mut way = Vec::new();
        for _ in 0..STEPS {
            // For the workers that may have to give up waiting; time passes only when they have nothing to do.
            state.faults = 1;
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            way.push(hasher.finish());
            let known = self.end_well.lock().unwrap().contains(&hasher.finish());
            if known || state.is_over() {
                self.end_well.lock().unwrap().extend(way);
                return true;
            }
            let Some(mut next) = self.fair_step(&state) else {
                return false;
            };
            next.tidy();
            if next.broken.is_some() {
                return false;
            }
            state = next;
        }
        false
    }

    fn fair_step(&self, state: &State) -> Option<State> {
        if !state.wire.is_empty() {
            return self.step(state, Action::Execute(0));
        }
        for (n, worker) in state.workers.iter().enumerate() {
            let action = match worker {
                Worker::Idle => continue,
                Worker::InTheDark(_) => Action::GiveBack(n),
                Worker::Busy { stage, .. } => match stage {
                    Stage::Claimed => Action::Begin(n),
                    Stage::Read { .. } => Action::Weigh(n),
                    Stage::Sending(_) => Action::Send(n),
                    Stage::Awaiting { reply: Some(_), .. } => Action::Receive(n),
                    Stage::Awaiting { reply: None, .. } => Action::TimeOut(n),
                    Stage::Settling(_) => Action::Settle(n),
                },
            };
            return self.step(state, action);
        }
        let claims = [0, 1, 2].map(|favour| Action::Claim { favour, batch: 1 });
        for action in [Action::Rescue].into_iter().chain(claims) {
            if let Some(next) = self.step(state, action) {
                return Some(next);
            }
        }
        // Whoever holds goods back ships them in the end.
        let mut released = state.clone();
        if (0..self.scope.asked.len()).any(|n| self.release(&mut released, n)) {
            return Some(released);
        }
        self.step(state, Action::Tick)
    }
}

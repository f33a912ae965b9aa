//! The model check: the real decisions over the in-memory outbox, through every order of events in a small scope.
//!
//! Real: `way`, `retry`, `verify`, the send guard, and the outbox in memory, which `tests/conformance` holds equal to
//! Postgres. Modelled: the provider (`bank.rs`), the network, the clock, crashes, and people. A state is the whole world
//! as a value; an action is one atomic step of one party; `stateright` walks through all of them, breadth first, so the
//! way to a fault that it prints is a shortest one.
//!
//! What is assumed, and so not explored:
//! - A request is executed within the longest call after its send, or never.
//! - Time goes from one instant at which something changes to the next. Within an instant everything may happen.
//! - A delay with jitter is not waited for at all: whatever it could be drawn as is one of the later instants.
//! - No middlebox sends a POST twice where the provider has no key: nothing on our side could help.
//! - Where a box sends a POST twice, and the provider has a key, it answers the second by the key: it does not refuse it
//!   because of what the first took. (A refusal of a first send, for that reason alone, would be believed.)
//! - Where a read can only infer, nobody else captures just our amount: a sole writer is assumed there.

mod errand;
mod explore;
mod fair;
mod law;
mod mistakes;
mod people;
mod scope;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod tidy;
mod time;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use stateright::{Model, Property};

pub use self::explore::{counterexample, explore};
pub use self::law::Law;
use self::law::Sight;
pub use self::scope::{Act, Asked, Design, Fault, ONE, Scope};
pub use self::state::State;
pub use self::step::Action;

/// A scope, explored.
pub struct World {
    pub scope: Scope,
    /// What was found already, as bits: the first way to it, which is a shortest, is kept.
    found: AtomicU64,
    /// Hashes of states from which a fair run ends every intent.
    end_well: Mutex<HashSet<u64>>,
}

impl World {
    pub fn new(scope: Scope) -> World {
        World {
            scope,
            found: AtomicU64::new(0),
            end_well: Mutex::default(),
        }
    }

    /// Is it true, and for the first time?
    fn first(&self, bit: usize, is: bool) -> bool {
        is && self.found.fetch_or(1 << bit, Ordering::Relaxed) & (1 << bit) == 0
    }
}

fn holds<const LAW: usize>(world: &World, state: &State) -> bool {
    !world.first(LAW, state.broken == Some(Law::ALL[LAW]))
}

fn is_seen<const SIGHT: usize>(world: &World, state: &State) -> bool {
    world.found.load(Ordering::Relaxed) & (1 << (32 + SIGHT)) == 0
        && world.first(32 + SIGHT, Sight::ALL[SIGHT].is_in(state))
}

macro_rules! each {
    ($property:ident, $condition:ident, $all:expr, [$($number:literal)*]) => {
        [$(Property::$property($all[$number].name(), $condition::<$number>)),*]
    };
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::begin(&self.scope)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            self.possible(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = self.step(state, action)?;
        next.tidy();
        if next.broken.is_none() {
            next.broken = self.judge(state, &next);
        }
        Some(next)
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.now <= self.scope.horizon
    }

    fn properties(&self) -> Vec<Property<World>> {
        let mut all = Vec::new();
        all.extend(each!(always, holds, Law::ALL, [0 1 2 3 4 5 6 7 8 9 10 11]));
        all.extend(each!(sometimes, is_seen, Sight::ALL, [0 1 2 3 4 5 6 7 8 9 10 11 12]));
        all
    }
}

//! The scopes: small ones that every run explores, larger ones by name.
//!
//! `cargo test --test proof model:: -- --nocapture` tells how many states each has; with `--ignored`, and a few minutes,
//! the larger ones.

use super::scope::{Act, Asked, Fault, ONE, Scope};
use super::{Sight, explore};
use crate::bank::Kind;

fn explore_each(kinds: &[Kind], name: &str, scope: impl Fn(Scope) -> Scope, sights: &[Sight]) {
    for kind in kinds {
        explore(&format!("{name}, {kind:?}"), scope(Scope::of(*kind)), sights);
    }
}

const PEOPLE: [Act; 4] = [Act::Cancel, Act::Replay, Act::Resolve, Act::ByHand];
const KEYLESS: [Kind; 2] = [Kind::UniqueReference, Kind::Nothing];
const KEYED: [Kind; 2] = [Kind::KeyWithWindow, Kind::KeyForEver];

#[test]
fn one_intent_is_captured_once_whatever_two_things_go_wrong_where_no_key_protects_it() {
    let sights = [
        Sight::CapturedByAnswer,
        Sight::CapturedByRead,
        Sight::LateReceipt,
        Sight::LateReceiptUsed,
        Sight::NewHistory,
    ];
    explore_each(&KEYLESS, "two faults", |scope| scope, &sights);
}

#[test]
fn one_intent_is_captured_once_whatever_goes_wrong_where_a_key_protects_it() {
    let sights = [
        Sight::CapturedByAnswer,
        Sight::CapturedByRead,
        Sight::LateReceiptUsed,
        Sight::NewHistory,
    ];
    explore_each(&KEYED, "one fault", |scope| Scope { faults: 1, ..scope }, &sights);
}

#[test]
fn an_intent_ends_at_its_deadline_and_nothing_is_sent_from_its_margin_on() {
    let scope = |scope| Scope {
        deadline: Some(200),
        faults: 1,
        ..scope
    };
    explore_each(
        &Kind::ALL,
        "deadline",
        scope,
        &[Sight::CapturedByAnswer, Sight::Expired],
    );
}

#[test]
fn a_single_attempt_is_spent_and_the_intent_ends() {
    let scope = |scope| Scope {
        attempts: 1,
        faults: 1,
        acts: 1,
        may_act: vec![Act::Replay],
        ..scope
    };
    explore_each(&Kind::ALL, "one attempt", scope, &[Sight::Exhausted]);
}

#[test]
fn people_may_do_three_things_at_any_moment() {
    let scope = |scope| Scope {
        faults: 0,
        acts: 3,
        may_act: PEOPLE.to_vec(),
        ..scope
    };
    explore_each(
        &KEYED,
        "people",
        scope,
        &[Sight::Cancelled, Sight::Rejected, Sight::NewKey],
    );
    explore_each(&KEYLESS, "people", scope, &[Sight::Cancelled]);
}

#[test]
fn people_may_do_one_thing_while_one_goes_wrong() {
    let scope = |scope| Scope {
        faults: 1,
        may_fail: vec![Fault::Crash, Fault::Unanswered, Fault::Frozen, Fault::FailOver],
        acts: 1,
        may_act: PEOPLE.to_vec(),
        ..scope
    };
    explore_each(
        &Kind::ALL,
        "people and a fault",
        scope,
        &[Sight::Cancelled, Sight::CapturedByRead],
    );
}

#[test]
fn an_intent_that_loses_its_workers_is_left_to_a_person() {
    let scope = |scope| Scope {
        asked: vec![Asked { lost_leases: 4, ..ONE }],
        faults: 1,
        may_fail: vec![Fault::Crash, Fault::Frozen],
        acts: 2,
        may_act: vec![Act::Replay, Act::Resolve],
        ..scope
    };
    let sights = [Sight::Undecided, Sight::CapturedByPerson, Sight::LateReceiptUsed];
    explore_each(&KEYED, "worn out", scope, &sights);
    // Without a key nothing is sent before reads, which do not count as lost.
    explore_each(&KEYLESS, "worn out", scope, &[Sight::Undecided, Sight::LateReceiptUsed]);
}

#[test]
fn two_intents_of_one_payment_move_money_one_after_the_other() {
    let scope = |scope| Scope {
        asked: vec![ONE; 2],
        faults: 1,
        may_fail: vec![Fault::Crash, Fault::Unanswered],
        horizon: 160,
        ..scope
    };
    explore_each(&Kind::ALL, "siblings", scope, &[Sight::CapturedByAnswer]);
}

#[test]
fn a_replay_counts_what_a_later_sibling_took() {
    let scope = |scope| Scope {
        asked: vec![
            Asked { minor: 60, ..ONE },
            Asked {
                minor: 60,
                later: true,
                ..ONE
            },
        ],
        deadline: None,
        attempts: 1,
        faults: 1,
        may_fail: vec![Fault::Unreachable],
        acts: 2,
        may_act: vec![Act::Enqueue, Act::Replay],
        ..scope
    };
    explore_each(
        &Kind::ALL,
        "replay and sibling",
        scope,
        &[Sight::Exhausted, Sight::Rejected],
    );
}

#[test]
fn a_held_intent_is_sent_only_once_it_is_released() {
    let scope = |scope| Scope {
        asked: vec![Asked { hold: true, ..ONE }],
        deadline: Some(200),
        faults: 1,
        may_fail: vec![Fault::Crash, Fault::Unanswered, Fault::FailOver],
        acts: 2,
        may_act: vec![Act::Release, Act::Cancel],
        ..scope
    };
    let sights = [Sight::CapturedByAnswer, Sight::Expired, Sight::Cancelled];
    explore_each(&Kind::ALL, "held", scope, &sights);
}

#[test]
#[ignore = "minutes"]
fn one_intent_is_captured_once_whatever_two_things_go_wrong() {
    explore_each(&KEYED, "two faults", |scope| scope, &[Sight::CapturedByAnswer]);
}

#[test]
#[ignore = "minutes"]
fn three_slots_and_every_pair_of_faults() {
    explore_each(&KEYLESS, "three slots", |scope| Scope { workers: 3, ..scope }, &[]);
}

#[test]
#[ignore = "minutes"]
fn two_intents_of_one_payment_and_any_fault() {
    let scope = |scope| Scope {
        asked: vec![ONE; 2],
        faults: 1,
        horizon: 400,
        ..scope
    };
    explore_each(&Kind::ALL, "siblings", scope, &[Sight::NewHistory]);
}

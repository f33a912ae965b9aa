//! Designs that others have built before, each with one mistake by which money moves twice, or gets lost, or is told of
//! when it never moved. The model must find each of them out: else it would prove nothing about ours.
//!
//! `cargo test --test proof designs:: -- --nocapture` tells the shortest way to the harm of each.

use crate::bank::Kind;
use crate::model::{Act, Asked, Design, Fault, Law, Scope, counterexample};

/// A world just large enough for the mistake to show.
fn small(kind: Kind, design: Design, may_fail: &[Fault]) -> Scope {
    Scope {
        faults: 2,
        may_fail: may_fail.to_vec(),
        design,
        ..Scope::of(kind)
    }
}

fn must_break(scope: Scope, law: Law) {
    let name = format!("{:?}, {:?}", scope.design, scope.kind);
    let only = Some(law);
    counterexample(&name, Scope { only, ..scope });
}

#[test]
fn a_key_from_the_attempts_number_captures_twice() {
    let scope = small(Kind::KeyWithWindow, Design::KeyFromTheAttempt, &[Fault::Crash]);
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn settling_without_a_fence_sends_what_another_worker_is_sending() {
    let scope = small(
        Kind::UniqueReference,
        Design::SettleWithoutFence,
        &[Fault::Frozen, Fault::Unreachable],
    );
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn a_keyless_send_without_a_read_before_it_captures_twice() {
    let scope = small(Kind::Nothing, Design::NoReadBeforeAKeylessSend, &[Fault::Unanswered]);
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn without_a_quarantine_a_late_request_captures_a_second_time() {
    let scope = small(Kind::UniqueReference, Design::NoQuarantine, &[Fault::Unanswered]);
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn a_rescue_that_runs_again_captures_twice() {
    let scope = small(Kind::UniqueReference, Design::RescueAsRetry, &[Fault::Crash]);
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn one_quiet_read_is_not_enough_where_reads_lag() {
    let scope = small(
        Kind::UniqueReference,
        Design::OneQuietReadIsEnough,
        &[Fault::Unanswered],
    );
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn a_key_that_is_counted_on_until_it_is_forgotten_captures_twice() {
    let scope = small(
        Kind::KeyWithWindow,
        Design::WindowWithoutMargin,
        &[Fault::Unanswered, Fault::Frozen],
    );
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn a_new_key_as_soon_as_the_old_ones_window_is_over_captures_twice() {
    let scope = small(Kind::KeyWithWindow, Design::NewKeyAtTheWindowsEnd, &[Fault::Crash]);
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn without_a_guard_a_worker_that_slept_captures_a_second_time() {
    let scope = small(Kind::UniqueReference, Design::NoSendGuard, &[Fault::Frozen]);
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn a_lease_that_is_counted_by_a_slow_clock_outlives_itself() {
    let scope = small(Kind::UniqueReference, Design::WallClock, &[Fault::Frozen]);
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn with_taint_forgotten_a_lagging_read_loses_a_capture() {
    let scope = small(Kind::UniqueReference, Design::TaintForgotten, &[Fault::Unanswered]);
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn a_refusal_after_an_unknown_outcome_may_be_the_echo_of_our_success() {
    let scope = Scope {
        asked: vec![Asked {
            minor: 60,
            ..crate::model::ONE
        }],
        ..small(Kind::KeyWithWindow, Design::RefusalTakenAtItsWord, &[Fault::Unanswered])
    };
    must_break(scope, Law::EndedIsTrue);
}

#[test]
fn a_fronts_503_says_nothing_about_the_capture_behind_it() {
    let scope = small(
        Kind::UniqueReference,
        Design::FrontsAnswerTakenForTheProviders,
        &[Fault::Front],
    );
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn a_cancel_that_ends_what_is_in_flight_denies_a_capture() {
    let scope = Scope {
        acts: 1,
        may_act: vec![Act::Cancel],
        ..small(Kind::KeyWithWindow, Design::CancelEndsAtOnce, &[])
    };
    must_break(scope, Law::EndedIsTrue);
}

#[test]
fn a_replay_that_sends_at_once_under_a_new_key_captures_twice() {
    let scope = Scope {
        asked: vec![Asked {
            lost_leases: 4,
            ..crate::model::ONE
        }],
        acts: 1,
        may_act: vec![Act::Replay],
        ..small(Kind::KeyForEver, Design::ReplaySendsAtOnce, &[Fault::Crash])
    };
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn a_database_that_lost_commits_and_does_not_notice_captures_twice() {
    let scope = small(Kind::UniqueReference, Design::EpochIgnored, &[Fault::FailOver]);
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn a_receipt_that_came_late_and_was_dropped_leaves_a_capture_undecided() {
    let scope = Scope {
        asked: vec![Asked {
            lost_leases: 4,
            ..crate::model::ONE
        }],
        ..small(Kind::KeyWithWindow, Design::LateReceiptDropped, &[Fault::Frozen])
    };
    must_break(scope, Law::ReceiptCounts);
}

#[test]
fn two_intents_of_a_payment_that_are_claimed_at_once_move_money_at_once() {
    let scope = Scope {
        asked: vec![crate::model::ONE; 2],
        ..small(Kind::KeyWithWindow, Design::SiblingsClaimedAtOnce, &[])
    };
    must_break(scope, Law::OneAtATime);
}

#[test]
fn a_lease_that_is_written_after_the_send_is_no_lease() {
    let scope = small(Kind::UniqueReference, Design::LeaseAfterTheSend, &[]);
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn without_the_deadlines_margin_a_capture_is_sent_too_late() {
    let scope = Scope {
        deadline: Some(400),
        ..small(
            Kind::KeyWithWindow,
            Design::NoDeadline,
            &[Fault::Unanswered, Fault::Frozen],
        )
    };
    must_break(scope, Law::SentInTime);
}

#[test]
fn a_quarantine_that_is_counted_from_the_claim_ends_before_a_late_send_does() {
    let scope = small(
        Kind::UniqueReference,
        Design::QuietFromTheClaim,
        &[Fault::Frozen, Fault::Unanswered],
    );
    must_break(scope, Law::CapturedOnce);
}

#[test]
fn after_a_lost_history_one_call_is_too_short_a_quarantine() {
    let scope = small(
        Kind::UniqueReference,
        Design::LostHistoryWaitsForOneCall,
        &[Fault::Frozen, Fault::FailOver],
    );
    must_break(scope, Law::CapturedOnce);
}

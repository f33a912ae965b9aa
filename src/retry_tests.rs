use chrono::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::intent::{Currency, Money};
use crate::outcome::Proof;
use crate::provider::{Calls, Exactness};

const HOUR: i64 = 3600;
const KEY_23H: Repeat = Repeat::Key {
    window: Some(Duration::from_secs(23 * 3600)),
};
const KEY_FOR_EVER: Repeat = Repeat::Key { window: None };
const REPEATS: [Repeat; 4] = [KEY_23H, KEY_FOR_EVER, Repeat::UniqueReference, Repeat::Nothing];

fn at(seconds: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_700_000_000 + seconds, 0).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn abilities(repeat: Repeat) -> Abilities {
    Abilities {
        repeat,
        exactness: Exactness::Reference,
        read_lag: Duration::ZERO,
        read_before_send: repeat == Repeat::Nothing,
        calls: Calls { send: 1, read: 1 },
    }
}

/// The call was begun at `now` and answered one second later.
fn situation(policy: &Policy, repeat: Repeat, now: i64) -> Situation<'_> {
    Situation {
        now: at(now + 1),
        sent_at: at(now),
        deadline: None,
        unreleased: false,
        cancel_requested: false,
        no_room: false,
        contested: false,
        abilities: abilities(repeat),
        policy,
    }
}

fn untainted() -> Progress {
    Progress::default()
}

/// An earlier send, at 0, was ambiguous.
fn tainted() -> Progress {
    let mut progress = Progress {
        attempts: 1,
        ..Progress::default()
    };
    progress.may_be_in_flight(at(0), at(85));
    progress.becomes_unknown(at(1));
    progress
}

/// An earlier send, at 0, was taken by the provider.
fn accepted() -> Progress {
    Progress {
        accepted: true,
        ..tainted()
    }
}

fn failed(class: Class, code: &str) -> Outcome {
    Outcome::Failed(Failure::new(class, code))
}

fn http(class: Class, status: u16) -> Outcome {
    Outcome::Failed(Failure::new(class, &format!("http_{status}")).answered(status))
}

fn taken(evidence: Evidence) -> Outcome {
    Outcome::Accepted {
        capture_id: Some("cap_1".to_owned()),
        evidence,
    }
}

fn receipt() -> Receipt {
    Receipt {
        provider_capture_id: "cap_1".to_owned(),
        amount: Money::new(1000, Currency::from_code("USD").unwrap()),
        captured_at: None,
        proof: Proof::Answer,
        authorization_expires_at: None,
        evidence: Evidence::default(),
    }
}

fn word(disposition: &Disposition) -> String {
    match disposition {
        Disposition::Captured(_) => "captured".to_owned(),
        Disposition::Retry(_) => "retry".to_owned(),
        Disposition::Verify(_) => "verify".to_owned(),
        Disposition::Dead(reason, _) => format!("dead {}", reason.name()),
        Disposition::Cancelled => "cancelled".to_owned(),
        Disposition::Return => "return".to_owned(),
    }
}

fn wait_of(disposition: &Disposition) -> Wait {
    match disposition {
        Disposition::Retry(wait) | Disposition::Verify(wait) => *wait,
        other => panic!("{other:?} does not wait"),
    }
}

fn lane_word(lane: &LaneOrder) -> &'static str {
    match lane {
        LaneOrder::None => "",
        LaneOrder::Wait(_) => "wait",
        LaneOrder::Pause(_) => "pause",
    }
}

#[test]
fn every_class_leads_where_the_table_says_with_every_past_and_every_kind_of_repeat() {
    // What follows, and how many attempts it spends: 23 h key, key for ever, unique reference, nothing; and the lane.
    type Row = (Class, fn() -> Progress, &'static str, [i16; 4], &'static str);
    let table: [Row; 21] = [
        (Class::Transient, untainted, "retry", [1, 1, 1, 1], ""),
        (Class::Transient, tainted, "verify", [1, 1, 1, 1], ""),
        (Class::Transient, accepted, "verify", [1, 1, 1, 1], ""),
        (Class::RateLimited, untainted, "retry", [0, 0, 0, 0], "wait"),
        (Class::RateLimited, tainted, "verify", [0, 0, 0, 0], "wait"),
        (Class::RateLimited, accepted, "verify", [0, 0, 0, 0], "wait"),
        // Without a key nobody can say that *ours* is still running: that is no answer.
        (Class::InProgress, untainted, "verify", [0, 0, 1, 1], ""),
        (Class::InProgress, tainted, "verify", [0, 0, 1, 1], ""),
        (Class::InProgress, accepted, "verify", [0, 0, 1, 1], ""),
        (Class::Ambiguous, untainted, "verify", [1, 1, 1, 1], ""),
        (Class::Ambiguous, tainted, "verify", [1, 1, 1, 1], ""),
        (Class::Ambiguous, accepted, "verify", [1, 1, 1, 1], ""),
        (Class::MaybeDone, untainted, "verify", [1, 1, 1, 1], ""),
        (Class::MaybeDone, tainted, "verify", [1, 1, 1, 1], ""),
        (Class::MaybeDone, accepted, "verify", [1, 1, 1, 1], ""),
        (Class::Rejected, untainted, "dead rejected", [1, 1, 1, 1], ""),
        (Class::Rejected, tainted, "verify", [1, 1, 1, 1], ""),
        (Class::Rejected, accepted, "verify", [1, 1, 1, 1], ""),
        (Class::Misconfigured, untainted, "verify", [0, 0, 0, 0], "pause"),
        (Class::Misconfigured, tainted, "verify", [0, 0, 0, 0], "pause"),
        (Class::Misconfigured, accepted, "verify", [0, 0, 0, 0], "pause"),
    ];
    let policy = Policy::default();
    for (class, past, expected, spent, lane) in table {
        for (repeat, spent) in REPEATS.into_iter().zip(spent) {
            let before = past();
            let decision = decide(failed(class, "code"), &before, &situation(&policy, repeat, 100));
            let row = format!("{class} {repeat:?} {before:?}");
            let after = &decision.progress;
            assert_eq!(word(&decision.disposition), expected, "{row}");
            assert_eq!(after.attempts - before.attempts, spent, "{row}");
            assert_eq!(lane_word(&decision.lane), lane, "{row}");
            assert_eq!(after.generation, before.generation, "{row}");
            assert!(
                after.tainted >= before.tainted && after.accepted >= before.accepted,
                "{row}"
            );
            assert_eq!(expected == "verify", after.unknown_since.is_some(), "{row}");
            assert!(!after.tainted || after.first_sent_at.is_some(), "{row}");
        }
    }
}

#[test]
fn what_is_no_failure_leads_where_the_table_says() {
    let policy = Policy::default();
    for repeat in REPEATS {
        for past in [untainted, tainted, accepted] {
            let situation = situation(&policy, repeat, 100);
            let before = past();
            let captured = decide(Outcome::Captured(receipt()), &before, &situation);
            assert_eq!(captured.disposition, Disposition::Captured(receipt()));

            let evidence = Evidence::default();
            let taken = decide(taken(evidence), &before, &situation);
            assert_eq!(
                taken.disposition,
                Disposition::Verify(Wait::Exactly(ACCEPTED_FIRST_LOOK))
            );
            assert!(taken.progress.accepted && taken.progress.tainted && taken.progress.unknown_since.is_some());

            let unsent = Progress {
                lost_leases: 3,
                ..before
            };
            let returned = decide(Outcome::NotSent, &unsent, &situation);
            assert_eq!(returned, Decision::of(Disposition::Return, unsent));
        }
    }
}

#[test]
fn a_fronts_error_is_transient_only_while_the_key_answers_for_the_repeat() {
    // Seconds after the first send at which the answer is here; class with the 23 h key.
    for (answered, class) in [
        (1, Class::Transient),
        (23 * HOUR - 1, Class::Transient),
        (23 * HOUR, Class::Ambiguous),
        (23 * HOUR + 1, Class::Ambiguous),
    ] {
        let policy = Policy::default();
        let failure = Failure::new(Class::Transient, "http_503").answered(503);
        let situation = situation(&policy, KEY_23H, answered - 1);
        assert_eq!(effective_class(&failure, &tainted(), &situation), class, "{answered}");
    }
    for (repeat, class) in [
        (KEY_23H, Class::Transient),
        (KEY_FOR_EVER, Class::Transient),
        (Repeat::UniqueReference, Class::Ambiguous),
        (Repeat::Nothing, Class::Ambiguous),
    ] {
        let policy = Policy::default();
        let situation = situation(&policy, repeat, 0);
        let failure = Failure::new(Class::Transient, "http_503").answered(503);
        assert_eq!(effective_class(&failure, &untainted(), &situation), class, "{repeat:?}");
        // No status: it never came that far. And a token is asked for before there is a capture.
        let refused = Failure::new(Class::Transient, "connect_refused");
        assert_eq!(effective_class(&refused, &untainted(), &situation), Class::Transient);
        let no_token = Failure::new(Class::Transient, "token_http_503").answered(503);
        assert_eq!(effective_class(&no_token, &untainted(), &situation), Class::Transient);
        let decision = decide(Outcome::Failed(no_token), &untainted(), &situation);
        assert_eq!(word(&decision.disposition), "retry");
        assert!(!decision.progress.tainted);
    }
}

#[test]
fn after_a_fronts_error_the_outcome_is_unknown_so_that_no_cancel_and_no_deadline_ends_it_unread() {
    let policy = Policy::default();
    for repeat in REPEATS {
        let decision = decide(
            http(Class::Transient, 503),
            &untainted(),
            &situation(&policy, repeat, 0),
        );
        assert_eq!(
            decision.disposition,
            Disposition::Verify(Wait::UpTo(secs(2))),
            "{repeat:?}"
        );
        assert!(decision.progress.tainted);
        assert_eq!(decision.progress.first_sent_at, Some(at(0)));
        assert_eq!(decision.progress.quiet_after, Some(at(86)));
        let refused = Failure::new(Class::Rejected, "invalid_state").answered(412);
        let class = effective_class(&refused, &decision.progress, &situation(&policy, repeat, 9));
        assert_eq!(class, Class::MaybeDone);
    }
}

/// Found by the model check: quiet reads began 35 s too early for a POST that was sent at the end of its lease, and with
/// reads less far apart than that the capture was sent a second time.
#[test]
fn an_unanswered_call_that_was_begun_long_after_its_claim_may_act_for_a_whole_call_from_now() {
    let policy = Policy::default();
    for repeat in REPEATS {
        // Claimed at 0, sent at 34, reset at once.
        let late = Situation {
            now: at(34),
            ..situation(&policy, repeat, 0)
        };
        let reset = decide(failed(Class::Ambiguous, "connection_reset"), &untainted(), &late);
        assert_eq!(reset.progress.quiet_after, Some(at(34 + 85)));
        assert_eq!(
            reset.progress.first_sent_at,
            Some(at(0)),
            "a key's window runs from the claim"
        );
    }
}

#[test]
fn a_payment_that_does_not_exist_takes_one_read_to_be_believed_where_no_key_answers() {
    let policy = Policy::default();
    for (repeat, expected) in REPEATS.into_iter().zip(["dead rejected", "verify", "verify", "verify"]) {
        let decision = decide(http(Class::Rejected, 404), &untainted(), &situation(&policy, repeat, 0));
        assert_eq!(word(&decision.disposition), expected, "{repeat:?}");
        if expected == "verify" {
            assert_eq!(decision.progress.refusal_class.as_deref(), Some("rejected"));
            assert_eq!(decision.progress.refusal_code.as_deref(), Some("http_404"));
        }
    }
}

#[test]
fn an_unanswered_call_may_act_until_its_time_out_however_early_it_broke_off() {
    let policy = Policy::default();
    for repeat in REPEATS {
        let mut before = tainted();
        before.quiet_reads = 1;
        before.last_quiet_at = Some(at(90));
        let reset = decide(
            failed(Class::Ambiguous, "connection_reset"),
            &before,
            &situation(&policy, repeat, 100),
        );
        assert_eq!(reset.progress.quiet_after, Some(at(186)));
        assert_eq!((reset.progress.quiet_reads, reset.progress.last_quiet_at), (0, None));
        // A later instant that is already known is kept.
        before.quiet_after = Some(at(9000));
        let reset = decide(
            failed(Class::Ambiguous, "connection_reset"),
            &before,
            &situation(&policy, repeat, 100),
        );
        assert_eq!(reset.progress.quiet_after, Some(at(9000)));
    }
}

#[test]
fn a_new_token_that_is_refused_is_minted_anew_once_then_the_lane_stops() {
    let policy = Policy::default();
    for repeat in REPEATS {
        for past in [untainted, tainted] {
            let before = past();
            let situation = situation(&policy, repeat, 100);
            let first = decide(failed(Class::Transient, "token_not_taken"), &before, &situation);
            assert_eq!(wait_of(&first.disposition), Wait::None);
            assert_eq!(
                word(&first.disposition),
                if before.tainted { "verify" } else { "retry" }
            );
            assert_eq!(first.lane, LaneOrder::None);
            let second = decide(failed(Class::Transient, "token_not_taken"), &first.progress, &situation);
            assert_eq!(second.lane, LaneOrder::Pause(Code::new("token_not_taken")));
            assert_eq!(second.disposition, Disposition::Verify(Wait::None));
            assert!(second.progress.read_first);
            assert_eq!(second.progress.attempts, before.attempts);
            assert_eq!(second.progress.last_class.as_deref(), Some("misconfigured"));
        }
    }
}

#[test]
fn faults_of_ours_are_counted_in_a_row_and_never_go_on_for_ever() {
    let policy = Policy::default();
    let tls = (Class::Transient, "tls");
    let token = (Class::Transient, "token_not_taken");
    let old = (Class::Transient, "token_expired");
    let firewall = (Class::Misconfigured, "firewall");
    let limited = (Class::RateLimited, "http_429");
    let key = (Class::Misconfigured, "http_403");
    // A row of failures, and at which of them (from 1) the lane stops.
    type Row<'a> = (&'a [(Class, &'static str)], Option<usize>);
    let table: [Row<'_>; 12] = [
        (&[tls, tls, tls], None),
        (&[tls, tls, tls, tls], Some(4)),
        (&[firewall, firewall, firewall, firewall], Some(4)),
        (&[token, token], Some(2)),
        (&[tls, token], None),
        (&[token, tls, token, tls], Some(4)),
        (&[token, limited, token, limited, token], None),
        // Each worker process finds out for itself that its token is old.
        (&[old, old, old, old, old, old, old, old], None),
        (&[old, old, token, old, token], None),
        (&[old; 21], Some(21)),
        (&[tls, tls, tls, limited, tls, tls, tls], None),
        (&[key], Some(1)),
    ];
    for (failures, stops_at) in table {
        let mut progress = untainted();
        let mut stopped = None;
        for (n, (class, code)) in failures.iter().enumerate() {
            let decision = decide(failed(*class, code), &progress, &situation(&policy, KEY_23H, 0));
            progress = decision.progress;
            assert_eq!(progress.attempts, 0, "{failures:?}");
            if matches!(decision.lane, LaneOrder::Pause(_)) {
                stopped = stopped.or(Some(n + 1));
            }
        }
        assert_eq!(stopped, stops_at, "{failures:?}");
    }
}

#[test]
fn what_is_still_running_is_asked_for_ten_minutes_and_then_read() {
    // Seconds since the first 409; the wait; is a read next?
    for (since, wait, read_first) in [
        (0, 5, false),
        (5, 5, false),
        (10, 10, false),
        (59, 59, false),
        (120, 60, false),
        (599, 60, false),
        (600, 60, true),
        (80_000, 60, true),
    ] {
        let policy = Policy::default();
        let before = Progress {
            in_progress_since: (since > 0).then(|| at(1)),
            ..untainted()
        };
        let decision = decide(
            failed(Class::InProgress, "conflict"),
            &before,
            &situation(&policy, KEY_23H, since),
        );
        assert_eq!(
            decision.disposition,
            Disposition::Verify(Wait::Exactly(secs(wait))),
            "{since}"
        );
        assert_eq!(decision.progress.read_first, read_first, "{since}");
        assert_eq!(decision.progress.attempts, 0);
        // It runs now: nothing is quiet before it had the time of a call, or as long again, to end.
        let may_run = since.clamp(85, 600);
        assert_eq!(decision.progress.quiet_after, Some(at(since + 1 + may_run)), "{since}");
    }
}

#[test]
fn attempts_that_are_used_up_end_it_only_if_nothing_is_unknown() {
    let policy = Policy::default();
    type Row = (fn() -> Progress, Outcome, &'static str);
    let table: [Row; 8] = [
        (untainted, failed(Class::Transient, "dns"), "dead exhausted"),
        (tainted, failed(Class::Transient, "dns"), "verify"),
        (accepted, failed(Class::Transient, "dns"), "verify"),
        (untainted, http(Class::Transient, 503), "verify"),
        (untainted, failed(Class::Ambiguous, "timeout"), "verify"),
        (tainted, failed(Class::Ambiguous, "timeout"), "verify"),
        (untainted, failed(Class::MaybeDone, "http_410"), "verify"),
        (untainted, failed(Class::RateLimited, "http_429"), "retry"),
    ];
    for repeat in REPEATS {
        for (past, outcome, expected) in table.clone() {
            for attempts in [policy.attempts - 1, policy.attempts, i16::MAX] {
                let before = Progress { attempts, ..past() };
                let decision = decide(outcome.clone(), &before, &situation(&policy, repeat, 100));
                assert_eq!(
                    word(&decision.disposition),
                    expected,
                    "{repeat:?} {outcome:?} {attempts}"
                );
            }
        }
    }
}

#[test]
fn the_deadline_beats_the_retry_count() {
    let policy = Policy::default();
    let margin = 15 * 60;
    // Seconds from the answer to the deadline; what follows when nothing is unknown; the longest wait in ms.
    for (left, expected, most_ms) in [
        (margin + 4000, "retry", 2000),
        (margin + 3, "retry", 1500),
        (margin + 1, "retry", 1000),
        (margin, "dead expired", 0),
        (0, "dead expired", 0),
        (-1, "dead expired", 0),
    ] {
        let mut situation = situation(&policy, KEY_23H, 0);
        situation.deadline = Some(at(1 + left));
        let decision = decide(failed(Class::Transient, "dns"), &untainted(), &situation);
        assert_eq!(word(&decision.disposition), expected, "{left}");
        if expected == "retry" {
            assert_eq!(
                wait_of(&decision.disposition),
                Wait::UpTo(Duration::from_millis(most_ms)),
                "{left}"
            );
        }
        let unknown = decide(failed(Class::Transient, "dns"), &tainted(), &situation);
        assert_eq!(word(&unknown.disposition), "verify", "{left}");
        // What the provider asks for is cut as well.
        let mut asked = Failure::new(Class::Transient, "http_503");
        asked.retry_after = Some(secs(3600));
        let decision = decide(Outcome::Failed(asked), &untainted(), &situation);
        if expected == "retry" {
            let half = Duration::from_secs(u64::try_from(left - margin).unwrap()) / 2;
            assert_eq!(
                wait_of(&decision.disposition),
                Wait::Exactly(half.max(secs(1))),
                "{left}"
            );
        }
    }
}

#[test]
fn what_a_provider_asks_us_to_wait_is_kept_within_a_second_and_an_hour() {
    for (asked, waited) in [
        (None, 30),
        (Some(Duration::ZERO), 1),
        (Some(Duration::from_millis(999)), 1),
        (Some(secs(1)), 1),
        (Some(secs(7)), 7),
        (Some(secs(3600)), 3600),
        (Some(secs(3601)), 3600),
        (Some(Duration::MAX), 3600),
    ] {
        assert_eq!(clamp_retry_after(asked), secs(waited), "{asked:?}");
        let policy = Policy::default();
        let mut failure = Failure::new(Class::RateLimited, "http_429").answered(429);
        failure.retry_after = asked;
        let decision = decide(
            Outcome::Failed(failure),
            &untainted(),
            &situation(&policy, Repeat::Nothing, 0),
        );
        assert_eq!(decision.disposition, Disposition::Retry(Wait::Exactly(secs(waited))));
        assert_eq!(decision.lane, LaneOrder::Wait(secs(waited)));
    }
}

#[test]
fn a_call_that_was_surely_not_processed_is_a_first_send_only_where_a_key_may_have_been_seen() {
    let policy = Policy::default();
    let codes = [
        (Class::Transient, "dns"),
        (Class::Transient, "tls"),
        (Class::RateLimited, "http_429"),
        (Class::Misconfigured, "http_401"),
        (Class::Misconfigured, "firewall"),
    ];
    for (repeat, counts) in REPEATS.into_iter().zip([true, true, false, false]) {
        for (class, code) in codes {
            let decision = decide(failed(class, code), &untainted(), &situation(&policy, repeat, 7));
            assert_eq!(
                decision.progress.first_sent_at,
                counts.then(|| at(7)),
                "{code} {repeat:?}"
            );
        }
    }
}

#[test]
fn nothing_is_sent_blind_late_or_against_a_cancel() {
    let policy = Policy::default();
    let read_first = || Progress {
        read_first: true,
        ..untainted()
    };
    let deadline = Some(at(15 * 60));
    type Row = (fn() -> Progress, bool, Option<DateTime<Utc>>, Option<&'static str>);
    let table: [Row; 8] = [
        (untainted, false, None, None),
        (untainted, false, Some(at(15 * 60 + 2)), None),
        (untainted, false, deadline, Some("dead expired")),
        (untainted, true, None, Some("cancelled")),
        (untainted, true, deadline, Some("cancelled")),
        (tainted, true, deadline, Some("verify")),
        (accepted, false, None, Some("verify")),
        (read_first, false, None, Some("verify")),
    ];
    for repeat in REPEATS {
        for (past, cancel_requested, deadline, expected) in table {
            let situation = Situation {
                cancel_requested,
                deadline,
                ..situation(&policy, repeat, 0)
            };
            let decision = before_send(&past(), &situation);
            assert_eq!(
                decision.map(|d| word(&d.disposition)).as_deref(),
                expected,
                "{repeat:?}"
            );
        }
    }
}

prop_compose! {
    fn any_policy()(
        initial_ms in 0u64..10_000_000,
        multiplier_thousandths in 1000u32..20_000,
        max_ms in 1u64..100_000_000,
        attempts in 1i16..=i16::MAX,
    ) -> Policy {
        Policy {
            initial: Duration::from_millis(initial_ms),
            multiplier_thousandths,
            max: Duration::from_millis(max_ms),
            attempts,
            ..Policy::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn ceilings_rise_up_to_the_most_and_are_never_nothing(policy in any_policy(), attempts in any::<i16>()) {
        let this = ceiling(&policy, attempts);
        prop_assert!(this <= policy.max);
        prop_assert!(this > Duration::ZERO);
        prop_assert!(ceiling(&policy, attempts.saturating_add(1)) >= this);
        prop_assert!(attempts > 1 || this == policy.initial.max(Duration::from_millis(1)).min(policy.max));
    }

    #[test]
    fn jitter_stays_between_nothing_and_its_ceiling(ms in 0u64..=u64::MAX) {
        let ceiling = Duration::from_millis(ms);
        prop_assert!(Wait::UpTo(ceiling).draw() <= ceiling);
        prop_assert_eq!(Wait::Exactly(ceiling).draw(), ceiling);
    }

    #[test]
    fn no_past_however_long_makes_a_decision_panic(
        policy in any_policy(),
        class in prop::sample::select(Class::ALL.to_vec()),
        status in prop::option::of(any::<u16>()),
        code in prop::sample::select(vec!["tls", "token_expired", "token_not_taken", "firewall", "http_503", "x"]),
        repeat in prop::sample::select(REPEATS.to_vec()),
        numbers in any::<[i16; 5]>(),
        first in prop::option::of(-10_000_000i64..10_000_000),
        deadline in prop::option::of(-10_000_000i64..10_000_000),
        far in any::<bool>(),
        huge in any::<bool>(),
    ) {
        let most = Duration::MAX;
        let policy = if huge { Policy { verify_quiet: most, deadline_margin: most, longest_call: most, ..policy } } else { policy };
        let before = Progress {
            attempts: numbers[0], own_faults: numbers[1], quiet_reads: numbers[2], looks: numbers[3], lost_leases: numbers[4],
            first_sent_at: first.map(at), in_progress_since: first.map(at),
            ..Progress::default()
        };
        let mut situation = situation(&policy, repeat, 0);
        situation.deadline = if far { Some(DateTime::<Utc>::MAX_UTC) } else { deadline.map(at) };
        let mut failure = Failure::new(class, code);
        failure.http_status = status;
        let decision = decide(Outcome::Failed(failure), &before, &situation);
        prop_assert!(!matches!(decision.disposition, Disposition::Captured(_)));
        if let Disposition::Retry(_) = decision.disposition {
            prop_assert!(!decision.progress.tainted && decision.progress.unknown_since.is_none());
        }
    }
}

#[test]
fn full_jitter_uses_the_whole_range() {
    let ceiling = secs(1000);
    let draws: Vec<Duration> = (0..2000).map(|_| Wait::UpTo(ceiling).draw()).collect();
    for tenth in 0..10u32 {
        let (low, high) = (ceiling / 10 * tenth, ceiling / 10 * (tenth + 1));
        assert!(
            draws.iter().any(|d| (low..=high).contains(d)),
            "nothing between {low:?} and {high:?}"
        );
    }
}

#[test]
fn a_conflict_is_a_question_that_one_early_read_does_not_answer() {
    let policy = Policy::default();
    for repeat in [Repeat::UniqueReference, Repeat::Nothing] {
        let decision = decide(
            http(Class::MaybeDone, 409),
            &untainted(),
            &situation(&policy, repeat, 0),
        );
        assert_eq!(decision.disposition, Disposition::Verify(Wait::None));
        assert!(decision.progress.tainted, "two quiet reads are needed");
        assert_eq!(
            decision.progress.quiet_after,
            Some(at(86)),
            "the first one when it must be over"
        );
    }
}

#[test]
fn a_capture_that_was_taken_is_looked_at_no_later_than_the_longest_pause() {
    let short = Policy {
        max: Duration::from_secs(3),
        ..Policy::default()
    };
    let evidence = Evidence::default();
    let taken = decide(taken(evidence), &untainted(), &situation(&short, KEY_23H, 0));
    assert_eq!(
        taken.disposition,
        Disposition::Verify(Wait::Exactly(Duration::from_secs(3)))
    );
}

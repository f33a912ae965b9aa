use chrono::TimeZone;

use super::*;
use crate::intent::{Currency, Money};
use crate::outcome::{Code, Proof, Receipt};
use crate::provider::{Calls, Exactness};
use crate::retry::Policy;

const HOUR: i64 = 3600;
const KEY_23H: Repeat = Repeat::Key {
    window: Some(Duration::from_secs(23 * 3600)),
};
const KEY_FOR_EVER: Repeat = Repeat::Key { window: None };

/// What a repeat does, and when it is looked at: the first send was at 0.
const PLACES: [(&str, Repeat, i64); 5] = [
    ("key inside its window", KEY_23H, HOUR),
    ("key outside its window", KEY_23H, 24 * HOUR),
    ("key without window", KEY_FOR_EVER, HOUR),
    ("unique reference", Repeat::UniqueReference, HOUR),
    ("nothing", Repeat::Nothing, HOUR),
];

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

fn situation(policy: &Policy, repeat: Repeat, now: i64) -> Situation<'_> {
    Situation {
        now: at(now),
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

/// What is behind an intent in the rows of the tables.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Past {
    /// A read that goes before a send: nothing is unknown.
    BeforeSend,
    /// To be read (after a pause of the lane), but nothing was ever in doubt.
    Untainted,
    /// The send at 0 was ambiguous.
    Tainted,
    /// And one read was quiet, long enough ago.
    QuietOnce,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Also {
    Nothing,
    Accepted,
    Refused,
    Cancelled,
    TooLate,
    Unreleased,
    UnreleasedAndCancelled,
    Over,
    Exhausted,
    ExhaustedAndLate,
    ExhaustedAndCancelled,
    FreshKey,
    ReadFirst,
}

fn past(past: Past, now: i64) -> Progress {
    let mut progress = Progress {
        attempts: 1,
        ..Progress::default()
    };
    if past == Past::BeforeSend {
        return progress;
    }
    progress.first_sent_at = Some(at(0));
    progress.becomes_unknown(at(1));
    if past == Past::Untainted {
        return progress;
    }
    progress.may_be_in_flight(at(0), at(85));
    if past == Past::QuietOnce {
        progress.quiet_reads = 1;
        progress.last_quiet_at = Some(at(now - 600));
    }
    progress
}

fn with(also: Also, progress: &mut Progress, situation: &mut Situation<'_>) {
    let now = situation.now;
    match also {
        Also::Nothing => {}
        Also::Accepted => progress.accepted = true,
        Also::Refused => {
            progress.refusal_class = Some("maybe_done".to_owned());
            progress.refusal_code = Some("payment_captured".to_owned());
        }
        Also::Cancelled => situation.cancel_requested = true,
        Also::TooLate => situation.deadline = Some(now + chrono::TimeDelta::minutes(15)),
        Also::Unreleased => situation.unreleased = true,
        Also::UnreleasedAndCancelled => {
            situation.unreleased = true;
            situation.cancel_requested = true;
        }
        Also::Over => situation.deadline = Some(now),
        Also::Exhausted => progress.attempts = situation.policy.attempts,
        Also::ExhaustedAndLate => {
            progress.attempts = i16::MAX;
            situation.deadline = Some(now);
        }
        Also::ExhaustedAndCancelled => {
            progress.attempts = i16::MAX;
            situation.cancel_requested = true;
        }
        Also::FreshKey => {
            progress.fresh_key = true;
            progress.read_first = true;
        }
        Also::ReadFirst => progress.read_first = true,
    }
}

fn receipt() -> Receipt {
    Receipt {
        provider_capture_id: "cap_1".to_owned(),
        amount: Money::new(1000, Currency::from_code("USD").unwrap()),
        captured_at: None,
        proof: Proof::Reference,
        authorization_expires_at: None,
        evidence: Evidence::default(),
    }
}

fn not_captured() -> Observation {
    Observation::NotCaptured {
        open_minor: None,
        others_minor: None,
        authorization_expires_at: None,
        evidence: Evidence::default(),
    }
}

fn closed() -> Observation {
    Observation::Closed {
        code: Code::new("voided"),
        evidence: Evidence::default(),
    }
}

fn foreign() -> Observation {
    Observation::Foreign {
        evidence: Evidence::default(),
    }
}

fn pending() -> Observation {
    Observation::Pending {
        inferred_id: None,
        evidence: Evidence::default(),
    }
}

fn declined() -> Observation {
    declined_by(Proof::Reference)
}

fn declined_by(proof: Proof) -> Observation {
    Observation::Declined {
        proof,
        code: Code::new("DECLINED"),
        evidence: Evidence::default(),
    }
}

fn contradicts() -> Observation {
    Observation::Contradicts {
        code: Code::new("wrong_amount"),
        evidence: Evidence::default(),
    }
}

fn captured() -> Observation {
    Observation::Captured(receipt())
}

fn failed(class: Class, code: &str) -> Observation {
    Observation::Failed(Failure::new(class, code))
}

/// In the words of the tables: what follows, with the generation of the key where it may be sent.
fn word(weighed: &Weighed) -> String {
    match weighed {
        Weighed::Send(progress) => format!("send {}", progress.generation.0),
        Weighed::Decided(decision) => match &decision.disposition {
            Disposition::Captured(_) => "captured".to_owned(),
            Disposition::Retry(_) => format!("retry {}", decision.progress.generation.0),
            Disposition::Verify(_) => "verify".to_owned(),
            Disposition::Dead(reason, _) => reason.name().to_owned(),
            Disposition::Cancelled => "cancelled".to_owned(),
            Disposition::Return => "return".to_owned(),
        },
    }
}

fn progress_of(weighed: &Weighed) -> &Progress {
    match weighed {
        Weighed::Send(progress) => progress,
        Weighed::Decided(decision) => &decision.progress,
    }
}

fn wait_of(weighed: &Weighed) -> Wait {
    match weighed {
        Weighed::Decided(decision) => match &decision.disposition {
            Disposition::Retry(wait) | Disposition::Verify(wait) => *wait,
            other => panic!("{other:?} does not wait"),
        },
        Weighed::Send(_) => panic!("a send does not wait"),
    }
}

/// One column per entry of `PLACES`; one word for all where they agree.
type Expected = &'static [&'static str];
type Row = (Past, Also, Expected);

fn hold(observation: fn() -> Observation, table: &[Row]) {
    let policy = Policy::default();
    for (before, also, expected) in table {
        for (n, (place, repeat, now)) in PLACES.into_iter().enumerate() {
            let mut situation = situation(&policy, repeat, now);
            let mut progress = past(*before, now);
            with(*also, &mut progress, &mut situation);
            let weighed = weigh(observation(), &progress, &situation);
            let row = format!("{before:?}, {also:?}, {place}");
            let expected = expected.get(n).or(expected.first()).unwrap();
            assert_eq!(word(&weighed), *expected, "{row}");
            let after = progress_of(&weighed);
            match &weighed {
                // What may be sent by another claim, or taken back by a cancel, is known not to be captured.
                Weighed::Decided(decision) if matches!(decision.disposition, Disposition::Retry(_)) => {
                    assert!(
                        !after.tainted && !after.accepted && after.unknown_since.is_none(),
                        "{row}"
                    );
                }
                Weighed::Decided(decision) if matches!(decision.disposition, Disposition::Verify(_)) => {
                    assert!(after.unknown_since.is_some(), "{row}");
                    if progress.fresh_key && !after.fresh_key {
                        // The next key is put on record, to be sent by the next claim.
                        assert_eq!(after.generation, progress.generation.next(), "{row}");
                    } else {
                        assert_eq!(after.generation, progress.generation, "{row}");
                        assert_ne!(wait_of(&weighed), Wait::None, "{row}");
                    }
                }
                Weighed::Send(_) => {
                    assert!(
                        !after.read_first && !after.accepted && !situation.cancel_requested,
                        "{row}"
                    );
                    assert!(!situation.too_late(), "{row}");
                }
                Weighed::Decided(_) => {}
            }
            assert!(!after.tainted || after.first_sent_at.is_some(), "{row}");
            assert!(after.quiet_reads == 0 || after.last_quiet_at.is_some(), "{row}");
        }
    }
}

/// A sibling may have captured in a history that is lost: the key would capture beside it.
#[test]
fn what_is_contested_is_repeated_only_after_enough_quiet_reads() {
    let policy = Policy::default();
    let contested = |now| Situation {
        contested: true,
        ..situation(&policy, KEY_23H, now)
    };
    let mut progress = Progress::default();
    progress.may_be_in_flight(at(0), at(60));
    progress.becomes_unknown(at(0));
    assert_eq!(step(&progress, &situation(&policy, KEY_23H, 61)), Step::Resend);
    assert_eq!(step(&progress, &contested(61)), Step::Read);
    let Weighed::Decided(first) = weigh(not_captured(), &progress, &contested(61)) else {
        panic!("one read is not enough");
    };
    assert!(matches!(first.disposition, Disposition::Verify(_)), "{first:?}");
    let second = weigh(not_captured(), &first.progress, &contested(HOUR));
    assert!(matches!(second, Weighed::Send(_)), "{second:?}");
}

#[test]
fn a_read_that_shows_nothing_of_ours_leads_where_the_table_says() {
    use Past::{BeforeSend, QuietOnce, Tainted, Untainted};
    // Key inside its window, key outside, key without window, unique reference, nothing.
    hold(
        not_captured,
        &[
            (BeforeSend, Also::Nothing, &["send 0"]),
            (BeforeSend, Also::Cancelled, &["cancelled"]),
            (BeforeSend, Also::TooLate, &["expired"]),
            (BeforeSend, Also::Over, &["expired"]),
            (BeforeSend, Also::Exhausted, &["exhausted"]),
            (
                Untainted,
                Also::Nothing,
                &["send 0", "retry 0", "send 0", "retry 0", "retry 0"],
            ),
            (
                Untainted,
                Also::ReadFirst,
                &["send 0", "retry 0", "send 0", "retry 0", "retry 0"],
            ),
            (Untainted, Also::Refused, &["rejected"]),
            (Untainted, Also::Cancelled, &["cancelled"]),
            (Untainted, Also::TooLate, &["expired"]),
            (Untainted, Also::Exhausted, &["exhausted"]),
            (Untainted, Also::ExhaustedAndLate, &["expired"]),
            (Untainted, Also::ExhaustedAndCancelled, &["cancelled"]),
            (
                Untainted,
                Also::FreshKey,
                &["retry 1", "retry 1", "retry 1", "retry 0", "retry 0"],
            ),
            (
                Tainted,
                Also::Nothing,
                &["send 0", "verify", "send 0", "verify", "verify"],
            ),
            (
                Tainted,
                Also::ReadFirst,
                &["send 0", "verify", "send 0", "verify", "verify"],
            ),
            (Tainted, Also::Accepted, &["verify"]),
            (Tainted, Also::Refused, &["verify"]),
            (Tainted, Also::Cancelled, &["verify"]),
            (Tainted, Also::TooLate, &["verify"]),
            (Tainted, Also::Over, &["verify"]),
            (Tainted, Also::Exhausted, &["verify"]),
            (Tainted, Also::ExhaustedAndLate, &["verify"]),
            (Tainted, Also::ExhaustedAndCancelled, &["verify"]),
            (Tainted, Also::FreshKey, &["verify"]),
            (
                QuietOnce,
                Also::Nothing,
                &["send 0", "retry 1", "send 0", "retry 0", "retry 0"],
            ),
            (
                QuietOnce,
                Also::ReadFirst,
                &["send 0", "retry 1", "send 0", "retry 0", "retry 0"],
            ),
            (QuietOnce, Also::Accepted, &["verify"]),
            (QuietOnce, Also::Refused, &["rejected"]),
            (
                QuietOnce,
                Also::Cancelled,
                &["verify", "cancelled", "cancelled", "cancelled", "cancelled"],
            ),
            (
                QuietOnce,
                Also::TooLate,
                &["verify", "expired", "expired", "expired", "expired"],
            ),
            (
                QuietOnce,
                Also::Over,
                &["verify", "expired", "expired", "expired", "expired"],
            ),
            (
                QuietOnce,
                Also::Exhausted,
                &["undecided", "exhausted", "exhausted", "exhausted", "exhausted"],
            ),
            (
                QuietOnce,
                Also::ExhaustedAndLate,
                &["undecided", "expired", "expired", "expired", "expired"],
            ),
            (
                QuietOnce,
                Also::ExhaustedAndCancelled,
                &["verify", "cancelled", "cancelled", "cancelled", "cancelled"],
            ),
            (
                QuietOnce,
                Also::FreshKey,
                &["verify", "retry 1", "verify", "retry 0", "retry 0"],
            ),
        ],
    );
}

#[test]
fn a_read_that_shows_the_authorisation_closed_leads_where_the_table_says() {
    use Past::{BeforeSend, QuietOnce, Tainted, Untainted};
    hold(
        closed,
        &[
            (BeforeSend, Also::Nothing, &["rejected"]),
            (BeforeSend, Also::Over, &["expired"]),
            (BeforeSend, Also::Cancelled, &["cancelled"]),
            (Untainted, Also::Nothing, &["rejected"]),
            (Untainted, Also::Refused, &["rejected"]),
            (Untainted, Also::Over, &["expired"]),
            (Untainted, Also::Exhausted, &["rejected"]),
            (Untainted, Also::FreshKey, &["rejected"]),
            (Tainted, Also::Nothing, &["verify"]),
            (Tainted, Also::Accepted, &["verify"]),
            (Tainted, Also::Refused, &["verify"]),
            (Tainted, Also::Cancelled, &["verify"]),
            (Tainted, Also::Over, &["verify"]),
            (Tainted, Also::ExhaustedAndLate, &["verify"]),
            (QuietOnce, Also::Nothing, &["rejected"]),
            (QuietOnce, Also::Accepted, &["verify"]),
            (QuietOnce, Also::Refused, &["rejected"]),
            (QuietOnce, Also::Cancelled, &["cancelled"]),
            (QuietOnce, Also::TooLate, &["rejected"]),
            (QuietOnce, Also::Over, &["expired"]),
            (QuietOnce, Also::ExhaustedAndLate, &["expired"]),
        ],
    );
}

#[test]
fn a_read_that_shows_anothers_capture_leads_where_the_table_says() {
    use Past::{BeforeSend, QuietOnce, Tainted, Untainted};
    hold(
        foreign,
        &[
            (BeforeSend, Also::Nothing, &["captured_elsewhere"]),
            (Untainted, Also::Refused, &["captured_elsewhere"]),
            (Untainted, Also::Over, &["captured_elsewhere"]),
            // Ours may be the one that a lagging read does not show yet.
            (Tainted, Also::Nothing, &["verify"]),
            (Tainted, Also::Refused, &["verify"]),
            (QuietOnce, Also::Nothing, &["captured_elsewhere"]),
            (QuietOnce, Also::Refused, &["captured_elsewhere"]),
            // The provider took ours, and now it was another's: nobody can tell from here.
            (Tainted, Also::Accepted, &["undecided"]),
            (QuietOnce, Also::Accepted, &["undecided"]),
        ],
    );
}

#[test]
fn what_a_read_proves_at_once_needs_no_second_one() {
    use Past::{BeforeSend, QuietOnce, Tainted, Untainted};
    let everything = [
        Also::Nothing,
        Also::Accepted,
        Also::Refused,
        Also::Cancelled,
        Also::TooLate,
        Also::Over,
        Also::Exhausted,
        Also::ExhaustedAndLate,
        Also::ExhaustedAndCancelled,
        Also::FreshKey,
        Also::ReadFirst,
    ];
    for before in [BeforeSend, Untainted, Tainted, QuietOnce] {
        for also in everything {
            hold(captured, &[(before, also, &["captured"])]);
            hold(pending, &[(before, also, &["verify"])]);
            // But the decline that a replay with a new key comes from is no news; that has a test of its own.
            if also != Also::FreshKey {
                hold(declined, &[(before, also, &["rejected"])]);
            }
            hold(contradicts, &[(before, also, &["undecided"])]);
        }
    }
}

#[test]
fn a_read_that_failed_says_nothing_about_the_money() {
    use Past::{BeforeSend, QuietOnce, Tainted, Untainted};
    let failures: [fn() -> Observation; 4] = [
        || failed(Class::Transient, "dns"),
        || failed(Class::Transient, "http_503"),
        || failed(Class::Ambiguous, "timeout"),
        || failed(Class::RateLimited, "http_429"),
    ];
    for failure in failures {
        hold(
            failure,
            &[
                (BeforeSend, Also::Nothing, &["retry 0"]),
                (BeforeSend, Also::Cancelled, &["cancelled"]),
                (BeforeSend, Also::TooLate, &["expired"]),
                (Untainted, Also::Nothing, &["verify"]),
                (Tainted, Also::Nothing, &["verify"]),
                (Tainted, Also::Accepted, &["verify"]),
                (Tainted, Also::Cancelled, &["verify"]),
                (Tainted, Also::Over, &["verify"]),
                (QuietOnce, Also::Exhausted, &["verify"]),
                (QuietOnce, Also::FreshKey, &["verify"]),
            ],
        );
    }
}

#[test]
fn reads_that_never_succeed_end_undecided_unless_nothing_is_unknown() {
    use Past::{BeforeSend, Tainted, Untainted};
    let policy = Policy::default();
    // Looks before this one, hours since it is unknown, over: what follows.
    let table: [(Past, Also, i16, i64, &str); 16] = [
        (BeforeSend, Also::Nothing, 46, 1, "retry 0"),
        (BeforeSend, Also::Nothing, 47, 1, "exhausted"),
        (BeforeSend, Also::Nothing, i16::MAX, 1, "exhausted"),
        (Untainted, Also::Nothing, 11, 71, "verify"),
        (Untainted, Also::Nothing, 11, 73, "undecided"),
        (Untainted, Also::Refused, 11, 73, "undecided"),
        (Tainted, Also::Nothing, i16::MAX, 71, "verify"),
        (Tainted, Also::Nothing, 10, 73, "verify"),
        (Tainted, Also::Nothing, 11, 73, "undecided"),
        (Tainted, Also::Over, 10, 1, "verify"),
        (Tainted, Also::Over, 11, 1, "undecided"),
        // That nobody released it does not end its authorisation.
        (Tainted, Also::Unreleased, 11, 1, "verify"),
        (Tainted, Also::UnreleasedAndCancelled, 11, 71, "verify"),
        (Tainted, Also::UnreleasedAndCancelled, 11, 73, "undecided"),
        // The end of the authorisation means nothing to a capture that the provider took before.
        (Tainted, Also::Accepted, 11, 73, "undecided"),
        (Tainted, Also::Accepted, 11, 71, "verify"),
    ];
    for (before, also, looks, hours, expected) in table {
        for (place, repeat, _) in PLACES {
            let mut situation = situation(&policy, repeat, hours * HOUR);
            let mut progress = Progress {
                looks,
                ..past(before, hours * HOUR)
            };
            with(also, &mut progress, &mut situation);
            let weighed = weigh(failed(Class::Transient, "dns"), &progress, &situation);
            assert_eq!(word(&weighed), expected, "{before:?} {also:?} {looks} {hours} {place}");
        }
    }
}

#[test]
fn what_was_accepted_is_never_sent_again_whatever_is_seen() {
    let policy = Policy::default();
    for (place, repeat, now) in PLACES {
        for observation in [pending(), not_captured(), closed(), failed(Class::Transient, "dns")] {
            for deadline in [None, Some(at(1))] {
                let mut situation = situation(&policy, repeat, now);
                situation.deadline = deadline;
                let mut progress = past(Past::QuietOnce, now);
                progress.accepted = true;
                progress.looks = 20;
                let weighed = weigh(observation.clone(), &progress, &situation);
                assert_eq!(word(&weighed), "verify", "{place} {observation:?} {deadline:?}");
                assert!(progress_of(&weighed).accepted);
                assert_eq!(step(&progress, &situation), Step::Read);
                if !matches!(observation, Observation::Failed(_)) {
                    assert_eq!(wait_of(&weighed), Wait::Exactly(secs(600)));
                }
            }
        }
    }
}

#[test]
fn a_refusal_that_is_only_inferred_to_be_ours_must_be_seen_twice_with_nothing_of_ours_in_flight() {
    let policy = Policy::default();
    let mut progress = past(Past::Tainted, 0);
    progress.accepted = true;
    progress.quiet_after = Some(at(60));
    let inferred = declined_by(Proof::SoleWriter);
    let apart = i64::try_from(policy.verify_quiet.as_secs()).unwrap();
    for (read_at, expected) in [(30, "verify"), (61, "verify"), (62, "verify"), (61 + apart, "rejected")] {
        let weighed = weigh(
            inferred.clone(),
            &progress,
            &situation(&policy, Repeat::UniqueReference, read_at),
        );
        assert_eq!(word(&weighed), expected, "{read_at}");
        progress = progress_of(&weighed).clone();
    }
    let known = weigh(
        declined(),
        &past(Past::Tainted, 0),
        &situation(&policy, Repeat::UniqueReference, 1),
    );
    assert_eq!(word(&known), "rejected");
}

#[test]
fn a_capture_that_is_not_final_is_looked_at_in_steps_from_30_s_to_10_min() {
    let policy = Policy::default();
    let mut progress = past(Past::Tainted, 0);
    for wait in [30, 60, 90, 120, 150] {
        let weighed = weigh(pending(), &progress, &situation(&policy, Repeat::UniqueReference, 100));
        assert_eq!(wait_of(&weighed), Wait::Exactly(secs(wait)));
        progress = progress_of(&weighed).clone();
    }
    for (looks, wait) in [(18, 570), (19, 600), (2000, 600), (i16::MAX, 600)] {
        progress.looks = looks;
        let weighed = weigh(pending(), &progress, &situation(&policy, Repeat::UniqueReference, 100));
        assert_eq!(wait_of(&weighed), Wait::Exactly(secs(wait)));
    }
}

#[test]
fn the_key_is_repeated_unread_only_inside_its_window_and_only_where_nothing_forbids_it() {
    use Past::{QuietOnce, Tainted, Untainted};
    let policy = Policy::default();
    let table = [
        (Also::Nothing, Step::Resend),
        (Also::Accepted, Step::Read),
        (Also::Refused, Step::Read),
        (Also::Cancelled, Step::Read),
        (Also::TooLate, Step::Read),
        (Also::Over, Step::Read),
        (Also::Exhausted, Step::Read),
        (Also::ExhaustedAndLate, Step::Read),
        (Also::ExhaustedAndCancelled, Step::Read),
        (Also::FreshKey, Step::Read),
        (Also::ReadFirst, Step::Read),
    ];
    for (also, inside) in table {
        for before in [Untainted, Tainted, QuietOnce] {
            for (n, (place, repeat, now)) in PLACES.into_iter().enumerate() {
                let mut situation = situation(&policy, repeat, now);
                let mut progress = past(before, now);
                with(also, &mut progress, &mut situation);
                let expected = if n == 0 { inside } else { Step::Read };
                assert_eq!(step(&progress, &situation), expected, "{before:?} {also:?} {place}");
            }
        }
    }
    for (now, expected) in [
        (0, Step::Resend),
        (23 * HOUR - 1, Step::Resend),
        (23 * HOUR, Step::Read),
        (23 * HOUR + 1, Step::Read),
    ] {
        let progress = past(Tainted, now);
        assert_eq!(step(&progress, &situation(&policy, KEY_23H, now)), expected, "{now}");
    }
    // It was never sent: there is nothing to repeat.
    assert_eq!(step(&Progress::default(), &situation(&policy, KEY_23H, 0)), Step::Read);
}

#[test]
fn two_quiet_reads_prove_only_if_both_are_late_and_far_apart_enough() {
    // Reads at these seconds after the send at 0, of which nothing can act after 85; verify_quiet, read_lag; at which of
    // them (from 1) it is proven.
    type Case = (&'static [i64], u64, u64, Option<usize>);
    let table: [Case; 12] = [
        (&[85, 685], 600, 0, Some(2)),
        (&[84, 684], 600, 0, None),
        (&[84, 684, 1284], 600, 0, Some(3)),
        (&[84, 85, 685], 600, 0, Some(3)),
        (&[85, 684], 600, 0, None),
        (&[85, 684, 685], 600, 0, Some(3)),
        (&[85, 86], 1, 0, Some(2)),
        (&[85, 86], 1, 30, None),
        (&[85, 114, 115], 1, 30, Some(3)),
        (&[0, 1, 2, 3, 50, 84], 1, 0, None),
        (&[100], 1, 0, None),
        (&[100, 100, 100], 1, 0, None),
    ];
    for (reads, quiet, lag, proven_at) in table {
        for (place, repeat) in [("unique", Repeat::UniqueReference), ("nothing", Repeat::Nothing)] {
            let policy = Policy {
                verify_quiet: secs(quiet),
                ..Policy::default()
            };
            let mut progress = past(Past::Tainted, 0);
            let mut proven = None;
            for (n, &read) in reads.iter().enumerate() {
                let mut situation = situation(&policy, repeat, read);
                situation.abilities.read_lag = secs(lag);
                // The answer takes its time; what counts is when the read was begun.
                situation.now = at(read + 1000);
                let weighed = weigh(not_captured(), &progress, &situation);
                progress = progress_of(&weighed).clone();
                match word(&weighed).as_str() {
                    "verify" => assert_ne!(wait_of(&weighed), Wait::Exactly(Duration::ZERO)),
                    "retry 0" => proven = proven.or(Some(n + 1)),
                    other => panic!("{other}"),
                }
                if proven.is_some() {
                    break;
                }
            }
            assert_eq!(proven, proven_at, "{reads:?} {quiet} {lag} {place}");
        }
    }
}

#[test]
fn the_next_look_comes_when_it_can_count() {
    let policy = Policy::default();
    // Read at, quiet reads so far and the last, what is waited.
    let table: [(i64, Option<i64>, Duration); 5] = [
        (10, None, secs(75)),
        (85, None, secs(600)),
        (100, Some(90), secs(590)),
        (689, Some(90), secs(1)),
        (100, Some(5000), secs(5500)),
    ];
    for (now, last, wait) in table {
        let mut progress = past(Past::Tainted, now);
        if let Some(last) = last {
            progress.quiet_reads = 1;
            progress.last_quiet_at = Some(at(last));
        }
        let weighed = weigh(not_captured(), &progress, &situation(&policy, Repeat::Nothing, now));
        assert_eq!(wait_of(&weighed), Wait::Exactly(wait), "{now} {last:?}");
    }
}

#[test]
fn waiting_for_the_end_of_a_window_is_no_busy_loop_however_short_the_quiet_time() {
    let policy = Policy {
        verify_quiet: Duration::from_millis(1),
        ..Policy::default()
    };
    let mut progress = past(Past::Tainted, 0);
    let mut now = at(100);
    let mut looks = 0;
    loop {
        let mut situation = situation(&policy, KEY_23H, 0);
        (situation.now, situation.sent_at, situation.cancel_requested) = (now, now, true);
        let weighed = weigh(not_captured(), &progress, &situation);
        if word(&weighed) == "cancelled" {
            break;
        }
        now += chrono::TimeDelta::from_std(wait_of(&weighed).draw()).unwrap();
        progress = progress_of(&weighed).clone();
        looks += 1;
        assert!(looks < 200, "still looking at {now}");
    }
    assert!(now >= at(23 * HOUR), "ended inside the window, at {now}");
    assert!(now <= at(23 * HOUR + 600));
}

#[test]
fn credentials_that_fail_a_read_stop_the_lane_instead_of_the_intent() {
    let policy = Policy::default();
    let tls = (Class::Transient, "tls");
    let token = (Class::Transient, "token_not_taken");
    let firewall = (Class::Misconfigured, "firewall");
    type Case<'a> = (&'a [(Class, &'a str)], Option<usize>);
    let table: [Case<'_>; 4] = [
        (&[(Class::Misconfigured, "http_401")], Some(1)),
        (&[token, token], Some(2)),
        (&[tls, tls, tls, tls], Some(4)),
        (&[firewall, firewall, firewall, firewall], Some(4)),
    ];
    for (failures, stops_at) in table {
        for before in [Past::BeforeSend, Past::Tainted] {
            let mut progress = past(before, 0);
            let mut stopped = None;
            for (n, (class, code)) in failures.iter().enumerate() {
                let weighed = weigh(failed(*class, code), &progress, &situation(&policy, Repeat::Nothing, 0));
                let Weighed::Decided(decision) = weighed else {
                    panic!("sent")
                };
                if matches!(decision.lane, LaneOrder::Pause(_)) {
                    stopped = stopped.or(Some(n + 1));
                    assert_eq!(decision.progress.read_first, before == Past::Tainted);
                }
                let expected = if before == Past::Tainted { "verify" } else { "retry 0" };
                progress = decision.progress.clone();
                assert_eq!(word(&Weighed::Decided(decision)), expected);
            }
            assert_eq!(stopped, stops_at, "{failures:?}");
        }
    }
}

#[test]
fn a_replay_uses_a_new_key_only_after_a_definite_refusal_and_says_so() {
    let never_sent = Progress::default();
    let definite = Progress {
        first_sent_at: Some(at(0)),
        ..Progress::default()
    };
    let tainted = past(Past::Tainted, 0);
    let accepted = Progress {
        accepted: true,
        ..tainted.clone()
    };
    use DeadReason::{CapturedElsewhere, Exhausted, Expired, Poison, Rejected, Undecided};
    // Hours after the first send; a fresh key?; a part of what the operator is told.
    type Case<'a> = (DeadReason, &'a Progress, Repeat, i64, bool, &'a str);
    let table: [Case<'_>; 25] = [
        (Rejected, &definite, KEY_23H, 1, true, "then key generation 1"),
        (Rejected, &definite, KEY_23H, 500, true, "then key generation 1"),
        (Rejected, &definite, KEY_FOR_EVER, 1, true, "then key generation 1"),
        (CapturedElsewhere, &definite, KEY_23H, 1, true, "then key generation 1"),
        (Rejected, &never_sent, KEY_23H, 1, false, "nothing was ever sent"),
        (
            Exhausted,
            &definite,
            KEY_23H,
            1,
            false,
            "the same key, which the provider knows until",
        ),
        (
            Exhausted,
            &definite,
            KEY_23H,
            30,
            false,
            "no earlier attempt was processed",
        ),
        (Expired, &definite, KEY_23H, 1, false, "the same key"),
        (
            Undecided,
            &definite,
            KEY_23H,
            1,
            false,
            "the same key, which the provider knows until",
        ),
        (Undecided, &definite, KEY_23H, 23, false, "safe only by reads"),
        (
            Rejected,
            &tainted,
            KEY_23H,
            1,
            false,
            "the same key, which the provider knows until",
        ),
        (
            Rejected,
            &tainted,
            KEY_23H,
            23,
            false,
            "safe only by reads: the key's window is over",
        ),
        (Undecided, &tainted, KEY_23H, 500, false, "two quiet reads"),
        (Undecided, &tainted, KEY_FOR_EVER, 500, false, "then the same key"),
        (Undecided, &accepted, KEY_23H, 1, false, "never sent again"),
        (
            Undecided,
            &accepted,
            Repeat::UniqueReference,
            1,
            false,
            "never sent again",
        ),
        (Undecided, &accepted, Repeat::Nothing, 1, false, "never sent again"),
        (
            Rejected,
            &definite,
            Repeat::UniqueReference,
            1,
            false,
            "safe: a read for our reference",
        ),
        (Rejected, &tainted, Repeat::UniqueReference, 1, false, "two quiet reads"),
        (
            Undecided,
            &definite,
            Repeat::UniqueReference,
            1,
            false,
            "two quiet reads",
        ),
        (
            Rejected,
            &definite,
            Repeat::Nothing,
            1,
            false,
            "nobody else should capture",
        ),
        (Rejected, &tainted, Repeat::Nothing, 1, false, "two quiet reads"),
        (Undecided, &tainted, Repeat::Nothing, 1, false, "two quiet reads"),
        (
            Exhausted,
            &never_sent,
            Repeat::Nothing,
            1,
            false,
            "nobody else should capture",
        ),
        (Poison, &never_sent, KEY_23H, 1, false, "nothing was ever sent"),
    ];
    for (reason, progress, repeat, hours, fresh_key, says) in table {
        let plan = plan_replay(reason, progress, abilities(repeat), at(hours * HOUR));
        let row = format!("{reason:?} {repeat:?} {hours} h: {plan:?}");
        assert_eq!(plan.fresh_key, fresh_key, "{row}");
        // Past the window two quiet reads free the next key as well.
        let over = repeat == KEY_23H && hours >= 23 && progress.tainted;
        assert_eq!(plan.next_generation.0, i16::from(fresh_key || over), "{row}");
        assert!(plan.says.contains(says), "{row}");
    }
}

#[test]
fn a_replay_after_a_decline_does_not_take_the_old_decline_for_a_new_one() {
    let policy = Policy::default();
    let situation = situation(&policy, KEY_23H, 3600);
    let replayed = Progress {
        fresh_key: true,
        read_first: true,
        first_sent_at: Some(at(0)),
        unknown_since: Some(at(3600)),
        ..Progress::default()
    };
    let weighed = weigh(declined(), &replayed, &situation);
    assert_eq!(word(&weighed), "retry 1");
    assert_eq!(progress_of(&weighed).generation, KeyGeneration(1));
    // And what that one is answered counts.
    let weighed = weigh(
        declined(),
        &Progress {
            fresh_key: false,
            ..replayed
        },
        &situation,
    );
    assert_eq!(word(&weighed), "rejected");
}

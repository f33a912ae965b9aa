//! Random walks: the decisions, driven as a worker drives them, against a provider whose truth is known to the test.
//!
//! The provider is as bad as its abilities allow: it captures again whenever no key that it still remembers forbids it, it
//! answers late, wrongly classed by a front, or not at all; a request whose answer was lost may be executed until the
//! time-out of its call; reads show a state up to `read_lag` old. Workers die before and after the send, an operator
//! cancels, replays, and resumes lanes days later. After a random number of steps the faults stop.
//!
//! One walk is one seed. What must hold is in `World::check` and at each decision.

use std::fmt::Write;

use chrono::TimeZone;

use super::*;
use crate::intent::{Currency, Money};
use crate::outcome::{Code, Outcome, Proof, Receipt};
use crate::provider::{Calls, Exactness};
use crate::retry::{Policy, before_send, decide};

const LEASE: i64 = 120;
const LONGEST_CALL: i64 = 85;
const DAY: i64 = 24 * 3600;
/// So many waits of nothing may follow each other: a refusal that is read at once, a proof that frees the next send, a
/// fresh token.
const MOST_ZERO_WAITS: usize = 4;
/// So many claims may follow each other once the faults have stopped: a key's window is read through in 10 min steps.
const MOST_CLAIMS: usize = 200;

/// splitmix64: one seed is the whole walk.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = u64::try_from(high - low + 1).unwrap();
        low + i64::try_from(self.next() % span).unwrap()
    }

    fn one_in(&mut self, n: i64) -> bool {
        self.between(1, n) == 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.next() % from.len() as u64).unwrap()]
    }
}

/// How the world may break its own word, to prove that the walks would notice.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    /// A request is executed later than the time-out of its call.
    LateExecution,
    /// Reads lag further behind than known.
    LaggingReads,
    /// The provider forgets keys before their window is over.
    ForgottenKeys,
}

/// A request on its way, or executed: it moves money at `at`, unless its key is known by then.
#[derive(Debug, Clone, Copy)]
struct Request {
    at: i64,
    generation: i16,
}

#[derive(Debug, Clone, Copy)]
struct Capture {
    generation: i16,
    /// From when on it is final, and whether it succeeds then.
    final_at: i64,
    succeeds: bool,
    /// No read shows it before that; later than it was made only if the provider told us "accepted".
    shown_from: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// Claimed for a first send or a retry.
    Send,
    /// Claimed for a verification.
    Verify,
    Ended,
}

struct World {
    dice: Dice,
    lie: Lie,
    policy: Policy,
    abilities: Abilities,
    deadline: Option<i64>,
    now: i64,
    /// The provider's books.
    pending: Vec<Request>,
    captures: Vec<Capture>,
    /// Since when each key is known.
    keys: Vec<(i16, i64)>,
    /// From then on the authorisation takes nothing: voided, or captured by somebody else.
    closed_at: Option<(i64, bool)>,
    faults_until: usize,
    cancel_requested: bool,
    progress: Progress,
    place: Place,
    end: Option<Disposition>,
    trace: String,
}

fn time(seconds: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_700_000_000 + seconds, 0).unwrap()
}

fn duration(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap())
}

fn receipt() -> Receipt {
    Receipt {
        provider_capture_id: "cap".to_owned(),
        amount: Money::new(1000, Currency::from_code("USD").unwrap()),
        captured_at: None,
        proof: Proof::Answer,
        authorization_expires_at: None,
        evidence: Evidence::default(),
    }
}

impl World {
    fn new(seed: u64, lie: Lie) -> World {
        let mut dice = Dice(seed);
        let repeat = dice.pick(&[
            Repeat::Key {
                window: Some(duration(23 * 3600)),
            },
            Repeat::Key { window: None },
            Repeat::UniqueReference,
            Repeat::Nothing,
        ]);
        let abilities = Abilities {
            repeat,
            exactness: Exactness::Reference,
            read_lag: duration(dice.pick(&[0, 0, 1, 30, 400])),
            read_before_send: repeat == Repeat::Nothing || dice.one_in(8),
            calls: Calls { send: 1, read: 1 },
        };
        let policy = Policy {
            attempts: i16::try_from(dice.between(1, 8)).unwrap(),
            verify_quiet: duration(dice.pick(&[1, 1, 20, 600])),
            longest_call: duration(LONGEST_CALL),
            ..Policy::default()
        };
        let deadline = dice.one_in(2).then(|| dice.between(600, 4 * DAY));
        let closed_at = dice.one_in(4).then(|| (dice.between(0, 2 * DAY), dice.one_in(2)));
        let faults_until = usize::try_from(dice.between(0, 40)).unwrap();
        World {
            dice,
            lie,
            policy,
            abilities,
            deadline,
            now: 0,
            pending: Vec::new(),
            captures: Vec::new(),
            keys: Vec::new(),
            closed_at,
            faults_until,
            cancel_requested: false,
            progress: Progress::default(),
            place: Place::Send,
            end: None,
            trace: String::new(),
        }
    }

    fn note(&mut self, what: &str) {
        let _ = writeln!(self.trace, "{:>8} {what}", self.now);
    }

    fn keyed(&self) -> bool {
        matches!(self.abilities.repeat, Repeat::Key { .. })
    }

    /// Lets time pass at the provider: requests that are due move money, unless their key forbids it.
    fn pass_to(&mut self, now: i64) {
        self.now = self.now.max(now);
        self.pending.sort_by_key(|request| request.at);
        while self.pending.first().is_some_and(|request| request.at <= self.now) {
            let request = self.pending.remove(0);
            self.execute(request);
        }
    }

    fn execute(&mut self, request: Request) {
        let life = match (self.abilities.repeat, self.lie) {
            (Repeat::Key { window: Some(_) }, Lie::ForgottenKeys) => 3600,
            (Repeat::Key { window: Some(_) }, _) => DAY,
            (Repeat::Key { window: None }, _) => i64::MAX / 2,
            (Repeat::UniqueReference | Repeat::Nothing, _) => 0,
        };
        let known = |(generation, since): &(i16, i64)| *generation == request.generation && request.at < since + life;
        if self.keyed() && self.keys.iter().any(known) {
            return;
        }
        if self.closed_at.is_some_and(|(closed, _)| request.at >= closed) {
            return;
        }
        self.keys.push((request.generation, request.at));
        let slow = !self.keyed() && self.dice.one_in(4);
        self.captures.push(Capture {
            shown_from: request.at,
            generation: request.generation,
            final_at: request.at + if slow { self.dice.between(1, 5000) } else { 0 },
            succeeds: !slow || self.dice.one_in(2),
        });
        let _ = writeln!(
            self.trace,
            "{:>8} PROVIDER CAPTURES (generation {})",
            request.at, request.generation
        );
    }

    fn situation(&self, sent_at: i64) -> Situation<'_> {
        Situation {
            now: time(self.now),
            sent_at: time(sent_at),
            deadline: self.deadline.map(time),
            unreleased: false,
            cancel_requested: self.cancel_requested,
            no_room: false,
            contested: false,
            abilities: self.abilities,
            policy: &self.policy,
        }
    }

    /// One capture POST, and what is told of it. `None`: the worker died.
    fn post(&mut self, progress: &Progress, faulty: bool, lease_until: i64) -> Option<Outcome> {
        let sent_at = self.now;
        let failed = |class, code: &str| Some(Outcome::Failed(Failure::new(class, code)));
        let lost = |status: Option<u16>, class| {
            let mut failure = Failure::new(class, "lost");
            failure.http_status = status;
            Some(Outcome::Failed(failure))
        };
        let generation = progress.generation.0;
        if faulty {
            match self.dice.between(0, 11) {
                // Surely not processed.
                0 => return failed(Class::Transient, "connect_refused"),
                1 => return failed(Class::RateLimited, "http_429"),
                2 => return failed(Class::Misconfigured, "http_401"),
                3 => return failed(Class::Transient, "token_expired"),
                4 => return failed(Class::Transient, "tls"),
                5 => return failed(Class::Misconfigured, "firewall"),
                6 => return Some(Outcome::NotSent),
                _ => {}
            }
        }
        assert!(!self.situation(sent_at).too_late(), "sent after the last send");
        assert!(!self.cancel_requested, "sent against a cancel");
        assert!(!progress.accepted, "sent again what was accepted");
        // It may never arrive, or be executed at any time until the end of the call.
        let arrives = !faulty || !self.dice.one_in(3);
        let mut at = if faulty && self.dice.one_in(2) {
            self.dice.between(sent_at, (sent_at + LONGEST_CALL).min(lease_until))
        } else {
            sent_at
        };
        if self.lie == Lie::LateExecution && self.dice.one_in(3) {
            at = sent_at + self.dice.between(LONGEST_CALL, 5000);
        }
        let running = self.pending.iter().any(|other| other.generation == generation);
        if self.keyed() && running && at == sent_at {
            // And it may go on running for the time of another call.
            if self.dice.one_in(2) {
                let until = sent_at + self.dice.between(1, LONGEST_CALL);
                for other in &mut self.pending {
                    other.at = other.at.max(until);
                }
            }
            self.pass_to(sent_at + 1);
            return failed(Class::InProgress, "conflict");
        }
        if arrives {
            self.pending.push(Request { at, generation });
        }
        if faulty && self.dice.one_in(6) {
            return None;
        }
        let took = if faulty { self.dice.between(0, LONGEST_CALL) } else { 1 };
        self.pass_to(sent_at + took);
        if faulty && self.dice.one_in(2) {
            let front = self.dice.one_in(2);
            return match (front, self.keyed()) {
                (true, true) => lost(Some(503), Class::Transient),
                // An adapter may call it transient by mistake: it must not matter.
                (true, false) if self.dice.one_in(2) => lost(Some(503), Class::Transient),
                (true | false, _) => lost(None, Class::Ambiguous),
            };
        }
        // An honest answer, as far as the provider can tell by now.
        let ours = self.captures.last().copied();
        match ours {
            Some(capture) if capture.final_at > self.now => {
                if self.dice.one_in(2) {
                    self.captures
                        .iter_mut()
                        .for_each(|capture| capture.shown_from = capture.final_at);
                }
                Some(Outcome::Accepted {
                    capture_id: None,
                    evidence: Evidence::default(),
                })
            }
            Some(capture) if capture.succeeds && !faulty => Some(Outcome::Captured(receipt())),
            Some(capture) if capture.succeeds => match self.dice.between(0, 2) {
                0 => Some(Outcome::Captured(receipt())),
                // The echo of our own success, which only a tainted intent can meet.
                1 if progress.tainted => failed(Class::Rejected, "payment_captured"),
                2 if progress.tainted => failed(Class::MaybeDone, "payment_captured"),
                _ => lost(None, Class::Ambiguous),
            },
            Some(_) => failed(Class::Rejected, "declined"),
            None if self.pending.iter().any(|other| other.generation == generation) => lost(None, Class::Ambiguous),
            None if self.closed_at.is_some_and(|(closed, _)| closed <= self.now) => {
                failed(self.dice.pick(&[Class::Rejected, Class::MaybeDone]), "payment_voided")
            }
            None if arrives => lost(None, Class::Ambiguous),
            None => {
                // It did not arrive, so nobody processed it; a refusal of something else is as true.
                let class = self
                    .dice
                    .pick(&[Class::Transient, Class::Rejected, Class::MaybeDone, Class::Ambiguous]);
                failed(class, "refused")
            }
        }
    }

    fn read(&mut self, faulty: bool) -> Observation {
        let begun = self.now;
        let evidence = Evidence::default();
        if faulty && self.dice.one_in(3) {
            self.pass_to(begun + 10);
            let (class, code) = self.dice.pick(&[
                (Class::Transient, "dns"),
                (Class::Transient, "token_expired"),
                (Class::Transient, "tls"),
                (Class::RateLimited, "http_429"),
                (Class::Misconfigured, "http_401"),
            ]);
            return Observation::Failed(Failure::new(class, code));
        }
        let mut lag = i64::try_from(self.abilities.read_lag.as_secs()).unwrap();
        if self.lie == Lie::LaggingReads {
            lag += 5000;
        }
        let shown_at = begun - self.dice.between(0, lag);
        let took = self.dice.between(0, 20);
        self.pass_to(begun + took);
        let shown = self.captures.iter().rfind(|capture| capture.shown_from <= shown_at);
        match shown {
            Some(capture) if capture.final_at > shown_at => Observation::Pending {
                inferred_id: None,
                evidence,
            },
            Some(capture) if capture.succeeds => Observation::Captured(receipt()),
            Some(_) => Observation::Declined {
                proof: Proof::Reference,
                code: Code::new("declined"),
                evidence,
            },
            // The totals are up to date already, the list is not: nothing is left, and it looks like another's.
            None if !self.captures.is_empty() && self.dice.one_in(2) => match self.dice.one_in(2) {
                true => Observation::Foreign { evidence },
                false => Observation::Closed {
                    code: Code::new("too_little_left"),
                    evidence,
                },
            },
            None => match self.closed_at {
                Some((closed, true)) if closed <= shown_at => Observation::Foreign { evidence },
                Some((closed, false)) if closed <= shown_at => Observation::Closed {
                    code: Code::new("voided"),
                    evidence,
                },
                Some(_) | None => Observation::NotCaptured {
                    open_minor: None,
                    others_minor: None,
                    authorization_expires_at: None,
                    evidence,
                },
            },
        }
    }

    /// What a lapsed lease leaves: see the statement `rescue`.
    fn rescue(&mut self, claimed_at: i64, lease_until: i64) {
        let noticed = lease_until + self.dice.between(0, 10);
        self.pass_to(noticed);
        self.note("worker died; lease lapsed");
        let until = time(self.now.max(lease_until));
        self.progress.may_be_in_flight(time(claimed_at), until);
        self.progress.becomes_unknown(time(self.now));
        self.progress.lost_leases += 1;
        self.place = Place::Verify;
    }

    /// One claim, worked and settled. Returns the wait.
    fn claim(&mut self, faulty: bool) -> Option<Wait> {
        let claimed_at = self.now;
        let lease_until = claimed_at + LEASE;
        let before = self.progress.clone();
        if faulty && self.dice.one_in(12) {
            self.rescue(claimed_at, lease_until);
            return Some(Wait::Exactly(Duration::from_secs(1)));
        }
        let reads_first = match self.place {
            Place::Send => {
                let forbidden = before_send(&before, &self.situation(claimed_at));
                if let Some(decision) = forbidden {
                    return Some(self.settle(&before, decision));
                }
                self.abilities.read_before_send
            }
            Place::Verify => match step(&before, &self.situation(claimed_at)) {
                Step::Resend => false,
                Step::Read => true,
            },
            Place::Ended => return None,
        };
        let mut progress = before.clone();
        if reads_first {
            let observation = self.read(faulty);
            let what = format!("{observation:?}");
            let weighed = weigh(observation, &before, &self.situation(claimed_at));
            self.note(&format!("read: {what}"));
            match weighed {
                Weighed::Decided(decision) => return Some(self.settle(&before, *decision)),
                Weighed::Send(sendable) => {
                    let keyed = self.keyed() && before.first_sent_at.is_some();
                    assert!(keyed || !before.tainted, "sent without proof");
                    assert_eq!(
                        sendable.generation, before.generation,
                        "another key than the lease says"
                    );
                    progress = *sendable;
                }
            }
        }
        // Just before the write the worker looks again: at the lease, and at the deadline.
        if self.now > lease_until - LONGEST_CALL || self.situation(self.now).too_late() {
            let decision = decide(Outcome::NotSent, &progress, &self.situation(self.now));
            return Some(self.settle(&before, decision));
        }
        let sent_at = self.now;
        let Some(outcome) = self.post(&progress, faulty, lease_until) else {
            self.rescue(claimed_at, lease_until);
            return Some(Wait::Exactly(Duration::from_secs(1)));
        };
        self.note(&format!("sent generation {}: {outcome:?}", progress.generation.0));
        let decision = decide(outcome, &progress, &self.situation(sent_at));
        Some(self.settle(&before, decision))
    }

    fn settle(&mut self, before: &Progress, decision: Decision) -> Wait {
        let Decision {
            disposition,
            progress,
            lane,
        } = decision;
        self.note(&format!("-> {disposition:?}"));
        if progress.generation != before.generation {
            let old = before.generation.0;
            assert!(
                self.captures.iter().all(|capture| capture.generation != old),
                "a new key after a capture"
            );
            assert!(
                self.pending.iter().all(|request| request.generation != old),
                "a new key beside the old one"
            );
        }
        assert!(
            !progress.tainted || progress.first_sent_at.is_some(),
            "tainted but never sent"
        );
        assert!(progress.quiet_reads == 0 || progress.last_quiet_at.is_some());
        let wait = match &disposition {
            Disposition::Retry(wait) => {
                self.place = Place::Send;
                assert!(!progress.tainted && !progress.accepted && progress.unknown_since.is_none());
                self.nothing_of_ours("a retry");
                *wait
            }
            Disposition::Verify(wait) => {
                self.place = Place::Verify;
                assert!(progress.unknown_since.is_some(), "verified though nothing is unknown");
                *wait
            }
            Disposition::Return => Wait::UpTo(Duration::from_secs(1)),
            Disposition::Captured(_) | Disposition::Dead(..) | Disposition::Cancelled => {
                self.place = Place::Ended;
                self.end = Some(disposition.clone());
                Wait::None
            }
        };
        self.progress = progress;
        self.check();
        match lane {
            LaneOrder::None => wait,
            LaneOrder::Wait(asked) => Wait::Exactly(asked),
            // Until somebody has mended it.
            LaneOrder::Pause(_) => Wait::Exactly(Duration::from_secs(60)),
        }
    }

    /// Nothing of ours moved money, nor can it any more.
    fn nothing_of_ours(&self, at: &str) {
        assert!(
            self.captures.iter().all(|c| !c.succeeds && c.final_at <= self.now),
            "captured at {at}"
        );
        if self.closed_at.is_none_or(|(closed, _)| closed > self.now) {
            assert!(self.pending.is_empty(), "on its way at {at}");
        }
    }

    fn check(&self) {
        let succeeded = self.captures.iter().filter(|capture| capture.succeeds).count();
        assert!(succeeded <= 1, "captured {succeeded} times");
        match &self.end {
            None => {}
            Some(Disposition::Captured(_)) => assert_eq!(succeeded, 1, "recorded as captured"),
            Some(Disposition::Dead(DeadReason::Undecided, _)) => {}
            Some(Disposition::Dead(reason, _)) => self.nothing_of_ours(reason.name()),
            Some(Disposition::Cancelled) => self.nothing_of_ours("a cancel"),
            Some(other) => panic!("{other:?} is no end"),
        }
    }

    /// An operator replays a dead letter: see the statement `replay`.
    fn replay(&mut self, reason: DeadReason) {
        let plan = plan_replay(reason, &self.progress, self.abilities, time(self.now));
        self.note(&format!("replayed: {plan:?}"));
        let now = time(self.now);
        let before = std::mem::take(&mut self.progress);
        self.progress = Progress {
            attempts: 0,
            looks: 0,
            own_faults: 0,
            lost_leases: 0,
            quiet_reads: 0,
            last_quiet_at: None,
            in_progress_since: None,
            refusal_class: None,
            refusal_code: None,
            fresh_key: plan.fresh_key,
            read_first: true,
            unknown_since: Some(now),
            quiet_after: Some(before.quiet_after.map_or(now, |at| at.max(now))),
            ..before
        };
        self.place = Place::Verify;
        self.end = None;
    }

    /// Walks to the end; the number of claims.
    fn walk(&mut self) -> usize {
        let mut steps = 0;
        let mut honest_steps = 0;
        let mut zero_waits = 0;
        let mut replays = 2;
        loop {
            steps += 1;
            let faulty = steps <= self.faults_until;
            honest_steps = if faulty { 0 } else { honest_steps + 1 };
            assert!(honest_steps < MOST_CLAIMS, "it does not end");
            let Some(wait) = self.claim(faulty) else { break };
            match self.end.clone() {
                Some(Disposition::Dead(reason, _)) if replays > 0 && self.dice.one_in(3) => {
                    // Replays come when they come; whatever is on its way has had its time.
                    let later = self.now + self.dice.pick(&[1, 600, DAY, 10 * DAY]);
                    self.pass_to(later);
                    self.check();
                    replays -= 1;
                    (honest_steps, zero_waits) = (0, 0);
                    self.cancel_requested = false;
                    self.replay(reason);
                    continue;
                }
                Some(_) => break,
                None => {}
            }
            let delay = match wait {
                Wait::None => Duration::ZERO,
                Wait::Exactly(delay) => delay,
                Wait::UpTo(ceiling) if self.dice.one_in(4) => ceiling,
                Wait::UpTo(ceiling) => ceiling / 2,
            };
            zero_waits = if delay.is_zero() { zero_waits + 1 } else { 0 };
            assert!(zero_waits <= MOST_ZERO_WAITS, "a busy loop");
            let mut later = self.now + i64::try_from(delay.as_secs()).unwrap();
            if faulty && self.dice.one_in(10) {
                // The lane is paused, the breaker open, the workers gone.
                later += self.dice.pick(&[60, 3600, 22 * 3600, DAY, 3 * DAY]);
            }
            if self.dice.one_in(15) {
                // Woken early: by a late result, an operator, a clock that was set.
                later = self.now + self.dice.between(0, later - self.now);
            }
            self.pass_to(later);
            if self.dice.one_in(25) && !self.cancel_requested {
                self.note("a cancel is asked for");
                if self.place == Place::Send {
                    // What waits for a send is taken back at once.
                    self.place = Place::Ended;
                    self.end = Some(Disposition::Cancelled);
                    break;
                }
                self.cancel_requested = true;
            }
        }
        self.pass_to(self.now + 100 * DAY);
        self.check();
        steps
    }
}

struct Tally {
    walks: u64,
    steps: usize,
    ends: std::collections::BTreeMap<String, u64>,
    faults: Vec<String>,
}

fn walks(seeds: std::ops::Range<u64>, lie: Lie) -> Tally {
    let mut tally = Tally {
        walks: 0,
        steps: 0,
        ends: std::collections::BTreeMap::new(),
        faults: Vec::new(),
    };
    for seed in seeds {
        let mut world = World::new(seed, lie);
        let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.walk()));
        tally.walks += 1;
        match walked {
            Ok(steps) => {
                tally.steps += steps;
                let end = match &world.end {
                    Some(Disposition::Dead(reason, _)) => reason.name().to_owned(),
                    Some(Disposition::Captured(_)) => "captured".to_owned(),
                    Some(Disposition::Cancelled) => "cancelled".to_owned(),
                    other => format!("{other:?}"),
                };
                *tally.ends.entry(end).or_default() += 1;
            }
            Err(fault) => {
                let said = fault.downcast_ref::<String>().cloned();
                let said = said.or(fault.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                tally.faults.push(format!(
                    "seed {seed}: {}\n{:?} attempts {} quiet {:?} lag {:?} deadline {:?} closed {:?}\n{}",
                    said.unwrap_or_default(),
                    world.abilities.repeat,
                    world.policy.attempts,
                    world.policy.verify_quiet,
                    world.abilities.read_lag,
                    world.deadline,
                    world.closed_at,
                    world.trace
                ));
            }
        }
    }
    tally
}

#[test]
fn no_walk_captures_twice_loses_an_intent_or_records_what_never_happened() {
    let tally = walks(0..60_000, Lie::None);
    assert!(
        tally.faults.is_empty(),
        "{} of {} walks went wrong; the first:\n{}",
        tally.faults.len(),
        tally.walks,
        tally.faults[0]
    );
    // The walks reach every end that the decisions know of.
    for end in [
        "captured",
        "rejected",
        "exhausted",
        "expired",
        "undecided",
        "captured_elsewhere",
        "cancelled",
    ] {
        assert!(tally.ends.contains_key(end), "no walk ended {end}: {:?}", tally.ends);
    }
    assert!(tally.steps > 5 * 60_000, "{} steps", tally.steps);
}

#[test]
fn the_walks_notice_when_the_world_is_worse_than_its_abilities_say() {
    let found: Vec<(Lie, usize)> = [Lie::LateExecution, Lie::LaggingReads, Lie::ForgottenKeys]
        .into_iter()
        .map(|lie| (lie, walks(0..3_000, lie).faults.len()))
        .collect();
    assert!(found.iter().all(|(_, faults)| *faults > 0), "{found:?}");
}

//! What to do next: the outcome of a call and what is behind the intent, in; a decision, out.
//!
//! Everything here is pure: no I/O, no clock, no randomness (but [`Wait::draw`], which the worker calls on the decision,
//! and which is the only use of the `backoff` crate). The rules:
//!
//! - Only a [`Receipt`] makes an intent captured.
//! - `transient`, `rate_limited` and `misconfigured` are *surely not processed*: the intent may be sent again, unless an
//!   earlier attempt is still unknown, in which case it goes on being verified. (A front's 503 is transient only as far as
//!   our key makes a repeat harmless: it leaves the outcome unknown all the same.)
//! - Nothing whose outcome is unknown is ever a [`Disposition::Retry`]: a retry may be cancelled, or given up at the
//!   deadline, as something that surely was not captured.
//! - `ambiguous`, `in_progress` and `maybe_done` are questions. They end by a repeat of the key or by reads (`verify`),
//!   never by running out of patience into "failed".
//! - A tainted intent (an earlier attempt was ambiguous) takes a refusal for the possible echo of its own success.
//! - Nothing is sent from the deadline's margin on.

mod own_faults;
mod schedule;

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::outcome::{Class, Code, Evidence, Failure, Outcome, Receipt};
use crate::progress::Progress;
use crate::provider::{Abilities, Repeat};

pub use self::own_faults::OWN_FAULTS_MOST;
pub(crate) use self::own_faults::{Fault, own_fault};
pub(crate) use self::schedule::before_deadline;
pub use self::schedule::{
    Policy, RATE_LIMITED_DEFAULT, RETRY_AFTER_LEAST, RETRY_AFTER_MOST, Wait, ceiling, clamp_retry_after, delta, later,
};

/// How long an earlier send may be "still running" before we read instead of asking again.
pub const IN_PROGRESS_MOST: Duration = Duration::from_secs(600);
/// Why an intent is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// Refused for good.
    Rejected,
    /// Every attempt was spent, and it is known that nothing was captured.
    Exhausted,
    /// The authorisation ended, or is about to, and it is known that nothing was captured.
    Expired,
    /// Nobody can tell from here whether money moved: a person must.
    Undecided,
    /// Captured by somebody else.
    CapturedElsewhere,
    /// It kills workers, and was never sent.
    Poison,
}

impl DeadReason {
    /// Every reason.
    pub const ALL: [DeadReason; 6] = [
        DeadReason::Rejected,
        DeadReason::Exhausted,
        DeadReason::Expired,
        DeadReason::Undecided,
        DeadReason::CapturedElsewhere,
        DeadReason::Poison,
    ];

    /// The name in SQL, CLI and HTTP.
    pub fn name(self) -> &'static str {
        match self {
            DeadReason::Rejected => "rejected",
            DeadReason::Exhausted => "exhausted",
            DeadReason::Expired => "expired",
            DeadReason::Undecided => "undecided",
            DeadReason::CapturedElsewhere => "captured_elsewhere",
            DeadReason::Poison => "poison",
        }
    }
}

/// What becomes of the intent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Captured, with the proof.
    Captured(Receipt),
    /// Surely not captured; send again after the wait.
    Retry(Wait),
    /// Unknown; verify after the wait.
    Verify(Wait),
    /// Ended without capture, or undecided.
    Dead(DeadReason, Evidence),
    /// Ended because somebody asked for it before anything was sent.
    Cancelled,
    /// Nothing happened to it; back to where it was claimed from.
    Return,
}

/// What the whole lane must do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LaneOrder {
    /// Go on.
    None,
    /// Claim nothing for so long: the provider asked for it.
    Wait(Duration),
    /// Pause until an operator resumes it: ours to fix.
    Pause(Code),
}

/// A decision about one intent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decision {
    /// What becomes of it.
    pub disposition: Disposition,
    /// What it now has behind it.
    pub progress: Progress,
    /// What its lane must do.
    pub lane: LaneOrder,
}

impl Decision {
    /// A decision that asks nothing of the lane.
    pub fn of(disposition: Disposition, progress: Progress) -> Decision {
        Decision {
            disposition,
            progress,
            lane: LaneOrder::None,
        }
    }
}

/// What a decision is made from, beside the outcome and the progress.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// When the call was begun, by the database's time.
    pub sent_at: DateTime<Utc>,
    /// When the authorisation ends, if known.
    pub deadline: Option<DateTime<Utc>>,
    /// It is held and nobody released it: nothing may be sent, however far its end.
    pub unreleased: bool,
    /// Somebody asked to cancel: nothing is sent any more.
    pub cancel_requested: bool,
    /// What siblings captured, or may have, leaves no room for one that is in doubt: nothing is sent any more.
    pub no_room: bool,
    /// Nor would there be room if the siblings that have not ended had captured, and one of them may have, without our books
    /// knowing: nothing that is in doubt is sent unread, and not before enough reads were quiet.
    pub contested: bool,
    /// What the provider can do.
    pub abilities: Abilities,
    /// The settings.
    pub policy: &'a Policy,
}

impl Situation<'_> {
    /// The last instant at which something may be sent; for what nobody released, one that is long gone.
    pub fn last_send(&self) -> Option<DateTime<Utc>> {
        if self.unreleased {
            return Some(DateTime::<Utc>::MIN_UTC);
        }
        let margin = delta(self.policy.deadline_margin);
        let before = |deadline: DateTime<Utc>| deadline.checked_sub_signed(margin);
        self.deadline
            .map(|deadline| before(deadline).unwrap_or(DateTime::<Utc>::MIN_UTC))
    }

    /// Is it too late to send?
    pub fn too_late(&self) -> bool {
        self.last_send().is_some_and(|last| self.now >= last) && !planted!(deadline_ignored)
    }

    /// Is the authorisation over?
    pub fn authorization_ended(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.now >= deadline)
    }

    /// Would a repeat with the same key still be recognised? Half open: at the window's end it is not.
    pub fn inside_key_window(&self, progress: &Progress) -> bool {
        match self.abilities.repeat {
            Repeat::Key { window: None } => true,
            Repeat::Key { window: Some(window) } => match progress.first_sent_at {
                Some(first) => self.now < later(first, window) || planted!(key_window_ignored),
                None => true,
            },
            Repeat::UniqueReference | Repeat::Nothing => false,
        }
    }
}

/// The class of a failure, seen with what is behind the intent: taint turns refusals into questions, and a gateway's
/// "unavailable" is only surely harmless while our key still protects us. Where no key answers for itself, "no such
/// payment" takes one read to be believed, and "still running" is as good as no answer.
pub fn effective_class(failure: &Failure, progress: &Progress, situation: &Situation<'_>) -> Class {
    let key_answers = match situation.abilities.repeat {
        Repeat::Key { window } => window.is_some(),
        Repeat::UniqueReference | Repeat::Nothing => false,
    };
    match failure.class {
        Class::Ambiguous if planted!(ambiguous_taken_for_transient) => Class::Transient,
        // 401, 403, 408, 409 and 429 never come as `rejected`.
        Class::Rejected if progress.tainted && !planted!(taint_forgotten) => Class::MaybeDone,
        Class::Rejected if failure.http_status == Some(404) && !key_answers && !planted!(a_404_believed_at_once) => {
            Class::MaybeDone
        }
        Class::InProgress if !matches!(situation.abilities.repeat, Repeat::Key { .. }) => Class::Ambiguous,
        Class::Transient
            if is_fronts(failure)
                && !planted!(fronts_503_taken_for_harmless)
                && !situation.inside_key_window(progress) =>
        {
            Class::Ambiguous
        }
        same @ (Class::Transient
        | Class::RateLimited
        | Class::InProgress
        | Class::Ambiguous
        | Class::MaybeDone
        | Class::Rejected
        | Class::Misconfigured) => same,
    }
}

/// Is it the answer of something in front of the provider's capture, which may have passed our request on? (A refusal to
/// mint a token came before there was a request.)
fn is_fronts(failure: &Failure) -> bool {
    failure.http_status.is_some_and(|status| status >= 500) && !failure.code.as_str().starts_with("token_")
}

/// What keeps a claimed first send or retry from being sent, if anything does. To be asked before each.
pub fn before_send(before: &Progress, situation: &Situation<'_>) -> Option<Decision> {
    let mut progress = before.clone();
    if progress.tainted || progress.accepted || progress.read_first || progress.unknown_since.is_some() {
        progress.becomes_unknown(situation.now);
        return Some(Decision::of(Disposition::Verify(Wait::None), progress));
    }
    if situation.cancel_requested && !planted!(cancel_wish_ignored) {
        return Some(Decision::of(Disposition::Cancelled, progress));
    }
    let expired = || Disposition::Dead(DeadReason::Expired, Evidence::default());
    situation.too_late().then(|| Decision::of(expired(), progress))
}

/// Decides what follows from the outcome of one capture POST (or of none: [`Outcome::NotSent`]).
pub fn decide(outcome: Outcome, before: &Progress, situation: &Situation<'_>) -> Decision {
    let mut progress = before.clone();
    progress.lost_leases = 0;
    let failure = match outcome {
        Outcome::Captured(receipt) => {
            progress.attempts = progress.attempts.saturating_add(1);
            return Decision::of(Disposition::Captured(receipt), progress);
        }
        Outcome::Accepted { capture_id, .. } => {
            spend(&mut progress, situation);
            progress.accepted = !planted!(accepted_forgotten);
            progress.accepted_id = capture_id;
            progress.tainted = true;
            progress.becomes_unknown(situation.now);
            progress.last_class = None;
            progress.last_code = Some("accepted".to_owned());
            let first_look = ACCEPTED_FIRST_LOOK.min(situation.policy.max);
            return Decision::of(Disposition::Verify(Wait::Exactly(first_look)), progress);
        }
        Outcome::NotSent => {
            progress.lost_leases = before.lost_leases;
            return Decision::of(Disposition::Return, progress);
        }
        Outcome::Failed(failure) => failure,
    };
    let class = effective_class(&failure, before, situation);
    let fault = own_fault(&failure, &mut progress, situation.policy);
    progress.saw(class, &failure.code);
    match class {
        Class::Transient => match fault {
            Fault::NotOurs => transient(failure, progress, situation),
            Fault::Patience(wait) => waited_out(wait, progress, situation),
            Fault::Pause => misconfigured(failure, progress, situation),
        },
        Class::RateLimited => {
            let wait = clamp_retry_after(failure.retry_after);
            keyed_send_counts(&mut progress, situation);
            Decision {
                disposition: again(&progress, Wait::Exactly(wait)),
                progress,
                lane: LaneOrder::Wait(wait),
            }
        }
        Class::InProgress => {
            let since = progress.in_progress_since.unwrap_or(situation.now);
            progress.in_progress_since = Some(since);
            let asked = (situation.now - since).to_std().unwrap_or_default();
            // It runs at this moment. How much longer? At least a whole call; what runs long already, as long again.
            let may_run = asked.min(IN_PROGRESS_MOST).max(situation.policy.longest_call);
            progress.may_be_in_flight(situation.sent_at, later(situation.now, may_run));
            progress.becomes_unknown(situation.now);
            // 5 s at first, then as long as it has already run, at most a minute.
            let wait = asked.clamp(Duration::from_secs(5), Duration::from_secs(60));
            if asked >= IN_PROGRESS_MOST {
                progress.read_first = true;
            }
            Decision::of(Disposition::Verify(Wait::Exactly(wait)), progress)
        }
        Class::Ambiguous => {
            spend(&mut progress, situation);
            unanswered(&mut progress, situation);
            let wait = before_deadline(Wait::UpTo(ceiling(situation.policy, progress.attempts)), situation);
            Decision::of(Disposition::Verify(wait), progress)
        }
        Class::MaybeDone => {
            spend(&mut progress, situation);
            progress.becomes_unknown(situation.now);
            // A conflict says that something runs on this payment at this moment, perhaps our own request that was passed
            // on twice: one read, too early, would take its silence for an answer.
            if failure.http_status == Some(409) {
                unanswered(&mut progress, situation);
            }
            progress.refusal_class = Some(failure.class.name().to_owned());
            progress.refusal_code = Some(failure.code.as_str().to_owned());
            Decision::of(Disposition::Verify(Wait::None), progress)
        }
        Class::Rejected => {
            spend(&mut progress, situation);
            Decision::of(Disposition::Dead(DeadReason::Rejected, failure.evidence), progress)
        }
        Class::Misconfigured => match fault {
            Fault::Patience(wait) => waited_out(wait, progress, situation),
            Fault::NotOurs | Fault::Pause => misconfigured(failure, progress, situation),
        },
    }
}

/// The first look after a provider took a capture that is not final yet; later looks grow to [`ACCEPTED_MOST`]. Neither is
/// longer than `retry.max`.
pub const ACCEPTED_FIRST_LOOK: Duration = Duration::from_secs(30);
/// The longest time between two looks at a capture that is not final yet.
pub const ACCEPTED_MOST: Duration = Duration::from_secs(600);

/// Ours to fix, so it spends no attempt.
fn waited_out(wait: Wait, mut progress: Progress, situation: &Situation<'_>) -> Decision {
    keyed_send_counts(&mut progress, situation);
    Decision::of(again(&progress, wait), progress)
}

fn transient(failure: Failure, mut progress: Progress, situation: &Situation<'_>) -> Decision {
    keyed_send_counts(&mut progress, situation);
    progress.attempts = progress.attempts.saturating_add(1);
    // A front's 5xx is harmless only under the same key: nothing but that key, or reads, may follow it. Not a cancel, a
    // new key, or an end at the deadline, as if nothing had been sent.
    if is_fronts(&failure) {
        unanswered(&mut progress, situation);
    }
    let exhausted = progress.attempts >= situation.policy.attempts;
    if situation.too_late() || exhausted {
        if progress.unknown_since.is_some() {
            return Decision::of(Disposition::Verify(Wait::None), progress);
        }
        let reason = if exhausted {
            DeadReason::Exhausted
        } else {
            DeadReason::Expired
        };
        return Decision::of(Disposition::Dead(reason, failure.evidence), progress);
    }
    let asked = failure
        .retry_after
        .map(|asked| Wait::Exactly(clamp_retry_after(Some(asked))));
    let wait = asked.unwrap_or(Wait::UpTo(ceiling(situation.policy, progress.attempts)));
    Decision::of(again(&progress, before_deadline(wait, situation)), progress)
}

fn misconfigured(failure: Failure, mut progress: Progress, situation: &Situation<'_>) -> Decision {
    keyed_send_counts(&mut progress, situation);
    progress.saw(Class::Misconfigured, &failure.code);
    // Who knows which credentials, or which account, come next: after the pause a read goes first.
    progress.own_faults = 0;
    progress.read_first = true;
    progress.becomes_unknown(situation.now);
    Decision {
        disposition: Disposition::Verify(Wait::None),
        progress,
        lane: LaneOrder::Pause(failure.code),
    }
}

/// A POST that counts was sent.
fn spend(progress: &mut Progress, situation: &Situation<'_>) {
    progress.attempts = progress.attempts.saturating_add(1);
    note_first_send(progress, situation);
    progress.own_faults = 0;
}

/// A POST was sent that nobody answered for: it may act until the time-out of its call, however early it broke off. Its
/// call was begun now at the latest: the claim may be older than that by as long as the guard allows.
fn unanswered(progress: &mut Progress, situation: &Situation<'_>) {
    let until = later(situation.now, situation.policy.longest_call);
    progress.may_be_in_flight(situation.sent_at, until);
    progress.becomes_unknown(situation.now);
}

fn note_first_send(progress: &mut Progress, situation: &Situation<'_>) {
    progress.first_sent_at = Some(progress.first_sent_at.unwrap_or(situation.sent_at));
}

/// Once a keyed provider may have seen the key, its window runs, whatever it answered. For the others a call that was
/// surely not processed must *not* count as a first send: a capture by somebody else after it would look like ours.
fn keyed_send_counts(progress: &mut Progress, situation: &Situation<'_>) {
    match situation.abilities.repeat {
        Repeat::Key { .. } => note_first_send(progress, situation),
        Repeat::UniqueReference | Repeat::Nothing => {}
    }
}

/// Again, as what it is: a retry if nothing is unknown, else a verification.
fn again(progress: &Progress, wait: Wait) -> Disposition {
    if progress.unknown_since.is_some() {
        Disposition::Verify(wait)
    } else {
        Disposition::Retry(wait)
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;

//! Settling an outcome that nobody told us, and the safety of a replay. Pure, like `retry`.
//!
//! Two ways lead out of "unknown": a repeat of the byte-identical request under the same key, where the provider knows
//! keys and the key is still inside its window ([`Step::Resend`]); and reads ([`Step::Read`]), whose [`Observation`] is
//! weighed by [`weigh`]. A read may prove *captured* at once. It proves *not captured* only when it is quiet twice, far
//! enough apart, with nothing of ours left in flight; and never for a key inside its window, where the same key goes on.
//! What fits neither ends as `undecided`, with the evidence, for a person: never by a guess, never by a time-out alone.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::intent::KeyGeneration;
use crate::outcome::{Class, Evidence, Failure, Observation};
use crate::progress::Progress;
use crate::provider::{Abilities, Repeat};
use crate::retry::{self, DeadReason, Decision, Disposition, LaneOrder, Situation, Wait, ceiling, delta};

/// After this long without an answer that decides, an unknown outcome is left to a person. Reads go on until then.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(72 * 3600);
/// And after at least so many looks.
pub const GIVE_UP_LOOKS: i16 = 12;
/// How soon after an ambiguous call the next look comes, at most: reads are cheap next to a person's time.
const LOOK_MOST: Duration = Duration::from_secs(600);

/// How to go on with an unknown outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send the same request with the same key; the provider tells the first outcome.
    Resend,
    /// Read.
    Read,
}

/// What a read leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weighed {
    /// This.
    Decided(Box<Decision>),
    /// The capture may be sent now (by the progress given: same or next generation), in this very claim.
    Send(Box<Progress>),
}

/// May the key be repeated without a read before it?
pub fn step(progress: &Progress, situation: &Situation<'_>) -> Step {
    let window_is_known = matches!(situation.abilities.repeat, Repeat::Key { window: Some(_) });
    let may_resend = window_is_known
        && progress.first_sent_at.is_some()
        && situation.inside_key_window(progress)
        && !situation.too_late()
        && !situation.cancel_requested
        && !progress.accepted
        && !progress.read_first
        && !progress.fresh_key
        && progress.refusal_code.is_none()
        && progress.attempts < situation.policy.attempts;
    if may_resend { Step::Resend } else { Step::Read }
}

/// Weighs what a read shows.
pub fn weigh(observation: Observation, before: &Progress, situation: &Situation<'_>) -> Weighed {
    let mut progress = before.clone();
    progress.lost_leases = 0;
    progress.looks = progress.looks.saturating_add(1);
    let decided = |disposition, progress| Weighed::Decided(Box::new(Decision::of(disposition, progress)));
    match observation {
        Observation::Captured(receipt) => decided(Disposition::Captured(receipt), progress),
        Observation::Pending { evidence } => {
            progress.accepted = true;
            progress.tainted = true;
            progress.first_sent_at = Some(progress.first_sent_at.unwrap_or(situation.sent_at));
            progress.becomes_unknown(situation.now);
            progress.last_code = Some("pending".to_owned());
            look_again(progress, situation, evidence)
        }
        Observation::Declined { code, evidence } => {
            progress.saw(Class::Rejected, &code);
            decided(Disposition::Dead(DeadReason::Rejected, evidence), progress)
        }
        Observation::Foreign { evidence } => {
            decided(Disposition::Dead(DeadReason::CapturedElsewhere, evidence), progress)
        }
        Observation::Contradicts { code, evidence } => {
            progress.saw(Class::Ambiguous, &code);
            decided(Disposition::Dead(DeadReason::Undecided, evidence), progress)
        }
        Observation::NotCaptured { evidence, .. } => nothing_of_ours(None, evidence, progress, situation),
        Observation::Closed { code, evidence } => {
            if progress.refusal_code.is_none() {
                progress.saw(Class::Rejected, &code);
            }
            nothing_of_ours(Some(code.as_str().to_owned()), evidence, progress, situation)
        }
        Observation::Failed(failure) => unreadable(failure, progress, situation),
    }
}

/// The read shows nothing of ours. `closed`: and the authorisation can no longer take it.
fn nothing_of_ours(
    closed: Option<String>,
    evidence: Evidence,
    mut progress: Progress,
    situation: &Situation<'_>,
) -> Weighed {
    let decided = |disposition, progress| Weighed::Decided(Box::new(Decision::of(disposition, progress)));
    if progress.accepted {
        // The provider said that it took it. That it does not show is no proof of anything.
        return look_again(progress, situation, evidence);
    }
    let protected_by_key = situation.inside_key_window(&progress) && progress.first_sent_at.is_some();
    let may_send =
        closed.is_none() && !situation.cancel_requested && !situation.too_late() && progress.refusal_code.is_none();
    if may_send && protected_by_key && !progress.fresh_key && progress.attempts < situation.policy.attempts {
        // Inside its window the same key answers for itself; the read was only asked to go first.
        progress.read_first = false;
        progress.in_progress_since = None;
        return Weighed::Send(Box::new(progress));
    }
    let quiet = count_quiet_read(&mut progress, situation);
    // Inside its window a key that may be on its way can still act: no read proves that it will not. If it may not be
    // repeated either, reading goes on until the window is over.
    let window_ends = matches!(situation.abilities.repeat, Repeat::Key { window: Some(_) });
    let key_may_still_act =
        window_ends && protected_by_key && progress.tainted && progress.refusal_code.is_none() && closed.is_none();
    let exhausted = progress.attempts >= situation.policy.attempts;
    if !quiet || (key_may_still_act && !exhausted) {
        return look_again(progress, situation, evidence);
    }
    // Proven: nothing of ours is there, and nothing of ours is on its way.
    if situation.cancel_requested && !key_may_still_act {
        progress.proven_not_captured();
        return decided(Disposition::Cancelled, progress);
    }
    if progress.refusal_code.is_some() {
        progress.last_class = progress.refusal_class.clone();
        progress.last_code = progress.refusal_code.clone();
        return decided(Disposition::Dead(DeadReason::Rejected, evidence), progress);
    }
    if closed.is_some() {
        let reason = if situation.deadline.is_some_and(|deadline| situation.now >= deadline) {
            DeadReason::Expired
        } else {
            DeadReason::Rejected
        };
        return decided(Disposition::Dead(reason, evidence), progress);
    }
    if situation.too_late() {
        return decided(Disposition::Dead(DeadReason::Expired, evidence), progress);
    }
    if exhausted {
        return decided(
            Disposition::Dead(
                if key_may_still_act {
                    DeadReason::Undecided
                } else {
                    DeadReason::Exhausted
                },
                evidence,
            ),
            progress,
        );
    }
    let was_sent = progress.first_sent_at.is_some();
    progress.proven_not_captured();
    match situation.abilities.repeat {
        // Past its window the old key may move money again, and after a definite refusal it would repeat the refusal:
        // either way a new one, and only now.
        Repeat::Key { .. } if was_sent || progress.fresh_key => progress.generation = progress.generation.next(),
        Repeat::Key { .. } | Repeat::UniqueReference | Repeat::Nothing => {}
    }
    progress.fresh_key = false;
    decided(Disposition::Retry(Wait::None), progress)
}

/// Counts this read if it is a quiet one; true when enough are counted.
fn count_quiet_read(progress: &mut Progress, situation: &Situation<'_>) -> bool {
    let apart = situation.policy.verify_quiet.max(situation.abilities.read_lag);
    // What is untainted was never in doubt: one read is enough.
    if !progress.tainted {
        progress.quiet_reads = progress.quiet_reads.saturating_add(1);
        progress.last_quiet_at = Some(situation.sent_at);
        return true;
    }
    // `sent_at`: when this read was begun, so that it cannot have been answered before something was over.
    let settled_down = progress
        .quiet_after
        .is_none_or(|quiet_after| situation.sent_at >= quiet_after);
    let far_enough = progress
        .last_quiet_at
        .is_none_or(|last| situation.sent_at >= last + delta(apart));
    if settled_down && far_enough {
        progress.quiet_reads = progress.quiet_reads.saturating_add(1);
        progress.last_quiet_at = Some(situation.sent_at);
    }
    progress.quiet_reads >= 2
}

/// When to look again: as soon as the next read can count, or, for a capture that is not final, in growing steps.
fn look_again(mut progress: Progress, situation: &Situation<'_>, evidence: Evidence) -> Weighed {
    let since = progress.unknown_since.unwrap_or(situation.now);
    progress.unknown_since = Some(since);
    if gives_up(&progress, situation) {
        return Weighed::Decided(Box::new(Decision::of(
            Disposition::Dead(DeadReason::Undecided, evidence),
            progress,
        )));
    }
    let wait = if progress.accepted {
        let grown = retry::ACCEPTED_FIRST_LOOK.saturating_mul(u32::try_from(progress.looks.max(1)).unwrap_or(1));
        grown.min(retry::ACCEPTED_MOST)
    } else {
        let apart = situation.policy.verify_quiet.max(situation.abilities.read_lag);
        let next = match (progress.last_quiet_at, progress.quiet_after) {
            (Some(last), _) => last + delta(apart),
            (None, Some(quiet_after)) => quiet_after,
            (None, None) => situation.now,
        };
        // Never a busy loop, whatever the clock says.
        (next - situation.now)
            .max(TimeDelta::milliseconds(10))
            .to_std()
            .unwrap_or(LOOK_MOST)
    };
    Weighed::Decided(Box::new(Decision::of(
        Disposition::Verify(Wait::Exactly(wait)),
        progress,
    )))
}

/// The read failed: that says nothing about the money.
fn unreadable(failure: Failure, mut progress: Progress, situation: &Situation<'_>) -> Weighed {
    progress.saw(failure.class, &failure.code);
    let wait = Wait::UpTo(ceiling(situation.policy, progress.looks).clamp(Duration::from_secs(1), LOOK_MOST));
    let (wait, lane) = match failure.class {
        Class::RateLimited => {
            let asked = retry::clamp_retry_after(failure.retry_after);
            (Wait::Exactly(asked), LaneOrder::Wait(asked))
        }
        Class::Misconfigured => (Wait::None, LaneOrder::Pause(failure.code.clone())),
        Class::Transient | Class::InProgress | Class::Ambiguous | Class::MaybeDone | Class::Rejected => {
            (wait, LaneOrder::None)
        }
    };
    // A read before a first send: nothing is unknown, nothing was sent; reads spend no attempt, but not without bound.
    let nothing_unknown = progress.unknown_since.is_none();
    let over = if nothing_unknown {
        progress.looks >= situation.policy.attempts.saturating_mul(4)
    } else {
        gives_up(&progress, situation)
    };
    if lane == LaneOrder::None && over {
        let reason = if progress.tainted || progress.accepted {
            DeadReason::Undecided
        } else {
            DeadReason::Exhausted
        };
        return Weighed::Decided(Box::new(Decision::of(
            Disposition::Dead(reason, failure.evidence),
            progress,
        )));
    }
    let disposition = if nothing_unknown {
        Disposition::Retry(wait)
    } else {
        Disposition::Verify(wait)
    };
    Weighed::Decided(Box::new(Decision {
        disposition,
        progress,
        lane,
    }))
}

/// Has it been looked at often and long enough? (Or is the authorisation over, so that waiting helps nobody.)
fn gives_up(progress: &Progress, situation: &Situation<'_>) -> bool {
    let since = progress.unknown_since.unwrap_or(situation.now);
    let long = situation.now >= since + delta(GIVE_UP_AFTER);
    let over = situation.deadline.is_some_and(|deadline| situation.now >= deadline);
    progress.looks >= GIVE_UP_LOOKS && (long || over)
}

/// Whether a dead letter may be replayed, and with which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayPlan {
    /// A new key may be used once the read shows nothing.
    pub fresh_key: bool,
    /// The generation that the next send would carry if the read shows nothing.
    pub next_generation: KeyGeneration,
    /// In words, for the operator.
    pub says: String,
}

/// A replay always reads first. After a definite, untainted refusal a repeat of the key would only repeat the refusal, so
/// a new generation may follow the read; after anything unknown the old key stays, inside its window, and a new one needs
/// the window's end and two quiet reads.
pub fn plan_replay(reason: DeadReason, progress: &Progress, abilities: Abilities, now: DateTime<Utc>) -> ReplayPlan {
    let keyed = matches!(abilities.repeat, Repeat::Key { .. });
    let definite = !progress.tainted && !progress.accepted && reason != DeadReason::Undecided;
    let fresh_key = keyed && definite && progress.first_sent_at.is_some();
    let next_generation = if fresh_key {
        progress.generation.next()
    } else {
        progress.generation
    };
    let says = match (abilities.repeat, progress.first_sent_at) {
        (Repeat::Key { .. }, _) if fresh_key => format!(
            "safe: the refusal was definite and no earlier outcome is unknown; a read goes first, then key generation {}",
            next_generation.0
        ),
        (Repeat::Key { .. }, None) => "safe: nothing was ever sent under its key; a read goes first".to_owned(),
        (Repeat::Key { window: Some(window) }, Some(first)) if now < first + delta(window) => format!(
            "safe: a read goes first, then the same key, which the provider knows until {}",
            (first + delta(window)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        ),
        (Repeat::Key { window: Some(_) }, Some(_)) => {
            "safe only by reads: the key's window is over; two quiet reads must show nothing before a new key is used"
                .to_owned()
        }
        (Repeat::Key { window: None }, Some(_)) => "safe: a read goes first, then the same key".to_owned(),
        (Repeat::UniqueReference, _) if definite => "safe: a read for our reference goes first".to_owned(),
        (Repeat::UniqueReference, _) => {
            "safe only by reads: two quiet reads must not show our reference before it is sent again".to_owned()
        }
        (Repeat::Nothing, _) if definite => {
            "safe: a read goes first; this provider has no key, so nobody else should capture this payment meanwhile"
                .to_owned()
        }
        (Repeat::Nothing, _) => {
            "safe only by reads: this provider has no key; two quiet reads must show nothing before one more send"
                .to_owned()
        }
    };
    ReplayPlan {
        fresh_key,
        next_generation,
        says,
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;

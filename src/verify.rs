//! Settling an outcome that nobody told us, and the safety of a replay. Pure, like `retry`.
//!
//! Two ways lead out of "unknown": a repeat of the byte-identical request under the same key, where the provider knows
//! keys and the key is still inside its window ([`Step::Resend`]); and reads ([`Step::Read`]), whose [`Observation`] is
//! weighed by [`weigh`]. A read may prove *captured* at once. It proves *not captured* only when it is quiet twice, far
//! enough apart, with nothing of ours left in flight; and never for a key inside its window, where the same key goes on.
//! What fits neither ends as `undecided`, with the evidence, for a person: never by a guess, never by a time-out alone.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::intent::KeyGeneration;
use crate::outcome::{Class, Code, Evidence, Failure, Observation, Proof};
use crate::progress::Progress;
use crate::provider::{Abilities, Repeat};
use crate::retry::{
    self, DeadReason, Decision, Disposition, Fault, LaneOrder, Policy, Situation, Wait, ceiling, later,
};

/// After this long without an answer that decides, an unknown outcome is left to a person. Reads go on until then.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(72 * 3600);
/// And after at least so many looks.
pub const GIVE_UP_LOOKS: i16 = 12;
/// How many quiet reads prove that nothing was captured.
const QUIET_READS: i16 = 2;
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
    /// The capture may be sent now, in this very claim, with the progress given (the generation is that of the claim): the
    /// read went before a send of which nothing is unknown, or the key answers for itself.
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
        && !situation.no_room
        && !situation.contested
        && !progress.accepted
        && (!progress.read_first || planted!(replay_without_a_read))
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
    match observation {
        Observation::Captured(receipt) => decided(Disposition::Captured(receipt), progress),
        Observation::Pending { inferred_id, evidence } => {
            progress.accepted = true;
            progress.pending_id = inferred_id;
            progress.tainted = true;
            progress.first_sent_at = Some(progress.first_sent_at.unwrap_or(situation.sent_at));
            progress.becomes_unknown(situation.now);
            progress.last_code = Some("pending".to_owned());
            accepted_looks_again(progress, situation, evidence)
        }
        // A replay after a definite refusal: that refusal is what the read still shows, and a new key is what comes next.
        Observation::Declined { evidence, .. } if progress.fresh_key && !progress.accepted => {
            nothing_of_ours(false, evidence, progress, situation)
        }
        Observation::Declined { code, proof, evidence } => {
            let inferred = match proof {
                Proof::SoleWriter | Proof::Marker => true,
                Proof::Answer | Proof::Reference | Proof::Person => false,
            };
            // Ours may be another one, which is still on its way.
            if inferred && !count_quiet_read(&mut progress, situation) {
                return look_again(progress, situation);
            }
            progress.saw(Class::Rejected, &code);
            decided(Disposition::Dead(DeadReason::Rejected, evidence), progress)
        }
        Observation::Foreign { evidence } => foreign(evidence, progress, situation),
        Observation::Contradicts { code, evidence } => {
            progress.saw(Class::Ambiguous, &code);
            decided(Disposition::Dead(DeadReason::Undecided, evidence), progress)
        }
        Observation::NotCaptured { evidence, .. } => nothing_of_ours(false, evidence, progress, situation),
        Observation::Closed { code, evidence } => {
            if progress.refusal_code.is_none() {
                progress.saw(Class::Rejected, &code);
            }
            nothing_of_ours(true, evidence, progress, situation)
        }
        Observation::Failed(failure) => unreadable(failure, progress, situation),
    }
}

fn decided(disposition: Disposition, progress: Progress) -> Weighed {
    Weighed::Decided(Box::new(Decision::of(disposition, progress)))
}

/// The read shows somebody else's capture, and no room for ours.
fn foreign(evidence: Evidence, mut progress: Progress, situation: &Situation<'_>) -> Weighed {
    if progress.accepted {
        // The provider said that it took ours. Both cannot be true.
        return decided(Disposition::Dead(DeadReason::Undecided, evidence), progress);
    }
    // Ours may be the one that is not shown yet.
    if !count_quiet_read(&mut progress, situation) {
        return look_again(progress, situation);
    }
    decided(Disposition::Dead(DeadReason::CapturedElsewhere, evidence), progress)
}

/// The read shows nothing of ours. `closed`: and the authorisation can no longer take it.
fn nothing_of_ours(closed: bool, evidence: Evidence, mut progress: Progress, situation: &Situation<'_>) -> Weighed {
    let dead = |reason, progress| decided(Disposition::Dead(reason, evidence.clone()), progress);
    if progress.accepted {
        // The provider said that it took it. That it does not show is no proof of anything.
        return accepted_looks_again(progress, situation, evidence);
    }
    let nothing_unknown = progress.unknown_since.is_none();
    let protected_by_key = situation.inside_key_window(&progress) && progress.first_sent_at.is_some();
    let refused = progress.refusal_code.is_some();
    let may_send = !closed && !refused && !situation.cancel_requested && !situation.no_room && !situation.too_late();
    let exhausted = progress.attempts >= situation.policy.attempts;
    if situation.contested && !count_quiet_read(&mut progress, situation) {
        return look_again(progress, situation);
    }
    if may_send && protected_by_key && !progress.fresh_key && !exhausted {
        if gives_up(&progress, situation) {
            return dead(DeadReason::Undecided, progress);
        }
        // What the read was asked for may still be on its way: in a lost history, under a later key.
        let settled_down = progress
            .quiet_after
            .map(|after| later(after, situation.abilities.read_lag));
        if progress.read_first
            && progress.tainted
            && let Some(settled_down) = settled_down
            && situation.sent_at < settled_down
            && !planted!(key_repeated_before_it_is_quiet)
        {
            progress.becomes_unknown(situation.now);
            progress.own_faults = 0;
            let wait = (settled_down - situation.now).to_std().unwrap_or_default();
            return decided(
                Disposition::Verify(Wait::Exactly(wait.max(Duration::from_millis(10)))),
                progress,
            );
        }
        // Inside its window the same key answers for itself; the read was only asked to go first.
        progress.read_first = false;
        return Weighed::Send(Box::new(progress));
    }
    if may_send && protected_by_key && progress.fresh_key && progress.tainted && !exhausted {
        // A replay after a definite refusal, and perhaps a second one: whoever replayed it in a history that is lost raised
        // the key as we do, so that the next key answers for theirs. On record before it is sent.
        progress.generation = progress.generation.next();
        progress.fresh_key = false;
        progress.read_first = false;
        return decided(Disposition::Verify(Wait::None), progress);
    }
    if !count_quiet_read(&mut progress, situation) {
        return look_again(progress, situation);
    }
    // Inside its window a key that may be on its way can still act: no read proves that it will not. If it may not be
    // repeated either, reading goes on until the window is over.
    let window_ends = matches!(situation.abilities.repeat, Repeat::Key { window: Some(_) });
    if window_ends
        && protected_by_key
        && progress.tainted
        && !refused
        && !closed
        && !planted!(reads_prove_against_a_live_key)
    {
        if exhausted && !situation.cancel_requested && !situation.no_room {
            return dead(DeadReason::Undecided, progress);
        }
        return look_again(progress, situation);
    }
    // Proven: nothing of ours is there, and nothing of ours is on its way.
    if situation.cancel_requested && !planted!(cancel_wish_ignored) {
        progress.proven_not_captured();
        return decided(Disposition::Cancelled, progress);
    }
    if refused {
        progress.last_class = progress.refusal_class.clone();
        progress.last_code = progress.refusal_code.clone();
        return dead(DeadReason::Rejected, progress);
    }
    if closed {
        // What nobody released is claimed only once its end is near.
        let reason = if situation.authorization_ended() || situation.unreleased {
            DeadReason::Expired
        } else {
            DeadReason::Rejected
        };
        return dead(reason, progress);
    }
    if situation.no_room {
        progress.saw(Class::Rejected, &Code::new("over_authorized"));
        return dead(DeadReason::Rejected, progress);
    }
    if situation.too_late() {
        return dead(DeadReason::Expired, progress);
    }
    if exhausted {
        return dead(DeadReason::Exhausted, progress);
    }
    if nothing_unknown && !progress.tainted && !progress.fresh_key && !progress.read_first {
        // A read that goes before a send, as the provider needs it. It was readable: failed ones count in a row.
        progress.looks = 0;
        return Weighed::Send(Box::new(progress));
    }
    // Past its window a key that may have reached the provider may move money again, and after a definite refusal it
    // would repeat the refusal: either way a new one, and only now. One that surely was not processed stays.
    let spent_key = progress.fresh_key || (progress.tainted && progress.first_sent_at.is_some());
    progress.proven_not_captured();
    match situation.abilities.repeat {
        Repeat::Key { .. } if spent_key && !planted!(generation_never_rises) => {
            progress.generation = progress.generation.next()
        }
        Repeat::Key { .. } | Repeat::UniqueReference | Repeat::Nothing => {}
    }
    progress.fresh_key = false;
    decided(Disposition::Retry(Wait::None), progress)
}

/// Counts this read if it is a quiet one; true when enough are counted.
fn count_quiet_read(progress: &mut Progress, situation: &Situation<'_>) -> bool {
    // What is untainted was never in doubt: one read is enough.
    if !progress.tainted {
        return true;
    }
    // `sent_at`: when this read was begun, so that it cannot have been answered before something was over.
    let settled_down = progress
        .quiet_after
        .is_none_or(|quiet_after| situation.sent_at >= quiet_after || planted!(quarantine_ignored));
    let far_enough = progress
        .last_quiet_at
        .is_none_or(|last| situation.sent_at >= later(last, apart(situation)));
    if settled_down && far_enough {
        progress.quiet_reads = progress.quiet_reads.saturating_add(1);
        progress.last_quiet_at = Some(situation.sent_at);
    }
    progress.quiet_reads
        >= if planted!(one_quiet_read_is_enough) {
            1
        } else {
            QUIET_READS
        }
}

/// How far apart two reads must be for both to count.
fn apart(situation: &Situation<'_>) -> Duration {
    if planted!(read_lag_ignored) {
        return Duration::ZERO;
    }
    situation.policy.verify_quiet.max(situation.abilities.read_lag)
}

/// Steps that grow with the looks, no longer than the longest pause of the settings.
fn growing(progress: &Progress, policy: &Policy) -> Duration {
    let looks = u32::try_from(progress.looks.max(1)).unwrap_or(1);
    retry::ACCEPTED_FIRST_LOOK
        .saturating_mul(looks)
        .min(retry::ACCEPTED_MOST)
        .min(policy.max)
}

/// Looks again as soon as the next read can count. It ends by itself: by enough quiet reads, or by the end of a window.
fn look_again(mut progress: Progress, situation: &Situation<'_>) -> Weighed {
    progress.becomes_unknown(situation.now);
    progress.own_faults = 0;
    let next = match (progress.last_quiet_at, progress.quiet_after) {
        (Some(last), _) => later(last, apart(situation)),
        (None, Some(quiet_after)) => quiet_after,
        (None, None) => situation.now,
    };
    // Never a busy loop, whatever the clock says; and once reads are quiet, only the end of a window is waited for.
    let least = if progress.quiet_reads >= QUIET_READS {
        growing(&progress, situation.policy)
    } else {
        Duration::from_millis(10)
    };
    let wait = (next - situation.now).to_std().unwrap_or_default().max(least);
    decided(Disposition::Verify(Wait::Exactly(wait)), progress)
}

/// Looks again, in growing steps, at a capture that the provider took and that is not final, or does not show. Only that
/// ends it, or a person: the end of the authorisation means nothing to a capture that was taken before.
fn accepted_looks_again(mut progress: Progress, situation: &Situation<'_>, evidence: Evidence) -> Weighed {
    progress.becomes_unknown(situation.now);
    progress.own_faults = 0;
    if looked_long(&progress, situation) {
        return decided(Disposition::Dead(DeadReason::Undecided, evidence), progress);
    }
    let wait = growing(&progress, situation.policy);
    decided(Disposition::Verify(Wait::Exactly(wait)), progress)
}

/// The read failed: that says nothing about the money.
fn unreadable(failure: Failure, mut progress: Progress, situation: &Situation<'_>) -> Weighed {
    let fault = retry::own_fault(&failure, &mut progress, situation.policy);
    progress.saw(failure.class, &failure.code);
    let nothing_unknown = progress.unknown_since.is_none() && !progress.tainted && !progress.accepted;
    let (wait, lane) = match (fault, failure.class) {
        (Fault::Pause, _) => {
            // Who knows which credentials come next: after the pause a read goes first.
            progress.own_faults = 0;
            progress.read_first |= !nothing_unknown;
            (Wait::None, LaneOrder::Pause(failure.code))
        }
        (Fault::Patience(wait), _) => (wait, LaneOrder::None),
        (Fault::NotOurs, Class::RateLimited) => {
            let asked = retry::clamp_retry_after(failure.retry_after);
            (Wait::Exactly(asked), LaneOrder::Wait(asked))
        }
        (Fault::NotOurs, _) => {
            let most = ceiling(situation.policy, progress.looks).clamp(Duration::from_secs(1), LOOK_MOST);
            let wait = if situation.too_late() {
                Wait::UpTo(most)
            } else {
                retry::before_deadline(Wait::UpTo(most), situation)
            };
            (wait, LaneOrder::None)
        }
    };
    // Nothing is unknown: a read before a first send, or after something that surely was not processed.
    let over = if nothing_unknown {
        // Reads spend no attempt, but not without bound.
        let often = progress.looks >= situation.policy.attempts.saturating_mul(4);
        if situation.cancel_requested {
            Some(Disposition::Cancelled)
        } else if situation.too_late() {
            Some(Disposition::Dead(DeadReason::Expired, failure.evidence))
        } else {
            let exhausted = Disposition::Dead(DeadReason::Exhausted, failure.evidence);
            (often && lane == LaneOrder::None).then_some(exhausted)
        }
    } else {
        let undecided = Disposition::Dead(DeadReason::Undecided, failure.evidence);
        (gives_up(&progress, situation) && lane == LaneOrder::None).then_some(undecided)
    };
    let disposition = over.unwrap_or(if nothing_unknown {
        Disposition::Retry(wait)
    } else {
        Disposition::Verify(wait)
    });
    Weighed::Decided(Box::new(Decision {
        disposition,
        progress,
        lane,
    }))
}

/// Has it been looked at often and long enough?
fn looked_long(progress: &Progress, situation: &Situation<'_>) -> bool {
    let since = progress.unknown_since.unwrap_or(situation.now);
    progress.looks >= GIVE_UP_LOOKS && situation.now >= later(since, GIVE_UP_AFTER)
}

/// Or is the authorisation over, so that waiting for a read helps nobody?
fn gives_up(progress: &Progress, situation: &Situation<'_>) -> bool {
    let over = situation.authorization_ended();
    looked_long(progress, situation) || (progress.looks >= GIVE_UP_LOOKS && over && !progress.accepted)
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
    // Only a refusal is tied to its key; what was surely not processed goes on with the same one.
    let refused = matches!(reason, DeadReason::Rejected | DeadReason::CapturedElsewhere);
    let fresh_key = keyed && definite && refused && progress.first_sent_at.is_some();
    let window_over = match (abilities.repeat, progress.first_sent_at) {
        (Repeat::Key { window: Some(window) }, Some(first)) => now >= later(first, window),
        (Repeat::Key { .. } | Repeat::UniqueReference | Repeat::Nothing, _) => false,
    };
    let next_generation = if fresh_key || (window_over && progress.tainted && !progress.accepted) {
        progress.generation.next()
    } else {
        progress.generation
    };
    let says = match (abilities.repeat, progress.first_sent_at) {
        _ if progress.accepted => {
            "safe, by reads only: the provider took this capture once, so it is never sent again".to_owned()
        }
        (Repeat::Key { .. }, _) if fresh_key => format!(
            "safe: the refusal was definite and no earlier outcome is unknown; a read goes first, then key generation {}",
            next_generation.0
        ),
        (Repeat::Key { .. }, None) => "safe: nothing was ever sent under its key; a read goes first".to_owned(),
        (Repeat::Key { window: Some(window) }, Some(first)) if !window_over => format!(
            "safe: a read goes first, then the same key, which the provider knows until {}",
            later(first, window).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        ),
        (Repeat::Key { window: Some(_) }, Some(_)) if definite => {
            "safe: no earlier attempt was processed; a read goes first, then the same key".to_owned()
        }
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
#[path = "verify_walk_tests.rs"]
mod walk_tests;

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;

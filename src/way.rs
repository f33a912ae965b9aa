//! The way of one claimed intent, as pure steps: what is decided without a call, whether a read goes first, whether the
//! capture may be sent, and what follows from each answer.
//!
//! No I/O, no clock, no randomness: the time and the answers are handed in, and nothing in here can panic on them. The
//! errands of the worker (`worker/errand.rs`) make the calls between the steps, and a model check can walk the very same
//! steps through every order of events. In this order, and each step may end the way:
//!
//! 1. [`Way::begin`]: what needs no call, a late receipt, a wish to cancel, too many lost leases, the deadline, what the
//!    provider can never take, the authorised sum. Then: must a read go first?
//! 2. [`Way::after_read`]: what the read shows is weighed. It may decide, or free the send.
//! 3. [`Way::guard`], of the lease and the authorisation: asked right before the one capture POST, and once more when its
//!    connection stands.
//! 4. [`Way::after_capture`]: the decision, by `retry` and `verify`.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::{Boottime, SendGuard};
use crate::outbox::{Claim, Purpose};
use crate::outcome::{Class, Code, Evidence, Failure, Observation, Outcome, Proof};
use crate::progress::Progress;
use crate::provider::{Abilities, Exactness};
use crate::retry::{self, DeadReason, Decision, Disposition, Policy, Situation, Wait};
use crate::verify::{self, Step, Weighed};

/// After so many leases lost in a row the intent is given to a person: it kills workers.
pub const LOST_LEASES_MOST: i16 = 5;

/// One claimed intent, what its provider can do, and the settings.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// What was claimed.
    pub claim: &'a Claim,
    /// What its provider can do.
    pub abilities: Abilities,
    /// Retry and verification.
    pub policy: &'a Policy,
    /// For how long intents are claimed.
    pub lease: Duration,
}

/// How the way begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// It ends without a call.
    Decided(Box<Decision>),
    /// A read goes first. With this progress on record.
    Read(Box<Progress>),
    /// The capture may be sent, with this progress.
    Send(Box<Progress>),
}

/// How it goes on after a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It ends here.
    Decided(Box<Decision>),
    /// The capture may be sent, with this progress.
    Send(Box<Progress>),
}

impl Way<'_> {
    /// Step 1. `check`: does the provider take such an intent at all? Asked only where nothing is unknown.
    pub fn begin(&self, now: DateTime<Utc>, check: impl FnOnce() -> Result<(), Failure>) -> First {
        let progress = self.past();
        if let Some(decision) = self.decide_without_a_call(&progress, now, check) {
            return First::Decided(Box::new(decision));
        }
        let read_first = if self.is_unknown(&progress) {
            match verify::step(&progress, &self.situation(now, now)) {
                Step::Resend => false,
                Step::Read => true,
            }
        } else {
            self.abilities.read_before_send && !planted!(no_read_before_a_keyless_send)
        };
        let progress = Box::new(progress);
        if read_first {
            First::Read(progress)
        } else {
            First::Send(progress)
        }
    }

    /// Step 2. `progress`: as step 1 gave it; `began`: when the read was sent, by the database's time.
    pub fn after_read(
        &self,
        observation: Observation,
        progress: Box<Progress>,
        began: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Then {
        let unknown = self.is_unknown(&progress);
        // Before a first send there is nothing to weigh if nothing is there.
        if !unknown && matches!(observation, Observation::NotCaptured { .. }) {
            return Then::Send(progress);
        }
        let mut situation = self.situation(now, began);
        // Whose captures they are our books may not know any more; that they leave no room the provider's books do.
        if let Observation::NotCaptured {
            others_minor: Some(others),
            ..
        } = &observation
        {
            situation.no_room |= situation.contested && self.exceeds(*others);
        }
        match verify::weigh(observation, &progress, &situation) {
            Weighed::Decided(decision) => Then::Decided(decision),
            // A replay goes from its read straight on to its key, past the checks of a retry: what siblings captured
            // while it was dead counts as well.
            Weighed::Send(mut progress) if unknown && !progress.tainted && self.over_authorized() => {
                progress.saw(Class::Rejected, &Code::new("over_authorized"));
                let dead = Disposition::Dead(DeadReason::Rejected, Evidence::default());
                Then::Decided(Box::new(Decision::of(dead, *progress)))
            }
            Weighed::Send(progress) => Then::Send(progress),
        }
    }

    /// Step 3. Until when the capture may be sent: until the lease is too short for a call, and until the authorisation is
    /// about to end. A connection that takes its time carries a capture past neither.
    pub fn guard(&self, of_the_lease: SendGuard, claimed_from: Boottime) -> SendGuard {
        match self.situation(self.claim.now, self.claim.now).last_send() {
            Some(last) if !planted!(deadline_ignored) => {
                let left = (last - self.claim.now).to_std().unwrap_or_default();
                of_the_lease.and_not_after(claimed_from.plus(left))
            }
            Some(_) | None => of_the_lease,
        }
    }

    /// The marker could not be left on the payment, so nothing was sent: as a read that failed.
    pub fn after_failed_mark(&self, failure: Failure, progress: &Progress, now: DateTime<Utc>) -> Decision {
        match verify::weigh(Observation::Failed(failure), progress, &self.situation(now, now)) {
            Weighed::Decided(decision) => *decision,
            Weighed::Send(progress) => {
                Decision::of(Disposition::Retry(Wait::Exactly(Duration::from_secs(1))), *progress)
            }
        }
    }

    /// Step 4. A first send is counted from the claim: no earlier instant is possible. What may still be in flight is
    /// counted from now: no later one is.
    pub fn after_capture(&self, outcome: Outcome, progress: &Progress, now: DateTime<Utc>) -> Decision {
        retry::decide(outcome, progress, &self.situation(now, self.claim.now))
    }

    /// The last word on every decision. What is unknown stays a verification, whatever it was claimed as: a row of a lost
    /// history that goes back unsent must not come again as a first send.
    pub fn keep_unknown(&self, mut decision: Decision) -> Decision {
        if decision.disposition == Disposition::Return
            && decision.progress.unknown_since.is_some()
            && self.claim.ticket.purpose() != Purpose::Verify
        {
            decision.disposition = Disposition::Verify(Wait::None);
        }
        decision
    }

    /// A capture that a sibling has on record is the sibling's. Where a read knows ours by its reference it would not say
    /// otherwise; where it can only infer, two captures of one amount on one payment look alike, and one movement of money
    /// must not be recorded twice.
    pub fn not_a_siblings(&self, observation: Observation) -> Observation {
        match observation {
            Observation::Captured(receipt)
                if matches!(receipt.proof, Proof::SoleWriter | Proof::Marker)
                    && self.claim.siblings.capture_ids.contains(&receipt.provider_capture_id)
                    && !planted!(siblings_capture_taken_for_ours) =>
            {
                Observation::Foreign {
                    evidence: receipt.evidence,
                }
            }
            other => other,
        }
    }

    /// What is behind the intent. One that was written in a history that is gone may have been sent in it, at any time
    /// since it was made, and something of it may still be in flight.
    pub fn past(&self) -> Progress {
        let claim = self.claim;
        let mut progress = claim.progress.clone();
        if claim.history_changed && !planted!(lost_history_ignored) {
            // What its key may have been raised to is lost with the rest, also where no past is left: it may have been
            // refused, replayed by a person and captured under its next key in the part that is gone.
            progress.read_first |= !planted!(first_key_trusted_after_a_loss);
            progress.first_sent_at = Some(
                progress
                    .first_sent_at
                    .map_or(claim.intent.created_at, |first| first.min(claim.intent.created_at)),
            );
            // Whoever claimed it there may not know yet, and send as late as its guard allows.
            progress.may_be_in_flight(claim.intent.created_at, retry::later(claim.now, self.lease));
            progress.becomes_unknown(claim.now);
        }
        progress
    }

    fn is_unknown(&self, progress: &Progress) -> bool {
        progress.unknown_since.is_some() || self.claim.ticket.purpose() == Purpose::Verify
    }

    fn situation(&self, now: DateTime<Utc>, sent_at: DateTime<Utc>) -> Situation<'_> {
        let in_doubt = self.claim.history_changed || self.claim.progress.tainted;
        Situation {
            now,
            sent_at,
            deadline: self.claim.intent.authorization_expires_at,
            // Whoever made it due saw its end near; this worker's margin may be a shorter one.
            unreleased: self.claim.unreleased,
            cancel_requested: self.claim.cancel_requested,
            no_room: in_doubt && self.over_authorized(),
            contested: in_doubt
                && self.exceeds(self.claim.committed_minor.saturating_add(self.claim.open_minor))
                && !planted!(lost_siblings_forgotten),
            abilities: self.abilities,
            policy: self.policy,
        }
    }

    fn decide_without_a_call(
        &self,
        progress: &Progress,
        now: DateTime<Utc>,
        check: impl FnOnce() -> Result<(), Failure>,
    ) -> Option<Decision> {
        let claim = self.claim;
        let dead = |reason, class, code: &str, evidence: Evidence| {
            let mut progress = progress.clone();
            progress.saw(class, &Code::new(code));
            Some(Decision::of(Disposition::Dead(reason, evidence), progress))
        };
        if let Some(receipt) = &claim.late_receipt
            && !planted!(late_receipt_ignored)
        {
            return Some(Decision::of(Disposition::Captured(receipt.clone()), progress.clone()));
        }
        if progress.lost_leases >= LOST_LEASES_MOST {
            return dead(
                DeadReason::Undecided,
                Class::Ambiguous,
                "lost_leases",
                Evidence::default(),
            );
        }
        if self.is_unknown(progress) {
            if claim.cancel_requested && planted!(cancel_believed_while_unknown) {
                return Some(Decision::of(Disposition::Cancelled, progress.clone()));
            }
            return None;
        }
        // From here on it is known that nothing of this intent was captured.
        if let Some(decision) = retry::before_send(progress, &self.situation(now, claim.now)) {
            return Some(decision);
        }
        if let Err(failure) = check() {
            return dead(
                DeadReason::Rejected,
                failure.class,
                failure.code.as_str(),
                failure.evidence,
            );
        }
        if self.over_authorized() {
            return dead(
                DeadReason::Rejected,
                Class::Rejected,
                "over_authorized",
                Evidence::default(),
            );
        }
        // Nobody knows what the sibling did. With a reference on each capture this one can still be told from it.
        if claim.siblings.undecided && self.abilities.exactness == Exactness::Inference {
            return dead(
                DeadReason::Undecided,
                Class::Ambiguous,
                "sibling_unknown",
                Evidence::default(),
            );
        }
        None
    }

    /// Would this capture and its siblings' together take more than was authorised?
    fn over_authorized(&self) -> bool {
        self.exceeds(self.claim.committed_minor)
    }

    /// Would it, if the others together have taken so much?
    fn exceeds(&self, others_minor: i64) -> bool {
        let in_all = others_minor.saturating_add(self.claim.intent.amount.minor);
        self.claim
            .authorized_minor
            .is_some_and(|authorized| in_all > authorized && !planted!(authorised_sum_ignored))
    }
}

/// A row that makes no sense to this version: dead, and in nobody's way. Never sent: poison; else a person must look.
pub fn bury(before: &Progress, fence: i32, code: &Code) -> Decision {
    let never_sent = fence == 1 && *before == Progress::default();
    let reason = if never_sent {
        DeadReason::Poison
    } else {
        DeadReason::Undecided
    };
    let mut progress = before.clone();
    progress.saw(Class::Rejected, code);
    Decision::of(Disposition::Dead(reason, Evidence::new(code.as_str())), progress)
}

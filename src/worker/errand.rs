//! An errand: the way of one claimed intent, from the claim to the decision.
//!
//! In this order, and each step may end it:
//! 1. What needs no call: a late receipt, a wish to cancel, too many lost leases, the deadline, what the provider can never
//!    take, the authorised sum.
//! 2. A read, if the outcome is unknown and cannot be asked by repeating the key, or if this provider needs one before
//!    every send.
//! 3. The guard, then the capture POST: once.
//! 4. The decision, by `retry` and `verify`.
//!
//! A panic in an adapter counts as an unknown outcome: the request may have left.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::settling::Finished;
use super::slots::Slot;
use crate::clock::{Boottime, SendGuard};
use crate::intent::KeyGeneration;
use crate::outbox::{AttemptRecord, Claim, Purpose, Settlement, Unreadable};
use crate::outcome::{Class, Code, Evidence, Failure, Observation, Outcome, Proof};
use crate::progress::Progress;
use crate::provider::{Call, Exactness, Provider};
use crate::retry::{self, DeadReason, Decision, Disposition, Situation, Wait, delta};
use crate::telemetry;
use crate::verify::{self, Step, Weighed};

/// After so many leases lost in a row the intent is given to a person: it kills workers.
const LOST_LEASES_MOST: i16 = 5;

/// What an errand works with.
pub(super) struct Errand {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) settings: Arc<Settings>,
    pub(super) stopping: CancellationToken,
    /// Taken before the claim was sent.
    pub(super) claimed_from: Boottime,
    pub(super) guard: SendGuard,
}

/// What was done, for the record.
struct Done {
    decision: Decision,
    sent: bool,
    outcome: &'static str,
    failure: Option<Failure>,
    evidence: Evidence,
    generation: KeyGeneration,
    /// Did the provider answer? `None`: it was not called.
    answered: Option<bool>,
}

impl Done {
    fn without_a_call(decision: Decision) -> Done {
        Done {
            generation: decision.progress.generation,
            decision,
            sent: false,
            outcome: "not_sent",
            failure: None,
            evidence: Evidence::default(),
            answered: None,
        }
    }
}

/// A row that makes no sense to this version: dead, and in nobody's way. Never sent: poison; else a person must look.
pub(super) fn bury(unreadable: Unreadable, slot: Slot) -> Finished {
    let before = unreadable.progress;
    let never_sent = unreadable.ticket.fence() == 1 && before == Progress::default();
    let reason = if never_sent {
        DeadReason::Poison
    } else {
        DeadReason::Undecided
    };
    let mut progress = before.clone();
    progress.saw(Class::Rejected, &unreadable.code);
    tracing::error!(intent = %unreadable.ticket.intent(), code = %unreadable.code, "an intent cannot be read by this version");
    let done = Done::without_a_call(Decision::of(
        Disposition::Dead(reason, Evidence::new(unreadable.code.as_str())),
        progress,
    ));
    let settlement = Settlement::new(
        unreadable.ticket,
        &before,
        done.decision,
        AttemptRecord {
            sent: false,
            outcome: done.outcome,
            class: None,
            code: None,
            http_status: None,
            generation: done.generation,
            began: Boottime::now(),
            took: Duration::ZERO,
            host: String::new(),
            evidence: Evidence::default(),
        },
    );
    Finished {
        settlement,
        lane_order: retry::LaneOrder::None,
        answered: None,
        slot,
    }
}

impl Errand {
    /// Runs it. The slot is free again when the returned value's slot is dropped.
    pub(super) async fn run(&self, claim: Claim, slot: Slot) -> Finished {
        let began = Boottime::now();
        let trace_id = claim
            .intent
            .traceparent
            .as_deref()
            .and_then(telemetry::trace_id)
            .unwrap_or_default()
            .to_owned();
        let done = match AssertUnwindSafe(self.work(&claim)).catch_unwind().await {
            Ok(done) => done,
            Err(_) => {
                tracing::error!(intent = %claim.intent.id, trace_id, "an errand panicked: its outcome is unknown");
                let failure = Failure::new(Class::Ambiguous, "worker_panicked");
                let progress = self.past(&claim);
                self.decided(Outcome::Failed(failure), progress, &claim)
            }
        };
        let took = Boottime::now().since(began);
        let decision = keep_unknown(done.decision, claim.ticket.purpose());
        self.log(&claim, &decision, done.failure.as_ref(), done.outcome, took, &trace_id);
        let record = AttemptRecord {
            sent: done.sent,
            outcome: done.outcome,
            class: done.failure.as_ref().map(|failure| failure.class.name()),
            code: done.failure.as_ref().map(|failure| failure.code.as_str().to_owned()),
            http_status: done.failure.as_ref().and_then(|failure| failure.http_status),
            generation: done.generation,
            began,
            took,
            host: self.provider.host().to_owned(),
            evidence: done.evidence,
        };
        let lane_order = decision.lane.clone();
        let settlement = Settlement::new(claim.ticket, &claim.progress, decision, record);
        Finished {
            settlement,
            lane_order,
            answered: done.answered,
            slot,
        }
    }

    /// What is behind the intent. One that was written in a history that is gone may have been sent in it, at any time
    /// since it was made, and something of it may still be in flight.
    fn past(&self, claim: &Claim) -> Progress {
        let mut progress = claim.progress.clone();
        if claim.history_changed {
            // What its key may have been raised to is lost with the rest; a row that had no past is safe by its first key.
            progress.read_first |= claim.progress != Progress::default();
            progress.first_sent_at = Some(
                progress
                    .first_sent_at
                    .map_or(claim.intent.created_at, |first| first.min(claim.intent.created_at)),
            );
            progress.may_be_in_flight(
                claim.intent.created_at,
                retry::later(claim.now, self.settings.policy.longest_call),
            );
            progress.becomes_unknown(claim.now);
        }
        progress
    }

    /// The database's time now, by the claim's and this machine's monotonic clock.
    fn now(&self, claim: &Claim) -> DateTime<Utc> {
        claim.now + delta(Boottime::now().since(self.claimed_from))
    }

    fn situation(&self, claim: &Claim, sent_at: DateTime<Utc>) -> Situation<'_> {
        Situation {
            now: self.now(claim),
            sent_at,
            // Whoever made an unreleased one due saw its end near; this worker's margin may be a shorter one, but nothing is
            // sent that nobody released.
            deadline: if claim.unreleased {
                Some(claim.now)
            } else {
                claim.intent.authorization_expires_at
            },
            cancel_requested: claim.cancel_requested,
            no_room: (claim.history_changed || claim.progress.tainted) && over_authorized(claim),
            abilities: self.provider.abilities(),
            policy: &self.settings.policy,
        }
    }

    async fn work(&self, claim: &Claim) -> Done {
        let progress = self.past(claim);
        if let Some(decision) = self.decide_without_a_call(claim, &progress) {
            return Done::without_a_call(decision);
        }
        let situation = self.situation(claim, self.now(claim));
        let unknown = progress.unknown_since.is_some() || claim.ticket.purpose() == Purpose::Verify;
        let read_first = if unknown {
            match verify::step(&progress, &situation) {
                Step::Resend => false,
                Step::Read => true,
            }
        } else {
            situation.abilities.read_before_send
        };
        let progress = if read_first {
            if self.stopping.is_cancelled() {
                return Done::without_a_call(Decision::of(Disposition::Return, progress));
            }
            match self.read(claim, progress, unknown).await {
                // A replay goes from its read straight on to its key, past the checks of a retry: what siblings captured
                // while it was dead counts as well.
                Ok(mut progress) if unknown && !progress.tainted && over_authorized(claim) => {
                    progress.saw(Class::Rejected, &Code::new("over_authorized"));
                    let dead = Disposition::Dead(DeadReason::Rejected, Evidence::default());
                    return Done::without_a_call(Decision::of(dead, progress));
                }
                Ok(progress) => progress,
                Err(done) => return *done,
            }
        } else {
            progress
        };
        self.send(claim, progress).await
    }

    /// Step 1.
    fn decide_without_a_call(&self, claim: &Claim, progress: &Progress) -> Option<Decision> {
        let unknown = progress.unknown_since.is_some() || claim.ticket.purpose() == Purpose::Verify;
        let situation = self.situation(claim, claim.now);
        let dead = |reason, class, code: &str, evidence: Evidence| {
            let mut progress = progress.clone();
            progress.saw(class, &Code::new(code));
            Some(Decision::of(Disposition::Dead(reason, evidence), progress))
        };
        if let Some(receipt) = &claim.late_receipt {
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
        if unknown {
            return None;
        }
        // From here on it is known that nothing of this intent was captured.
        if let Some(decision) = retry::before_send(progress, &situation) {
            return Some(decision);
        }
        if let Err(failure) = self.provider.check(&claim.intent) {
            return dead(
                DeadReason::Rejected,
                failure.class,
                failure.code.as_str(),
                failure.evidence,
            );
        }
        if over_authorized(claim) {
            return dead(
                DeadReason::Rejected,
                Class::Rejected,
                "over_authorized",
                Evidence::default(),
            );
        }
        // Nobody knows what the sibling did. With a reference on each capture this one can still be told from it.
        if claim.siblings.undecided && situation.abilities.exactness == Exactness::Inference {
            return dead(
                DeadReason::Undecided,
                Class::Ambiguous,
                "sibling_unknown",
                Evidence::default(),
            );
        }
        None
    }

    /// Step 2. `Ok`: the capture may be sent with this progress.
    async fn read(&self, claim: &Claim, progress: Progress, unknown: bool) -> Result<Progress, Box<Done>> {
        let began = self.now(claim);
        let call = self.call(claim, &progress);
        let asked_at = Boottime::now();
        let in_flight = crate::metrics::call_in_flight(&claim.intent.lane);
        let observation = not_a_siblings(self.provider.read(&call).await, claim);
        drop(in_flight);
        let provider = claim.ticket.provider();
        crate::metrics::provider_latency(provider, crate::metrics::Call::Read, Boottime::now().since(asked_at));
        crate::metrics::observation(provider, &observation);
        let (failure, evidence, answered) = match &observation {
            Observation::Failed(failure) => (Some(failure.clone()), failure.evidence.clone(), failure.answered),
            Observation::Captured(receipt) => (None, receipt.evidence.clone(), true),
            Observation::Pending { evidence }
            | Observation::Declined { evidence, .. }
            | Observation::NotCaptured { evidence, .. }
            | Observation::Closed { evidence, .. }
            | Observation::Foreign { evidence }
            | Observation::Contradicts { evidence, .. } => (None, evidence.clone(), true),
        };
        let situation = self.situation(claim, began);
        // Before a first send there is nothing to weigh if nothing is there.
        if !unknown && matches!(observation, Observation::NotCaptured { .. }) {
            return Ok(progress);
        }
        let generation = progress.generation;
        match verify::weigh(observation, &progress, &situation) {
            Weighed::Send(progress) => Ok(*progress),
            Weighed::Decided(decision) => Err(Box::new(Done {
                decision: *decision,
                sent: false,
                outcome: if failure.is_some() { "failed" } else { "observed" },
                failure,
                evidence,
                generation,
                answered: Some(answered),
            })),
        }
    }

    /// Step 3.
    async fn send(&self, claim: &Claim, progress: Progress) -> Done {
        if self.stopping.is_cancelled() || !self.guard.may_send() {
            return Done::without_a_call(Decision::of(Disposition::Return, progress));
        }
        if self.provider.abilities().read_before_send
            && let Err(failure) = self.provider.mark(&self.call(claim, &progress)).await
        {
            // The marker could not be left, so nothing was sent: as a read that failed.
            let situation = self.situation(claim, self.now(claim));
            let generation = progress.generation;
            let answered = failure.answered;
            let evidence = failure.evidence.clone();
            let decision = match verify::weigh(Observation::Failed(failure.clone()), &progress, &situation) {
                Weighed::Decided(decision) => *decision,
                Weighed::Send(progress) => {
                    Decision::of(Disposition::Retry(Wait::Exactly(Duration::from_secs(1))), *progress)
                }
            };
            return Done {
                decision,
                sent: false,
                outcome: "failed",
                failure: Some(failure),
                evidence,
                generation,
                answered: Some(answered),
            };
        }
        if self.stopping.is_cancelled() || !self.guard.may_send() || self.situation(claim, claim.now).too_late() {
            return Done::without_a_call(Decision::of(Disposition::Return, progress));
        }
        let asked_at = Boottime::now();
        let in_flight = crate::metrics::call_in_flight(&claim.intent.lane);
        let outcome = self.provider.capture(&self.call(claim, &progress)).await;
        drop(in_flight);
        let provider = claim.ticket.provider();
        crate::metrics::provider_latency(provider, crate::metrics::Call::Capture, Boottime::now().since(asked_at));
        crate::metrics::attempt(provider, &outcome);
        self.decided(outcome, progress, claim)
    }

    /// Step 4.
    fn decided(&self, outcome: Outcome, progress: Progress, claim: &Claim) -> Done {
        let generation = progress.generation;
        let sent_at = claim.now;
        let (name, sent, failure, evidence, answered) = match &outcome {
            Outcome::Captured(receipt) => ("captured", true, None, receipt.evidence.clone(), Some(true)),
            Outcome::Accepted { evidence } => ("accepted", true, None, evidence.clone(), Some(true)),
            Outcome::Failed(failure) => (
                "failed",
                was_sent(failure),
                Some(failure.clone()),
                failure.evidence.clone(),
                Some(failure.answered),
            ),
            Outcome::NotSent => ("not_sent", false, None, Evidence::default(), None),
        };
        let decision = retry::decide(outcome, &progress, &self.situation(claim, sent_at));
        Done {
            decision,
            sent,
            outcome: name,
            failure,
            evidence,
            generation,
            answered,
        }
    }

    fn call<'a>(&self, claim: &'a Claim, progress: &Progress) -> Call<'a> {
        Call {
            intent: &claim.intent,
            generation: progress.generation,
            // Sends that were answered, and refused, moved nothing: what is there is somebody else's.
            first_sent_at: progress.first_sent_at.filter(|_| progress.tainted || progress.accepted),
            siblings: &claim.siblings,
            guard: self.guard,
        }
    }

    fn log(
        &self,
        claim: &Claim,
        decision: &Decision,
        failure: Option<&Failure>,
        outcome: &str,
        took: Duration,
        trace_id: &str,
    ) {
        let intent = claim.intent.id;
        let (provider, account) = (claim.intent.lane.provider.as_str(), claim.intent.lane.account.as_str());
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let class = failure.map(|failure| failure.class.name()).unwrap_or_default();
        let code = failure.map(|failure| failure.code.as_str()).unwrap_or_default();
        let fence = claim.ticket.fence();
        let purpose = claim.ticket.purpose().name();
        if let retry::LaneOrder::Pause(code) = &decision.lane {
            tracing::error!(%intent, provider, account, trace_id, code = code.as_str(), "the lane is paused: ours to fix; then `capture lane resume`");
        }
        match &decision.disposition {
            Disposition::Captured(receipt) => tracing::info!(
                %intent, provider, account, trace_id, fence, purpose, duration_ms, amount_minor = receipt.amount.minor,
                currency = receipt.amount.currency.code(), "captured"
            ),
            Disposition::Retry(_) => {
                tracing::info!(%intent, provider, account, trace_id, fence, purpose, duration_ms, class, code, outcome, "will be tried again")
            }
            Disposition::Verify(_) => {
                tracing::info!(%intent, provider, account, trace_id, fence, purpose, duration_ms, class, code, outcome, "outcome unknown: will be verified")
            }
            Disposition::Dead(reason, _) => tracing::warn!(
                %intent, provider, account, trace_id, fence, purpose, duration_ms, class, code, outcome, dead_reason = reason.name(), "dead letter"
            ),
            Disposition::Cancelled => tracing::info!(%intent, provider, account, trace_id, fence, purpose, "cancelled"),
            Disposition::Return => {
                tracing::info!(%intent, provider, account, trace_id, fence, purpose, "nothing was sent: goes back")
            }
        }
    }
}

/// Would this capture and its siblings' together take more than was authorised?
fn over_authorized(claim: &Claim) -> bool {
    let in_all = claim.committed_minor.saturating_add(claim.intent.amount.minor);
    claim.authorized_minor.is_some_and(|authorized| in_all > authorized)
}

/// A capture that a sibling has on record is the sibling's. Where a read knows ours by its reference it would not say
/// otherwise; where it can only infer, two captures of one amount on one payment look alike, and one movement of money
/// must not be recorded twice.
fn not_a_siblings(observation: Observation, claim: &Claim) -> Observation {
    match observation {
        Observation::Captured(receipt)
            if matches!(receipt.proof, Proof::SoleWriter | Proof::Marker)
                && claim.siblings.capture_ids.contains(&receipt.provider_capture_id) =>
        {
            Observation::Foreign {
                evidence: receipt.evidence,
            }
        }
        other => other,
    }
}

/// Was a capture POST on the wire? Surely not if the provider was never reached.
fn was_sent(failure: &Failure) -> bool {
    match failure.class {
        Class::Transient | Class::Misconfigured | Class::Rejected | Class::RateLimited => failure.http_status.is_some(),
        Class::InProgress | Class::Ambiguous | Class::MaybeDone => true,
    }
}

/// What is unknown stays a verification, whatever it was claimed as: a row of a lost history that goes back unsent must
/// not come again as a first send.
fn keep_unknown(mut decision: Decision, purpose: Purpose) -> Decision {
    if decision.disposition == Disposition::Return
        && decision.progress.unknown_since.is_some()
        && purpose != Purpose::Verify
    {
        decision.disposition = Disposition::Verify(Wait::None);
    }
    decision
}

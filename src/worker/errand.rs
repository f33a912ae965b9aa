//! An errand: one claimed intent on its way, from the claim to the decision.
//!
//! The steps and their order are those of `way.rs`, which is pure; here are the calls between them, the clock, the metrics
//! and the log. It holds no connection to the database. A panic in an adapter counts as an unknown outcome: the request may
//! have left.

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
use crate::outbox::{AttemptRecord, Claim, Settlement, Unreadable};
use crate::outcome::{Class, Evidence, Failure, Observation, Outcome};
use crate::progress::Progress;
use crate::provider::{Call, Provider};
use crate::retry::{self, Decision, Disposition, delta};
use crate::telemetry;
use crate::way::{self, First, Then, Way};

/// What an errand works with.
pub(super) struct Errand {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) settings: Arc<Settings>,
    pub(super) stopping: CancellationToken,
    /// Taken before the claim was sent.
    pub(super) claimed_from: Boottime,
    pub(super) guard: SendGuard,
}

/// What came of an errand.
pub(super) struct Ended {
    settlement: Settlement,
    lane_order: retry::LaneOrder,
    answered: Option<bool>,
}

impl Ended {
    /// Ready to be recorded.
    pub(super) fn with(self, slot: Slot) -> Finished {
        Finished {
            settlement: self.settlement,
            lane_order: self.lane_order,
            answered: self.answered,
            slot,
        }
    }
}

/// A capture that may be sent, with this progress; and when its authorisation ends, if a read told.
type Free = (Box<Progress>, Option<DateTime<Utc>>);

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
    /// When the authorisation ends, if an answer told.
    expires_at: Option<DateTime<Utc>>,
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
            expires_at: None,
        }
    }

    /// The same, with what an earlier answer told, unless its own did.
    fn or_told(mut self, expires_at: Option<DateTime<Utc>>) -> Done {
        self.expires_at = self.expires_at.or(expires_at);
        self
    }
}

/// A row that makes no sense to this version: dead, and in nobody's way.
pub(super) fn bury(unreadable: Unreadable, slot: Slot) -> Finished {
    tracing::error!(intent = %unreadable.ticket.intent(), code = %unreadable.code, "an intent cannot be read by this version");
    let decision = way::bury(&unreadable.progress, unreadable.ticket.fence(), &unreadable.code);
    let done = Done::without_a_call(decision);
    let settlement = Settlement::new(
        unreadable.ticket,
        &unreadable.progress,
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
    /// Runs it.
    pub(super) async fn run(&self, claim: Box<Claim>) -> Ended {
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
                let way = self.way(&claim);
                self.decided(Outcome::Failed(failure), &way.past(), &way)
            }
        };
        let took = Boottime::now().since(began);
        let decision = self.way(&claim).keep_unknown(done.decision);
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
        // What ended well needs no deadline any more, unless something is left of its payment.
        let ended = match &decision.disposition {
            Disposition::Captured(_) | Disposition::Cancelled => true,
            Disposition::Retry(_) | Disposition::Verify(_) | Disposition::Dead(..) | Disposition::Return => false,
        };
        let told = done.expires_at.filter(|_| !ended || claim.open_minor > 0);
        let settlement = Settlement::new(claim.ticket, &claim.progress, decision, record).telling(told);
        Ended {
            settlement,
            lane_order,
            answered: done.answered,
        }
    }

    fn way<'a>(&'a self, claim: &'a Claim) -> Way<'a> {
        Way {
            claim,
            abilities: self.provider.abilities(),
            policy: &self.settings.policy,
            lease: self.settings.lease,
        }
    }

    /// The database's time now, by the claim's and this machine's monotonic clock.
    fn now(&self, claim: &Claim) -> DateTime<Utc> {
        claim.now + delta(Boottime::now().since(self.claimed_from))
    }

    async fn work(&self, claim: &Claim) -> Done {
        let way = self.way(claim);
        let (progress, told) = match way.begin(self.now(claim), || self.provider.check(&claim.intent)) {
            First::Decided(decision) => return Done::without_a_call(*decision),
            First::Read(progress) if self.stopping.is_cancelled() => {
                return Done::without_a_call(Decision::of(Disposition::Return, *progress));
            }
            First::Read(progress) => match self.read(&way, progress).await {
                Ok(free) => free,
                Err(done) => return *done,
            },
            First::Send(progress) => (progress, None),
        };
        self.send(&way, *progress).await.or_told(told)
    }

    /// `Ok`: the capture may be sent with this progress; and when the authorisation ends, if that was told.
    async fn read(&self, way: &Way<'_>, progress: Box<Progress>) -> Result<Free, Box<Done>> {
        let claim = way.claim;
        let began = self.now(claim);
        let call = self.call(way, &progress);
        let asked_at = Boottime::now();
        let in_flight = crate::metrics::call_in_flight(&claim.intent.lane);
        let observation = way.not_a_siblings(self.provider.read(&call).await);
        drop(in_flight);
        let provider = claim.ticket.provider();
        crate::metrics::provider_latency(provider, crate::metrics::Call::Read, Boottime::now().since(asked_at));
        crate::metrics::observation(provider, &observation);
        let (failure, evidence, answered) = match &observation {
            Observation::Failed(failure) => (Some(failure.clone()), failure.evidence.clone(), failure.answered),
            Observation::Captured(receipt) => (None, receipt.evidence.clone(), true),
            Observation::Pending { evidence, .. }
            | Observation::Declined { evidence, .. }
            | Observation::NotCaptured { evidence, .. }
            | Observation::Closed { evidence, .. }
            | Observation::Foreign { evidence }
            | Observation::Contradicts { evidence, .. } => (None, evidence.clone(), true),
        };
        let expires_at = match &observation {
            Observation::Captured(receipt) => receipt.authorization_expires_at,
            Observation::NotCaptured {
                authorization_expires_at,
                ..
            } => *authorization_expires_at,
            Observation::Pending { .. }
            | Observation::Declined { .. }
            | Observation::Closed { .. }
            | Observation::Foreign { .. }
            | Observation::Contradicts { .. }
            | Observation::Failed(_) => None,
        };
        let generation = progress.generation;
        match way.after_read(observation, progress, began, self.now(claim)) {
            Then::Send(progress) => Ok((progress, expires_at)),
            Then::Decided(decision) => Err(Box::new(Done {
                decision: *decision,
                sent: false,
                outcome: if failure.is_some() { "failed" } else { "observed" },
                failure,
                evidence,
                generation,
                answered: Some(answered),
                expires_at,
            })),
        }
    }

    /// The guard, the marker if there is one, the guard again, and the one capture POST.
    async fn send(&self, way: &Way<'_>, progress: Progress) -> Done {
        let claim = way.claim;
        if self.stopping.is_cancelled() || !self.guard(way).may_send() {
            return Done::without_a_call(Decision::of(Disposition::Return, progress));
        }
        if way.abilities.read_before_send
            && let Err(failure) = self.provider.mark(&self.call(way, &progress)).await
        {
            let generation = progress.generation;
            let answered = failure.answered;
            let evidence = failure.evidence.clone();
            return Done {
                decision: way.after_failed_mark(failure.clone(), &progress, self.now(claim)),
                sent: false,
                outcome: "failed",
                failure: Some(failure),
                evidence,
                generation,
                answered: Some(answered),
                expires_at: None,
            };
        }
        if self.stopping.is_cancelled() || !self.guard(way).may_send() {
            return Done::without_a_call(Decision::of(Disposition::Return, progress));
        }
        let asked_at = Boottime::now();
        let in_flight = crate::metrics::call_in_flight(&claim.intent.lane);
        let outcome = self.provider.capture(&self.call(way, &progress)).await;
        drop(in_flight);
        let provider = claim.ticket.provider();
        crate::metrics::provider_latency(provider, crate::metrics::Call::Capture, Boottime::now().since(asked_at));
        crate::metrics::attempt(provider, &outcome);
        self.decided(outcome, &progress, way)
    }

    fn decided(&self, outcome: Outcome, progress: &Progress, way: &Way<'_>) -> Done {
        let generation = progress.generation;
        let expires_at = match &outcome {
            Outcome::Captured(receipt) => receipt.authorization_expires_at,
            Outcome::Accepted { .. } | Outcome::Failed(_) | Outcome::NotSent => None,
        };
        let (name, sent, failure, evidence, answered) = match &outcome {
            Outcome::Captured(receipt) => ("captured", true, None, receipt.evidence.clone(), Some(true)),
            Outcome::Accepted { evidence, .. } => ("accepted", true, None, evidence.clone(), Some(true)),
            Outcome::Failed(failure) => (
                "failed",
                was_sent(failure),
                Some(failure.clone()),
                failure.evidence.clone(),
                Some(failure.answered),
            ),
            Outcome::NotSent => ("not_sent", false, None, Evidence::default(), None),
        };
        Done {
            decision: way.after_capture(outcome, progress, self.now(way.claim)),
            sent,
            outcome: name,
            failure,
            evidence,
            generation,
            answered,
            expires_at,
        }
    }

    fn call<'a>(&self, way: &Way<'a>, progress: &'a Progress) -> Call<'a> {
        let claim = way.claim;
        Call {
            intent: &claim.intent,
            generation: if planted!(key_from_the_attempt) {
                KeyGeneration(i16::try_from(claim.ticket.fence()).unwrap_or(0))
            } else {
                progress.generation
            },
            // Sends that were answered, and refused, moved nothing: what is there is somebody else's.
            first_sent_at: progress.first_sent_at.filter(|_| progress.tainted || progress.accepted),
            refused: progress.refusal_code.is_some(),
            accepted_id: progress.accepted_id.as_deref().filter(|_| progress.accepted),
            pending_id: progress.pending_id.as_deref().filter(|_| progress.accepted),
            siblings: &claim.siblings,
            guard: self.guard(way),
        }
    }

    fn guard(&self, way: &Way<'_>) -> SendGuard {
        way.guard(self.guard, self.claimed_from)
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

/// Was a capture POST on the wire? Surely not if the provider was never reached.
fn was_sent(failure: &Failure) -> bool {
    match failure.class {
        Class::Transient | Class::Misconfigured | Class::Rejected | Class::RateLimited => failure.http_status.is_some(),
        Class::InProgress | Class::Ambiguous | Class::MaybeDone => true,
    }
}

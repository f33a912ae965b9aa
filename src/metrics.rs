//! Metrics: one table of all of them, one function for each event.
//!
//! Counters and histograms are counted where the thing happens, by every process for itself. What is the state of the
//! database (the backlog, dead letters, money at stake) is read from it once by whoever renders, and written out from
//! [`BacklogGauges`] afresh each time: it is the same whichever process is asked, so dashboards take the `max` over processes,
//! never the sum, and a lane that is gone leaves no stale line behind.
//!
//! Every label has a closed set of values, so that no order or code from outside can make the number of series grow.
//! Without [`Metrics::install`] every function here does nothing.

mod backlog;
mod table;

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::intent::{Lane, Money};
use crate::outbox::{Purpose, Settled};
use crate::outcome::{Class, Observation, Outcome};

use backlog::Page;

pub use backlog::{BacklogGauges, BacklogState, LaneGauges, Within};
pub use table::{Kind, METRICS, Metric};

/// Seconds. To 90, because a call may take connect 10 s and read 70 s, and margin.
const CALL_BUCKETS: [f64; 14] = [
    0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 90.0,
];

/// Seconds. From a quiet local disk to a database in trouble.
const DATABASE_BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Results. To 500, the most that one settle takes.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0];

/// Why metrics did not start.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A histogram without buckets.
    #[error("the metrics cannot be set up: {0}")]
    Buckets(#[from] metrics_exporter_prometheus::BuildError),
    /// Somebody else counts already.
    #[error("metrics have been started twice")]
    Twice,
}

/// The recorder of this process.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Starts to count, for the whole process. Whoever installs also calls [`Metrics::upkeep`] now and then: until then every
    /// sample is kept.
    pub fn install() -> Result<Metrics, MetricsError> {
        let (metrics, recorder) = Metrics::build()?;
        metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Twice)?;
        describe();
        Ok(metrics)
    }

    /// Metrics that nothing is counted into: for tests, which share one process.
    #[cfg(test)]
    pub fn unheard() -> Result<Metrics, MetricsError> {
        Metrics::build().map(|(metrics, _)| metrics)
    }

    fn build() -> Result<(Metrics, PrometheusRecorder), MetricsError> {
        let of = |name: &str| Matcher::Full(name.to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(of("capture_provider_latency_seconds"), &CALL_BUCKETS)?
            .set_buckets_for_metric(of("capture_webhook_latency_seconds"), &CALL_BUCKETS)?
            .set_buckets_for_metric(of("capture_claim_latency_seconds"), &DATABASE_BUCKETS)?
            .set_buckets_for_metric(of("capture_settle_latency_seconds"), &DATABASE_BUCKETS)?
            .set_buckets_for_metric(of("capture_settle_batch_size"), &BATCH_BUCKETS)?
            .build_recorder();
        let metrics = Metrics {
            handle: recorder.handle(),
        };
        Ok((metrics, recorder))
    }

    /// Folds what was observed into the buckets. To be called every few seconds, or histograms keep every single value
    /// until somebody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Everything in Prometheus' text format. `backlog`: what the database says; `None` if it could not be asked.
    pub fn render(&self, backlog: Option<&BacklogGauges>) -> String {
        let mut bytes = Vec::new();
        // Writing to memory does not fail, and the format is UTF-8.
        let _ = self.handle.render_to_write(&mut bytes);
        let mut text = String::from_utf8(bytes).unwrap_or_default();
        let mut page = Page(&mut text);
        page.family(
            "capture_database_up",
            [(vec![], u64::from(backlog.is_some()).to_string())],
        );
        if let Some(backlog) = backlog {
            page.backlog(backlog);
        }
        text
    }
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

/// Which call to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The capture POST.
    Capture,
    /// A read.
    Read,
    /// Leaving our marker.
    Mark,
}

/// A capture POST ended.
pub fn attempt(provider: &str, outcome: &Outcome) {
    let class = match outcome {
        Outcome::Failed(failure) => failure.class.name(),
        Outcome::Captured(_) | Outcome::Accepted { .. } | Outcome::NotSent => "none",
    };
    counter!("capture_attempts_total", "provider" => provider.to_owned(), "outcome" => outcome_name(outcome), "class" => class)
        .increment(1);
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Captured(_) => "captured",
        Outcome::Accepted { .. } => "accepted",
        Outcome::Failed(_) => "failed",
        Outcome::NotSent => "not_sent",
    }
}

/// A verifying read ended.
pub fn observation(provider: &str, observation: &Observation) {
    let (name, class) = match observation {
        Observation::Captured(_) => ("captured", None),
        Observation::Pending { .. } => ("pending", None),
        Observation::Declined { .. } => ("declined", None),
        Observation::NotCaptured { .. } => ("not_captured", None),
        Observation::Closed { .. } => ("closed", None),
        Observation::Foreign { .. } => ("foreign", None),
        Observation::Contradicts { .. } => ("contradicts", None),
        Observation::Failed(failure) => ("failed", Some(failure.class)),
    };
    let class = class.map_or("none", Class::name);
    counter!("capture_observations_total", "provider" => provider.to_owned(), "observation" => name, "class" => class)
        .increment(1);
}

/// A call to a provider took so long.
pub fn provider_latency(provider: &str, call: Call, took: Duration) {
    let call = match call {
        Call::Capture => "capture",
        Call::Read => "read",
        Call::Mark => "mark",
    };
    histogram!("capture_provider_latency_seconds", "provider" => provider.to_owned(), "call" => call)
        .record(took.as_secs_f64());
}

/// Money was captured and settled.
pub fn captured(provider: &str, amount: Money) {
    // An intent's amount is above zero.
    let minor = u64::try_from(amount.minor).unwrap_or(0);
    counter!("capture_captured_minor_total", "provider" => provider.to_owned(), "currency" => amount.currency.code())
        .increment(minor);
}

/// Intents of one provider were claimed for one purpose.
pub fn claimed(provider: &str, purpose: Purpose, count: u64) {
    counter!("capture_claims_total", "provider" => provider.to_owned(), "purpose" => purpose.name()).increment(count);
}

/// A claim took so long.
pub fn claim_latency(took: Duration) {
    histogram!("capture_claim_latency_seconds").record(took.as_secs_f64());
}

/// One settle committed so many results in such a time.
pub fn settle_batch(results: u32, took: Duration) {
    histogram!("capture_settle_batch_size").record(f64::from(results));
    histogram!("capture_settle_latency_seconds").record(took.as_secs_f64());
}

/// A result was settled.
pub fn settled(provider: &str, settled: Settled) {
    let result = match settled {
        Settled::Recorded => "recorded",
        Settled::AlreadyRecorded => "already_recorded",
        Settled::LeaseLost => {
            counter!("capture_lease_lost_total", "provider" => provider.to_owned()).increment(1);
            "lease_lost"
        }
        Settled::IntentLost => "intent_lost",
    };
    counter!("capture_settled_total", "result" => result).increment(1);
}

/// A late result was recorded.
pub fn late_result(provider: &str, outcome: &Outcome) {
    counter!("capture_late_results_total", "provider" => provider.to_owned(), "outcome" => outcome_name(outcome))
        .increment(1);
}

/// Intents of lapsed leases were turned into verifications.
pub fn rescued(count: u64) {
    counter!("capture_rescued_total").increment(count);
}

/// A database step failed and will be repeated. `step`: one of a closed set, such as `claim` or `settle`.
pub fn database_error(step: &'static str) {
    counter!("capture_database_errors_total", "step" => step).increment(1);
}

/// Counts a call to a provider as under way until it is dropped.
pub struct InFlight {
    calls: metrics::Gauge,
}

/// A call of this lane begins; it ends when what is given back is dropped.
pub fn call_in_flight(lane: &Lane) -> InFlight {
    let calls =
        gauge!("capture_calls_in_flight", "provider" => lane.provider.clone(), "account" => lane.account.clone());
    calls.increment(1.0);
    InFlight { calls }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.calls.decrement(1.0);
    }
}

/// The breaker of this lane opened or closed.
pub fn breaker(lane: &Lane, open: bool) {
    gauge!("capture_breaker_open", "provider" => lane.provider.clone(), "account" => lane.account.clone())
        .set(f64::from(u8::from(open)));
}

/// An attempt to tell an endpoint ended. `code`: one of the closed set of `webhook/attempt.rs`.
pub fn webhook_attempt(code: &'static str, took: Duration) {
    counter!("capture_webhook_attempts_total", "outcome" => code).increment(1);
    if code == "delivered" {
        histogram!("capture_webhook_latency_seconds").record(took.as_secs_f64());
    }
}

/// A try to tell shipping data: `told`, `again` or `given_up`.
pub fn shipping_notice(result: &'static str) {
    counter!("capture_shipping_notices_total", "result" => result).increment(1);
}

/// Deliveries were given up.
pub fn webhooks_given_up(count: u64) {
    counter!("capture_webhooks_given_up_total").increment(count);
}

/// Log lines were dropped.
pub fn log_lines_dropped(count: u64) {
    counter!("capture_log_lines_dropped_total").increment(count);
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;

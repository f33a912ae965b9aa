//! The table of all metrics: name, kind, unit, labels from closed sets, and what each tells.

/// What kind of metric it is, in Prometheus' sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; starts at 0 with the process.
    Counter,
    /// A present value.
    Gauge,
    /// A distribution over fixed buckets.
    Histogram,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, unit included.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What one of it is.
    pub unit: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        labels,
        help,
    }
}

/// All metrics.
///
/// Labels: `provider`, `account` from the settings; `outcome` captured, accepted, failed, not_sent; `class` the seven
/// classes or `none`; `call` capture, read, mark; `currency` ISO 4217; `state` as in [`super::BacklogState`]; `reason` as in
/// `dead_reason`; `within` 24h, 48h; `purpose` send, retry, verify; `result` recorded, already_recorded, lease_lost. Of shipments
/// `source` is one of the settings, or api (with a key), and `result` accepted, known, not_understood, body_refused,
/// signature_missing, signature_wrong, signature_stale. Of webhooks `outcome` is the code of an attempt, one of those in
/// `webhook/attempt.rs`, and `state` enabled, disabled, given_up, failing, behind.
pub const METRICS: [Metric; 34] = [
    metric(
        "capture_attempts_total",
        Kind::Counter,
        "attempts",
        &["provider", "outcome", "class"],
        "Capture POSTs by what they told",
    ),
    metric(
        "capture_observations_total",
        Kind::Counter,
        "reads",
        &["provider", "observation", "class"],
        "Verifying reads by what they showed",
    ),
    metric(
        "capture_provider_latency_seconds",
        Kind::Histogram,
        "seconds",
        &["provider", "call"],
        "How long a call to the provider took, until its answer or its failure",
    ),
    metric(
        "capture_captured_minor_total",
        Kind::Counter,
        "minor units",
        &["provider", "currency"],
        "Money captured, in minor units of its currency",
    ),
    metric(
        "capture_claims_total",
        Kind::Counter,
        "intents",
        &["provider", "purpose"],
        "Intents claimed",
    ),
    metric(
        "capture_claim_latency_seconds",
        Kind::Histogram,
        "seconds",
        &[],
        "How long a claim took, commit included",
    ),
    metric(
        "capture_settle_batch_size",
        Kind::Histogram,
        "results",
        &[],
        "How many results one settle committed",
    ),
    metric(
        "capture_settle_latency_seconds",
        Kind::Histogram,
        "seconds",
        &[],
        "How long a settle took, commit included",
    ),
    metric(
        "capture_settled_total",
        Kind::Counter,
        "results",
        &["result"],
        "Results settled, by what the database said",
    ),
    metric(
        "capture_lease_lost_total",
        Kind::Counter,
        "results",
        &["provider"],
        "Results that came after their lease was taken away",
    ),
    metric(
        "capture_late_results_total",
        Kind::Counter,
        "results",
        &["provider", "outcome"],
        "Late results recorded; a captured one is real money",
    ),
    metric(
        "capture_rescued_total",
        Kind::Counter,
        "intents",
        &[],
        "Intents of lapsed leases turned into verifications",
    ),
    metric(
        "capture_shipping_notices_total",
        Kind::Counter,
        "tries",
        &["result"],
        "Tries to tell a provider the shipping data of a capture; given_up ones can be entered there by hand",
    ),
    metric(
        "capture_database_errors_total",
        Kind::Counter,
        "errors",
        &["step"],
        "Database steps that failed and are repeated",
    ),
    metric(
        "capture_calls_in_flight",
        Kind::Gauge,
        "calls",
        &["provider", "account"],
        "Calls to the provider under way in this process",
    ),
    metric(
        "capture_breaker_open",
        Kind::Gauge,
        "0 or 1",
        &["provider", "account"],
        "1 while this process sends nothing because the provider does not answer",
    ),
    metric(
        "capture_log_lines_dropped_total",
        Kind::Counter,
        "lines",
        &[],
        "Log lines dropped because nobody read them fast enough",
    ),
    metric(
        "capture_database_up",
        Kind::Gauge,
        "0 or 1",
        &[],
        "1 if the backlog could be read for this answer; else the gauges below are absent",
    ),
    metric(
        "capture_intents",
        Kind::Gauge,
        "intents",
        &["provider", "account", "state"],
        "Intents that have not ended, and dead letters, by state",
    ),
    metric(
        "capture_oldest_ready_age_seconds",
        Kind::Gauge,
        "seconds",
        &["provider", "account"],
        "Age of the oldest intent that may be claimed now",
    ),
    metric(
        "capture_oldest_unknown_age_seconds",
        Kind::Gauge,
        "seconds",
        &["provider", "account"],
        "Age of the oldest outcome that is still unknown",
    ),
    metric(
        "capture_dead_letters",
        Kind::Gauge,
        "intents",
        &["provider", "account", "reason"],
        "Dead letters nobody has resolved",
    ),
    metric(
        "capture_at_risk_minor",
        Kind::Gauge,
        "minor units",
        &["provider", "account", "currency", "within"],
        "Money not captured whose authorisation ends soon, dead letters included",
    ),
    metric(
        "capture_lane_paused",
        Kind::Gauge,
        "0 or 1",
        &["provider", "account"],
        "1 while the lane is paused, by a person or because it is misconfigured",
    ),
    metric(
        "capture_workers",
        Kind::Gauge,
        "processes",
        &[],
        "Worker processes with a fresh heartbeat",
    ),
    metric(
        "capture_shipments_unmatched",
        Kind::Gauge,
        "shipments",
        &[],
        "Goods that left while no capture of theirs was held: money that nobody asks for",
    ),
    metric(
        "capture_oldest_unmatched_shipment_age_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "Age of the oldest of them",
    ),
    metric(
        "capture_shipment_requests",
        Kind::Gauge,
        "requests",
        &["source", "result"],
        "Requests that told of shipments so far, at all servers, by what became of them",
    ),
    metric(
        "capture_webhook_attempts_total",
        Kind::Counter,
        "attempts",
        &["outcome"],
        "Attempts to tell an endpoint of an event, by what came of them",
    ),
    metric(
        "capture_webhook_latency_seconds",
        Kind::Histogram,
        "seconds",
        &[],
        "How long endpoints took to take what they took",
    ),
    metric(
        "capture_webhooks_given_up_total",
        Kind::Counter,
        "deliveries",
        &[],
        "Deliveries that did not arrive within webhooks.give_up_after",
    ),
    metric(
        "capture_webhook_endpoints",
        Kind::Gauge,
        "endpoints",
        &["state"],
        "Endpoints; one may count in several states, and given_up were disabled by the sender itself",
    ),
    metric(
        "capture_webhook_pending",
        Kind::Gauge,
        "deliveries",
        &[],
        "Deliveries that are pending at enabled endpoints; of each endpoint 1000 are counted at most",
    ),
    metric(
        "capture_webhook_oldest_pending_age_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "How long the oldest pending delivery of an enabled endpoint has been pending; 0 if there is none",
    ),
];

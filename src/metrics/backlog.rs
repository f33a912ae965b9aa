//! The gauges that are read from the database, and how they are written.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::intent::{Currency, Lane};

use super::METRICS;

/// Where an intent that has not ended stands, for the gauges. Coarser than [`crate::filter::State`]: one for each place
/// and reason to wait, cheap to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BacklogState {
    /// May be claimed now.
    Ready,
    /// Waits for a time.
    Waiting,
    /// Waits for a release.
    Held,
    /// Its outcome is unknown or not final.
    Unknown,
    /// A worker has it.
    Leased,
    /// A dead letter nobody has resolved.
    Dead,
}

impl BacklogState {
    /// Every state.
    pub const ALL: [BacklogState; 6] = [
        BacklogState::Ready,
        BacklogState::Waiting,
        BacklogState::Held,
        BacklogState::Unknown,
        BacklogState::Leased,
        BacklogState::Dead,
    ];

    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            BacklogState::Ready => "ready",
            BacklogState::Waiting => "waiting",
            BacklogState::Held => "held",
            BacklogState::Unknown => "unknown",
            BacklogState::Leased => "leased",
            BacklogState::Dead => "dead",
        }
    }
}

/// How near the end of an authorisation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Within {
    /// Less than 24 hours.
    Day,
    /// Less than 48 hours, those under 24 included.
    TwoDays,
}

impl Within {
    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Within::Day => "24h",
            Within::TwoDays => "48h",
        }
    }
}

/// What one lane has before it. States that are not given are written as 0, so that an alert sees the 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneGauges {
    /// Intents by state. May be an estimate where counting would be dear.
    pub intents: BTreeMap<BacklogState, u64>,
    /// Age of the oldest ready intent; `None`: there is none, written as 0.
    pub oldest_ready: Option<Duration>,
    /// Age of the oldest unknown outcome; `None`: there is none, written as 0.
    pub oldest_unknown: Option<Duration>,
    /// Unresolved dead letters by `dead_reason`.
    pub dead_letters: BTreeMap<&'static str, u64>,
    /// Money not captured whose authorisation ends soon, in minor units.
    pub at_risk_minor: BTreeMap<(&'static str, Within), i64>,
    /// Is the lane paused?
    pub paused: bool,
}

impl LaneGauges {
    /// Adds money at risk.
    pub fn at_risk(&mut self, currency: Currency, within: Within, minor: i64) {
        let sum = self.at_risk_minor.entry((currency.code(), within)).or_default();
        *sum = sum.saturating_add(minor);
    }
}

/// What the database says about all lanes at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BacklogGauges {
    /// By lane.
    pub lanes: BTreeMap<Lane, LaneGauges>,
    /// Workers with a fresh heartbeat.
    pub workers: u64,
    /// Shipments that released nothing, and were told.
    pub unmatched_shipments: u64,
    /// Age of the oldest of them.
    pub oldest_unmatched: Duration,
    /// Requests that told of shipments, by source and result.
    pub shipment_requests: Vec<(String, String, u64)>,
    /// Endpoints of webhooks by state; one may count in several.
    pub webhook_endpoints: BTreeMap<&'static str, u64>,
    /// Deliveries that are pending at enabled endpoints.
    pub webhook_pending: u64,
    /// Age of the oldest of them; `None`: there is none, written as 0.
    pub webhook_oldest: Option<Duration>,
}

/// Writes families of gauges.
pub(super) struct Page<'t>(pub(super) &'t mut String);

type Labels<'l> = Vec<(&'static str, &'l str)>;

impl Page<'_> {
    pub(super) fn family<'l>(&mut self, name: &str, lines: impl IntoIterator<Item = (Labels<'l>, String)>) {
        let help = METRICS
            .iter()
            .find(|metric| metric.name == name)
            .map_or("", |metric| metric.help);
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in lines {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", labels.join(","))
            };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
        self.0.push('\n');
    }

    pub(super) fn backlog(&mut self, backlog: &BacklogGauges) {
        let lanes = || {
            backlog.lanes.iter().map(|(lane, of_lane)| {
                let labels: Labels<'_> = vec![("provider", &lane.provider), ("account", &lane.account)];
                (labels, of_lane)
            })
        };
        self.family(
            "capture_intents",
            lanes().flat_map(|(labels, lane)| {
                BacklogState::ALL.map(|state| {
                    let count = lane.intents.get(&state).copied().unwrap_or(0);
                    (and(&labels, [("state", state.name())]), count.to_string())
                })
            }),
        );
        let seconds = |age: Option<Duration>| age.unwrap_or_default().as_secs().to_string();
        self.family(
            "capture_oldest_ready_age_seconds",
            lanes().map(|(labels, lane)| (labels, seconds(lane.oldest_ready))),
        );
        self.family(
            "capture_oldest_unknown_age_seconds",
            lanes().map(|(labels, lane)| (labels, seconds(lane.oldest_unknown))),
        );
        self.family(
            "capture_dead_letters",
            lanes().flat_map(|(labels, lane)| {
                let reasons = lane.dead_letters.iter();
                let lines = reasons.map(|(reason, count)| (and(&labels, [("reason", *reason)]), count.to_string()));
                lines.collect::<Vec<_>>()
            }),
        );
        self.family(
            "capture_at_risk_minor",
            lanes().flat_map(|(labels, lane)| {
                let sums = lane.at_risk_minor.iter();
                let lines = sums.map(|((currency, within), minor)| {
                    let more = [("currency", *currency), ("within", within.name())];
                    (and(&labels, more), minor.to_string())
                });
                lines.collect::<Vec<_>>()
            }),
        );
        self.family(
            "capture_lane_paused",
            lanes().map(|(labels, lane)| (labels, u64::from(lane.paused).to_string())),
        );
        self.family("capture_workers", [(vec![], backlog.workers.to_string())]);
        self.family(
            "capture_shipments_unmatched",
            [(vec![], backlog.unmatched_shipments.to_string())],
        );
        self.family(
            "capture_oldest_unmatched_shipment_age_seconds",
            [(vec![], backlog.oldest_unmatched.as_secs().to_string())],
        );
        let requests = backlog.shipment_requests.iter().map(|(source, result, count)| {
            let labels: Labels<'_> = vec![("source", source), ("result", result)];
            (labels, count.to_string())
        });
        self.family("capture_shipment_requests", requests);
        self.family(
            "capture_webhook_endpoints",
            backlog
                .webhook_endpoints
                .iter()
                .map(|(state, count)| (vec![("state", *state)], count.to_string())),
        );
        self.family(
            "capture_webhook_pending",
            [(vec![], backlog.webhook_pending.to_string())],
        );
        self.family(
            "capture_webhook_oldest_pending_age_seconds",
            [(vec![], seconds(backlog.webhook_oldest))],
        );
    }
}

fn and<'l, const N: usize>(labels: &Labels<'l>, more: [(&'static str, &'l str); N]) -> Labels<'l> {
    labels.iter().copied().chain(more).collect()
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

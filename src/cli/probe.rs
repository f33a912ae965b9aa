//! What a running worker answers to `/health/ready` and `/metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::filter::Filter;
use crate::http::{Probe, Readiness};
use crate::intent::Currency;
use crate::metrics::{BacklogGauges, BacklogState, LaneGauges, Within};
use crate::outbox::{Backlog, DeadGroup, GroupBy, Outbox, OutboxError};
use crate::retry::DeadReason;

/// A worker that has been silent for longer is not counted: it renews its heartbeat every few seconds.
const FRESH: Duration = Duration::from_secs(60);

/// Asks the database on behalf of whoever asks the worker.
pub struct WorkerProbe {
    outbox: Outbox,
    draining: CancellationToken,
}

impl WorkerProbe {
    /// Of a worker that drains once the token is cancelled.
    pub fn new(outbox: Outbox, draining: CancellationToken) -> WorkerProbe {
        WorkerProbe { outbox, draining }
    }

    async fn read(&self) -> Result<BacklogGauges, OutboxError> {
        let backlog = self.outbox.backlog().await?;
        let by = [GroupBy::Provider, GroupBy::Account, GroupBy::Reason];
        let mut gauges = gauges(backlog, &self.outbox.dead_groups(&Filter::default(), &by).await?);
        for unknown in self.outbox.oldest_unknown().await? {
            let lane = gauges.lanes.entry(unknown.lane).or_default();
            lane.oldest_unknown = Some(Duration::from_secs(count(unknown.age_s)));
        }
        for risk in self.outbox.at_risk().await? {
            let Some(currency) = Currency::from_code(&risk.currency) else {
                continue;
            };
            let lane = gauges.lanes.entry(risk.lane).or_default();
            lane.at_risk(currency, Within::Day, risk.day_minor);
            lane.at_risk(currency, Within::TwoDays, risk.two_days_minor);
        }
        let unmatched = self.outbox.unmatched_shipments().await?;
        gauges.unmatched_shipments = count(unmatched.shipments);
        gauges.oldest_unmatched = Duration::from_secs(count(unmatched.oldest_s));
        let requests = self.outbox.shipment_requests().await?.into_iter();
        gauges.shipment_requests = requests.map(|(source, result, n)| (source, result, count(n))).collect();
        let workers = self.outbox.workers().await?;
        let fresh = workers
            .iter()
            .filter(|worker| Duration::from_secs(count(worker.silent_s)) < FRESH);
        gauges.workers = u64::try_from(fresh.count()).unwrap_or(0);
        let webhooks = self.outbox.webhook_tally().await?;
        gauges.webhook_endpoints = [
            ("enabled", webhooks.enabled),
            ("disabled", webhooks.disabled),
            ("given_up", webhooks.given_up),
            ("failing", webhooks.failing),
            ("behind", webhooks.behind),
        ]
        .map(|(state, endpoints)| (state, count(endpoints)))
        .into();
        gauges.webhook_pending = count(webhooks.pending);
        gauges.webhook_oldest = (webhooks.pending > 0).then(|| Duration::from_secs(count(webhooks.oldest_s)));
        Ok(gauges)
    }
}

#[async_trait]
impl Probe for WorkerProbe {
    async fn ready(&self) -> Readiness {
        if self.draining.is_cancelled() {
            return Readiness::NotReady {
                reason: "this worker is draining".to_owned(),
            };
        }
        match self.outbox.now().await {
            Ok(_) => Readiness::Ready,
            Err(error) if error.is_connection_lost() => Readiness::NotReady {
                reason: "the database cannot be reached".to_owned(),
            },
            Err(_) => Readiness::NotReady {
                reason: "the database does not answer as it should; see the log".to_owned(),
            },
        }
    }

    async fn backlog(&self) -> Option<BacklogGauges> {
        match self.read().await {
            Ok(gauges) => Some(gauges),
            Err(error) => {
                tracing::warn!(error = %error, "the backlog cannot be read for the metrics");
                None
            }
        }
    }
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

fn gauges(backlog: Backlog, dead: &[DeadGroup]) -> BacklogGauges {
    let mut lanes = BTreeMap::new();
    for lane in backlog.lanes {
        let intents = [
            (BacklogState::Ready, lane.ready),
            (BacklogState::Waiting, lane.waiting),
            (BacklogState::Held, lane.held),
            (BacklogState::Unknown, lane.unknown),
            (BacklogState::Leased, lane.leased),
            (BacklogState::Dead, lane.dead),
        ];
        let oldest = (lane.ready > 0).then(|| Duration::from_secs(count(lane.oldest_ready_s)));
        let mut gauges = LaneGauges {
            intents: intents.map(|(state, rows)| (state, count(rows))).into(),
            oldest_ready: oldest,
            paused: lane.paused,
            ..LaneGauges::default()
        };
        for group in dead {
            let same_lane = group.of(GroupBy::Provider) == Some(&lane.lane.provider)
                && group.of(GroupBy::Account) == Some(&lane.lane.account);
            let reason = DeadReason::ALL
                .into_iter()
                .find(|reason| Some(reason.name()) == group.of(GroupBy::Reason));
            if let (true, Some(reason)) = (same_lane, reason) {
                *gauges.dead_letters.entry(reason.name()).or_default() += count(group.captures);
            }
        }
        lanes.insert(lane.lane, gauges);
    }
    BacklogGauges {
        lanes,
        ..BacklogGauges::default()
    }
}

//! Upkeep: what every worker does every now and then for everybody. Each step takes a bounded number of rows, skips what
//! another worker is at, and is safe to do twice.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Settings;
use super::slots::Slots;
use crate::outbox::{LaneId, Outbox, OutboxError};

/// Between two rounds. Releases and lapsed leases wait at most about this long.
const ROUND: Duration = Duration::from_secs(1);
/// Every so many rounds: lapsed leases, deadlines, heartbeat.
const SELDOM: u32 = 5;
/// Rows (or leases) per step and round.
const ROWS: i32 = 200;

pub(super) struct Identity {
    pub(super) worker: Uuid,
    pub(super) lanes: Vec<LaneId>,
}

pub(super) async fn keep_up(
    outbox: Outbox,
    settings: Arc<Settings>,
    me: Identity,
    slots: Arc<Slots>,
    shutdown: CancellationToken,
) {
    let mut round = 0u32;
    let mut quiet = true;
    loop {
        match one_round(&outbox, &settings, &me, &slots, round).await {
            Ok(()) => quiet = true,
            Err(error) => {
                // Said once, not every second.
                if quiet {
                    tracing::warn!(error = %error, "upkeep fails; trying again every second");
                }
                quiet = false;
            }
        }
        round = round.wrapping_add(1);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

async fn one_round(
    outbox: &Outbox,
    settings: &Settings,
    me: &Identity,
    slots: &Slots,
    round: u32,
) -> Result<(), OutboxError> {
    if outbox.releases_are_open().await? {
        outbox.take_shipments(ROWS).await?;
        let freed = outbox.match_releases(ROWS).await?;
        if freed > 0 {
            tracing::info!(freed, "held captures were released");
        }
    }
    if round.is_multiple_of(SELDOM) {
        outbox
            .heartbeat(me.worker, settings.listen.as_deref(), &me.lanes)
            .await?;
        let rescued = outbox.rescue(ROWS).await?;
        if rescued > 0 {
            crate::metrics::rescued(u64::try_from(rescued).unwrap_or(0));
            tracing::warn!(
                rescued,
                "leases lapsed: their outcomes are unknown and will be verified"
            );
        }
        outbox.watch_deadlines(settings.policy.deadline_margin, ROWS).await?;
        outbox.sweep_waiters().await?;
        slots.set_alone_waiting(outbox.any_alone(&me.lanes).await?);
    }
    Ok(())
}

//! Upkeep: what every worker does every now and then for everybody. Each step takes a bounded number of rows, skips what
//! another worker is at, and is safe to do twice.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Settings;
use super::slots::Slots;
use crate::outbox::{LaneId, OutboxError, Store};

/// Between two rounds. Releases and lapsed leases wait at most about this long.
const ROUND: Duration = Duration::from_secs(1);
/// Every so many rounds: lapsed leases, deadlines, heartbeat.
const SELDOM: u32 = 5;
/// Rows (or leases) per step and round.
const ROWS: i32 = 200;
/// Captures looked at per step for an end that nobody told: a walk over all that have not ended, a hundred thousand of them
/// in four minutes.
const WALKED: i32 = 2000;
/// Shipments come in by the thousand when a warehouse closes its day: so often in a round while there are more.
const MORE: u32 = 10;
/// After this long a shipment that has released nothing is told: its order may come late, but not later than a till's.
const UNMATCHED_AFTER: Duration = Duration::from_secs(3600);
/// How long the bytes of a request are kept, for support: 30 days.
const BODIES_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) struct Identity {
    pub(super) worker: Uuid,
    pub(super) lanes: Vec<LaneId>,
}

pub(super) async fn keep_up(
    outbox: Arc<dyn Store>,
    settings: Arc<Settings>,
    me: Identity,
    slots: Arc<Slots>,
    shutdown: CancellationToken,
) {
    let mut round = 0u32;
    let mut quiet = true;
    let mut walked = None;
    loop {
        let faults = one_round(outbox.as_ref(), &settings, &me, &slots, round, &mut walked).await;
        // Said once, not every second.
        if quiet {
            for (step, error) in &faults {
                tracing::warn!(step, error = %error, "upkeep fails; trying again every second");
            }
        }
        quiet = faults.is_empty();
        round = round.wrapping_add(1);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

/// One round. The steps do not depend on each other: one that fails, for whatever reason and for however long, keeps no
/// other from being done.
async fn one_round(
    outbox: &dyn Store,
    settings: &Settings,
    me: &Identity,
    slots: &Slots,
    round: u32,
    walked: &mut Option<Uuid>,
) -> Vec<(&'static str, OutboxError)> {
    let mut faults = Vec::new();
    match outbox.releases_are_open().await {
        Ok(false) => {}
        Ok(true) => {
            for _ in 0..MORE {
                let taken = note(&mut faults, "take shipments", outbox.take_shipments(ROWS).await);
                let freed = note(&mut faults, "match releases", outbox.match_releases(ROWS).await);
                if let Some(freed) = freed.filter(|freed| *freed > 0) {
                    tracing::info!(freed, "held captures were released");
                }
                if taken != Some(ROWS) && freed.is_none_or(|freed| freed < ROWS / 2) {
                    break;
                }
            }
        }
        Err(error) => faults.push(("look for releases", error)),
    }
    if round.is_multiple_of(SELDOM) {
        let beat = outbox.heartbeat(me.worker, settings.listen.as_deref(), &me.lanes).await;
        note(&mut faults, "heartbeat", beat);
        let rescued = note(&mut faults, "rescue", outbox.rescue(ROWS).await);
        if let Some(rescued) = rescued.filter(|rescued| *rescued > 0) {
            crate::metrics::rescued(u64::try_from(rescued).unwrap_or(0));
            tracing::warn!(
                rescued,
                "leases lapsed: their outcomes are unknown and will be verified"
            );
        }
        let assumed = outbox.assume_deadlines(*walked, WALKED).await;
        *walked = note(&mut faults, "assume deadlines", assumed).flatten();
        let watched = outbox.watch_deadlines(settings.policy.deadline_margin, ROWS).await;
        note(&mut faults, "watch deadlines", watched);
        let unmatched = outbox.watch_shipments(UNMATCHED_AFTER, BODIES_KEPT, ROWS).await;
        if let Some(unmatched) = note(&mut faults, "watch shipments", unmatched).filter(|told| *told > 0) {
            tracing::warn!(
                unmatched,
                "goods left, and no capture of theirs is held: capture shipment list --unmatched"
            );
        }
        note(&mut faults, "sweep waiters", outbox.sweep_waiters().await);
        if let Some(waiting) = note(
            &mut faults,
            "look for rows to claim alone",
            outbox.any_alone(&me.lanes).await,
        ) {
            slots.set_alone_waiting(waiting);
        }
    }
    faults
}

fn note<T>(
    faults: &mut Vec<(&'static str, OutboxError)>,
    step: &'static str,
    done: Result<T, OutboxError>,
) -> Option<T> {
    done.map_err(|error| faults.push((step, error))).ok()
}

//! Settling: finished errands are collected and recorded in one statement and one commit: those that came while the
//! statement before was on its way and, where many calls of their lanes are in flight, those of the next few milliseconds.
//!
//! A result is money's only record here, so nothing is dropped: while the database cannot be reached the batch is repeated
//! with the same fences (a repeat of what was recorded changes nothing). A batch that the database refuses is recorded one
//! by one; the one it refuses is logged in full and left to its lease's end, which makes it a verification.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use super::Settings;
use super::slots::{Slot, Slots};
use crate::clock::Boottime;
use crate::outbox::{LaneId, LaneNews, OutboxError, Settled, Settlement, Store, ToldDeadline};
use crate::retry::{Disposition, LaneOrder};

/// The most results in one statement.
const BATCH: usize = 500;
/// With fewer in hand, in the lanes of what has come, it is not worth to wait for more results: the statement would hardly be
/// fuller.
const WORTH_A_WINDOW: u32 = 32;
/// So often a statement that somebody cancelled is repeated as it is.
const CANCELS: u32 = 4;

/// A finished errand.
pub(super) struct Finished {
    pub(super) settlement: Settlement,
    pub(super) lane_order: LaneOrder,
    /// Did the provider answer? `None`: it was not called.
    pub(super) answered: Option<bool>,
    /// Handed in; gone when it is recorded.
    pub(super) slot: Slot,
}

pub(super) struct Settler {
    outbox: Arc<dyn Store>,
    settings: Arc<Settings>,
    slots: Arc<Slots>,
    poke: Arc<Notify>,
    recorded: watch::Sender<usize>,
}

impl Settler {
    pub(super) fn new(
        outbox: Arc<dyn Store>,
        settings: Arc<Settings>,
        slots: Arc<Slots>,
        poke: Arc<Notify>,
    ) -> Settler {
        Settler {
            outbox,
            settings,
            slots,
            poke,
            recorded: watch::Sender::new(0),
        }
    }

    /// How many results were recorded, or finally refused.
    pub(super) fn recorded(&self) -> watch::Receiver<usize> {
        self.recorded.subscribe()
    }

    /// Records what comes until all senders are gone.
    pub(super) async fn settle_all(self, mut queue: mpsc::UnboundedReceiver<Finished>) {
        while let Some(first) = queue.recv().await {
            let mut batch = vec![first];
            while batch.len() < BATCH {
                match queue.try_recv() {
                    Ok(finished) => batch.push(finished),
                    Err(_) => break,
                }
            }
            let window = tokio::time::sleep(self.settings.settle_window);
            tokio::pin!(window);
            // (calls that hang elsewhere bring nothing that is worth waiting for)
            let mut lanes: BTreeSet<LaneId> = batch.iter().map(|finished| finished.settlement.lane()).collect();
            while batch.len() < BATCH && self.slots.in_use_of(&lanes) >= WORTH_A_WINDOW {
                tokio::select! {
                    biased;
                    next = queue.recv() => match next {
                        Some(finished) => {
                            lanes.insert(finished.settlement.lane());
                            batch.push(finished);
                        }
                        None => break,
                    },
                    () = &mut window => break,
                }
            }
            let news = self.news(&batch);
            let count = batch.len();
            let (settlements, slots): (Vec<Settlement>, Vec<Slot>) = batch
                .into_iter()
                .map(|finished| (finished.settlement, finished.slot))
                .unzip();
            let all_captured = self.settle(&settlements, &news).await;
            drop(slots);
            self.recorded.send_modify(|recorded| *recorded += count);
            // What goes on may be due at once, and a row may wait to be claimed alone, for a slot, or for its lane's budget. A
            // sibling that waited for one of these is told of by the database.
            let slots = &self.slots;
            if !all_captured || slots.alone_is_waiting() || slots.a_full_lane_has_room() || slots.something_is_left() {
                self.poke.notify_one();
            }
        }
    }

    /// Returns whether all are recorded as captured.
    async fn settle(&self, settlements: &[Settlement], news: &[LaneNews]) -> bool {
        let all_captured = self.record(settlements, news).await;
        // Afterwards: what has not ended is at rest again. Advice, so it is said once: the next answer tells it again.
        let told: Vec<ToldDeadline> = settlements.iter().filter_map(Settlement::told).collect();
        if !told.is_empty()
            && let Err(error) = self.outbox.tell_deadlines(&told).await
        {
            tracing::debug!(error = %error, told = told.len(), "what providers told of their authorisations is not recorded");
        }
        all_captured
    }

    /// Returns whether all are recorded as captured.
    async fn record(&self, settlements: &[Settlement], news: &[LaneNews]) -> bool {
        match self.until_answered(settlements, news).await {
            Ok(settled) => {
                self.account(settlements, &settled);
                let captured = |one: &Settlement| matches!(one.disposition(), Disposition::Captured(_));
                settlements.iter().all(captured) && settled.iter().all(|settled| *settled == Settled::Recorded)
            }
            Err(error) if settlements.len() > 1 => {
                tracing::error!(error = %error, results = settlements.len(), "a batch of results was refused; recording them one by one");
                for (place, one) in settlements.iter().enumerate() {
                    let one = std::slice::from_ref(one);
                    match self.until_answered(one, if place == 0 { news } else { &[] }).await {
                        Ok(settled) => self.account(one, &settled),
                        Err(error) => refused(one, &error),
                    }
                }
                false
            }
            Err(error) => {
                refused(settlements, &error);
                false
            }
        }
    }

    /// Repeats while the connection is lost; any other error is returned.
    async fn until_answered(&self, settlements: &[Settlement], news: &[LaneNews]) -> Result<Vec<Settled>, OutboxError> {
        let mut tried = 0u32;
        let began = Boottime::now();
        loop {
            match self.outbox.settle(settlements, news).await {
                Err(error)
                    if (error.is_connection_lost() && !planted!(results_dropped_in_an_outage))
                        || is_passing(&error)
                        || (was_cancelled(&error) && tried < CANCELS) =>
                {
                    crate::metrics::database_error("settle");
                    tried += 1;
                    tracing::warn!(error = %error, tried, results = settlements.len(), "results cannot be recorded; trying again");
                    tokio::time::sleep(Duration::from_millis(50) * 2u32.saturating_pow(tried.min(5))).await;
                }
                answer => {
                    let results = u32::try_from(settlements.len()).unwrap_or(u32::MAX);
                    crate::metrics::settle_batch(results, Boottime::now().since(began));
                    return answer;
                }
            }
        }
    }

    fn account(&self, settlements: &[Settlement], settled: &[Settled]) {
        for (settlement, settled) in settlements.iter().zip(settled) {
            crate::metrics::settled(settlement.provider(), *settled);
            match settled {
                Settled::Recorded | Settled::AlreadyRecorded => {
                    if let Disposition::Captured(receipt) = settlement.disposition() {
                        crate::metrics::captured(settlement.provider(), receipt.amount);
                    }
                }
                Settled::LeaseLost => {
                    tracing::warn!(intent = %settlement.intent(), fence = settlement.fence(), "the lease was lost; the result is kept as a late result");
                }
                Settled::IntentLost => {
                    tracing::error!(
                        intent = %settlement.intent(), fence = settlement.fence(), disposition = ?settlement.disposition(),
                        "the intent is gone from the database (a history was lost); this line is the only record of what the provider said"
                    );
                }
            }
        }
    }

    /// What the batch says of each lane, in the order in which the results came.
    fn news(&self, batch: &[Finished]) -> Vec<LaneNews> {
        let mut lanes: BTreeMap<LaneId, LaneNews> = BTreeMap::new();
        for finished in batch {
            let lane = finished.settlement.lane();
            let news = lanes.entry(lane).or_insert_with(|| LaneNews {
                lane,
                answered: false,
                unanswered: 0,
                failures: self.settings.breaker_failures,
                open_ms: ms(self.settings.breaker_open),
                open_max_ms: ms(self.settings.breaker_open_max),
                wait_ms: None,
                pause_reason: None,
            });
            match finished.answered {
                Some(true) => {
                    news.answered = true;
                    news.unanswered = 0;
                }
                Some(false) => news.unanswered += 1,
                None => {}
            }
            match &finished.lane_order {
                LaneOrder::None => {}
                LaneOrder::Wait(wait) => news.wait_ms = Some(news.wait_ms.unwrap_or(0).max(ms(*wait))),
                LaneOrder::Pause(code) => {
                    news.pause_reason = Some(format!("ours to fix: {code}"));
                }
            }
        }
        lanes.into_values().collect()
    }
}

/// Full disk, out of memory, too many connections, a lock that took too long: may pass; the results must not be lost.
fn is_passing(error: &OutboxError) -> bool {
    error.refusal().is_some_and(|refusal| {
        refusal.sqlstate.starts_with("53") || refusal.sqlstate.starts_with("55P") || refusal.sqlstate.starts_with("40")
    })
}

/// An administrator, or a time-out set on the role, ended our statement. That says nothing against the results; but a
/// batch that takes too long each time must be taken apart.
fn was_cancelled(error: &OutboxError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.sqlstate == "57014")
}

fn refused(settlements: &[Settlement], error: &OutboxError) {
    for settlement in settlements {
        tracing::error!(
            intent = %settlement.intent(), fence = settlement.fence(), disposition = ?settlement.disposition(), error = %error,
            "the database refuses a result; when the lease ends the intent is verified"
        );
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX / 4)
}

//! Rest: how the claim loop waits when there is nothing to claim.
//!
//! It lies down: a row says that this worker sleeps, it looks once more, and again some 50 ms later (an insert in flight may
//! have missed the row), and then listens for a notification, at most `poll_max` long, or until the next row is due. What
//! comes now and then does not get it up: the row stays, and each insert wakes it at once. Only when look after look finds
//! something does it get up, and nobody notifies anybody; it naps once before it lies down again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::Settings;
use crate::clock::Boottime;
use crate::outbox::{Listener, Store};

/// Why there is a rest.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why {
    /// No slot is free.
    Full,
    /// Nothing is ready; the next row is due then, if any is.
    Nothing { next_due: Option<Duration> },
    /// The database cannot be reached, or refuses.
    Trouble,
}

/// So many looks in a row that found something: busy, and a notification for each insert would be a waste.
const BUSY: u32 = 8;
/// The row is renewed so often, or a `poll_max` later, which is a minute at most; upkeep sweeps rows older than two minutes.
const RENEWED: Duration = Duration::from_secs(40);
/// How long after lying down an insert that missed the row may still commit.
const SECOND_LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Awake,
    /// Since then.
    Lying(Boottime),
}

pub(super) struct Rest {
    outbox: Arc<dyn Store>,
    worker: Uuid,
    poll_min: Duration,
    poll_max: Duration,
    poke: Arc<Notify>,
    stage: Stage,
    /// Looks in a row that found something.
    found: u32,
    /// Naps in a row, where no listener is to be had.
    naps: u32,
    troubles: u32,
    /// When the row was written or renewed.
    renewed: Boottime,
    listener: Option<Box<dyn Listener>>,
}

impl Rest {
    pub(super) fn new(outbox: Arc<dyn Store>, worker: Uuid, settings: &Settings, poke: Arc<Notify>) -> Rest {
        Rest {
            outbox,
            worker,
            poll_min: settings.poll_min,
            poll_max: settings.poll_max,
            poke,
            stage: Stage::Awake,
            found: 0,
            naps: 0,
            troubles: 0,
            renewed: Boottime::now(),
            listener: None,
        }
    }

    /// Something was found. If that goes on: no more notifications, please.
    pub(super) async fn found(&mut self) {
        self.naps = 0;
        self.troubles = 0;
        self.found = self.found.saturating_add(1);
        if let Some(listener) = &mut self.listener {
            listener.drain();
        }
        if self.found >= BUSY {
            self.get_up().await;
        }
    }

    /// Is it told of each insert?
    pub(super) fn is_lying(&self) -> bool {
        self.stage != Stage::Awake
    }

    /// Has it lain down only now, so that an insert may have missed it?
    pub(super) fn has_just_lain_down(&self) -> bool {
        self.is_lying() && Boottime::now().since(self.renewed) < SECOND_LOOK
    }

    /// Inserts need tell nobody of this worker any more.
    pub(super) async fn get_up(&mut self) {
        if self.stage != Stage::Awake {
            self.stage = Stage::Awake;
            if let Err(error) = self.outbox.get_up(self.worker).await {
                tracing::debug!(error = %error, "could not say that this worker is awake; inserts notify a little longer");
            }
        }
    }

    pub(super) async fn rest(&mut self, why: Why) {
        match why {
            Why::Full => {
                if let Some(listener) = &mut self.listener {
                    listener.drain();
                }
                self.nap(Duration::from_secs(1)).await;
            }
            Why::Trouble => {
                // The listener's connection is likely gone too.
                self.listener = None;
                self.stage = Stage::Awake;
                self.troubles = (self.troubles + 1).min(6);
                self.nap(Duration::from_millis(50) * 2u32.saturating_pow(self.troubles))
                    .await;
            }
            Why::Nothing { next_due } => self.idle(next_due).await,
        }
    }

    async fn idle(&mut self, next_due: Option<Duration>) {
        self.troubles = 0;
        let was_busy = std::mem::take(&mut self.found) >= BUSY;
        let until_due = next_due.unwrap_or(self.poll_max).max(self.poll_min);
        match self.stage {
            Stage::Awake if was_busy => self.nap(self.poll_min.min(until_due)).await,
            Stage::Awake => {
                if self.lie_down().await {
                    self.stage = Stage::Lying(self.renewed);
                } else {
                    // No listener is to be had (a pooler, perhaps): plain polling, half as often as we could.
                    let nap = self.poll_min.saturating_mul(2u32.saturating_pow(self.naps.min(16)));
                    self.naps = self.naps.saturating_add(1).min(16);
                    self.nap(nap.min(self.poll_max).min(Duration::from_millis(250)).min(until_due))
                        .await;
                }
            }
            // Old: upkeep may have swept the row meanwhile, so it is written again, and the second look is made again.
            Stage::Lying(_) if Boottime::now().since(self.renewed) >= RENEWED => {
                self.stage = if self.lie_down().await {
                    Stage::Lying(self.renewed)
                } else {
                    Stage::Awake
                };
            }
            Stage::Lying(since) => {
                let second_look = SECOND_LOOK.saturating_sub(Boottime::now().since(since));
                let at_most = match second_look.is_zero() {
                    false => second_look.min(until_due),
                    true => self.poll_max.min(until_due),
                };
                let heard = match &mut self.listener {
                    Some(listener) => {
                        tokio::select! {
                            biased;
                            heard = listener.wait(at_most) => heard,
                            () = self.poke.notified() => Ok(true),
                        }
                    }
                    None => Ok(true),
                };
                if let Err(error) = heard {
                    tracing::debug!(error = %error, "the listening connection is gone");
                    self.listener = None;
                    self.stage = Stage::Awake;
                }
            }
        }
    }

    async fn lie_down(&mut self) -> bool {
        if self.listener.is_none() {
            self.listener = match self.outbox.listen().await {
                Ok(listener) => Some(listener),
                Err(error) => {
                    tracing::debug!(error = %error, "cannot listen; polling instead");
                    None
                }
            };
        }
        self.renewed = Boottime::now();
        self.listener.is_some() && self.outbox.lie_down(self.worker).await.is_ok()
    }

    async fn nap(&self, at_most: Duration) {
        tokio::select! {
            biased;
            () = tokio::time::sleep(at_most) => {}
            () = self.poke.notified() => {}
        }
    }
}

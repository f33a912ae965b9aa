//! Rest: how the claim loop waits when there is nothing to claim.
//!
//! Short naps first, growing from `poll_min`. After a few of them it lies down: a row says that this worker sleeps, it looks
//! once more, and again some 50 ms later (an insert in flight may have missed the row), and then listens for a
//! notification, at most `poll_max` long, or until the next row is due. While it is busy nobody notifies anybody.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::Settings;
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

/// Naps shorter than this are slept in place; longer ones are worth a row and a listener.
const WORTH_LYING_DOWN: Duration = Duration::from_millis(80);
/// How long after lying down an insert that missed the row may still commit.
const SECOND_LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Awake,
    LayDown,
    LookedOnce,
    LookedTwice,
}

pub(super) struct Rest {
    outbox: Arc<dyn Store>,
    worker: Uuid,
    poll_min: Duration,
    poll_max: Duration,
    poke: Arc<Notify>,
    stage: Stage,
    naps: u32,
    troubles: u32,
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
            naps: 0,
            troubles: 0,
            listener: None,
        }
    }

    /// Something was found: no more notifications, please.
    pub(super) async fn wake_up(&mut self) {
        self.naps = 0;
        self.troubles = 0;
        if self.stage != Stage::Awake {
            self.stage = Stage::Awake;
            if let Err(error) = self.outbox.get_up(self.worker).await {
                tracing::debug!(error = %error, "could not say that this worker is awake; inserts notify a little longer");
            }
        }
    }

    pub(super) async fn rest(&mut self, why: Why) {
        match why {
            Why::Full => self.nap(Duration::from_secs(1)).await,
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
        let until_due = next_due.unwrap_or(self.poll_max).max(self.poll_min);
        let nap = self.poll_min.saturating_mul(2u32.saturating_pow(self.naps.min(16)));
        if nap < WORTH_LYING_DOWN.min(self.poll_max) {
            self.naps += 1;
            return self.nap(nap.min(until_due)).await;
        }
        match self.stage {
            Stage::Awake => {
                self.stage = if self.lie_down().await {
                    Stage::LayDown
                } else {
                    Stage::Awake
                };
                if self.stage == Stage::Awake {
                    // No listener is to be had (a pooler, perhaps): plain polling, half as often as we could.
                    self.nap(nap.min(self.poll_max).min(Duration::from_millis(250)).min(until_due))
                        .await;
                    self.naps = self.naps.min(16);
                }
            }
            Stage::LayDown => {
                self.stage = Stage::LookedOnce;
                self.nap(SECOND_LOOK.min(until_due)).await;
            }
            Stage::LookedOnce | Stage::LookedTwice => {
                self.stage = Stage::LookedTwice;
                let at_most = self.poll_max.min(until_due);
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
                let renewed = match heard {
                    Ok(true) => Ok(()),
                    Ok(false) => self.outbox.lie_down(self.worker).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = renewed {
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

//! Rest: how the claim loop waits when there is nothing to claim.
//!
//! It lies down: a row says that this worker sleeps, it looks once more, and a few times in the 60 ms that follow (an insert in
//! flight may have missed the row), and then listens for a notification, at most `poll_max` long, or until the next row is
//! due. What comes now and then does not get it up: the row stays, each insert wakes it at once, and what it was told of is
//! claimed without another look. Only when there is always more does it get up, and nobody notifies anybody; then it naps,
//! not for long, whenever it finds nothing, and lies down when it finds nothing more often than something.

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
    /// What an insert told of is claimed. Inserts tell of what else there is; within so long it is looked for all the same.
    Taken { look_within: Duration },
    /// The database cannot be reached, or refuses.
    Trouble,
}

/// So many looks in a row that found something: busy, and a notification for each insert would be a waste.
const BUSY: u32 = 8;
/// Of a worker that is busy each look that finds something counts one more, up to so many, and each that finds nothing one less;
/// at nothing it lies down.
const BUSIEST: u32 = 16;
/// The row is renewed so often, or a `poll_max` later, which is a minute at most; upkeep sweeps rows older than two minutes.
const RENEWED: Duration = Duration::from_secs(40);
/// So long after lying down it looks again, and again after twice that: an insert that missed the row commits in a few
/// milliseconds, if not always.
const SECOND_LOOK: Duration = Duration::from_millis(2);
/// So long after lying down it looks for the last time for such an insert.
const LAST_LOOK: Duration = Duration::from_millis(62);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Awake,
    Lying {
        /// It was awake before: inserts that began then may have missed the row.
        since_awake: bool,
    },
}

pub(super) struct Rest {
    outbox: Arc<dyn Store>,
    worker: Uuid,
    poll_min: Duration,
    poll_max: Duration,
    poke: Arc<Notify>,
    stage: Stage,
    /// How much more often it has found something than nothing.
    busy: u32,
    /// Naps in a row, since something was found.
    naps: u32,
    /// How often in a row no listener was to be had.
    deaf: u32,
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
            busy: 0,
            naps: 0,
            deaf: 0,
            troubles: 0,
            renewed: Boottime::now(),
            listener: None,
        }
    }

    /// Something was found, and it is looked again at once. If that goes on: no more notifications, please.
    pub(super) async fn found(&mut self) {
        self.naps = 0;
        self.deaf = 0;
        self.troubles = 0;
        self.busy = (self.busy + 1).min(BUSIEST);
        if let Some(listener) = &mut self.listener {
            listener.drain();
        }
        if self.busy >= BUSY {
            self.get_up().await;
        }
    }

    /// Is it told of each insert?
    pub(super) fn is_lying(&self) -> bool {
        self.stage != Stage::Awake
    }

    /// Has it lain down only now, so that an insert may have missed it?
    pub(super) fn has_just_lain_down(&self) -> bool {
        self.is_lying() && Boottime::now().since(self.renewed) <= LAST_LOOK
    }

    /// Inserts need tell nobody of this worker any more.
    pub(super) async fn get_up(&mut self) {
        if self.is_lying() {
            self.stage = Stage::Awake;
            if let Err(error) = self.outbox.get_up(self.worker).await {
                tracing::debug!(error = %error, "could not say that this worker is awake; inserts notify a little longer");
            }
        }
    }

    /// Returns whether an insert has told that there is something to claim.
    pub(super) async fn rest(&mut self, why: Why) -> bool {
        match why {
            Why::Full => {
                if let Some(listener) = &mut self.listener {
                    listener.drain();
                }
                self.nap(Duration::from_secs(1)).await;
                false
            }
            Why::Trouble => {
                // The listener's connection is likely gone too.
                self.listener = None;
                self.stage = Stage::Awake;
                self.troubles = (self.troubles + 1).min(6);
                self.nap(Duration::from_millis(50) * 2u32.saturating_pow(self.troubles))
                    .await;
                false
            }
            Why::Nothing { next_due } => self.idle(next_due).await,
            Why::Taken { look_within } => self.taken(look_within).await,
        }
    }

    async fn idle(&mut self, next_due: Option<Duration>) -> bool {
        self.troubles = 0;
        let until_due = next_due.unwrap_or(self.poll_max).max(self.poll_min);
        match self.stage {
            Stage::Awake => {
                self.busy = self.busy.saturating_sub(1);
                if self.busy > 0 {
                    // Short at first, and for a while: what comes a thousand times a second must not wait for a tenth of it, nor a
                    // burst for a nap that grew while a slow sync held its commits up.
                    let nap = self.poll_min / 8 * 2u32.pow((self.naps / 4).min(3));
                    self.naps = self.naps.saturating_add(1);
                    self.nap(nap.min(until_due)).await;
                } else if self.lie_down().await {
                    self.stage = Stage::Lying { since_awake: true };
                } else {
                    // No listener is to be had (a pooler, perhaps): plain polling, half as often as we could.
                    let nap = self.poll_min.saturating_mul(2u32.saturating_pow(self.deaf.min(16)));
                    self.deaf = self.deaf.saturating_add(1).min(16);
                    self.nap(nap.min(self.poll_max).min(Duration::from_millis(250)).min(until_due))
                        .await;
                }
                false
            }
            Stage::Lying { .. } if self.is_old() => {
                self.renew().await;
                false
            }
            Stage::Lying { since_awake } => {
                self.busy = 0;
                let lain = Boottime::now().since(self.renewed);
                let at_most = until_next_look(since_awake, lain).unwrap_or(self.poll_max);
                self.hear(at_most.min(until_due)).await
            }
        }
    }

    /// What it was told of is claimed. There is no need to look for more: it would have been told.
    async fn taken(&mut self, look_within: Duration) -> bool {
        if self.is_old() {
            self.renew().await;
            return false;
        }
        if self.hear(Duration::ZERO).await {
            // There was more already, while the claim went on.
            self.found().await;
            return self.is_lying();
        }
        self.busy = 0;
        self.naps = 0;
        self.troubles = 0;
        match self.is_lying() {
            true => self.hear(look_within).await,
            false => false,
        }
    }

    /// Waits to be told of an insert, or to be poked.
    async fn hear(&mut self, at_most: Duration) -> bool {
        let Some(listener) = &mut self.listener else {
            self.stage = Stage::Awake;
            return false;
        };
        let heard = tokio::select! {
            biased;
            heard = listener.wait(at_most) => heard,
            () = self.poke.notified() => Ok(false),
        };
        heard.unwrap_or_else(|error| {
            tracing::debug!(error = %error, "the listening connection is gone");
            self.listener = None;
            self.stage = Stage::Awake;
            false
        })
    }

    /// Upkeep may have swept the row meanwhile, or will soon.
    fn is_old(&self) -> bool {
        self.is_lying() && Boottime::now().since(self.renewed) >= RENEWED
    }

    async fn renew(&mut self) {
        self.stage = match self.lie_down().await {
            true => Stage::Lying { since_awake: false },
            false => Stage::Awake,
        };
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

/// How long until it is looked again for what an insert that missed the row has left, so long after lying down.
fn until_next_look(since_awake: bool, lain: Duration) -> Option<Duration> {
    let mut next = if since_awake { SECOND_LOOK } else { LAST_LOOK };
    while next <= lain {
        next = next * 2 + SECOND_LOOK;
    }
    (next <= LAST_LOOK).then(|| next - lain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_has_just_lain_down_looks_again_after_2_6_14_30_and_62_ms() {
        let ms = Duration::from_millis;
        let mut looks = vec![Duration::ZERO];
        while let Some(next) = looks.last().and_then(|lain| until_next_look(true, *lain)) {
            looks.push(looks[looks.len() - 1] + next);
        }
        assert_eq!(looks, [ms(0), ms(2), ms(6), ms(14), ms(30), ms(62)]);
        assert_eq!(
            until_next_look(true, ms(5)),
            Some(ms(1)),
            "a look in between changes nothing"
        );
        assert_eq!(
            until_next_look(false, ms(0)),
            Some(ms(62)),
            "renewed: one look is enough"
        );
        assert_eq!(until_next_look(false, ms(62)), None);
    }
}

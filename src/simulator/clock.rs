//! The providers' clock: real time and an offset that can be moved, so that a key window of a day
//! or a capture that is pending for an hour passes in an instant.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, watch};

#[derive(Debug)]
pub(super) struct Clock {
    hands: watch::Sender<Hands>,
    waiting: Mutex<Waiting>,
    happened: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Hands {
    offset_ms: i64,
    /// What has a number below this happens at once, whatever its time.
    hurried: u64,
}

/// Things that are to happen, with their times.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    due: BTreeMap<u64, DateTime<Utc>>,
}

impl Clock {
    pub(super) fn new(offset_ms: i64) -> Arc<Self> {
        Arc::new(Self {
            hands: watch::Sender::new(Hands { offset_ms, hurried: 0 }),
            waiting: Mutex::default(),
            happened: Notify::new(),
        })
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        later(Utc::now(), TimeDelta::milliseconds(self.offset_ms()))
    }

    pub(super) fn offset_ms(&self) -> i64 {
        self.hands.borrow().offset_ms
    }

    pub(super) fn set_offset_ms(&self, offset_ms: i64) {
        self.hands.send_modify(|hands| hands.offset_ms = offset_ms);
    }

    pub(super) fn after(&self, wait: Duration) -> DateTime<Utc> {
        let wait = TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX);
        later(self.now(), wait)
    }

    /// Announces something for an instant, so that [`Clock::settled`] waits for it.
    pub(super) fn announce(self: &Arc<Self>, at: DateTime<Utc>) -> Due {
        let mut waiting = self.waiting();
        let number = waiting.next;
        waiting.next += 1;
        waiting.due.insert(number, at);
        Due {
            clock: Arc::clone(self),
            number,
            at,
        }
    }

    /// Lets everything announced so far happen now.
    pub(super) fn hurry(&self) {
        let next = self.waiting().next;
        self.hands.send_modify(|hands| hands.hurried = next);
    }

    /// Waits until nothing is left that should have happened by now.
    pub(super) async fn settled(&self) {
        loop {
            let happened = self.happened.notified();
            let now = self.now();
            let hurried = self.hands.borrow().hurried;
            let overdue = self
                .waiting()
                .due
                .iter()
                .any(|(number, at)| *number < hurried || *at <= now);
            if !overdue {
                return;
            }
            happened.await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is to happen; dropped when it has.
pub(super) struct Due {
    clock: Arc<Clock>,
    number: u64,
    at: DateTime<Utc>,
}

impl Due {
    /// Waits for its time, by the clock as it may be moved meanwhile.
    pub(super) async fn arrives(&self) {
        let mut hands = self.clock.hands.subscribe();
        loop {
            let hurried = hands.borrow_and_update().hurried;
            let left = (self.at - self.clock.now()).to_std().unwrap_or_default();
            if left.is_zero() || self.number < hurried {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                _ = hands.changed() => {}
            }
        }
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        self.clock.waiting().due.remove(&self.number);
        self.clock.happened.notify_waiters();
    }
}

fn later(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

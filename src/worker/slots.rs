//! Slots: how many calls each lane has in flight in this process, and for what.
//!
//! First sends, retries and verifications share a lane's slots 2 : 1 : 1; what one does not use another may. The claim
//! statement does the sharing; here is counted, and the purpose whose turn it is goes round, so that even a lane of one
//! slot starves nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ServedLane;
use crate::outbox::{LaneId, LaneRequest, Purpose};

/// Whose turn it is, claim after claim.
const TURNS: [Purpose; 4] = [Purpose::Send, Purpose::Retry, Purpose::Send, Purpose::Verify];

#[derive(Debug, Clone, Copy, Default)]
struct InUse {
    send: u32,
    retry: u32,
    verify: u32,
}

impl InUse {
    fn of(&mut self, purpose: Purpose) -> &mut u32 {
        match purpose {
            Purpose::Send => &mut self.send,
            Purpose::Retry => &mut self.retry,
            Purpose::Verify => &mut self.verify,
        }
    }

    fn sum(self) -> u32 {
        self.send + self.retry + self.verify
    }
}

struct LaneSlots {
    concurrency: u32,
    send_calls: u32,
    read_calls: u32,
    in_use: InUse,
    turn: usize,
}

/// The slots of all lanes of a worker.
pub(super) struct Slots {
    lanes: Mutex<BTreeMap<LaneId, LaneSlots>>,
    alone_waiting: AtomicBool,
    /// The last look for such a row found one: there may be more.
    more_alone: AtomicBool,
}

/// One slot in use; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    lane: LaneId,
    purpose: Purpose,
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots")
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(lane) = self.slots.lanes().get_mut(&self.lane) {
            let used = lane.in_use.of(self.purpose);
            *used = used.saturating_sub(1);
        }
    }
}

impl Slots {
    pub(super) fn new(lanes: Vec<(LaneId, ServedLane)>) -> Slots {
        let lanes = lanes
            .into_iter()
            .map(|(id, lane)| {
                let calls = lane.provider.abilities().calls;
                let slots = LaneSlots {
                    concurrency: lane.concurrency,
                    send_calls: calls.send,
                    read_calls: calls.read,
                    in_use: InUse::default(),
                    turn: 0,
                };
                (id, slots)
            })
            .collect();
        Slots {
            lanes: Mutex::new(lanes),
            alone_waiting: AtomicBool::new(false),
            more_alone: AtomicBool::new(false),
        }
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<LaneId, LaneSlots>> {
        // Counting cannot leave a half-done state behind, so a poisoned lock is as good as any.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to ask the next claim for.
    pub(super) fn requests(&self) -> Vec<LaneRequest> {
        self.lanes()
            .iter()
            .filter(|(_, lane)| lane.in_use.sum() < lane.concurrency)
            .map(|(id, lane)| {
                let favour = TURNS.get(lane.turn).copied().unwrap_or(Purpose::Send);
                LaneRequest {
                    lane: *id,
                    free: lane.concurrency - lane.in_use.sum(),
                    sending: lane.in_use.send,
                    retrying: lane.in_use.retry,
                    verifying: lane.in_use.verify,
                    favour: favour.number(),
                    send_calls: lane.send_calls,
                    read_calls: lane.read_calls,
                }
            })
            .collect()
    }

    /// Lets the turn of these lanes go round: a claim has given them something. A claim that gave nothing leaves it: where
    /// a rate budget fills call by call, a purpose that costs one call must not take it, look after look, from under one
    /// that costs four.
    pub(super) fn turn(&self, lanes: impl IntoIterator<Item = LaneId>) {
        let given: BTreeSet<LaneId> = lanes.into_iter().collect();
        let mut lanes = self.lanes();
        for id in given {
            if let Some(lane) = lanes.get_mut(&id) {
                lane.turn = (lane.turn + 1) % TURNS.len();
            }
        }
    }

    pub(super) fn take(self: &Arc<Self>, lane: LaneId, purpose: Purpose) -> Slot {
        if let Some(slots) = self.lanes().get_mut(&lane) {
            *slots.in_use.of(purpose) += 1;
        }
        Slot {
            slots: self.clone(),
            lane,
            purpose,
        }
    }

    pub(super) fn in_use(&self) -> u32 {
        self.lanes().values().map(|lane| lane.in_use.sum()).sum()
    }

    pub(super) fn all_full(&self) -> bool {
        self.lanes().values().all(|lane| lane.in_use.sum() >= lane.concurrency)
    }

    pub(super) fn alone_is_waiting(&self) -> bool {
        self.alone_waiting.load(Ordering::Relaxed)
    }

    pub(super) fn set_alone_waiting(&self, waiting: bool) {
        self.alone_waiting.store(waiting, Ordering::Relaxed);
    }

    /// A look for a row that must be claimed alone has found one, or none.
    pub(super) fn looked_for_alone(&self, found: bool) {
        self.alone_waiting.store(false, Ordering::Relaxed);
        self.more_alone.store(found, Ordering::Relaxed);
    }

    /// Nothing else is to be done: looks for the next row that must be claimed alone, if the last look found one.
    pub(super) fn goes_on_alone(&self) -> bool {
        let goes_on = self.more_alone.swap(false, Ordering::Relaxed);
        self.alone_waiting.fetch_or(goes_on, Ordering::Relaxed);
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_goes_round_with_what_is_given_not_with_each_look() {
        let lane = |concurrency| LaneSlots {
            concurrency,
            send_calls: 4,
            read_calls: 1,
            in_use: InUse::default(),
            turn: 0,
        };
        let slots = Slots {
            lanes: Mutex::new(BTreeMap::from([(LaneId(1), lane(8)), (LaneId(2), lane(8))])),
            alone_waiting: AtomicBool::new(false),
            more_alone: AtomicBool::new(false),
        };
        let favour = || slots.requests().iter().map(|lane| lane.favour).collect::<Vec<_>>();
        assert_eq!(favour(), [0, 0]);
        assert_eq!(
            favour(),
            [0, 0],
            "nothing was given: a send goes on saving for its four calls"
        );
        slots.turn([LaneId(2), LaneId(2)]);
        assert_eq!(favour(), [0, 1], "once for a claim, however much it gave");
        slots.turn([LaneId(2)]);
        slots.turn([LaneId(2)]);
        assert_eq!(favour(), [0, 2]);
        slots.turn([LaneId(2)]);
        assert_eq!(favour(), [0, 0]);
    }
}

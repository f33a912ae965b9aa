//! Slots: how many intents each lane has in hand in this process, and for what.
//!
//! A lane calls its provider `concurrency` times at once, and no more: a call waits for its turn. Some more are claimed
//! ahead, so that the next call begins when one ends, and not a claim later; and claims are made for some intents at once,
//! not for each call that ends: a quarter more, or what the lane's calls get through in 20 ms if that is more, up to as many
//! again. A provider that takes a second leaves so no more than a quarter to wait here while another worker may have room;
//! where calls are short, a claim for each few of them would cost more than they do. A slot is used from the claim until the result is handed in. Results that are not recorded
//! yet hold slots only once there are more than `concurrency` of them: then the database is what everybody waits for.
//!
//! First sends, retries and verifications share a lane's slots 2 : 1 : 1; what one does not use another may. The claim
//! statement does the sharing; here is counted, and the purpose whose turn it is goes round, so that even a lane of one
//! slot starves nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::ServedLane;
use crate::clock::Boottime;
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

/// What a lane's calls get through in this time may be claimed ahead of them.
const AHEAD: Duration = Duration::from_millis(20);

struct LaneSlots {
    concurrency: u32,
    claims_ahead: bool,
    /// How long an intent has taken of late, from its turn to its result: a mean that forgets.
    takes: Option<Duration>,
    send_calls: u32,
    read_calls: u32,
    in_use: InUse,
    /// Results handed in, and not recorded yet.
    unrecorded: u32,
    /// A claim has filled it, or had to leave it out.
    full: bool,
    turn: usize,
    calls: Arc<Semaphore>,
}

impl LaneSlots {
    fn new(concurrency: u32, claims_ahead: bool, send_calls: u32, read_calls: u32) -> LaneSlots {
        LaneSlots {
            concurrency,
            claims_ahead,
            takes: None,
            send_calls,
            read_calls,
            in_use: InUse::default(),
            unrecorded: 0,
            full: false,
            turn: 0,
            calls: Arc::new(Semaphore::new(usize::try_from(concurrency).unwrap_or(usize::MAX >> 3))),
        }
    }

    /// How many are claimed ahead of their calls, at most.
    fn ahead(&self) -> u32 {
        // (in a lane of three or fewer it would be rounded up to the purpose that is served most)
        let least = self.concurrency / 4;
        if !self.claims_ahead || least == 0 {
            return 0;
        }
        let in_a_while = match self.takes {
            None => 0,
            Some(takes) => u128::from(self.concurrency) * AHEAD.as_micros() / takes.as_micros().max(1),
        };
        let in_a_while = u32::try_from(in_a_while).unwrap_or(u32::MAX);
        in_a_while.clamp(least, self.concurrency)
    }

    fn free(&self) -> u32 {
        let (in_use, ahead) = (self.in_use.sum(), self.ahead());
        let of_calls = (self.concurrency + ahead).saturating_sub(in_use);
        let of_results = (2 * self.concurrency + ahead).saturating_sub(in_use + self.unrecorded);
        of_calls.min(of_results)
    }

    /// A claim for one at a time costs as much as one for many.
    fn is_worth_a_claim(&self) -> bool {
        self.free() >= self.ahead().div_ceil(2).max(1)
    }

    fn took(&mut self, took: Duration) {
        self.takes = Some(self.takes.map_or(took, |takes| takes - takes / 8 + took / 8));
    }
}

/// The slots of all lanes of a worker.
pub(super) struct Slots {
    lanes: Mutex<BTreeMap<LaneId, LaneSlots>>,
    /// Poked when a lane that was full is worth a claim again.
    poke: Arc<Notify>,
    alone_waiting: AtomicBool,
    /// The last look saw something ready that the claim was not given: a budget that fills again, perhaps.
    left: AtomicBool,
    /// The last look for such a row found one: there may be more.
    more_alone: AtomicBool,
}

/// One slot in use; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    lane: LaneId,
    purpose: Purpose,
    /// Since when its intent is worked on.
    began: Option<Boottime>,
    handed_in: bool,
}

impl Slot {
    /// Its turn has come.
    pub(super) fn begin(&mut self) {
        self.began = Some(Boottime::now());
    }

    /// The calls are over, and what came of them is on its way into the database.
    pub(super) fn hand_in(&mut self) {
        let purpose = self.purpose;
        let took = self.began.map(|began| Boottime::now().since(began));
        if !std::mem::replace(&mut self.handed_in, true) {
            self.slots.change(self.lane, |lane| {
                let used = lane.in_use.of(purpose);
                *used = used.saturating_sub(1);
                lane.unrecorded += 1;
                if let Some(took) = took {
                    lane.took(took);
                }
            });
        }
    }
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
        let (purpose, handed_in) = (self.purpose, self.handed_in);
        self.slots.change(self.lane, |lane| {
            let used = if handed_in {
                &mut lane.unrecorded
            } else {
                lane.in_use.of(purpose)
            };
            *used = used.saturating_sub(1);
        });
    }
}

impl Slots {
    pub(super) fn new(lanes: Vec<(LaneId, ServedLane)>, poke: Arc<Notify>) -> Slots {
        let lanes = lanes
            .into_iter()
            .map(|(id, lane)| {
                let calls = lane.provider.abilities().calls;
                // Calls are counted against a rate when they are claimed, so they are not put off then.
                let claims_ahead = lane.rate_per_minute == 0;
                (
                    id,
                    LaneSlots::new(lane.concurrency, claims_ahead, calls.send, calls.read),
                )
            })
            .collect();
        Slots {
            lanes: Mutex::new(lanes),
            poke,
            alone_waiting: AtomicBool::new(false),
            left: AtomicBool::new(false),
            more_alone: AtomicBool::new(false),
        }
    }

    fn change(&self, lane: LaneId, how: impl FnOnce(&mut LaneSlots)) {
        let worth_it_now = self.lanes().get_mut(&lane).is_some_and(|lane| {
            let before = lane.is_worth_a_claim();
            how(lane);
            !before && lane.is_worth_a_claim()
        });
        if worth_it_now {
            self.poke.notify_one();
        }
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<LaneId, LaneSlots>> {
        // Counting cannot leave a half-done state behind, so a poisoned lock is as good as any.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to ask the next claim for.
    pub(super) fn requests(&self) -> Vec<LaneRequest> {
        self.lanes()
            .iter_mut()
            .filter_map(|(id, lane)| {
                lane.full = lane.free() == 0;
                (!lane.full).then_some((id, lane))
            })
            .map(|(id, lane)| {
                let favour = TURNS.get(lane.turn).copied().unwrap_or(Purpose::Send);
                LaneRequest {
                    lane: *id,
                    free: lane.free(),
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
            slots.full = slots.free() == 0;
        }
        Slot {
            slots: self.clone(),
            lane,
            purpose,
            began: None,
            handed_in: false,
        }
    }

    /// What a call of the lane waits for.
    pub(super) fn calls(&self, lane: LaneId) -> Option<Arc<Semaphore>> {
        self.lanes().get(&lane).map(|lane| lane.calls.clone())
    }

    pub(super) fn in_use(&self) -> u32 {
        self.lanes().values().map(|lane| lane.in_use.sum()).sum()
    }

    pub(super) fn in_use_of(&self, lanes: &BTreeSet<LaneId>) -> u32 {
        let all = self.lanes();
        let of = lanes.iter().filter_map(|id| all.get(id));
        of.map(|lane| lane.in_use.sum()).sum()
    }

    /// In use, or results that are not recorded yet.
    pub(super) fn in_hand(&self) -> u32 {
        self.lanes()
            .values()
            .map(|lane| lane.in_use.sum() + lane.unrecorded)
            .sum()
    }

    /// Has the last claim filled a lane, or left one out?
    pub(super) fn some_lane_is_full(&self) -> bool {
        self.lanes().values().any(|lane| lane.full)
    }

    /// Is there a free slot in a lane that the last claim filled, or left out? What is ready there waits for nothing else.
    pub(super) fn a_full_lane_has_room(&self) -> bool {
        self.lanes().values().any(|lane| lane.full && lane.free() > 0)
    }

    /// A look has seen that something is left, or nothing.
    pub(super) fn set_left(&self, left: bool) {
        self.left.store(left, Ordering::Relaxed);
    }

    /// Is something ready that the last claim was not given? Nobody tells when it may be had: it is asked for again.
    pub(super) fn something_is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    pub(super) fn none_free(&self) -> bool {
        self.lanes().values().all(|lane| lane.free() == 0)
    }

    /// Is no lane worth a claim?
    pub(super) fn all_full(&self) -> bool {
        !self.lanes().values().any(LaneSlots::is_worth_a_claim)
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

    fn slots(concurrency: u32) -> Arc<Slots> {
        let lane = || LaneSlots::new(concurrency, true, 4, 1);
        Arc::new(Slots {
            lanes: Mutex::new(BTreeMap::from([(LaneId(1), lane()), (LaneId(2), lane())])),
            poke: Arc::new(Notify::new()),
            alone_waiting: AtomicBool::new(false),
            left: AtomicBool::new(false),
            more_alone: AtomicBool::new(false),
        })
    }

    fn free(slots: &Slots) -> Option<u32> {
        let requests = slots.requests();
        requests
            .iter()
            .find(|lane| lane.lane == LaneId(1))
            .map(|lane| lane.free)
    }

    #[test]
    fn a_quarter_is_claimed_ahead_and_no_claim_is_made_for_a_few() {
        let slots = slots(16);
        assert_eq!(free(&slots), Some(20));
        let mut others: Vec<Slot> = (0..20).map(|_| slots.take(LaneId(2), Purpose::Send)).collect();
        let mut taken: Vec<Slot> = (0..20).map(|_| slots.take(LaneId(1), Purpose::Send)).collect();
        assert_eq!(free(&slots), None);
        assert!(slots.all_full());
        taken[0].hand_in();
        taken[0].hand_in();
        assert_eq!(free(&slots), Some(1), "handed in once, however often it is said");
        assert!(slots.all_full(), "one is not worth a claim");
        taken[1].hand_in();
        assert!(!slots.all_full());
        assert_eq!(free(&slots), Some(2));
        assert_eq!(slots.in_use_of(&BTreeSet::from([LaneId(1)])), 18);
        assert_eq!(slots.in_use_of(&BTreeSet::from([LaneId(1), LaneId(2), LaneId(3)])), 38);
        others.clear();
        assert_eq!(slots.in_use(), 18);
    }

    #[test]
    fn where_calls_are_short_more_is_claimed_ahead_and_claims_are_for_more() {
        let ahead = |concurrency, takes_ms| {
            let mut lane = LaneSlots::new(concurrency, true, 4, 1);
            lane.took(Duration::from_millis(takes_ms));
            lane.ahead()
        };
        for (concurrency, takes_ms, expected) in [
            (64, 1000, 16),
            (64, 80, 16),
            (64, 40, 32),
            (64, 20, 64),
            (64, 0, 64),
            (1, 1000, 0),
            (4, 5, 4),
            (3, 5, 0),
        ] {
            assert_eq!(
                ahead(concurrency, takes_ms),
                expected,
                "{concurrency} calls of {takes_ms} ms"
            );
        }
        let mut lane = LaneSlots::new(64, true, 4, 1);
        (0..100).for_each(|_| lane.took(Duration::from_millis(20)));
        assert_eq!(lane.free(), 128);
        lane.in_use.send = 97;
        assert!(!lane.is_worth_a_claim());
        lane.in_use.send = 96;
        assert!(lane.is_worth_a_claim());
        (0..100).for_each(|_| lane.took(Duration::from_secs(1)));
        assert_eq!(lane.free(), 0, "the provider became slow: a quarter ahead again");
        let mut rated = LaneSlots::new(64, false, 4, 1);
        rated.took(Duration::from_millis(1));
        assert_eq!(rated.free(), 64);
    }

    #[test]
    fn results_that_are_not_recorded_hold_slots_once_they_are_many() {
        let slots = slots(16);
        let mut results: Vec<Slot> = (0..16).map(|_| slots.take(LaneId(1), Purpose::Retry)).collect();
        results.iter_mut().for_each(Slot::hand_in);
        assert_eq!(free(&slots), Some(20), "as many as there are calls hold nobody up");
        results.extend((0..16).map(|_| slots.take(LaneId(1), Purpose::Retry)));
        results.iter_mut().for_each(Slot::hand_in);
        assert_eq!(free(&slots), Some(4));
        drop(results);
        assert_eq!(free(&slots), Some(20));
        assert_eq!(slots.in_use(), 0);
    }

    #[test]
    fn a_lane_of_one_slot_claims_one() {
        let slots = slots(1);
        assert_eq!(free(&slots), Some(1));
        let mut taken = slots.take(LaneId(1), Purpose::Verify);
        assert_eq!(free(&slots), None);
        taken.hand_in();
        assert_eq!(free(&slots), Some(1));
    }

    #[test]
    fn a_lane_that_a_claim_filled_or_left_out_is_full_until_a_claim_asks_for_it() {
        let slots = slots(16);
        let mut taken: Vec<Slot> = (0..19).map(|_| slots.take(LaneId(1), Purpose::Send)).collect();
        assert!(!slots.some_lane_is_full());
        taken.push(slots.take(LaneId(1), Purpose::Send));
        assert!(slots.some_lane_is_full() && !slots.a_full_lane_has_room());
        assert_eq!(free(&slots), None);
        taken[0].hand_in();
        assert!(
            slots.a_full_lane_has_room(),
            "one slot, not worth a claim by itself: what settles says that it is there"
        );
        assert_eq!(free(&slots), Some(1));
        assert!(!slots.some_lane_is_full() && !slots.a_full_lane_has_room());
    }

    #[test]
    fn the_turn_goes_round_with_what_is_given_not_with_each_look() {
        let slots = slots(8);
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

//! The worker: claims intents, works on each, and settles what came of it.
//!
//! One process is one worker; many may share an outbox. Inside it:
//!
//! - the **claim loop** (here) takes as many intents as its lanes have free slots, in one statement for all lanes, and
//!   starts an errand for each. It rests (`rest.rs`) when there is nothing to claim, and is poked when a slot is free;
//! - an **errand** (`errand.rs`) takes one claimed intent through guard, reads, the one capture POST and the decision. It
//!   holds no connection to the database while it talks to the provider;
//! - **settling** (`settling.rs`) collects finished errands for a few milliseconds and records them in one statement,
//!   repeating it until the database has answered;
//! - **upkeep** (`upkeep.rs`) rescues lapsed leases, matches releases, watches deadlines and keeps the heartbeat;
//! - **operations** (`operations.rs`) are carried out in small steps, by whoever comes by;
//! - **telling** (`telling.rs`) gives the shipping data of what is captured to providers that take it later, least urgent;
//! - **hints** (`hints.rs`) tell who listens that the feed has grown, a few times a second at most.
//!
//! A lease is counted from an instant taken *before* the claim was sent. A claim whose answer was lost is never worked
//! on: it is given back, or lapses. The worker knows no provider by name; it acts on what a provider says it can do.

mod errand;
mod hints;
mod operations;
mod rest;
mod settling;
mod slots;
mod telling;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::clock::{Boottime, SendGuard};
use crate::intent::Lane;
use crate::outbox::{ClaimRequest, LaneId, Moved, OutboxError, Store, Ticket};
use crate::provider::Provider;
use crate::retry::Policy;
use crate::shipment::Fulfilment;

use errand::Errand;
use rest::{Rest, Why};
use settling::{Finished, Settler};
use slots::Slots;

/// So often what is due is looked for while there is always something to claim.
const DUE_NOW_AND_THEN: Duration = Duration::from_millis(20);

/// For so long a few free slots wait for more of them.
const FULL: Duration = Duration::from_secs(1);

/// The settings of a worker. Defaults are those of `capture.toml`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a claim lasts. Default 120 s: longer than the longest call by far.
    pub lease: Duration,
    /// How long a stop waits for calls in flight. Default 90 s.
    pub drain_timeout: Duration,
    /// How long finished errands are collected before they are settled, where 32 or more of their lanes are in hand. Default 10 ms.
    pub settle_window: Duration,
    /// The claim loop's pause where it has just been busy, or cannot be notified, and its longest sleep. Defaults 10 ms and 5 s.
    pub poll_min: Duration,
    /// See `poll_min`.
    pub poll_max: Duration,
    /// Intents claimed at once, at most. Default 500.
    pub batch: u32,
    /// Retry and verification.
    pub policy: Policy,
    /// The breaker opens at so many calls in a row without an answer. Default 20.
    pub breaker_failures: u32,
    /// For how long, at first. Default 5 s.
    pub breaker_open: Duration,
    /// And at most. Default 60 s.
    pub breaker_open_max: Duration,
    /// Where this worker serves its metrics, for the list of workers.
    pub listen: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lease: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(90),
            settle_window: Duration::from_millis(10),
            poll_min: Duration::from_millis(10),
            poll_max: Duration::from_secs(5),
            batch: 500,
            policy: Policy::default(),
            breaker_failures: 20,
            breaker_open: Duration::from_secs(5),
            breaker_open_max: Duration::from_secs(60),
            listen: None,
        }
    }
}

/// A lane that this worker serves.
#[derive(Clone)]
pub struct ServedLane {
    /// Provider and account.
    pub lane: Lane,
    /// Its adapter.
    pub provider: Arc<dyn Provider>,
    /// Calls in flight at most, in this process.
    pub concurrency: u32,
    /// Calls a minute over all workers; 0: no limit.
    pub rate_per_minute: u32,
    /// What a shipment does to its held captures.
    pub fulfilment: Fulfilment,
    /// How long an authorisation lives where nobody tells; `None`: nothing is assumed.
    pub authorization_lifetime: Option<Duration>,
}

/// A worker.
pub struct Worker {
    id: Uuid,
    outbox: Arc<dyn Store>,
    settings: Arc<Settings>,
    lanes: Vec<ServedLane>,
    lane_ids: Vec<LaneId>,
    slots: Arc<Slots>,
    poke: Arc<Notify>,
    /// Nothing is claimed and no capture is sent any more; calls in flight go on.
    stopping: CancellationToken,
}

impl Worker {
    /// Registers the lanes it will serve.
    pub async fn new(
        outbox: impl Store + 'static,
        lanes: Vec<ServedLane>,
        settings: Settings,
    ) -> Result<Worker, OutboxError> {
        let mut lane_ids = Vec::with_capacity(lanes.len());
        for lane in &lanes {
            // Before the lane counts as registered: nothing is released by a rule that is not the account's.
            outbox.set_fulfilment(&lane.lane, lane.fulfilment).await?;
            outbox
                .set_authorization_lifetime(&lane.lane, lane.authorization_lifetime)
                .await?;
            lane_ids.push(outbox.register_lane(&lane.lane, lane.rate_per_minute).await?);
        }
        let poke = Arc::new(Notify::new());
        let slots = Slots::new(
            lane_ids
                .iter()
                .zip(&lanes)
                .map(|(id, lane)| (*id, lane.clone()))
                .collect(),
            poke.clone(),
        );
        Ok(Worker {
            // Random per boot: a host's name would come back after a crash and pass for the one that died.
            id: new_id(),
            outbox: Arc::new(outbox),
            settings: Arc::new(settings),
            lanes,
            lane_ids,
            slots: Arc::new(slots),
            poke,
            stopping: CancellationToken::new(),
        })
    }

    /// This worker's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Works until `shutdown`, then drains: claims no more, sends no more, waits at most `drain_timeout` for the calls in
    /// flight, and leaves the rest to verification. A database that goes away is waited for, for ever.
    pub async fn run(&self, shutdown: CancellationToken) {
        let (finished, queue) = mpsc::unbounded_channel();
        let settler = self.settler();
        let hints = tokio::spawn(hints::give(self.outbox.clone(), settler.recorded()));
        let settling = tokio::spawn(settler.settle_all(queue));
        let operations_are_due = Arc::new(Notify::new());
        let upkeep = upkeep::Upkeep {
            outbox: self.outbox.clone(),
            settings: self.settings.clone(),
            worker: self.id,
            lanes: self.lane_ids.clone(),
            slots: self.slots.clone(),
            operations_are_due: operations_are_due.clone(),
        };
        let upkeep = tokio::spawn(upkeep.keep_up(shutdown.clone()));
        let abilities = self
            .lanes
            .iter()
            .map(|lane| (lane.lane.clone(), lane.provider.abilities()));
        let operations = tokio::spawn(operations::carry_on(
            self.outbox.clone(),
            abilities.collect(),
            operations_are_due,
            shutdown.clone(),
        ));
        let telling = tokio::spawn(telling::tell_on(
            self.outbox.clone(),
            telling::tellers(&self.lanes, &self.lane_ids),
            shutdown.clone(),
        ));
        let errands = TaskTracker::new();
        self.claim_until(&shutdown, &errands, &finished).await;

        self.stopping.cancel();
        drop(finished);
        errands.close();
        tracing::info!(in_flight = errands.len(), "draining: nothing more is claimed");
        let drained = async {
            errands.wait().await;
            // Every errand has handed in its result; the settler ends when the last is recorded.
            settling.await
        };
        if tokio::time::timeout(self.settings.drain_timeout, drained)
            .await
            .is_err()
        {
            tracing::warn!(
                in_flight = errands.len(),
                "drain_timeout is over: what is still open is left to verification"
            );
        }
        hints.abort();
        // A call of it may last a minute, and nobody waits for its end: it is made again elsewhere.
        telling.abort();
        let _ = upkeep.await;
        let _ = operations.await;
        if let Err(error) = self.outbox.depart(self.id).await {
            tracing::warn!(error = %error, "could not take this worker off the list; others do so after an hour");
        }
    }

    /// Works until nothing is ready, nothing is due and nothing is in flight. For tests and tools: with the clock set
    /// ahead between calls a whole story plays without sleeping. Returns how many intents were claimed.
    pub async fn drain(&self) -> Result<usize, OutboxError> {
        let (finished, queue) = mpsc::unbounded_channel();
        let settler = self.settler();
        let mut recorded = settler.recorded();
        let settling = tokio::spawn(settler.settle_all(queue));
        let mut claimed_in_all = 0;
        loop {
            let moved = self.outbox.move_due(1000).await?.moved;
            let mut claimed = 0;
            for alone in [false, true] {
                let errands = TaskTracker::new();
                claimed += self
                    .claim(alone, &errands, &finished)
                    .await
                    .map_err(|lost| lost.error)?;
                claimed_in_all += claimed;
                errands.close();
                errands.wait().await;
                let _ = recorded.wait_for(|recorded| *recorded >= claimed_in_all).await;
                if claimed > 0 {
                    break;
                }
            }
            if claimed == 0 && moved == 0 {
                break;
            }
        }
        drop(finished);
        let _ = settling.await;
        Ok(claimed_in_all)
    }

    /// Makes every telling of shipping data that is due now, once. For tests and tools, as [`Worker::drain`] is. Returns how
    /// many were tried and not put off.
    pub async fn tell(&self) -> Result<usize, OutboxError> {
        let mut told = 0;
        for teller in telling::tellers(&self.lanes, &self.lane_ids) {
            while telling::tell_next(self.outbox.as_ref(), &teller).await? {
                told += 1;
            }
        }
        Ok(told)
    }

    fn settler(&self) -> Settler {
        Settler::new(
            self.outbox.clone(),
            self.settings.clone(),
            self.slots.clone(),
            self.poke.clone(),
        )
    }

    async fn claim_until(
        &self,
        shutdown: &CancellationToken,
        errands: &TaskTracker,
        finished: &mpsc::UnboundedSender<Finished>,
    ) {
        let mut rest = Rest::new(self.outbox.clone(), self.id, &self.settings, self.poke.clone());
        let mut looks = Looks::default();
        while !shutdown.is_cancelled() {
            let why = match self.look(&mut looks, errands, finished).await {
                Ok(None) => {
                    rest.found().await;
                    // What comes now and then comes alone: to look whether anything is ready costs a third of a claim.
                    if rest.is_lying() {
                        looks.due = None;
                    }
                    continue;
                }
                Ok(Some(why)) => why,
                Err(error) => {
                    tracing::warn!(error = %error, address = %self.outbox.address(), "cannot claim; trying again");
                    Why::Trouble
                }
            };
            // A rest may be cut at any point: it holds nothing but a listener and a row that says "I sleep".
            looks.told = tokio::select! {
                biased;
                () = shutdown.cancelled() => false,
                told = rest.rest(why) => told,
            };
            if rest.has_just_lain_down() {
                looks.due = None;
            }
        }
        rest.get_up().await;
    }

    /// One look for work. `None`: something was found, look again.
    async fn look(
        &self,
        looks: &mut Looks,
        errands: &TaskTracker,
        finished: &mpsc::UnboundedSender<Finished>,
    ) -> Result<Option<Why>, OutboxError> {
        while let Some(lease) = looks.lost.last().copied() {
            let given_back = self.outbox.give_back(lease).await?;
            if given_back > 0 {
                tracing::info!(lease = %lease, given_back, "a claim whose answer was lost is given back; nothing of it was sent");
            }
            looks.lost.pop();
        }
        // A row that must be claimed alone waits until nothing else is in flight, so that it alone is to blame.
        let alone = self.slots.alone_is_waiting();
        let all_full = match self.slots.all_full() {
            false => {
                looks.full = None;
                false
            }
            // A few slots are not worth a claim, unless the calls that hold the others do not end.
            true => {
                Boottime::now().since(*looks.full.get_or_insert_with(Boottime::now)) < FULL || self.slots.none_free()
            }
        };
        if (alone && self.slots.in_hand() > 0) || all_full {
            return Ok(Some(Why::Full));
        }
        // While there is always something to claim, what is due is looked for now and then, and not with each claim; nor
        // is it where an insert has told that there is something.
        let told = std::mem::take(&mut looks.told) && !alone;
        let lately = |at: Boottime| Boottime::now().since(at) < DUE_NOW_AND_THEN;
        let mut moved = match told || looks.due.is_some_and(lately) {
            true => None,
            false => Some(self.move_due(looks).await?),
        };
        // One statement of an idle worker, instead of two.
        let nothing = moved.is_some_and(|moved| !moved.any_ready);
        let claimed = match nothing {
            true => Ok(0),
            false => self.claim(alone, errands, finished).await,
        };
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(LostClaim { lease, error }) => {
                if error.is_connection_lost() && !planted!(lost_claim_forgotten) {
                    looks.lost.push(lease);
                }
                return Err(error);
            }
        };
        if told && claimed > 0 && claimed < self.settings.batch as usize && !self.slots.some_lane_is_full() {
            return self.taken(looks).await;
        }
        if claimed == 0 && moved.is_none() {
            moved = Some(self.move_due(looks).await?);
        }
        let moved = moved.unwrap_or(Moved {
            moved: 0,
            next_due: None,
            any_ready: false,
        });
        if alone {
            self.slots.looked_for_alone(claimed > 0);
            if claimed == 0 {
                // Somebody else has it. What an insert told of meanwhile is looked for now.
                return Ok(None);
            }
        } else if claimed == 0 && moved.moved == 0 && self.slots.in_use() == 0 && self.slots.goes_on_alone() {
            // Otherwise idle: after a storm there may be thousands of them, and upkeep looks only now and then.
            return Ok(None);
        }
        Ok(if claimed > 0 || moved.moved > 0 {
            None
        } else {
            Some(Why::Nothing {
                next_due: moved.next_due,
            })
        })
    }

    /// What an insert told of is claimed. What inserts do not tell of (what is due, what another claim passed over) is
    /// looked for within 20 ms, once for all the claims of that time.
    async fn taken(&self, looks: &mut Looks) -> Result<Option<Why>, OutboxError> {
        let since = *looks.unlooked.get_or_insert_with(Boottime::now);
        let mut look_within = DUE_NOW_AND_THEN.saturating_sub(Boottime::now().since(since));
        if look_within.is_zero() {
            if self.move_due(looks).await?.moved > 0 {
                return Ok(None);
            }
            look_within = DUE_NOW_AND_THEN;
            looks.unlooked = looks.due;
        }
        Ok(Some(Why::Taken { look_within }))
    }

    async fn move_due(&self, looks: &mut Looks) -> Result<Moved, OutboxError> {
        looks.due = Some(Boottime::now());
        looks.unlooked = None;
        let moved = self.outbox.move_due(1000).await?;
        // Until a claim has had it, or another look sees nothing.
        self.slots.set_left(moved.any_ready);
        Ok(moved)
    }

    /// Claims once, and starts an errand for each intent that was had.
    async fn claim(
        &self,
        alone: bool,
        errands: &TaskTracker,
        finished: &mpsc::UnboundedSender<Finished>,
    ) -> Result<usize, LostClaim> {
        let lease = new_id();
        let lanes = self.slots.requests();
        if lanes.is_empty() {
            return Ok(0);
        }
        // Taken before the claim is sent: this worker's idea of the lease's end is never later than the database's.
        let claimed_from = Boottime::now();
        let request = ClaimRequest {
            lease,
            worker: self.id,
            lease_for: self.settings.lease,
            batch: if alone { 1 } else { self.settings.batch },
            alone,
            lanes: &lanes,
        };
        let claimed = self.outbox.claim(&request).await.map_err(|error| {
            crate::metrics::database_error("claim");
            LostClaim { lease, error }
        })?;
        crate::metrics::claim_latency(Boottime::now().since(claimed_from));
        let guard = SendGuard::new(claimed_from, self.settings.lease, self.settings.policy.longest_call);
        let count = claimed.claims.len() + claimed.unreadable.len();
        if count > 0 {
            tracing::debug!(lease = %lease, count, "claimed");
        }
        let claims = claimed.claims.iter().map(|claim| &claim.ticket);
        let unreadable = claimed.unreadable.iter().map(|row| &row.ticket);
        self.slots.turn(claims.chain(unreadable).map(Ticket::lane));
        for unreadable in claimed.unreadable {
            let mut slot = self.slots.take(unreadable.ticket.lane(), unreadable.ticket.purpose());
            slot.hand_in();
            let _ = finished.send(errand::bury(unreadable, slot));
        }
        for claim in claimed.claims {
            let mut slot = self.slots.take(claim.ticket.lane(), claim.ticket.purpose());
            crate::metrics::claimed(claim.ticket.provider(), claim.ticket.purpose(), 1);
            let (Some(served), Some(calls)) = (self.served(claim.ticket.lane()), self.slots.calls(claim.ticket.lane()))
            else {
                continue;
            };
            let errand = Errand {
                provider: served.provider.clone(),
                settings: self.settings.clone(),
                stopping: self.stopping.clone(),
                claimed_from,
                guard,
            };
            let finished = finished.clone();
            // On its own, or each of its future's layers has room for one.
            let claim = Box::new(claim);
            errands.spawn(async move {
                // Claimed a little ahead of its turn. A stop does not wait for the turn: the errand sends nothing then.
                let turn = tokio::select! {
                    biased;
                    turn = calls.acquire() => turn.ok(),
                    () = errand.stopping.cancelled() => None,
                };
                slot.begin();
                let errand = errand.run(claim).await;
                drop(turn);
                slot.hand_in();
                let _ = finished.send(errand.with(slot));
            });
        }
        Ok(count)
    }

    fn served(&self, lane: LaneId) -> Option<&ServedLane> {
        self.lane_ids
            .iter()
            .position(|id| *id == lane)
            .and_then(|place| self.lanes.get(place))
    }
}

/// A random id. For a lease it is also the token under which a claim whose answer was lost is given back.
fn new_id() -> Uuid {
    #[cfg(feature = "proof")]
    if let Some(simulated) = crate::simulated::uuid() {
        return simulated;
    }
    Uuid::new_v4()
}

/// What a claim loop remembers from look to look.
#[derive(Default)]
struct Looks {
    /// Claims whose answers were lost, to be given back.
    lost: Vec<Uuid>,
    /// When it was last seen to what is due.
    due: Option<Boottime>,
    /// Since when no lane is worth a claim.
    full: Option<Boottime>,
    /// An insert has told that there is something to claim.
    told: bool,
    /// Since when what it was told of is all that was claimed.
    unlooked: Option<Boottime>,
}

/// A claim that failed; perhaps only its answer was lost.
struct LostClaim {
    lease: Uuid,
    error: OutboxError,
}

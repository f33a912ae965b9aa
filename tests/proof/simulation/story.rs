//! A story from its seed to its end: workers, producers, people, and what befalls them.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use capture::intent::{CaptureIntent, IntentId};
use capture::outbox::memory::{Cancelled, Cause, End, Enqueued, Tables};
use capture::outbox::{AuditStamp, HeldRelease, RESOLVED_NOT_CAPTURED, Replayed};
use capture::retry::{DeadReason, Policy};
use capture::verify::plan_replay;
use capture::worker::{ServedLane, Settings, Worker};
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::life::{Life, pause};
use super::provider::{LONGEST_CALL_MS, SimProvider};
use super::script::{Act, Script};
use super::store::SimStore;
use super::tally::{Fault, Path, Tally};
use super::world::{Shared, World, lock, short};

pub const LEASE: Duration = Duration::from_secs(10);
/// A story that has not ended by then never will (ms).
const TOO_LONG_MS: u64 = 900_000;

/// What came of a story.
pub struct Told {
    pub breaches: Vec<String>,
    pub tally: Tally,
    pub trace: String,
}

/// Plays one story, all of it from its seed.
pub fn tell(seed: u64, traced: bool) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async {
        capture::simulated::begin(seed);
        let world = Arc::new(std::sync::Mutex::new(World::new(seed, traced)));
        let script = lock(&world).write_script();
        play(&world, &script).await;
        world
    });
    drop(runtime);
    capture::simulated::end();
    let mut world = world.lock().unwrap();
    Told {
        breaches: std::mem::take(&mut world.breaches),
        tally: std::mem::take(&mut world.tally),
        trace: world.take_trace(),
    }
}

/// One worker process after the other, at one place.
struct Post {
    life: Arc<Life>,
    shutdown: CancellationToken,
    boots: u32,
}

struct Stage<'a> {
    world: &'a Shared,
    script: &'a Script,
    posts: Vec<Post>,
    /// The database as it was when the standby last heard of it.
    standby: Option<Tables>,
    /// Dead letters that somebody has looked at, and when they had died.
    looked_at: BTreeSet<(IntentId, DateTime<Utc>)>,
}

async fn play(world: &Shared, script: &Script) {
    let mut stage = Stage {
        world,
        script,
        posts: Vec::new(),
        standby: None,
        looked_at: BTreeSet::new(),
    };
    for place in 0..script.workers {
        stage.posts.push(stage.boot(place, 0));
    }
    let mut acts = script.acts.iter().peekable();
    let mut round_at = 1_000;
    loop {
        let (at, act) = match acts.peek() {
            Some((at, _)) if *at <= round_at => (*at, acts.next()),
            Some(_) | None => (round_at, None),
        };
        let now = lock(world).ms();
        pause(at.saturating_sub(now)).await;
        match act {
            Some((_, act)) => stage.perform(act).await,
            None => {
                round_at += 1_000;
                for place in 0..stage.posts.len() {
                    if stage.posts[place].life.is_over() {
                        stage.posts[place] = stage.boot(place, stage.posts[place].boots + 1);
                    }
                }
                if stage.people(acts.peek().is_none()) {
                    break;
                }
            }
        }
    }
    let mut world = lock(world);
    world.ended_at_ms = world.ms();
    world.tally.virtual_seconds = world.ended_at_ms / 1000;
    world.judge();
}

fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "somebody".to_owned(),
        reason: "simulated".to_owned(),
    }
}

impl Stage<'_> {
    fn boot(&self, place: usize, boots: u32) -> Post {
        let life = Life::new(self.world, format!("w{place}.{boots}"));
        let shutdown = CancellationToken::new();
        tokio::spawn(work(
            self.world.clone(),
            life.clone(),
            shutdown.clone(),
            settings(self.script),
            self.script.concurrency,
            self.script.rate_per_minute,
        ));
        Post { life, shutdown, boots }
    }

    async fn perform(&mut self, act: &Act) {
        // People and programs wait for the database; what befalls it does not.
        let wants_database = matches!(act, Act::Ask(_) | Act::Release(..) | Act::Cancel(_));
        while wants_database && lock(self.world).database_is_down() {
            pause(100).await;
        }
        let mut world = lock(self.world);
        let world = &mut *world;
        let (ms, now) = (world.ms(), world.now());
        match act {
            Act::Ask(wanted) => {
                let (capture, terms) = wanted.at(world);
                let id = capture.id;
                world.say(|| {
                    format!(
                        "asks for {} on {} {terms:?} until {:?}",
                        short(id),
                        capture.payment_id,
                        capture.authorization_expires_at
                    )
                });
                let (asked, payment) = (capture.clone(), capture.payment_id.clone());
                let mut enqueued = world.tables.enqueue(now, capture, terms);
                let just_now = world.tables.intents.values().all(|row| {
                    row.capture.lane != asked.lane
                        || row.capture.payment_id != payment
                        || now - row.capture.created_at < TimeDelta::seconds(1)
                });
                if wanted.crosses && just_now && enqueued == Enqueued::Refused("intents_within_authorized") {
                    // As if alone, and then beside those it did not see.
                    let alone = CaptureIntent {
                        payment_id: format!("{payment} alone"),
                        ..asked
                    };
                    enqueued = world.tables.enqueue(now, alone, terms);
                    if let Some(row) = world.tables.intents.get_mut(&id) {
                        Arc::make_mut(row).capture.payment_id = payment;
                        world.path(Path::CrossedAtInsert);
                    }
                }
                match enqueued {
                    Enqueued::Created => {
                        world.tally.intents += 1;
                        if !world.sleepers.is_empty() {
                            world.inserted.notify_waiters();
                        }
                    }
                    Enqueued::Refused(_) => world.path(Path::RefusedAtInsert),
                }
            }
            Act::Release(lane, payment) => {
                let waits = world.tables.waiting.iter().any(|(intent, row)| {
                    row.cause == Cause::Held && world.tables.intents[intent].capture.payment_id == *payment
                });
                world.path(if waits {
                    Path::ReleasedAfter
                } else {
                    Path::ReleasedBefore
                });
                world.say(|| format!("releases one of {payment}"));
                let release = HeldRelease {
                    provider: lane.provider.clone(),
                    account: Some(lane.account.clone()),
                    payment_id: Some(payment.clone()),
                    ..HeldRelease::default()
                };
                world.tables.release(now, &release);
            }
            Act::Cancel(intent) => {
                let said = world.tables.cancel(now, *intent, "simulated");
                world.say(|| format!("cancels {}: {said:?}", short(*intent)));
                if said == Cancelled::Cancelled {
                    world.path(Path::CancelledAtOnce);
                }
            }
            Act::Crash(place) => {
                world.fault(Fault::Crash, &self.posts[*place].life.name);
                self.posts[*place].life.end();
                self.posts[*place] = self.boot(*place, self.posts[*place].boots + 1);
            }
            Act::Drain(place) => {
                world.path(Path::Drained);
                world.say(|| format!("{} drains", self.posts[*place].life.name));
                self.posts[*place].shutdown.cancel();
                self.posts[*place] = self.boot(*place, self.posts[*place].boots + 1);
            }
            Act::Freeze(place, long) => {
                let life = &self.posts[*place].life;
                world.fault(Fault::Freeze, &life.name);
                life.freeze(ms + long);
            }
            Act::DatabaseDown(long) => {
                world.fault(Fault::DatabaseDown, "database");
                world.database_down_until = ms + long;
            }
            Act::Snapshot => self.standby = Some(world.tables.clone()),
            Act::FailOver(long) => {
                world.fault(Fault::FailOver, "database");
                let Some(standby) = self.standby.take() else { return };
                world.fail_over(standby);
                world.database_down_until = ms + long;
            }
            Act::Jump(by) => {
                world.fault(Fault::ClockJump, "database");
                world.ahead += chrono::TimeDelta::milliseconds(i64::try_from(*by).unwrap());
                world.upheavals += 1;
                world.upheaved_at = Some(ms);
            }
            Act::CaptureByHand(place, payment) => {
                world.fault(Fault::CapturedByHand, "somebody");
                world.run_bank(*place);
                let at = world.bank_now();
                let counter = world.counter(*place);
                counter.bank.capture_by_hand(payment, 100, at);
                counter.by_hand.insert(payment.clone());
            }
            Act::ClosePayment(place, payment) => {
                world.fault(Fault::PaymentClosed, "somebody");
                world.run_bank(*place);
                world.counter(*place).bank.payments.get_mut(payment).unwrap().closed = true;
            }
            Act::Unauthorised(place, long) => world.counter(*place).unauthorised_until = ms + long,
        }
    }

    /// What people do every second. True: the story is over. `acted`: nothing more is planned.
    fn people(&mut self, acted: bool) -> bool {
        let mut world = lock(self.world);
        let world = &mut *world;
        let ms = world.ms();
        if ms >= self.script.heals_at && !world.healed {
            world.healed = true;
            world.say(|| "all has healed".to_owned());
        }
        for fault in world.tables.faults() {
            world.breach(fault);
        }
        for place in 0..world.counters.len() {
            world.run_bank(place);
        }
        if world.database_is_down() {
            return false;
        }
        let now = world.now();
        for place in 0..world.counters.len() {
            let (id, wrong) = {
                let counter = world.counter(place);
                (counter.id, counter.unauthorised_until > ms)
            };
            if !wrong {
                world.tables.set_lane_pause(now, id, false, &stamp());
            }
        }
        let dead: Vec<(IntentId, DeadReason, DateTime<Utc>)> = world
            .tables
            .outcomes
            .iter()
            .filter(|(_, row)| row.last_code.as_deref() != Some(RESOLVED_NOT_CAPTURED))
            .filter_map(|(id, row)| match row.end {
                End::Dead(reason) => Some((*id, reason, row.ended_at)),
                End::Captured { .. } | End::Cancelled => None,
            })
            .filter(|(id, _, ended_at)| !self.looked_at.contains(&(*id, *ended_at)))
            .collect();
        for (id, reason, ended_at) in &dead {
            // Not at once, as a rule.
            if !world.chance(30) {
                continue;
            }
            self.looked_at.insert((*id, *ended_at));
            world.deal_with(*id, *reason, *ended_at);
        }
        let moves = world.tables.intents.keys().any(|id| {
            let held = world
                .tables
                .waiting
                .get(id)
                .is_some_and(|row| row.cause == Cause::Held && row.due_at.is_none());
            let will_expire = world.tables.deadlines.contains_key(id);
            !world.tables.outcomes.contains_key(id) && (!held || will_expire)
        });
        let open_releases = world
            .tables
            .releases
            .iter()
            .any(|row| row.matched.is_none() && now - row.created_at < chrono::TimeDelta::seconds(15));
        let still = world.counters.iter().all(|counter| counter.wires.are_still());
        let over = acted && world.healed && !moves && still && dead.is_empty() && !open_releases;
        if !over && ms > TOO_LONG_MS {
            let stuck = world
                .tables
                .intents
                .keys()
                .filter(|id| !world.tables.outcomes.contains_key(id));
            let stuck: Vec<String> = stuck.map(short).collect();
            world.breach(format!("never ends: {stuck:?}"));
            return true;
        }
        over
    }
}

impl World {
    /// The standby takes over: what it never heard of is lost.
    fn fail_over(&mut self, standby: Tables) {
        let replayed = self.tables.audit[standby.audit.len()..].iter();
        let replayed = replayed
            .filter(|act| act.action == "replay")
            .filter_map(|act| act.intent);
        let released = self.tables.releases.iter().filter_map(|release| release.matched);
        let released = released
            .map(|(freed, _)| freed)
            .filter(|id| standby.waiting.get(id).is_some_and(|row| row.cause == Cause::Held));
        for intent in replayed.chain(released) {
            self.acts_lost.insert(intent);
            self.tally.path(Path::ActLostWithHistory);
        }
        self.tables = standby;
        self.tables.change_history();
        self.upheavals += 1;
        self.upheaved_at = Some(self.ms());
    }

    /// A person looks at a dead letter: replays it, settles it by the bank's books, or leaves it.
    fn deal_with(&mut self, id: IntentId, reason: DeadReason, ended_at: DateTime<Utc>) {
        let row = self.tables.intents[&id].clone();
        let place = self.place_of(&row.capture.lane);
        let replays = self.replayed.get(&id).copied().unwrap_or(0);
        if replays < 2 && self.chance(50) {
            let now = self.now();
            let progress = self.tables.progress_of(id);
            let plan = plan_replay(reason, &progress, self.counter(place).abilities, now);
            let said = self.tables.replay(now, id, ended_at, plan.fresh_key, &stamp());
            self.say(|| format!("replays {} ({reason:?}): {said:?}, {}", short(id), plan.says));
            if said == Replayed::Replayed {
                self.replayed.insert(id, replays + 1);
                self.path(if plan.fresh_key {
                    Path::ReplayedWithFreshKey
                } else {
                    Path::Replayed
                });
            }
            return;
        }
        let counter = self.counter(place);
        let moving = counter.wires.on_the_way().any(|wire| wire.request.intent == id) || counter.wires.is_open(id);
        if reason == DeadReason::Undecided && !moving && self.chance(50) {
            let moved = self.counter(place).bank.times_captured(id) > 0;
            let now = self.now();
            self.tables.resolve(now, id, moved, "the bank's books", &stamp());
            self.say(|| format!("resolves {}: captured {moved}", short(id)));
            self.path(Path::Resolved);
        }
    }
}

fn settings(script: &Script) -> Settings {
    Settings {
        lease: LEASE,
        drain_timeout: Duration::from_secs(5),
        settle_window: Duration::from_millis(10),
        poll_min: Duration::from_millis(10),
        poll_max: Duration::from_secs(2),
        batch: 20,
        policy: Policy {
            initial: Duration::from_millis(300),
            multiplier_thousandths: 2000,
            max: Duration::from_secs(5),
            attempts: 8,
            verify_quiet: script.quiet,
            deadline_margin: Duration::from_secs(4),
            longest_call: Duration::from_millis(LONGEST_CALL_MS),
        },
        breaker_failures: 4,
        breaker_open: Duration::from_secs(1),
        breaker_open_max: Duration::from_secs(4),
        listen: None,
    }
}

/// One worker process.
async fn work(
    world: Shared,
    life: Arc<Life>,
    shutdown: CancellationToken,
    settings: Settings,
    concurrency: u32,
    rate_per_minute: u32,
) {
    let id = Arc::new(OnceLock::new());
    let worker = loop {
        let lanes = {
            let world_now = lock(&world);
            let counters = world_now.counters.iter().enumerate();
            counters
                .map(|(place, counter)| ServedLane {
                    lane: counter.lane.clone(),
                    provider: Arc::new(SimProvider {
                        world: world.clone(),
                        life: life.clone(),
                        worker: id.clone(),
                        place,
                        abilities: counter.abilities,
                    }),
                    concurrency,
                    rate_per_minute,
                    fulfilment: Default::default(),
                    authorization_lifetime: None,
                })
                .collect()
        };
        let store = SimStore {
            world: world.clone(),
            life: life.clone(),
        };
        match Worker::new(store, lanes, settings.clone()).await {
            Ok(worker) => break worker,
            Err(_) => pause(200).await,
        }
    };
    id.set(worker.id()).unwrap();
    worker.run(shutdown).await;
}

//! The outbox in memory, as a worker reaches it over a connection that fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use capture::intent::Lane;
use capture::outbox::memory::Cause;
use capture::outbox::{
    Chores, ClaimRequest, Claimed, LaneId, LaneNews, Listener, Moved, OutboxError, Settled, Settlement, Store,
    repeating,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::life::{Life, pause};
use super::tally::{Fault, Path};
use super::world::{Opened, Shared, World, lock, short};

pub struct SimStore {
    pub world: Shared,
    pub life: Arc<Life>,
}

/// What goes wrong with one statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    NeverArrives,
    AnswerLost,
    Refused,
    SessionEnded,
    NotDurable,
}

/// What a statement is, to what may go wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Moves rows, and opens attempts.
    Claims,
    /// Moves rows: may lose against another.
    Moves,
    Other,
}

struct Plan {
    wrong: Wrong,
    before_ms: u64,
    after_ms: u64,
    /// Should the process die meanwhile: does the statement go through all the same?
    outlives: bool,
}

fn io(kind: std::io::ErrorKind) -> OutboxError {
    OutboxError::Sql(sqlx::Error::Io(kind.into()))
}

/// An error of the server. (Only the driver can make one that carries a whole refusal.)
#[derive(Debug)]
struct Told(&'static str);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "simulated {}", self.0)
    }
}

impl std::error::Error for Told {}

impl sqlx::error::DatabaseError for Told {
    fn message(&self) -> &str {
        self.0
    }
    fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
        Some(self.0.into())
    }
    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }
    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }
    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }
    fn kind(&self) -> sqlx::error::ErrorKind {
        sqlx::error::ErrorKind::Other
    }
}

fn told(code: &'static str) -> OutboxError {
    OutboxError::Sql(sqlx::Error::Database(Box::new(Told(code))))
}

impl SimStore {
    fn plan(&self, sort: Sort) -> Plan {
        let claims = sort == Sort::Claims;
        let mut world = lock(&self.world);
        let world = &mut *world;
        let name = &self.life.name;
        let mut before_ms = if world.chance(60) { 0 } else { world.between(1, 4) };
        let mut after_ms = if world.chance(80) { 0 } else { world.between(1, 3) };
        if world.strikes(4) {
            world.fault(Fault::StatementStalled, name);
            let stall = if world.chance(50) {
                world.between(200, 3_000)
            } else {
                world.between(3_000, 14_000)
            };
            if world.chance(50) {
                before_ms += stall;
            } else {
                after_ms += stall;
            }
        }
        // What is claimed long before it is sent.
        if claims && world.strikes(10) {
            world.fault(Fault::StatementStalled, name);
            after_ms += world.between(1_000, 7_000);
        }
        let wrong = if world.strikes(12) {
            world.fault(Fault::StatementNeverArrived, name);
            Wrong::NeverArrives
        } else if world.strikes(20) {
            world.fault(Fault::CommitAnswerLost, name);
            Wrong::AnswerLost
        } else if world.strikes(4) {
            world.fault(Fault::StatementRefused, name);
            Wrong::Refused
        } else if world.strikes(4) {
            world.fault(Fault::SessionEnded, name);
            Wrong::SessionEnded
        } else if claims && world.strikes(15) {
            world.fault(Fault::CommitNotDurable, name);
            Wrong::NotDurable
        } else {
            Wrong::Nothing
        };
        Plan {
            wrong,
            before_ms,
            after_ms,
            outlives: world.chance(50),
        }
    }

    /// Loses against others so many times, and is repeated as the outbox on Postgres repeats it. What lost was rolled back,
    /// so it did nothing, and what loses too often is told to the worker, as it is there.
    async fn win(&self, sort: Sort) -> Result<(), OutboxError> {
        let (losses, code) = {
            let mut world = lock(&self.world);
            let world = &mut *world;
            if sort == Sort::Other || !world.strikes(10) {
                return Ok(());
            }
            let losses = if world.chance(15) { 9 } else { world.between(1, 3) };
            let (fault, code) = if world.chance(70) {
                (Fault::SerializationFailure, "40001")
            } else {
                (Fault::Deadlock, "40P01")
            };
            world.fault(fault, &self.life.name);
            (losses, code)
        };
        let mut tries = 0;
        let won = repeating(|| {
            tries += 1;
            let lost = tries <= losses;
            async move {
                self.life.runs().await;
                if !lost {
                    return Ok(());
                }
                // A deadlock is looked for after a second (`deadlock_timeout`).
                pause(if code == "40P01" { 1_000 } else { 1 }).await;
                Err(sqlx::Error::Database(Box::new(Told(code))))
            }
        })
        .await;
        let path = if won.is_ok() {
            Path::StatementRepeated
        } else {
            Path::StatementGivenUp
        };
        lock(&self.world).path(path);
        Ok(won?)
    }

    async fn statement<T>(
        &self,
        sort: Sort,
        effect: impl FnOnce(&mut World, DateTime<Utc>) -> T + Send,
    ) -> Result<T, OutboxError>
    where
        T: Send,
    {
        self.life.runs().await;
        self.win(sort).await?;
        let plan = self.plan(sort);
        pause(plan.before_ms).await;
        if self.life.is_over() {
            if !plan.outlives {
                self.life.runs().await;
            }
            lock(&self.world).fault(Fault::CrashDuringStatement, &self.life.name);
        }
        let value = {
            let mut world = lock(&self.world);
            if world.database_is_down() {
                Err(io(std::io::ErrorKind::ConnectionRefused))
            } else {
                match plan.wrong {
                    Wrong::NeverArrives => Err(io(std::io::ErrorKind::ConnectionReset)),
                    Wrong::Refused => Err(told("XX000")),
                    Wrong::SessionEnded => Err(told("57P01")),
                    Wrong::Nothing | Wrong::AnswerLost | Wrong::NotDurable => {
                        let now = world.now();
                        Ok(effect(&mut world, now))
                    }
                }
            }
        };
        pause(plan.after_ms).await;
        self.life.runs().await;
        match plan.wrong {
            Wrong::AnswerLost => value.and(Err(io(std::io::ErrorKind::BrokenPipe))),
            Wrong::NotDurable => value.and(Err(OutboxError::NotDurable)),
            Wrong::Nothing | Wrong::NeverArrives | Wrong::Refused | Wrong::SessionEnded => value,
        }
    }
}

fn most(limit: i32) -> usize {
    usize::try_from(limit).unwrap()
}

fn claim(world: &mut World, now: DateTime<Utc>, request: &ClaimRequest<'_>, name: &str) -> Claimed {
    let parked = |world: &World| {
        let waiting = world.tables.waiting.values();
        waiting.filter(|row| row.cause == Cause::Sibling).count()
    };
    let before = parked(world);
    let claimed = world.tables.claim(now, request);
    let parked = parked(world).saturating_sub(before);
    world
        .tally
        .paths_by(Path::SiblingParked, u64::try_from(parked).unwrap());
    for claim in &claimed.claims {
        let ticket = &claim.ticket;
        let opened = Opened {
            lease: request.lease,
            fence: ticket.fence(),
            upheavals: world.upheavals,
        };
        world.opened.insert((request.worker, ticket.intent()), opened);
        for (reached, path) in [
            (claim.late_receipt.is_some(), Path::LateReceiptUsed),
            (claim.history_changed, Path::HistoryChanged),
            (claim.cancel_requested, Path::CancelledInFlight),
            (claim.unreleased, Path::GivenUpUnreleased),
            (claim.siblings.undecided, Path::SiblingUndecided),
            (request.alone, Path::ClaimedAlone),
        ] {
            if reached {
                world.path(path);
            }
        }
        world.say(|| {
            format!(
                "{name}: claims {} for {:?} as {} in {} ({:?})",
                short(ticket.intent()),
                ticket.purpose(),
                ticket.fence(),
                short(request.lease),
                claim.progress,
            )
        });
    }
    claimed
}

fn settle(
    world: &mut World,
    now: DateTime<Utc>,
    settlements: &[Settlement],
    lanes: &[LaneNews],
    name: &str,
) -> Vec<Settled> {
    let state = |world: &World| {
        let lanes = world.tables.lanes.values();
        lanes.fold((0, 0, 0), |(paused, limited, open), lane| {
            (
                paused + u64::from(lane.paused.is_some()),
                limited + u64::from(lane.limited_until.is_some_and(|until| until > now)),
                open + u64::from(lane.open_until.is_some()),
            )
        })
    };
    let before = state(world);
    let settled = world.tables.settle(now, settlements, lanes);
    let after = state(world);
    world.tally.paths_by(Path::LanePaused, after.0.saturating_sub(before.0));
    world
        .tally
        .paths_by(Path::LaneLimited, after.1.saturating_sub(before.1));
    world
        .tally
        .paths_by(Path::BreakerOpened, after.2.saturating_sub(before.2));
    for (one, settled) in settlements.iter().zip(&settled) {
        match settled {
            Settled::Recorded => {}
            Settled::AlreadyRecorded => world.path(Path::AlreadyRecorded),
            Settled::LeaseLost => world.path(Path::LeaseLost),
            Settled::IntentLost => world.path(Path::IntentLost),
        }
        world.say(|| {
            format!(
                "{name}: settles {} {}: {settled:?} {} {:?} {:?}",
                short(one.intent()),
                one.fence(),
                one.attempt().outcome,
                one.attempt().code,
                one.disposition(),
            )
        });
    }
    settled
}

#[async_trait]
impl Store for SimStore {
    fn address(&self) -> &str {
        "memory"
    }

    async fn register_lane(&self, lane: &Lane, rate_per_minute: u32) -> Result<LaneId, OutboxError> {
        self.statement(Sort::Other, |world, _| {
            world.tables.register_lane(lane, rate_per_minute)
        })
        .await
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed, OutboxError> {
        let name = &self.life.name;
        self.statement(Sort::Claims, |world, now| claim(world, now, request, name))
            .await
    }

    async fn give_back(&self, lease: Uuid) -> Result<i32, OutboxError> {
        let name = &self.life.name;
        self.statement(Sort::Other, |world, now| {
            let back = world.tables.give_back(now, lease);
            world.tally.paths_by(Path::GivenBack, u64::try_from(back).unwrap());
            world.say(|| format!("{name}: gives back {} ({back})", short(lease)));
            back
        })
        .await
    }

    async fn settle(&self, settlements: &[Settlement], lanes: &[LaneNews]) -> Result<Vec<Settled>, OutboxError> {
        let name = &self.life.name;
        self.statement(Sort::Moves, |world, now| settle(world, now, settlements, lanes, name))
            .await
    }

    async fn move_due(&self, limit: i32) -> Result<Moved, OutboxError> {
        self.statement(Sort::Moves, |world, now| world.tables.move_due(now, most(limit)))
            .await
    }

    async fn rescue(&self, limit: i32) -> Result<i32, OutboxError> {
        let name = &self.life.name;
        self.statement(Sort::Moves, |world, now| {
            let rescued = world.tables.rescue(now, most(limit));
            world.tally.paths_by(Path::Rescued, u64::try_from(rescued).unwrap());
            if rescued > 0 {
                world.say(|| format!("{name}: rescues {rescued}"));
            }
            rescued
        })
        .await
    }

    async fn chores(&self, lanes: &[LaneId]) -> Result<Chores, OutboxError> {
        self.statement(Sort::Other, |world, now| Chores {
            releases: world.tables.releases.iter().any(|release| release.matched.is_none()),
            operations: false,
            lapsed: world.tables.any_lapsed(now),
            waiters: true,
            alone: world
                .tables
                .ready
                .keys()
                .any(|key| key.alone && lanes.contains(&key.lane)),
            lifetimes: false,
            workers: 1,
        })
        .await
    }

    async fn take_shipments(&self, _limit: i32) -> Result<i32, OutboxError> {
        Ok(0)
    }

    async fn match_releases(&self, limit: i32) -> Result<i32, OutboxError> {
        self.statement(Sort::Other, |world, now| world.tables.match_releases(now, most(limit)))
            .await
    }

    async fn watch_deadlines(&self, margin: Duration, limit: i32) -> Result<i32, OutboxError> {
        self.statement(Sort::Other, |world, now| {
            let told = world.tables.watch_deadlines(now, margin, most(limit));
            world
                .tally
                .paths_by(Path::AuthorisationExpiring, u64::try_from(told).unwrap());
            told
        })
        .await
    }

    async fn heartbeat(
        &self,
        _worker: Uuid,
        _listen: Option<&str>,
        _lanes: &[LaneId],
        _lease: Duration,
    ) -> Result<(), OutboxError> {
        Ok(())
    }

    async fn depart(&self, _worker: Uuid) -> Result<(), OutboxError> {
        Ok(())
    }

    async fn sweep_waiters(&self) -> Result<(), OutboxError> {
        Ok(())
    }

    async fn listen(&self) -> Result<Box<dyn Listener>, OutboxError> {
        self.statement(Sort::Other, |_, _| ()).await?;
        Ok(Box::new(Ear {
            world: self.world.clone(),
            life: self.life.clone(),
        }))
    }

    async fn lie_down(&self, worker: Uuid) -> Result<(), OutboxError> {
        self.statement(Sort::Other, |world, _| {
            world.sleepers.insert(worker);
        })
        .await
    }

    async fn get_up(&self, worker: Uuid) -> Result<(), OutboxError> {
        self.statement(Sort::Other, |world, _| {
            world.sleepers.remove(&worker);
        })
        .await
    }
}

struct Ear {
    world: Shared,
    life: Arc<Life>,
}

#[async_trait]
impl Listener for Ear {
    async fn wait(&mut self, at_most: Duration) -> Result<bool, OutboxError> {
        self.life.runs().await;
        let inserted = {
            let mut world = lock(&self.world);
            if world.database_is_down() || world.strikes(20) {
                world.fault(Fault::ListenerLost, &self.life.name);
                return Err(io(std::io::ErrorKind::ConnectionReset));
            }
            world.inserted.clone()
        };
        let heard = tokio::select! {
            biased;
            () = inserted.notified() => true,
            () = tokio::time::sleep(at_most) => false,
        };
        self.life.runs().await;
        Ok(heard)
    }
}

//! Upkeep: what any worker does every now and then, a bounded number of rows at a time, for everybody.

use std::time::Duration;

use super::{Outbox, OutboxError, interval, repeating};

/// What [`Outbox::move_due`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Rows that are ready now.
    pub moved: i32,
    /// How long until the next one is due; `None`: nothing waits for a time.
    pub next_due: Option<Duration>,
    /// May any row be ready now, in whatever lane? Where none is, a claim would find nothing.
    pub any_ready: bool,
}

/// What there is to do for everybody, as one look tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chores {
    /// Shipment events that nobody has read, or releases that are to be matched.
    pub releases: bool,
    /// Operations that run, or that wait for the ends of what they replayed.
    pub operations: bool,
    /// Leases that lapsed, or were given in another history.
    pub lapsed: bool,
    /// Rows of workers that died asleep, for which every insert would notify for ever.
    pub waiters: bool,
    /// A row of these lanes that must be claimed with nothing else in flight, and may be claimed now. One in a lane that
    /// stands still must not make the others stand still for it.
    pub alone: bool,
    /// Ends of authorisations that are assumed, or were.
    pub lifetimes: bool,
    /// Workers that showed themselves in the last quarter of a minute.
    pub workers: u32,
}

impl Outbox {
    /// Moves what is due from `waiting` to `ready`.
    pub async fn move_due(&self, limit: i32) -> Result<Moved, OutboxError> {
        let row = repeating(|| {
            sqlx::query!(
                r#"select moved as "moved!", next_due_ms, any_ready as "any_ready!" from move_due($1)"#,
                limit
            )
            .fetch_one(&self.pool)
        })
        .await?;
        Ok(Moved {
            moved: row.moved,
            next_due: row
                .next_due_ms
                .map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
            any_ready: row.any_ready,
        })
    }

    /// Turns the unsettled attempts of lapsed leases into verifications; returns how many.
    pub async fn rescue(&self, limit: i32) -> Result<i32, OutboxError> {
        Ok(
            repeating(|| sqlx::query_scalar!(r#"select rescue($1) as "rescued!""#, limit).fetch_one(&self.pool))
                .await?,
        )
    }

    /// Turns shipment events into releases; returns how many events were handled.
    pub async fn take_shipments(&self, limit: i32) -> Result<i32, OutboxError> {
        Ok(
            repeating(|| sqlx::query_scalar!(r#"select take_shipments($1) as "taken!""#, limit).fetch_one(&self.pool))
                .await?,
        )
    }

    /// Matches releases with held intents; returns how many were freed.
    pub async fn match_releases(&self, limit: i32) -> Result<i32, OutboxError> {
        Ok(
            repeating(|| sqlx::query_scalar!(r#"select match_releases($1) as "freed!""#, limit).fetch_one(&self.pool))
                .await?,
        )
    }

    /// Tells of shipments that have released nothing for that long, and removes raw bodies that are older than `keep`;
    /// returns of how many it told.
    pub async fn watch_shipments(&self, after: Duration, keep: Duration, limit: i32) -> Result<i32, OutboxError> {
        Ok(repeating(|| {
            let (after, keep) = (interval(after), interval(keep));
            sqlx::query_scalar!(r#"select watch_shipments($1, $2, $3) as "told!""#, after, keep, limit)
                .fetch_one(&self.pool)
        })
        .await?)
    }

    /// Tells of authorisations that are about to end; returns of how many.
    pub async fn watch_deadlines(&self, margin: Duration, limit: i32) -> Result<i32, OutboxError> {
        let margin_ms = i64::try_from(margin.as_millis()).unwrap_or(i64::MAX);
        Ok(repeating(|| {
            sqlx::query_scalar!(r#"select watch_deadlines($1, $2) as "told!""#, margin_ms, limit).fetch_one(&self.pool)
        })
        .await?)
    }

    /// Tells of dead letters whose authorisation is about to end, or over; returns of how many.
    pub async fn watch_dead_letters(&self, limit: i32) -> Result<i32, OutboxError> {
        Ok(repeating(|| {
            sqlx::query_scalar!(r#"select watch_dead_letters($1) as "told!""#, limit).fetch_one(&self.pool)
        })
        .await?)
    }

    /// Looks what there is to do, for everybody and in these lanes. One cheap statement that writes nothing, instead of eight
    /// that would. (The clock is asked once, in a subquery: asked row by row it could not be looked up in an index.)
    pub async fn chores(&self, lanes: &[super::LaneId]) -> Result<Chores, OutboxError> {
        let lanes: Vec<i32> = lanes.iter().map(|lane| lane.0).collect();
        let row = sqlx::query!(
            r#"select
                 (exists (select from shipment_events where handled_at is null)
                  or exists (select from releases
                             where intent is null and withdrawn_at is null and next_try_at <= (select clock_now()))) as "releases!",
                 (exists (select from operations where state = 'running')
                  or exists (select from operations
                             where act = 'replay' and state <> 'running' and ended < done
                               and coalesce(ended_at, (select clock_now())) > (select clock_now()) - interval '7 days')) as "operations!",
                 (exists (select from leases where until < (select clock_now()))
                  or exists (select from leases where epoch <> (select current_epoch()))) as "lapsed!",
                 exists (select from waiters where since < (select clock_now()) - interval '2 minutes') as "waiters!",
                 exists (select from ready r join lanes l on l.id = r.lane
                         where r.alone and r.lane = any ($1) and l.paused_at is null
                           and (l.limited_until is null or l.limited_until <= (select clock_now()))
                           and (l.open_until is null or l.open_until <= (select clock_now()))) as "alone!",
                 (exists (select from lanes where authorization_lifetime is not null)
                  or exists (select from deadlines where source = 'assumed')) as "lifetimes!",
                 (select count(*) from workers where heartbeat_at > (select clock_now()) - interval '15 seconds') as "workers!""#,
            &lanes
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Chores {
            releases: row.releases,
            operations: row.operations,
            lapsed: row.lapsed,
            waiters: row.waiters,
            alone: row.alone,
            lifetimes: row.lifetimes,
            workers: u32::try_from(row.workers).unwrap_or(u32::MAX),
        })
    }

    /// Removes the rows of workers that died asleep, for which every insert would notify for ever.
    pub async fn sweep_waiters(&self) -> Result<(), OutboxError> {
        sqlx::query!("delete from waiters where since < clock_now() - interval '2 minutes'")
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

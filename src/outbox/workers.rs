//! Workers: heartbeats for people to look at, and sleeping without being forgotten.
//!
//! A notification in every insert would serialise all commits of the cluster. So a worker that goes to sleep commits a row
//! in `waiters`, looks for work once more (and again a little later: an insert in flight may have missed the row), and then
//! listens; only while such a row exists does an insert notify. A busy system never does.

use std::time::Duration;

use futures_util::FutureExt;
use sqlx::postgres::PgListener;
use uuid::Uuid;

use super::{LaneId, Outbox, OutboxError};

/// A worker as an operator sees it.
#[derive(Debug, Clone)]
pub struct WorkerRow {
    /// Random per boot.
    pub id: Uuid,
    /// Of the program.
    pub version: String,
    /// On its host.
    pub pid: i32,
    /// Where it serves metrics, if it does.
    pub listen: Option<String>,
    /// How many lanes it serves.
    pub lanes: i32,
    /// Seconds since its last heartbeat.
    pub silent_s: i64,
    /// Seconds since it started.
    pub up_s: i64,
}

/// A connection on which a worker sleeps until it is notified.
#[derive(Debug)]
pub struct Sleep {
    listener: PgListener,
}

impl Sleep {
    /// Drops the notifications that have come: one look answers them all. Also while nobody waits, or they would fill the
    /// connection, and at last the server's queue.
    pub fn drain(&mut self) {
        while let Some(Ok(_)) = self.listener.recv().now_or_never() {}
    }

    /// Waits for a notification, at most so long; true if one came. An error means that the connection is gone.
    pub async fn wait(&mut self, at_most: Duration) -> Result<bool, OutboxError> {
        match tokio::time::timeout(at_most, self.listener.recv()).await {
            Ok(Ok(_)) => {
                self.drain();
                Ok(true)
            }
            Err(_) => Ok(false),
            Ok(Err(error)) => Err(error.into()),
        }
    }
}

impl Outbox {
    /// Registers a worker, the lanes it serves and how long its claims last, or renews its heartbeat.
    pub async fn heartbeat(
        &self,
        worker: Uuid,
        listen: Option<&str>,
        lanes: &[LaneId],
        lease: Duration,
    ) -> Result<(), OutboxError> {
        let lanes: Vec<i32> = lanes.iter().map(|lane| lane.0).collect();
        sqlx::query!(
            "insert into workers (id, version, pid, listen, lanes, lease_ms, started_at, heartbeat_at)
             values ($1, $2, $3, $4, $5, $6, clock_now(), clock_now())
             on conflict (id) do update set heartbeat_at = excluded.heartbeat_at, lanes = excluded.lanes, listen = excluded.listen,
                 lease_ms = excluded.lease_ms",
            worker,
            env!("CARGO_PKG_VERSION"),
            i32::try_from(std::process::id()).unwrap_or(0),
            listen,
            &lanes,
            super::settle::ms(lease)
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Takes a worker off the list, and the ones that have been silent for an hour.
    pub async fn depart(&self, worker: Uuid) -> Result<(), OutboxError> {
        sqlx::query!(
            "with gone as (delete from workers where id = $1 or heartbeat_at < clock_now() - interval '1 hour' returning id)
             delete from waiters where worker in (select id from gone) or worker = $1",
            worker
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// All workers, the freshest first.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, OutboxError> {
        Ok(sqlx::query_as!(
            WorkerRow,
            r#"select id, version, pid, listen, cardinality(lanes) as "lanes!",
                      extract(epoch from clock_now() - heartbeat_at)::bigint as "silent_s!",
                      extract(epoch from clock_now() - started_at)::bigint as "up_s!"
               from workers order by heartbeat_at desc, id"#
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// A connection to sleep on, outside the pool (a listener would hold one of its few places).
    pub async fn listen(&self) -> Result<Sleep, OutboxError> {
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(self.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        listener.listen(&format!("{}.ready", self.schema)).await?;
        Ok(Sleep { listener })
    }

    /// Says that this worker is about to sleep: from the commit of this on, inserts notify. Said again while it sleeps;
    /// rows older than two minutes are of workers that died asleep, and are swept by upkeep.
    pub async fn lie_down(&self, worker: Uuid) -> Result<(), OutboxError> {
        sqlx::query!(
            // Nothing is lost with this row but a notification: its commit need not wait for the disk.
            "insert into waiters (worker, since)
             select $1, clock_now() from (select set_config('synchronous_commit', 'off', true)) unsynced
             on conflict (worker) do update set since = excluded.since",
            worker
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Says that this worker is awake.
    pub async fn get_up(&self, worker: Uuid) -> Result<(), OutboxError> {
        sqlx::query!(
            "delete from waiters using (select set_config('synchronous_commit', 'off', true)) unsynced where worker = $1",
            worker
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

//! Seats: connections that are kept for one statement each.
//!
//! A claim and a settle go over the way of every capture. Through the pool each would meet another of its connections in
//! turn, whose backend has forgotten the way, and which the pool asks after each statement whether it is still there. So
//! the claims keep a connection for themselves, and the settles another. Whoever finds the seat taken uses the pool, and so
//! does everybody where the pool is small.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::sync::{Mutex, MutexGuard};

use super::USED_LATELY;
use crate::clock::Boottime;

/// With fewer connections than these none is kept from the others.
const ENOUGH_FOR_ALL: u32 = 4;
/// For so long a connection is kept; then the pool may close it, when it is old.
const KEPT: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Default)]
pub(super) struct Seat(Arc<Mutex<Option<Kept>>>);

#[derive(Debug)]
struct Kept {
    connection: PoolConnection<Postgres>,
    since: Boottime,
    used: Boottime,
}

/// A connection for a statement. Dropped, it goes back to the pool; see [`Seated::keep`].
pub(super) struct Seated<'a> {
    connection: PoolConnection<Postgres>,
    since: Boottime,
    /// `None`: another statement has the seat, or nothing is kept.
    seat: Option<MutexGuard<'a, Option<Kept>>>,
}

impl Seat {
    /// The connection that is kept, or one of the pool.
    pub(super) async fn take(&self, pool: &PgPool) -> Result<Seated<'_>, sqlx::Error> {
        let enough = pool.options().get_max_connections() >= ENOUGH_FOR_ALL;
        let mut seat = self.0.try_lock().ok().filter(|_| enough);
        let now = Boottime::now();
        if let Some(mut kept) = seat.as_mut().and_then(|seat| seat.take())
            && now.since(kept.since) < KEPT
        {
            // As the pool asks, and for no longer: a server that went without a word is silent for a quarter of an hour.
            let within = pool.options().get_acquire_timeout();
            let is_there = now.since(kept.used) < USED_LATELY
                || matches!(tokio::time::timeout(within, kept.connection.ping()).await, Ok(Ok(())));
            if is_there {
                return Ok(Seated {
                    connection: kept.connection,
                    since: kept.since,
                    seat,
                });
            }
            // Not back to the pool, which would ask it once more.
            drop(kept.connection.detach());
        }
        Ok(Seated {
            connection: pool.acquire().await?,
            since: now,
            seat,
        })
    }

    /// Gives back what is kept, for good or until the next statement.
    pub(super) async fn leave(&self) {
        self.0.lock().await.take();
    }
}

impl Seated<'_> {
    /// The statement has had its answer: the connection is kept for the next. (One that was given up half-way, or lost, is
    /// for the pool to look after.)
    pub(super) fn keep(self) {
        if let Some(mut seat) = self.seat {
            *seat = Some(Kept {
                connection: self.connection,
                since: self.since,
                used: Boottime::now(),
            });
        }
    }
}

impl Deref for Seated<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Seated<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

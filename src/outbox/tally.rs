//! How many captures are in each state: exact for what is open or dead, estimated for millions that have ended.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Outbox, OutboxError};

/// What has ended well is counted up to this many; beyond it the server's statistics are asked.
const COUNTED: i64 = 100_000;

/// How many are in one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateCount {
    /// The state; `resolved`: dead letters that a person closed, which `dead` does not count.
    pub state: String,
    /// How many.
    pub captures: i64,
    /// Is it an estimate? Only of captured and cancelled, and only when they are many.
    pub estimated: bool,
}

/// Counts by state; states without any are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// By state.
    pub states: Vec<StateCount>,
    /// The database's time when it was read.
    pub as_of: DateTime<Utc>,
}

/// An operation on many captures that is not at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenOperation {
    /// What it does.
    pub act: String,
    /// Running or paused.
    pub state: String,
    /// Captures that it is through with.
    pub done: i64,
    /// Captures in all.
    pub total: i64,
}

impl Outbox {
    /// Counts by state, at a cost that does not grow with what has ended.
    pub async fn tally(&self) -> Result<Tally, OutboxError> {
        let as_of = self.now().await?;
        let rows = sqlx::query!(
            r#"select state as "state!", count(*) as "captures!", false as "estimated!" from (
                   select case when purpose = 2 then 'verifying' else 'ready' end as state from ready
                   union all
                   select case when purpose = 2 then 'verifying' when cause = 'held' then 'held' else 'scheduled' end from waiting
                   union all
                   select 'leased' from leases x, unnest(x.intents) with ordinality as s(intent, place) where get_bit(x.settled, s.place::integer - 1) = 0
                   union all
                   select case when last_code = 'resolved_not_captured' then 'resolved' else 'dead' end from outcomes where state = 'dead'
               ) everywhere group by state
               union all
               select 'captured', case when few.n <= $1::bigint then few.n else greatest(few.n, (
                          select (t.reltuples - coalesce(sum(greatest(i.reltuples, 0)), 0))::bigint
                          from pg_class t left join pg_class i on i.oid in (to_regclass('outcomes_dead'), to_regclass('outcomes_cancelled'))
                          where t.oid = to_regclass('outcomes') group by t.reltuples)) end, few.n > $1::bigint
               from (select count(*) as n from (select from outcomes where state = 'captured' limit $1::bigint + 1) one) few where few.n > 0
               union all
               select 'cancelled', case when few.n <= $1::bigint then few.n else greatest(few.n, (
                          select c.reltuples::bigint from pg_class c where c.oid = to_regclass('outcomes_cancelled'))) end, few.n > $1::bigint
               from (select count(*) as n from (select from outcomes where state = 'cancelled' limit $1::bigint + 1) one) few where few.n > 0"#,
            COUNTED
        )
        .fetch_all(&self.pool)
        .await?;
        let states = rows.into_iter().map(|row| StateCount {
            state: row.state,
            captures: row.captures,
            estimated: row.estimated,
        });
        Ok(Tally {
            states: states.collect(),
            as_of,
        })
    }

    /// Operations that are not at their end.
    pub async fn open_operations(&self) -> Result<Vec<OpenOperation>, OutboxError> {
        Ok(sqlx::query_as!(
            OpenOperation,
            r#"select act, state, done + skipped + failed as "done!", total from operations
               where state in ('running', 'paused') order by created_at limit 20"#
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

//! Pruning: attempts and events of captures that ended long ago. Intents, outcomes and the audit stay for ever.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{AuditStamp, Outbox, OutboxError, interval, repeating};

/// Behind which capture to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrunePlace {
    created_at: DateTime<Utc>,
    id: Uuid,
}

/// What one step of a prune removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Captures that were looked at.
    pub looked: i64,
    /// Attempts that are gone.
    pub attempts: i64,
    /// Events that are gone.
    pub events: i64,
    /// Where to go on; `None`: that was all.
    pub next: Option<PrunePlace>,
}

impl Outbox {
    /// Writes who prunes what and why; returns the audit row's number, without which no step does anything. Refuses less
    /// than 7 days unless forced.
    pub async fn begin_prune(&self, older: Duration, forced: bool, stamp: &AuditStamp) -> Result<i64, OutboxError> {
        Ok(sqlx::query_scalar!(
            r#"select begin_prune($1, $2, $3, $4) as "id!""#,
            interval(older),
            forced,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// One step, over at most so many captures, the oldest first.
    pub async fn prune_some(
        &self,
        audit: i64,
        after: Option<PrunePlace>,
        captures: i32,
    ) -> Result<Pruned, OutboxError> {
        let row = repeating(|| {
            sqlx::query!(
                r#"select looked as "looked!", attempts as "attempts!", events as "events!", next_at, next_id from prune_some($1, $2, $3, $4)"#,
                audit,
                after.map(|after| after.created_at),
                after.map(|after| after.id),
                captures
            )
            .fetch_one(&self.pool)
        })
        .await?;
        let next = row.next_at.zip(row.next_id);
        Ok(Pruned {
            looked: row.looked,
            attempts: row.attempts,
            events: row.events,
            next: next.map(|(created_at, id)| PrunePlace { created_at, id }),
        })
    }

    /// What a prune would remove now: attempts and events. Reads all of them.
    pub async fn would_prune(&self, older: Duration) -> Result<(i64, i64), OutboxError> {
        let row = sqlx::query!(
            r#"with ended as (
                   select o.intent from outcomes o
                   where o.ended_at < clock_now() - $1::interval and (o.state <> 'dead' or o.last_code = 'resolved_not_captured')
               )
               select (select count(*) from attempts a where a.ended_at < clock_now() - $1::interval and a.intent in (select intent from ended)) as "attempts!",
                      (select count(*) from events e where e.occurred_at < clock_now() - $1::interval and e.intent_id in (select intent from ended)) as "events!""#,
            interval(older)
        )
        .fetch_one(&self.pool)
        .await?;
        Ok((row.attempts, row.events))
    }
}

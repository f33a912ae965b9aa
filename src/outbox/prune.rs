//! Pruning: attempts and events of captures that ended long ago, and shipments that are done with. Intents, outcomes and the
//! audit stay for ever.

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

/// What a prune takes of shipments, in the order in which it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShipmentPart {
    /// Releases that have done what they do.
    Releases,
    /// Events of shipments whose release is gone, or that made none.
    Shipments,
    /// What is left of the bodies of those that came over HTTP.
    Bodies,
    /// Events of the feed about what nothing came of, and what has been looked at since.
    Unmatched,
}

impl ShipmentPart {
    /// All of them.
    pub const ALL: [ShipmentPart; 4] = [
        ShipmentPart::Releases,
        ShipmentPart::Shipments,
        ShipmentPart::Bodies,
        ShipmentPart::Unmatched,
    ];
}

/// What a prune would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WouldPrune {
    /// Attempts.
    pub attempts: i64,
    /// Events of the feed.
    pub events: i64,
    /// Releases.
    pub releases: i64,
    /// Events of shipments.
    pub shipments: i64,
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

    /// One step over shipments, behind this number; returns how many are gone, and where to go on (`None`: that was all).
    pub async fn prune_shipments_some(
        &self,
        audit: i64,
        part: ShipmentPart,
        after: Option<i64>,
        rows: i32,
    ) -> Result<(i64, Option<i64>), OutboxError> {
        let done = repeating(async || {
            Ok(match part {
                ShipmentPart::Releases => {
                    let row = sqlx::query!(
                        r#"select gone as "gone!", next from prune_releases($1, $2, $3)"#,
                        audit,
                        after,
                        rows
                    );
                    let row = row.fetch_one(&self.pool).await?;
                    (row.gone, row.next)
                }
                ShipmentPart::Shipments => {
                    let row = sqlx::query!(
                        r#"select gone as "gone!", next from prune_shipment_events($1, $2, $3)"#,
                        audit,
                        after,
                        rows
                    );
                    let row = row.fetch_one(&self.pool).await?;
                    (row.gone, row.next)
                }
                ShipmentPart::Bodies => {
                    let row = sqlx::query!(
                        r#"select gone as "gone!", next from prune_shipment_bodies($1, $2, $3)"#,
                        audit,
                        after,
                        rows
                    );
                    let row = row.fetch_one(&self.pool).await?;
                    (row.gone, row.next)
                }
                ShipmentPart::Unmatched => {
                    let row = sqlx::query!(
                        r#"select gone as "gone!", next from prune_unmatched($1, $2, $3)"#,
                        audit,
                        after,
                        rows
                    );
                    let row = row.fetch_one(&self.pool).await?;
                    (row.gone, row.next)
                }
            })
        })
        .await?;
        Ok(done)
    }

    /// What a prune would remove now. Reads all of it.
    pub async fn would_prune(&self, older: Duration) -> Result<WouldPrune, OutboxError> {
        let row = sqlx::query!(
            r#"with ended as (
                   select o.intent from outcomes o
                   where o.ended_at < clock_now() - $1::interval and (o.state <> 'dead' or o.last_code = 'resolved_not_captured')
               )
               select (select count(*) from attempts_apart a where a.ended_at < clock_now() - $1::interval and a.intent in (select intent from ended)) as "attempts!",
                      (select count(*) from events e where e.occurred_at < clock_now() - $1::interval and e.intent_id in (select intent from ended))
                          + s.events as "events!", s.releases as "releases!", s.shipments as "shipments!"
               from would_prune_shipments($1) s"#,
            interval(older)
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(WouldPrune {
            attempts: row.attempts,
            events: row.events,
            releases: row.releases,
            shipments: row.shipments,
        })
    }
}

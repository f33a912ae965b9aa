//! The event feed.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Outbox, OutboxError};

/// One event, as others read it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Event {
    /// Where to go on reading after this event.
    pub cursor: String,
    /// Rises, not without gaps, and not in commit order: read by `cursor`.
    pub seq: i64,
    /// The event's own id.
    pub id: Uuid,
    /// `capture.` and what happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// The intent; the nil uuid in `capture.shipment_unmatched`, which has none.
    pub intent_id: Uuid,
    /// Of the intent; without one, what was told of the shipment, else empty, as in the next four.
    pub provider: String,
    /// Of the intent.
    pub account: String,
    /// Of the intent.
    pub order_id: String,
    /// Of the intent.
    pub payment_id: String,
    /// Of the intent.
    pub capture_ref: String,
    /// What was asked, in minor units; 0 without an intent.
    pub amount_minor: i64,
    /// ISO 4217; `XXX` (no currency) without an intent.
    pub currency: String,
    /// By type.
    pub data: Value,
    /// By the database's clock.
    pub occurred_at: DateTime<Utc>,
}

/// Events, and where to go on.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EventPage {
    /// In feed order.
    pub events: Vec<Event>,
    /// Pass it next time; unchanged if there was nothing new.
    pub cursor: Option<String>,
}

impl Outbox {
    /// Reads the feed after `cursor` (`None`: from the beginning). Misses nothing that commits late.
    pub async fn events_after(&self, cursor: Option<&str>, max_rows: i32) -> Result<EventPage, OutboxError> {
        let events = sqlx::query_as!(
            Event,
            r#"select cursor as "cursor!", seq as "seq!", id as "id!", type as "kind!", intent_id as "intent_id!", provider as "provider!",
                      account as "account!", order_id as "order_id!", payment_id as "payment_id!", capture_ref as "capture_ref!",
                      amount_minor::bigint as "amount_minor!", currency as "currency!", data as "data!", occurred_at as "occurred_at!"
               from events_after($1, $2)"#,
            cursor,
            max_rows
        )
        .fetch_all(&self.pool)
        .await?;
        let cursor = events
            .last()
            .map(|event| event.cursor.clone())
            .or_else(|| cursor.map(str::to_owned));
        Ok(EventPage { events, cursor })
    }

    /// Notifies on the channel `<schema>.events` that the feed may have grown: a hint, in a transaction of its own. A notification
    /// takes a cluster-wide lock at commit, so none is sent by a settle, and only a few a second by a worker.
    pub async fn hint_events(&self) -> Result<(), OutboxError> {
        sqlx::query("select pg_notify(current_schema() || '.events', '')")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// A cursor behind everything that is there now, for who wants only what comes.
    pub async fn events_end(&self) -> Result<String, OutboxError> {
        Ok(sqlx::query_scalar!(
            r#"select coalesce((select e.xid::text || '-' || e.seq || '-' || replace(e.id::text, '-', '') from events e where e.xid < pg_snapshot_xmin(pg_current_snapshot())
                                order by e.xid desc, e.seq desc limit 1), '0-0') as "cursor!""#
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// The last `last` events of these types (empty: of any), in feed order, and a cursor behind everything that was looked
    /// at: who goes on from there misses nothing and is told nothing twice.
    pub async fn last_events(&self, last: u32, types: &[String]) -> Result<EventPage, OutboxError> {
        // What is before the end now stays as it is, so the second statement need not see the first one's snapshot.
        let end = self.events_end().await?;
        let mut events = sqlx::query_as!(
            Event,
            r#"select e.xid::text || '-' || e.seq || '-' || replace(e.id::text, '-', '') as "cursor!", e.seq, e.id, e.type as "kind", e.intent_id, e.provider, e.account,
                      e.order_id, e.payment_id, e.capture_ref, e.amount_minor::bigint as "amount_minor!", e.currency, e.data, e.occurred_at
               from events e
               where (e.xid, e.seq) <= (split_part($1, '-', 1)::xid8, split_part($1, '-', 2)::bigint)
                 and (cardinality($2::text[]) = 0 or e.type = any ($2))
               order by e.xid desc, e.seq desc
               limit $3"#,
            end,
            types,
            i64::from(last)
        )
        .fetch_all(&self.pool)
        .await?;
        events.reverse();
        Ok(EventPage {
            events,
            cursor: Some(end),
        })
    }
}

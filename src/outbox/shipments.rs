//! Shipments: what comes in over HTTP is kept, and people see what came of each (`migrations/0011_shipments.sql`).

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{AuditStamp, Outbox, OutboxError};
use crate::shipment::Shipment;

/// A request that tells of a shipment.
#[derive(Debug, Clone, Copy)]
pub struct ShipmentRequest<'r> {
    /// Whose it is.
    pub source: &'r str,
    /// The event's id.
    pub event_id: &'r str,
    /// What makes it the same as one before.
    pub digest: [u8; 32],
    /// Its bytes.
    pub body: &'r [u8],
}

/// What became of a shipment, as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ShipmentRow {
    /// The number of the event; `r` and the number of a release that a call made.
    pub id: String,
    /// Who told.
    pub source: String,
    /// What happened to the goods.
    pub kind: Option<String>,
    /// `open` (not looked at yet), `waiting` for its capture, `unmatched`, `released` a capture, `covered` (the payment is
    /// captured without it), `withdrawn`, `dismissed` by a person, or `ignored`.
    pub state: String,
    /// Whose payment.
    pub provider: Option<String>,
    /// Which account.
    pub account: Option<String>,
    /// The order.
    pub order_id: Option<String>,
    /// Or payment.
    pub payment_id: Option<String>,
    /// The parcel.
    pub tracking_number: Option<String>,
    /// What it is worth, in minor units, as it was told.
    pub amount_minor: Option<String>,
    /// When it was told.
    pub received_at: DateTime<Utc>,
    /// Why it is where it is.
    pub says: Option<String>,
    /// The capture that it released.
    pub intent: Option<Uuid>,
}

/// What a person says of a shipment.
#[derive(Debug, Clone, Default)]
pub struct ShipmentMatch {
    /// Which: its id in the list.
    pub shipment: String,
    /// Another provider than was told.
    pub provider: Option<String>,
    /// Another account than was told.
    pub account: Option<String>,
    /// The order that it belongs to; or
    pub order_id: Option<String>,
    /// the payment. Neither: it belongs to none.
    pub payment_id: Option<String>,
    /// What is held goes whole, whatever the rule of the account.
    pub whole: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// Workers look for its capture now.
    Matched,
    /// It belongs to nothing, and is told no more.
    Dismissed,
    /// There is no such shipment.
    NotFound,
    /// It has released a capture.
    Freed,
    /// The same shipment of that payment is known.
    ToldBefore,
}

/// Shipments that nothing came of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unmatched {
    /// How many.
    pub shipments: i64,
    /// Since when the oldest, in seconds.
    pub oldest_s: i64,
}

impl Outbox {
    /// Keeps a shipment; its number, or `None` if it was known.
    pub async fn receive_shipment(
        &self,
        request: &ShipmentRequest<'_>,
        shipment: &Shipment,
    ) -> Result<Option<i64>, OutboxError> {
        let columns = serde_json::to_value(shipment).map_err(|error| OutboxError::NotUnderstood {
            what: format!("a shipment: {error}"),
        })?;
        Ok(sqlx::query_scalar!(
            "select receive_shipment($1, $2, $3, $4, null, $5)",
            request.source,
            request.event_id,
            &request.digest[..],
            request.body,
            columns
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Keeps the bytes of a request that was signed and not understood, and why.
    pub async fn keep_odd_shipment(&self, request: &ShipmentRequest<'_>, fault: &str) -> Result<(), OutboxError> {
        sqlx::query_scalar!(
            "select receive_shipment($1, $2, $3, $4, $5, null)",
            request.source,
            request.event_id,
            &request.digest[..],
            request.body,
            fault
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(())
    }

    /// Adds to the count of requests.
    pub async fn count_shipment_requests(&self, source: &str, result: &str, count: i64) -> Result<(), OutboxError> {
        sqlx::query!("select count_shipment_requests($1, $2, $3)", source, result, count)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// How many requests of each source came to what.
    pub async fn shipment_requests(&self) -> Result<Vec<(String, String, i64)>, OutboxError> {
        let rows = sqlx::query!("select source, result, count from shipment_requests order by source, result");
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.source, row.result, row.count))
            .collect())
    }

    /// Shipments that nothing came of, and that was told.
    pub async fn unmatched_shipments(&self) -> Result<Unmatched, OutboxError> {
        Ok(sqlx::query_as!(
            Unmatched,
            r#"with told as (
                   select created_at as at from releases
                   where intent is null and withdrawn_at is null and told_at is not null and not covered
                   union all
                   select received_at from shipment_events where unmatched and told_at is not null)
               select count(*) as "shipments!", coalesce(extract(epoch from (select clock_now()) - min(at)), 0)::bigint as "oldest_s!" from told"#
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// The newest events and releases that calls made, or those that nothing came of.
    pub async fn shipments(&self, unmatched: bool, limit: i64) -> Result<Vec<ShipmentRow>, OutboxError> {
        Ok(sqlx::query_as!(
            ShipmentRow,
            r#"with events as (
                   (select e.seq from shipment_events e where not $1 order by e.seq desc limit $2)
                   union all
                   (select e.seq from shipment_events e where $1 and e.unmatched order by e.seq desc limit $2)
                   union all
                   (select r.shipment from releases r
                    where $1 and r.shipment is not null and r.intent is null and r.withdrawn_at is null and r.told_at is not null and not r.covered
                    order by r.created_at desc limit $2)
               ), calls as (
                   (select r.id from releases r where not $1 and r.shipment is null order by r.id desc limit $2)
                   union all
                   (select r.id from releases r
                    where $1 and r.shipment is null and r.intent is null and r.withdrawn_at is null and r.told_at is not null and not r.covered
                    order by r.created_at desc limit $2)
               ), rows as (
                   select e.seq::text as id, coalesce(e.source, '') as source, e.kind, e.provider, e.account, e.order_id, e.payment_id,
                          e.tracking_number, e.amount_minor, e.received_at, e.handled_at, e.handling, e.unmatched, e.release
                   from events x join shipment_events e on e.seq = x.seq
                   union all
                   select 'r' || r.id, 'release', null, null, null, null, null, r.tracking_number, null, r.created_at, r.created_at, null, false, r.id
                   from calls x join releases r on r.id = x.id
               )
               select rows.id as "id!", rows.source as "source!", rows.kind,
                      coalesce(r.provider, rows.provider) as provider, coalesce(r.account, rows.account) as account,
                      coalesce(r.order_id, rows.order_id) as order_id, coalesce(r.payment_id, rows.payment_id) as payment_id,
                      rows.tracking_number, rows.amount_minor, coalesce(rows.received_at, rows.handled_at, to_timestamp(0)) as "received_at!",
                      case when rows.handled_at is null then 'open'
                           when rows.unmatched then 'unmatched'
                           when rows.handling = 'dismissed' then 'dismissed'
                           when r.id is null then 'ignored'
                           when r.intent is not null then 'released'
                           when r.withdrawn_at is not null then 'withdrawn'
                           when r.covered then 'covered'
                           when r.told_at is not null then 'unmatched'
                           else 'waiting' end as "state!",
                      coalesce(r.says, case when r.id is null then rows.handling end) as says, r.intent
               from rows left join releases r on r.id = rows.release
               order by rows.received_at desc, rows.id desc
               limit $2"#,
            unmatched,
            limit
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// A person says whose a shipment is.
    pub async fn match_shipment(&self, said: &ShipmentMatch, stamp: &AuditStamp) -> Result<Matched, OutboxError> {
        let told = sqlx::query_scalar!(
            r#"select match_shipment($1, $2, $3, $4, $5, $6, $7, $8) as "told!""#,
            said.shipment,
            said.provider,
            said.account,
            said.order_id,
            said.payment_id,
            said.whole,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?;
        match told.as_str() {
            "matched" => Ok(Matched::Matched),
            "dismissed" => Ok(Matched::Dismissed),
            "not_found" => Ok(Matched::NotFound),
            "freed" => Ok(Matched::Freed),
            "told_before" => Ok(Matched::ToldBefore),
            _ => Err(OutboxError::NotUnderstood { what: told }),
        }
    }
}

//! Deliveries of webhooks: written from the feed, claimed, settled, looked at, and asked for once more. The protocol is in
//! `migrations/0012_webhooks.sql`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretSlice;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AuditStamp, Event, Outbox, OutboxError, interval, repeating};

/// What one step of the fan-out came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FannedOut {
    /// Events that were read.
    pub events: i32,
    /// Deliveries that were written.
    pub deliveries: i32,
    /// Endpoints that there are.
    pub endpoints: i64,
}

/// How many deliveries to claim, and of which endpoints not.
#[derive(Debug, Clone)]
pub struct DeliveryRequest {
    /// How long they are ours.
    pub lease: Duration,
    /// In all, at most.
    pub limit: i32,
    /// In flight for one endpoint, at most.
    pub each: i32,
    /// The endpoint that was served last: begin behind it.
    pub after: Uuid,
    /// Endpoints with messages in flight, and how many.
    pub in_flight: Vec<(Uuid, i32)>,
}

/// A claimed delivery: everything that sends it.
#[derive(Debug)]
pub struct ClaimedDelivery {
    /// Its number.
    pub delivery: i64,
    /// It is settled only under this.
    pub fence: i32,
    /// Attempts of this round before.
    pub attempts: i32,
    /// Who is told.
    pub endpoint: Uuid,
    /// Where.
    pub url: String,
    /// Attempts in a row that failed at this endpoint.
    pub failures: i32,
    /// The live secrets, the newest first.
    pub secrets: Vec<SecretSlice<u8>>,
    /// What happened; `None`: it was pruned.
    pub event: Option<Event>,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryResult {
    /// The endpoint has it.
    Delivered,
    /// Later again.
    Retry,
    /// The endpoint is gone for good.
    Gone,
    /// There is nothing to send any more.
    Dropped,
}

/// The record of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryRecord {
    /// Which delivery.
    pub delivery: i64,
    /// Under which fence.
    pub fence: i32,
    /// What became of it.
    pub result: DeliveryResult,
    /// In a word of a closed set.
    pub code: &'static str,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// How long it took.
    pub ms: i32,
    /// Until the next try.
    pub wait_ms: i64,
    /// Nothing goes to this endpoint for so long.
    pub endpoint_wait_ms: Option<i64>,
    /// Did the endpoint fail to do its duty?
    pub failure: bool,
}

/// A delivery, as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Delivery {
    /// Its number.
    pub id: i64,
    /// Who is told.
    pub endpoint: Uuid,
    /// Of what: the id of the event, which is the id of the message.
    pub event: Uuid,
    /// The event's type; null: the event was pruned.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The capture that it is about.
    pub intent_id: Option<Uuid>,
    /// pending, delivered, failed or dropped.
    pub state: String,
    /// Attempts of this round.
    pub attempts: i32,
    /// How often it was asked for once more.
    pub redeliveries: i32,
    /// When this round began.
    pub begun_at: DateTime<Utc>,
    /// When the next attempt is due.
    pub due_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it was last tried.
    pub last_at: Option<DateTime<Utc>>,
    /// What came of it.
    pub last_code: Option<String>,
    /// The status of the answer.
    pub last_status: Option<i16>,
    /// How long it took.
    pub last_ms: Option<i32>,
}

/// Which deliveries are looked at, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of that endpoint.
    pub endpoint: Option<Uuid>,
    /// In that state.
    pub state: Option<String>,
    /// Of that event.
    pub event: Option<Uuid>,
    /// Of that capture.
    pub intent: Option<Uuid>,
    /// Older than this one: the last of the page before.
    pub before: Option<i64>,
}

/// A span of events that is told once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redelivery {
    audit: i64,
    behind: String,
    last: String,
}

impl Outbox {
    /// Reads the next events of the feed and writes a delivery of each for each endpoint that wants it.
    pub async fn fan_out_webhooks(&self, rows: i32) -> Result<FannedOut, OutboxError> {
        Ok(repeating(|| {
            sqlx::query_as!(
                FannedOut,
                r#"select events as "events!", deliveries as "deliveries!", endpoints as "endpoints!" from fan_out_webhooks($1)"#,
                rows
            )
            .fetch_one(&self.pool)
        })
        .await?)
    }

    /// Takes deliveries that are due. What is not settled before the lease ends is due again.
    pub async fn claim_webhook_deliveries(
        &self,
        request: &DeliveryRequest,
    ) -> Result<Vec<ClaimedDelivery>, OutboxError> {
        let (busy, in_flight): (Vec<Uuid>, Vec<i32>) = request.in_flight.iter().copied().unzip();
        let rows = repeating(|| {
            sqlx::query!(
                r#"select delivery as "delivery!", fence as "fence!", attempts as "attempts!", endpoint as "endpoint!", url as "url!",
                          failures as "failures!", secrets as "secrets!", event as "event!", xid as "xid!", seq as "seq!", type as "kind?",
                          intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at
                   from claim_webhook_deliveries($1, $2, $3, $4, $5, $6)"#,
                interval(request.lease),
                request.limit,
                request.each,
                request.after,
                &busy,
                &in_flight
            )
            .fetch_all(&self.pool)
        })
        .await?;
        let claimed = rows.into_iter().map(|row| {
            let event = (|| {
                Some(Event {
                    cursor: format!("{}-{}-{}", row.xid, row.seq, row.event.simple()),
                    seq: row.seq,
                    id: row.event,
                    kind: row.kind?,
                    intent_id: row.intent_id?,
                    provider: row.provider?,
                    account: row.account?,
                    order_id: row.order_id?,
                    payment_id: row.payment_id?,
                    capture_ref: row.capture_ref?,
                    amount_minor: row.amount_minor?,
                    currency: row.currency?,
                    data: row.data?,
                    occurred_at: row.occurred_at?,
                })
            })();
            ClaimedDelivery {
                delivery: row.delivery,
                fence: row.fence,
                attempts: row.attempts,
                endpoint: row.endpoint,
                url: row.url,
                failures: row.failures,
                secrets: row.secrets.into_iter().map(SecretSlice::from).collect(),
                event,
            }
        });
        Ok(claimed.collect())
    }

    /// Records attempts, each under its fence. Returns the deliveries that this ended, with the state they are in; one
    /// whose lease was lost is not among those that were recorded.
    pub async fn settle_webhook_deliveries(
        &self,
        records: &[DeliveryRecord],
        give_up: Duration,
        disable_after: Duration,
    ) -> Result<Vec<(i64, String)>, OutboxError> {
        let records = serde_json::to_value(records).map_err(|error| OutboxError::NotUnderstood {
            what: format!("records of deliveries: {error}"),
        })?;
        let rows = repeating(|| {
            sqlx::query!(
                r#"select delivery as "delivery!", state as "state!" from settle_webhook_deliveries($1, $2, $3)"#,
                records,
                interval(give_up),
                interval(disable_after)
            )
            .fetch_all(&self.pool)
        })
        .await?;
        Ok(rows.into_iter().map(|row| (row.delivery, row.state)).collect())
    }

    /// Removes so many deliveries that ended before that, and of removed endpoints.
    pub async fn prune_webhook_deliveries(&self, keep: Duration, limit: i32) -> Result<i32, OutboxError> {
        Ok(sqlx::query_scalar!(
            r#"select prune_webhook_deliveries($1, $2) as "gone!""#,
            interval(keep),
            limit
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Deliveries, the newest first.
    pub async fn webhook_deliveries(&self, filter: &DeliveryFilter, limit: i64) -> Result<Vec<Delivery>, OutboxError> {
        Ok(sqlx::query_as!(
            Delivery,
            r#"select d.id, d.endpoint, d.event, e.type as "kind?", e.intent_id as "intent_id?", d.state, d.attempts, d.redeliveries, d.begun_at,
                      d.due_at, d.ended_at, d.last_at, d.last_code, d.last_status, d.last_ms
               from webhook_deliveries d left join events e on e.xid = d.xid and e.seq = d.seq
               where ($1::uuid is null or d.endpoint = $1) and ($2::text is null or d.state = $2) and ($3::uuid is null or d.event = $3)
                 and ($4::uuid is null or e.intent_id = $4) and ($5::bigint is null or d.id < $5)
               order by d.id desc limit $6"#,
            filter.endpoint,
            filter.state,
            filter.event,
            filter.intent,
            filter.before,
            limit
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// One delivery.
    pub async fn webhook_delivery(&self, id: i64) -> Result<Option<Delivery>, OutboxError> {
        let behind = DeliveryFilter {
            before: Some(id.saturating_add(1)),
            ..DeliveryFilter::default()
        };
        let newest = self.webhook_deliveries(&behind, 1).await?;
        Ok(newest.into_iter().find(|delivery| delivery.id == id))
    }

    /// These deliveries once more. Returns how many there were.
    pub async fn redeliver_webhooks(&self, ids: &[i64], stamp: &AuditStamp) -> Result<i64, OutboxError> {
        Ok(sqlx::query_scalar!(
            r#"select redeliver_webhooks($1, $2, $3) as "count!""#,
            ids,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Says who wants the events of a span told to an endpoint once more, and why. `None`: there is no such endpoint.
    pub async fn begin_webhook_redelivery(
        &self,
        endpoint: Uuid,
        since: DateTime<Utc>,
        until: Option<DateTime<Utc>>,
        stamp: &AuditStamp,
    ) -> Result<Option<Redelivery>, OutboxError> {
        let row = sqlx::query!(
            "select audit_id, behind, last from begin_webhook_redelivery($1, $2, $3, $4, $5)",
            endpoint,
            since,
            until,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(row.audit_id.map(|audit| Redelivery {
            audit,
            // Nothing happened in that span: from the beginning of the feed to the same place.
            behind: row.behind.unwrap_or_else(|| "0-0".to_owned()),
            last: row.last.unwrap_or_else(|| "0-0".to_owned()),
        }))
    }

    /// The next events of that span. Returns how many deliveries are pending by it, and what is left to do.
    pub async fn redeliver_webhooks_step(
        &self,
        redelivery: Redelivery,
        rows: i32,
    ) -> Result<(i64, Option<Redelivery>), OutboxError> {
        let row = repeating(|| {
            sqlx::query!(
                r#"select redelivered as "redelivered!", next from redeliver_webhooks_step($1, $2, $3, $4)"#,
                redelivery.audit,
                redelivery.behind,
                redelivery.last,
                rows
            )
            .fetch_one(&self.pool)
        })
        .await?;
        let next = row.next.map(|behind| Redelivery { behind, ..redelivery });
        Ok((row.redelivered, next))
    }

    /// How many events a redelivery of that span would tell, of the endpoint's types.
    pub async fn would_redeliver(
        &self,
        endpoint: Uuid,
        since: DateTime<Utc>,
        until: Option<DateTime<Utc>>,
    ) -> Result<i64, OutboxError> {
        Ok(sqlx::query_scalar!(
            r#"select count(*) as "count!" from events v join webhook_endpoints e on e.id = $1
               where v.occurred_at >= $2 and v.occurred_at < coalesce($3, clock_now()) and (e.types = '{}' or v.type = any (e.types))"#,
            endpoint,
            since,
            until
        )
        .fetch_one(&self.pool)
        .await?)
    }
}

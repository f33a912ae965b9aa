//! Looking at captures, and the order system's verbs: enqueue, release, cancel.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AuditStamp, Outbox, OutboxError, repeating};
use crate::filter::Filter;

/// So many rows are read at once of a list that may be long: few statements, and no page that is a burden.
const LIST_PAGE: u32 = 10_000;

/// A row of the view `status`, with what a list shows beside it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, sqlx::FromRow)]
pub struct CaptureRow {
    /// The intent.
    pub id: Uuid,
    /// `afterpay`, `optty`, `resolve`.
    pub provider: String,
    /// Which merchant account.
    pub account: String,
    /// The merchant's order.
    pub order_id: String,
    /// The authorised payment.
    pub payment_id: String,
    /// The merchant's reference of this capture.
    pub capture_ref: String,
    /// Minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// See the view.
    pub state: String,
    /// Capture POSTs that counted.
    pub attempts: i16,
    /// Class of the last failure.
    pub last_class: Option<String>,
    /// Its code.
    pub last_code: Option<String>,
    /// When it is tried again.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Minor units, once captured.
    pub captured_minor: Option<i64>,
    /// The provider's id of the capture.
    pub provider_capture_id: Option<String>,
    /// When it was captured.
    pub captured_at: Option<DateTime<Utc>>,
    /// Why it is dead.
    pub dead_reason: Option<String>,
    /// When it was asked.
    pub created_at: DateTime<Utc>,
    /// When the authorisation ends, as far as anybody knows.
    pub authorization_expires_at: Option<DateTime<Utc>>,
    /// Who said so: `producer`, `provider`, or `assumed` from the account's lifetime of authorisations.
    pub expiry_source: Option<String>,
    /// Since when somebody wants it cancelled whose cancel came while a worker had it, or its outcome was unknown. Kept until it
    /// has ended.
    pub cancel_requested_at: Option<DateTime<Utc>>,
}

/// One closed attempt.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AttemptRow {
    /// Of the claim.
    pub fence: i32,
    /// 0 send, 1 retry, 2 verify.
    pub purpose: i16,
    /// Of the key.
    pub generation: i16,
    /// Was a capture POST put on the wire? `None`: nobody knows.
    pub sent: Option<bool>,
    /// What it came to.
    pub outcome: String,
    /// Class of the failure.
    pub class: Option<String>,
    /// Its code.
    pub code: Option<String>,
    /// Its HTTP status.
    pub http_status: Option<i16>,
    /// When the work began.
    pub began_at: Option<DateTime<Utc>>,
    /// When it was recorded.
    pub ended_at: DateTime<Utc>,
    /// How long the calls took.
    pub duration_ms: Option<i32>,
    /// Where they went.
    pub host: Option<String>,
    /// What was seen, as text: capped, redacted.
    pub evidence: Option<String>,
}

/// One line of an intent's story.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TimelineEntry {
    /// When.
    pub at: DateTime<Utc>,
    /// The event's type without its prefix, `attempt`, `audit`, or `cancel_requested`: a wish that waits for the outcome.
    pub what: String,
    /// By type.
    pub data: Value,
}

/// What an enqueue did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Enqueued {
    /// The intent.
    pub id: Uuid,
    /// False: it was there before, with the same content.
    pub created: bool,
}

/// What to release.
#[derive(Debug, Clone, Default)]
pub struct HeldRelease {
    /// The provider.
    pub provider: String,
    /// The account; `None`: `default`.
    pub account: Option<String>,
    /// The payment, or
    pub payment_id: Option<String>,
    /// the order.
    pub order_id: Option<String>,
    /// Just this capture.
    pub capture_ref: Option<String>,
    /// The shipment: the same one again changes nothing.
    pub shipment_ref: Option<String>,
    /// Carrier, service and parcel: all or none.
    pub shipping: Option<(String, String, String)>,
}

impl Outbox {
    /// Captures that match, the newest first. `most`: if the filter sets no limit.
    pub async fn list(&self, filter: &Filter, most: u32) -> Result<Vec<CaptureRow>, OutboxError> {
        let wanted = filter.limit.unwrap_or(most);
        let mut rows: Vec<CaptureRow> = Vec::new();
        let mut after = None;
        loop {
            let missing = wanted.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            let page = self.page(filter, after.as_ref(), missing.min(LIST_PAGE)).await?;
            rows.extend(page.rows);
            after = page.next;
            if after.is_none() || rows.len() >= wanted as usize {
                return Ok(rows);
            }
        }
    }

    /// One capture.
    pub async fn capture(&self, intent: Uuid) -> Result<Option<CaptureRow>, OutboxError> {
        Ok(sqlx::query_as!(
            CaptureRow,
            r#"select s.id as "id!", s.provider as "provider!", s.account as "account!", s.order_id as "order_id!",
                      s.payment_id as "payment_id!", s.capture_ref as "capture_ref!", s.amount_minor::bigint as "amount_minor!",
                      s.currency as "currency!", s.state as "state!", s.attempts as "attempts!", s.last_class, s.last_code,
                      s.next_attempt_at, s.captured_minor::bigint as captured_minor, s.provider_capture_id, s.captured_at, s.dead_reason,
                      s.created_at as "created_at!", x.expires_at as authorization_expires_at, x.source as expiry_source,
                      (select w.requested_at from cancel_requests w where w.intent = s.id) as cancel_requested_at
               from status s join expiries x on x.intent = s.id where s.id = $1"#,
            intent
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// The closed attempts of one capture, the first one first.
    pub async fn attempts(&self, intent: Uuid) -> Result<Vec<AttemptRow>, OutboxError> {
        let rows = sqlx::query!(
            // What showed a capture stands in its outcome alone.
            r#"select a.fence as "fence!", a.purpose as "purpose!", a.generation as "generation!", a.sent, a.outcome as "outcome!", a.class, a.code,
                    a.http_status, a.began_at, a.ended_at as "ended_at!", a.duration_ms, a.host, coalesce(a.evidence, o.evidence) as evidence
             from attempts a left join outcomes o on o.intent = a.intent and o.fence = a.fence
             where a.intent = $1 order by a.fence"#,
            intent
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| AttemptRow {
                fence: row.fence,
                purpose: row.purpose,
                generation: row.generation,
                sent: row.sent,
                outcome: row.outcome,
                class: row.class,
                code: row.code,
                http_status: row.http_status,
                began_at: row.began_at,
                ended_at: row.ended_at,
                duration_ms: row.duration_ms,
                host: row.host,
                evidence: row
                    .evidence
                    .filter(|bytes| !bytes.is_empty())
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            })
            .collect())
    }

    /// Events, attempts, late results, operators' acts and the wish to cancel that is still open, of one capture, in the order in which they happened.
    pub async fn timeline(&self, intent: Uuid) -> Result<Vec<TimelineEntry>, OutboxError> {
        Ok(sqlx::query_as!(
            TimelineEntry,
            r#"select at as "at!", what as "what!", data as "data!" from (
                   select e.occurred_at as at, 1 as rank, e.seq as place, substr(e.type, 9) as what, e.data
                   from events e where e.intent_id = $1
                   union all
                   select a.ended_at, 0, a.fence::bigint, 'attempt',
                          jsonb_strip_nulls(jsonb_build_object('fence', a.fence, 'purpose', (array['send', 'retry', 'verify'])[a.purpose + 1],
                              'sent', a.sent, 'outcome', a.outcome, 'class', a.class, 'code', a.code, 'http_status', a.http_status,
                              'generation', a.generation, 'duration_ms', a.duration_ms, 'worker', a.worker))
                   from attempts a where a.intent = $1
                   union all
                   select u.at, 2, u.id, 'audit', jsonb_build_object('action', u.action, 'actor', u.actor, 'reason', u.reason)
                   from audit u where u.intent = $1
                   union all
                   select w.requested_at, 3, 0, 'cancel_requested', jsonb_build_object('by', w.requested_by, 'reason', w.reason)
                   from cancel_requests w where w.intent = $1
               ) story order by at, rank, place"#,
            intent
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Inserts an intent from a JSON document whose keys are the column names.
    pub async fn enqueue_json(&self, document: &str) -> Result<Enqueued, OutboxError> {
        Ok(sqlx::query_as!(
            Enqueued,
            r#"select id as "id!", created as "created!" from enqueue_json($1)"#,
            document
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// As [`Outbox::enqueue_json`], and takes it back: every rule is asked, nothing is written.
    pub async fn check_json(&self, document: &str) -> Result<Enqueued, OutboxError> {
        let mut transaction = self.pool.begin().await?;
        let enqueued = sqlx::query_as!(
            Enqueued,
            r#"select id as "id!", created as "created!" from enqueue_json($1)"#,
            document
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.rollback().await?;
        Ok(enqueued)
    }

    /// Writes a durable release; a worker matches it. Returns its number, and whether it is new.
    pub async fn release(&self, release: &HeldRelease) -> Result<(i64, bool), OutboxError> {
        let (company, method, tracking) = match &release.shipping {
            Some((company, method, tracking)) => {
                (Some(company.as_str()), Some(method.as_str()), Some(tracking.as_str()))
            }
            None => (None, None, None),
        };
        let row = sqlx::query!(
            r#"select release_id as "release_id!", created as "created!"
               from release(provider => $1, payment_id => $2, order_id => $3, account => coalesce($4, 'default'), capture_ref => $5,
                            shipment_ref => $6, company => $7, method => $8, tracking_number => $9)"#,
            release.provider,
            release.payment_id.as_deref(),
            release.order_id.as_deref(),
            release.account.as_deref(),
            release.capture_ref.as_deref(),
            release.shipment_ref.as_deref(),
            company,
            method,
            tracking
        )
        .fetch_one(&self.pool)
        .await?;
        Ok((row.release_id, row.created))
    }

    /// As [`Outbox::release`], under the name of who asked for it, with a line of audit.
    pub async fn release_by(&self, release: &HeldRelease, stamp: &AuditStamp) -> Result<(i64, bool), OutboxError> {
        let (company, method, tracking) = match &release.shipping {
            Some((company, method, tracking)) => {
                (Some(company.as_str()), Some(method.as_str()), Some(tracking.as_str()))
            }
            None => (None, None, None),
        };
        let row = repeating(|| {
            sqlx::query!(
                r#"select release_id as "release_id!", created as "created!" from release_by($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"#,
                release.provider,
                release.payment_id.as_deref(),
                release.order_id.as_deref(),
                release.account.as_deref(),
                release.capture_ref.as_deref(),
                release.shipment_ref.as_deref(),
                company,
                method,
                tracking,
                stamp.actor,
                stamp.reason
            )
            .fetch_one(&self.pool)
        })
        .await?;
        Ok((row.release_id, row.created))
    }

    /// Cancels: `cancelled`, `in_flight` or `ended`.
    pub async fn cancel(&self, intent: Uuid, reason: &str) -> Result<String, OutboxError> {
        Ok(repeating(|| {
            sqlx::query_scalar!(
                r#"select cancel(intent_id => $1, reason => $2) as "said!""#,
                intent,
                reason
            )
            .fetch_one(&self.pool)
        })
        .await?)
    }
}

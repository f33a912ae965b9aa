//! Shipping notices: the parcel of a capture that is on record, to be told to its provider (`migrations/0014_shipping_notices.sql`).

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{LaneId, Outbox, OutboxError};
use crate::intent::{IntentId, Parcel, Shipping};

/// A try that has begun.
#[derive(Debug, Clone)]
pub struct ClaimedNotice {
    /// Which try, from 1; also what it is settled under.
    pub tries: i16,
    /// What is told.
    pub parcel: Parcel,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeEnd {
    /// The provider has it.
    Told,
    /// Not now.
    Again {
        /// The next try is this much later.
        wait: Duration,
        /// Of the failure.
        class: &'static str,
        /// Of the failure.
        code: String,
    },
    /// Never.
    GivenUp {
        /// Of the failure.
        class: &'static str,
        /// Of the failure.
        code: String,
    },
}

/// Where the telling of a parcel to its provider is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShippingNotice {
    /// `due`, `told` or `given_up`.
    pub state: String,
    /// Tries begun.
    pub tries: i16,
    /// The last failure.
    pub code: Option<String>,
    /// Since when it is told or given up.
    pub ended_at: Option<DateTime<Utc>>,
}

impl ShippingNotice {
    /// For people: `told`, `not yet`, `given up: http_422`.
    pub fn words(&self) -> String {
        let why = |words: &str| match &self.code {
            Some(code) => format!("{words}: {code}"),
            None => words.to_owned(),
        };
        match self.state.as_str() {
            "due" => why("not yet"),
            "given_up" => why("given up"),
            other => other.to_owned(),
        }
    }
}

impl Outbox {
    /// Begins the next try of a lane, if one is due and the lane has nothing better to do; `calls`: the most that one capture
    /// costs there.
    pub async fn claim_shipping_notice(
        &self,
        lane: LaneId,
        calls: u32,
        lease: Duration,
    ) -> Result<Option<ClaimedNotice>, OutboxError> {
        let calls = i32::try_from(calls).unwrap_or(i32::MAX);
        let row = sqlx::query!(
            r#"select intent as "intent!", tries as "tries!", payment_id as "payment_id!", provider_capture_id as "provider_capture_id!",
                      company as "company!", method as "method!", tracking_number as "tracking_number!", shipped_at as "shipped_at!"
               from claim_shipping_notice($1, $2, $3)"#,
            lane as LaneId,
            calls,
            milliseconds(lease)
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| ClaimedNotice {
            tries: row.tries,
            parcel: Parcel {
                intent: IntentId(row.intent),
                payment_id: row.payment_id,
                provider_capture_id: row.provider_capture_id,
                shipping: Shipping {
                    company: row.company,
                    method: row.method,
                    tracking_number: row.tracking_number,
                },
                shipped_at: row.shipped_at,
            },
        }))
    }

    /// Records what came of a try; false: it was slower than its lease.
    pub async fn settle_shipping_notice(&self, intent: Uuid, tries: i16, end: &NoticeEnd) -> Result<bool, OutboxError> {
        let (state, wait, class, code) = match end {
            NoticeEnd::Told => ("told", Duration::ZERO, None, None),
            NoticeEnd::Again { wait, class, code } => ("due", *wait, Some(*class), Some(code.as_str())),
            NoticeEnd::GivenUp { class, code } => ("given_up", Duration::ZERO, Some(*class), Some(code.as_str())),
        };
        Ok(sqlx::query_scalar!(
            r#"select settle_shipping_notice($1, $2, $3, $4, $5, $6) as "recorded!""#,
            intent,
            tries,
            state,
            milliseconds(wait),
            class,
            code
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// The notices of these captures, of those that have one.
    pub async fn shipping_notices(&self, intents: &[Uuid]) -> Result<BTreeMap<Uuid, ShippingNotice>, OutboxError> {
        let rows = sqlx::query!(
            "select intent, state, tries, code, ended_at from shipping_notices where intent = any ($1)",
            intents
        )
        .fetch_all(&self.pool)
        .await?;
        let notices = rows.into_iter().map(|row| {
            let notice = ShippingNotice {
                state: row.state,
                tries: row.tries,
                code: row.code,
                ended_at: row.ended_at,
            };
            (row.intent, notice)
        });
        Ok(notices.collect())
    }
}

fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

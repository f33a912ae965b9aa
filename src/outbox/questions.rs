//! What a read of the provider is asked with: a capture, its key, and what is known of its siblings. For people who look;
//! workers get the same with their claim.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Outbox, OutboxError};
use crate::intent::{CaptureIntent, Currency, IntentId, KeyGeneration, Lane, Money};
use crate::provider::Siblings;

/// A capture to ask about.
#[derive(Debug, Clone)]
pub struct Question {
    /// What was asked.
    pub intent: CaptureIntent,
    /// The generation of the key that was used last.
    pub generation: KeyGeneration,
    /// When it was first sent, as far as attempts are kept; `None`: it never was.
    pub first_sent_at: Option<DateTime<Utc>>,
    /// What others did to the same payment.
    pub siblings: Siblings,
}

impl Outbox {
    /// What a read of this capture needs; `None`: there is none of that id.
    pub async fn question(&self, intent: Uuid) -> Result<Option<Question>, OutboxError> {
        let row = sqlx::query!(
            r#"select i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor::bigint as "amount_minor!",
                      i.currency, i.authorized_minor::bigint as authorized_minor, i.authorization_expires_at, i.details, i.traceparent, i.created_at,
                      coalesce(p.generation, a.generation, 0::smallint) as "generation!",
                      coalesce(p.first_sent_at, a.first_sent_at) as first_sent_at,
                      s.captures as "captures!", s.undecided as "undecided!"
               from intents i
               left join progress p on p.intent = i.id
               cross join lateral (
                   select max(a.generation) as generation, min(coalesce(a.began_at, a.ended_at)) filter (where a.sent is distinct from false) as first_sent_at
                   from attempts a where a.intent = i.id
               ) a
               cross join lateral (
                   select coalesce(array_agg(o.provider_capture_id) filter (where o.state = 'captured'), '{}') as captures,
                          coalesce(bool_or(o.dead_reason = 'undecided' or o.proof = 'person'), false) as undecided
                   from intents s join outcomes o on o.intent = s.id
                   where s.provider = i.provider and s.account = i.account and s.payment_id = i.payment_id and s.id <> i.id
               ) s
               where i.id = $1"#,
            intent
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let unread = |what: &str| OutboxError::NotUnderstood {
            what: format!("{what} of {intent}"),
        };
        let currency = Currency::from_code(&row.currency).ok_or_else(|| unread("the currency"))?;
        let details = serde_json::from_value(row.details).map_err(|_| unread("details"))?;
        Ok(Some(Question {
            intent: CaptureIntent {
                id: IntentId(row.id),
                lane: Lane {
                    provider: row.provider,
                    account: row.account,
                },
                order_id: row.order_id,
                payment_id: row.payment_id,
                capture_ref: row.capture_ref,
                amount: Money::new(row.amount_minor, currency),
                authorized_minor: row.authorized_minor,
                authorization_expires_at: row.authorization_expires_at,
                details,
                traceparent: row.traceparent,
                created_at: row.created_at,
            },
            generation: KeyGeneration(row.generation),
            first_sent_at: row.first_sent_at,
            siblings: Siblings {
                capture_ids: row.captures,
                undecided: row.undecided,
            },
        }))
    }
}

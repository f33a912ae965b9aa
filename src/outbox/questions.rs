//! What a read of the provider is asked with: a capture, its key, and what is known of its siblings. For people who look;
//! workers get the same with their claim.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Outbox, OutboxError};
use crate::intent::{CaptureIntent, Currency, IntentId, KeyGeneration, Lane, Money};
use crate::outcome::{Proof, Receipt};
use crate::provider::Siblings;

/// A capture whose attempts are pruned is asked for under the keys of so many generations: which was the last is gone with
/// them, and a read sends nothing, so asking for too many is harmless.
const PRUNED_GENERATION: i16 = 15;

/// A capture to ask about.
#[derive(Debug, Clone)]
pub struct Question {
    /// What was asked.
    pub intent: CaptureIntent,
    /// The generation of the key that was used last, or a later one.
    pub generation: KeyGeneration,
    /// When it was first sent, or a time before; `None`: it never was, or every send of it was answered and refused.
    pub first_sent_at: Option<DateTime<Utc>>,
    /// The provider once took it, and gave it this id.
    pub accepted_id: Option<String>,
    /// A read inferred that the capture of this id is it, before that was final.
    pub pending_id: Option<String>,
    /// What others did to the same payment.
    pub siblings: Siblings,
    /// What they captured of it, in minor units.
    pub siblings_minor: i64,
    /// What was authorised in all, as far as it or a sibling says.
    pub authorized_minor: Option<i64>,
}

impl Question {
    /// Do the captures of siblings explain that the payment is captured, and ours is not there? They do if they left no
    /// room for it, or if nobody said how much room there was.
    pub fn siblings_explain(&self) -> bool {
        let room = |authorized: i64| authorized.saturating_sub(self.siblings_minor) >= self.intent.amount.minor;
        !self.siblings.capture_ids.is_empty() && !self.authorized_minor.is_some_and(room)
    }

    /// Is that a sibling's capture, which a read that can only infer takes for ours?
    pub fn is_a_siblings(&self, receipt: &Receipt) -> bool {
        matches!(receipt.proof, Proof::SoleWriter | Proof::Marker)
            && self.siblings.capture_ids.contains(&receipt.provider_capture_id)
    }
}

impl Outbox {
    /// What a read of this capture needs; `None`: there is none of that id.
    pub async fn question(&self, intent: Uuid) -> Result<Option<Question>, OutboxError> {
        let row = sqlx::query!(
            r#"select i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor::bigint as "amount_minor!",
                      i.currency, i.authorized_minor::bigint as authorized_minor, i.authorization_expires_at, i.details, i.traceparent, i.created_at,
                      coalesce(p.generation, a.generation, case when pruned then $2::smallint else 0::smallint end) as "generation!",
                      case when p.intent is null then case when pruned then i.created_at else a.first_sent_at end
                           when o.state = 'captured' then coalesce(p.first_sent_at, i.created_at)
                           when p.tainted or p.accepted then p.first_sent_at end as first_sent_at,
                      case when p.accepted then p.accepted_id end as accepted_id,
                      case when p.accepted then p.pending_id end as pending_id,
                      s.captures as "captures!", s.undecided as "undecided!", s.captured_minor as "siblings_minor!",
                      coalesce(i.authorized_minor, s.authorized_minor)::bigint as sum_minor
               from intents i
               left join progress p on p.intent = i.id
               left join outcomes o on o.intent = i.id
               cross join lateral (
                   select count(*) as n, max(a.generation) as generation,
                          min(coalesce(a.began_at, a.ended_at)) filter (where a.sent is distinct from false) as first_sent_at
                   from attempts a where a.intent = i.id
               ) a
               -- It was sent, and attempts of it are gone: `prune` takes them, but for one that stands in the outcome, and progress went
               -- when it was captured.
               cross join lateral (
                   select p.intent is null and coalesce(case when o.state = 'captured' then a.n < o.fence else a.n = 0 and o.attempts > 0 end, false) as pruned
               ) gone
               cross join lateral (
                   select coalesce(array_agg(o.provider_capture_id) filter (where o.state = 'captured'), '{}') as captures,
                          coalesce(sum(o.captured_minor) filter (where o.state = 'captured'), 0)::bigint as captured_minor,
                          coalesce(bool_or(o.dead_reason = 'undecided' or o.proof = 'person'), false) as undecided,
                          (array_agg(s.authorized_minor order by s.created_at desc, s.id desc) filter (where s.authorized_minor is not null))[1] as authorized_minor
                   from intents s left join outcomes o on o.intent = s.id
                   where s.provider = i.provider and s.account = i.account and s.payment_id = i.payment_id and s.id <> i.id
               ) s
               where i.id = $1"#,
            intent,
            PRUNED_GENERATION
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
            accepted_id: row.accepted_id,
            pending_id: row.pending_id,
            siblings: Siblings {
                capture_ids: row.captures,
                undecided: row.undecided,
            },
            siblings_minor: row.siblings_minor,
            authorized_minor: row.sum_minor,
        }))
    }
}

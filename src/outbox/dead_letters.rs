//! Dead letters: look at them, replay them, settle them by evidence.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AuditStamp, Outbox, OutboxError, interval, repeating};
use crate::filter::Filter;
use crate::intent::Lane;
use crate::progress::Progress;
use crate::retry::DeadReason;
use crate::verify::ReplayPlan;

/// A dead letter, with what a replay is judged by.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The intent.
    pub id: Uuid,
    /// Its lane.
    pub lane: Lane,
    /// Why it is dead.
    pub reason: DeadReason,
    /// Since when; also the mark by which two operators cannot replay it both.
    pub ended_at: DateTime<Utc>,
    /// What is behind it.
    pub progress: Progress,
    /// When the authorisation ends.
    pub authorization_expires_at: Option<DateTime<Utc>>,
    /// The database's time.
    pub now: DateTime<Utc>,
}

/// The code of a dead letter that a person has settled as not captured: there is nothing left to decide about it.
pub const RESOLVED_NOT_CAPTURED: &str = "resolved_not_captured";

/// What dead letters are told apart by when they are summed, beside the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupBy {
    /// The provider.
    Provider,
    /// The merchant account.
    Account,
    /// Why they are dead.
    Reason,
    /// The class of the last failure.
    Class,
    /// Its code.
    Code,
}

impl GroupBy {
    /// Everything that can be asked, in this order.
    pub const ALL: [GroupBy; 5] = [
        GroupBy::Provider,
        GroupBy::Account,
        GroupBy::Reason,
        GroupBy::Class,
        GroupBy::Code,
    ];

    /// The name in CLI and HTTP.
    pub fn name(self) -> &'static str {
        match self {
            GroupBy::Provider => "provider",
            GroupBy::Account => "account",
            GroupBy::Reason => "reason",
            GroupBy::Class => "class",
            GroupBy::Code => "code",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<GroupBy> {
        GroupBy::ALL.into_iter().find(|by| by.name() == name)
    }
}

/// Dead letters that are alike in what was asked, in one currency. What they are not told apart by is `None`, as is a
/// class or code that they have not.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeadGroup {
    /// Provider.
    pub provider: Option<String>,
    /// Account.
    pub account: Option<String>,
    /// Why they are dead.
    pub dead_reason: Option<String>,
    /// Class of the last failure.
    pub last_class: Option<String>,
    /// Its code.
    pub last_code: Option<String>,
    /// ISO 4217.
    pub currency: String,
    /// How many.
    pub captures: i64,
    /// Their sum, in minor units.
    pub amount_minor: i64,
    /// The oldest of them.
    pub oldest: DateTime<Utc>,
}

impl DeadGroup {
    /// What they have in common.
    pub fn of(&self, by: GroupBy) -> Option<&str> {
        match by {
            GroupBy::Provider => self.provider.as_deref(),
            GroupBy::Account => self.account.as_deref(),
            GroupBy::Reason => self.dead_reason.as_deref(),
            GroupBy::Class => self.last_class.as_deref(),
            GroupBy::Code => self.last_code.as_deref(),
        }
    }
}

/// What became of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// It goes back to work, reads first.
    Replayed,
    /// Somebody else moved it meanwhile.
    MovedMeanwhile,
}

/// What became of a resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// Recorded.
    Resolved,
    /// No such intent.
    NotFound,
    /// It has not ended: `in_flight`; or it ended otherwise: `captured`, `cancelled`.
    NotDead(String),
    /// It was not captured, they say; but we hold the provider's receipt, which came after its lease was lost.
    ReceiptHeld,
}

impl Outbox {
    /// One dead letter; `None` if there is no such intent or it is not dead.
    pub async fn dead_letter(&self, intent: Uuid) -> Result<Option<DeadLetter>, OutboxError> {
        let row = sqlx::query!(
            r#"select i.id, i.provider, i.account, o.dead_reason as "dead_reason!", o.ended_at, to_jsonb(p) - 'intent' as progress,
                      coalesce(o.expires_at, i.authorization_expires_at) as authorization_expires_at, clock_now() as "now!"
               from outcomes o join intents i on i.id = o.intent left join progress p on p.intent = o.intent
               where o.intent = $1 and o.state = 'dead'"#,
            intent
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let reason = DeadReason::ALL
            .into_iter()
            .find(|reason| reason.name() == row.dead_reason)
            .ok_or_else(|| OutboxError::NotUnderstood {
                what: format!("dead_reason '{}'", row.dead_reason),
            })?;
        let progress =
            row.progress
                .map(serde_json::from_value)
                .transpose()
                .map_err(|error| OutboxError::NotUnderstood {
                    what: format!("progress of {intent} ({error})"),
                })?;
        Ok(Some(DeadLetter {
            id: row.id,
            lane: Lane {
                provider: row.provider,
                account: row.account,
            },
            reason,
            ended_at: row.ended_at,
            progress: progress.unwrap_or_default(),
            authorization_expires_at: row.authorization_expires_at,
            now: row.now,
        }))
    }

    /// Dead letters that match and that nobody has resolved, summed by these and by currency; the most money first. States
    /// and limit of the filter are not looked at.
    pub async fn dead_groups(&self, filter: &Filter, by: &[GroupBy]) -> Result<Vec<DeadGroup>, OutboxError> {
        let (sign, minor, currency) = match filter.amount {
            Some((comparison, money)) => (Some(comparison.sign()), Some(money.minor), Some(money.currency.code())),
            None => (None, None, None),
        };
        Ok(sqlx::query_as!(
            DeadGroup,
            r#"select g.provider, g.account, g.dead_reason, g.last_class, g.last_code, g.currency as "currency!",
                      count(*) as "captures!", sum(g.amount_minor)::bigint as "amount_minor!", min(g.ended_at) as "oldest!"
               from (
                   select case when $13 then l.provider end as provider, case when $14 then l.account end as account,
                          case when $15 then o.dead_reason end as dead_reason, case when $16 then o.last_class end as last_class,
                          case when $17 then o.last_code end as last_code, o.currency, o.amount_minor, o.ended_at
                   from outcomes o join lanes l on l.id = o.lane
                   where o.state = 'dead' and o.last_code is distinct from 'resolved_not_captured'
                     and ($1::text is null or l.provider = $1)
                     and ($2::text is null or l.account = $2)
                     and ($3::text is null or o.last_class = $3)
                     and ($4::text is null or o.last_code = $4)
                     and ($5::text is null and $6::text is null or exists (
                            select from intents i where i.id = o.intent and ($5 is null or i.order_id = $5) and ($6 is null or i.payment_id = $6)))
                     and ($7::timestamptz is null or o.created_at >= $7)
                     and ($8::timestamptz is null or o.created_at < $8)
                     and ($9::text is null or (o.currency = $11 and case $9
                            when '<' then o.amount_minor < $10::bigint when '<=' then o.amount_minor <= $10::bigint
                            when '=' then o.amount_minor = $10::bigint when '>=' then o.amount_minor >= $10::bigint
                            when '>' then o.amount_minor > $10::bigint end))
                     and ($12::interval is null or (o.expires_at > (select clock_now())
                            and o.expires_at <= (select clock_now()) + $12))
               ) g
               group by g.provider, g.account, g.dead_reason, g.last_class, g.last_code, g.currency
               order by sum(g.amount_minor) desc, g.provider, g.account, g.dead_reason, g.last_class, g.last_code"#,
            filter.provider.as_deref(),
            filter.account.as_deref(),
            filter.class.map(|class| class.name()),
            filter.code.as_deref(),
            filter.order_id.as_deref(),
            filter.payment_id.as_deref(),
            filter.since,
            filter.until,
            sign,
            minor,
            currency,
            filter.expires_within.map(interval),
            by.contains(&GroupBy::Provider),
            by.contains(&GroupBy::Account),
            by.contains(&GroupBy::Reason),
            by.contains(&GroupBy::Class),
            by.contains(&GroupBy::Code)
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Sends a dead letter back to work: to a verification, never straight to a send.
    pub async fn replay(
        &self,
        letter: &DeadLetter,
        plan: &ReplayPlan,
        stamp: &AuditStamp,
    ) -> Result<Replayed, OutboxError> {
        let detail = json!({ "fresh_key": plan.fresh_key, "next_generation": plan.next_generation, "says": plan.says });
        let replayed = repeating(|| {
            sqlx::query_scalar!(
                r#"select replay($1, $2, $3, $4, $5, $6) as "replayed!""#,
                letter.id,
                letter.ended_at,
                plan.fresh_key,
                stamp.actor,
                stamp.reason,
                detail
            )
            .fetch_one(&self.pool)
        })
        .await?;
        Ok(if replayed {
            Replayed::Replayed
        } else {
            Replayed::MovedMeanwhile
        })
    }

    /// Settles a dead letter by evidence from outside.
    pub async fn resolve(
        &self,
        intent: Uuid,
        captured: bool,
        evidence: &str,
        stamp: &AuditStamp,
    ) -> Result<Resolved, OutboxError> {
        let said = repeating(|| {
            sqlx::query_scalar!(
                r#"select resolve($1, $2, $3, $4, $5) as "said!""#,
                intent,
                captured,
                evidence,
                stamp.actor,
                stamp.reason
            )
            .fetch_one(&self.pool)
        })
        .await?;
        Ok(match said.as_str() {
            "resolved" => Resolved::Resolved,
            "not_found" => Resolved::NotFound,
            "receipt_held" => Resolved::ReceiptHeld,
            _ => Resolved::NotDead(said),
        })
    }
}

//! Money at risk: what is authorised and not captured, by how soon its authorisation ends and by what it waits for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Outbox, OutboxError, interval};

/// How many hours an authorisation has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
pub enum Hours {
    /// It is over.
    #[serde(rename = "over")]
    Over,
    /// Less than 6.
    #[serde(rename = "0-6")]
    To6,
    /// 6 to 24.
    #[serde(rename = "6-24")]
    To24,
    /// 24 to 48.
    #[serde(rename = "24-48")]
    To48,
    /// 48 to 168: a week.
    #[serde(rename = "48-168")]
    To168,
    /// More than a week.
    #[serde(rename = "later")]
    Later,
    /// Nobody told us when it ends.
    #[serde(rename = "unknown")]
    Unknown,
}

impl Hours {
    /// All, the nearest end first.
    pub const ALL: [Hours; 7] = [
        Hours::Over,
        Hours::To6,
        Hours::To24,
        Hours::To48,
        Hours::To168,
        Hours::Later,
        Hours::Unknown,
    ];

    /// The name in CLI and HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Hours::Over => "over",
            Hours::To6 => "0-6",
            Hours::To24 => "6-24",
            Hours::To48 => "24-48",
            Hours::To168 => "48-168",
            Hours::Later => "later",
            Hours::Unknown => "unknown",
        }
    }
}

/// Captures that are alike in hours, reason and currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RiskRow {
    /// How long the authorisation has left.
    pub hours: Hours,
    /// What the capture waits for: its state, or `dead:` and why it is dead.
    pub reason: String,
    /// ISO 4217.
    pub currency: String,
    /// How many.
    pub captures: i64,
    /// Of how many of them the end is only assumed, from the account's lifetime of authorisations.
    pub assumed: i64,
    /// Their sum, in minor units.
    pub amount_minor: i64,
}

/// Money at risk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Risk {
    /// The nearest end first, then by reason and currency. Dead letters that a person has resolved are not in it.
    pub rows: Vec<RiskRow>,
    /// The database's time when it was read.
    pub as_of: DateTime<Utc>,
}

impl Outbox {
    /// What is authorised and not captured. `within`: only what is over or ends within this time; `None`: all.
    pub async fn risk(&self, within: Option<Duration>) -> Result<Risk, OutboxError> {
        let as_of = self.now().await?;
        let rows = sqlx::query!(
            r#"with open as (
                   select p.reason, i.currency, i.amount_minor::bigint as amount_minor, d.expires_at,
                          coalesce(d.source = 'assumed', false) as assumed
                   from (
                       select r.intent, case when r.purpose = 2 then 'verifying' else 'ready' end as reason from ready r
                       union all
                       select w.intent, case when w.purpose = 2 then 'verifying' when w.cause = 'held' then 'held' else 'scheduled' end from waiting w
                       union all
                       select s.intent, 'leased' from leases x, unnest(x.intents) with ordinality as s(intent, place)
                       where get_bit(x.settled, s.place::integer - 1) = 0
                   ) p
                   cross join lateral (select i.* from intents i where i.id = p.intent limit 1) i
                   left join deadlines d on d.intent = p.intent
               ), dead as (
                   select 'dead:' || o.dead_reason, o.currency, o.amount_minor, o.expires_at, o.expiry_source is not distinct from 'assumed' from outcomes o
                   where o.state = 'dead' and o.last_code is distinct from 'resolved_not_captured'
               )
               select case when i.expires_at is null then 6 when i.expires_at <= $1 then 0
                           when i.expires_at <= $1 + interval '6 hours' then 1 when i.expires_at <= $1 + interval '24 hours' then 2
                           when i.expires_at <= $1 + interval '48 hours' then 3 when i.expires_at <= $1 + interval '168 hours' then 4
                           else 5 end as "hours!",
                      i.reason as "reason!", i.currency as "currency!", count(*) as "captures!",
                      count(*) filter (where i.assumed) as "assumed!", sum(i.amount_minor)::bigint as "amount_minor!"
               from (select * from open union all select * from dead) i
               where $2::interval is null or i.expires_at <= $1 + $2
               group by 1, 2, 3
               order by 1, 2, 3"#,
            as_of,
            within.map(interval)
        )
        .fetch_all(&self.pool)
        .await?;
        let rows = rows.into_iter().filter_map(|row| {
            Some(RiskRow {
                hours: *Hours::ALL.get(usize::try_from(row.hours).ok()?)?,
                reason: row.reason,
                currency: row.currency,
                captures: row.captures,
                assumed: row.assumed,
                amount_minor: row.amount_minor,
            })
        });
        Ok(Risk {
            rows: rows.collect(),
            as_of,
        })
    }
}

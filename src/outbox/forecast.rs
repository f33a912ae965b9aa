//! Which authorisations end before the turn of their capture comes, if lanes go on at the rate of the last hour.
//!
//! An estimate: it knows the order of the queue and what was captured within the hour, not what a provider will do.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{LaneId, Outbox, OutboxError};
use crate::intent::Lane;

/// How fast a lane captures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LaneRate {
    /// Its number.
    #[serde(skip)]
    #[schema(ignore)]
    pub id: LaneId,
    /// Provider and account.
    #[serde(flatten)]
    pub lane: Lane,
    /// Captured within the last hour.
    pub captured_last_hour: i64,
    /// Captured within the last minute.
    pub captured_last_minute: i64,
    /// Ready, scheduled, in back-off or to be verified.
    pub in_line: i64,
    /// Why it gives nobody a turn now, whatever it captured within the hour: `paused` or `breaker_open`.
    pub stands_still: Option<&'static str>,
}

impl LaneRate {
    /// Captures an hour, as the forecast reckons.
    pub fn per_hour(&self) -> i64 {
        match self.stands_still {
            Some(_) => 0,
            None => self.captured_last_hour,
        }
    }
}

/// A capture whose authorisation ends before its turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ForecastRow {
    /// The intent.
    pub id: Uuid,
    /// Provider and account.
    #[serde(flatten)]
    pub lane: Lane,
    /// The order.
    pub order_id: String,
    /// The payment.
    pub payment_id: String,
    /// Minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Held, scheduled, ready or verifying.
    pub state: String,
    /// When the authorisation ends.
    pub authorization_expires_at: DateTime<Utc>,
    /// Who said so: `producer`, `provider`, or `assumed` from the account's lifetime of authorisations.
    pub expiry_source: String,
    /// How many are before it in its lane; `None`: it is held, and has no turn.
    pub before_it: Option<i64>,
    /// When its turn comes; `None`: never at this rate.
    pub turn_at: Option<DateTime<Utc>>,
}

/// The forecast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Forecast {
    /// The lanes, by name.
    pub lanes: Vec<LaneRate>,
    /// What ends too soon, the nearest end first.
    pub rows: Vec<ForecastRow>,
    /// Is there more of it?
    pub more: bool,
    /// The database's time when it was read.
    pub as_of: DateTime<Utc>,
}

impl Outbox {
    /// How fast the lanes capture now.
    pub async fn lane_rates(&self) -> Result<Vec<LaneRate>, OutboxError> {
        let now = self.now().await?;
        // Not prepared: only a plan that knows the time looks at the last pages and no others.
        let captured: Vec<(i32, i64, i64)> = sqlx::query_as(
            "select o.lane, count(*), count(*) filter (where o.ended_at > $2)
             from outcomes o where o.ended_at > $1 and o.state = 'captured' group by o.lane",
        )
        .bind(now - chrono::TimeDelta::hours(1))
        .bind(now - chrono::TimeDelta::minutes(1))
        .persistent(false)
        .fetch_all(&self.pool)
        .await?;
        let lanes = self.lanes().await?.into_iter().map(|lane| {
            let of = captured.iter().find(|(id, ..)| *id == lane.id.0);
            LaneRate {
                id: lane.id,
                lane: lane.lane,
                captured_last_hour: of.map_or(0, |(_, hour, _)| *hour),
                captured_last_minute: of.map_or(0, |(_, _, minute)| *minute),
                in_line: lane.ready + lane.waiting,
                stands_still: match (&lane.paused, lane.open_until) {
                    (Some(_), _) => Some("paused"),
                    // Until an answer closes it, also while it tests.
                    (None, Some(_)) => Some("breaker_open"),
                    (None, None) => None,
                },
            }
        });
        Ok(lanes.collect())
    }

    /// What ends before its turn, at most so many.
    pub async fn forecast(&self, limit: u32) -> Result<Forecast, OutboxError> {
        let as_of = self.now().await?;
        let lanes = self.lane_rates().await?;
        let ids: Vec<i32> = lanes.iter().map(|lane| lane.id.0).collect();
        let rates: Vec<i64> = lanes.iter().map(LaneRate::per_hour).collect();
        // A lane that captured nothing, or stands still, has no rate: nothing gets its turn.
        let rows = sqlx::query!(
            r#"with queues as materialized (select r.lane, count(*) as ready from ready r group by r.lane), line as (
                   select r.intent, r.lane, r.purpose, 'ready' as cause, null::timestamptz as due_at,
                          row_number() over (partition by r.lane order by r.urgency, r.seq) - 1 as place
                   from ready r
                   union all
                   select w.intent, w.lane, w.purpose, w.cause, w.due_at,
                          case when w.due_at is not null then row_number() over (partition by w.lane order by w.due_at) - 1
                               + coalesce(q.ready, 0) end
                   from waiting w left join queues q on q.lane = w.lane
               ), turns as (
                   select l.*, d.expires_at, d.source,
                          case when l.cause <> 'held' and s.hour > 0
                               then greatest(coalesce(l.due_at, $1), $1 + l.place * (interval '1 hour' / s.hour)) end as turn_at
                   from line l
                   join unnest($2::integer[], $3::bigint[]) as s(lane, hour) on s.lane = l.lane
                   cross join lateral (select d.expires_at, d.source from deadlines d where d.intent = l.intent limit 1) d
               )
               select i.id, i.provider, i.account, i.order_id, i.payment_id, i.amount_minor::bigint as "amount_minor!", i.currency,
                      case when t.purpose = 2 then 'verifying' when t.cause in ('ready', 'held') then t.cause else 'scheduled' end as "state!",
                      t.expires_at, t.source, t.place as before_it, t.turn_at
               from turns t cross join lateral (select i.* from intents i where i.id = t.intent limit 1) i
               where (t.turn_at is null or t.turn_at >= t.expires_at) and (t.source = 'producer' or t.expires_at > $1)
               order by t.expires_at, i.id
               limit $4"#,
            as_of,
            &ids,
            &rates,
            i64::from(limit) + 1
        )
        .fetch_all(&self.pool)
        .await?;
        let mut rows: Vec<ForecastRow> = rows
            .into_iter()
            .map(|row| ForecastRow {
                id: row.id,
                lane: Lane {
                    provider: row.provider,
                    account: row.account,
                },
                order_id: row.order_id,
                payment_id: row.payment_id,
                amount_minor: row.amount_minor,
                currency: row.currency,
                state: row.state,
                authorization_expires_at: row.expires_at,
                expiry_source: row.source,
                before_it: row.before_it,
                turn_at: row.turn_at,
            })
            .collect();
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Ok(Forecast {
            lanes,
            rows,
            more,
            as_of,
        })
    }
}

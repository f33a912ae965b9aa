//! Lanes: one (provider, account), its pause, rate budget and breaker, shared by all workers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{AuditStamp, Outbox, OutboxError};
use crate::intent::Lane;
use crate::shipment::Fulfilment;

/// The number of a lane in this outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct LaneId(pub i32);

/// A lane as an operator sees it.
#[derive(Debug, Clone)]
pub struct LaneRow {
    /// Its number.
    pub id: LaneId,
    /// Provider and account.
    pub lane: Lane,
    /// Since when it is paused, by whom and why.
    pub paused: Option<(DateTime<Utc>, String, String)>,
    /// Calls a minute by the workers' settings; 0: no limit.
    pub rate_per_minute: i32,
    /// Calls a minute as an operator set them: this is in force until it is taken back.
    pub rate_override: Option<i32>,
    /// The provider asked to wait until then.
    pub limited_until: Option<DateTime<Utc>>,
    /// Calls in a row without an answer.
    pub unanswered: i32,
    /// The breaker is open until then.
    pub open_until: Option<DateTime<Utc>>,
    /// Rows that may be claimed now.
    pub ready: i64,
    /// Rows that wait for a time or a release.
    pub waiting: i64,
    /// Attempts that are open.
    pub leased: i64,
    /// Workers with a fresh heartbeat that serve it.
    pub workers: i64,
}

/// What a test of a lane's breaker came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneTest {
    /// The next claim lets one row through.
    Probing,
    /// A person, or a worker, has paused it: nothing is let through.
    Paused,
    /// The breaker is closed: there is nothing to test.
    Closed,
    /// Its time is over: the next claim tests anyway.
    Due,
    /// A test is in flight.
    Testing,
}

impl LaneTest {
    const ALL: [LaneTest; 5] = [
        LaneTest::Probing,
        LaneTest::Paused,
        LaneTest::Closed,
        LaneTest::Due,
        LaneTest::Testing,
    ];

    /// The name in SQL, CLI and HTTP.
    pub fn name(self) -> &'static str {
        match self {
            LaneTest::Probing => "probing",
            LaneTest::Paused => "paused",
            LaneTest::Closed => "closed",
            LaneTest::Due => "due",
            LaneTest::Testing => "testing",
        }
    }
}

impl LaneRow {
    /// Calls a minute that are in force; `None`: no limit.
    pub fn rate_in_force(&self) -> Option<i32> {
        self.rate_override
            .or(Some(self.rate_per_minute))
            .filter(|rate| *rate > 0)
    }
}

impl Outbox {
    /// Makes sure that a lane exists, and writes its rate limit; shipments have the usual rules there unless
    /// [`Outbox::set_fulfilment`] has said others. Returns its number.
    pub async fn register_lane(&self, lane: &Lane, rate_per_minute: u32) -> Result<LaneId, OutboxError> {
        let rate = i32::try_from(rate_per_minute).unwrap_or(i32::MAX);
        // The second branch sees the row that was there before; an unchanged limit writes nothing. A row that another
        // worker commits at this very moment is seen by neither: this statement's snapshot is older. The next one's is not.
        loop {
            let id = sqlx::query_scalar!(
                r#"with new as (
                   insert into lanes (provider, account, rate_per_minute, release_on, shipment_amount) values ($1, $2, $3, 'shipped', 'explicit')
                   on conflict (provider, account) do update set rate_per_minute = excluded.rate_per_minute,
                           release_on = coalesce(lanes.release_on, excluded.release_on),
                           shipment_amount = coalesce(lanes.shipment_amount, excluded.shipment_amount)
                       where lanes.rate_per_minute <> excluded.rate_per_minute or lanes.release_on is null
                   returning id)
               select id as "id!: LaneId" from new
               union all select id from lanes where provider = $1 and account = $2
               limit 1"#,
                lane.provider,
                lane.account,
                rate
            )
            .fetch_optional(&self.pool)
            .await?;
            if let Some(id) = id {
                return Ok(id);
            }
        }
    }

    /// Writes what a shipment does to the held captures of an account. Before the lane is registered: what it was told until
    /// then is released by no rule at all.
    pub async fn set_fulfilment(&self, lane: &Lane, fulfilment: Fulfilment) -> Result<(), OutboxError> {
        sqlx::query!(
            "insert into lanes (provider, account, release_on, shipment_amount, tell_shipments) values ($1, $2, $3, $4, $5)
             on conflict (provider, account) do update set release_on = excluded.release_on, shipment_amount = excluded.shipment_amount,
                     tell_shipments = excluded.tell_shipments
                 where (lanes.release_on, lanes.shipment_amount, lanes.tell_shipments)
                       is distinct from (excluded.release_on, excluded.shipment_amount, excluded.tell_shipments)",
            lane.provider,
            lane.account,
            fulfilment.release_on.name(),
            fulfilment.amount.name(),
            fulfilment.tell
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// All lanes, by name.
    pub async fn lanes(&self) -> Result<Vec<LaneRow>, OutboxError> {
        let rows = sqlx::query!(
            r#"select l.id as "id: LaneId", l.provider, l.account, l.paused_at, l.paused_by, l.pause_reason, l.rate_per_minute, l.rate_override,
                      l.limited_until, l.unanswered, l.open_until,
                      (select count(*) from ready r where r.lane = l.id) as "ready!",
                      (select count(*) from waiting w where w.lane = l.id) as "waiting!",
                      (select count(*) from leases x, unnest(x.lanes) with ordinality as s(lane, place)
                       where s.lane = l.id and get_bit(x.settled, s.place::integer - 1) = 0) as "leased!",
                      (select count(*) from workers k where l.id = any (k.lanes) and k.heartbeat_at > clock_now() - interval '60 seconds') as "workers!"
               from lanes l order by l.provider, l.account"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| LaneRow {
                id: row.id,
                lane: Lane {
                    provider: row.provider,
                    account: row.account,
                },
                paused: row
                    .paused_at
                    .zip(row.paused_by.zip(row.pause_reason))
                    .map(|(at, (by, why))| (at, by, why)),
                rate_per_minute: row.rate_per_minute,
                rate_override: row.rate_override,
                limited_until: row.limited_until,
                unanswered: row.unanswered,
                open_until: row.open_until,
                ready: row.ready,
                waiting: row.waiting,
                leased: row.leased,
                workers: row.workers,
            })
            .collect())
    }

    /// Pauses or resumes a lane, and writes who and why. False: it already was so.
    pub async fn set_lane_pause(&self, lane: LaneId, paused: bool, stamp: &AuditStamp) -> Result<bool, OutboxError> {
        Ok(sqlx::query_scalar!(
            r#"select set_lane_pause($1, $2, $3, $4) as "changed!""#,
            lane.0,
            paused,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?)
    }
    /// Sets a lane's rate against the workers' settings, or with `None` gives it back to them. False: it already was so.
    pub async fn set_lane_rate(
        &self,
        lane: LaneId,
        rate: Option<i32>,
        stamp: &AuditStamp,
    ) -> Result<bool, OutboxError> {
        Ok(sqlx::query_scalar!(
            r#"select set_lane_rate($1, $2, $3, $4) as "changed!""#,
            lane.0,
            rate,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Lets an open breaker test the provider now.
    pub async fn test_lane(&self, lane: LaneId, stamp: &AuditStamp) -> Result<LaneTest, OutboxError> {
        let said = sqlx::query_scalar!(
            r#"select test_lane($1, $2, $3) as "said!""#,
            lane.0,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?;
        let test = LaneTest::ALL.into_iter().find(|test| test.name() == said);
        test.ok_or(OutboxError::NotUnderstood {
            what: format!("the test '{said}' of a lane"),
        })
    }
}

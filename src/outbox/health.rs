//! What metrics and `doctor` look at; what `status --check` trips over is in `checks.rs`.

use std::time::Duration;

use serde::Serialize;
use sqlx::Row;
use utoipa::ToSchema;

use super::{LaneId, Outbox, OutboxError};
use crate::intent::Lane;

/// The backlog of one lane.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LaneBacklog {
    /// Its number.
    #[serde(skip)]
    pub id: LaneId,
    /// Provider and account.
    #[serde(flatten)]
    pub lane: Lane,
    /// May be claimed now (verifications not counted).
    pub ready: i64,
    /// Scheduled, or in back-off.
    pub waiting: i64,
    /// Held for a release.
    pub held: i64,
    /// Outcome unknown or not final.
    pub unknown: i64,
    /// In a lease.
    pub leased: i64,
    /// Dead letters that nobody has resolved.
    pub dead: i64,
    /// Age of the oldest ready row in seconds.
    pub oldest_ready_s: i64,
    /// Is the breaker open?
    pub breaker_open: bool,
    /// Is it paused?
    pub paused: bool,
}

/// The backlog of all lanes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Backlog {
    /// By provider and account.
    pub lanes: Vec<LaneBacklog>,
}

/// How often two connections are asked for their sessions. One round is enough to meet each other's prepared statements; the
/// others are for a pooler that takes care of those. A worker asks at each start, so they are few.
const LOOKS: u32 = 4;

/// How a server's sessions come to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Each connection keeps its session: no pooler, or one in session mode.
    Kept,
    /// A pooler in transaction mode, which takes care of prepared statements.
    ByTransaction,
    /// A pooler in transaction mode, and prepared statements meet in sessions that they do not belong to.
    Mixed,
}

/// What `doctor` asks the server.
#[derive(Debug, Clone, Serialize)]
pub struct DoctorFacts {
    /// `server_version`.
    pub server_version: String,
    /// `server_version_num`, such as 150014.
    pub server_version_number: i64,
    /// `server_encoding`.
    pub encoding: String,
    /// `fsync`, `full_page_writes`, `synchronous_commit`, as `name=value`.
    pub durability: Vec<String>,
    /// Is this server a standby?
    pub standby: bool,
    /// `max_connections`, and how many are used.
    pub connections: (i64, i64),
    /// Age of the oldest snapshot in seconds: what keeps dead rows alive.
    pub oldest_snapshot_s: i64,
    /// How far the tests' clock is ahead, in ms; 0 in production.
    pub clock_ahead_ms: i64,
    /// This server's clock minus this machine's, in ms.
    pub clock_difference_ms: i64,
    /// Intents that have not ended and are in no place, or in two: must be 0.
    pub misplaced: i64,
    /// Leases that lapsed more than a minute ago: nobody rescues.
    pub lapsed_leases: i64,
    /// Late results with a receipt whose intent is not captured.
    pub unclaimed_receipts: i64,
    /// Events of transactions that this server has not come to: a logical restore brought them, and no reader sees them.
    pub events_ahead: i64,
    /// Two statements of one connection met different servers' sessions: a pooler in transaction mode.
    pub pooled_transactions: bool,
    /// Data checksums.
    pub data_checksums: bool,
}

/// What the role of this connection may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleFacts {
    /// Its name.
    pub role: String,
    /// Is it a superuser?
    pub superuser: bool,
    /// May it ask for captures?
    pub may_enqueue: bool,
    /// May it look at everything?
    pub may_look: bool,
    /// May it work: claim, settle, keep house?
    pub may_work: bool,
    /// May it replay, resolve, cancel and pause?
    pub may_operate: bool,
}

/// How long outcomes of a lane have been unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldestUnknown {
    /// Provider and account.
    pub lane: Lane,
    /// Since when, in seconds.
    pub age_s: i64,
}

impl Outbox {
    /// The oldest unknown outcome of each lane that has one.
    pub async fn oldest_unknown(&self) -> Result<Vec<OldestUnknown>, OutboxError> {
        let rows = sqlx::query!(
            r#"select i.provider, i.account, extract(epoch from clock_now() - min(p.unknown_since))::bigint as "age_s!"
               from progress p join intents i on i.id = p.intent
               where p.unknown_since is not null and not exists (select from outcomes o where o.intent = p.intent)
               group by i.provider, i.account"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| OldestUnknown {
                lane: Lane {
                    provider: row.provider,
                    account: row.account,
                },
                age_s: row.age_s,
            })
            .collect())
    }

    /// What this connection's role may do here. Asks the catalogue only, so that any role may ask.
    pub async fn role_facts(&self) -> Result<RoleFacts, OutboxError> {
        let row = sqlx::query!(
            r#"with mine as (
                   select p.proname, has_function_privilege(p.oid, 'execute') as may
                   from pg_proc p where p.pronamespace = to_regnamespace(quote_ident($1)))
               select current_user::text as "role!", current_setting('is_superuser') = 'on' as "superuser!",
                      coalesce(has_schema_privilege(to_regnamespace(quote_ident($1)), 'usage'), false) as "usage!",
                      coalesce(has_table_privilege(to_regclass('intents'), 'insert'), false) as "may_insert!",
                      coalesce((select bool_and(has_table_privilege(c.oid, 'select')) from pg_class c
                                where c.relnamespace = to_regnamespace(quote_ident($1)) and c.relkind in ('r', 'v', 'p')
                                  -- Webhooks' secrets nobody may, the bytes of shipments only operators.
                                   and c.relname not in ('shipment_bodies', 'webhook_secrets')), false) as "may_look!",
                      coalesce((select bool_and(may) from mine where proname in
                          ('claim', 'give_back', 'settle', 'rescue', 'move_due', 'take_shipments', 'match_releases', 'watch_deadlines', 'watch_dead_letters', 'tell_deadlines', 'assume_deadlines',
                            'watch_shipments')), false) as "may_work!",
                      coalesce((select bool_and(may) from mine where proname in ('replay', 'resolve', 'cancel', 'set_lane_pause', 'left_of_split')), false) as "may_operate!""#,
            self.schema
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(RoleFacts {
            role: row.role,
            superuser: row.superuser,
            may_enqueue: row.usage && row.may_insert,
            may_look: row.usage && row.may_look,
            may_work: row.usage && row.may_work,
            may_operate: row.usage && row.may_operate,
        })
    }

    /// The backlog by lane: for gauges. Reads only open rows and dead letters, through indexes.
    pub async fn backlog(&self) -> Result<Backlog, OutboxError> {
        let rows = sqlx::query!(
            r#"select l.id as "id: LaneId", l.provider, l.account, l.paused_at is not null as "paused!",
                      coalesce(l.open_until > clock_now(), false) as "breaker_open!",
                      r.ready as "ready!", r.unknown + w.unknown as "unknown!", w.waiting as "waiting!", w.held as "held!",
                      (select count(*) from leases x, unnest(x.lanes) with ordinality as s(lane, place)
                       where s.lane = l.id and get_bit(x.settled, s.place::integer - 1) = 0) as "leased!",
                      coalesce(d.n, 0) as "dead!",
                      coalesce(extract(epoch from clock_now() - r.oldest), 0)::bigint as "oldest_ready_s!"
               from lanes l
               cross join lateral (select count(*) filter (where purpose < 2) as ready, count(*) filter (where purpose = 2) as unknown, min(since) as oldest
                                   from ready where ready.lane = l.id) r
               cross join lateral (select count(*) filter (where purpose < 2 and cause <> 'held') as waiting, count(*) filter (where cause = 'held') as held,
                                          count(*) filter (where purpose = 2) as unknown
                                   from waiting where waiting.lane = l.id) w
               left join (select o.lane, count(*) as n from outcomes o
                          where o.state = 'dead' and o.last_code is distinct from 'resolved_not_captured' group by o.lane) d on d.lane = l.id
               order by l.provider, l.account"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Backlog {
            lanes: rows
                .into_iter()
                .map(|row| LaneBacklog {
                    id: row.id,
                    lane: Lane {
                        provider: row.provider,
                        account: row.account,
                    },
                    ready: row.ready,
                    waiting: row.waiting,
                    held: row.held,
                    unknown: row.unknown,
                    leased: row.leased,
                    dead: row.dead,
                    oldest_ready_s: row.oldest_ready_s,
                    breaker_open: row.breaker_open,
                    paused: row.paused,
                })
                .collect(),
        })
    }

    /// Counts by state. Dead letters that a person resolved as not captured are closed: they count apart, as `resolved`.
    pub async fn counts(&self) -> Result<Vec<(String, i64)>, OutboxError> {
        let rows = sqlx::query!(
            r#"select state as "state!", count(*) as "n!" from (
                   select case when purpose = 2 then 'verifying' else 'ready' end as state from ready
                   union all
                   select case when purpose = 2 then 'verifying' when cause = 'held' then 'held' else 'scheduled' end from waiting
                   union all
                   select 'leased' from leases x, unnest(x.intents) with ordinality as s(intent, place) where get_bit(x.settled, s.place::integer - 1) = 0
                   union all
                   select case when state = 'dead' and last_code = 'resolved_not_captured' then 'resolved' else state end from outcomes
               ) everywhere group by state"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.state, row.n)).collect())
    }

    /// What `doctor` looks at.
    pub async fn doctor_facts(&self) -> Result<DoctorFacts, OutboxError> {
        let row = sqlx::query!(
            r#"select current_setting('server_version') as "server_version!", current_setting('server_version_num')::bigint as "server_version_number!",
                      current_setting('server_encoding') as "encoding!", pg_is_in_recovery() as "standby!",
                      current_setting('fsync') as "fsync!", current_setting('full_page_writes') as "full_page_writes!",
                      current_setting('synchronous_commit') as "synchronous_commit!", current_setting('data_checksums') = 'on' as "data_checksums!",
                      current_setting('max_connections')::bigint as "max_connections!", (select count(*) from pg_stat_activity where backend_type = 'client backend') as "connections!",
                      coalesce((select extract(epoch from max(now() - xact_start))::bigint from pg_stat_activity where backend_xmin is not null and pid <> pg_backend_pid()), 0) as "oldest_snapshot_s!",
                      (select (extract(epoch from coalesce(stands_at - clock_timestamp(), ahead)) * 1000)::bigint from clock) as "clock_ahead_ms!",
                      (select count(*) from leases where until < clock_now() - interval '1 minute') as "lapsed_leases!",
                      (select count(*) from late_results t left join outcomes o on o.intent = t.intent where t.proof in ('answer', 'reference') and coalesce(o.state, '') <> 'captured') as "unclaimed_receipts!",
                      (select count(*) from events e where e.xid >= pg_snapshot_xmax(pg_current_snapshot())) as "events_ahead!",
                      (select count(*) from intents i
                       where (select count(*) from ready r where r.intent = i.id) + (select count(*) from waiting w where w.intent = i.id)
                           + (select count(*) from outcomes o where o.intent = i.id)
                           + (select count(*) from leases x, unnest(x.intents) with ordinality as s(intent, place)
                              where s.intent = i.id and get_bit(x.settled, s.place::integer - 1) = 0) <> 1) as "misplaced!""#
        )
        .fetch_one(&self.pool)
        .await?;
        // By a question of its own: the one above may take long.
        let asked_at = chrono::Utc::now();
        let clock = self.now().await?;
        let asking = chrono::Utc::now() - asked_at;
        Ok(DoctorFacts {
            server_version: row.server_version,
            server_version_number: row.server_version_number,
            encoding: row.encoding,
            durability: vec![
                format!("fsync={}", row.fsync),
                format!("full_page_writes={}", row.full_page_writes),
                format!("synchronous_commit={}", row.synchronous_commit),
            ],
            standby: row.standby,
            connections: (row.max_connections, row.connections),
            oldest_snapshot_s: row.oldest_snapshot_s,
            clock_ahead_ms: row.clock_ahead_ms,
            clock_difference_ms: (clock - asked_at - asking / 2).num_milliseconds() - row.clock_ahead_ms,
            misplaced: row.misplaced,
            lapsed_leases: row.lapsed_leases,
            unclaimed_receipts: row.unclaimed_receipts,
            events_ahead: row.events_ahead,
            pooled_transactions: self.pooling().await? != Pooling::Kept,
            data_checksums: row.data_checksums,
        })
    }

    /// How this connection's sessions are lent. Two connections that are open at the same time have one session between
    /// them, or one has several: a pooler in transaction mode stands between, and lends sessions by the transaction.
    pub async fn pooling(&self) -> Result<Pooling, OutboxError> {
        let mut one = self.connect_alone().await?;
        let mut other = self.connect_alone().await?;
        let mut sessions = std::collections::BTreeSet::new();
        for _ in 0..LOOKS {
            for connection in [&mut one, &mut other] {
                let asked = sqlx::query_scalar!(r#"select pg_backend_pid() as "pid!""#);
                match asked.fetch_one(connection).await {
                    Ok(pid) => sessions.insert(pid),
                    Err(error) => {
                        let error = OutboxError::from(error);
                        let mixed = error.refusal().is_some_and(|refusal| refusal.mixes_sessions());
                        return if mixed { Ok(Pooling::Mixed) } else { Err(error) };
                    }
                };
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(match sessions.len() {
            2 => Pooling::Kept,
            _ => Pooling::ByTransaction,
        })
    }

    /// What a connection has not, of what it asked for: `lock_timeout is 0, not 10s`. A pooler that drops the connection's
    /// options does that.
    pub async fn settings_not_granted(&self) -> Result<Vec<String>, OutboxError> {
        let mut connection = self.connect_alone().await?;
        let settings = super::SESSION.map(|(name, _)| format!("current_setting('{name}')"));
        // Not prepared: a pooler in transaction mode might not find it again.
        let sql = sqlx::AssertSqlSafe(format!("select {}", settings.join(", ")));
        let row = sqlx::raw_sql(sql).fetch_one(&mut connection).await?;
        let mut missing = Vec::new();
        for (column, (name, asked)) in super::SESSION.into_iter().enumerate() {
            let has: String = row.try_get(column)?;
            if has != asked {
                missing.push(format!("{name} is {has}, not {asked}"));
            }
        }
        Ok(missing)
    }

    /// Refuses a pooler whose sessions do not have the statements that this program prepared: sooner or later every
    /// statement fails through it. One that lends sessions by the transaction and repeats what was prepared is told of.
    pub async fn check_pooling(&self) -> Result<(), OutboxError> {
        match self.pooling().await? {
            Pooling::Kept => Ok(()),
            Pooling::ByTransaction => {
                tracing::warn!(
                    "a pooler in transaction mode stands between: this worker is never notified, and polls instead"
                );
                Ok(())
            }
            Pooling::Mixed => Err(OutboxError::MixedSessions),
        }
    }
}

//! The same outbox twice, at the same frozen time.

use std::collections::{BTreeMap, BTreeSet};

use capture::intent::{IntentId, Lane};
use capture::outbox::Outbox;
use capture::outbox::memory::{ReadyKey, Tables};
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use sqlx::Row;
use uuid::Uuid;

use crate::database::{Session, connect, migrated_database};
use crate::lines;
use crate::operation::{Answer, Operation};

pub const LANES: [(&str, &str); 2] = [("optty", "north"), ("optty", "south")];

pub fn lane(n: usize) -> Lane {
    Lane {
        provider: LANES[n].0.to_owned(),
        account: LANES[n].1.to_owned(),
    }
}

/// Far from the real time, which decides what deadlines an insert may have.
pub fn dawn() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2100, 1, 1, 0, 0, 0).unwrap()
}

pub struct Twins {
    pub url: String,
    pub tables: Tables,
    pub outbox: Outbox,
    pub db: Session,
    pub now: DateTime<Utc>,
}

/// A session that finds our names.
pub async fn session(url: &str) -> Session {
    let mut session = Session::open(url).await;
    session.run("set search_path = capture, pg_temp").await;
    session
}

impl Twins {
    pub async fn new() -> Twins {
        let url = migrated_database().await;
        let mut db = session(&url).await;
        db.run(&format!(
            "update clock set stands_at = 'epoch';
             create function us(at timestamptz) returns text language sql stable
                 as $$ select case when isfinite(at) then (extract(epoch from at) * 1000000)::bigint::text end $$;
             -- A function whose plan is kept: planning it costs more than running it.
             create function lines() returns setof text language plpgsql as $lines$ begin return query {}; end $lines$",
            lines::query()
        ))
        .await;
        let outbox = connect(&url).await;
        let mut twins = Twins {
            url,
            tables: Tables::new(),
            outbox,
            db,
            now: dawn(),
        };
        twins.clear().await;
        twins
    }

    /// An empty outbox with two lanes.
    pub async fn clear(&mut self) {
        // What is append-only refuses even this, unless its triggers are off.
        let tables = [
            "intents",
            "ready",
            "waiting",
            "leases",
            "progress",
            "attempts_apart",
            "outcomes",
            "late_results",
            "deadlines",
            "cancel_requests",
            "releases",
            "events",
            "audit",
        ];
        let empty = tables.map(|table| format!("delete from {table};")).concat();
        self.db
            .run(&format!(
                "set session_replication_role = replica; {empty} set session_replication_role = origin;
                 update lanes set paused_at = null, paused_by = null, pause_reason = null, rate_per_minute = 0,
                                  budget_spent_until = '-infinity', limited_until = null, unanswered = 0, open_until = null,
                                  open_ms = 0, testing = false;
                 update epoch set number = 1, timeline = server_timeline(), began_at = '-infinity'"
            ))
            .await;
        self.tables = Tables::new();
        self.now = dawn();
        self.pass(TimeDelta::zero()).await;
        for n in 0..LANES.len() {
            let ours = self.tables.register_lane(&lane(n), 0);
            assert_eq!(ours, self.outbox.register_lane(&lane(n), 0).await.unwrap());
        }
    }

    /// Both clocks go on.
    pub async fn pass(&mut self, time: TimeDelta) {
        self.now += time;
        self.db
            .run(&format!("update clock set stands_at = '{}'", self.now.to_rfc3339()))
            .await;
    }

    /// The same operation on both; their answers and their tables must be the same.
    pub async fn both(&mut self, operation: &Operation) -> Answer {
        let before: BTreeSet<IntentId> = self.tables.ready.values().map(|row| row.intent).collect();
        let ours = operation.apply(&mut self.tables, self.now);
        let theirs = operation.ask(&self.outbox, &mut self.db).await;
        assert_eq!(
            ours, theirs,
            "memory and Postgres answered differently to {operation:#?}"
        );
        self.adopt_order(&before).await;
        self.compare(operation).await;
        let faults = self.tables.faults();
        assert!(faults.is_empty(), "{faults:#?} after {operation:#?}");
        ours
    }

    /// Among rows that one statement made ready, Postgres chooses the order: memory takes it over. All others keep theirs.
    async fn adopt_order(&mut self, before: &BTreeSet<IntentId>) {
        let new = |intent: &IntentId| !before.contains(intent);
        if self.tables.ready.values().filter(|row| new(&row.intent)).count() < 2 {
            return;
        }
        let rows = self.db.rows("select intent, seq from ready").await;
        let seqs: BTreeMap<IntentId, i64> = rows
            .iter()
            .map(|row| (IntentId(row.get::<Uuid, _>(0)), row.get(1)))
            .collect();
        let (old, fresh): (Vec<_>, Vec<_>) = seqs.iter().partition(|(intent, _)| !new(intent));
        let last = old.iter().map(|(_, seq)| **seq).max().unwrap_or(-1);
        assert!(
            fresh.iter().all(|(_, seq)| **seq > last),
            "what came later stands before"
        );
        self.tables.ready = std::mem::take(&mut self.tables.ready)
            .into_iter()
            .map(|(key, row)| {
                let seq = seqs.get(&row.intent).copied().unwrap_or(key.seq);
                (ReadyKey { seq, ..key }, row)
            })
            .collect();
    }

    /// All tables as they are in Postgres.
    pub async fn lines(&mut self) -> Vec<String> {
        let mut lines: Vec<String> = self.db.column("select lines()").await;
        lines.sort_unstable();
        lines
    }

    async fn compare(&mut self, operation: &Operation) {
        let (ours, theirs) = (lines::of(&self.tables), self.lines().await);
        if ours != theirs {
            let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (ours.into_iter().collect(), theirs.into_iter().collect());
            panic!(
                "at {} after {operation:#?}\nonly in memory: {:#?}\nonly in Postgres: {:#?}",
                self.now.timestamp_micros(),
                ours.difference(&theirs).collect::<Vec<_>>(),
                theirs.difference(&ours).collect::<Vec<_>>()
            );
        }
    }
}

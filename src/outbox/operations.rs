//! Operations: one act on many captures, as a frozen list that is worked off in steps. What is decided about each capture
//! is decided in the room `operations`; here is what is read and written. The steps are in
//! `migrations/0007_operations.sql`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AuditStamp, Outbox, OutboxError, repeating};
use crate::intent::Lane;

/// An operation, as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OperationRow {
    /// Which.
    pub id: Uuid,
    /// `replay`, `cancel` or `resolve`.
    pub act: String,
    /// What else was asked: `also_resolved`; `captured` and `evidence`.
    pub detail: Value,
    /// The filter that its captures were chosen by.
    pub filter: Option<Value>,
    /// `running`, `paused`, `cancelled`, `stopped` or `done`.
    pub state: String,
    /// Captures on its list.
    pub total: i64,
    /// Acted on.
    pub done: i64,
    /// Left alone, each with its reason.
    pub skipped: i64,
    /// Refused.
    pub failed: i64,
    /// Of the replayed ones: ended since.
    pub ended: i64,
    /// And of these, dead once more.
    pub dead_again: i64,
    /// Acts a second, at most.
    pub rate_per_second: i32,
    /// It stops itself when more than so many of a hundred fail.
    pub stop_at_percent: i16,
    /// Who began it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Since when it acts no more.
    pub ended_at: Option<DateTime<Utc>>,
    /// What was said of it last: by whom it was paused, why it stopped.
    pub last_word: Option<String>,
    /// How long it goes on at its rate, if it runs.
    pub seconds_left: Option<i64>,
}

impl OperationRow {
    /// Items without a verdict.
    pub fn not_done(&self) -> i64 {
        self.total - self.done - self.skipped - self.failed
    }

    /// Does it act no more, whatever anybody does?
    pub fn is_over(&self) -> bool {
        self.ended_at.is_some()
    }
}

/// One capture of an operation's list.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OperationItem {
    /// Its place.
    pub n: i64,
    /// Which capture.
    pub intent: Uuid,
    /// `replayed`, `cancelled`, `in_flight`, `resolved`, `skipped`, `moved_meanwhile` or `failed`; `None`: not done.
    pub verdict: Option<String>,
    /// Why, in words.
    pub says: Option<String>,
    /// Under which key or reference it would be sent again.
    pub key: Option<String>,
    /// The generation of that key.
    pub key_generation: Option<i16>,
    /// When the verdict was written.
    pub at: Option<DateTime<Utc>>,
    /// How a replayed one ended again, as far as the operation has looked.
    pub came_to: Option<String>,
}

/// What became of a wish to pause, resume or cancel an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Done.
    Changed,
    /// No such operation.
    NotFound,
    /// Its state does not allow it.
    Forbidden(String),
}

/// What is frozen when an operation begins.
#[derive(Debug, Clone)]
pub struct NewOperation<'a> {
    /// `replay`, `cancel` or `resolve`.
    pub act: &'a str,
    /// What else was asked.
    pub detail: Value,
    /// The filter that the ids were chosen by; then the first to expire go first.
    pub filter: Option<Value>,
    /// The list.
    pub ids: &'a [Uuid],
    /// Acts a second, at most.
    pub rate_per_second: u32,
    /// When it stops itself.
    pub stop_at_percent: u8,
    /// Who, and why.
    pub stamp: &'a AuditStamp,
    /// By which they know it again, and a hash of what they asked for.
    pub request: Option<(&'a str, &'a [u8])>,
}

/// An operation that was begun under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfRequest {
    /// Which.
    pub id: Uuid,
    /// The hash of what was asked for.
    pub hash: Vec<u8>,
}

/// An operation that may act now.
#[derive(Debug, Clone)]
pub struct DueOperation {
    /// Which.
    pub id: Uuid,
    /// `replay`, `cancel` or `resolve`.
    pub act: String,
    /// What else was asked.
    pub detail: Value,
    /// On how many its rate lets it act now.
    pub tokens: i32,
    /// Acts a second, at most.
    pub rate_per_second: i32,
}

/// An item without a verdict, and when its capture had ended as the list was frozen.
#[derive(Debug, Clone, Copy)]
pub struct OpenItem {
    /// Its place.
    pub n: i64,
    /// Which capture.
    pub intent: Uuid,
    /// Its end then; `None`: it had not ended, or was not dead.
    pub mark: Option<DateTime<Utc>>,
    /// How often it was put off.
    pub tries: i16,
}

/// What a step shall do with an item.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PlannedItem {
    /// Its place.
    pub n: i64,
    /// `None`: act. Else this verdict is written, and nothing done.
    pub verdict: Option<&'static str>,
    /// In words.
    pub says: Option<String>,
    /// See `ReplayPlan`.
    pub fresh_key: bool,
    /// The generation that the next send would carry.
    pub generation: Option<i16>,
    /// Under which key or reference.
    pub key: Option<String>,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stepped {
    /// The operation's state after it; `busy`: another driver is at it.
    pub state: String,
    /// Captures acted on.
    pub acted: i32,
    /// Verdicts written.
    pub written: i32,
}

impl Outbox {
    /// Freezes the list and begins. A list of a million ids takes longer than a server that answers people lets its
    /// statements take: the connection may take its time, and is closed after it. Until then it keeps its place in the pool,
    /// so that there are never more than were agreed on.
    pub async fn begin_operation(&self, new: &NewOperation<'_>) -> Result<Uuid, OutboxError> {
        let mut connection = self.pool.acquire().await?;
        // Before anything is set: whoever is dropped half-way leaves nothing behind either.
        connection.close_on_drop();
        sqlx::query!("set statement_timeout = '5min'")
            .execute(&mut *connection)
            .await?;
        Ok(sqlx::query_scalar!(
            r#"select begin_operation($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) as "id!""#,
            new.act,
            new.detail,
            new.filter,
            new.ids,
            i32::try_from(new.rate_per_second).unwrap_or(i32::MAX),
            i16::from(new.stop_at_percent),
            new.stamp.actor,
            new.stamp.reason,
            new.request.map(|(key, _)| key),
            new.request.map(|(_, hash)| hash)
        )
        .fetch_one(&mut *connection)
        .await?)
    }

    /// The operation that this actor has begun under that key.
    pub async fn operation_of_request(&self, actor: &str, key: &str) -> Result<Option<OfRequest>, OutboxError> {
        Ok(sqlx::query_as!(
            OfRequest,
            r#"select id, request_hash as "hash!" from operations where actor = $1 and request_key = $2"#,
            actor,
            key
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// One operation.
    pub async fn operation(&self, id: Uuid) -> Result<Option<OperationRow>, OutboxError> {
        Ok(sqlx::query_as!(
            OperationRow,
            r#"select id, act, detail, filter, state, total, done, skipped, failed, ended, dead_again, rate_per_second, stop_at_percent, actor, reason,
                      created_at, ended_at, last_word,
                      case when state = 'running' then (total - done - skipped - failed + rate_per_second - 1) / rate_per_second end as seconds_left
               from operations where id = $1"#,
            id
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Operations, the newest first; `before`: older than that one.
    pub async fn operations(&self, before: Option<Uuid>, limit: i64) -> Result<Vec<OperationRow>, OutboxError> {
        Ok(sqlx::query_as!(
            OperationRow,
            r#"select id, act, detail, filter, state, total, done, skipped, failed, ended, dead_again, rate_per_second, stop_at_percent, actor, reason,
                      created_at, ended_at, last_word,
                      case when state = 'running' then (total - done - skipped - failed + rate_per_second - 1) / rate_per_second end as seconds_left
               from operations where $1::uuid is null or id < $1
               order by id desc limit $2"#,
            before,
            limit
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Its list, from `after_n` on. `only_not_done`: what was not acted on: without a verdict, skipped, moved or failed.
    pub async fn operation_items(
        &self,
        id: Uuid,
        after_n: i64,
        limit: i64,
        only_not_done: bool,
    ) -> Result<Vec<OperationItem>, OutboxError> {
        Ok(sqlx::query_as!(
            OperationItem,
            "select n, intent, verdict, says, key, key_generation, at, came_to from operation_items
             where operation = $1 and n > $2
               and (not $4 or verdict is null or verdict in ('skipped', 'moved_meanwhile', 'failed'))
             order by n limit $3",
            id,
            after_n,
            limit,
            only_not_done
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Lets it rest until it is resumed.
    pub async fn pause_operation(&self, id: Uuid, stamp: &AuditStamp) -> Result<Changed, OutboxError> {
        self.set_operation_state(id, "paused", &["running"], stamp).await
    }

    /// Lets a paused one go on.
    pub async fn resume_operation(&self, id: Uuid, stamp: &AuditStamp) -> Result<Changed, OutboxError> {
        self.set_operation_state(id, "running", &["paused"], stamp).await
    }

    /// Ends it. What was done stays done; the rest is not done.
    pub async fn cancel_operation(&self, id: Uuid, stamp: &AuditStamp) -> Result<Changed, OutboxError> {
        self.set_operation_state(id, "cancelled", &["running", "paused"], stamp)
            .await
    }

    async fn set_operation_state(
        &self,
        id: Uuid,
        state: &str,
        from: &[&str],
        stamp: &AuditStamp,
    ) -> Result<Changed, OutboxError> {
        let before = repeating(|| {
            sqlx::query_scalar!(
                "select set_operation_state($1, $2, $3, $4)",
                id,
                state,
                stamp.actor,
                stamp.reason
            )
            .fetch_one(&self.pool)
        })
        .await?;
        Ok(match before {
            None => Changed::NotFound,
            Some(before) if from.contains(&before.as_str()) => Changed::Changed,
            Some(before) => Changed::Forbidden(before),
        })
    }

    /// Operations that run, and on how many captures each may act now. One look at an index if there are none.
    pub async fn running_operations(&self) -> Result<Vec<DueOperation>, OutboxError> {
        Ok(sqlx::query_as!(
            DueOperation,
            r#"select o.id, o.act, o.detail, operation_tokens(o, clock_now()) as "tokens!", o.rate_per_second
               from operations o where o.state = 'running' order by o.id"#
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The next items without a verdict. `lanes`: only of captures of these, and of those that there are not.
    pub async fn open_items(
        &self,
        operation: Uuid,
        limit: i64,
        lanes: Option<&[Lane]>,
    ) -> Result<Vec<OpenItem>, OutboxError> {
        let names = |name: fn(&Lane) -> &String| lanes.map(|lanes| lanes.iter().map(name).cloned().collect::<Vec<_>>());
        let (providers, accounts) = (names(|lane| &lane.provider), names(|lane| &lane.account));
        Ok(sqlx::query_as!(
            OpenItem,
            "select t.n, t.intent, t.mark, t.tries
             from operation_items t left join intents i on i.id = t.intent
             where t.operation = $1 and t.verdict is null and (t.again_at is null or t.again_at <= (select clock_now()))
               and ($3::text[] is null or i.id is null or (i.provider, i.account) in (select * from unnest($3, $4::text[])))
             order by t.n limit $2",
            operation,
            limit,
            providers.as_deref(),
            accounts.as_deref()
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// One step: acts on these items as far as the rate allows, and writes their verdicts, all or nothing.
    pub async fn operation_step(&self, operation: Uuid, items: &[PlannedItem]) -> Result<Stepped, OutboxError> {
        let items = serde_json::to_value(items).unwrap_or_default();
        Ok(repeating(|| {
            sqlx::query_as!(
                Stepped,
                r#"select state as "state!", acted as "acted!", written as "written!" from operation_step($1, $2)"#,
                operation,
                items
            )
            .fetch_one(&self.pool)
        })
        .await?)
    }

    /// Leaves an item without a verdict, for a later turn.
    pub async fn put_off_item(&self, operation: Uuid, n: i64, says: &str) -> Result<(), OutboxError> {
        repeating(|| sqlx::query!("select put_off_item($1, $2, $3)", operation, n, says).execute(&self.pool)).await?;
        Ok(())
    }

    /// Counts what became of the captures that operations have replayed which act no more; returns of how many operations
    /// the counts changed.
    pub async fn watch_replayed(&self) -> Result<i32, OutboxError> {
        Ok(repeating(|| sqlx::query_scalar!(r#"select watch_replayed() as "changed!""#).fetch_one(&self.pool)).await?)
    }

    /// An operator's cancel of one capture: `cancelled`, `in_flight` or `ended`, with a line of audit.
    pub async fn cancel_by(&self, intent: Uuid, stamp: &AuditStamp) -> Result<String, OutboxError> {
        Ok(repeating(|| {
            sqlx::query_scalar!(
                r#"select cancel_by($1, $2, $3) as "said!""#,
                intent,
                stamp.actor,
                stamp.reason
            )
            .fetch_one(&self.pool)
        })
        .await?)
    }
}

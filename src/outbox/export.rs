//! The audit trail from its beginning, a page at a time: for exports of any size.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Outbox, OutboxError};

/// One act of a person, with its lane by name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditLine {
    /// Its number; also where to go on.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// Why.
    pub reason: String,
    /// The capture, if it was about one.
    pub intent: Option<Uuid>,
    /// The lane, if it was about one.
    pub lane: Option<String>,
    /// By action.
    pub detail: Value,
}

impl Outbox {
    /// The acts behind that number, the oldest first.
    pub async fn audit_after(&self, after: i64, limit: u32) -> Result<Vec<AuditLine>, OutboxError> {
        Ok(sqlx::query_as!(
            AuditLine,
            r#"select a.id, a.at, a.actor, a.action, a.reason, a.intent, l.provider || '/' || l.account as lane, a.detail
               from audit a left join lanes l on l.id = a.lane
               where a.id > $1 order by a.id limit $2"#,
            after,
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

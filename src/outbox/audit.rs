//! The audit: what operators did, append-only, as a chain of hashes. The chain and its check are in
//! `migrations/0007_operations.sql`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Outbox, OutboxError};

/// Who does something, and why; written with it.
#[derive(Debug, Clone)]
pub struct AuditStamp {
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// One act.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AuditRow {
    /// Its number in the chain: from 1 on, without gaps.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What: `replay`, `resolve`, `cancel`, `lane pause`, `operation begin` and so on.
    pub action: String,
    /// Why.
    pub reason: String,
    /// On which capture.
    pub intent: Option<Uuid>,
    /// On which lane, `provider/account`.
    pub lane: Option<String>,
    /// As part of which operation.
    pub operation: Option<Uuid>,
    /// What it was before, and what else was said.
    pub detail: Value,
    /// The hash of this row and of the hash before it, in hex.
    pub hash: String,
}

/// What a check of the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditVerdict {
    /// Rows that are as they were written, up to the fault or to the end.
    pub rows: i64,
    /// The hash of the last of them, in hex; empty: there is none. Kept elsewhere, it proves later that nothing up to here
    /// was rewritten.
    pub head: String,
    /// The first thing that is wrong.
    pub fault: Option<AuditFault>,
    /// The row that has the hash that was expected.
    pub expected: Option<i64>,
}

/// Where the chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditFault {
    /// The number of the row that was altered, removed, replaced or inserted; the first one that is missing of a tail that
    /// was cut. `None`: no row of it, but the hash that was expected.
    pub row: Option<i64>,
    /// What was done to it.
    pub says: String,
}

/// Rows that are reckoned again in one statement.
const PAGE: i32 = 5_000;

impl Outbox {
    /// What operators did, the newest first; `before`: older than the row of that number.
    pub async fn audit(
        &self,
        before: Option<i64>,
        limit: i64,
        intent: Option<Uuid>,
        operation: Option<Uuid>,
    ) -> Result<Vec<AuditRow>, OutboxError> {
        Ok(sqlx::query_as!(
            AuditRow,
            r#"select a.id, a.at, a.actor, a.action, a.reason, a.intent, l.provider || '/' || l.account as lane, a.operation, a.detail,
                      encode(a.hash, 'hex') as "hash!"
               from audit a left join lanes l on l.id = a.lane
               where ($1::bigint is null or a.id < $1)
                 and ($3::uuid is null or a.intent = $3)
                 and ($4::uuid is null or a.operation = $4)
               order by a.id desc
               limit $2"#,
            before,
            limit,
            intent,
            operation
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Reckons the whole chain again, a page at a time. `expect`: a hash, in hex, that some row must have.
    pub async fn verify_audit(&self, expect: Option<&str>) -> Result<AuditVerdict, OutboxError> {
        self.verify_audit_in_pages(expect, PAGE).await
    }

    /// As [`Outbox::verify_audit`], with pages of that size.
    pub async fn verify_audit_in_pages(&self, expect: Option<&str>, page: i32) -> Result<AuditVerdict, OutboxError> {
        let expected_hash = expect.map(|hash| hash.trim().to_ascii_lowercase());
        let mut after = (0, Vec::new());
        let mut verdict = AuditVerdict {
            rows: 0,
            head: String::new(),
            fault: None,
            expected: None,
        };
        loop {
            let row = sqlx::query!(
                r#"select checked as "checked!", last_id as "last_id!", last_hash as "last_hash!", fault, fault_id, expected_id
                   from verify_audit($1, $2, $3, decode($4, 'hex'))"#,
                after.0,
                after.1,
                page,
                expected_hash
            )
            .fetch_one(&self.pool)
            .await?;
            verdict.rows += row.checked;
            verdict.expected = verdict.expected.or(row.expected_id);
            verdict.head = hex(&row.last_hash);
            if let Some(fault) = row.fault {
                let at = row.fault_id.unwrap_or(0);
                verdict.fault = Some(AuditFault {
                    row: Some(at),
                    says: said_of(&fault, at),
                });
                return Ok(verdict);
            }
            if row.checked < i64::from(page) {
                break;
            }
            after = (row.last_id, row.last_hash);
        }
        if let (Some(hash), None) = (expected_hash, verdict.expected) {
            verdict.fault = Some(AuditFault {
                row: None,
                says: format!(
                    "no row has the hash {hash}: the chain was rewritten since that hash was noted, or it is another outbox's"
                ),
            });
        }
        Ok(verdict)
    }
}

fn said_of(fault: &str, row: i64) -> String {
    match fault {
        "removed" => format!("row {row} was removed: the row after it is there"),
        "altered" => format!("row {row} was altered: its content is not what its hash was made of"),
        "replaced" => format!("row {row} was replaced: the chain goes on from another row {row}"),
        "inserted" => format!("row {row} was inserted: the chain has never had it"),
        "cut" => format!("row {row} and what followed it were removed: the chain once went on"),
        other => format!("row {row}: {other}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

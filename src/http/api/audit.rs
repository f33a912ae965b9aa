//! `/v1/audit`: who did what, when and why, and whether that was rewritten.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::rows;
use crate::http::caller::{Allowed, ToRead};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{AuditRow, AuditVerdict};

/// How long a check of the chain may take.
const LONGEST_CHECK: Duration = Duration::from_secs(60);

/// Acts, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// Those of this page.
    acts: Vec<AuditRow>,
    /// Give it as `cursor` for the next page; null: that was all.
    next: Option<String>,
}

/// Who did what, when and why, the newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", operation_id = "list_audit", security(("key" = ["read"])),
    params(
        ("capture" = Option<Uuid>, Query, description = "Only acts on this capture"),
        ("operation" = Option<Uuid>, Query, description = "Only acts of this operation"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before", pattern = "^a[1-9][0-9]{0,17}$"),
        ("limit" = Option<u32>, Query, description = "Rows of a page; 50 unless given", minimum = 1, maximum = 200)),
    responses((status = 200, body = AuditPage)))]
pub async fn list(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    mut parameters: Parameters,
) -> Result<Json<AuditPage>, Problem> {
    let capture = parameters.id("capture")?;
    let operation = parameters.id("operation")?;
    let before = match parameters.take("cursor")? {
        None => None,
        Some(text) => Some(before(&text)?),
    };
    let limit = rows(&mut parameters)?;
    parameters.none_left(&["capture", "operation", "cursor", "limit"])?;
    // One more than asked for tells whether there is a next page.
    let mut acts = office
        .outbox
        .audit(before, i64::from(limit) + 1, capture, operation)
        .await?;
    let whole = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = acts.len() > whole;
    acts.truncate(whole);
    let next = acts.last().filter(|_| more).map(|row| format!("a{}", row.id));
    Ok(Json(AuditPage { acts, next }))
}

/// Reckons the whole chain of hashes again. 200 tells of a broken chain too: look at `fault`.
#[utoipa::path(get, path = "/v1/audit/verification", tag = "audit", operation_id = "verify_audit", security(("key" = ["read"])),
    params(("expect" = Option<String>, Query, description = "A hash, such as a `head` that was kept elsewhere, that some row must have",
        pattern = "^[0-9a-f]{64}$")),
    responses((status = 200, body = AuditVerdict)))]
pub async fn verify(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    mut parameters: Parameters,
) -> Result<Json<AuditVerdict>, Problem> {
    let expect = parameters.take("expect")?;
    parameters.none_left(&["expect"])?;
    if let Some(hash) = &expect
        && !(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err(Problem::bad_request("query_not_understood", "expect is no hash")
            .hint("write the 64 hexadecimal digits of a `head`")
            .at("?expect"));
    }
    // Page by page, each a statement of its own: other requests get their connections between them.
    let checking = office.outbox.verify_audit(expect.as_deref());
    let verdict = tokio::time::timeout(LONGEST_CHECK, checking).await.map_err(|_| {
        let detail = "the audit is too long to be reckoned again in one request";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "took_too_long", detail)
            .hint("let the command line do it, which takes its time: capture audit verify")
            .again_after(60)
    })??;
    Ok(Json(verdict))
}

fn before(text: &str) -> Result<i64, Problem> {
    let number = text.strip_prefix('a').and_then(|number| number.parse::<i64>().ok());
    number.filter(|number| *number > 0).ok_or_else(|| {
        Problem::unfit("cursor_not_readable", "this is no cursor of the audit")
            .hint("pass `next` of a page as it came, or none to begin at the newest")
            .at("?cursor")
    })
}

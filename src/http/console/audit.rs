//! The audit, and whether its chain is whole.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::fault::Fault;
use super::frame::{Frame, Look, Panel, written};
use super::shown::{Time, address, count};
use super::visitor::Visitor;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{AuditRow, AuditVerdict};

const ROWS: i64 = 50;

/// A chain of at most so many rows is reckoned again each time the page is opened; a longer one when that is asked for.
const SHORT: i64 = 5_000;

/// One act.
pub struct Act {
    /// Its number.
    pub id: String,
    /// When.
    pub at: Time,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// Why.
    pub reason: String,
    /// On which capture.
    pub intent: Option<String>,
    /// On which lane.
    pub lane: Option<String>,
    /// As part of which operation.
    pub operation: Option<String>,
    /// What else was said.
    pub detail: String,
    /// The beginning of its hash.
    pub hash: String,
}

impl Act {
    /// Of a row.
    pub fn of(row: AuditRow) -> Act {
        let detail = match &row.detail {
            serde_json::Value::Null => String::new(),
            serde_json::Value::Object(fields) if fields.is_empty() => String::new(),
            other => other.to_string(),
        };
        Act {
            id: row.id.to_string(),
            at: Time::full(row.at),
            actor: row.actor,
            action: row.action,
            reason: row.reason,
            intent: row.intent.map(|id| id.to_string()),
            lane: row.lane,
            operation: row.operation.map(|id| id.to_string()),
            detail,
            hash: row.hash.chars().take(12).collect(),
        }
    }
}

/// What the chain says.
pub struct Chain {
    whole: bool,
    says: String,
    head: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    acts: Panel<Vec<Act>>,
    chain: Option<Panel<Chain>>,
    about: Option<String>,
    check: String,
    older: Option<String>,
    newest: Option<String>,
}

/// Shows it.
pub async fn page(
    State(office): State<Arc<Office>>,
    visitor: Visitor,
    mut parameters: Parameters,
) -> Result<Response, Fault> {
    let before = parameters.number("before", 1, i64::MAX)?;
    let capture = parameters.id("capture")?;
    let operation = parameters.id("operation")?;
    let verify = parameters.take("verify")?.is_some();
    parameters.none_left(&["before", "capture", "operation", "verify"])?;
    let look = Look::begin(&office.outbox).await?;
    let rows = look.panel(office.outbox.audit(before, ROWS, capture, operation)).await;
    let length = match (before, capture, operation) {
        (None, None, None) => rows.as_ref().ok().map(|(rows, _)| rows.first().map_or(0, |row| row.id)),
        _ => None,
    };
    let chain = match verify || length.is_some_and(|length| length <= SHORT) {
        true => {
            let verdict = look.panel(office.outbox.verify_audit(None)).await;
            Some(verdict.map(|(verdict, at)| (Chain::of(&verdict), at)))
        }
        false => None,
    };
    let ids = [("capture", capture), ("operation", operation)].map(|(name, id)| (name, id.map(|id| id.to_string())));
    let conditions: Vec<(&str, &str)> = ids
        .iter()
        .filter_map(|(name, id)| Some((*name, id.as_deref()?)))
        .collect();
    let with = |pair: (&'static str, &str)| address("/audit", &[conditions.as_slice(), &[pair]].concat());
    let last = rows.as_ref().ok().and_then(|(rows, _)| {
        let full = i64::try_from(rows.len()) == Ok(ROWS);
        rows.last().map(|row| row.id).filter(|id| full && *id > 1)
    });
    let page = AuditPage {
        frame: Frame::new(
            &visitor,
            "Audit",
            "/audit",
            if chain.is_some() { 30 } else { 10 },
            look.now,
        ),
        about: ids
            .iter()
            .find_map(|(name, id)| Some(format!("{name} {}", id.as_deref()?))),
        check: with(("verify", "1")),
        older: last.map(|id| with(("before", &id.to_string()))),
        newest: before.map(|_| address("/audit", &conditions)),
        acts: rows.map(|(rows, at)| (rows.into_iter().map(Act::of).collect(), at)),
        chain,
    };
    written(&page, &page.frame)
}

impl Chain {
    fn of(verdict: &AuditVerdict) -> Chain {
        let says = match &verdict.fault {
            Some(fault) => fault.says.clone(),
            None => format!("{} rows, each as it was written", count(verdict.rows)),
        };
        Chain {
            whole: verdict.fault.is_none(),
            says,
            head: verdict.head.clone(),
        }
    }
}

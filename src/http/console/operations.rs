//! Operations: what an act on many would come to, beginning it, and watching it.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use uuid::Uuid;

use super::audit::Act as AuditLine;
use super::fault::Fault;
use super::frame::{Frame, Look, Panel, written};
use super::shown::{Time, captures, count, span, tone_of_state};
use super::visitor::{Sent, Visitor};
use crate::api_key::Scope;
use crate::http::caller::may_resume;
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{Changed, OperationItem, OperationRow};

const ROWS: i64 = 50;

/// How far an operation is.
pub struct Progress {
    /// Which.
    pub id: String,
    /// `Replay of 4,102 captures`.
    pub title: String,
    /// Its state.
    pub state: String,
    /// The state's tone.
    pub tone: &'static str,
    /// Captures on its list.
    pub total: i64,
    /// Those with a verdict.
    pub judged: i64,
    /// `40 %`.
    pub percent: String,
    /// Figures in words.
    pub words: String,
    /// Who began it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created: Time,
    /// What was said of it last.
    pub last_word: String,
}

impl Progress {
    /// Of an operation.
    pub fn of(row: &OperationRow) -> Progress {
        let judged = row.total - row.not_done();
        let act = match row.act.as_str() {
            "replay" => "Replay",
            "cancel" => "Cancel",
            "resolve" => "Resolve",
            other => other,
        };
        let mut words = vec![
            format!("{} of {}", count(judged), count(row.total)),
            format!("{} done", count(row.done)),
            format!("{} skipped", count(row.skipped)),
            format!("{} failed", count(row.failed)),
        ];
        if row.ended > 0 {
            words.push(format!(
                "{} ended again, {} of them dead",
                count(row.ended),
                count(row.dead_again)
            ));
        }
        words.push(format!("{} a second", count(row.rate_per_second)));
        words.extend(
            row.seconds_left
                .filter(|left| *left > 0)
                .map(|left| format!("{} left", span(left))),
        );
        Progress {
            id: row.id.to_string(),
            title: format!("{act} of {}", captures(row.total)),
            state: row.state.clone(),
            tone: tone_of_state(&row.state),
            total: row.total,
            judged,
            percent: match row.total {
                0 => "100 %".to_owned(),
                total => format!("{} %", judged.saturating_mul(100) / total),
            },
            words: words.join(" · "),
            actor: row.actor.clone(),
            reason: row.reason.clone(),
            created: Time::full(row.created_at),
            last_word: row.last_word.clone().unwrap_or_default(),
        }
    }
}

#[derive(Template)]
#[template(path = "operations.html")]
struct OperationsPage {
    frame: Frame,
    list: Panel<Vec<Progress>>,
    older: Option<String>,
    newest: bool,
}

/// All of them, the newest first.
pub async fn list(
    State(office): State<Arc<Office>>,
    visitor: Visitor,
    mut parameters: Parameters,
) -> Result<Response, Fault> {
    let before = parameters.id("before")?;
    parameters.none_left(&["before"])?;
    let look = Look::begin(&office.outbox).await?;
    let rows = look.panel(office.outbox.operations(before, ROWS)).await;
    let last = rows.as_ref().ok().and_then(|(rows, _)| {
        let full = i64::try_from(rows.len()) == Ok(ROWS);
        rows.last()
            .filter(|_| full)
            .map(|row| format!("/operations?before={}", row.id))
    });
    let page = OperationsPage {
        frame: Frame::new(&visitor, "Operations", "/operations", 5, look.now),
        list: rows.map(|(rows, at)| (rows.iter().map(Progress::of).collect(), at)),
        older: last,
        newest: before.is_some(),
    };
    written(&page, &page.frame)
}

/// One capture of the list.
struct Item {
    n: String,
    place: i64,
    intent: String,
    verdict: String,
    tone: &'static str,
    says: String,
    came_to: String,
    at: Option<Time>,
}

impl Item {
    fn of(item: OperationItem) -> Item {
        Item {
            n: count(item.n),
            place: item.n,
            intent: item.intent.to_string(),
            tone: match item.verdict.as_deref() {
                Some("replayed" | "cancelled" | "resolved") => "good",
                Some("skipped" | "moved_meanwhile" | "in_flight") => "warn",
                Some("failed") => "bad",
                Some(_) | None => "",
            },
            verdict: item
                .verdict
                .map_or_else(|| "not yet".to_owned(), |verdict| verdict.replace('_', " ")),
            says: item.says.unwrap_or_default(),
            came_to: item.came_to.unwrap_or_default(),
            at: item.at.map(Time::clock),
        }
    }
}

#[derive(Template)]
#[template(path = "operation.html")]
struct OperationPage {
    frame: Frame,
    progress: Progress,
    asked: Vec<(&'static str, String)>,
    is_running: bool,
    is_paused: bool,
    may_operate: bool,
    may_resume: bool,
    items: Panel<Vec<Item>>,
    open_only: bool,
    all_path: String,
    open_path: String,
    next: Option<String>,
    first: Option<String>,
    audit: Panel<Vec<AuditLine>>,
}

fn id(text: &str) -> Result<Uuid, Fault> {
    Uuid::parse_str(text).map_err(|_| Problem::not_found("there is no such operation").into())
}

/// One of them.
pub async fn page(
    State(office): State<Arc<Office>>,
    visitor: Visitor,
    Path(text): Path<String>,
    mut parameters: Parameters,
) -> Result<Response, Fault> {
    let id = id(&text)?;
    let after = parameters.number("after", 0, i64::MAX)?;
    let open_only = parameters.take("open")?.is_some();
    parameters.none_left(&["after", "open"])?;
    let outbox = &office.outbox;
    let look = Look::begin(outbox).await?;
    let row = outbox.operation(id).await?;
    let row = row.ok_or_else(|| Problem::not_found(format!("there is no operation {id}")))?;
    let (items, audit) = tokio::join!(
        look.panel(outbox.operation_items(id, after.unwrap_or(0), ROWS, open_only)),
        look.panel(outbox.audit(None, 20, None, Some(id)))
    );
    let items = items.map(|(items, at)| (items.into_iter().map(Item::of).collect::<Vec<_>>(), at));
    let base = format!("/operations/{id}");
    let query = if open_only { "open=1&" } else { "" };
    let last = items.as_ref().ok().and_then(|(items, _)| {
        let full = i64::try_from(items.len()) == Ok(ROWS);
        items
            .last()
            .filter(|_| full)
            .map(|item| format!("{base}?{query}after={}", item.place))
    });
    let page = OperationPage {
        frame: Frame::new(
            &visitor,
            Progress::of(&row).title,
            "/operations",
            if row.is_over() { 10 } else { 2 },
            look.now,
        ),
        progress: Progress::of(&row),
        asked: asked(&row),
        is_running: row.state == "running",
        is_paused: row.state == "paused",
        may_operate: visitor.may(Scope::Operate),
        may_resume: may_resume(&visitor.caller, &row).is_ok(),
        items,
        open_only,
        open_path: format!("{base}?open=1"),
        next: last,
        first: after.map(|_| match open_only {
            true => format!("{base}?open=1"),
            false => base.clone(),
        }),
        all_path: base,
        audit: audit.map(|(rows, at)| (rows.into_iter().map(AuditLine::of).collect(), at)),
    };
    written(&page, &page.frame)
}

fn asked(row: &OperationRow) -> Vec<(&'static str, String)> {
    let text = |name: &str| row.detail.get(name).and_then(|value| value.as_str().map(str::to_owned));
    let flag = |name: &str| row.detail.get(name).and_then(serde_json::Value::as_bool);
    let filter = row
        .filter
        .as_ref()
        .and_then(|filter| filter.as_object())
        .map(|conditions| {
            let word = |(name, value): (&String, &serde_json::Value)| match value {
                serde_json::Value::String(text) => format!("{name}={text}"),
                serde_json::Value::Array(list) => {
                    let list: Vec<&str> = list.iter().filter_map(serde_json::Value::as_str).collect();
                    format!("{name}={}", list.join(","))
                }
                other => format!("{name}={other}"),
            };
            conditions.iter().map(word).collect::<Vec<_>>().join(" ")
        });
    let all = [
        ("Begun by", Some(row.actor.clone())),
        ("Reason", Some(row.reason.clone())),
        ("Begun", Some(Time::full(row.created_at).shown)),
        ("Over", row.ended_at.map(|at| Time::full(at).shown)),
        ("Chosen by", Some(filter.unwrap_or_else(|| "their ids".to_owned()))),
        (
            "Settled as",
            flag("captured").map(|captured| if captured { "captured" } else { "not captured" }.to_owned()),
        ),
        ("Evidence", text("evidence")),
        (
            "Also resolved ones",
            flag("also_resolved").filter(|also| *also).map(|_| "yes".to_owned()),
        ),
        ("Rate", Some(format!("{} a second", count(row.rate_per_second)))),
        ("Stops at", Some(format!("{} % of failures", row.stop_at_percent))),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Pauses it, lets it go on, or ends it.
pub async fn change(
    State(office): State<Arc<Office>>,
    Path((text, change)): Path<(String, String)>,
    mut sent: Sent,
) -> Result<Response, Fault> {
    sent.visitor.caller.must(Scope::Operate)?;
    let id = id(&text)?;
    let reason = sent.fields.take("reason")?.unwrap_or_default();
    let stamp = sent.visitor.caller.stamp(&reason)?;
    let changed = match change.as_str() {
        "pause" => office.acts.pause_operation(id, &stamp).await?,
        "resume" => {
            if let Some(row) = office.outbox.operation(id).await? {
                may_resume(&sent.visitor.caller, &row)?;
            }
            office.acts.resume_operation(id, &stamp).await?
        }
        "cancel" => office.acts.cancel_operation(id, &stamp).await?,
        _ => return Err(Problem::not_found("an operation is paused, resumed or cancelled").into()),
    };
    match changed {
        Changed::Changed => Ok(Redirect::to(&format!("/operations/{id}")).into_response()),
        Changed::NotFound => Err(Problem::not_found(format!("there is no operation {id}")).into()),
        Changed::Forbidden(state) => {
            let detail = format!("the operation is {state}, so that cannot be done any more");
            Err(Problem::new(StatusCode::CONFLICT, "operation_state", detail)
                .hint("look at it again")
                .into())
        }
    }
}

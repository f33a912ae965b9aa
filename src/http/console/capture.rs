//! One capture: what was asked, what happened, whether a replay is safe, and what can be done.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::Value;
use uuid::Uuid;

use super::fault::Fault;
use super::frame::{Frame, Look, Panel, written};
use super::order::{Asking, Ledger};
use super::rows::{Row, Said, is_closed};
use super::shown::{Time, money, span};
use super::visitor::{Sent, Visitor};
use crate::api_key::Scope;
use crate::filter::State as Stage;
use crate::http::inquiry::Answers;
use crate::http::problem::Problem;
use crate::http::serve::Office;
use crate::operations::{self, Safety};
use crate::outbox::{AttemptRow, CaptureRow, HeldRelease, ShippingNotice, TimelineEntry};

/// One line of the story.
pub struct Step {
    at: Time,
    what: String,
    tone: &'static str,
    words: String,
    evidence: Option<String>,
}

/// How safe a replay is.
pub struct SafetyBox {
    safe: bool,
    says: String,
    next_act: String,
    facts: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "capture.html")]
struct CapturePage {
    frame: Frame,
    row: Row,
    facts: Vec<(&'static str, String)>,
    deadline: Option<Time>,
    story: Panel<Vec<Step>>,
    safety: Panel<Option<SafetyBox>>,
    ledgers: Panel<Vec<Ledger>>,
    is_dead: bool,
    is_closed: bool,
    is_held: bool,
    is_open: bool,
    may_operate: bool,
    may_cancel: bool,
    may_release: bool,
    asking: Asking,
}

/// The id of a path.
pub fn id(text: &str) -> Result<Uuid, Fault> {
    Uuid::parse_str(text).map_err(|_| {
        Problem::not_found("what stands in the address is no id of a capture")
            .hint("look for it by its order or payment")
            .into()
    })
}

/// Shows it.
pub async fn page(
    State(office): State<Arc<Office>>,
    visitor: Visitor,
    Path(text): Path<String>,
) -> Result<Response, Fault> {
    show(&office, &visitor, id(&text)?, None).await
}

/// Asks its provider, and shows it with what that says.
pub async fn ask(State(office): State<Arc<Office>>, Path(text): Path<String>, sent: Sent) -> Result<Response, Fault> {
    sent.visitor.caller.must(Scope::Operate)?;
    let id = id(&text)?;
    let capture = found(&office, id).await?;
    let answers = office.inquiry.about(&office.outbox, &[&capture]).await?;
    tracing::info!(name = sent.visitor.caller.name, intent = %id, "a provider was asked about a capture in the console");
    show(&office, &sent.visitor, id, Some(answers)).await
}

/// Who opens the address of the question alone sees the capture.
pub async fn back(Path(text): Path<String>) -> Result<Redirect, Fault> {
    Ok(Redirect::to(&format!("/captures/{}", id(&text)?)))
}

async fn found(office: &Office, id: Uuid) -> Result<CaptureRow, Fault> {
    let capture = office.outbox.capture(id).await?;
    capture.ok_or_else(|| {
        Problem::not_found(format!("there is no capture {id}"))
            .hint("look for it by its order or payment")
            .into()
    })
}

async fn show(office: &Office, visitor: &Visitor, id: Uuid, answers: Option<Answers>) -> Result<Response, Fault> {
    let outbox = &office.outbox;
    let look = Look::begin(outbox).await?;
    let capture = found(office, id).await?;
    let story = async {
        let attempts = outbox.attempts(id).await?;
        let entries = outbox.timeline(id).await?;
        Ok(entries.iter().map(|entry| Step::of(entry, &attempts)).collect())
    };
    let ledgers = async {
        let found = outbox
            .order(&capture.order_id, Some(&capture.provider), Some(&capture.account))
            .await?;
        let payments = found.map(|found| found.payments).unwrap_or_default();
        Ok(payments
            .iter()
            .filter(|payment| payment.payment_id == capture.payment_id)
            .map(|payment| Ledger::of(payment, look.now))
            .collect())
    };
    let is_dead = capture.state == Stage::Dead.name();
    let safety = async {
        match is_dead {
            false => Ok(None),
            true => match operations::safety(outbox, &office.abilities, id).await {
                Ok(safety) => Ok(safety.map(|safety| SafetyBox::of(safety, &capture))),
                Err(operations::OperationError::Outbox(error)) => Err(error),
                // Only those of the database can come of it.
                Err(_) => Ok(None),
            },
        }
    };
    let (story, rest) = tokio::join!(look.panel(story), async {
        (look.panel(ledgers).await, look.panel(safety).await)
    });
    let (ledgers, safety) = rest;
    let mut row = Row::of(&capture, look.now);
    let path = format!("/captures/{id}/ask");
    let can = office.inquiry.knows(&capture.provider, &capture.account);
    let mut asking = Asking::offered(visitor, path, can);
    // An answer stands until somebody asks again: a page that updates itself would wipe it away.
    let live = if answers.is_some() { 0 } else { 5 };
    if let Some(answers) = answers {
        row.said = answers.told.get(&id).map(Said::from);
        asking.banner = answers.banner;
        asking.asked = true;
    }
    let title = format!("{} · {}", row.amount, row.order);
    let page = CapturePage {
        frame: Frame::new(visitor, title, "/captures", live, look.now),
        asking,
        facts: facts(&capture, outbox.shipping_notices(&[id]).await?.get(&id)),
        deadline: capture.authorization_expires_at.map(Time::full),
        story,
        safety,
        ledgers,
        is_dead,
        is_closed: is_closed(&capture),
        is_held: capture.state == Stage::Held.name(),
        is_open: Stage::from_name(&capture.state).is_some_and(|state| !state.is_end()),
        may_operate: visitor.may(Scope::Operate),
        // It begins an operation.
        may_cancel: visitor.may(Scope::Operate) && visitor.may(Scope::Cancel),
        may_release: visitor.may(Scope::Release),
        row,
    };
    written(&page, &page.frame)
}

fn facts(capture: &CaptureRow, parcel: Option<&ShippingNotice>) -> Vec<(&'static str, String)> {
    let failure = match (&capture.last_class, &capture.last_code) {
        (Some(class), Some(code)) => Some(format!("{class} · {code}")),
        (one, other) => one.clone().or_else(|| other.clone()),
    };
    let time = |at: chrono::DateTime<chrono::Utc>| Time::full(at).shown;
    let all = [
        ("Intent", Some(capture.id.to_string())),
        ("Payment", Some(capture.payment_id.clone())),
        ("Reference", Some(capture.capture_ref.clone())),
        ("Lane", Some(format!("{}/{}", capture.provider, capture.account))),
        ("Attempts", Some(capture.attempts.to_string())),
        ("Last failure", failure),
        ("Asked", Some(time(capture.created_at))),
        ("Cancel asked for", capture.cancel_requested_at.map(time)),
        ("Next attempt", capture.next_attempt_at.map(time)),
        ("Captured", capture.captured_at.map(time)),
        (
            "Captured amount",
            capture.captured_minor.map(|minor| money(minor, &capture.currency)),
        ),
        ("At the provider", capture.provider_capture_id.clone()),
        ("Shipping data at the provider", parcel.map(ShippingNotice::words)),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

impl Step {
    fn of(entry: &TimelineEntry, attempts: &[AttemptRow]) -> Step {
        let is_attempt = entry.what == "attempt";
        let fence = entry.data.get("fence").and_then(Value::as_i64).filter(|_| is_attempt);
        let attempt = attempts.iter().find(|attempt| Some(i64::from(attempt.fence)) == fence);
        let outcome = entry.data.get("outcome").and_then(Value::as_str).unwrap_or_default();
        Step {
            at: Time::full(entry.at),
            what: match is_attempt {
                true => format!("attempt: {outcome}"),
                false => entry.what.replace('_', " "),
            },
            tone: match entry.what.as_str() {
                "captured" | "released" => "good",
                "dead_lettered" | "late_result" => "bad",
                "attempt_failed" | "outcome_unknown" | "auth_expiring" | "cancelled" | "cancel_requested" => "warn",
                _ => "",
            },
            words: words(&entry.data),
            evidence: attempt.and_then(|attempt| attempt.evidence.clone()),
        }
    }
}

/// `class: rejected; code: invalid_state`.
fn words(data: &Value) -> String {
    let Some(fields) = data.as_object() else {
        return data.to_string();
    };
    let word = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some(format!("{}: {value}", name.replace('_', " ")))
    };
    fields.iter().filter_map(word).collect::<Vec<_>>().join("; ")
}

impl SafetyBox {
    fn of(safety: Safety, capture: &CaptureRow) -> SafetyBox {
        let age = match (safety.key_age_seconds, safety.key_window_seconds) {
            (Some(age), Some(window)) => Some(format!("{} of {}", span(age), span(window))),
            (Some(age), None) => Some(span(age)),
            (None, _) => Some("never sent".to_owned()),
        };
        let left = safety.seconds_to_deadline.map(|left| match left {
            ..=0 => format!("over since {}", span(left)),
            _ => span(left),
        });
        let all = [
            ("Key that is sent", safety.key),
            ("Generation", Some(safety.key_generation.to_string())),
            ("Key's age", age),
            ("To the deadline", left),
            (
                "Left of the authorisation",
                safety.left_minor.map(|minor| money(minor, &capture.currency)),
            ),
            ("A read shows", safety.read),
        ];
        SafetyBox {
            safe: safety.safe,
            says: safety.says,
            next_act: safety.next_act,
            facts: all
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
        }
    }
}

/// Lets a held one go.
pub async fn release(
    State(office): State<Arc<Office>>,
    Path(text): Path<String>,
    mut sent: Sent,
) -> Result<Response, Fault> {
    sent.visitor.caller.must(Scope::Release)?;
    let id = id(&text)?;
    let capture = office.outbox.capture(id).await?;
    let capture = capture.ok_or_else(|| Problem::not_found(format!("there is no capture {id}")))?;
    let shipment = sent.fields.take("shipment")?.filter(|text| !text.trim().is_empty());
    // Sent twice it is one release: the capture's own reference will do where no shipment is named.
    let shipment = shipment.unwrap_or_else(|| capture.capture_ref.clone());
    let stamp = sent.visitor.caller.note(format!("shipment {shipment}"));
    let release = HeldRelease {
        provider: capture.provider,
        account: Some(capture.account),
        payment_id: Some(capture.payment_id),
        order_id: None,
        capture_ref: Some(capture.capture_ref),
        shipment_ref: Some(shipment),
        shipping: None,
    };
    office.acts.release_by(&release, &stamp).await?;
    tracing::info!(name = sent.visitor.caller.name, intent = %id, "a held capture was released in the console");
    Ok(Redirect::to(&format!("/captures/{id}")).into_response())
}

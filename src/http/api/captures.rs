//! `/v1/captures`: looking at captures, and taking them back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::conditions::Conditions;
use super::{Id, Why, rows};
use crate::http::body::Document;
use crate::http::caller::{Allowed, ToCancel, ToRead};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{AttemptRow, CaptureRow, Cursor, Page, ShippingNotice, TimelineEntry};

/// Captures, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct CapturePage {
    /// May be fewer than were asked for, or none, while `next` says that there is more.
    captures: Vec<CaptureRow>,
    /// Give it as `cursor` for the next page; null: that was all.
    next: Option<String>,
    /// The database's time when it was read.
    as_of: DateTime<Utc>,
}

impl From<Page<CaptureRow>> for CapturePage {
    fn from(page: Page<CaptureRow>) -> CapturePage {
        CapturePage {
            captures: page.rows,
            next: page.next.map(|cursor| cursor.to_string()),
            as_of: page.as_of,
        }
    }
}

/// `cursor`, of a list of captures.
pub fn cursor(parameters: &mut Parameters) -> Result<Option<Cursor>, Problem> {
    let Some(text) = parameters.take("cursor")? else {
        return Ok(None);
    };
    let cursor = text.parse::<Cursor>();
    cursor
        .map(Some)
        .map_err(|fault| Problem::unfit("cursor_not_readable", fault.to_string()).at("?cursor"))
}

/// Captures that match, the newest first.
#[utoipa::path(get, path = "/v1/captures", tag = "captures", operation_id = "list_captures", security(("key" = ["read"])),
    params(Conditions,
        ("cursor" = Option<String>, Query, description = "`next` of the page before", pattern = "^[A-Za-z0-9_-]{32}$"),
        ("limit" = Option<u32>, Query, description = "Rows of a page; 50 unless given", minimum = 1, maximum = 200)),
    responses((status = 200, body = CapturePage)))]
pub async fn list(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    mut parameters: Parameters,
) -> Result<Json<CapturePage>, Problem> {
    let cursor = cursor(&mut parameters)?;
    let limit = rows(&mut parameters)?;
    let filter = parameters.filter(Utc::now())?;
    Ok(Json(office.outbox.page(&filter, cursor.as_ref(), limit).await?.into()))
}

/// A capture, whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeCapture {
    #[serde(flatten)]
    capture: CaptureRow,
    /// Whether its provider was told of the parcel, where it is told after the capture; null: there is nothing to tell.
    shipping_data: Option<ShippingNotice>,
}

/// One capture.
#[utoipa::path(get, path = "/v1/captures/{id}", tag = "captures", operation_id = "get_capture", security(("key" = ["read"])),
    params(("id" = Uuid, Path, description = "The capture")), responses((status = 200, body = WholeCapture)))]
pub async fn get(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
) -> Result<Json<WholeCapture>, Problem> {
    parameters.none_left(&[])?;
    let capture = found(&office, id).await?;
    let shipping_data = office.outbox.shipping_notices(&[id]).await?.remove(&id);
    Ok(Json(WholeCapture { capture, shipping_data }))
}

async fn found(office: &Office, id: Uuid) -> Result<CaptureRow, Problem> {
    let row = office.outbox.capture(id).await?;
    row.ok_or_else(|| Problem::not_found("there is no capture of that id"))
}

/// What happened to a capture.
#[derive(Debug, Serialize, ToSchema)]
pub struct Timeline {
    /// The first thing first.
    entries: Vec<TimelineEntry>,
}

/// What happened to one capture: events, attempts, and people's acts.
#[utoipa::path(get, path = "/v1/captures/{id}/timeline", tag = "captures", operation_id = "get_timeline", security(("key" = ["read"])),
    params(("id" = Uuid, Path, description = "The capture")), responses((status = 200, body = Timeline)))]
pub async fn timeline(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
) -> Result<Json<Timeline>, Problem> {
    parameters.none_left(&[])?;
    found(&office, id).await?;
    let entries = office.outbox.timeline(id).await?;
    Ok(Json(Timeline { entries }))
}

/// The attempts of a capture.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attempts {
    /// The first one first.
    attempts: Vec<AttemptRow>,
}

/// The closed attempts of one capture, with their evidence: capped, without secrets or personal data.
#[utoipa::path(get, path = "/v1/captures/{id}/attempts", tag = "captures", operation_id = "get_attempts", security(("key" = ["read"])),
    params(("id" = Uuid, Path, description = "The capture")), responses((status = 200, body = Attempts)))]
pub async fn attempts(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
) -> Result<Json<Attempts>, Problem> {
    parameters.none_left(&[])?;
    found(&office, id).await?;
    let attempts = office.outbox.attempts(id).await?;
    Ok(Json(Attempts { attempts }))
}

/// What became of a wish to cancel.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cancelled {
    /// `cancelled`, or `in_flight`: a worker has it or its outcome is unknown; the wish is kept, and applied if a read shows
    /// that nothing was captured.
    result: &'static str,
}

/// Takes a capture back that was not sent; of one that shipments have split, what is left.
#[utoipa::path(post, path = "/v1/captures/{id}/cancel", tag = "captures", operation_id = "cancel_capture",
    security(("key" = ["cancel"])), params(("id" = Uuid, Path, description = "The capture")), request_body = Why,
    responses((status = 200, body = Cancelled), (status = 202, body = Cancelled)))]
pub async fn cancel(
    Allowed(caller, ..): Allowed<ToCancel>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
    Document(why): Document<Why>,
) -> Result<Response, Problem> {
    parameters.none_left(&[])?;
    let stamp = caller.stamp(&why.reason)?;
    match office.acts.cancel_by(id, &stamp).await?.as_str() {
        "cancelled" => Ok(Json(Cancelled { result: "cancelled" }).into_response()),
        "in_flight" => Ok((StatusCode::ACCEPTED, Json(Cancelled { result: "in_flight" })).into_response()),
        _ => Err(Problem::new(
            StatusCode::CONFLICT,
            "capture_ended",
            "this capture has ended: there is nothing to take back",
        )
        .hint("look at its state")),
    }
}

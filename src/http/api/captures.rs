//! `/v1/captures`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Id;
use crate::http::caller::{Allowed, ToRead};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::CaptureRow;

/// The most rows of a page.
const MOST_ROWS: u32 = 200;

/// Captures, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct CapturePage {
    /// Those of this page.
    captures: Vec<CaptureRow>,
    /// Give it as `cursor` for the next page; null: there is none.
    next: Option<String>,
}

/// Captures that match, the newest first.
#[utoipa::path(get, path = "/v1/captures", tag = "captures", operation_id = "list_captures", security(("key" = ["read"])),
    responses((status = 200, body = CapturePage)))]
pub async fn list(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    parameters: Parameters,
) -> Result<Json<CapturePage>, Problem> {
    let filter = parameters.filter(chrono::Utc::now())?;
    let captures = office.outbox.list(&filter, MOST_ROWS).await?;
    Ok(Json(CapturePage { captures, next: None }))
}

/// One capture.
#[utoipa::path(get, path = "/v1/captures/{id}", tag = "captures", operation_id = "get_capture", security(("key" = ["read"])),
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = CaptureRow)))]
pub async fn get(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
) -> Result<Json<CaptureRow>, Problem> {
    let found = office.outbox.capture(id).await?;
    found
        .map(Json)
        .ok_or_else(|| Problem::not_found("there is no capture of that id"))
}

//! Pausing a lane, and letting it go on.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};

use super::fault::Fault;
use super::visitor::Sent;
use crate::api_key::Scope;
use crate::http::pause::set_pause_of;
use crate::http::problem::Problem;
use crate::http::serve::Office;
use crate::outbox::LaneId;

/// Does one of the two.
pub async fn change(
    State(office): State<Arc<Office>>,
    Path((lane, change)): Path<(String, String)>,
    mut sent: Sent,
) -> Result<Response, Fault> {
    sent.visitor.caller.must(Scope::Lanes)?;
    let nothing = || Problem::not_found("there is no such lane");
    let paused = match change.as_str() {
        "pause" => true,
        "resume" => false,
        _ => return Err(nothing().into()),
    };
    let lane = lane.parse().map(LaneId).map_err(|_| nothing())?;
    let reason = sent.fields.take("reason")?.unwrap_or_default();
    let stamp = sent.visitor.caller.stamp(&reason)?;
    let lanes = office.outbox.lanes().await?;
    let lane = lanes.iter().find(|other| other.id == lane).ok_or_else(nothing)?;
    set_pause_of(&office, lane, paused, &stamp).await?;
    Ok(Redirect::to("/").into_response())
}

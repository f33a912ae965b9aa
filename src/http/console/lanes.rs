//! Pausing a lane, and letting it go on.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};

use super::fault::Fault;
use super::visitor::Sent;
use crate::api_key::Scope;
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
    if !office.outbox.lanes().await?.iter().any(|other| other.id == lane) {
        return Err(nothing().into());
    }
    office.acts.set_lane_pause(lane, paused, &stamp).await?;
    Ok(Redirect::to("/").into_response())
}

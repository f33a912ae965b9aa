//! Pausing a lane, and letting it go on, for the API and the console alike.

use axum::http::StatusCode;

use super::problem::Problem;
use super::serve::Office;
use crate::outbox::{AuditStamp, LaneRow};

/// Does one of the two. Who pauses what somebody has paused is told so: a second reason is kept nowhere, and whoever resumes
/// the lane would not know of it. False: it was to go on, and does.
pub async fn set_pause_of(office: &Office, lane: &LaneRow, paused: bool, stamp: &AuditStamp) -> Result<bool, Problem> {
    let changed = office.acts.set_lane_pause(lane.id, paused, stamp).await?;
    match paused && !changed {
        false => Ok(changed),
        true => {
            let lanes = office.outbox.lanes().await?;
            let now = lanes.iter().find(|other| other.id == lane.id).unwrap_or(lane);
            Err(paused_before(now))
        }
    }
}

fn paused_before(lane: &LaneRow) -> Problem {
    let name = &lane.lane;
    let detail = match &lane.paused {
        Some((at, by, why)) => format!(
            "{name} is paused already: by {by} since {}: {why}",
            at.format("%Y-%m-%d %H:%M:%S UTC")
        ),
        None => format!("{name} was paused already"),
    };
    Problem::new(StatusCode::CONFLICT, "lane_paused_already", detail)
        .hint("nothing was changed and your reason was not kept: to pause it for another one, resume it first")
}

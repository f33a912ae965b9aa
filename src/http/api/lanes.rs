//! `/v1/lanes`: look at them, pause and resume them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Names, Why};
use crate::http::body::Document;
use crate::http::caller::{Allowed, Caller, ToRead, ToWorkLanes};
use crate::http::pause::set_pause_of;
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::LaneRow;

/// One lane.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lane)]
pub struct LaneAnswer {
    /// The provider.
    provider: String,
    /// The merchant account.
    account: String,
    /// Who paused it, when and why; null: it is not paused.
    paused: Option<Pause>,
    /// Calls a minute by the workers' settings; 0: no limit.
    rate_per_minute: i32,
    /// Calls a minute as an operator set them, which go before the settings; null: nobody has.
    rate_override: Option<i32>,
    /// The provider asked to wait until then.
    limited_until: Option<DateTime<Utc>>,
    /// Calls in a row without an answer.
    unanswered: i32,
    /// The breaker is open until then.
    open_until: Option<DateTime<Utc>>,
    /// Captures that may be claimed now.
    ready: i64,
    /// Those that wait for a time or a release.
    waiting: i64,
    /// Attempts that are open.
    leased: i64,
    /// Workers that serve it.
    workers: i64,
}

/// A pause.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pause {
    /// Since when.
    at: DateTime<Utc>,
    /// Who.
    by: String,
    /// Why.
    reason: String,
}

impl From<LaneRow> for LaneAnswer {
    fn from(row: LaneRow) -> LaneAnswer {
        LaneAnswer {
            provider: row.lane.provider,
            account: row.lane.account,
            paused: row.paused.map(|(at, by, reason)| Pause { at, by, reason }),
            rate_per_minute: row.rate_per_minute,
            rate_override: row.rate_override,
            limited_until: row.limited_until,
            unanswered: row.unanswered,
            open_until: row.open_until,
            ready: row.ready,
            waiting: row.waiting,
            leased: row.leased,
            workers: row.workers,
        }
    }
}

/// All lanes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lanes {
    /// By name.
    lanes: Vec<LaneAnswer>,
}

/// All lanes.
#[utoipa::path(get, path = "/v1/lanes", tag = "lanes", operation_id = "list_lanes", security(("key" = ["read"])),
    responses((status = 200, body = Lanes)))]
pub async fn list(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    parameters: Parameters,
) -> Result<Json<Lanes>, Problem> {
    parameters.none_left(&[])?;
    let lanes = office.outbox.lanes().await?;
    Ok(Json(Lanes {
        lanes: lanes.into_iter().map(LaneAnswer::from).collect(),
    }))
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct LaneChanged {
    /// False: it was not paused.
    changed: bool,
    /// Is it paused now?
    paused: bool,
}

/// Pauses a lane: what is in flight ends, nothing more is claimed. One that is paused already is left as it is (409): the answer
/// says by whom, since when and why.
#[utoipa::path(post, path = "/v1/lanes/{provider}/{account}/pause", tag = "lanes", operation_id = "pause_lane",
    security(("key" = ["lanes"])), request_body = Why, responses((status = 200, body = LaneChanged)),
    params(("provider" = String, Path, pattern = "^[a-z]+$"), ("account" = String, Path, pattern = "^[a-z]+$")))]
pub async fn pause(
    Allowed(caller, ..): Allowed<ToWorkLanes>,
    State(office): State<Arc<Office>>,
    Names(names): Names<(String, String)>,
    parameters: Parameters,
    Document(why): Document<Why>,
) -> Result<Json<LaneChanged>, Problem> {
    parameters.none_left(&[])?;
    set_pause(&office, &caller, &names, true, &why.reason).await
}

/// Resumes a lane, and forgets what its breaker had counted.
#[utoipa::path(post, path = "/v1/lanes/{provider}/{account}/resume", tag = "lanes", operation_id = "resume_lane",
    security(("key" = ["lanes"])), request_body = Why, responses((status = 200, body = LaneChanged)),
    params(("provider" = String, Path, pattern = "^[a-z]+$"), ("account" = String, Path, pattern = "^[a-z]+$")))]
pub async fn resume(
    Allowed(caller, ..): Allowed<ToWorkLanes>,
    State(office): State<Arc<Office>>,
    Names(names): Names<(String, String)>,
    parameters: Parameters,
    Document(why): Document<Why>,
) -> Result<Json<LaneChanged>, Problem> {
    parameters.none_left(&[])?;
    set_pause(&office, &caller, &names, false, &why.reason).await
}

async fn set_pause(
    office: &Office,
    caller: &Caller,
    (provider, account): &(String, String),
    paused: bool,
    reason: &str,
) -> Result<Json<LaneChanged>, Problem> {
    let stamp = caller.stamp(reason)?;
    let lanes = office.outbox.lanes().await?;
    let lane = lanes
        .into_iter()
        .find(|row| row.lane.provider == *provider && row.lane.account == *account)
        .ok_or_else(|| Problem::not_found("there is no such lane").hint("/v1/lanes lists them"))?;
    let changed = set_pause_of(office, &lane, paused, &stamp).await?;
    Ok(Json(LaneChanged { changed, paused }))
}

//! `/v1/status` and `/v1/version`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::caller::{Allowed, ToRead};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{LaneBacklog, Outbox};

/// Lanes and workers at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// By provider and account.
    lanes: Vec<LaneBacklog>,
    /// Workers that have given a sign of life.
    workers: Vec<StatusWorker>,
    /// The database's time when it was read.
    as_of: DateTime<Utc>,
}

/// One worker process.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
pub struct StatusWorker {
    /// Random per boot.
    id: Uuid,
    /// Of the program.
    version: String,
    /// How many lanes it serves.
    lanes: i32,
    /// Seconds since its last heartbeat.
    silent_seconds: i64,
    /// Seconds since it started.
    up_seconds: i64,
}

/// Lanes and workers at a glance.
#[utoipa::path(get, path = "/v1/status", tag = "process", operation_id = "get_status", security(("key" = ["read"])),
    responses((status = 200, body = Status)))]
pub async fn status(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    parameters: Parameters,
) -> Result<Json<Status>, Problem> {
    parameters.none_left(&[])?;
    let as_of = office.outbox.now().await?;
    let backlog = office.outbox.backlog().await?;
    let workers = office.outbox.workers().await?;
    let workers = workers.into_iter().map(|row| StatusWorker {
        id: row.id,
        version: row.version,
        lanes: row.lanes,
        silent_seconds: row.silent_s,
        up_seconds: row.up_s,
    });
    Ok(Json(Status {
        lanes: backlog.lanes,
        workers: workers.collect(),
        as_of,
    }))
}

/// What answers here.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    /// Of the program.
    version: &'static str,
    /// Of the release; null: a working copy.
    commit: Option<&'static str>,
    /// The newest migration that it knows.
    newest_migration: Option<i64>,
}

/// What answers here.
#[utoipa::path(get, path = "/v1/version", tag = "process", operation_id = "get_version", security(("key" = ["read"])),
    responses((status = 200, body = Version)))]
pub async fn version(_: Allowed<ToRead>, parameters: Parameters) -> Result<Json<Version>, Problem> {
    parameters.none_left(&[])?;
    Ok(Json(Version {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("CAPTURE_COMMIT").filter(|commit| !commit.is_empty()),
        newest_migration: Outbox::embedded_migrations().last().map(|(number, _)| *number),
    }))
}

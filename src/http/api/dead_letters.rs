//! `/v1/dead-letters`: what ended without a capture, by what they have in common, and how safe a replay is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::Utc;
use serde::Serialize;
use utoipa::ToSchema;

use super::captures::{CapturePage, cursor};
use super::conditions::Conditions;
use super::{Id, rows};
use crate::filter::State as CaptureState;
use crate::http::caller::{Allowed, ToRead};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::operations::{self, Safety};
use crate::outbox::{DeadGroup, GroupBy};

/// Dead letters that match, the newest first.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "dead letters", operation_id = "list_dead_letters", security(("key" = ["read"])),
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
    let mut filter = parameters.filter(Utc::now())?;
    let others = filter.states.iter().any(|state| *state != CaptureState::Dead);
    if others {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "dead_letters_are_dead",
            "dead letters have one state",
        )
        .hint("leave state out, or list /v1/captures")
        .at("?state"));
    }
    filter.states = vec![CaptureState::Dead];
    Ok(Json(office.outbox.page(&filter, cursor.as_ref(), limit).await?.into()))
}

/// Dead letters by what they have in common.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadGroups {
    /// The most money first. What they are not told apart by is null.
    groups: Vec<DeadGroup>,
}

/// Dead letters that nobody has resolved, summed by what is asked for and by currency.
#[utoipa::path(get, path = "/v1/dead-letters/groups", tag = "dead letters", operation_id = "group_dead_letters",
    security(("key" = ["read"])), params(Conditions,
        ("by" = Option<String>, Query, pattern = "^(provider|account|reason|class|code)$",
         description = "provider, account, reason, class, code; several with commas. All of them unless given")),
    responses((status = 200, body = DeadGroups)))]
pub async fn groups(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    mut parameters: Parameters,
) -> Result<Json<DeadGroups>, Problem> {
    let by = match parameters.take("by")? {
        None => GroupBy::ALL.to_vec(),
        Some(names) => {
            let by = names.split(',').map(|name| {
                let by = GroupBy::ALL.into_iter().find(|by| by.name() == name.trim());
                by.ok_or_else(|| {
                    Problem::bad_request("query_not_understood", "by names nothing to tell dead letters apart by")
                        .hint("write provider, account, reason, class or code, several with commas")
                        .at("?by")
                })
            });
            by.collect::<Result<Vec<GroupBy>, Problem>>()?
        }
    };
    let filter = parameters.filter(Utc::now())?;
    let groups = office.outbox.dead_groups(&filter, &by).await?;
    Ok(Json(DeadGroups { groups }))
}

/// How safe a replay of one dead letter is, and what it would be.
#[utoipa::path(get, path = "/v1/dead-letters/{id}/safety", tag = "dead letters", operation_id = "get_safety",
    security(("key" = ["read"])), params(("id" = Uuid, Path, description = "The capture")),
    responses((status = 200, body = Safety)))]
pub async fn safety(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
) -> Result<Json<Safety>, Problem> {
    parameters.none_left(&[])?;
    let safety = operations::safety(&office.outbox, &office.abilities, id).await?;
    let missing = || Problem::not_found("there is no dead letter of that id: no such capture, or it is not dead");
    safety.map(Json).ok_or_else(missing)
}

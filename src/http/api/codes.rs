//! `/v1/codes`: what providers say that is new, or that nobody has a class for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::conditions::instant;
use crate::filter::Filter;
use crate::http::caller::{Allowed, ToRead};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::CodeRow;

/// For the document only.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is taken from the parameters")]
pub struct Since {
    /// First seen since then, or unclassified and seen since then: RFC 3339, a date (UTC), or how long ago; 24h unless given.
    #[param(schema_with = instant)]
    since: Option<String>,
}

/// Codes of providers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderCodes)]
pub struct Codes {
    /// The newest first.
    codes: Vec<CodeRow>,
    /// Since when they were looked for.
    since: DateTime<Utc>,
    /// The database's time when it was read.
    as_of: DateTime<Utc>,
}

/// Codes of providers that were first seen since a time, and those without a class that were seen since then.
#[utoipa::path(get, path = "/v1/codes", tag = "dead letters", operation_id = "list_codes", security(("key" = ["read"])),
    params(Since), responses((status = 200, body = Codes)))]
pub async fn list(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    mut parameters: Parameters,
) -> Result<Json<Codes>, Problem> {
    let asked = parameters.take("since")?;
    parameters.none_left(&["since"])?;
    let as_of = office.outbox.now().await?;
    let filter = Filter::from_pairs([("since", asked.as_deref().unwrap_or("24h"))], as_of)?;
    let since = filter.since.unwrap_or(as_of);
    let codes = office.outbox.new_codes(since).await?;
    Ok(Json(Codes { codes, since, as_of }))
}

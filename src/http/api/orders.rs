//! `/v1/orders` and `/v1/risk`: where the money is, and what will not be captured in time.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;

use super::conditions::name;
use super::{Names, rows};
use crate::http::caller::{Allowed, ToRead};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{Forecast, OrderLedger, Risk};

/// In the query of an order. For the document only.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is taken from the parameters")]
pub struct InAccount {
    /// Only payments of this provider.
    #[param(schema_with = name)]
    provider: Option<String>,
    /// Only payments of this merchant account.
    #[param(schema_with = name)]
    account: Option<String>,
}

/// The ledger of one order: authorised, captured, held, unknown, open, dead, by payment.
#[utoipa::path(get, path = "/v1/orders/{order_id}", tag = "money", operation_id = "get_order", security(("key" = ["read"])),
    params(("order_id" = String, Path, description = "The merchant's order", min_length = 1, pattern = "^[A-Za-z0-9-]+$"), InAccount),
    responses((status = 200, body = OrderLedger)))]
pub async fn get(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    Names(order): Names<String>,
    mut parameters: Parameters,
) -> Result<Json<OrderLedger>, Problem> {
    let provider = parameters.take("provider")?;
    let account = parameters.take("account")?;
    parameters.none_left(&["provider", "account"])?;
    let ledger = office
        .outbox
        .order(&order, provider.as_deref(), account.as_deref())
        .await?;
    ledger
        .map(Json)
        .ok_or_else(|| Problem::not_found("no capture names that order"))
}

/// Money that is authorised and not captured, by hours to the end of its authorisation and by what it waits for.
#[utoipa::path(get, path = "/v1/risk", tag = "money", operation_id = "get_risk", security(("key" = ["read"])),
    params(("within" = Option<String>, Query, description = "Only what ends within this time, such as 48h", pattern = "^[1-9][0-9]{0,2}[mhd]$")),
    responses((status = 200, body = Risk)))]
pub async fn risk(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    mut parameters: Parameters,
) -> Result<Json<Risk>, Problem> {
    let within = match parameters.take("within")? {
        None => None,
        Some(text) => Some(span(&text)?),
    };
    parameters.none_left(&["within"])?;
    Ok(Json(office.outbox.risk(within).await?))
}

/// Captures whose authorisation ends before their turn comes, if each lane goes on at the rate of its last hour. An
/// estimate: a lane that captured nothing for an hour gives nobody a turn.
#[utoipa::path(get, path = "/v1/risk/forecast", tag = "money", operation_id = "get_risk_forecast", security(("key" = ["read"])),
    params(("limit" = Option<u32>, Query, description = "Captures at most, the nearest end first; 50 unless given", minimum = 1, maximum = 200)),
    responses((status = 200, body = Forecast)))]
pub async fn forecast(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    mut parameters: Parameters,
) -> Result<Json<Forecast>, Problem> {
    let limit = rows(&mut parameters)?;
    parameters.none_left(&["limit"])?;
    Ok(Json(office.outbox.forecast(limit).await?))
}

fn span(text: &str) -> Result<Duration, Problem> {
    const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
    let span = humantime::parse_duration(text)
        .ok()
        .filter(|span| !span.is_zero() && *span <= LONGEST);
    span.ok_or_else(|| {
        Problem::bad_request("query_not_understood", "within is no span of time")
            .hint("write a number and its unit, such as 48h or 7d")
            .at("?within")
    })
}

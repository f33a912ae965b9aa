//! `/v1/webhooks/deliveries`: what was told to whom, and once more if need be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Names, rows};
use crate::http::body::{Document, MOST_BYTES_WITH_IDS, MOST_IDS, at_most};
use crate::http::caller::{Allowed, ToRead, ToWorkWebhooks};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{Delivery, DeliveryFilter};

/// Events that one step of a redelivery reads, and how long one request may go on.
const STEP: i32 = 2000;
const LONGEST: Duration = Duration::from_secs(20);

/// Deliveries, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryPage {
    /// Those of this page.
    deliveries: Vec<Delivery>,
    /// Give it as `cursor` for the next page; null: that was all.
    next: Option<String>,
}

/// Deliveries, the newest first.
#[utoipa::path(get, path = "/v1/webhooks/deliveries", tag = "webhooks", operation_id = "list_webhook_deliveries",
    security(("key" = ["read"])), responses((status = 200, body = DeliveryPage)),
    params(("endpoint" = Option<Uuid>, Query, description = "Only of this endpoint"),
        ("state" = Option<String>, Query, description = "Only in this state", pattern = "^(pending|delivered|failed|dropped)$"),
        ("event" = Option<Uuid>, Query, description = "Only of this event"),
        ("capture" = Option<Uuid>, Query, description = "Only of the events of this capture"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before", pattern = "^d[1-9][0-9]{0,17}$"),
        ("limit" = Option<u32>, Query, description = "Rows of a page; 50 unless given", minimum = 1, maximum = 200)))]
pub async fn list(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    mut parameters: Parameters,
) -> Result<Json<DeliveryPage>, Problem> {
    let state = parameters.take("state")?;
    let known = ["pending", "delivered", "failed", "dropped"];
    if state.as_deref().is_some_and(|state| !known.contains(&state)) {
        return Err(
            Problem::bad_request("query_not_understood", "state is none of a delivery")
                .hint("write pending, delivered, failed or dropped")
                .at("?state"),
        );
    }
    let filter = DeliveryFilter {
        endpoint: parameters.id("endpoint")?,
        state,
        event: parameters.id("event")?,
        intent: parameters.id("capture")?,
        before: match parameters.take("cursor")? {
            None => None,
            Some(text) => Some(before(&text)?),
        },
    };
    let limit = rows(&mut parameters)?;
    parameters.none_left(&["endpoint", "state", "event", "capture", "cursor", "limit"])?;
    // One more than asked for tells whether there is a next page.
    let mut deliveries = office.outbox.webhook_deliveries(&filter, i64::from(limit) + 1).await?;
    let whole = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = deliveries.len() > whole;
    deliveries.truncate(whole);
    let next = deliveries.last().filter(|_| more).map(|row| format!("d{}", row.id));
    Ok(Json(DeliveryPage { deliveries, next }))
}

fn before(text: &str) -> Result<i64, Problem> {
    let number = text.strip_prefix('d').and_then(|number| number.parse::<i64>().ok());
    number.filter(|number| *number > 0).ok_or_else(|| {
        Problem::unfit("cursor_not_readable", "this is no cursor of the deliveries")
            .hint("pass `next` of a page as it came, or none to begin at the newest")
            .at("?cursor")
    })
}

/// One delivery.
#[utoipa::path(get, path = "/v1/webhooks/deliveries/{id}", tag = "webhooks", operation_id = "get_webhook_delivery",
    security(("key" = ["read"])), params(("id" = i64, Path, description = "The delivery", minimum = 1)),
    responses((status = 200, body = Delivery)))]
pub async fn get(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    Names(id): Names<String>,
    parameters: Parameters,
) -> Result<Json<Delivery>, Problem> {
    parameters.none_left(&[])?;
    let number = id.parse::<i64>().ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| {
        Problem::bad_request("id_not_readable", "the id in the path is no number of a delivery")
            .hint("take the id as it was given")
    })?;
    let delivery = office.outbox.webhook_delivery(number).await?;
    delivery
        .map(Json)
        .ok_or_else(|| Problem::not_found("there is no delivery of that id"))
}

/// What shall be told once more: deliveries, or the events of a span of time to one endpoint.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Redelivered {
    /// These deliveries; or
    #[schema(max_items = 25000)]
    deliveries: Option<Vec<i64>>,
    /// to this endpoint
    endpoint: Option<Uuid>,
    /// the events that happened at this time or later
    since: Option<DateTime<Utc>>,
    /// and before this one; else until now.
    until: Option<DateTime<Utc>>,
    /// Why; kept with the act.
    #[schema(min_length = 1, pattern = r"\S")]
    reason: String,
}

/// How much is told once more.
#[derive(Debug, Serialize, ToSchema)]
pub struct RedeliveryAnswer {
    /// Deliveries that are pending by it.
    deliveries: i64,
}

/// Tells once more, with the same ids.
#[utoipa::path(post, path = "/v1/webhooks/redeliver", tag = "webhooks", operation_id = "redeliver_webhooks",
    security(("key" = ["webhooks"])), request_body = Redelivered, responses((status = 200, body = RedeliveryAnswer)))]
pub async fn redeliver(
    Allowed(caller, ..): Allowed<ToWorkWebhooks>,
    State(office): State<Arc<Office>>,
    parameters: Parameters,
    Document(asked): Document<Redelivered, MOST_BYTES_WITH_IDS>,
) -> Result<Json<RedeliveryAnswer>, Problem> {
    parameters.none_left(&[])?;
    let stamp = caller.stamp(&asked.reason)?;
    let (endpoint, since) = match (&asked.deliveries, asked.endpoint, asked.since, asked.until) {
        (Some(ids), None, None, None) => {
            at_most(ids, MOST_IDS, "redelivery_names_few", "/deliveries")?;
            let deliveries = office.acts.redeliver_webhooks(ids, &stamp).await?;
            return Ok(Json(RedeliveryAnswer { deliveries }));
        }
        (None, Some(endpoint), Some(since), _) => (endpoint, since),
        (Some(_), ..) | (None, ..) => {
            return Err(Problem::unfit(
                "redelivery_names_what",
                "what to tell is named by deliveries, or by endpoint and since",
            )
            .hint("give one of the two")
            .at("/deliveries"));
        }
    };
    let began = Instant::now();
    let begun = office
        .acts
        .begin_webhook_redelivery(endpoint, since, asked.until, &stamp)
        .await?;
    let mut left = Some(begun.ok_or_else(|| Problem::not_found("there is no such endpoint"))?);
    let mut deliveries = 0;
    while let Some(redelivery) = left {
        if began.elapsed() > LONGEST {
            let detail = format!("{deliveries} are told once more, and the span holds more than one request may");
            return Err(Problem::unfit("took_too_long", detail)
                .hint("ask for shorter spans, or use the command line, which takes its time"));
        }
        let (done, next) = office.acts.redeliver_webhooks_step(redelivery, STEP).await?;
        deliveries += done;
        left = next;
    }
    Ok(Json(RedeliveryAnswer { deliveries }))
}

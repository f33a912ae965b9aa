//! `/v1/webhooks/endpoints`: who is told of events over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Id, Why};
use crate::filter::event_type;
use crate::http::body::{Document, at_most};
use crate::http::caller::{Allowed, ToRead, ToWorkWebhooks};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{EndpointActed, EndpointChange, WebhookEndpoint};
use crate::webhook::signature::Secret;

/// The longest grace of a rotation: a year.
const LONGEST_GRACE: Duration = Duration::from_secs(366 * 24 * 3600);
/// The usual one: a day.
const USUAL_GRACE: Duration = Duration::from_secs(24 * 3600);
/// The longest description, in characters.
const LONGEST_DESCRIPTION: usize = 255;
/// The most types of events that are named, more than there are.
const MOST_TYPES: usize = 50;

/// All endpoints.
#[derive(Debug, Serialize, ToSchema)]
pub struct Endpoints {
    /// The oldest first.
    endpoints: Vec<WebhookEndpoint>,
}

/// An endpoint that shall be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEndpoint {
    /// Where events are sent: https, at a public address unless `webhooks.allow_networks` opens others.
    #[schema(max_length = 2000, example = "https://shop.example/hooks/capture")]
    url: String,
    /// Only of these types, such as `capture.captured`; none: all.
    #[serde(default)]
    #[schema(max_items = 50)]
    types: Vec<String>,
    /// For people: whose it is.
    #[serde(default)]
    #[schema(max_length = 255)]
    description: String,
    /// Why; kept with the act.
    #[schema(min_length = 1, pattern = r"\S")]
    reason: String,
}

/// A secret, shown once.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownSecret {
    /// The endpoint.
    id: Uuid,
    /// `whsec_` and base64: it signs every message, and is not shown again.
    secret: String,
}

/// What shall be changed; what is not given stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedEndpoint {
    /// Where events are sent.
    #[schema(max_length = 2000)]
    url: Option<String>,
    /// Only of these types; an empty list: all.
    #[schema(max_items = 50)]
    types: Option<Vec<String>>,
    /// For people: whose it is.
    #[schema(max_length = 255)]
    description: Option<String>,
    /// Why; kept with the act.
    #[schema(min_length = 1, pattern = r"\S")]
    reason: String,
}

/// A rotation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How long the old secret goes on, in seconds; a day unless given. 0: it ends at once.
    #[schema(minimum = 0, maximum = 31_622_400)]
    grace_seconds: Option<u64>,
    /// Why; kept with the act.
    #[schema(min_length = 1, pattern = r"\S")]
    reason: String,
}

fn checked_url(office: &Office, url: &str) -> Result<String, Problem> {
    let checked = office.networks.check_url(url);
    let url = checked.map_err(|fault| {
        Problem::unfit("webhook_endpoints_url_allowed", format!("the URL {fault}"))
            .hint("give a URL like https://host/path, of a public host")
            .at("/url")
    })?;
    match url.as_str().len() <= 2000 {
        true => Ok(url.to_string()),
        false => Err(Problem::unfit("webhook_endpoints_url_is_http", "the URL has more than 2000 bytes").at("/url")),
    }
}

fn checked_types(types: &[String]) -> Result<Vec<String>, Problem> {
    at_most(types, MOST_TYPES, "webhook_endpoints_types_few", "/types")?;
    let checked = types.iter().map(|name| event_type(name));
    checked
        .collect::<Result<_, _>>()
        .map_err(|(wrong, right)| Problem::unfit("event_type_unknown", wrong).hint(right).at("/types"))
}

fn checked_description(text: &str) -> Result<&str, Problem> {
    match text.chars().count() <= LONGEST_DESCRIPTION && !text.contains('\0') {
        true => Ok(text),
        false => Err(Problem::unfit(
            "webhook_endpoints_description_is_short",
            "the description has more than 255 characters, or NUL",
        )
        .at("/description")),
    }
}

fn no_such() -> Problem {
    Problem::not_found("there is no such endpoint").hint("/v1/webhooks/endpoints lists them")
}

async fn found(office: &Office, id: Uuid) -> Result<WebhookEndpoint, Problem> {
    office.outbox.webhook_endpoint(id).await?.ok_or_else(no_such)
}

fn made() -> Result<Secret, Problem> {
    Secret::make().map_err(|error| {
        tracing::error!(error, "no secret can be made");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "no secret can be made now",
        )
    })
}

fn changed(acted: EndpointActed) -> Result<(), Problem> {
    match acted {
        EndpointActed::Changed | EndpointActed::Unchanged => Ok(()),
        EndpointActed::NotFound => Err(no_such()),
        EndpointActed::TwoSecretsLive => {
            let detail = "two secrets of this endpoint are live";
            Err(Problem::new(StatusCode::CONFLICT, "webhook_secrets_two_live", detail)
                .hint("wait until the older one ends, or end both now with grace_seconds 0"))
        }
    }
}

/// Every endpoint, and how it stands.
#[utoipa::path(get, path = "/v1/webhooks/endpoints", tag = "webhooks", operation_id = "list_webhook_endpoints",
    security(("key" = ["read"])), responses((status = 200, body = Endpoints)))]
pub async fn list(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    parameters: Parameters,
) -> Result<Json<Endpoints>, Problem> {
    parameters.none_left(&[])?;
    let endpoints = office.outbox.webhook_endpoints().await?;
    Ok(Json(Endpoints { endpoints }))
}

/// Makes an endpoint. It is told of what happens from now on.
#[utoipa::path(post, path = "/v1/webhooks/endpoints", tag = "webhooks", operation_id = "add_webhook_endpoint",
    security(("key" = ["webhooks"])), request_body = NewEndpoint,
    responses((status = 201, description = "It is made", body = ShownSecret, headers(("Location" = String)))))]
pub async fn create(
    Allowed(caller, ..): Allowed<ToWorkWebhooks>,
    State(office): State<Arc<Office>>,
    parameters: Parameters,
    Document(new): Document<NewEndpoint>,
) -> Result<Response, Problem> {
    parameters.none_left(&[])?;
    let stamp = caller.stamp(&new.reason)?;
    let url = checked_url(&office, &new.url)?;
    let types = checked_types(&new.types)?;
    let description = checked_description(&new.description)?;
    let secret = made()?;
    let id = office
        .acts
        .create_webhook_endpoint(&url, &types, description, secret.bytes(), &stamp)
        .await?;
    let location = format!("/v1/webhooks/endpoints/{id}");
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(shown(id, &secret)),
    )
        .into_response())
}

fn shown(id: Uuid, secret: &Secret) -> ShownSecret {
    ShownSecret {
        id,
        secret: secret.written().expose_secret().to_owned(),
    }
}

/// One endpoint.
#[utoipa::path(get, path = "/v1/webhooks/endpoints/{id}", tag = "webhooks", operation_id = "get_webhook_endpoint",
    security(("key" = ["read"])), params(("id" = Uuid, Path, description = "The endpoint")),
    responses((status = 200, body = WebhookEndpoint)))]
pub async fn get(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
) -> Result<Json<WebhookEndpoint>, Problem> {
    parameters.none_left(&[])?;
    Ok(Json(found(&office, id).await?))
}

/// Changes an endpoint.
#[utoipa::path(post, path = "/v1/webhooks/endpoints/{id}/set", tag = "webhooks", operation_id = "set_webhook_endpoint",
    security(("key" = ["webhooks"])), params(("id" = Uuid, Path, description = "The endpoint")), request_body = ChangedEndpoint,
    responses((status = 200, body = WebhookEndpoint)))]
pub async fn set(
    Allowed(caller, ..): Allowed<ToWorkWebhooks>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
    Document(asked): Document<ChangedEndpoint>,
) -> Result<Json<WebhookEndpoint>, Problem> {
    parameters.none_left(&[])?;
    let stamp = caller.stamp(&asked.reason)?;
    if let Some(text) = &asked.description {
        checked_description(text)?;
    }
    let change = EndpointChange {
        url: asked.url.map(|url| checked_url(&office, &url)).transpose()?,
        types: asked.types.map(|types| checked_types(&types)).transpose()?,
        description: asked.description,
    };
    changed(office.acts.change_webhook_endpoint(id, &change, &stamp).await?)?;
    Ok(Json(found(&office, id).await?))
}

/// Tells it of what happens from now on, and of what was still pending.
#[utoipa::path(post, path = "/v1/webhooks/endpoints/{id}/enable", tag = "webhooks", operation_id = "enable_webhook_endpoint",
    security(("key" = ["webhooks"])), params(("id" = Uuid, Path, description = "The endpoint")), request_body = Why,
    responses((status = 200, body = WebhookEndpoint)))]
pub async fn enable(
    Allowed(caller, ..): Allowed<ToWorkWebhooks>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
    Document(why): Document<Why>,
) -> Result<Json<WebhookEndpoint>, Problem> {
    parameters.none_left(&[])?;
    let stamp = caller.stamp(&why.reason)?;
    changed(office.acts.set_webhook_endpoint_state(id, true, &stamp).await?)?;
    Ok(Json(found(&office, id).await?))
}

/// Tells it nothing until it is enabled.
#[utoipa::path(post, path = "/v1/webhooks/endpoints/{id}/disable", tag = "webhooks", operation_id = "disable_webhook_endpoint",
    security(("key" = ["webhooks"])), params(("id" = Uuid, Path, description = "The endpoint")), request_body = Why,
    responses((status = 200, body = WebhookEndpoint)))]
pub async fn disable(
    Allowed(caller, ..): Allowed<ToWorkWebhooks>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
    Document(why): Document<Why>,
) -> Result<Json<WebhookEndpoint>, Problem> {
    parameters.none_left(&[])?;
    let stamp = caller.stamp(&why.reason)?;
    changed(office.acts.set_webhook_endpoint_state(id, false, &stamp).await?)?;
    Ok(Json(found(&office, id).await?))
}

/// Gives it a second secret; until the grace is over both sign.
#[utoipa::path(post, path = "/v1/webhooks/endpoints/{id}/rotate", tag = "webhooks", operation_id = "rotate_webhook_secret",
    security(("key" = ["webhooks"])), params(("id" = Uuid, Path, description = "The endpoint")), request_body = Rotation,
    responses((status = 200, body = ShownSecret)))]
pub async fn rotate(
    Allowed(caller, ..): Allowed<ToWorkWebhooks>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
    Document(asked): Document<Rotation>,
) -> Result<Json<ShownSecret>, Problem> {
    parameters.none_left(&[])?;
    let stamp = caller.stamp(&asked.reason)?;
    let grace = asked.grace_seconds.map_or(USUAL_GRACE, Duration::from_secs);
    if grace > LONGEST_GRACE {
        return Err(Problem::unfit("webhook_secrets_grace", "the grace is longer than a year").at("/grace_seconds"));
    }
    let secret = made()?;
    changed(
        office
            .acts
            .rotate_webhook_secret(id, secret.bytes(), grace, &stamp)
            .await?,
    )?;
    Ok(Json(shown(id, &secret)))
}

/// Removes it, with its secrets and its deliveries.
#[utoipa::path(post, path = "/v1/webhooks/endpoints/{id}/remove", tag = "webhooks", operation_id = "remove_webhook_endpoint",
    security(("key" = ["webhooks"])), params(("id" = Uuid, Path, description = "The endpoint")), request_body = Why,
    responses((status = 204, description = "It is removed")))]
pub async fn remove(
    Allowed(caller, ..): Allowed<ToWorkWebhooks>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
    Document(why): Document<Why>,
) -> Result<StatusCode, Problem> {
    parameters.none_left(&[])?;
    let stamp = caller.stamp(&why.reason)?;
    changed(office.acts.remove_webhook_endpoint(id, &stamp).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

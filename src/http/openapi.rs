//! All routes, and the document that describes them (OpenAPI 3.1), made from the same list.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, ObjectBuilder, Ref, RefOr, Required, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::api;
use super::caller::{ACTOR_FORM, LONGEST_ACTOR};
use super::console;
use super::headers;
use super::problem::Problem;
use super::serve::Office;

/// What the page of Swagger UI may do: run and load what is served here. It sets styles of its own while it runs.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "capture",
        description = "Captures of authorised payments. Amounts are whole minor units; lists are paged by an opaque cursor; what is \
                       refused is told as application/problem+json, whose code is the name that SQL gives the same mistake."
    ),
    components(schemas(Problem))
)]
struct Described;

fn described() -> (Router<Arc<Office>>, utoipa::openapi::OpenApi) {
    let mut described = Described::openapi();
    // The version of the interface, which is the first part of its paths; the program's own changes with every release.
    described.info.version = "1".to_owned();
    described.info.license = None;
    let components = described.components.get_or_insert_default();
    components.add_security_scheme(
        "key",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .bearer_format("cap_<prefix>_<secret>")
                .description(Some(
                    "A key of `capture key create`. The roles of a route are the scopes of which its key must have all.",
                ))
                .build(),
        ),
    );
    components.add_security_scheme(
        "signature",
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            "webhook-signature",
            "An HMAC-SHA256 of the bytes as they are sent. Standard Webhooks, or as the settings of a source say.",
        ))),
    );
    let (router, mut document) = OpenApiRouter::with_openapi(described)
        .merge(api::routes())
        .split_for_parts();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post];
        for operation in operations.into_iter().flatten() {
            let signed = is_signed(operation);
            tell_refusals(operation, signed);
            if !signed {
                tell_actor(operation);
            }
        }
    }
    (router, document)
}

/// Is its caller known by a signature alone, and looked at by no key?
fn is_signed(operation: &Operation) -> bool {
    let signature = SecurityRequirement::new("signature", [""; 0]);
    operation.security.as_deref() == Some(&[signature])
}

/// What a request with a key may be refused with.
const OF_KEYS: [(&str, &str); 3] = [
    ("401", "There is no key, or it opens nothing"),
    ("403", "The key lacks a scope, which `scope` names"),
    ("429", "The key has made more requests than it may; see Retry-After"),
];
/// And one that is signed.
const OF_SIGNATURES: [(&str, &str); 1] = [(
    "401",
    "There is no signature, it does not fit, or its time is too far from now",
)];
/// And any.
const OF_ALL: [(&str, &str); 2] = [
    (
        "503",
        "The database cannot be reached, or took too long; see Retry-After",
    ),
    ("default", "Refused; `code` is the name that SQL gives the same mistake"),
];

/// What a route may be refused with, in one form.
fn tell_refusals(operation: &mut Operation, signed: bool) {
    let own: &[(&str, &str)] = if signed { &OF_SIGNATURES } else { &OF_KEYS };
    for (status, says) in own.iter().copied().chain(OF_ALL) {
        let body = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new()
            .description(says)
            .content("application/problem+json", body)
            .build();
        operation
            .responses
            .responses
            .insert(status.to_owned(), RefOr::T(response));
    }
}

/// Every request with a key may say for whom it acts; one that cannot be read is refused everywhere.
fn tell_actor(operation: &mut Operation) {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(ACTOR_FORM))
        .max_length(Some(LONGEST_ACTOR));
    let parameter = ParameterBuilder::new()
        .name("X-Capture-Actor")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The person for whom the key acts, such as `alice@example.com`: the audit then names `<key>:<person>`",
        ))
        .schema(Some(schema));
    operation
        .parameters
        .get_or_insert_default()
        .push(RefOr::T(parameter.build()));
}

/// The document as it is checked in and served.
pub fn written() -> String {
    let (_, document) = described();
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Everything that is served.
pub fn routes() -> Router<Arc<Office>> {
    let (api, _) = described();
    let document = written();
    let swagger = SwaggerUi::new("/docs").config(Config::from("/openapi.json").validator_url("none"));
    let docs: Router<Arc<Office>> = Router::new().merge(swagger).layer(from_fn(docs_headers));
    Router::new()
        .merge(api.layer(from_fn(acceptable)))
        .merge(docs)
        .merge(console::routes())
        .route(
            "/openapi.json",
            get(async move || ([(header::CONTENT_TYPE, "application/json")], document)),
        )
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        // Bodies are read, and bounded, in one place of ours.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(headers::protect))
}

async fn docs_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOCS_POLICY));
    response
}

/// The API answers in JSON; who wants something else alone is told so. Not a platform that tells of a shipment: it looks at the
/// status alone, and money would wait for a header that nobody there can change.
async fn acceptable(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let tells_of_a_shipment =
        (path == "/v1/shipments" || path.starts_with("/v1/shipments/")) && request.method() == Method::POST;
    match tells_of_a_shipment || accepts_json(request.headers()) {
        true => next.run(request).await,
        false => Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "only_json",
            "the answer would be application/json",
        )
        .hint("send Accept: application/json, or no Accept at all")
        .at("Accept:")
        .into_response(),
    }
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(header::ACCEPT).iter().peekable();
    given.peek().is_none()
        || given
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|range| {
                let media = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
                matches!(
                    media.as_str(),
                    "" | "*/*" | "application/*" | "application/json" | "application/problem+json"
                )
            })
}

async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "live": true }))
}

async fn ready(axum::extract::State(office): axum::extract::State<Arc<Office>>) -> Response {
    let reason = match office.draining.is_cancelled() {
        true => "this server is draining",
        false => match office.outbox.now().await {
            Ok(_) => return Json(serde_json::json!({ "ready": true })).into_response(),
            Err(error) => {
                tracing::warn!(error = %error, "not ready");
                "the database cannot be reached, or does not answer as it should"
            }
        },
    };
    let body = Json(serde_json::json!({ "ready": false, "reason": reason }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn nothing_here(request: Request) -> Response {
    let accepted = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accepted| accepted.to_str().ok());
    let is_person = accepted.is_some_and(|accepted| accepted.contains("text/html"));
    let nothing = Problem::not_found("there is nothing at this address");
    match is_person && !request.uri().path().starts_with("/v1") {
        true => console::page_of(nothing.hint("perhaps the address was cut short")),
        false => nothing
            .hint("/openapi.json lists what there is, /docs shows it")
            .into_response(),
    }
}

async fn wrong_method() -> Problem {
    let detail = "this address does not take this method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        .hint("the header Allow of this answer lists those that it takes")
}

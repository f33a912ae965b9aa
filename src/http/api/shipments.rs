//! `POST /v1/shipments` and `POST /v1/shipments/{source}`: who tells of a shipment is known by a key or by a signature over
//! the bytes as they came. What was told is kept and answered at once; workers make of it what follows.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Names;
use crate::api_key::Scope;
use crate::http::body::{bytes, json_bytes, parse};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::ShipmentRequest;
use crate::shipment::{
    DocumentFault, Incoming, Shipment, ShipmentDocument, SignatureFault, Source, SourceKind, Verified,
};

/// The most bytes of a shipment: 1 MiB. Shops send whole orders along.
const MOST_BYTES: usize = 1 << 20;

/// A sender gives up after 5 s, mostly: the bytes must be here in time for the database to have its share.
const LONGEST_BODY: Duration = Duration::from_secs(2);
/// And the database must have them by then.
const LONGEST_KEEPING: Duration = Duration::from_millis(2500);

/// Under which requests are counted whose source is not told by their address.
const UNNAMED: &str = "api";

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShipmentKept {
    /// Its number, as `capture shipment list` shows it; null: it was known.
    shipment: Option<i64>,
    /// It was told before, and changes nothing.
    known: bool,
}

/// Tells of a shipment in our own words, with a key, or with a signature of Standard Webhooks by any source of that kind.
#[utoipa::path(post, path = "/v1/shipments", tag = "shipments", operation_id = "create_shipment",
    security(("key" = ["ship"]), ("signature" = [])), request_body = ShipmentDocument, responses(
        (status = 202, description = "Kept; workers release what it is for", body = ShipmentKept),
        (status = 200, description = "It was known", body = ShipmentKept)),
    params(("webhook-id" = Option<String>, Header, description = "The event's id, with a signature"),
        ("webhook-timestamp" = Option<String>, Header, description = "Seconds since 1970, with a signature"),
        ("webhook-signature" = Option<String>, Header, description = "v1, and base64 of the HMAC-SHA256 of id.timestamp.body")))]
pub async fn create(
    State(office): State<Arc<Office>>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    if request.headers().contains_key("webhook-signature") {
        let headers = request.headers().clone();
        parameters.none_left(&[])?;
        let body = body(&office, UNNAMED, request).await?;
        let asked = Asked { headers, body };
        let mut sources = office
            .shipment_sources
            .iter()
            .filter(|source| source.kind == SourceKind::Standard);
        let mut told = SignatureFault::Wrong;
        let believed = sources.find_map(|source| match asked.of(source) {
            Ok(verified) => Some((source, verified)),
            Err(fault) => {
                // One that fits and is stale says more than the others, which it does not fit.
                told = told.max(fault);
                None
            }
        });
        return match believed {
            Some((source, verified)) => take(&office, source, &verified, &asked).await,
            None => Err(refused(&office, UNNAMED, told)),
        };
    }
    let (parts, body) = request.into_parts();
    let caller = office.caller(&parts).await?;
    caller.must(Scope::Ship)?;
    parameters.none_left(&[])?;
    let body = json_bytes(Request::from_parts(parts, body), MOST_BYTES, office.patience).await?;
    let document: ShipmentDocument = parse(&body)?;
    let shipment = document.shipment().map_err(unfit)?;
    let Some(event_id) = document.event_id.as_deref().map(str::trim).filter(|id| !id.is_empty()) else {
        return Err(Problem::unfit("shipment_event_id_given", "the event has no id")
            .hint("give each event an id of its own, so that it may be told twice: the row's number, or a uuid")
            .at("/event_id"));
    };
    if event_id.chars().count() > 255 || event_id.contains(char::is_control) {
        let detail = "the event's id is not 1 to 255 printable characters";
        return Err(Problem::unfit("shipment_event_id_given", detail).at("/event_id"));
    }
    // Two keys are two sources: neither can take the other's ids. The person for whom a key acts makes no difference.
    let key = caller.name.split(':').next().unwrap_or_default();
    let source = format!("{UNNAMED}:{key}");
    let verified = Verified {
        event_id: Some(event_id.to_owned()),
        id_is_signed: true,
    };
    let request = ShipmentRequest {
        source: &source,
        event_id,
        digest: verified.digest(&body),
        body: &body,
    };
    keep(&office, UNNAMED, &request, &shipment).await
}

/// Tells of a shipment in a source's own words and with its own signature, as `[[shipment_source]]` of the settings says.
#[utoipa::path(post, path = "/v1/shipments/{source}", tag = "shipments", operation_id = "create_shipment_of_source",
    security(("signature" = [])), params(("source" = String, Path, description = "Its name in the settings")),
    request_body(content = serde_json::Value, description = "The source's document, as it was signed"), responses(
        (status = 202, description = "Kept; workers release what it is for", body = ShipmentKept),
        (status = 200, description = "It was known", body = ShipmentKept)))]
pub async fn create_of_source(
    State(office): State<Arc<Office>>,
    Names(name): Names<String>,
    request: Request,
) -> Result<Response, Problem> {
    let Some(source) = office.shipment_sources.iter().find(|source| source.name == name) else {
        return Err(Problem::not_found("there is no such source of shipments")
            .hint("the sources are the [[shipment_source]] of the settings of this server"));
    };
    let headers = request.headers().clone();
    let body = body(&office, &source.name, request).await?;
    let asked = Asked { headers, body };
    match asked.of(source) {
        Ok(verified) => take(&office, source, &verified, &asked).await,
        Err(fault) => Err(refused(&office, &source.name, fault)),
    }
}

/// A request as it came.
struct Asked {
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    fn with<T>(&self, ask: impl FnOnce(&Incoming<'_>) -> T) -> T {
        ask(&Incoming {
            header: &|name| self.headers.get(name)?.to_str().ok().map(str::to_owned),
            body: &self.body,
            now_s: Utc::now().timestamp(),
        })
    }

    fn of(&self, source: &Source) -> Result<Verified, SignatureFault> {
        self.with(|incoming| source.verify(incoming))
    }
}

async fn body(office: &Office, source: &str, request: Request) -> Result<Bytes, Problem> {
    let read = bytes(request, MOST_BYTES, office.patience.min(LONGEST_BODY)).await;
    read.inspect_err(|_| office.shipment_requests.add(source, "body_refused"))
}

/// Takes what is believed: understands it, keeps it, and keeps the bytes alone of what means nothing.
async fn take(office: &Office, source: &Source, verified: &Verified, asked: &Asked) -> Result<Response, Problem> {
    let digest = verified.digest(&asked.body);
    let understood = understand(source, verified, asked, digest);
    let request = |event_id| ShipmentRequest {
        source: &source.name,
        event_id,
        digest,
        body: &asked.body,
    };
    match understood {
        Ok((event_id, shipment)) => keep(office, &source.name, &request(&event_id), &shipment).await,
        Err(problem) => {
            office.shipment_requests.add(&source.name, "not_understood");
            // It may quote what was sent, and the database takes no NUL.
            let fault = format!("{}: {}", problem.place().unwrap_or_default(), problem.detail());
            let fault: String = fault.chars().filter(|c| !c.is_control()).take(500).collect();
            tracing::warn!(
                source = source.name,
                fault,
                "a shipment that is signed well is not understood"
            );
            let request = request(verified.event_id.as_deref().unwrap_or_default());
            in_time(office.acts.keep_odd_shipment(&request, &fault)).await?;
            Err(problem)
        }
    }
}

fn understand(
    source: &Source,
    verified: &Verified,
    asked: &Asked,
    digest: [u8; 32],
) -> Result<(String, Shipment), Problem> {
    if source.kind == SourceKind::Standard {
        let document: ShipmentDocument = parse(&asked.body).map_err(unreadable)?;
        let event_id = source.event_id(verified, &Value::Null, digest).map_err(unfit)?;
        return Ok((event_id, document.shipment().map_err(unfit)?));
    }
    let document: Value = parse(&asked.body).map_err(unreadable)?;
    let shipment = asked.with(|incoming| source.read(incoming, &document)).map_err(unfit)?;
    let event_id = source.event_id(verified, &document, digest).map_err(unfit)?;
    Ok((event_id, shipment))
}

async fn keep(
    office: &Office,
    counted_as: &str,
    request: &ShipmentRequest<'_>,
    shipment: &Shipment,
) -> Result<Response, Problem> {
    let number = in_time(office.acts.receive_shipment(request, shipment)).await?;
    let (status, result) = match number {
        Some(_) => (StatusCode::ACCEPTED, "accepted"),
        None => (StatusCode::OK, "known"),
    };
    office.shipment_requests.add(counted_as, result);
    let kept = ShipmentKept {
        shipment: number,
        known: number.is_none(),
    };
    Ok((status, Json(kept)).into_response())
}

/// A sender that was not answered in time asks again, which does no harm.
async fn in_time<T>(act: impl Future<Output = Result<T, crate::outbox::OutboxError>>) -> Result<T, Problem> {
    match tokio::time::timeout(LONGEST_KEEPING, act).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Problem::unreachable()),
    }
}

/// Nothing is stored of who is not believed, and which of the secrets came near is not told.
fn refused(office: &Office, source: &str, fault: SignatureFault) -> Problem {
    office.shipment_requests.add(source, fault.name());
    tracing::warn!(
        source,
        fault = fault.name(),
        "a shipment was told by nobody that is known"
    );
    Problem::new(StatusCode::UNAUTHORIZED, fault.name(), fault.says())
        .hint("sign the bytes as they are sent, with the secret of this source, and send them within 5 minutes")
}

fn unfit(fault: DocumentFault) -> Problem {
    Problem::unfit("document_not_understood", fault.says)
        .hint(fault.fix)
        .at(fault.pointer)
}

/// What is signed well and is no JSON is not the sender's way of asking, but what he has to say.
fn unreadable(problem: Problem) -> Problem {
    match problem.status() {
        400 => Problem::unfit("document_readable", problem.detail().to_owned()).at(""),
        _ => problem,
    }
}

//! `POST /v1/releases`: lets held captures go.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::enqueue::idempotency_key;
use crate::http::body::Document;
use crate::http::caller::{Allowed, ToRelease};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::HeldRelease;

/// What is released, and by which shipment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRelease {
    /// The provider.
    #[schema(pattern = "^(afterpay|optty|resolve)$")]
    provider: String,
    /// The merchant account; else `default`.
    account: Option<String>,
    /// The payment; or
    payment_id: Option<String>,
    /// the order.
    order_id: Option<String>,
    /// Just this capture; else the oldest held one of the payment.
    capture_ref: Option<String>,
    /// The shipment: the same one again changes nothing. It, the header Idempotency-Key, which stands for it, or
    /// `capture_ref` is needed: else a request that is repeated would free another capture.
    shipment_ref: Option<String>,
    /// The carrier; with its method and the parcel, all or none.
    company: Option<String>,
    /// How it travels.
    method: Option<String>,
    /// The parcel.
    tracking_number: Option<String>,
}

/// What was written.
#[derive(Debug, Serialize, ToSchema)]
pub struct Released {
    /// Its number.
    release_id: i64,
    /// False: the same shipment had been told before.
    created: bool,
}

/// Lets a held capture go, before or after it is enqueued: workers match releases with what is held.
#[utoipa::path(post, path = "/v1/releases", tag = "captures", operation_id = "create_release", security(("key" = ["release"])),
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!#-~]([ -~]*[!-~])?$",
        description = "The shipment_ref, bare or as a quoted string; if the document has one too, they must be equal")),
    request_body = NewRelease, responses(
        (status = 201, description = "Written", body = Released), (status = 200, description = "It was there", body = Released)))]
pub async fn create(
    Allowed(caller, ..): Allowed<ToRelease>,
    State(office): State<Arc<Office>>,
    parameters: Parameters,
    headers: HeaderMap,
    Document(asked): Document<NewRelease>,
) -> Result<Response, Problem> {
    parameters.none_left(&[])?;
    let shipping = match (asked.company, asked.method, asked.tracking_number) {
        (None, None, None) => None,
        (Some(company), Some(method), Some(tracking)) => Some((company, method, tracking)),
        _ => {
            let detail = "company, method and tracking_number are given in part";
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "releases_shipping_all_or_none",
                detail,
            )
            .hint("give all three or none"));
        }
    };
    let key = idempotency_key(&headers)?;
    let shipment_ref = shipment(asked.shipment_ref, key, asked.capture_ref.as_deref())?;
    let stamp = caller.note(format!("shipment {shipment_ref}"));
    let release = HeldRelease {
        provider: asked.provider,
        account: asked.account,
        payment_id: asked.payment_id,
        order_id: asked.order_id,
        capture_ref: asked.capture_ref,
        shipment_ref: Some(shipment_ref),
        shipping,
    };
    let released = office.acts.release_by(&release, &stamp).await;
    let (release_id, created) = released.map_err(|error| Problem::from(error).repeatable())?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Released { release_id, created })).into_response())
}

/// By what a repeat is known. A capture is released once, so its own reference will do.
fn shipment(given: Option<String>, key: Option<String>, capture_ref: Option<&str>) -> Result<String, Problem> {
    let given = given.filter(|text| !text.trim().is_empty());
    match (given, key) {
        (Some(given), Some(key)) if given != key => {
            let detail = "the header Idempotency-Key and shipment_ref differ";
            Err(Problem::unfit("idempotency_key_differs", detail)
                .hint("they are one thing: send one of them, or both alike")
                .at("/shipment_ref"))
        }
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => match capture_ref.filter(|text| !text.trim().is_empty()) {
            Some(one) => Ok(one.to_owned()),
            None => {
                let detail = "nothing tells this release from another one of the payment";
                Err(Problem::unfit("releases_name_a_shipment_or_a_capture", detail)
                    .hint("pass shipment_ref, or the header Idempotency-Key, the same for every repeat; or capture_ref")
                    .at("/shipment_ref"))
            }
        },
    }
}

//! `POST /v1/releases`: lets held captures go.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// The shipment: the same one again changes nothing.
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
    request_body = NewRelease, responses(
        (status = 201, description = "Written", body = Released), (status = 200, description = "It was there", body = Released)))]
pub async fn create(
    _: Allowed<ToRelease>,
    State(office): State<Arc<Office>>,
    parameters: Parameters,
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
    let release = HeldRelease {
        provider: asked.provider,
        account: asked.account,
        payment_id: asked.payment_id,
        order_id: asked.order_id,
        capture_ref: asked.capture_ref,
        shipment_ref: asked.shipment_ref,
        shipping,
    };
    let (release_id, created) = office.acts.release(&release).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Released { release_id, created })).into_response())
}

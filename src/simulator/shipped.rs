//! Goods that a provider is told of after the capture: one courier of a payment at Afterpay, a record each of an invoice at
//! Resolve. No money moves. By their current documents; what is answered beside the status is not looked at by anybody.

use std::sync::Arc;

use chrono::DateTime;
use serde::Deserialize;

use super::{
    afterpay::instant,
    answer::Answer,
    json::Object,
    ledger_file::Line,
    model::ProviderName,
    payment::ToldParcel,
    refusal::Refusal,
    respond::Arrived,
    route::{Action, invoiced},
    simulation::Simulation,
};

/// The longest courier's name and tracking number at Afterpay.
const COURIER_MAX: usize = 128;

/// Refuses, or keeps what was told.
pub(super) async fn told(simulation: &Arc<Simulation>, arrived: &Arrived, account: &str) -> Answer {
    let model = arrived.call.model;
    let read = match arrived.call.action {
        Action::Courier => courier(simulation, arrived),
        _ => shipment(simulation, arrived),
    };
    let (payment_id, parcel) = match read {
        Ok(read) => read,
        Err(refusal) => return refusal.answer(model),
    };
    let found = simulation
        .books()
        .find(model.provider(), account, &payment_id)
        .map(|payment| payment.key());
    let Some((provider, payment_account, payment_id)) = found else {
        return match model.provider() {
            ProviderName::Afterpay => model.unknown_payment(&payment_id).answer(model),
            ProviderName::Optty | ProviderName::Resolve => Refusal::usual(model, 404).answer(model),
        };
    };
    simulation
        .books()
        .amend(arrived.seq, |record| record.payment_id = Some(payment_id.clone()));
    let line = Line::Shipped {
        provider,
        payment_account,
        payment_id,
        replaces: provider == ProviderName::Afterpay,
        parcel,
    };
    match simulation.commit(&[&line]).await {
        Ok(()) => Answer::json(
            200,
            Object::new().text("told_at", &instant(simulation.clock.now())).done(),
        ),
        Err(error) => {
            tracing::error!(%error, "a shipment was not kept");
            Refusal::usual(model, 500).answer(model)
        }
    }
}

fn courier(simulation: &Simulation, arrived: &Arrived) -> Result<(String, ToldParcel), Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Courier {
        shipped_at: Option<String>,
        name: Option<String>,
        tracking: Option<String>,
        priority: Option<String>,
    }
    let invalid = |what: &str| Refusal::new(422, "invalid_object", what.to_owned());
    let told: Courier =
        serde_json::from_slice(&arrived.request.body).map_err(|_| invalid("The body is not a courier"))?;
    let short = |text: &Option<String>| text.as_ref().is_none_or(|text| text.chars().count() <= COURIER_MAX);
    if !short(&told.name) || !short(&told.tracking) {
        return Err(invalid("name and tracking have at most 128 characters"));
    }
    let dated = |text: &String| DateTime::parse_from_rfc3339(text).is_ok();
    if !told.shipped_at.as_ref().is_none_or(dated) {
        return Err(invalid("shippedAt must be a time of ISO 8601"));
    }
    if !matches!(told.priority.as_deref(), None | Some("STANDARD" | "EXPRESS")) {
        return Err(invalid("priority must be STANDARD or EXPRESS"));
    }
    let parcel = ToldParcel {
        courier: told.name.unwrap_or_default(),
        tracking: told.tracking.unwrap_or_default(),
        shipped_at: told.shipped_at,
        invoice_id: None,
        told_at: simulation.clock.now(),
    };
    Ok((arrived.call.payment_id.clone().unwrap_or_default(), parcel))
}

fn shipment(simulation: &Simulation, arrived: &Arrived) -> Result<(String, ToldParcel), Refusal> {
    #[derive(Deserialize)]
    struct Shipment {
        merchant_invoice_id: Option<String>,
        fulfillment_method: Option<String>,
        shipment_tracking_number: Option<String>,
        shipment_courier: Option<String>,
    }
    let invalid = |what: &str| Refusal::new(400, "validation_error", what.to_owned());
    let told: Shipment =
        serde_json::from_slice(&arrived.request.body).map_err(|_| invalid("The body is not a shipment"))?;
    let Some(invoice_id) = told.merchant_invoice_id else {
        return Err(invalid("merchant_invoice_id is required"));
    };
    // The others need a proof of delivery as a file.
    if !matches!(told.fulfillment_method.as_deref(), None | Some("shipping_provider")) {
        return Err(invalid("file is required"));
    }
    let (Some(courier), Some(tracking)) = (told.shipment_courier, told.shipment_tracking_number) else {
        return Err(invalid("shipment_tracking_number and shipment_courier are required"));
    };
    let parcel = ToldParcel {
        courier,
        tracking,
        shipped_at: None,
        invoice_id: Some(invoice_id.clone()),
        told_at: simulation.clock.now(),
    };
    Ok((invoiced(&invoice_id).0.to_owned(), parcel))
}

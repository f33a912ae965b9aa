//! Resolve, orders: several captures, each with a required key. By its current documents; how long
//! keys live is unknown, here they live for ever.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    afterpay::instant,
    amount::minor_from_decimal,
    answer::Answer,
    ask::{Ask, Asked},
    json::{Object, array},
    optty::short_decimal,
    payment::{Payment, Twist, View},
    refusal::Refusal,
    request::Request,
    resolve_charge::customer,
};

#[derive(Deserialize)]
struct Body {
    amount: Box<RawValue>,
    idempotency_key: String,
}

pub(super) fn ask(request: &Request) -> Result<Ask, Refusal> {
    let invalid = |message: &str| Refusal::new(400, "validation_error", message.to_owned());
    let body: Body =
        serde_json::from_slice(&request.body).map_err(|_| invalid("amount and idempotency_key are required"))?;
    if body.idempotency_key.is_empty() {
        return Err(invalid("idempotency_key must not be empty"));
    }
    Ok(Ask {
        amount: Asked::Decimal(body.amount.get().to_owned()),
        key: Some(body.idempotency_key.clone()),
        reference: Some(body.idempotency_key),
        ..Ask::default()
    })
}

pub(super) fn judge(payment: &Payment, ask: &Ask, now: DateTime<Utc>) -> Result<i64, Refusal> {
    let refused = |message: &str| Refusal::new(400, "invalid_request", message.to_owned());
    let minor = match &ask.amount {
        Asked::Everything => payment.remaining_minor(),
        Asked::Decimal(text) => minor_from_decimal(text, 2)
            .map_err(|_| Refusal::new(400, "validation_error", "amount is no amount of dollars"))?,
    };
    if payment.is_voided(now) || payment.is_expired(now) || payment.authorization.declined {
        return Err(refused("The order cannot be captured"));
    }
    if minor <= 0 || minor > payment.remaining_minor() {
        return Err(refused("amount is not within what remains"));
    }
    Ok(minor)
}

pub(super) fn order_answer(view: &View<'_>) -> Answer {
    let payment = view.payment;
    let amount = |minor| short_decimal(minor, payment.currency());
    let captured = view.captured_minor();
    let left = payment.authorized_minor() - captured;
    let canceled = if payment.is_voided(view.as_of) { left } else { 0 };
    let status = match captured {
        _ if canceled > 0 && captured == 0 => "canceled",
        0 => "authorized",
        _ if left > 0 => "partially_captured",
        _ => "captured",
    };
    let events = view.movements().enumerate().map(|(place, movement)| {
        let invoice_id = format!("inv-{}--{}", payment.id(), place + 1);
        let invoice_id = match movement.capture_id.ends_with(super::payment::BROKEN) {
            true => format!("{invoice_id}{}", super::payment::BROKEN),
            false => invoice_id,
        };
        Object::new()
            .raw("amount", &amount(movement.amount_minor))
            .maybe("idempotency_key", movement.reference.as_deref())
            .text("processed_at", &instant(movement.at))
            .text("invoice_id", &invoice_id)
            .done()
    });
    let first = view.movements().next().map(|movement| instant(movement.at));
    let last = view
        .movements()
        .next_back()
        .map_or(payment.created_at, |movement| movement.at);
    let expires_at = payment.authorization.expires_at.map(instant);
    let remaining = match view.twist {
        Some(Twist::Number) => "1e400000".to_owned(),
        _ => amount(left - canceled),
    };
    let body = Object::new()
        .text("id", &view.payment_id())
        .maybe("number", payment.authorization.order_number.as_deref())
        .maybe("po_number", payment.authorization.po_number.as_deref())
        .text("status", status)
        .raw("amount_authorized", &amount(payment.authorized_minor()))
        .raw("amount_captured", &amount(captured))
        .raw("amount_canceled", &amount(canceled))
        .raw("amount_remaining", &remaining)
        .maybe("first_captured_at", first.as_deref())
        .maybe("authorization_expires_at", expires_at.as_deref())
        .raw("capture_events", &array(events))
        .text("authorized_at", &instant(payment.created_at))
        .text("updated_at", &instant(last))
        .raw("customer", &customer(payment))
        .done();
    Answer::json(200, body)
}

//! Resolve, charges: no idempotency at all. By its current documents unless said otherwise.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    afterpay::instant,
    amount::minor_from_decimal,
    answer::Answer,
    ask::{Ask, Asked},
    json::{Object, quote},
    optty::short_decimal,
    payment::{BROKEN, Payment, Twist, View},
    person,
    refusal::Refusal,
    request::Request,
    settings::Recapture,
};

#[derive(Deserialize)]
struct Body {
    amount: Option<Box<RawValue>>,
    order_number: Option<String>,
    po_number: Option<String>,
}

/// The absence of `amount`, and of the whole body, captures everything.
pub(super) fn ask(request: &Request) -> Result<Ask, Refusal> {
    if request.body.is_empty() {
        return Ok(Ask::default());
    }
    let body: Body = serde_json::from_slice(&request.body)
        .map_err(|_| Refusal::new(400, "validation_error", "The body is not a capture"))?;
    Ok(Ask {
        amount: match body.amount {
            Some(digits) => Asked::Decimal(digits.get().to_owned()),
            None => Asked::Everything,
        },
        reference: body.order_number.clone(),
        order_number: body.order_number,
        po_number: body.po_number,
        ..Ask::default()
    })
}

/// What a captured charge says to a second capture is undocumented: the setting decides, and by
/// default the money moves again, which is the worst.
pub(super) fn judge(payment: &Payment, ask: &Ask, now: DateTime<Utc>, recapture: Recapture) -> Result<i64, Refusal> {
    let refused = |message: &str| Refusal::new(400, "invalid_request", message.to_owned());
    let minor = match &ask.amount {
        Asked::Everything => payment.authorized_minor(),
        Asked::Decimal(text) => minor_from_decimal(text, 2)
            .map_err(|_| Refusal::new(400, "validation_error", "amount is no amount of dollars"))?,
    };
    if payment.is_voided(now) || payment.is_expired(now) || payment.authorization.declined {
        return Err(refused("The charge cannot be captured"));
    }
    if minor <= 0 || minor > payment.authorized_minor() {
        return Err(Refusal::new(
            400,
            "validation_error",
            "amount is not within the authorised one",
        ));
    }
    if payment.taken_minor() > 0 && recapture == Recapture::Refuse400 {
        return Err(refused("The charge is captured already"));
    }
    Ok(minor)
}

/// The charge; its `amount` is what was authorised, captured or not.
pub(super) fn charge_answer(view: &View<'_>) -> Answer {
    let payment = view.payment;
    let authorization = &payment.authorization;
    let last = view.movements().next_back();
    let captured = last.is_some();
    let order_number = view
        .movements()
        .filter_map(|movement| movement.order_number)
        .next_back();
    let order_number = order_number.or_else(|| authorization.order_number.clone());
    let order_number = match view.twist {
        Some(Twist::BrokenId) => Some(format!("{}{BROKEN}", order_number.unwrap_or_default())),
        _ => order_number,
    };
    let po_number = view.movements().filter_map(|movement| movement.po_number).next_back();
    let po_number = po_number.or_else(|| authorization.po_number.clone());
    let shown = match view.twist {
        Some(Twist::Amount) => payment.authorized_minor() + 1,
        _ => payment.authorized_minor(),
    };
    let fee = match view.twist {
        Some(Twist::Number) => "1e400000",
        _ => "0",
    };
    let captured_at = last.as_ref().map(|movement| instant(movement.at));
    let updated_at = captured_at.clone().unwrap_or_else(|| instant(payment.created_at));
    let invoice_id = captured.then(|| format!("inv-{}", payment.id()));
    let metadata = serde_json::to_string(&payment.metadata).unwrap_or_else(|_| "{}".to_owned());
    let body = Object::new()
        .text("id", &view.payment_id())
        .raw("amount", &short_decimal(shown, payment.currency()))
        .raw("fee", fee)
        .flag("captured", captured)
        .maybe("captured_at", captured_at.as_deref())
        .flag("canceled", payment.is_voided(view.as_of))
        .maybe("merchant_invoice_id", invoice_id.as_deref())
        .maybe("order_number", order_number.as_deref())
        .maybe("po_number", po_number.as_deref())
        .raw("customer", &customer(payment))
        .raw("metadata", &metadata)
        .text("created_at", &instant(payment.created_at))
        .text("updated_at", &updated_at)
        .done();
    Answer::json(200, body)
}

/// The invoice of a captured charge, or of one capture of an order. That what was captured is in
/// `amount_due` is inference.
pub(super) fn invoice_answer(view: &View<'_>, ordinal: Option<usize>) -> Option<Answer> {
    let movements: Vec<_> = view.movements().collect();
    let (minor, suffix) = match ordinal {
        Some(ordinal) => {
            let movement = ordinal.checked_sub(1).and_then(|place| movements.get(place))?;
            (movement.amount_minor, format!("--{ordinal}"))
        }
        None if movements.is_empty() => return None,
        None => (view.captured_minor(), String::new()),
    };
    let payment = view.payment;
    let due = match view.twist {
        Some(Twist::Number) => "1e400000".to_owned(),
        _ => short_decimal(minor, payment.currency()),
    };
    let number = payment.authorization.order_number.clone().unwrap_or_default();
    let number = match view.twist {
        Some(Twist::BrokenId) => format!("{number}{BROKEN}"),
        _ => number,
    };
    let body = Object::new()
        .text("id", &format!("inv-{}{suffix}", view.payment_id()))
        .text("number", &number)
        .raw("amount_due", &due)
        .raw("amount_paid", "0")
        .raw("customer", &customer(payment))
        .maybe(
            "created_at",
            movements.last().map(|movement| instant(movement.at)).as_deref(),
        )
        .done();
    Some(Answer::json(200, body))
}

pub(super) fn customer(payment: &Payment) -> String {
    format!(
        "{{\"id\":{},\"name\":{},\"email\":{}}}",
        quote(&format!("cus-{}", payment.id())),
        quote(&person::name(payment.id())),
        quote(&person::email(payment.id())),
    )
}

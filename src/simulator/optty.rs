//! Optty: captures are named by the merchant, unique per order, and not always final at once.
//! By its current documents unless said otherwise.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    afterpay::instant,
    amount::{decimal_from_minor, exponent, minor_from_decimal},
    answer::Answer,
    ask::{Ask, Asked, Verdict},
    json::{Object, array},
    ledger_file::Standing,
    payment::{Payment, Twist, View},
    person,
    refusal::Refusal,
    request::Request,
    settings::DuplicateReference,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    capture_reference: String,
    amount: Box<RawValue>,
    shipping_info: Option<ShippingInfo>,
}

/// All three or none.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShippingInfo {
    shipping_company: String,
    shipping_method: String,
    tracking_number: String,
}

fn refused(message: &str) -> Refusal {
    Refusal::new(400, "", message)
}

pub(super) fn ask(request: &Request) -> Result<Ask, Refusal> {
    let body: Body =
        serde_json::from_slice(&request.body).map_err(|_| refused("The body must have captureReference and amount"))?;
    if body.capture_reference.is_empty() {
        return Err(refused("captureReference must not be empty"));
    }
    let shipping = body.shipping_info.map(|info| {
        [info.shipping_company, info.shipping_method, info.tracking_number]
            .iter()
            .all(|part| !part.is_empty())
    });
    if shipping == Some(false) {
        return Err(refused("shippingInfo is incomplete"));
    }
    Ok(Ask {
        // A string in quotes is no number and fails as one.
        amount: Asked::Decimal(body.amount.get().to_owned()),
        reference: Some(body.capture_reference),
        has_shipping: shipping == Some(true),
        ..Ask::default()
    })
}

/// A used reference comes first: whatever else is wrong with a repeat, it is a repeat.
pub(super) fn judge(
    payment: &Payment,
    ask: &Ask,
    now: DateTime<Utc>,
    duplicate: DuplicateReference,
) -> Result<Verdict, Refusal> {
    let used = payment
        .movements
        .iter()
        .position(|movement| movement.reference.is_some() && movement.reference == ask.reference);
    match (used, duplicate) {
        (Some(_), DuplicateReference::Refuse400) => {
            return Err(refused("captureReference must be unique"));
        }
        (Some(place), DuplicateReference::Replay) => return Ok(Verdict::Repeat(place)),
        (None, _) => {}
    }
    let Asked::Decimal(text) = &ask.amount else {
        return Err(refused("amount is required"));
    };
    let minor = minor_from_decimal(text, exponent(payment.currency()).min(2))
        .map_err(|_| refused("amount must be a number with at most two decimals"))?;
    if payment.authorization.requires_shipping && !ask.has_shipping {
        return Err(refused("shippingInfo is required for this payment method"));
    }
    let over = payment.is_voided(now) || payment.is_expired(now) || payment.authorization.declined;
    if over {
        return Err(refused("The order cannot be captured"));
    }
    if minor <= 0 || minor > payment.remaining_minor() {
        return Err(refused("amount is not above zero or above what is left"));
    }
    Ok(Verdict::Capture(minor))
}

pub(super) fn captured_answer(view: &View<'_>) -> Answer {
    let Some(movement) = view.movements().next_back() else {
        return Answer::json(200, "{}".to_owned());
    };
    let amount = match view.twist {
        Some(Twist::Number) => "1e400000".to_owned(),
        _ => short_decimal(movement.amount_minor, view.payment.currency()),
    };
    let body = Object::new()
        .maybe("captureReference", movement.reference.as_deref())
        .text("captureId", &movement.capture_id)
        .raw("capturedAmount", &amount)
        .done();
    Answer::json(200, body)
}

/// The order without its captures.
pub(super) fn order_answer(view: &View<'_>) -> Answer {
    Answer::json(200, order(view).done())
}

/// The order with its captures; their amounts are strings here. Whether a capture shows its
/// reference is unknown: `with_references` decides.
pub(super) fn details_answer(view: &View<'_>, with_references: bool) -> Answer {
    let captures = view.movements().map(|movement| {
        let status = match movement.standing {
            Standing::Captured => "SUCCESSFUL",
            Standing::Pending { .. } => "PENDING",
            Standing::Failed => "FAILED",
            Standing::Declined | Standing::DeclinedWith402 => "DECLINED",
        };
        let mut capture = Object::new()
            .text("captureId", &movement.capture_id)
            .text("amount", &short_decimal(movement.amount_minor, view.payment.currency()))
            .text("status", status)
            .text("createdAt", &instant(movement.at));
        if with_references {
            capture = capture.maybe("captureReference", movement.reference.as_deref());
        }
        capture.done()
    });
    let body = order(view)
        .raw("orderCaptures", &array(captures))
        .raw("orderRefunds", "[]");
    Answer::json(200, body.done())
}

fn order(view: &View<'_>) -> Object {
    let payment = view.payment;
    let customer = Object::new()
        .text("firstName", &person::given_name(payment.id()))
        .text("lastName", &person::surname(payment.id()))
        .text("email", &person::email(payment.id()))
        .text("phone", &person::phone(payment.id()))
        .done();
    let status = match view.captured_minor() {
        _ if payment.is_voided(view.as_of) => "VOIDED",
        0 if payment.is_expired(view.as_of) => "EXPIRED",
        0 => "AUTHORIZED",
        captured if captured < payment.authorized_minor() => "PARTIALLY_CAPTURED",
        _ => "CAPTURED",
    };
    let amount = |minor| short_decimal(minor, payment.currency());
    let object = Object::new()
        .text("orderReference", &view.payment_id())
        .text("status", status)
        .text("currency", payment.currency())
        .text("orderAmount", &amount(payment.authorization.amount_minor))
        .text("surcharge", &amount(payment.authorization.surcharge_minor))
        .text("createdAt", &instant(payment.created_at))
        .raw("customer", &customer);
    match view.twist {
        Some(Twist::Number) => object.raw("sequence", "1e400000"),
        _ => object,
    }
}

/// As a script language writes numbers: no zeros at the end, `120`, `120.5`.
pub(super) fn short_decimal(minor: i64, currency: &str) -> String {
    let decimal = decimal_from_minor(minor, exponent(currency));
    if decimal.contains('.') {
        return decimal.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    decimal
}

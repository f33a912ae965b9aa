//! Afterpay, API v2: what a capture must look like, when it is refused, how a payment is shown.
//! By its current documents unless said otherwise.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    amount::{NoAmount, decimal_from_minor, exponent, minor_from_decimal},
    answer::Answer,
    ask::{Ask, Asked},
    json::{Object, array},
    ledger_file::{Movement, Standing},
    payment::{Payment, Twist, View},
    person,
    refusal::Refusal,
    request::Request,
};

const CURRENCIES: [&str; 6] = ["AUD", "CAD", "EUR", "GBP", "NZD", "USD"];
const MINIMUM_MINOR: i64 = 100;
const REFERENCE_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    request_id: Option<String>,
    amount: Option<Box<RawValue>>,
    merchant_reference: Option<String>,
    payment_event_merchant_reference: Option<String>,
}

#[derive(Deserialize)]
struct Money {
    amount: String,
    currency: String,
}

/// Headers that every call needs: 415, 406, and 400 for a `User-Agent` that does not name platform
/// and merchant as the documents ask.
pub(super) fn check_headers(request: &Request) -> Result<(), Refusal> {
    let head = &request.head;
    let has = |name: &str, wanted: &str| head.header(name).is_some_and(|value| value.contains(wanted));
    if head.method != "GET" && !has("content-type", "application/json") {
        return Err(Refusal::new(
            415,
            "unsupported_media_type",
            "Content-Type must be application/json",
        ));
    }
    if !has("accept", "application/json") {
        return Err(Refusal::new(406, "not_acceptable", "Accept must be application/json"));
    }
    let agent = head.header("user-agent").unwrap_or_default();
    let named = agent.contains('(') && agent.contains("Merchant/") && agent.contains("http");
    if !named {
        return Err(Refusal::new(
            400,
            "bad_request",
            "User-Agent must be like Name/1.0 (Platform/1.0; Merchant/ID) https://shop",
        ));
    }
    Ok(())
}

pub(super) fn ask(request: &Request) -> Result<Ask, Refusal> {
    if serde_json::from_slice::<&RawValue>(&request.body).is_err() {
        return Err(Refusal::new(400, "bad_request", "The body is not JSON"));
    }
    let invalid = |what: &str| Refusal::new(422, "invalid_object", what.to_owned());
    let body: Body = serde_json::from_slice(&request.body).map_err(|_| invalid("The body is not a capture"))?;
    for reference in [&body.merchant_reference, &body.payment_event_merchant_reference] {
        if reference
            .as_ref()
            .is_some_and(|text| text.chars().count() > REFERENCE_MAX)
        {
            return Err(invalid("A reference is longer than 128 characters"));
        }
    }
    let amount = body.amount.ok_or_else(|| invalid("amount is required"))?;
    let money: Money = serde_json::from_str(amount.get())
        .map_err(|_| invalid("amount must be an object of two strings, amount and currency"))?;
    if !CURRENCIES.contains(&money.currency.as_str()) {
        return Err(Refusal::new(
            422,
            "unsupported_currency",
            "The currency is not supported",
        ));
    }
    Ok(Ask {
        amount: Asked::Decimal(money.amount),
        currency: Some(money.currency),
        key: body.request_id,
        reference: body.payment_event_merchant_reference,
        merchant_reference: body.merchant_reference,
        ..Ask::default()
    })
}

/// No such order: 404 for what is no order id at all, 412 `error` for an id of another environment or account.
pub(super) fn unknown_payment(payment_id: &str) -> Refusal {
    if is_order_id(payment_id) {
        Refusal::new(412, "error", "The payment is not available to this account")
    } else {
        Refusal::new(404, "not_found", "There is no such payment")
    }
}

pub(super) fn is_order_id(payment_id: &str) -> bool {
    !payment_id.is_empty() && payment_id.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn judge(payment: &Payment, ask: &Ask, now: DateTime<Utc>) -> Result<i64, Refusal> {
    let invalid = |message: &str| Refusal::new(422, "invalid_amount", message.to_owned());
    if ask.currency.as_deref() != Some(payment.currency()) {
        return Err(Refusal::new(
            422,
            "unsupported_currency",
            "The order has another currency",
        ));
    }
    let Asked::Decimal(text) = &ask.amount else {
        return Err(invalid("The amount is missing"));
    };
    let minor = minor_from_decimal(text, exponent(payment.currency())).map_err(|fault| match fault {
        NoAmount::NotDecimal => Refusal::new(422, "invalid_object", "The amount is no decimal"),
        NoAmount::TooFine | NoAmount::TooLarge => invalid("The amount has too many digits"),
    })?;
    if payment.authorization.declined {
        return Err(Refusal::new(412, "invalid_state", "The payment was not approved"));
    }
    if payment.remaining_minor() == 0 {
        return Err(Refusal::new(410, "payment_captured", "The payment is captured already"));
    }
    if payment.is_voided(now) {
        return Err(Refusal::new(412, "payment_voided", "The payment was voided"));
    }
    if payment.is_expired(now) {
        return Err(Refusal::new(412, "payment_expired", "The authorisation has expired"));
    }
    if minor < MINIMUM_MINOR || minor > payment.remaining_minor() {
        return Err(invalid("The amount is below the minimum or above what is open"));
    }
    Ok(minor)
}

/// 201 and the whole payment, declined or not; a decline may come as 402 with the same body
/// (seen in recorded answers).
pub(super) fn captured_answer(view: &View<'_>, standing: Standing) -> Answer {
    let status = match standing {
        Standing::DeclinedWith402 => 402,
        _ => 201,
    };
    Answer::json(status, payment_json(view))
}

pub(super) fn payment_json(view: &View<'_>) -> String {
    let payment = view.payment;
    let authorization = &payment.authorization;
    let places = exponent(payment.currency());
    let money = |minor: i64| {
        Object::new()
            .text("amount", &decimal_from_minor(minor, places))
            .text("currency", view.currency())
            .done()
    };
    let captured = view.captured_minor();
    let over = payment.is_voided(view.as_of) || payment.is_expired(view.as_of);
    let left = payment.authorized_minor() - captured;
    let open = if over || authorization.declined { 0 } else { left };
    let last_declined = view
        .movements()
        .next_back()
        .is_some_and(|movement| is_declined(&movement));
    let state = match captured {
        _ if authorization.declined => "AUTH_DECLINED",
        _ if last_declined => "CAPTURE_DECLINED",
        0 if payment.is_voided(view.as_of) => "VOIDED",
        0 if over => "EXPIRED",
        0 => "AUTH_APPROVED",
        _ if open == 0 => "CAPTURED",
        _ => "PARTIALLY_CAPTURED",
    };
    let declined = authorization.declined || last_declined;
    let merchant_reference = view
        .movements()
        .filter_map(|movement| movement.merchant_reference)
        .next_back()
        .or_else(|| authorization.merchant_reference.clone());
    let mut object = Object::new()
        .text("id", &view.payment_id())
        .text("token", &format!("001.{}", payment.next_capture_id("")))
        .text("status", if declined { "DECLINED" } else { "APPROVED" })
        .text("created", &instant(payment.created_at))
        .raw("originalAmount", &money(payment.authorized_minor()))
        .raw("openToCaptureAmount", &money(open))
        .text("paymentState", state)
        .maybe("merchantReference", merchant_reference.as_deref())
        .raw("refunds", "[]")
        .raw(
            "orderDetails",
            &order_details(payment, &money(payment.authorized_minor())),
        )
        .raw("events", &events_json(view, over.then_some(left), &money));
    if view.twist == Some(Twist::Number) {
        object = object.raw("sequence", "1e400000");
    }
    object.done()
}

fn events_json(view: &View<'_>, ended: Option<i64>, money: &dyn Fn(i64) -> String) -> String {
    let payment = view.payment;
    let event = |id: &str, at: DateTime<Utc>, kind: &str, minor: i64, reference: Option<&str>| {
        let expires = payment.authorization.expires_at.filter(|_| kind == "AUTH_APPROVED");
        Object::new()
            .text("id", id)
            .text("created", &instant(at))
            .maybe("expires", expires.map(instant).as_deref())
            .text("type", kind)
            .raw("amount", &money(minor))
            .maybe("paymentEventMerchantReference", reference)
            .done()
    };
    let first = match payment.authorization.declined {
        true => "AUTH_DECLINED",
        false => "AUTH_APPROVED",
    };
    let id = |kind: &str| format!("{kind}-{}", payment.id());
    let mut events = vec![event(
        &id("auth"),
        payment.created_at,
        first,
        payment.authorized_minor(),
        None,
    )];
    for movement in view.movements() {
        let kind = match is_declined(&movement) {
            true => "CAPTURE_DECLINED",
            false => "CAPTURED",
        };
        let reference = movement.reference.as_deref();
        events.push(event(
            &movement.capture_id,
            movement.at,
            kind,
            movement.amount_minor,
            reference,
        ));
    }
    if let Some(left) = ended.filter(|left| *left > 0) {
        match (payment.voided_at, payment.authorization.expires_at) {
            (Some(at), _) if at <= view.as_of => events.push(event(&id("void"), at, "VOIDED", left, None)),
            (_, Some(at)) => events.push(event(&id("expiry"), at, "EXPIRED", left, None)),
            _ => {}
        }
    }
    array(events)
}

fn is_declined(movement: &Movement) -> bool {
    matches!(movement.standing, Standing::Declined | Standing::DeclinedWith402)
}

/// Personal data, as the real answers have it; none of it may be stored by a client.
fn order_details(payment: &Payment, total: &str) -> String {
    let consumer = Object::new()
        .text("phoneNumber", &person::phone(payment.id()))
        .text("givenNames", &person::given_name(payment.id()))
        .text("surname", &person::surname(payment.id()))
        .text("email", &person::email(payment.id()))
        .done();
    let address = Object::new()
        .text("name", &person::name(payment.id()))
        .text("line1", &person::street(payment.id()))
        .text("postcode", "94103")
        .text("countryCode", "US")
        .text("phoneNumber", &person::phone(payment.id()))
        .done();
    Object::new()
        .raw("consumer", &consumer)
        .raw("billing", &address)
        .raw("shipping", &address)
        .raw("items", "[]")
        .raw("discounts", "[]")
        .raw("orderTotal", total)
        .done()
}

pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

//! Which answers may mean "captured", written a second time from the providers' documents, without a look at the adapters.
//!
//! It says yes too often rather than too seldom: an adapter may be stricter. What it refuses must never be a capture.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

type Object = BTreeMap<String, Box<RawValue>>;

/// The amount of every call here: 10.00.
const TEN: &str = "10";

fn object(text: &str) -> Option<Object> {
    serde_json::from_str(text).ok()
}

fn member<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name).map(|value| value.get())
}

/// A member that is a string, or the digits of a number.
fn word(object: &Object, name: &str) -> Option<String> {
    let raw = member(object, name)?;
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'-' | b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

fn list(object: &Object, name: &str) -> Vec<Object> {
    let raw = member(object, name).unwrap_or("[]");
    let items: Vec<Box<RawValue>> = serde_json::from_str(raw).unwrap_or_default();
    items.iter().filter_map(|item| self::object(item.get())).collect()
}

/// Is that member ten, written as plain decimal digits?
fn is_ten(object: &Object, name: &str) -> bool {
    let Some(text) = word(object, name) else { return false };
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, "0"));
    whole.trim_start_matches('0') == TEN && !decimals.is_empty() && decimals.bytes().all(|digit| digit == b'0')
}

/// One answer.
pub struct Seen<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

impl Seen<'_> {
    fn object(&self) -> Option<Object> {
        matches!(self.status, 200 | 201).then_some(())?;
        object(std::str::from_utf8(self.body).ok()?)
    }
}

/// Who asks.
pub struct Ours<'a> {
    pub payment: &'a str,
    pub reference: &'a str,
    pub key: &'a str,
}

/// An approved payment, ours, with exactly one event that captured ten US dollars under our reference.
pub fn afterpay(ours: &Ours<'_>, answer: &Seen<'_>, needs_state: bool) -> bool {
    let Some(payment) = answer.object() else { return false };
    let mine = |event: &Object| {
        word(event, "type").as_deref() == Some("CAPTURED")
            && word(event, "paymentEventMerchantReference").as_deref() == Some(ours.reference)
    };
    let events: Vec<Object> = list(&payment, "events").into_iter().filter(mine).collect();
    let paid = |event: &Object| {
        let amount = member(event, "amount").and_then(object).unwrap_or_default();
        is_ten(&amount, "amount") && word(&amount, "currency").as_deref() == Some("USD")
    };
    let state = word(&payment, "status").as_deref() == Some("APPROVED")
        && matches!(
            word(&payment, "paymentState").as_deref(),
            Some("CAPTURED" | "PARTIALLY_CAPTURED")
        );
    word(&payment, "id").as_deref() == Some(ours.payment)
        && (state || !needs_state)
        && matches!(events.as_slice(), [event] if paid(event))
}

/// The answer to our POST: our reference and ten.
pub fn optty_taken(ours: &Ours<'_>, answer: &Seen<'_>) -> Option<String> {
    let taken = answer.object()?;
    let fits = word(&taken, "captureReference").as_deref() == Some(ours.reference) && is_ten(&taken, "capturedAmount");
    fits.then(|| word(&taken, "captureId"))?
}

/// The details of our order in US dollars, with a successful capture of ten.
pub fn optty_details(ours: &Ours<'_>, answer: &Seen<'_>, ids: &[&str]) -> bool {
    let Some(order) = answer.object() else { return false };
    let names = ["merchantReference", "orderReference"].map(|name| word(&order, name));
    let is_ours = names.iter().flatten().all(|name| name == ours.payment) && names.iter().flatten().count() > 0;
    let in_dollars = word(&order, "currency").is_some_and(|code| code.eq_ignore_ascii_case("USD"));
    let mut captures = list(&order, "orderCaptures").into_iter().filter(|capture| {
        let carries = |name: &str| word(capture, name).is_some_and(|id| ids.contains(&id.as_str()));
        // Without ids to look for, one that carries no reference at all may be ours by amount and time.
        let named = carries("captureId") || carries("captureReference");
        word(capture, "status").as_deref() == Some("SUCCESSFUL")
            && is_ten(capture, "amount")
            && (named || ids.is_empty())
    });
    is_ours && in_dollars && captures.next().is_some()
}

/// Our charge, captured and not cancelled, with an invoice of ten.
pub fn resolve_charge(ours: &Ours<'_>, answer: &Seen<'_>, then: &Seen<'_>) -> bool {
    let (Some(charge), Some(invoice)) = (answer.object(), then.object()) else {
        return false;
    };
    word(&charge, "id").as_deref() == Some(ours.payment)
        && member(&charge, "captured") == Some("true")
        && member(&charge, "canceled") != Some("true")
        && then.status == 200
        && word(&charge, "merchant_invoice_id").is_some()
        && word(&charge, "merchant_invoice_id") == word(&invoice, "id")
        && is_ten(&invoice, "amount_due")
}

/// Is this our charge, captured?
pub fn resolve_charge_taken(ours: &Ours<'_>, answer: &Seen<'_>) -> bool {
    answer.object().is_some_and(|charge| {
        word(&charge, "id").as_deref() == Some(ours.payment) && member(&charge, "captured") == Some("true")
    })
}

/// Our order in US dollars, with exactly one event of ten under our key.
pub fn resolve_order(ours: &Ours<'_>, answer: &Seen<'_>) -> bool {
    let Some(order) = answer.object() else { return false };
    let mine = |event: &Object| word(event, "idempotency_key").as_deref() == Some(ours.key);
    let events: Vec<Object> = list(&order, "capture_events").into_iter().filter(mine).collect();
    word(&order, "id").as_deref() == Some(ours.payment)
        && word(&order, "currency").is_none_or(|code| code.eq_ignore_ascii_case("USD"))
        && matches!(events.as_slice(), [event] if is_ten(event, "amount"))
}

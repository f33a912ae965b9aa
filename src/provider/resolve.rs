//! What Resolve's charges and orders share: US dollars, error objects, and a limit of 100 requests a minute.
//!
//! Errors are `{error: {type, message, details[]?}}` (documentation), classed by status and `type`, never by the message.
//! Every answer carries `X-Ratelimit-Limit/-Remaining/-Reset`; the window slides, reads count, and charges and orders
//! draw from the same hundred (documentation). What capturing a captured, cancelled or expired charge is answered is
//! undocumented: 400 `invalid_request`, 409 and 422 may all mean "done already", so a read decides.
//!
//! Shipping data is told after the capture: `POST /shipments` with `{merchant_invoice_id, fulfillment_method:
//! "shipping_provider", shipment_tracking_number, shipment_courier}` (documentation; any courier is taken, and known are
//! lower-case names like `ups`). It has no key: told twice, two records stand there, which costs no money. Assumed: the
//! invoice of our capture takes shipments as soon as it is there. A capture whose invoice was not shown tells nothing.

use serde::{Deserialize, Serialize};

use super::answer::{Answer, Manner, Verdict, http_code, unreadable};
use super::channel::Channel;
use super::json;
use super::transport::{Method, is_segment};
use crate::intent::{CaptureIntent, Parcel};
use crate::outcome::{Class, Code, Failure};

/// The only currency (documentation).
pub(super) const CURRENCY: &str = "USD";

/// An error in the provider's own form.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: ErrorObject,
}

#[derive(Debug, Deserialize)]
struct ErrorObject {
    r#type: String,
}

/// The `type` of the error, if this is one in the provider's own form.
pub(super) fn error_type(answer: &Answer) -> Option<String> {
    answer.read::<Refusal>().map(|refusal| refusal.error.r#type)
}

/// Classes every answer to a capture that is not a 200 or 201.
pub(super) fn refusal(manner: Manner, answer: &Answer) -> Verdict {
    let said = error_type(answer);
    if let Some(verdict) = answer.verdict_by_status(manner, said.as_deref()) {
        return verdict;
    }
    let Some(said) = said else {
        let code = if answer.status < 300 {
            http_code(answer.status)
        } else {
            unreadable(answer)
        };
        return (Class::Ambiguous, code);
    };
    let class = match (answer.status, said.as_str()) {
        (200..=299, _) => Class::Ambiguous,
        (400, "validation_error") => Class::Rejected,
        (400, "invalid_request") | (409 | 422, _) => Class::MaybeDone,
        (404, _) => Class::Rejected,
        _ => return (Class::Rejected, Code::new("unclassified")),
    };
    (class, Code::new(&said))
}

/// Is this the provider's own "no such thing"?
pub(super) fn is_not_found(answer: &Answer) -> bool {
    answer.status == 404 && error_type(answer).is_some()
}

/// Refuses what Resolve can never take.
pub(super) fn check(intent: &CaptureIntent) -> Result<(), Failure> {
    let refuse = |code| Err(Failure::new(Class::Rejected, code));
    if !is_segment(&intent.payment_id) {
        return refuse("invalid_payment_id");
    }
    if intent.amount.currency.code() != CURRENCY {
        return refuse("unsupported_currency");
    }
    if intent.amount.minor <= 0 {
        return refuse("invalid_amount");
    }
    Ok(())
}

/// Tells of a parcel.
pub(super) async fn tell_shipping(channel: &Channel, parcel: &Parcel) -> Result<(), Failure> {
    channel.tell(Method::Post, &["shipments"], shipment(parcel)?).await
}

fn shipment(parcel: &Parcel) -> Result<Vec<u8>, Failure> {
    #[derive(Serialize)]
    struct Shipment<'a> {
        merchant_invoice_id: &'a str,
        fulfillment_method: &'static str,
        shipment_tracking_number: &'a str,
        shipment_courier: String,
    }
    // Where the provider showed no invoice, our own reference stands in its place.
    if parcel.provider_capture_id == parcel.intent.reference() {
        return Err(Failure::new(Class::Rejected, "no_invoice"));
    }
    json::body(&Shipment {
        merchant_invoice_id: &parcel.provider_capture_id,
        fulfillment_method: "shipping_provider",
        shipment_tracking_number: &parcel.shipping.tracking_number,
        shipment_courier: parcel.shipping.company.trim().to_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::samples::parcel;

    #[test]
    fn a_shipment_names_the_invoice_and_without_one_there_is_none() {
        let body = shipment(&parcel("ch_1")).unwrap();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"merchant_invoice_id":"inv-1","fulfillment_method":"shipping_provider","shipment_tracking_number":"1Z999","shipment_courier":"ups"}"#
        );
        let mut without = parcel("ch_1");
        without.provider_capture_id = without.intent.reference();
        assert_eq!(shipment(&without).unwrap_err().code.to_string(), "no_invoice");
    }
}

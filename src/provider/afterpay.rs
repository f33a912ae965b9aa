//! Afterpay (Cash App Afterpay, Clearpay), API v2: `POST /v2/payments/{orderId}/capture`.
//!
//! The key is `requestId`: a repeat with the same id and the same body is told the first outcome for up to 24 hours, and
//! 409 while the first is still running (documentation). Without it two captures of one amount, half a second apart,
//! both succeeded (recorded sandbox traffic): the key is all that stands between us and a second capture. After the
//! window the same id may capture again (inference), so 23 hours are counted, from the first send. The same id with
//! another body is undocumented and never happens: the body follows from intent and generation alone.
//!
//! Our reference goes into `paymentEventMerchantReference` and comes back on the event of our capture, in the answer and
//! in every read. `merchantReference` would overwrite the order's reference for ever (documentation): it is sent only if
//! the intent says so.
//!
//! Shipping data is told after the capture: `PUT /v2/payments/{orderId}/courier` with `{shippedAt, name, tracking, priority}`
//! (documentation: ISO 8601, two texts of at most 128 characters, and `STANDARD` or `EXPRESS` if it is given; we know
//! nothing of it and leave it out). Not documented, and assumed: it is taken while and after the payment is captured, it
//! answers 2xx, and a payment has one courier, so that of several parcels the last one told stands.

pub(super) mod payment;

use std::time::Duration;

use async_trait::async_trait;
use chrono::SecondsFormat;
use serde::Serialize;

use self::payment::{observe, outcome};
use super::channel::Channel;
use super::json::{self, unbuildable};
use super::transport::{Method, Payload};
use super::{Abilities, Call, Calls, Exactness, Follow, Provider, Repeat};
use crate::intent::{CaptureIntent, Money, Parcel};
use crate::outcome::{Class, Failure, Observation, Outcome};

/// 24 hours are documented as the most; an hour is kept for clocks and for the call itself.
const KEY_WINDOW: Duration = Duration::from_secs(23 * 60 * 60);

/// Reads come from a search service that may lag (documentation, without a figure). This is the least that no setting
/// undercuts; the wait that counts is the worker's own between two quiet reads, minutes long.
const READ_LAG: Duration = Duration::from_secs(1);

/// Where Afterpay does business; each merchant account has one of them (documentation).
const CURRENCIES: [&str; 6] = ["AUD", "NZD", "USD", "CAD", "GBP", "EUR"];

/// The smallest capture, in minor units of any of the six (documentation).
const LEAST_MINOR: i64 = 100;

/// The longest reference, courier's name and tracking number (documentation).
const REFERENCE_CHARS: usize = 128;

/// One Afterpay account.
pub(super) struct Afterpay {
    channel: Channel,
}

impl Afterpay {
    pub(super) fn new(channel: Channel) -> Afterpay {
        Afterpay { channel }
    }
}

#[async_trait]
impl Provider for Afterpay {
    fn abilities(&self) -> Abilities {
        Abilities {
            repeat: Repeat::Key {
                window: Some(KEY_WINDOW),
            },
            exactness: Exactness::Reference,
            read_lag: READ_LAG,
            read_before_send: false,
            calls: Calls { send: 1, read: 1 },
        }
    }

    fn host(&self) -> &str {
        &self.channel.host
    }

    fn check(&self, intent: &CaptureIntent) -> Result<(), Failure> {
        let refuse = |code| Err(Failure::new(Class::Rejected, code));
        let digits = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(&intent.payment_id) {
            return refuse("invalid_payment_id");
        }
        if !CURRENCIES.contains(&intent.amount.currency.code()) {
            return refuse("unsupported_currency");
        }
        if intent.amount.minor < LEAST_MINOR {
            return refuse("invalid_amount");
        }
        let reference = intent.details.merchant_reference.as_deref().unwrap_or_default();
        if reference.chars().count() > REFERENCE_CHARS {
            return refuse("invalid_object");
        }
        Ok(())
    }

    async fn capture(&self, call: &Call<'_>) -> Outcome {
        let body = match body(call) {
            Ok(body) => body,
            Err(failure) => return Outcome::Failed(failure),
        };
        let path = ["v2", "payments", &call.intent.payment_id, "capture"];
        match self.channel.capture(call, &path, body).await {
            Ok(told) => outcome(call, self.channel.manner(), &told.answer),
            Err(outcome) => outcome,
        }
    }

    async fn read(&self, call: &Call<'_>) -> Observation {
        let path = ["v2", "payments", &call.intent.payment_id];
        match self.channel.ask(Method::Get, &path, Payload::None).await {
            Ok(answer) => observe(call, self.channel.manner(), &answer),
            Err(failure) => Observation::Failed(failure),
        }
    }

    fn shipping(&self) -> Follow {
        Follow::Replaces
    }

    async fn tell_shipping(&self, parcel: &Parcel) -> Result<(), Failure> {
        let path = ["v2", "payments", &parcel.payment_id, "courier"];
        self.channel.tell(Method::Put, &path, courier(parcel)?).await
    }
}

/// The courier as documented. Half a name is a name; half a number leads nowhere.
fn courier(parcel: &Parcel) -> Result<Vec<u8>, Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Courier<'a> {
        shipped_at: String,
        name: String,
        tracking: &'a str,
    }
    let tracking = parcel.shipping.tracking_number.as_str();
    if tracking.chars().count() > REFERENCE_CHARS {
        return Err(Failure::new(Class::Rejected, "tracking_number_too_long"));
    }
    json::body(&Courier {
        shipped_at: parcel.shipped_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        name: parcel.shipping.company.chars().take(REFERENCE_CHARS).collect(),
        tracking,
    })
}

/// The documented body. The amount is a string here.
fn body(call: &Call<'_>) -> Result<Vec<u8>, Failure> {
    #[derive(Serialize)]
    struct Amount {
        amount: String,
        currency: &'static str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        request_id: String,
        amount: Amount,
        #[serde(skip_serializing_if = "Option::is_none")]
        merchant_reference: Option<&'a str>,
        payment_event_merchant_reference: String,
    }
    let Money { minor, currency } = call.intent.amount;
    if minor <= 0 {
        return Err(unbuildable());
    }
    json::body(&Body {
        request_id: call.key().to_string(),
        amount: Amount {
            amount: call.intent.amount.decimal(),
            currency: currency.code(),
        },
        merchant_reference: call.intent.details.merchant_reference.as_deref(),
        payment_event_merchant_reference: call.intent.id.reference(),
    })
}

#[cfg(test)]
mod tests;

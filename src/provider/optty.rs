//! Optty: `POST /orders/{orderReference}/capture`.
//!
//! No idempotency key. `captureReference` must be unique per merchant and transaction, and what a duplicate is answered
//! is undocumented: an unknown outcome is read before it is sent again, with the same reference. A capture that was
//! accepted need not be final: the payment method behind Optty may decide later, so the details are read in the same
//! call, and unless they show our capture as SUCCESSFUL the outcome is "accepted", which is never sent again.
//!
//! Captures are listed only by `POST /orders/{orderReference}/details` (documentation; a read in spite of its verb).

pub(super) mod order;
mod seen;

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use self::order::{Details, Told, observe, settled, told};
use super::channel::Channel;
use super::json::{self, unbuildable};
use super::transport::{Method, Payload, is_segment};
use super::{Abilities, Call, Calls, Exactness, Provider, Repeat};
use crate::intent::CaptureIntent;
use crate::outcome::{Class, Failure, Observation, Outcome};

/// Amounts are JSON numbers with at most two decimals (documentation).
const DECIMALS: u32 = 2;

/// One Optty account.
pub(super) struct Optty {
    channel: Channel,
    require_shipping: bool,
}

impl Optty {
    pub(super) fn new(channel: Channel, require_shipping: bool) -> Optty {
        Optty {
            channel,
            require_shipping,
        }
    }

    async fn details(&self, call: &Call<'_>, deadline: Instant) -> Result<Details, Failure> {
        let path = ["orders", &call.intent.payment_id, "details"];
        let nothing = Payload::Json(b"{}".to_vec());
        let answer = self.channel.ask_until(Method::Post, &path, nothing, deadline).await?;
        Ok(Details::of(call, answer))
    }
}

#[async_trait]
impl Provider for Optty {
    fn abilities(&self) -> Abilities {
        Abilities {
            repeat: Repeat::UniqueReference,
            exactness: Exactness::Reference,
            read_lag: Duration::ZERO,
            read_before_send: false,
            calls: Calls { send: 2, read: 1 },
        }
    }

    fn host(&self) -> &str {
        &self.channel.host
    }

    fn check(&self, intent: &CaptureIntent) -> Result<(), Failure> {
        let refuse = |code| Err(Failure::new(Class::Rejected, code));
        if !is_segment(&intent.payment_id) {
            return refuse("invalid_payment_id");
        }
        if intent.amount.currency.exponent() > DECIMALS {
            return refuse("unsupported_currency");
        }
        if intent.amount.minor <= 0 {
            return refuse("invalid_amount");
        }
        let shipping = intent.details.shipping.as_ref();
        let complete = |shipping: &crate::intent::Shipping| {
            [&shipping.company, &shipping.method, &shipping.tracking_number]
                .iter()
                .all(|part| !part.trim().is_empty())
        };
        match shipping {
            Some(shipping) if !complete(shipping) => refuse("shipping_incomplete"),
            None if self.require_shipping => refuse("shipping_missing"),
            Some(_) | None => Ok(()),
        }
    }

    async fn capture(&self, call: &Call<'_>) -> Outcome {
        let body = match body(call) {
            Ok(body) => body,
            Err(failure) => return Outcome::Failed(failure),
        };
        let path = ["orders", &call.intent.payment_id, "capture"];
        let answered = match self.channel.capture(call, &path, body).await {
            Ok(answered) => answered,
            Err(outcome) => return outcome,
        };
        match told(call, self.channel.manner(), &answered.answer) {
            Told::Accepted { capture_id, evidence } => {
                let details = self.details(call, answered.deadline).await;
                settled(call, capture_id, evidence, details)
            }
            Told::Failed(failure) => Outcome::Failed(failure),
        }
    }

    async fn read(&self, call: &Call<'_>) -> Observation {
        match self.details(call, self.channel.transport.deadline()).await {
            Ok(details) => observe(call, self.channel.manner(), &details),
            Err(failure) => Observation::Failed(failure),
        }
    }
}

/// The documented body. The amount is a number here, written from its digits.
fn body(call: &Call<'_>) -> Result<Vec<u8>, Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ShippingInfo<'a> {
        shipping_company: &'a str,
        shipping_method: &'a str,
        tracking_number: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        capture_reference: String,
        amount: Box<RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        shipping_info: Option<ShippingInfo<'a>>,
    }
    if call.intent.amount.minor <= 0 {
        return Err(unbuildable());
    }
    let details = &call.intent.details;
    json::body(&Body {
        capture_reference: call.intent.id.reference(),
        amount: json::number(call.intent.amount)?,
        description: details.description.as_deref(),
        shipping_info: details.shipping.as_ref().map(|shipping| ShippingInfo {
            shipping_company: &shipping.company,
            shipping_method: &shipping.method,
            tracking_number: &shipping.tracking_number,
        }),
    })
}

#[cfg(test)]
mod tests;

//! Resolve, order model: `POST /orders/{order_id}/capture`.
//!
//! The body is `{amount, idempotency_key}`, both required (documentation). How long the key is remembered is not
//! documented; it comes back on the capture's own event for ever, `capture_events[].idempotency_key`, so that a read
//! proves a capture ours to the letter. An order takes several captures, each with an invoice of its own. The merchant
//! must have opted in to this model: an account setting.

pub(super) mod order;

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;

use self::order::{observe, outcome};
use super::channel::Channel;
use super::json::{self, unbuildable};
use super::transport::{Method, Payload};
use super::{Abilities, Call, Calls, Exactness, Follow, Provider, Repeat, resolve};
use crate::intent::{CaptureIntent, Parcel};
use crate::outcome::{Failure, Observation, Outcome};

/// One Resolve account whose merchant captures orders.
pub(super) struct ResolveOrder {
    channel: Channel,
}

impl ResolveOrder {
    pub(super) fn new(channel: Channel) -> ResolveOrder {
        ResolveOrder { channel }
    }
}

#[async_trait]
impl Provider for ResolveOrder {
    fn abilities(&self) -> Abilities {
        Abilities {
            repeat: Repeat::Key { window: None },
            exactness: Exactness::Reference,
            read_lag: Duration::ZERO,
            read_before_send: false,
            calls: Calls { send: 1, read: 1 },
        }
    }

    fn host(&self) -> &str {
        &self.channel.host
    }

    fn check(&self, intent: &CaptureIntent) -> Result<(), Failure> {
        resolve::check(intent)
    }

    async fn capture(&self, call: &Call<'_>) -> Outcome {
        let body = match body(call) {
            Ok(body) => body,
            Err(failure) => return Outcome::Failed(failure),
        };
        let path = ["orders", &call.intent.payment_id, "capture"];
        match self.channel.capture(call, &path, body).await {
            Ok(told) => outcome(call, self.channel.manner(), &told.answer),
            Err(outcome) => outcome,
        }
    }

    async fn read(&self, call: &Call<'_>) -> Observation {
        let path = ["orders", &call.intent.payment_id];
        match self.channel.ask(Method::Get, &path, Payload::None).await {
            Ok(answer) => observe(call, self.channel.manner(), &answer),
            Err(failure) => Observation::Failed(failure),
        }
    }

    fn shipping(&self) -> Follow {
        Follow::Adds
    }

    async fn tell_shipping(&self, parcel: &Parcel) -> Result<(), Failure> {
        resolve::tell_shipping(&self.channel, parcel).await
    }
}

/// The documented body. Both members are always there.
fn body(call: &Call<'_>) -> Result<Vec<u8>, Failure> {
    #[derive(Serialize)]
    struct Body {
        amount: Box<RawValue>,
        idempotency_key: String,
    }
    if call.intent.amount.minor <= 0 {
        return Err(unbuildable());
    }
    json::body(&Body {
        amount: json::number(call.intent.amount)?,
        idempotency_key: call.key().to_string(),
    })
}

#[cfg(test)]
mod tests;

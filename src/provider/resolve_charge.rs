//! Resolve, charge model: `POST /charges/{charge_id}/capture`.
//!
//! No key of any kind, and what a second capture does is undocumented: taken as moving the money again. So nothing is
//! sent before a read, nothing is kept in a connection pool, and an unknown outcome is never repeated before quiet reads.
//!
//! A charge has one bit, `captured`, and its `amount` is the authorised one; the captured amount is only on the invoice.
//! A 200 therefore proves a capture but not its amount: the invoice is read in the same call, and until it shows our
//! amount the outcome is "accepted".
//!
//! The absence of `amount` in the body captures everything (documentation): it is always sent. A `PUT` of the charge
//! moves or changes money if it names `amount`, `captured` or `canceled` (documentation): the marker is written with
//! `metadata` alone. Whether that merges or replaces is not documented: it is read, merged and written.
//!
//! Dashboards and shop plugins capture charges too. Where the account says so (`other_writers`), amount and time prove
//! nothing, and our marker, or an order number that only we sent, has to be there as well.

pub(super) mod charge;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use self::charge::{Charge, Invoice, Told, judge, outcome, told};
use super::answer::Answer;
use super::channel::Channel;
use super::json::{self, unbuildable};
use super::transport::{Method, Payload};
use super::{Abilities, Call, Calls, Exactness, Follow, Provider, Repeat, resolve};
use crate::intent::{CaptureIntent, Parcel};
use crate::outcome::{Evidence, Failure, Observation, Outcome};

/// The member of a charge's `metadata` that holds the reference of the intent that is about to capture it.
const MARKER: &str = "capture_intent";

/// Who else captures, and what that means for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writers {
    /// A capture of our amount that was there before our first send counts as ours.
    pub(super) adopt_equal: bool,
    /// Others capture too.
    pub(super) others: bool,
}

/// One Resolve account whose merchant captures charges.
pub(super) struct ResolveCharge {
    channel: Channel,
    writers: Writers,
}

impl ResolveCharge {
    pub(super) fn new(channel: Channel, adopt_equal: bool, others: bool) -> ResolveCharge {
        ResolveCharge {
            channel,
            writers: Writers { adopt_equal, others },
        }
    }

    async fn charge(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let path = ["charges", &call.intent.payment_id];
        self.channel.ask(Method::Get, &path, Payload::None).await
    }

    async fn invoice(&self, id: &str, deadline: Instant) -> Result<Invoice, Failure> {
        let answer = self
            .channel
            .ask_until(Method::Get, &["invoices", id], Payload::None, deadline)
            .await?;
        Invoice::of(id, &answer).ok_or_else(|| {
            let verdict = answer.read_verdict(self.channel.manner());
            answer.failure(verdict, Evidence::default())
        })
    }
}

#[async_trait]
impl Provider for ResolveCharge {
    fn abilities(&self) -> Abilities {
        // A read is the charge and, once captured, its invoice. A send is that read (of a charge not yet captured, so
        // one call), the marker where it is wanted (read and write), the POST, and the invoice.
        let marker = if self.writers.others { 2 } else { 0 };
        Abilities {
            repeat: Repeat::Nothing,
            exactness: Exactness::Inference,
            read_lag: Duration::ZERO,
            read_before_send: true,
            calls: Calls {
                send: 1 + marker + 1 + 1,
                read: 2,
            },
        }
    }

    fn host(&self) -> &str {
        &self.channel.host
    }

    fn check(&self, intent: &CaptureIntent) -> Result<(), Failure> {
        resolve::check(intent)
    }

    async fn mark(&self, call: &Call<'_>) -> Result<(), Failure> {
        if !self.writers.others {
            return Ok(());
        }
        let manner = self.channel.manner();
        let refused =
            |answer: &Answer| answer.failure(answer.read_verdict(manner), charge::evidence(answer, None, None));
        let before = self.charge(call).await?;
        let marked: Marked = match before.status {
            200 => before.read().ok_or_else(|| refused(&before))?,
            _ => return Err(refused(&before)),
        };
        let Some(body) = marked.with_marker(&call.intent.id.reference())? else {
            return Ok(());
        };
        let path = ["charges", &call.intent.payment_id];
        let after = self.channel.ask(Method::Put, &path, Payload::Json(body)).await?;
        match after.status {
            200..=299 => Ok(()),
            _ => Err(refused(&after)),
        }
    }

    async fn capture(&self, call: &Call<'_>) -> Outcome {
        let body = match body(call) {
            Ok(body) => body,
            Err(failure) => return Outcome::Failed(failure),
        };
        let path = ["charges", &call.intent.payment_id, "capture"];
        let answered = match self.channel.capture(call, &path, body).await {
            Ok(answered) => answered,
            Err(outcome) => return outcome,
        };
        match told(call, self.channel.manner(), &answered.answer) {
            Told::Failed(failure) => Outcome::Failed(failure),
            Told::Captured(charge) => {
                let invoice = match &charge.invoice_id() {
                    Some(id) => self.invoice(id, answered.deadline).await.ok(),
                    None => None,
                };
                outcome(call, &answered.answer, &charge, invoice.as_ref())
            }
        }
    }

    async fn read(&self, call: &Call<'_>) -> Observation {
        let answer = match self.charge(call).await {
            Ok(answer) => answer,
            Err(failure) => return Observation::Failed(failure),
        };
        let charge = match Charge::of(call, self.channel.manner(), &answer) {
            Ok(charge) => charge,
            Err(observation) => return *observation,
        };
        let invoice = match charge.invoice_id() {
            Some(id) if charge.is_captured() => match self.invoice(&id, self.channel.transport.deadline()).await {
                Ok(invoice) => Some(invoice),
                Err(failure) => return Observation::Failed(failure),
            },
            Some(_) | None => None,
        };
        judge(call, self.writers, &answer, &charge, invoice.as_ref())
    }

    fn shipping(&self) -> Follow {
        Follow::Adds
    }

    async fn tell_shipping(&self, parcel: &Parcel) -> Result<(), Failure> {
        resolve::tell_shipping(&self.channel, parcel).await
    }
}

/// The documented body. `amount` is never absent; the numbers override the charge's own and go only if the intent says so.
fn body(call: &Call<'_>) -> Result<Vec<u8>, Failure> {
    #[derive(Serialize)]
    struct Body<'a> {
        amount: Box<RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        order_number: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        po_number: Option<&'a str>,
    }
    if call.intent.amount.minor <= 0 {
        return Err(unbuildable());
    }
    json::body(&Body {
        amount: json::number(call.intent.amount)?,
        order_number: call.intent.details.order_number.as_deref(),
        po_number: call.intent.details.po_number.as_deref(),
    })
}

/// A charge as far as its marker goes. What others keep in `metadata` is carried over as it stands.
#[derive(Debug, Deserialize)]
struct Marked {
    metadata: Option<BTreeMap<String, Box<RawValue>>>,
}

impl Marked {
    /// The body that adds our marker; `None` if it is there already.
    fn with_marker(self, reference: &str) -> Result<Option<Vec<u8>>, Failure> {
        #[derive(Serialize)]
        struct Body {
            metadata: BTreeMap<String, Box<RawValue>>,
        }
        let marker = serde_json::value::to_raw_value(reference).map_err(|_| unbuildable())?;
        let mut metadata = self.metadata.unwrap_or_default();
        if metadata
            .get(MARKER)
            .is_some_and(|present| present.get() == marker.get())
        {
            return Ok(None);
        }
        metadata.insert(MARKER.to_owned(), marker);
        json::body(&Body { metadata }).map(Some)
    }
}

#[cfg(test)]
mod tests;

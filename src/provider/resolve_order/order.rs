//! What a Resolve order says about our capture.
//!
//! An order shows `amount_authorized, amount_captured, amount_canceled, amount_remaining, authorization_expires_at` and
//! `capture_events[]{amount, idempotency_key, processed_at, invoice_id}` (documentation). The answer to a capture and a
//! read have the same shape. Success is one: 200 or 201, this order, exactly one event under our key, with our amount.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::intent::{KeyGeneration, Money};
use crate::outcome::{Class, Code, Evidence, Observation, Outcome, Proof, Receipt, printable_id};
use crate::provider::Call;
use crate::provider::answer::{AdvisedTime, Answer, Manner, Verdict, time, unreadable, word};
use crate::provider::json::{Digits, Text};
use crate::provider::resolve::{CURRENCY, error_type, is_not_found, refusal};

/// So many events are kept as evidence.
const EVENTS_KEPT: usize = 6;

#[derive(Debug, Deserialize)]
struct Order {
    id: Option<Text>,
    status: Option<String>,
    currency: Option<String>,
    amount_captured: Option<Digits>,
    amount_remaining: Option<Digits>,
    #[serde(default)]
    authorization_expires_at: AdvisedTime,
    capture_events: Option<Vec<Event>>,
}

#[derive(Debug, Deserialize)]
struct Event {
    amount: Option<Digits>,
    idempotency_key: Option<Text>,
    processed_at: Option<String>,
    invoice_id: Option<Text>,
}

/// Our captures among an order's events.
enum Ours<'a> {
    None,
    One(&'a Event),
    Several,
}

/// Classes the answer to our POST.
pub(in crate::provider) fn outcome(call: &Call<'_>, manner: Manner, answer: &Answer) -> Outcome {
    let order = answer.read::<Order>();
    let seen = || evidence(call, answer, order.as_ref());
    let verdict = match (answer.status, &order) {
        (200 | 201, Some(order)) if order.id.is_some() => match order.capture(call) {
            Ok(event) => return Outcome::Captured(event.receipt(call, order, Proof::Answer, seen())),
            Err(verdict) => verdict,
        },
        (200 | 201, _) => (Class::Ambiguous, unreadable(answer)),
        _ => refusal(manner, answer),
    };
    Outcome::Failed(answer.failure(verdict, seen()))
}

/// What a read shows.
pub(in crate::provider) fn observe(call: &Call<'_>, manner: Manner, answer: &Answer) -> Observation {
    let order = answer.read::<Order>();
    let evidence = evidence(call, answer, order.as_ref());
    let contradicts = |code: &str, evidence| Observation::Contradicts {
        code: Code::new(code),
        evidence,
    };
    let closed = |code: &str, evidence| Observation::Closed {
        code: Code::new(code),
        evidence,
    };
    let order = match (answer.status, order) {
        (200, Some(order)) if order.id.is_some() => order,
        _ if is_not_found(answer) => return closed("not_found", evidence),
        _ => return Observation::Failed(answer.failure(answer.read_verdict(manner), evidence)),
    };
    if !order.is(call) {
        return contradicts("wrong_payment", evidence);
    }
    if !order.is_in_dollars() {
        return contradicts("wrong_currency", evidence);
    }
    match order.ours(call) {
        Ours::Several => return contradicts("several_captures", evidence),
        Ours::One(event) if event.fits(call) => {
            return Observation::Captured(event.receipt(call, &order, Proof::Reference, evidence));
        }
        Ours::One(_) => return contradicts("wrong_amount", evidence),
        Ours::None => {}
    }
    let money = |digits: &Option<Digits>| digits.as_ref().and_then(|d| d.money(call.intent.amount.currency));
    let remaining = money(&order.amount_remaining);
    let enough = remaining.is_none_or(|left| left.minor >= call.intent.amount.minor);
    let captured = money(&order.amount_captured).map(|captured| captured.minor);
    let somebody_captured = captured.is_some_and(|minor| minor > 0);
    let expires = order.authorization_expires_at.0;
    match order.status.as_deref() {
        _ if !enough && somebody_captured => Observation::Foreign { evidence },
        Some(ended @ ("canceled" | "cancelled" | "expired" | "declined")) => closed(ended, evidence),
        _ if !enough => closed("too_little_left", evidence),
        _ if expires.is_some_and(|end| end <= answer.given_at()) => closed("expired", evidence),
        Some(_) | None => Observation::NotCaptured {
            open_minor: remaining.map(|left| left.minor),
            others_minor: captured,
            authorization_expires_at: expires,
            evidence,
        },
    }
}

impl Order {
    fn is(&self, call: &Call<'_>) -> bool {
        self.id.as_ref().is_some_and(|id| id.as_str() == call.intent.payment_id)
    }

    /// Resolve has dollars only and mostly does not say so.
    fn is_in_dollars(&self) -> bool {
        self.currency
            .as_deref()
            .is_none_or(|currency| currency.eq_ignore_ascii_case(CURRENCY))
    }

    /// Events under our key, of this generation or one before it.
    fn ours(&self, call: &Call<'_>) -> Ours<'_> {
        let keys = keys(call);
        let mut ours = self
            .capture_events
            .iter()
            .flatten()
            .filter(|event| event.has_one_of(&keys));
        match (ours.next(), ours.next()) {
            (None, _) => Ours::None,
            (Some(event), None) => Ours::One(event),
            (Some(_), Some(_)) => Ours::Several,
        }
    }

    /// The event of our capture, if this is the one shape that means captured.
    fn capture(&self, call: &Call<'_>) -> Result<&Event, Verdict> {
        let ambiguous = |code: &str| Err((Class::Ambiguous, Code::new(code)));
        if !self.is(call) {
            return ambiguous("wrong_payment");
        }
        if !self.is_in_dollars() {
            return ambiguous("wrong_currency");
        }
        match self.ours(call) {
            Ours::None => ambiguous("wrong_reference"),
            Ours::Several => ambiguous("several_captures"),
            Ours::One(event) if event.fits(call) => Ok(event),
            Ours::One(_) => ambiguous("wrong_amount"),
        }
    }
}

impl Event {
    fn has_one_of(&self, keys: &[String]) -> bool {
        self.idempotency_key
            .as_ref()
            .is_some_and(|key| keys.iter().any(|ours| ours == key.as_str()))
    }

    fn fits(&self, call: &Call<'_>) -> bool {
        let money = |digits: &Digits| digits.money(call.intent.amount.currency);
        call.intent.amount.currency.code() == CURRENCY
            && self.amount.as_ref().and_then(money) == Some(call.intent.amount)
    }

    fn processed(&self) -> Option<DateTime<Utc>> {
        self.processed_at.as_deref().and_then(time)
    }

    fn receipt(&self, call: &Call<'_>, order: &Order, proof: Proof, evidence: Evidence) -> Receipt {
        let Money { minor, currency } = call.intent.amount;
        let invoice = self
            .invoice_id
            .as_ref()
            .map(|id| printable_id(id.as_str()))
            .filter(|id| !id.is_empty());
        Receipt {
            provider_capture_id: invoice.unwrap_or_else(|| call.intent.id.reference()),
            amount: Money::new(minor, currency),
            captured_at: self.processed(),
            proof,
            authorization_expires_at: order.authorization_expires_at.0,
            evidence,
        }
    }
}

/// Our keys: of this generation and of those before it.
fn keys(call: &Call<'_>) -> Vec<String> {
    let key = |generation| call.intent.id.key(KeyGeneration(generation)).to_string();
    (0..=call.generation.0).map(key).collect()
}

/// The white list: state, amounts, and the captures, ours first. Nothing of the customer, no message.
fn evidence(call: &Call<'_>, answer: &Answer, order: Option<&Order>) -> Evidence {
    #[derive(Serialize)]
    struct Facts {
        #[serde(skip_serializing_if = "Option::is_none")]
        error_type: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        captured: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        remaining: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        events: Vec<EventFacts>,
    }
    #[derive(Serialize)]
    struct EventFacts {
        ours: bool,
        invoice: Option<String>,
        amount: Option<String>,
        processed: Option<DateTime<Utc>>,
    }
    let keys = keys(call);
    let mut events: Vec<EventFacts> = order
        .into_iter()
        .flat_map(|order| order.capture_events.iter().flatten())
        .map(|event| EventFacts {
            ours: event.has_one_of(&keys),
            invoice: event.invoice_id.as_ref().map(|id| word(id.as_str())),
            amount: event.amount.as_ref().map(Digits::shown),
            processed: event.processed(),
        })
        .collect();
    events.sort_by_key(|event| !event.ours);
    events.truncate(EVENTS_KEPT);
    let digits =
        |field: fn(&Order) -> &Option<Digits>| order.and_then(|order| field(order).as_ref()).map(Digits::shown);
    answer.evidence(&Facts {
        error_type: error_type(answer).as_deref().map(word),
        status: order.and_then(|order| order.status.as_deref()).map(word),
        captured: digits(|order| &order.amount_captured),
        remaining: digits(|order| &order.amount_remaining),
        events,
    })
}

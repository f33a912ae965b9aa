//! What an Afterpay answer says about our capture.
//!
//! A 2xx is not success: a 201 with `status: DECLINED` is on record, and a 402 may carry a whole payment instead of an
//! error. Success is one shape: 200 or 201, this payment, approved, captured or partly captured, with exactly one event
//! of type CAPTURED under our reference, with our amount and currency. The last event is not ours just for being last,
//! and `paymentState: CAPTURED` does not mean that everything was captured: a voided remainder reads the same.
//!
//! Errors are `{errorCode, errorId, message, httpStatusCode}` (documentation) and are classed by status and `errorCode`,
//! never by the message. Cloudflare and Envoy stand in front and answer with pages and empty bodies of their own.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::intent::Money;
use crate::outcome::{Class, Code, Evidence, Observation, Outcome, Proof, Receipt, printable_id};
use crate::provider::Call;
use crate::provider::answer::{AdvisedTime, Answer, Manner, Verdict, time, unreadable, word};
use crate::provider::json::{Digits, Text};

/// So many events are kept as evidence.
const EVENTS_KEPT: usize = 6;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payment {
    id: Option<Text>,
    status: Option<String>,
    payment_state: Option<String>,
    open_to_capture_amount: Option<Amount>,
    events: Option<Vec<Event>>,
    // Of an error, in the same object: what a body is shows only by what it holds.
    error_code: Option<String>,
    error_id: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct Amount {
    amount: Digits,
    currency: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    id: Option<Text>,
    created: Option<String>,
    #[serde(default)]
    expires: AdvisedTime,
    r#type: Option<String>,
    amount: Option<Amount>,
    payment_event_merchant_reference: Option<String>,
}

/// How an amount compares with ours.
enum Fit {
    Equal,
    OtherAmount,
    OtherCurrency,
}

/// Our captures among a payment's events.
enum Ours<'a> {
    None,
    One(&'a Event),
    Several,
}

/// Classes the answer to our POST.
pub(in crate::provider) fn outcome(call: &Call<'_>, manner: Manner, answer: &Answer) -> Outcome {
    let payment = answer.read::<Payment>();
    let said = payment.as_ref().and_then(|payment| payment.error_code.as_deref());
    let seen = || evidence(call, answer, payment.as_ref());
    let failed = |verdict| Outcome::Failed(answer.failure(verdict, seen()));
    if let Some(verdict) = answer.verdict_by_status(manner, said) {
        return failed(verdict);
    }
    match (answer.status, &payment) {
        (200 | 201, Some(payment)) => match payment.capture(call) {
            Ok(event) => Outcome::Captured(event.receipt(call, payment, Proof::Answer, seen())),
            Err(verdict) => failed(verdict),
        },
        (409, _) if planted!(a_409_taken_for_a_refusal) => failed((Class::Rejected, code_or_status(answer, said))),
        (409, _) => failed((Class::InProgress, code_or_status(answer, said))),
        (402, Some(payment)) if said.is_none() => failed(payment.refused_with_402(call, answer)),
        (status @ 400..=499, _) => match said {
            Some(said) => failed(refusal(status, said)),
            None => failed((Class::Ambiguous, unreadable(answer))),
        },
        (200 | 201, None) => failed((Class::Ambiguous, unreadable(answer))),
        _ => failed((Class::Ambiguous, code_or_status(answer, said))),
    }
}

/// Refusals in the provider's own form, by status and `errorCode` (documentation; 412 and 422 in part from plugins).
fn refusal(status: u16, said: &str) -> Verdict {
    let class = match (status, said) {
        // Everything was captured: by our own lost call, or by somebody else. A read tells.
        // 400 would be our own mistake, but it is also the favourite word of everything in between: the read is cheap.
        (410, "payment_captured") | (400, _) => Class::MaybeDone,
        (402 | 405 | 406 | 415, _)
        | (404, "not_found")
        // `error`: no such order here, so a wrong environment or account.
        | (412, "payment_expired" | "payment_voided" | "invalid_state" | "error")
        | (422, "invalid_amount" | "invalid_object" | "unsupported_currency" | "unsupported_payment_type") => {
            Class::Rejected
        }
        _ => return (Class::Rejected, Code::new("unclassified")),
    };
    (class, Code::new(said))
}

/// What a read shows.
pub(in crate::provider) fn observe(call: &Call<'_>, manner: Manner, answer: &Answer) -> Observation {
    let payment = answer.read::<Payment>();
    let evidence = evidence(call, answer, payment.as_ref());
    let contradicts = |code: &str, evidence| Observation::Contradicts {
        code: Code::new(code),
        evidence,
    };
    let closed = |code: &str, evidence| Observation::Closed {
        code: Code::new(code),
        evidence,
    };
    let payment = match (answer.status, payment) {
        (200, Some(payment)) if payment.id.is_some() => payment,
        (404, Some(error)) if error.error_code.is_some() => return closed("not_found", evidence),
        _ => return Observation::Failed(answer.failure(answer.read_verdict(manner), evidence)),
    };
    if !payment.is(call) {
        return contradicts("wrong_payment", evidence);
    }
    match payment.ours(call) {
        Ours::Several => return contradicts("several_captures", evidence),
        Ours::One(event) => {
            return match event.fit(call) {
                Fit::Equal => Observation::Captured(event.receipt(call, &payment, Proof::Reference, evidence)),
                Fit::OtherAmount => contradicts("wrong_amount", evidence),
                Fit::OtherCurrency => contradicts("wrong_currency", evidence),
            };
        }
        Ours::None => {}
    }
    // Each generation of our key may have been declined once: only then is the present one known to be.
    let generations = usize::try_from(call.generation.0).unwrap_or(0) + 1;
    if payment.with(call, "CAPTURE_DECLINED").count() >= generations {
        return Observation::Declined {
            code: Code::new("capture_declined"),
            proof: Proof::Reference,
            evidence,
        };
    }
    if let Some(ended @ ("VOIDED" | "EXPIRED" | "AUTH_DECLINED")) = payment.payment_state.as_deref() {
        return closed(ended, evidence);
    }
    let Some(open) = &payment.open_to_capture_amount else {
        return Observation::NotCaptured {
            open_minor: None,
            others_minor: payment.others_minor(call),
            authorization_expires_at: payment.expires(),
            evidence,
        };
    };
    match open.money(call) {
        None => contradicts("wrong_currency", evidence),
        Some(open) if open.minor >= call.intent.amount.minor => Observation::NotCaptured {
            open_minor: Some(open.minor),
            others_minor: payment.others_minor(call),
            authorization_expires_at: payment.expires(),
            evidence,
        },
        Some(_) if payment.events().any(|event| event.is("CAPTURED")) => Observation::Foreign { evidence },
        Some(_) => closed("too_little_left", evidence),
    }
}

impl Payment {
    fn is(&self, call: &Call<'_>) -> bool {
        self.id.as_ref().is_some_and(|id| id.as_str() == call.intent.payment_id)
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().flatten()
    }

    /// When the authorisation ends: 13 days are documented, 7 days and 36 hours are on record, so never a constant. Of
    /// several the last: an authorisation that was renewed shows both. Whether it still takes a capture says the payment's
    /// state, not this.
    fn expires(&self) -> Option<DateTime<Utc>> {
        self.events()
            .filter(|event| event.is("AUTH_APPROVED"))
            .filter_map(|event| event.expires.0)
            .max()
    }

    /// Events of a type under our reference.
    fn with<'a>(&'a self, call: &Call<'_>, kind: &'a str) -> impl Iterator<Item = &'a Event> {
        let reference = call.intent.id.reference();
        self.events()
            .filter(move |event| event.is(kind) && event.carries(&reference))
    }

    /// What captures come to, all of them together. Asked only where none is ours.
    fn others_minor(&self, call: &Call<'_>) -> Option<i64> {
        self.events.as_ref()?;
        self.events()
            .filter(|event| event.is("CAPTURED"))
            .try_fold(0i64, |sum, event| {
                sum.checked_add(event.amount.as_ref()?.money(call)?.minor)
            })
    }

    fn ours(&self, call: &Call<'_>) -> Ours<'_> {
        let mut ours = self.with(call, "CAPTURED");
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
            return ambiguous(if self.id.is_some() {
                "wrong_payment"
            } else {
                "unexpected_shape"
            });
        }
        let approved = self.status.as_deref() == Some("APPROVED");
        let captured = matches!(self.payment_state.as_deref(), Some("CAPTURED" | "PARTIALLY_CAPTURED"));
        match self.ours(call) {
            Ours::None if self.status.as_deref() == Some("DECLINED") => Err((Class::Rejected, Code::new("declined"))),
            Ours::None => ambiguous("wrong_reference"),
            Ours::Several => ambiguous("several_captures"),
            Ours::One(_) if (!approved || !captured) && !planted!(declined_201_believed) => ambiguous("contradictory"),
            Ours::One(event) => match event.fit(call) {
                Fit::Equal => Ok(event),
                Fit::OtherAmount => ambiguous("wrong_amount"),
                Fit::OtherCurrency => ambiguous("wrong_currency"),
            },
        }
    }

    /// A 402 whose body is a payment: declined, unless it shows our capture after all.
    fn refused_with_402(&self, call: &Call<'_>, answer: &Answer) -> Verdict {
        match (self.ours(call), self.status.as_deref()) {
            (Ours::None, Some("DECLINED")) if self.is(call) => (Class::Rejected, Code::new("declined")),
            (Ours::None, _) => (Class::Ambiguous, unreadable(answer)),
            (Ours::One(_) | Ours::Several, _) => (Class::Ambiguous, Code::new("contradictory")),
        }
    }
}

impl Event {
    fn is(&self, kind: &str) -> bool {
        self.r#type.as_deref() == Some(kind)
    }

    fn carries(&self, reference: &str) -> bool {
        self.payment_event_merchant_reference.as_deref() == Some(reference)
    }

    fn fit(&self, call: &Call<'_>) -> Fit {
        let ours = call.intent.amount;
        match &self.amount {
            Some(amount) if amount.currency != ours.currency.code() => Fit::OtherCurrency,
            Some(amount) if amount.money(call) == Some(ours) || planted!(amount_not_compared) => Fit::Equal,
            Some(_) | None => Fit::OtherAmount,
        }
    }

    fn created(&self) -> Option<DateTime<Utc>> {
        self.created.as_deref().and_then(time)
    }

    fn receipt(&self, call: &Call<'_>, payment: &Payment, proof: Proof, evidence: Evidence) -> Receipt {
        let id = self
            .id
            .as_ref()
            .map(|id| printable_id(id.as_str()))
            .filter(|id| !id.is_empty());
        Receipt {
            provider_capture_id: id.unwrap_or_else(|| call.intent.id.reference()),
            amount: call.intent.amount,
            captured_at: self.created(),
            proof,
            authorization_expires_at: payment.expires(),
            evidence,
        }
    }
}

impl Amount {
    fn money(&self, call: &Call<'_>) -> Option<Money> {
        let currency = call.intent.amount.currency;
        if self.currency != currency.code() {
            return None;
        }
        self.amount.money(currency)
    }
}

fn code_or_status(answer: &Answer, said: Option<&str>) -> Code {
    said.map_or_else(|| super::super::answer::http_code(answer.status), Code::new)
}

/// The white list: states, ids, amounts and times, our own events first. Nothing of `orderDetails`, no message.
fn evidence(call: &Call<'_>, answer: &Answer, payment: Option<&Payment>) -> Evidence {
    #[derive(Serialize)]
    struct Facts {
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        payment_state: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        open: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error_code: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error_id: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        events: Vec<EventFacts>,
    }
    #[derive(Serialize)]
    struct EventFacts {
        ours: bool,
        id: Option<String>,
        r#type: Option<String>,
        amount: Option<String>,
        created: Option<DateTime<Utc>>,
    }
    let reference = call.intent.id.reference();
    let show = |amount: &Amount| format!("{} {}", amount.amount.shown(), word(&amount.currency));
    let mut events: Vec<EventFacts> = payment
        .into_iter()
        .flat_map(Payment::events)
        .map(|event| EventFacts {
            ours: event.carries(&reference),
            id: event.id.as_ref().map(|id| word(id.as_str())),
            r#type: event.r#type.as_deref().map(word),
            amount: event.amount.as_ref().map(show),
            created: event.created(),
        })
        .collect();
    events.sort_by_key(|event| !event.ours);
    events.truncate(EVENTS_KEPT);
    let of = |field: fn(&Payment) -> Option<&str>| payment.and_then(field).map(word);
    answer.evidence(&Facts {
        status: of(|payment| payment.status.as_deref()),
        payment_state: of(|payment| payment.payment_state.as_deref()),
        open: payment
            .and_then(|payment| payment.open_to_capture_amount.as_ref())
            .map(show),
        error_code: of(|payment| payment.error_code.as_deref()),
        error_id: of(|payment| payment.error_id.as_ref().map(Text::as_str)),
        events,
    })
}

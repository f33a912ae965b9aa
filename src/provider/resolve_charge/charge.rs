//! What a Resolve charge and its invoice say about our capture.
//!
//! A charge shows `id, amount (authorised), captured, captured_at, canceled, merchant_invoice_id, order_number,
//! po_number, metadata` (documentation). The captured amount is the invoice's `amount_due` (inference).
//!
//! Nothing on a charge says who captured it. A capture is taken for ours if it happened after our first send, with our
//! amount to the cent, and nobody else writes; where others do, our marker or a number that we sent must be there too.
//! A capture from before our first send is not ours, unless the account adopts equal amounts.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::Writers;
use crate::intent::{Currency, Money};
use crate::outcome::{Class, Code, Evidence, Failure, Observation, Outcome, Proof, Receipt, printable_id};
use crate::provider::Call;
use crate::provider::answer::{Answer, Manner, time, unreadable, word};
use crate::provider::json::{Digits, Text};
use crate::provider::resolve::{CURRENCY, error_type, is_not_found, refusal};

/// How far the provider's clock and the database's may be apart (assumed).
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// A charge, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(in crate::provider) struct Charge {
    id: Option<Text>,
    amount: Option<Digits>,
    captured: Option<bool>,
    captured_at: Option<String>,
    canceled: Option<bool>,
    merchant_invoice_id: Option<Text>,
    order_number: Option<Text>,
    po_number: Option<Text>,
    metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(rename = "capture_intent")]
    marker: Option<Text>,
}

/// An invoice, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(in crate::provider) struct Invoice {
    id: Option<Text>,
    amount_due: Option<Digits>,
}

/// What the answer to the POST says.
pub(in crate::provider) enum Told {
    /// 200 and captured, amount unknown.
    Captured(Charge),
    Failed(Failure),
}

/// Classes the answer to our POST.
pub(in crate::provider) fn told(call: &Call<'_>, manner: Manner, answer: &Answer) -> Told {
    let charge = answer.read::<Charge>();
    let seen = evidence(answer, charge.as_ref(), None);
    let ambiguous = |code: &str| (Class::Ambiguous, Code::new(code));
    let verdict = match (answer.status, charge) {
        (200 | 201, Some(charge)) if charge.id.is_some() => match charge.captured {
            _ if !charge.is(call) => ambiguous("wrong_payment"),
            Some(true) if charge.canceled != Some(true) => return Told::Captured(charge),
            Some(true) => ambiguous("contradictory"),
            Some(false) => ambiguous("not_captured"),
            None => ambiguous("unexpected_shape"),
        },
        (200 | 201, _) => (Class::Ambiguous, unreadable(answer)),
        _ => refusal(manner, answer),
    };
    Told::Failed(answer.failure(verdict, seen))
}

/// The outcome of a 200, after a look at the invoice: captured only with our amount.
pub(in crate::provider) fn outcome(
    call: &Call<'_>,
    answer: &Answer,
    charge: &Charge,
    invoice: Option<&Invoice>,
) -> Outcome {
    let evidence = evidence(answer, Some(charge), invoice);
    match invoice {
        Some(invoice) if invoice.fits(call) => Outcome::Captured(charge.receipt(call, Proof::Answer, evidence)),
        // The charge itself is its capture, and a read finds it by the payment.
        Some(_) | None => Outcome::Accepted {
            capture_id: None,
            evidence,
        },
    }
}

/// What a charge, and its invoice if it is captured, show.
pub(in crate::provider) fn judge(
    call: &Call<'_>,
    writers: Writers,
    answer: &Answer,
    charge: &Charge,
    invoice: Option<&Invoice>,
) -> Observation {
    let evidence = evidence(answer, Some(charge), invoice);
    let contradicts = |code: &str, evidence| Observation::Contradicts {
        code: Code::new(code),
        evidence,
    };
    let currency = call.intent.amount.currency;
    if currency.code() != CURRENCY {
        return contradicts("wrong_currency", evidence);
    }
    if !charge.is_captured() {
        let closed = |code: &str, evidence| Observation::Closed {
            code: Code::new(code),
            evidence,
        };
        let authorised = charge.amount.as_ref().and_then(|amount| amount.money(currency));
        return match authorised {
            _ if charge.canceled == Some(true) => closed("canceled", evidence),
            Some(authorised) if authorised.minor < call.intent.amount.minor => closed("too_little_left", evidence),
            Some(_) | None => Observation::NotCaptured {
                open_minor: authorised.map(|authorised| authorised.minor),
                others_minor: Some(0),
                authorization_expires_at: None,
                evidence,
            },
        };
    }
    if charge.canceled == Some(true) {
        return contradicts("contradictory", evidence);
    }
    let marked = charge.is_marked(call);
    let sent_and_captured = call.first_sent_at.zip(charge.captured_at());
    let before_us = call.first_sent_at.is_none() || sent_and_captured.is_some_and(|(sent, at)| sent - at > SKEW);
    if before_us && !writers.adopt_equal {
        return Observation::Foreign { evidence };
    }
    // The invoice may come after the charge: without it nothing is said yet.
    let Some(invoice) = invoice else {
        let verdict = (Class::Transient, Code::new("no_invoice"));
        return Observation::Failed(answer.failure(verdict, evidence));
    };
    if before_us {
        let proof = if marked { Proof::Marker } else { Proof::SoleWriter };
        return match invoice.fits(call) {
            true => Observation::Captured(charge.receipt(call, proof, evidence)),
            false => Observation::Foreign { evidence },
        };
    }
    let Some((_, captured)) = sent_and_captured else {
        return contradicts("no_capture_time", evidence);
    };
    if captured - answer.given_at() > SKEW {
        return contradicts("captured_in_the_future", evidence);
    }
    if !invoice.fits(call) {
        return contradicts("wrong_amount", evidence);
    }
    if charge.is_marked_by_another(call) {
        return contradicts("marked_by_another", evidence);
    }
    if writers.others && !marked && !charge.has_our_numbers(call) {
        return contradicts("no_marker", evidence);
    }
    let proof = if marked || writers.others {
        Proof::Marker
    } else {
        Proof::SoleWriter
    };
    Observation::Captured(charge.receipt(call, proof, evidence))
}

impl Charge {
    /// This charge, or what it means that the answer to a read is something else.
    pub(in crate::provider) fn of(
        call: &Call<'_>,
        manner: Manner,
        answer: &Answer,
    ) -> Result<Charge, Box<Observation>> {
        let charge = answer.read::<Charge>();
        let seen = evidence(answer, charge.as_ref(), None);
        match (answer.status, charge) {
            (200, Some(charge)) if charge.id.is_some() && charge.captured.is_some() => {
                if charge.is(call) {
                    return Ok(charge);
                }
                Err(Box::new(Observation::Contradicts {
                    code: Code::new("wrong_payment"),
                    evidence: seen,
                }))
            }
            _ if is_not_found(answer) => Err(Box::new(Observation::Closed {
                code: Code::new("not_found"),
                evidence: seen,
            })),
            _ => {
                let failure = answer.failure(answer.read_verdict(manner), seen);
                Err(Box::new(Observation::Failed(failure)))
            }
        }
    }

    pub(in crate::provider) fn is_captured(&self) -> bool {
        self.captured == Some(true)
    }

    pub(in crate::provider) fn invoice_id(&self) -> Option<String> {
        self.merchant_invoice_id.as_ref().map(|id| id.as_str().to_owned())
    }

    fn is(&self, call: &Call<'_>) -> bool {
        self.id.as_ref().is_some_and(|id| id.as_str() == call.intent.payment_id)
    }

    fn marker(&self) -> Option<&str> {
        let metadata = self.metadata.as_ref()?;
        metadata.marker.as_ref().map(Text::as_str)
    }

    fn is_marked(&self, call: &Call<'_>) -> bool {
        self.marker() == Some(call.intent.id.reference().as_str())
    }

    /// Another intent was about to capture this charge, and later than we.
    fn is_marked_by_another(&self, call: &Call<'_>) -> bool {
        self.marker().is_some() && !self.is_marked(call)
    }

    /// Does the charge carry a number that we sent to override its own?
    fn has_our_numbers(&self, call: &Call<'_>) -> bool {
        let details = &call.intent.details;
        let same = |sent: &Option<String>, shown: &Option<Text>| match (sent, shown) {
            (Some(sent), Some(shown)) => sent == shown.as_str(),
            (Some(_), None) | (None, _) => false,
        };
        same(&details.order_number, &self.order_number) || same(&details.po_number, &self.po_number)
    }

    fn captured_at(&self) -> Option<DateTime<Utc>> {
        self.captured_at.as_deref().and_then(time)
    }

    fn receipt(&self, call: &Call<'_>, proof: Proof, evidence: Evidence) -> Receipt {
        let Money { minor, currency } = call.intent.amount;
        let invoice = self
            .invoice_id()
            .map(|id| printable_id(&id))
            .filter(|id| !id.is_empty());
        Receipt {
            provider_capture_id: invoice.unwrap_or_else(|| call.intent.id.reference()),
            amount: Money::new(minor, currency),
            captured_at: self.captured_at(),
            proof,
            authorization_expires_at: None,
            evidence,
        }
    }
}

impl Invoice {
    /// The invoice of that id, if this answer is it and its amount can be read.
    pub(in crate::provider) fn of(id: &str, answer: &Answer) -> Option<Invoice> {
        let invoice: Invoice = (answer.status == 200).then(|| answer.read()).flatten()?;
        let dollars = Currency::from_code(CURRENCY)?;
        invoice.amount_due.as_ref()?.money(dollars)?;
        let same = invoice.id.as_ref().is_some_and(|shown| shown.as_str() == id);
        same.then_some(invoice)
    }

    fn fits(&self, call: &Call<'_>) -> bool {
        let ours = call.intent.amount;
        let due = self.amount_due.as_ref().and_then(|due| due.money(ours.currency));
        ours.currency.code() == CURRENCY && due == Some(ours)
    }
}

/// The white list: state, ids, amounts, times, and whose marker is on it. Nothing of the customer, no message.
pub(super) fn evidence(answer: &Answer, charge: Option<&Charge>, invoice: Option<&Invoice>) -> Evidence {
    #[derive(Serialize)]
    struct Facts {
        #[serde(skip_serializing_if = "Option::is_none")]
        error_type: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        captured: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        captured_at: Option<DateTime<Utc>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        canceled: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        authorized: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        invoice: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        invoiced: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        marker: Option<String>,
    }
    answer.evidence(&Facts {
        error_type: error_type(answer).as_deref().map(word),
        captured: charge.and_then(|charge| charge.captured),
        captured_at: charge.and_then(Charge::captured_at),
        canceled: charge.and_then(|charge| charge.canceled),
        authorized: charge.and_then(|charge| charge.amount.as_ref()).map(Digits::shown),
        invoice: charge.and_then(Charge::invoice_id).as_deref().map(word),
        invoiced: invoice
            .and_then(|invoice| invoice.amount_due.as_ref())
            .map(Digits::shown),
        marker: charge.and_then(Charge::marker).map(word),
    })
}

//! What Optty's answers say about our capture.
//!
//! The answer to a capture is `{captureReference, captureId, capturedAmount}`. The order's details list captures as
//! `orderCaptures[]{captureId, amount, status, createdAt}` beside the order's own `status, amount, currency`
//! (documentation). In the documented example `captureId` repeats the reference that was sent; whether it always does is
//! not said. So a capture in the details is ours if it carries our reference, or the id that the answer to our own POST
//! gave. One that carries neither may still be ours: it is taken for ours only if it was made after our send, has our
//! amount, and no second capture of that amount fits into the order, so that it cannot be a sibling's. Otherwise the
//! read says that it cannot tell.
//!
//! Errors are `{statusCode, message}` with free text; one status, 400, stands for everything.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::seen;
use crate::outcome::{Class, Code, Evidence, Failure, Observation, Outcome, Proof, Receipt, printable_id};
use crate::provider::Call;
use crate::provider::answer::{Answer, Manner, http_code, time, unreadable};
use crate::provider::json::{Digits, Text};

/// How far the provider's clock may be behind the database's (assumed).
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// What the answer to the POST says.
pub(in crate::provider) enum Told {
    /// Taken: 2xx with our reference and our amount.
    Accepted {
        capture_id: String,
        evidence: Evidence,
    },
    Failed(Failure),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Taken {
    pub(super) capture_reference: Option<Text>,
    pub(super) capture_id: Option<Text>,
    pub(super) captured_amount: Option<Digits>,
    /// Of an error.
    pub(super) status_code: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    /// The order's reference, as the details name it.
    pub(super) merchant_reference: Option<Text>,
    /// The same, as the order itself names it.
    pub(super) order_reference: Option<Text>,
    pub(super) status: Option<String>,
    pub(super) amount: Option<Digits>,
    pub(super) order_amount: Option<Digits>,
    pub(super) surcharge: Option<Digits>,
    pub(super) currency: Option<String>,
    pub(super) order_captures: Option<Vec<Capture>>,
    /// Of an error.
    pub(super) status_code: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Capture {
    pub(super) capture_id: Option<Text>,
    /// Not in the documented example; believed where it is.
    pub(super) capture_reference: Option<Text>,
    pub(super) amount: Option<Digits>,
    pub(super) status: Option<String>,
    pub(super) created_at: Option<String>,
}

/// The details of an order, or whatever else came.
pub(in crate::provider) struct Details {
    answer: Answer,
    order: Option<Order>,
    evidence: Evidence,
}

/// Classes the answer to our POST.
pub(in crate::provider) fn told(call: &Call<'_>, manner: Manner, answer: &Answer) -> Told {
    let taken = answer.read::<Taken>();
    let evidence = seen::taken(answer, taken.as_ref());
    let verdict = match answer.verdict_by_status(manner, None) {
        Some(verdict) => verdict,
        None => match (answer.status, &taken) {
            (200 | 201, Some(taken)) => match taken.fit(call) {
                Ok(capture_id) => return Told::Accepted { capture_id, evidence },
                Err(code) => (Class::Ambiguous, Code::new(code)),
            },
            (200 | 201, None) => (Class::Ambiguous, unreadable(answer)),
            (200..=299, _) => (Class::Ambiguous, http_code(answer.status)),
            // Below: only in the provider's own form. Never by the message.
            (_, None) => (Class::Ambiguous, unreadable(answer)),
            (_, Some(error)) if error.status_code.is_none() => (Class::Ambiguous, unreadable(answer)),
            (400 | 409 | 422, Some(_)) => (Class::MaybeDone, http_code(answer.status)),
            (404, Some(_)) => (Class::Rejected, Code::new("not_found")),
            (_, Some(_)) => (Class::Rejected, Code::new("unclassified")),
        },
    };
    Told::Failed(answer.failure(verdict, evidence))
}

impl Taken {
    /// The capture's id, if reference and amount are ours.
    fn fit(&self, call: &Call<'_>) -> Result<String, &'static str> {
        let reference = call.intent.id.reference();
        let (Some(sent), Some(id), Some(amount)) = (&self.capture_reference, &self.capture_id, &self.captured_amount)
        else {
            return Err("unexpected_shape");
        };
        if sent.as_str() != reference {
            return Err("wrong_reference");
        }
        if amount.money(call.intent.amount.currency) != Some(call.intent.amount) {
            return Err("wrong_amount");
        }
        Ok(id.as_str().to_owned())
    }
}

/// The outcome of an accepted capture, after a look at the details.
pub(in crate::provider) fn settled(
    call: &Call<'_>,
    capture_id: String,
    accepted: Evidence,
    details: Result<Details, Failure>,
) -> Outcome {
    let id = Some(printable_id(&capture_id)).filter(|id| !id.is_empty());
    let taken = |evidence| Outcome::Accepted {
        capture_id: id.clone(),
        evidence,
    };
    let Ok(details) = details else {
        return taken(accepted);
    };
    let order = match &details.order {
        Some(order) if matches!(details.answer.status, 200 | 201) && order.is(call) && order.currency_fits(call) => {
            order
        }
        Some(_) | None => return taken(accepted),
    };
    let known = |capture: &&Capture| capture.carries(&call.intent.id.reference()) || capture.carries(&capture_id);
    let mut ours = order.captures().filter(known);
    match (ours.next(), ours.next()) {
        (Some(capture), None) if capture.succeeded() && capture.amount_fits(call) => {
            Outcome::Captured(capture.receipt(call, Proof::Answer, details.evidence))
        }
        // Pending, not shown yet, or something that a read has to judge: taken, and not to be sent again.
        (Some(_), _) => taken(details.evidence),
        (None, _) => taken(accepted),
    }
}

/// What a read shows.
pub(in crate::provider) fn observe(call: &Call<'_>, manner: Manner, details: &Details) -> Observation {
    let evidence = details.evidence.clone();
    let contradicts = |code: &str| Observation::Contradicts {
        code: Code::new(code),
        evidence: details.evidence.clone(),
    };
    let answer = &details.answer;
    let order = match (answer.status, &details.order) {
        // `POST …/details` answers like any other POST of its framework, with 200 or 201.
        (200 | 201, Some(order)) if order.names().next().is_some() && order.currency.is_some() => order,
        (404, Some(error)) if error.status_code.is_some() => {
            return Observation::Closed {
                code: Code::new("not_found"),
                evidence,
            };
        }
        _ => return Observation::Failed(answer.failure(answer.read_verdict(manner), evidence)),
    };
    if !order.is(call) {
        return contradicts("wrong_payment");
    }
    if !order.currency_fits(call) {
        return contradicts("wrong_currency");
    }
    let mut ours = order.captures().filter(|capture| capture.is_ours(call));
    match (ours.next(), ours.next()) {
        (Some(_), Some(_)) => return contradicts("several_captures"),
        (Some(capture), None) if !capture.amount_fits(call) => return contradicts("wrong_amount"),
        (Some(capture), None) => return capture.story(call, Proof::Reference, evidence),
        (None, _) => {}
    }
    let candidates: Vec<&Capture> = order.captures().filter(|capture| capture.may_be(call)).collect();
    match candidates.as_slice() {
        // Our send was refused, and here is why: somebody's capture of just our amount. Or our own, of a history of the
        // database that was lost since. Either way the money has moved, and a person is told so.
        [] if call.refused && order.captures().any(|capture| capture.explains_a_refusal(call)) => {
            Observation::Foreign { evidence }
        }
        // What a read took for ours was refused since, and nothing else fits.
        [] => match order.captures().find(|capture| capture.was_pending(call)) {
            Some(capture) => capture.story(call, Proof::SoleWriter, evidence),
            None => order.without_ours(call, evidence),
        },
        // One capture of our amount, from after our first send, that is no sibling's: nobody else captures a payment
        // while we hold it, unless by hand, and then of just our amount and just now.
        [capture] if capture.created().is_some() && (!call.siblings.undecided || order.has_room_for_one(call)) => {
            capture.story(call, Proof::SoleWriter, evidence)
        }
        // Whosever it is, it is not final: looking again later costs nothing.
        several if several.iter().any(|capture| capture.is_pending()) => Observation::Pending {
            inferred_id: None,
            evidence,
        },
        _ => contradicts("no_reference"),
    }
}

impl Details {
    pub(in crate::provider) fn of(call: &Call<'_>, answer: Answer) -> Details {
        let order = answer.read::<Order>();
        let evidence = seen::order(call, &answer, order.as_ref());
        Details {
            answer,
            order,
            evidence,
        }
    }
}

impl Order {
    fn names(&self) -> impl Iterator<Item = &Text> {
        self.merchant_reference.iter().chain(&self.order_reference)
    }

    fn is(&self, call: &Call<'_>) -> bool {
        self.names().next().is_some() && self.names().all(|name| name.as_str() == call.intent.payment_id)
    }

    fn currency_fits(&self, call: &Call<'_>) -> bool {
        let ours = call.intent.amount.currency.code();
        self.currency
            .as_deref()
            .is_some_and(|currency| currency.eq_ignore_ascii_case(ours))
    }

    pub(super) fn captures(&self) -> impl Iterator<Item = &Capture> {
        self.order_captures.iter().flatten()
    }

    /// Can the order hold our amount once, but not twice? Then a capture of that amount has no twin.
    fn has_room_for_one(&self, call: &Call<'_>) -> bool {
        let ours = call.intent.amount;
        let minor = |digits: &Option<Digits>| Some(digits.as_ref()?.money(ours.currency)?.minor);
        let twice = ours.minor.saturating_mul(2);
        let whole = minor(&self.amount)
            .or(minor(&self.order_amount))
            .filter(|whole| *whole > 0);
        let alone = match (whole, minor(&self.surcharge)) {
            (Some(whole), Some(surcharge)) => twice > whole.saturating_add(surcharge),
            // A surcharge that is not shown comes on top: only "everything" is sure to fit no more than once.
            (Some(whole), None) => ours.minor >= whole,
            (None, _) => false,
        };
        alone
            || call
                .intent
                .authorized_minor
                .is_some_and(|authorised| twice > authorised)
    }

    /// What captures come to that have succeeded or still may. Asked only where none is ours.
    fn others_minor(&self, call: &Call<'_>) -> Option<i64> {
        self.order_captures.as_ref()?;
        self.captures()
            .filter(|capture| capture.succeeded() || capture.is_pending())
            .try_fold(0i64, |sum, capture| {
                let amount = capture.amount.as_ref()?.money(call.intent.amount.currency)?;
                sum.checked_add(amount.minor)
            })
    }

    fn without_ours(&self, call: &Call<'_>, evidence: Evidence) -> Observation {
        match self.status.as_deref() {
            Some(ended @ ("DECLINED" | "FAILED" | "CANCELED" | "CANCELLED" | "EXPIRED" | "VOIDED")) => {
                Observation::Closed {
                    code: Code::new(ended),
                    evidence,
                }
            }
            // How much is open is not told: a surcharge counts too and is not shown.
            Some(_) | None => Observation::NotCaptured {
                open_minor: None,
                others_minor: self.others_minor(call),
                authorization_expires_at: None,
                evidence,
            },
        }
    }
}

impl Capture {
    pub(super) fn carries(&self, id: &str) -> bool {
        let is = |text: &Option<Text>| text.as_ref().is_some_and(|text| text.as_str() == id);
        is(&self.capture_reference) || is(&self.capture_id)
    }

    /// By our reference, or by the id that the answer to our POST gave.
    pub(super) fn is_ours(&self, call: &Call<'_>) -> bool {
        self.carries(&call.intent.id.reference()) || call.accepted_id.is_some_and(|id| self.carries(id))
    }

    fn amount_fits(&self, call: &Call<'_>) -> bool {
        let ours = call.intent.amount;
        self.amount
            .as_ref()
            .is_some_and(|amount| amount.money(ours.currency) == Some(ours))
    }

    fn succeeded(&self) -> bool {
        self.status.as_deref() == Some("SUCCESSFUL")
    }

    pub(super) fn created(&self) -> Option<DateTime<Utc>> {
        self.created_at.as_deref().and_then(time)
    }

    /// Money without a reference, with our amount, and not surely from before our first send.
    fn may_be(&self, call: &Call<'_>) -> bool {
        let in_time = match (call.first_sent_at, self.created()) {
            (Some(sent), Some(created)) => sent - created <= SKEW,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.capture_reference.is_none()
            && !self.was_refused()
            && self.amount_fits(call)
            && in_time
            && !call.siblings.capture_ids.iter().any(|id| self.carries(id))
    }

    /// Money of just our amount without a reference, that no sibling has on record.
    fn explains_a_refusal(&self, call: &Call<'_>) -> bool {
        self.capture_reference.is_none()
            && self.succeeded()
            && self.amount_fits(call)
            && !call.siblings.capture_ids.iter().any(|id| self.carries(id))
    }

    fn was_refused(&self) -> bool {
        matches!(
            self.status.as_deref(),
            Some("DECLINED" | "FAILED" | "CANCELED" | "CANCELLED")
        )
    }

    /// Refused since a read took it for ours.
    fn was_pending(&self, call: &Call<'_>) -> bool {
        self.was_refused() && self.amount_fits(call) && call.pending_id.is_some_and(|id| self.carries(id))
    }

    fn is_pending(&self) -> bool {
        matches!(self.status.as_deref(), Some("INITIATED" | "PENDING"))
    }

    /// What the state of our capture means. Seen: INITIATED, PENDING, SUCCESSFUL, DECLINED, FAILED, CANCELED.
    fn story(&self, call: &Call<'_>, proof: Proof, evidence: Evidence) -> Observation {
        match self.status.as_deref() {
            Some("SUCCESSFUL") => Observation::Captured(self.receipt(call, proof, evidence)),
            Some(_) if self.is_pending() => Observation::Pending {
                inferred_id: match proof {
                    Proof::SoleWriter | Proof::Marker => self.id(),
                    Proof::Answer | Proof::Reference | Proof::Person => None,
                },
                evidence,
            },
            Some(refused) if self.was_refused() => Observation::Declined {
                code: Code::new(refused),
                proof,
                evidence,
            },
            Some(_) | None => Observation::Contradicts {
                code: Code::new("unknown_state"),
                evidence,
            },
        }
    }

    fn id(&self) -> Option<String> {
        let id = self.capture_id.as_ref().map(|id| printable_id(id.as_str()));
        id.filter(|id| !id.is_empty())
    }

    fn receipt(&self, call: &Call<'_>, proof: Proof, evidence: Evidence) -> Receipt {
        Receipt {
            provider_capture_id: self.id().unwrap_or_else(|| call.intent.id.reference()),
            amount: call.intent.amount,
            captured_at: self.created(),
            proof,
            authorization_expires_at: None,
            evidence,
        }
    }
}

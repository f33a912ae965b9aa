//! The adapters' judgement without the wire: an answer's bytes in, the outcome out.
//!
//! For fuzzers and for tests that play more answers than a connection could carry; nothing in the product comes this way.
//! It builds nothing and sends nothing: what is judged here is judged by the same functions as an answer off the wire.

use super::answer::{Answer, Headers, Manner};
use super::resolve_charge::Writers;
use super::{Call, Model, afterpay, optty, resolve_charge, resolve_order, token};
use crate::clock::Boottime;
use crate::outcome::{Class, Failure, Observation, Outcome};

/// An answer as it would come off the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`, if there is one.
    pub content_type: Option<String>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Told {
    fn answer(&self) -> Answer {
        Answer {
            status: self.status,
            headers: Headers {
                content_type: self.content_type.clone(),
                ..Headers::default()
            },
            body: self.body.clone(),
            new_token: false,
        }
    }
}

fn manner(model: Model) -> Manner {
    Manner {
        keyed: matches!(model, Model::Afterpay | Model::ResolveOrder),
        bearer: model == Model::Optty,
    }
}

/// The outcome of a capture that was answered like this; `then` answers the read that some models make after it.
pub fn capture(model: Model, call: &Call<'_>, posted: &Told, then: &Told) -> Outcome {
    let answer = posted.answer();
    match model {
        Model::Afterpay => afterpay::payment::outcome(call, manner(model), &answer),
        Model::ResolveOrder => resolve_order::order::outcome(call, manner(model), &answer),
        Model::Optty => match optty::order::told(call, manner(model), &answer) {
            optty::order::Told::Failed(failure) => Outcome::Failed(failure),
            optty::order::Told::Accepted { capture_id, evidence } => {
                let details = optty::order::Details::of(call, then.answer());
                optty::order::settled(call, capture_id, evidence, Ok(details))
            }
        },
        Model::ResolveCharge => match resolve_charge::charge::told(call, manner(model), &answer) {
            resolve_charge::charge::Told::Failed(failure) => Outcome::Failed(failure),
            resolve_charge::charge::Told::Captured(charge) => {
                let invoice = charge.invoice_id();
                let invoice = invoice.and_then(|id| resolve_charge::charge::Invoice::of(&id, &then.answer()));
                resolve_charge::charge::outcome(call, &answer, &charge, invoice.as_ref())
            }
        },
    }
}

/// What a read that was answered like this shows; `then` answers the second read that some models make.
pub fn read(model: Model, call: &Call<'_>, told: &Told, then: &Told) -> Observation {
    let answer = told.answer();
    match model {
        Model::Afterpay => afterpay::payment::observe(call, manner(model), &answer),
        Model::ResolveOrder => resolve_order::order::observe(call, manner(model), &answer),
        Model::Optty => {
            let details = optty::order::Details::of(call, answer);
            optty::order::observe(call, manner(model), &details)
        }
        Model::ResolveCharge => match resolve_charge::charge::Charge::of(call, manner(model), &answer) {
            Err(observation) => *observation,
            Ok(charge) => {
                let id = charge.invoice_id().filter(|_| charge.is_captured());
                let invoice = match id {
                    None => None,
                    Some(id) => match resolve_charge::charge::Invoice::of(&id, &then.answer()) {
                        Some(invoice) => Some(invoice),
                        None => return Observation::Failed(Failure::new(Class::Transient, "no_invoice")),
                    },
                };
                let writers = Writers {
                    adopt_equal: false,
                    others: false,
                };
                resolve_charge::charge::judge(call, writers, &answer, &charge, invoice.as_ref())
            }
        },
    }
}

/// Is a token taken from this answer, or why not?
pub fn token(told: &Told) -> Result<(), Failure> {
    let answer = told.answer();
    match token::read(&answer, Boottime::now()) {
        Some(_) => Ok(()),
        None => Err(token::refusal(&answer)),
    }
}

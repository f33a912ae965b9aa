//! A payment provider of your own, from outside the crate: "acme", behind the trait [`Provider`].
//!
//! The laws that it must hold are `capture::provider::contract`; `tests/it/outside_provider.rs` tries it by them.

use std::time::Duration;

use async_trait::async_trait;
use capture::intent::CaptureIntent;
use capture::outcome::{Class, Code, Evidence, Failure, Observation, Outcome, Proof, Receipt, printable_id};
use capture::provider::{Abilities, Call, Calls, Exactness, Provider, Repeat};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::json;

pub struct Acme {
    /// Follows no redirect, repeats nothing, and gives up within the worker's longest call (85 s).
    pub http: Client,
    pub base: String,
    pub token: String,
}

/// Acme's document of a capture.
#[derive(serde::Deserialize)]
struct Told {
    id: String,
    reference: String,
    amount_minor: i64,
    currency: String,
}

impl Told {
    /// Ours, and exactly what was asked: the one shape that means money moved. Anything else proves nothing.
    fn receipt(&self, call: &Call<'_>, proof: Proof) -> Option<Receipt> {
        let (amount, reference) = (call.intent.amount, call.intent.id.reference());
        let asked = (amount.minor, amount.currency.code(), reference.as_str());
        ((self.amount_minor, self.currency.as_str(), self.reference.as_str()) == asked).then(|| Receipt {
            provider_capture_id: printable_id(&self.id),
            amount,
            captured_at: None,
            proof,
            authorization_expires_at: None,
            evidence: Evidence::new(format!("amount_minor {}", self.amount_minor)),
        })
    }
}

/// What an answer that is no capture says about the money. Only what acme documents is final.
fn refusal(answer: &Response) -> Failure {
    let kind = answer.headers().get("content-type");
    if kind.is_none_or(|kind| kind != "application/json") {
        return Failure::new(Class::Ambiguous, "no_answer_of_acme");
    }
    let (class, code) = match answer.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (Class::Misconfigured, "credentials"),
        StatusCode::TOO_MANY_REQUESTS => (Class::RateLimited, "rate_limited"),
        StatusCode::PAYMENT_REQUIRED => (Class::Rejected, "declined"),
        StatusCode::CONFLICT => (Class::MaybeDone, "captured_already"), // our own earlier capture would explain it
        _ => (Class::Ambiguous, "unclassified"),
    };
    Failure::new(class, code).answered(answer.status().as_u16())
}

impl Acme {
    fn captures(&self, by: fn(&Client, String) -> RequestBuilder, call: &Call<'_>) -> RequestBuilder {
        let url = format!("{}/payments/{}/captures", self.base, call.intent.payment_id);
        by(&self.http, url).bearer_auth(&self.token)
    }
}

#[async_trait]
impl Provider for Acme {
    fn abilities(&self) -> Abilities {
        // Acme remembers keys for a day; an hour is taken off for clocks.
        let window = Some(Duration::from_secs(23 * 3600));
        Abilities {
            repeat: Repeat::Key { window },
            exactness: Exactness::Reference,
            read_lag: Duration::ZERO,
            read_before_send: false,
            calls: Calls { send: 1, read: 1 },
        }
    }

    fn host(&self) -> &str {
        &self.base
    }

    fn check(&self, _intent: &CaptureIntent) -> Result<(), Failure> {
        Ok(()) // what acme never takes is refused at the insert: the table `providers`
    }

    async fn capture(&self, call: &Call<'_>) -> Outcome {
        let (amount, reference) = (call.intent.amount, call.intent.id.reference());
        let body = json!({ "reference": reference, "amount_minor": amount.minor, "currency": amount.currency.code() });
        let post = self.captures(Client::post, call);
        let post = post.header("idempotency-key", call.key().to_string()).json(&body);
        if !call.guard.may_send() {
            return Outcome::NotSent; // asked last, right before the wire
        }
        Outcome::Failed(match post.send().await {
            Err(error) if error.is_connect() => Failure::new(Class::Transient, "connect"),
            Err(_) => Failure::new(Class::Ambiguous, "no_answer"),
            Ok(answer) if answer.status() != StatusCode::CREATED => refusal(&answer),
            Ok(answer) => match answer
                .json::<Told>()
                .await
                .map(|told| told.receipt(call, Proof::Answer))
            {
                Ok(Some(receipt)) => return Outcome::Captured(receipt),
                Ok(None) | Err(_) => Failure::new(Class::Ambiguous, "not_what_was_asked"),
            },
        })
    }

    async fn read(&self, call: &Call<'_>) -> Observation {
        let captures = match self.captures(Client::get, call).send().await {
            Ok(answer) if answer.status() != StatusCode::OK => return Observation::Failed(refusal(&answer)),
            Ok(answer) => answer.json::<Vec<Told>>().await,
            Err(error) => Err(error),
        };
        let Ok(captures) = captures else {
            return Observation::Failed(Failure::new(Class::Transient, "not_read"));
        };
        let (code, evidence) = (Code::new("another_amount"), Evidence::default());
        let ours = |told: &&Told| told.reference == call.intent.id.reference();
        let Some(told) = captures.iter().find(ours) else {
            let others_minor = captures
                .iter()
                .map(|told| told.amount_minor)
                .reduce(i64::saturating_add);
            return Observation::NotCaptured {
                open_minor: None,
                others_minor,
                authorization_expires_at: None,
                evidence,
            };
        };
        let receipt = told.receipt(call, Proof::Reference);
        receipt.map_or(Observation::Contradicts { code, evidence }, Observation::Captured)
    }
}

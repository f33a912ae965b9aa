//! A provider that answers what it is asked, from the request itself, and remembers what it captured. Its answers are as
//! full of personal data as real ones.

use std::collections::HashMap;
use std::sync::Mutex;

use capture::provider::Model;
use serde_json::{Value, json};

use crate::models::now;
use crate::wire::{self, Seen};

pub struct Merchant {
    pub model: Model,
    /// What an answer tells of the customer.
    pub person: Value,
    captured: Mutex<HashMap<String, Value>>,
}

impl Merchant {
    pub fn new(model: Model, person: Value) -> Merchant {
        Merchant {
            model,
            person,
            captured: Mutex::default(),
        }
    }

    /// The payment that a request is about.
    pub fn payment(seen: &Seen) -> &str {
        let segments: Vec<&str> = seen.target.split('/').collect();
        match segments.as_slice() {
            [.., id, "capture" | "details"] | [.., id] => id,
            [] => "",
        }
    }

    /// The documented answer, whole.
    pub fn answer(&self, seen: &Seen) -> Vec<u8> {
        let payment = Merchant::payment(seen).to_owned();
        let asked: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let is_capture = seen.target.ends_with("/capture");
        if is_capture {
            self.captured.lock().unwrap().insert(payment.clone(), asked.clone());
        }
        let told = match self.model {
            Model::Afterpay => self.afterpay(&payment),
            Model::Optty if is_capture => json!({
                "captureReference": asked["captureReference"], "captureId": asked["captureReference"],
                "capturedAmount": asked["amount"], "customer": self.person,
            }),
            Model::Optty => self.optty(&payment),
            Model::ResolveCharge if seen.target.contains("/invoices/") => {
                let of = payment.trim_start_matches("inv-");
                json!({"id": payment, "amount_due": self.asked(of)["amount"], "customer": self.person})
            }
            Model::ResolveCharge => self.charge(&payment),
            Model::ResolveOrder => self.order(&payment),
        };
        let status = if is_capture && self.model == Model::Afterpay {
            201
        } else {
            200
        };
        wire::json(status, &told.to_string())
    }

    fn asked(&self, payment: &str) -> Value {
        let captured = self.captured.lock().unwrap();
        captured.get(payment).cloned().unwrap_or_default()
    }

    fn afterpay(&self, payment: &str) -> Value {
        let asked = self.asked(payment);
        let whole = json!({"amount": "50.00", "currency": "USD"});
        let mut events = vec![json!({"id": "e1", "created": now(), "type": "AUTH_APPROVED", "amount": whole})];
        if !asked.is_null() {
            events.push(json!({
                "id": "e2", "created": now(), "type": "CAPTURED", "amount": asked["amount"],
                "paymentEventMerchantReference": asked["paymentEventMerchantReference"],
            }));
        }
        json!({
            "id": payment, "token": "001.x", "status": "APPROVED", "created": now(), "originalAmount": whole,
            "openToCaptureAmount": if asked.is_null() { whole.clone() } else { json!({"amount": "0.00", "currency": "USD"}) },
            "paymentState": if asked.is_null() { "AUTH_APPROVED" } else { "CAPTURED" },
            "merchantReference": self.person["name"], "refunds": [],
            "orderDetails": {"consumer": self.person, "shipping": self.person}, "events": events,
        })
    }

    fn optty(&self, payment: &str) -> Value {
        let asked = self.asked(payment);
        let captures = match asked.is_null() {
            true => json!([]),
            false => json!([{
                "captureId": asked["captureReference"], "amount": asked["amount"].to_string(), "status": "SUCCESSFUL",
                "createdAt": now(), "description": self.person["name"],
            }]),
        };
        json!({
            "merchantReference": payment, "status": "SUCCESSFUL", "amount": "50", "currency": "USD",
            "customer": self.person, "orderCaptures": captures,
        })
    }

    fn charge(&self, payment: &str) -> Value {
        let captured = !self.asked(payment).is_null();
        json!({
            "id": payment, "amount": 50.00, "captured": captured, "captured_at": captured.then(now), "canceled": false,
            "merchant_invoice_id": captured.then(|| format!("inv-{payment}")), "order_number": self.person["name"],
            "po_number": null, "metadata": {"note": self.person}, "customer": self.person,
        })
    }

    fn order(&self, payment: &str) -> Value {
        let asked = self.asked(payment);
        let events = match asked.is_null() {
            true => json!([]),
            false => json!([{
                "amount": asked["amount"], "idempotency_key": asked["idempotency_key"], "processed_at": now(),
                "invoice_id": format!("inv-{payment}"), "memo": self.person["email"],
            }]),
        };
        json!({"id": payment, "status": "captured", "amount_remaining": 50, "capture_events": events, "customer": self.person})
    }
}

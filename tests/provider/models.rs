//! The four models: their settings, an intent each, and the answers that their documents promise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use capture::clock::{Boottime, SendGuard};
use capture::intent::{CaptureIntent, Currency, Details, KeyGeneration, Lane, Money};
use capture::outcome::{Failure, Outcome};
use capture::provider::{AccountSettings, Call, Model, Provider, Siblings, build};
use chrono::{TimeDelta, Utc};

use crate::wire::{Kind, Script, Seen, Step, Wire, json};

pub const MODELS: [Model; 4] = [Model::Afterpay, Model::Optty, Model::ResolveCharge, Model::ResolveOrder];
pub const SECRET: &str = "SECRET-7f3a-do-not-show";
pub const MERCHANT: &str = "merchant-400101010";
pub const TOKEN: &str = "TOKEN.eyJhbGciOi.do-not-show";

/// Ten dollars on the payment `id`.
pub fn intent(model: Model) -> CaptureIntent {
    let payment_id = match model {
        Model::Afterpay => "100101782114",
        Model::Optty => "ORDER-1001",
        Model::ResolveCharge => "czTrT9opfkBaYZNh",
        Model::ResolveOrder => "ORDlaE5wbg0",
    };
    CaptureIntent {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        lane: lane(model),
        order_id: "1001".to_owned(),
        payment_id: payment_id.to_owned(),
        capture_ref: "first".to_owned(),
        amount: Money::new(1000, Currency::from_code("USD").unwrap()),
        authorized_minor: Some(1000),
        authorization_expires_at: None,
        details: Details::default(),
        traceparent: None,
        created_at: Utc::now(),
    }
}

fn lane(model: Model) -> Lane {
    let provider = match model {
        Model::Afterpay => "afterpay",
        Model::Optty => "optty",
        Model::ResolveCharge | Model::ResolveOrder => "resolve",
    };
    Lane {
        provider: provider.to_owned(),
        account: "default".to_owned(),
    }
}

pub fn settings(model: Model, address: SocketAddr) -> AccountSettings {
    AccountSettings {
        lane: lane(model),
        model,
        base_url: format!("http://{address}/base"),
        auth_url: (model == Model::Optty).then(|| format!("http://{address}/auth/token")),
        merchant_id: MERCHANT.to_owned(),
        secret: SECRET.to_owned().into(),
        bearer: false,
        api_version: Some("2021-05-01".to_owned()),
        require_shipping: false,
        adopt_equal_captures: false,
        other_writers: false,
        platform_url: Some("https://shop.example".to_owned()),
        connect_timeout: Duration::from_millis(500),
        read_timeout: Duration::from_millis(500),
    }
}

/// An adapter of these settings.
pub fn adapter(settings: AccountSettings) -> Arc<dyn Provider> {
    build(settings).unwrap()
}

/// The adapter of a model, and the server that it talks to.
pub struct Bench {
    pub wire: Wire,
    pub provider: Arc<dyn Provider>,
    pub intent: CaptureIntent,
}

impl Bench {
    /// With a script for captures; everything else is answered as documented.
    pub async fn new(model: Model, captures: Vec<Step>) -> Bench {
        Bench::of(model, script(model, captures), |_| {}).await
    }

    pub async fn of(model: Model, script: Script, change: impl FnOnce(&mut AccountSettings)) -> Bench {
        let wire = Wire::start(script).await;
        let mut settings = settings(model, wire.address);
        change(&mut settings);
        Bench {
            provider: adapter(settings),
            wire,
            intent: intent(model),
        }
    }

    pub fn call(&self) -> Call<'_> {
        call(&self.intent)
    }

    pub async fn capture(&self) -> Outcome {
        self.provider.capture(&self.call()).await
    }
}

/// The only intent of its payment.
static ALONE: Siblings = Siblings {
    capture_ids: Vec::new(),
    undecided: false,
};

/// A call whose lease is long enough.
pub fn call(intent: &CaptureIntent) -> Call<'_> {
    Call {
        intent,
        generation: KeyGeneration(0),
        first_sent_at: Some(Utc::now() - TimeDelta::seconds(1)),
        refused: false,
        accepted_id: None,
        pending_id: None,
        siblings: &ALONE,
        guard: guard(Duration::from_secs(60)),
    }
}

/// Allows sends for `left` from now.
pub fn guard(left: Duration) -> SendGuard {
    SendGuard::new(Boottime::now(), left, Duration::ZERO)
}

/// The failure, or a panic that names the outcome.
pub fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

pub fn script(model: Model, captures: Vec<Step>) -> Script {
    Script {
        captures,
        others: Vec::new(),
        tokens: Vec::new(),
        accepts: Vec::new(),
        usual: Box::new(move |seen| Step::Answer(usual(model, seen))),
    }
}

/// What the documents promise for a request.
pub fn usual(model: Model, seen: &Seen) -> Vec<u8> {
    let intent = intent(model);
    match (seen.kind, model) {
        (Kind::Token, _) => json(200, &token(TOKEN, 86400)),
        (Kind::Capture, Model::Afterpay) => json(201, &good_capture(&intent, model)),
        (Kind::Capture, _) => json(200, &good_capture(&intent, model)),
        (Kind::Other, _) => json(200, &good_read(&intent, model, &seen.target)),
    }
}

pub fn token(token: &str, expires_in: u64) -> String {
    format!(r#"{{"access_token":"{token}","expires_in":{expires_in},"token_type":"Bearer"}}"#)
}

/// The bytes of the good answer to a capture.
pub fn good_answer(model: Model) -> Vec<u8> {
    let status = if model == Model::Afterpay { 201 } else { 200 };
    json(status, &good_capture(&intent(model), model))
}

pub fn good_capture(intent: &CaptureIntent, model: Model) -> String {
    capture_of(intent, model, "10.00")
}

/// The good answer to a capture, but of another amount. (A charge does not tell: its invoice does.)
pub fn capture_of(intent: &CaptureIntent, model: Model, amount: &str) -> String {
    let reference = intent.id.reference();
    let payment = &intent.payment_id;
    match model {
        Model::Afterpay => payment_of(intent, amount, "USD"),
        Model::Optty => {
            format!(r#"{{"captureReference":"{reference}","captureId":"{reference}","capturedAmount":{amount}}}"#)
        }
        Model::ResolveCharge => charge(payment, true),
        Model::ResolveOrder => {
            let key = intent.id.key(KeyGeneration(0));
            format!(
                r#"{{"id":"{payment}","status":"captured","amount_authorized":10.00,"amount_captured":{amount},"amount_canceled":0,"amount_remaining":0,"capture_events":[{{"amount":{amount},"idempotency_key":"{key}","processed_at":"{now}","invoice_id":"inv-1"}}],"customer":{CANARY}}}"#,
                now = now(),
            )
        }
    }
}

pub fn payment_of(intent: &CaptureIntent, amount: &str, currency: &str) -> String {
    let money = |amount: &str| format!(r#"{{"amount":"{amount}","currency":"{currency}"}}"#);
    format!(
        r#"{{"id":"{id}","token":"001.x","status":"APPROVED","created":"{now}","originalAmount":{ten},"openToCaptureAmount":{zero},"paymentState":"CAPTURED","merchantReference":"1001","refunds":[],"orderDetails":{{"consumer":{CANARY}}},"events":[{{"id":"e1","created":"{now}","type":"AUTH_APPROVED","amount":{ten}}},{{"id":"e2","created":"{now}","type":"CAPTURED","amount":{amount},"paymentEventMerchantReference":"{reference}"}}]}}"#,
        id = intent.payment_id,
        ten = money("10.00"),
        zero = money("0.00"),
        amount = money(amount),
        reference = intent.id.reference(),
        now = now(),
    )
}

pub fn charge(id: &str, captured: bool) -> String {
    let at = if captured {
        format!("\"{}\"", now())
    } else {
        "null".to_owned()
    };
    let invoice = if captured { "\"inv-1\"" } else { "null" };
    format!(
        r#"{{"id":"{id}","amount":10.00,"captured":{captured},"captured_at":{at},"canceled":false,"merchant_invoice_id":{invoice},"order_number":"1001","po_number":null,"fee":0.25,"metadata":{{"shop":{{"v":1.50}}}},"customer":{CANARY}}}"#
    )
}

pub fn invoice(amount: &str) -> String {
    format!(r#"{{"id":"inv-1","amount_due":{amount},"customer":{CANARY}}}"#)
}

pub fn details(intent: &CaptureIntent, amount: &str, status: &str) -> String {
    let reference = intent.id.reference();
    format!(
        r#"{{"merchantReference":"{id}","status":"SUCCESSFUL","amount":"10","currency":"USD","customer":{CANARY},"orderCaptures":[{{"captureId":"{reference}","amount":"{amount}","status":"{status}","createdAt":"{now}"}}]}}"#,
        id = intent.payment_id,
        now = now(),
    )
}

fn good_read(intent: &CaptureIntent, model: Model, target: &str) -> String {
    match model {
        Model::Optty => details(intent, "10", "SUCCESSFUL"),
        Model::ResolveCharge if target.contains("/invoices/") => invoice("10.00"),
        Model::Afterpay | Model::ResolveCharge | Model::ResolveOrder => good_capture(intent, model),
    }
}

pub fn now() -> String {
    Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Personal data as answers carry it. None of it may come out anywhere.
pub const CANARY: &str =
    r#"{"name":"CANARY Doe","email":"CANARY@example.com","phoneNumber":"+1-CANARY-5550100","line1":"1 CANARY Street"}"#;

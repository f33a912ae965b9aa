use std::time::Duration;

use capture::simulator::{
    Authorization, CANARY, Credential, DuplicateReference, Limits, ProviderName, Recapture, Settings, Simulator, Writer,
};
use serde_json::{Value, json};

use crate::client::*;

#[tokio::test]
async fn an_afterpay_capture_moves_the_money_once_however_often_its_key_is_sent() {
    let simulator = with_payment(ProviderName::Afterpay, "100101").await;
    let body = afterpay_body("k1", "40.00");
    let (status, first) = sent(afterpay(&simulator, "100101", &body)).await;
    assert_eq!(status, 201);
    assert_eq!(first["status"], "APPROVED");
    assert_eq!(first["paymentState"], "PARTIALLY_CAPTURED");
    assert_eq!(first["openToCaptureAmount"]["amount"], "60.00");
    let event = first["events"].as_array().unwrap().last().unwrap();
    assert_eq!(event["type"], "CAPTURED");
    assert_eq!(event["amount"], json!({ "amount": "40.00", "currency": "USD" }));
    assert_eq!(event["paymentEventMerchantReference"], "ref-k1");

    let (status, again) = sent(afterpay(&simulator, "100101", &body)).await;
    assert_eq!((status.as_u16(), &again), (201, &first));

    let ledger = simulator.ledger();
    assert_eq!(ledger.captures.len(), 1);
    let entry = &ledger.captures[0];
    assert_eq!(entry.amount_minor, 4000);
    assert_eq!(entry.key.as_deref(), Some("k1"));
    assert_eq!(entry.reference.as_deref(), Some("ref-k1"));
    assert_eq!(entry.account.as_deref(), Some("400101010"));
    assert_eq!(entry.writer, Writer::Ours);
    let requests = simulator.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].money_moved && !requests[0].replayed);
    assert!(!requests[1].money_moved && requests[1].replayed);
    assert_eq!(requests[0].body_sha256, requests[1].body_sha256);
    assert_eq!(simulator.counts().doubles, 0);
}

#[tokio::test]
async fn an_afterpay_key_captures_again_after_its_window() {
    let simulator = with_payment(ProviderName::Afterpay, "7").await;
    let body = afterpay_body("k", "10.00");
    sent(afterpay(&simulator, "7", &body)).await;
    simulator.advance(Duration::from_secs(24 * 3600 - 60)).await.unwrap();
    sent(afterpay(&simulator, "7", &body)).await;
    assert_eq!(simulator.ledger().captures.len(), 1);
    simulator.advance(Duration::from_secs(61)).await.unwrap();
    sent(afterpay(&simulator, "7", &body)).await;
    assert_eq!(simulator.ledger().captured_minor("7"), 2000);
    assert_eq!(simulator.counts().doubles, 1);
}

#[tokio::test]
async fn two_afterpay_captures_without_a_key_both_succeed() {
    let simulator = with_payment(ProviderName::Afterpay, "7").await;
    let body = json!({ "request_id": "misspelt", "amount": { "amount": "10.00", "currency": "USD" } });
    for _ in 0..2 {
        let (status, _) = sent(afterpay(&simulator, "7", &body)).await;
        assert_eq!(status, 201);
    }
    assert_eq!(simulator.ledger().captured_minor("7"), 2000);
}

#[tokio::test]
async fn afterpay_refuses_with_the_codes_of_its_documents() {
    let simulator = with_payment(ProviderName::Afterpay, "7").await;
    let expired = simulator.now() - Duration::from_secs(1);
    let new = |id: &str| Authorization::new(ProviderName::Afterpay, id, 10_000, "USD");
    simulator.create_authorization(new("8").expiring_at(expired));
    simulator.create_authorization(new("9"));
    simulator.void("9").await.unwrap();
    simulator.create_authorization(Authorization {
        declined: true,
        ..new("10")
    });
    simulator.create_authorization(new("11").for_account("somebody-else"));
    simulator.create_authorization(new("12"));
    simulator.foreign_capture("12", 10_000).await.unwrap();
    let money = |amount: Value, currency: &str| json!({ "amount": { "amount": amount, "currency": currency } });
    for (payment, body, status, code) in [
        ("7", money("0.99".into(), "USD"), 422, "invalid_amount"),
        ("7", money("100.01".into(), "USD"), 422, "invalid_amount"),
        ("7", money("10.001".into(), "USD"), 422, "invalid_amount"),
        ("7", money(10.into(), "USD"), 422, "invalid_object"),
        ("7", json!({}), 422, "invalid_object"),
        ("7", money("10.00".into(), "CHF"), 422, "unsupported_currency"),
        ("7", money("10.00".into(), "EUR"), 422, "unsupported_currency"),
        ("8", money("10.00".into(), "USD"), 412, "payment_expired"),
        ("9", money("10.00".into(), "USD"), 412, "payment_voided"),
        ("10", money("10.00".into(), "USD"), 412, "invalid_state"),
        ("11", money("10.00".into(), "USD"), 412, "error"),
        ("12", money("10.00".into(), "USD"), 410, "payment_captured"),
        ("404", money("10.00".into(), "USD"), 412, "error"),
        ("no-digits", money("10.00".into(), "USD"), 404, "not_found"),
    ] {
        let (got, answer) = sent(afterpay(&simulator, payment, &body)).await;
        assert_eq!(
            (got.as_u16(), &answer["errorCode"]),
            (status, &json!(code)),
            "{payment} {body}"
        );
        assert_eq!(answer["httpStatusCode"], status);
    }
    assert_eq!(simulator.ledger().ours().len(), 0);
}

#[tokio::test]
async fn afterpay_wants_its_headers_and_credentials() {
    let settings = Settings {
        credentials: vec![Credential {
            provider: ProviderName::Afterpay,
            merchant_id: "400101010".to_owned(),
            secret: "right".to_owned(),
        }],
        ..Settings::default()
    };
    let simulator = Simulator::start(settings).await.unwrap();
    let url = format!("{}/v2/payments/7/capture", simulator.base_url("afterpay"));
    let full = || {
        http()
            .post(&url)
            .header("accept", "application/json")
            .header("user-agent", AGENT)
    };
    let json = "application/json";
    let cases = [
        (http().get(&url).header("accept", json).header("user-agent", AGENT), 405),
        (full().header("content-type", "text/plain"), 415),
        (
            http()
                .post(&url)
                .header("content-type", json)
                .header("accept", "text/html"),
            406,
        ),
        (
            http().post(&url).header("content-type", json).header("accept", json),
            400,
        ),
        (full().header("content-type", json), 401),
        (
            full()
                .header("content-type", json)
                .basic_auth("400101010", Some("wrong")),
            401,
        ),
        (
            full()
                .header("content-type", json)
                .basic_auth("400101010", Some("right"))
                .body("{"),
            400,
        ),
    ];
    for (request, status) in cases {
        assert_eq!(sent(request).await.0, status);
    }
}

#[tokio::test]
async fn payments_carry_personal_data_that_can_be_searched_for() {
    let simulator = with_payment(ProviderName::Afterpay, "7").await;
    let read = afterpay_read(&simulator, "7").await;
    assert!(
        read["orderDetails"]["consumer"]["email"]
            .as_str()
            .unwrap()
            .contains(CANARY)
    );
    assert_eq!(read["paymentState"], "AUTH_APPROVED");
}

#[tokio::test]
async fn the_merchant_reference_of_a_capture_overwrites_that_of_the_order() {
    let simulator = simulator().await;
    simulator.create_authorization(Authorization {
        merchant_reference: Some("order-1".to_owned()),
        ..Authorization::new(ProviderName::Afterpay, "7", 10_000, "USD")
    });
    assert_eq!(afterpay_read(&simulator, "7").await["merchantReference"], "order-1");
    let mut body = afterpay_body("k", "10.00");
    body["merchantReference"] = json!("overwritten");
    sent(afterpay(&simulator, "7", &body)).await;
    assert_eq!(afterpay_read(&simulator, "7").await["merchantReference"], "overwritten");
}

#[tokio::test]
async fn an_optty_capture_is_shown_in_the_details_with_its_amount_as_a_string() {
    let simulator = with_payment(ProviderName::Optty, "order 1/a").await;
    let body = r#"{"captureReference":"c1","amount":10.50}"#;
    let (status, answer) = sent(optty(&simulator, "order%201%2Fa", body).await).await;
    assert_eq!(status, 200);
    assert_eq!(answer["captureReference"], "c1");
    assert_eq!(answer["capturedAmount"].to_string(), "10.5");
    let details = optty_details(&simulator, "order%201%2Fa").await;
    assert_eq!(details["orderCaptures"][0]["amount"], "10.5");
    assert_eq!(details["orderCaptures"][0]["status"], "SUCCESSFUL");
    assert_eq!(details["orderCaptures"][0]["captureId"], answer["captureId"]);
    let ledger = simulator.ledger();
    assert_eq!(ledger.captured_minor("order 1/a"), 1050);
    assert_eq!(ledger.captures[0].reference.as_deref(), Some("c1"));
    assert_eq!(ledger.captures[0].account.as_deref(), Some("shop"));
}

#[tokio::test]
async fn optty_answers_a_used_reference_either_way_and_never_captures_again() {
    for (duplicate, status) in [(DuplicateReference::Refuse400, 400), (DuplicateReference::Replay, 200)] {
        let settings = Settings {
            optty_duplicate: duplicate,
            ..Settings::default()
        };
        let simulator = Simulator::start(settings).await.unwrap();
        simulator.create_authorization(Authorization::new(ProviderName::Optty, "o", 10_000, "AUD"));
        let body = r#"{"captureReference":"c1","amount":10}"#;
        assert_eq!(sent(optty(&simulator, "o", body).await).await.0, 200);
        assert_eq!(sent(optty(&simulator, "o", body).await).await.0, status);
        assert_eq!(simulator.ledger().captures.len(), 1);
    }
}

#[tokio::test]
async fn optty_refuses_bad_amounts_unknown_orders_and_old_tokens() {
    let simulator = with_payment(ProviderName::Optty, "o").await;
    simulator.create_authorization(Authorization {
        requires_shipping: true,
        surcharge_minor: 500,
        ..Authorization::new(ProviderName::Optty, "ship", 10_000, "USD")
    });
    let shipped = r#"{"captureReference":"c","amount":105.00,"shippingInfo":
        {"shippingCompany":"UPS","shippingMethod":"ground","trackingNumber":"1Z"}}"#;
    for (order, body, status) in [
        ("o", r#"{"captureReference":"c","amount":"10.00"}"#, 400),
        ("o", r#"{"captureReference":"c","amount":10.001}"#, 400),
        ("o", r#"{"captureReference":"c","amount":100.01}"#, 400),
        ("o", r#"{"amount":10.00}"#, 400),
        ("none", r#"{"captureReference":"c","amount":10.00}"#, 404),
        ("ship", r#"{"captureReference":"c","amount":10.00}"#, 400),
        ("ship", shipped, 200),
    ] {
        let (got, answer) = sent(optty(&simulator, order, body).await).await;
        assert_eq!(got, status, "{order} {body}: {answer}");
    }
    assert_eq!(simulator.ledger().captured_minor("ship"), 10_500);

    let body = r#"{"captureReference":"c","amount":10.00}"#;
    let old = optty(&simulator, "o", body).await;
    simulator.expire_tokens();
    assert_eq!(sent(old).await.0, 401);
    let older = optty(&simulator, "o", body).await;
    simulator.advance(Duration::from_secs(86_401)).await.unwrap();
    assert_eq!(sent(older).await.0, 401);
    assert_eq!(sent(optty(&simulator, "o", body).await).await.0, 200);
}

#[tokio::test]
async fn a_resolve_charge_has_no_key_and_a_repeat_doubles_the_money() {
    for (recapture, status, captured) in [(Recapture::Double, 200, 5000), (Recapture::Refuse400, 400, 2500)] {
        let settings = Settings {
            resolve_recapture: recapture,
            ..Settings::default()
        };
        let simulator = Simulator::start(settings).await.unwrap();
        simulator.create_authorization(Authorization::new(ProviderName::Resolve, "ch", 10_000, "USD"));
        let capture = || resolve(&simulator, "POST", "charges/ch/capture").body(r#"{"amount":25.00}"#);
        let (first, charge) = sent(capture()).await;
        assert_eq!(first, 200);
        assert_eq!(charge["captured"], true);
        assert_eq!(charge["amount"], 100, "the authorised amount, whatever was captured");
        let invoice_id = charge["merchant_invoice_id"].as_str().unwrap();
        let (_, invoice) = sent(resolve(&simulator, "GET", &format!("invoices/{invoice_id}"))).await;
        assert_eq!(invoice["amount_due"], 25);
        assert_eq!(sent(capture()).await.0, status);
        assert_eq!(simulator.ledger().captured_minor("ch"), captured);
        assert_eq!(simulator.counts().doubles, u64::from(captured == 5000));
    }
}

#[tokio::test]
async fn a_resolve_capture_without_an_amount_takes_everything() {
    let simulator = with_payment(ProviderName::Resolve, "ch").await;
    let (_, before) = sent(resolve(&simulator, "GET", "charges/ch")).await;
    assert_eq!(
        (&before["captured"], &before["captured_at"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(before["merchant_invoice_id"], Value::Null);
    sent(resolve(&simulator, "POST", "charges/ch/capture").body("{}")).await;
    assert_eq!(simulator.ledger().captured_minor("ch"), 10_000);
}

#[tokio::test]
async fn resolve_metadata_is_merged_and_captured_in_it_moves_money() {
    let simulator = with_payment(ProviderName::Resolve, "ch").await;
    let put = |body: &'static str| resolve(&simulator, "PUT", "charges/ch").body(body);
    sent(put(r#"{"metadata":{"a":"1","b":"2"}}"#)).await;
    let (_, charge) = sent(put(r#"{"metadata":{"b":"3"}}"#)).await;
    assert_eq!(charge["metadata"], json!({ "a": "1", "b": "3" }));
    assert_eq!(simulator.ledger().captures.len(), 0);
    sent(put(r#"{"captured":true}"#)).await;
    assert_eq!(simulator.ledger().captured_minor("ch"), 10_000);
}

#[tokio::test]
async fn resolve_overrides_and_errors_have_the_documented_form() {
    let simulator = with_payment(ProviderName::Resolve, "ch").await;
    let body = r#"{"amount":10.00,"order_number":"so-1","po_number":"po-1"}"#;
    let (_, charge) = sent(resolve(&simulator, "POST", "charges/ch/capture").body(body)).await;
    assert_eq!(
        (&charge["order_number"], &charge["po_number"]),
        (&json!("so-1"), &json!("po-1"))
    );
    for (path, body, status, kind) in [
        ("charges/none/capture", "{}", 404, "not_found_error"),
        ("charges/ch/capture", r#"{"amount":1000}"#, 400, "validation_error"),
        ("charges/ch/capture", r#"{"amount":"10"}"#, 400, "validation_error"),
        ("orders/ch/capture", r#"{"amount":10}"#, 400, "validation_error"),
    ] {
        let (got, answer) = sent(resolve(&simulator, "POST", path).body(body)).await;
        assert_eq!(
            (got.as_u16(), &answer["error"]["type"]),
            (status, &json!(kind)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_resolve_order_remembers_its_keys_for_ever_and_shows_each_capture() {
    let simulator = with_payment(ProviderName::Resolve, "ord").await;
    let capture = |body: &'static str| resolve(&simulator, "POST", "orders/ord/capture").body(body);
    let (status, order) = sent(capture(r#"{"amount":60.00,"idempotency_key":"k1"}"#)).await;
    assert_eq!(status, 200);
    assert_eq!(order["amount_remaining"], 40);
    simulator.advance(Duration::from_secs(400 * 86_400)).await.unwrap();
    let (_, again) = sent(capture(r#"{"amount":60.00,"idempotency_key":"k1"}"#)).await;
    assert_eq!(again, order);
    sent(capture(r#"{"amount":40,"idempotency_key":"k2"}"#)).await;
    let (_, order) = sent(resolve(&simulator, "GET", "orders/ord")).await;
    let events = order["capture_events"].as_array().unwrap();
    let keys: Vec<&Value> = events.iter().map(|event| &event["idempotency_key"]).collect();
    assert_eq!(keys, ["k1", "k2"]);
    assert_eq!(
        (&order["amount_captured"], &order["status"]),
        (&json!(100), &json!("captured"))
    );
    let invoice_id = events[1]["invoice_id"].as_str().unwrap();
    let (_, invoice) = sent(resolve(&simulator, "GET", &format!("invoices/{invoice_id}"))).await;
    assert_eq!(invoice["amount_due"], 40);
    assert_eq!(simulator.ledger().captured_minor("ord"), 10_000);
}

#[tokio::test]
async fn resolve_counts_a_hundred_requests_a_minute_and_says_so_on_each() {
    let simulator = with_payment(ProviderName::Resolve, "ch").await;
    simulator.set_limits(Limits {
        resolve_per_minute: Some(3),
        ..Limits::default()
    });
    let read = || resolve(&simulator, "GET", "charges/ch").send();
    for left in ["2", "1", "0"] {
        let answer = read().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["x-ratelimit-remaining"]),
            (200, &left.parse().unwrap())
        );
    }
    let refused = read().await.unwrap();
    assert_eq!(refused.status(), 429);
    let reset: i64 = refused.headers()["x-ratelimit-reset"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let wait = reset - simulator.now().timestamp();
    assert!((50..=61).contains(&wait), "{wait}");
    simulator.advance(Duration::from_secs(61)).await.unwrap();
    assert_eq!(read().await.unwrap().status(), 200);
    assert_eq!(simulator.counts().rate_limited, 1);
}

#[tokio::test]
async fn resolve_also_takes_tokens_for_access_keys() {
    let simulator = with_payment(ProviderName::Resolve, "ch").await;
    let base = simulator.base_url("resolve");
    let key = json!({ "client_id": "id", "client_secret": "secret" });
    let (status, token) = sent(http().post(format!("{base}/access-keys/token")).json(&key)).await;
    assert_eq!(status, 200);
    let token = token["access_token"].as_str().unwrap().to_owned();
    let read = http().get(format!("{base}/charges/ch")).bearer_auth(&token);
    assert_eq!(sent(read).await.0, 200);
    let optty = format!("{}/orders/o", simulator.base_url("optty"));
    assert_eq!(sent(http().get(optty).bearer_auth(&token)).await.0, 401);
}

#[tokio::test]
async fn whatever_is_asked_for_exists_when_told_so() {
    let settings = Settings {
        auto_authorize: true,
        ..Settings::default()
    };
    let simulator = Simulator::start(settings).await.unwrap();
    let body = json!({ "requestId": "k", "amount": { "amount": "123.45", "currency": "GBP" } });
    let (status, payment) = sent(afterpay(&simulator, "555", &body)).await;
    assert_eq!(
        (status.as_u16(), &payment["originalAmount"]["currency"]),
        (201, &json!("GBP"))
    );
    assert_eq!(sent(afterpay(&simulator, "letters", &body)).await.0, 404);
    let body = r#"{"captureReference":"c","amount":1.00}"#;
    assert_eq!(sent(optty(&simulator, "any", body).await).await.0, 200);
    let (_, charge) = sent(resolve(&simulator, "GET", "charges/ch_new")).await;
    assert_eq!(charge["captured"], false);
    assert_eq!(simulator.ledger().captured_minor("555"), 12_345);
}

use capture::simulator::ProviderName;
use serde_json::{Value, json};

use crate::client::*;

async fn post(simulator: &capture::simulator::Simulator, path: &str, body: Value) -> (u16, Value) {
    let url = format!("http://{}/_simulator/{path}", simulator.addr());
    let (status, answer) = sent(http().post(url).json(&body)).await;
    (status.as_u16(), answer)
}

async fn get(simulator: &capture::simulator::Simulator, path: &str) -> Value {
    let url = format!("http://{}/_simulator/{path}", simulator.addr());
    sent(http().get(url)).await.1
}

#[tokio::test]
async fn everything_can_be_done_over_http_from_another_process() {
    let simulator = simulator().await;
    let many = json!([
        { "provider": "afterpay", "payment_id": "7", "amount": "100.00", "currency": "USD", "expires_in_ms": 60000 },
        { "provider": "resolve", "payment_id": "ch", "amount_minor": 5000, "currency": "USD" },
    ]);
    assert_eq!(
        post(&simulator, "authorizations", many).await,
        (201, json!({ "authorized": 2 }))
    );
    let script = json!({ "script": { "payment_id": "7", "faults": ["status-503-before", "reset-after"] } });
    assert_eq!(post(&simulator, "faults", script).await.0, 200);
    let body = afterpay_body("k", "10.00");
    assert_eq!(sent(afterpay(&simulator, "7", &body)).await.0, 503);
    assert!(afterpay(&simulator, "7", &body).send().await.is_err());
    assert_eq!(sent(afterpay(&simulator, "7", &body)).await.0, 201);

    let (status, entry) = post(
        &simulator,
        "foreign-captures",
        json!({ "payment_id": "ch", "amount_minor": 700 }),
    )
    .await;
    assert_eq!((status, &entry["writer"]), (201, &json!("foreign")));
    let ledger = get(&simulator, "ledger?payment_id=7").await;
    assert_eq!(ledger["captures"].as_array().unwrap().len(), 1);
    let requests = get(&simulator, "requests?from=1&limit=1").await;
    assert_eq!(requests["total"], 3);
    assert_eq!(requests["requests"][0]["fault"], "reset-after");
    assert_eq!(requests["requests"][0]["money_moved"], true);
    let counts = get(&simulator, "counts").await;
    assert_eq!(
        (&counts["captures_ours"], &counts["captures_foreign"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(counts["by_operation"]["capture"], 3);

    let (_, clock) = post(&simulator, "clock", json!({ "advance_ms": 61000 })).await;
    assert_eq!(clock["offset_ms"], 61000);
    let (status, answer) = sent(afterpay(&simulator, "7", &afterpay_body("k2", "10.00"))).await;
    assert_eq!(
        (status.as_u16(), &answer["errorCode"]),
        (412, &json!("payment_expired"))
    );
    assert!(get(&simulator, "").await["base_urls"]["optty"].is_string());
}

#[tokio::test]
async fn an_answer_may_be_told_to_take_long_and_what_was_asked_for_is_done_by_then() {
    let simulator = with_payment(ProviderName::Afterpay, "7").await;
    let hour = json!({ "answer_after_ms": 3_600_000 });
    assert_eq!(post(&simulator, "pace", hour).await.0, 200);
    let body = afterpay_body("k", "10.00");
    let asked = tokio::spawn(sent(afterpay(&simulator, "7", &body)));
    simulator
        .wait_until(|simulator| simulator.requests().iter().any(|request| request.money_moved))
        .await;
    assert!(!asked.is_finished());
    asked.abort();
    assert_eq!(post(&simulator, "pace", json!({ "answer_after_ms": 0 })).await.0, 200);
    assert_eq!(sent(afterpay(&simulator, "7", &body)).await.0, 201);
}

#[tokio::test]
async fn a_wrong_document_is_refused_with_a_reason() {
    let simulator = simulator().await;
    for (path, body) in [
        ("faults", json!({ "script": { "faults": ["no-such-fault"] } })),
        ("faults", json!({ "scripts": [] })),
        (
            "authorizations",
            json!({ "provider": "afterpay", "payment_id": "7", "amount": 10.5, "currency": "USD" }),
        ),
        (
            "authorizations",
            json!({ "provider": "afterpay", "payment_id": "7", "amount": "1.00", "currency": "USD", "expires_in_ms": "soon" }),
        ),
        ("clock", json!({})),
    ] {
        let (status, answer) = post(&simulator, path, body).await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().len() > 10);
    }
    assert_eq!(post(&simulator, "nothing", json!({})).await.0, 404);
}

//! Raw calls, as the documents of the providers describe them.

use std::{sync::OnceLock, time::Duration};

use capture::simulator::{Authorization, ProviderName, Settings, Simulator};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

pub const AGENT: &str = "shop/1.0 (capture/0.1; Rust/1.95; Merchant/400101010) https://shop.example";

/// A client that neither retries nor follows redirects nor pools; made once, for that is slow.
pub fn http() -> reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    let client = CLIENT.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder()
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap()
    });
    client.clone()
}

pub async fn simulator() -> Simulator {
    Simulator::start(Settings::default()).await.unwrap()
}

/// A simulator with one payment of 100.00 USD.
pub async fn with_payment(provider: ProviderName, payment_id: &str) -> Simulator {
    let simulator = simulator().await;
    simulator.create_authorization(Authorization::new(provider, payment_id, 10_000, "USD"));
    simulator
}

pub fn afterpay(simulator: &Simulator, payment_id: &str, body: &Value) -> RequestBuilder {
    afterpay_at(&simulator.base_url("afterpay"), payment_id, body)
}

pub fn afterpay_at(base: &str, payment_id: &str, body: &Value) -> RequestBuilder {
    http()
        .post(format!("{base}/v2/payments/{payment_id}/capture"))
        .basic_auth("400101010", Some("secret"))
        .header("accept", "application/json")
        .header("user-agent", AGENT)
        .json(body)
}

pub fn afterpay_body(key: &str, amount: &str) -> Value {
    json!({
        "requestId": key,
        "amount": { "amount": amount, "currency": "USD" },
        "paymentEventMerchantReference": format!("ref-{key}"),
    })
}

pub async fn afterpay_read(simulator: &Simulator, payment_id: &str) -> Value {
    let base = simulator.base_url("afterpay");
    http()
        .get(format!("{base}/v2/payments/{payment_id}"))
        .basic_auth("400101010", Some("secret"))
        .header("accept", "application/json")
        .header("user-agent", AGENT)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

pub async fn optty_token(simulator: &Simulator) -> String {
    let form = "client_id=shop&client_secret=s%26cret&grant_type=client_credentials&scope=api-user";
    let answer = http()
        .post(simulator.optty_auth_url())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let token: Value = answer.json().await.unwrap();
    assert_eq!(token["expires_in"], 86_400);
    token["access_token"].as_str().unwrap().to_owned()
}

/// `body` is text, because amounts are numbers whose digits matter.
pub async fn optty(simulator: &Simulator, order: &str, body: &str) -> RequestBuilder {
    let token = optty_token(simulator).await;
    let base = simulator.base_url("optty");
    http()
        .post(format!("{base}/orders/{order}/capture"))
        .bearer_auth(token)
        .header("content-type", "application/json")
        .body(body.to_owned())
}

pub async fn optty_details(simulator: &Simulator, order: &str) -> Value {
    let token = optty_token(simulator).await;
    let base = simulator.base_url("optty");
    let details = http().post(format!("{base}/orders/{order}/details")).bearer_auth(token);
    details.send().await.unwrap().json().await.unwrap()
}

pub fn resolve(simulator: &Simulator, method: &str, path: &str) -> RequestBuilder {
    let base = simulator.base_url("resolve");
    http()
        .request(method.parse().unwrap(), format!("{base}/{path}"))
        .basic_auth("rm-1", Some("secret"))
        .header("content-type", "application/json")
}

pub async fn sent(request: RequestBuilder) -> (StatusCode, Value) {
    let answer: Response = request.send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

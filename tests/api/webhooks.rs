//! Endpoints and deliveries over HTTP.

use std::net::IpAddr;
use std::sync::Arc;

use capture::api_key::Scope;
use capture::webhook::{Deliverer, Names, Settings};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{World, answer};

async fn post(world: &World, key: &str, path: &str, body: &Value) -> crate::world::Answer {
    answer(world.ask_as(key, Method::POST, path).json(body)).await
}

#[tokio::test]
async fn an_endpoint_is_made_with_its_secret_shown_once_changed_rotated_disabled_and_removed() {
    let world = World::new().await;
    let key = world.key("hooks", &[Scope::Read, Scope::Webhooks]).await;
    let endpoints = "/v1/webhooks/endpoints";
    let new = json!({ "url": "https://hooks.example/a", "types": ["captured"], "description": "shop", "reason": "r" });
    let made = post(&world, &key, endpoints, &new).await.is(201);
    let secret = made.json["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let id = made.json["id"].as_str().unwrap();
    let one = format!("{endpoints}/{id}");
    assert_eq!(made.header("location"), one);
    let told = answer(world.ask_as(&key, Method::GET, &one)).await.is(200);
    assert_eq!(told.json["types"], json!(["capture.captured"]));
    assert!(!told.json.to_string().contains("whsec_"));
    let why = json!({ "reason": "r" });
    let change = json!({ "url": "https://hooks.example/b", "types": [], "reason": "r" });
    let told = post(&world, &key, &format!("{one}/set"), &change).await.is(200);
    assert_eq!(
        (&told.json["url"], &told.json["types"]),
        (&json!("https://hooks.example/b"), &json!([]))
    );
    let rotated = post(&world, &key, &format!("{one}/rotate"), &why).await.is(200);
    assert_ne!(rotated.json["secret"], made.json["secret"]);
    let again = post(&world, &key, &format!("{one}/rotate"), &why).await.is(409);
    assert_eq!(again.code(), "webhook_secrets_two_live");
    let told = post(&world, &key, &format!("{one}/disable"), &why).await.is(200);
    assert_eq!(told.json["disabled_by"], "hooks");
    let told = post(&world, &key, &format!("{one}/enable"), &why).await.is(200);
    assert_eq!(told.json["disabled_at"], Value::Null);
    post(&world, &key, &format!("{one}/remove"), &why).await.is(204);
    answer(world.ask_as(&key, Method::GET, &one)).await.is(404);
    let listed = answer(world.ask_as(&key, Method::GET, endpoints)).await.is(200);
    assert_eq!(listed.json["endpoints"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_an_endpoint_is_refused_with_what_would_be_right() {
    let world = World::new().await;
    let key = world.key("hooks", &[Scope::Webhooks]).await;
    for (body, code) in [
        (
            json!({ "url": "https://127.0.0.1/", "reason": "r" }),
            "webhook_endpoints_url_allowed",
        ),
        (
            json!({ "url": "https://0xa9fea9fe/latest", "reason": "r" }),
            "webhook_endpoints_url_allowed",
        ),
        (
            json!({ "url": "http://hooks.example/", "reason": "r" }),
            "webhook_endpoints_url_allowed",
        ),
        (
            json!({ "url": "https://a@hooks.example/", "reason": "r" }),
            "webhook_endpoints_url_allowed",
        ),
        (
            json!({ "url": "https://hooks.example/", "types": ["captred"], "reason": "r" }),
            "event_type_unknown",
        ),
        (
            json!({ "url": "https://hooks.example/", "reason": " " }),
            "audit_says_why",
        ),
        (
            json!({ "url": "https://hooks.example/", "types": vec!["captured"; 51], "reason": "r" }),
            "webhook_endpoints_types_few",
        ),
        (
            json!({ "url": "https://hooks.example/", "description": "x".repeat(256), "reason": "r" }),
            "webhook_endpoints_description_is_short",
        ),
    ] {
        let told = post(&world, &key, "/v1/webhooks/endpoints", &body).await.is(422);
        assert_eq!(told.code(), code, "{body}");
    }
    for body in [
        json!({ "reason": "r" }),
        json!({ "deliveries": [1], "endpoint": uuid::Uuid::nil(), "reason": "r" }),
    ] {
        let told = post(&world, &key, "/v1/webhooks/redeliver", &body).await.is(422);
        assert_eq!(told.code(), "redelivery_names_what");
    }
    let many = json!({ "deliveries": vec![-1; 25_001], "reason": "r" });
    let told = post(&world, &key, "/v1/webhooks/redeliver", &many).await.is(422);
    assert_eq!(
        (told.code(), &told.json["pointer"]),
        ("redelivery_names_few", &json!("/deliveries"))
    );
    let nobody = json!({ "endpoint": uuid::Uuid::nil(), "since": "2026-01-01T00:00:00Z", "reason": "r" });
    post(&world, &key, "/v1/webhooks/redeliver", &nobody).await.is(404);
}

/// Nothing is sent anywhere: no name has an address.
struct NoNames;

#[async_trait::async_trait]
impl Names for NoNames {
    async fn addresses(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn deliveries_are_listed_page_by_page_and_told_once_more() {
    let world = World::new().await;
    let key = world.key("hooks", &[Scope::Read, Scope::Webhooks]).await;
    let new = json!({ "url": "https://hooks.example/a", "reason": "r" });
    let made = post(&world, &key, "/v1/webhooks/endpoints", &new).await.is(201);
    world
        .outbox
        .cancel(world.enqueue("1").await.parse().unwrap(), "why")
        .await
        .unwrap();
    let names = Arc::new(NoNames);
    let deliverer = Deliverer::with_names(world.outbox.clone(), Settings::default(), names).unwrap();
    let mut page = Value::Null;
    while page["deliveries"].as_array().is_none_or(|rows| rows.len() < 2) {
        deliverer.drain().await.unwrap();
        let told = answer(world.ask_as(&key, Method::GET, "/v1/webhooks/deliveries"))
            .await
            .is(200);
        page = told.json;
    }
    let first = answer(world.ask_as(&key, Method::GET, "/v1/webhooks/deliveries?limit=1"))
        .await
        .is(200);
    let cursor = first.json["next"].as_str().unwrap();
    let path = format!("/v1/webhooks/deliveries?limit=1&cursor={cursor}");
    let second = answer(world.ask_as(&key, Method::GET, &path)).await.is(200);
    assert_eq!(second.json["deliveries"][0], page["deliveries"][1]);
    assert_eq!(second.json["next"], Value::Null);
    let id = page["deliveries"][0]["id"].as_i64().unwrap();
    let one = answer(world.ask_as(&key, Method::GET, &format!("/v1/webhooks/deliveries/{id}")))
        .await
        .is(200);
    assert_eq!(one.json["state"], "pending");
    answer(world.ask_as(&key, Method::GET, "/v1/webhooks/deliveries/999999"))
        .await
        .is(404);
    answer(world.ask_as(&key, Method::GET, "/v1/webhooks/deliveries?state=late"))
        .await
        .is(400);
    let told = post(
        &world,
        &key,
        "/v1/webhooks/redeliver",
        &json!({ "deliveries": [id], "reason": "r" }),
    )
    .await
    .is(200);
    assert_eq!(told.json["deliveries"], 1);
    let span = json!({ "endpoint": made.json["id"], "since": "2020-01-01T00:00:00Z", "reason": "r" });
    let told = post(&world, &key, "/v1/webhooks/redeliver", &span).await.is(200);
    assert_eq!(told.json["deliveries"], 2);
    let one = answer(world.ask_as(&key, Method::GET, &format!("/v1/webhooks/deliveries/{id}")))
        .await
        .is(200);
    assert_eq!(one.json["redeliveries"], 2);
}

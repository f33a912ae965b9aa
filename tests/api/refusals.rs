//! What is refused, and how it is told.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World, answer, client, intent};

async fn posted(world: &World, path: &str, body: &str) -> Answer {
    let request = world.ask(Method::POST, path).header("content-type", "application/json");
    answer(request.body(body.to_owned())).await
}

fn with(field: &str, value: Value) -> String {
    let mut document = intent("r");
    document[field] = value;
    document.to_string()
}

#[tokio::test]
async fn bad_documents_are_refused_with_the_names_of_sql_and_their_place() {
    let world = World::new().await;
    let why = "/v1/captures/018f2f60-7a3c-7cc4-9a3e-1f0a6b1d2c3e/cancel";
    let fraction = intent("r").to_string().replace("4990", "49.90");
    let doubled = intent("r").to_string().replacen('{', r#"{"amount_minor":1,"#, 1);
    for (path, body, status, code, pointer) in [
        ("/v1/captures", fraction, 422, "intents_amount_whole", "/amount_minor"),
        (
            "/v1/captures",
            with("amount_minor", json!(0)),
            422,
            "intents_amount_positive",
            "/amount_minor",
        ),
        (
            "/v1/captures",
            with("amount_minor", json!("4990")),
            422,
            "intents_document_types",
            "/amount_minor",
        ),
        (
            "/v1/captures",
            with("currency", json!("XXX")),
            422,
            "intents_currency_known",
            "/currency",
        ),
        (
            "/v1/captures",
            with("amount", json!(1)),
            422,
            "intents_document_keys_known",
            "",
        ),
        (
            "/v1/captures",
            with("order_id", json!(7)),
            422,
            "intents_document_types",
            "/order_id",
        ),
        (
            "/v1/captures",
            doubled,
            422,
            "intents_document_keys_known",
            "/amount_minor",
        ),
        ("/v1/captures", "[]".to_owned(), 422, "document_not_understood", ""),
        ("/v1/captures", "{".to_owned(), 400, "document_readable", ""),
        (
            "/v1/captures",
            format!("{} {{}}", intent("r")),
            400,
            "document_readable",
            "",
        ),
        (why, "{}".to_owned(), 422, "document_not_understood", ""),
        (
            why,
            r#"{"reason":7}"#.to_owned(),
            422,
            "document_not_understood",
            "/reason",
        ),
        (
            why,
            r#"{"reason":"a","reason":"b"}"#.to_owned(),
            422,
            "document_not_understood",
            "",
        ),
        (
            why,
            r#"{"reason":"a","why":"b"}"#.to_owned(),
            422,
            "document_not_understood",
            "/why",
        ),
        (why, r#"{"reason":" "}"#.to_owned(), 422, "audit_says_why", "/reason"),
        (
            "/v1/releases",
            r#"{"provider":"afterpay","shipment_ref":"p"}"#.to_owned(),
            422,
            "releases_name_a_payment_or_an_order",
            "/payment_id",
        ),
    ] {
        let told = posted(&world, path, &body).await;
        let place = told.json["pointer"].as_str().unwrap_or_default();
        assert_eq!(
            (told.status, told.code(), place),
            (status, code, pointer),
            "{body}\n{told:#?}"
        );
        assert_eq!(told.header("content-type"), "application/problem+json");
        assert_eq!(told.json["status"], status);
        assert_eq!(told.json["type"], format!("urn:capture:problem:{code}"));
    }
    let captures = world.get("/v1/captures").await.is(200);
    assert_eq!(captures.json["captures"], json!([]));
}

#[tokio::test]
async fn an_amount_with_a_fraction_is_told_in_the_words_of_sql() {
    let world = World::new().await;
    let body = intent("r").to_string().replace("4990", "49.90");
    let told = posted(&world, "/v1/captures", &body).await.is(422);
    let refused = world.outbox.enqueue_json(&body).await.unwrap_err().refusal().unwrap();
    assert_eq!(told.json["detail"], refused.message);
    assert_eq!(told.json["hint"], refused.hint.unwrap());
}

#[tokio::test]
async fn bad_queries_are_refused_and_told_what_would_be_right() {
    let world = World::new().await;
    for (path, code, pointer) in [
        ("/v1/captures?state=done", "filter_not_understood", "?state"),
        ("/v1/captures?provier=afterpay", "filter_not_understood", "?provier"),
        ("/v1/captures?limit=201", "query_not_understood", "?limit"),
        ("/v1/captures?limit=1&limit=2", "query_not_understood", "?limit"),
        ("/v1/captures?cursor=x", "cursor_not_readable", "?cursor"),
        ("/v1/captures?order=%00", "query_not_readable", ""),
        ("/v1/captures?order=%ff", "query_not_readable", ""),
        ("/v1/captures/7", "id_not_readable", ""),
        ("/v1/events?cursor=x", "cursor_not_readable", "?cursor"),
        (
            "/v1/events?cursor=9999999999-1",
            "events_cursor_of_this_history",
            "?cursor",
        ),
        ("/v1/events?wait=31", "query_not_understood", "?wait"),
        ("/v1/audit?cursor=1", "cursor_not_readable", "?cursor"),
        ("/v1/operations?cursor=1", "cursor_not_readable", "?cursor"),
        ("/v1/lanes?x=1", "query_not_understood", "?x"),
        ("/v1/risk?within=soon", "query_not_understood", "?within"),
        ("/v1/dead-letters/groups?by=size", "query_not_understood", "?by"),
        ("/v1/orders/%00", "path_not_readable", ""),
    ] {
        let told = world.get(path).await;
        let place = told.json["pointer"].as_str().unwrap_or_default();
        let status = match code {
            "filter_not_understood" | "cursor_not_readable" | "events_cursor_of_this_history" => 422,
            _ => 400,
        };
        assert_eq!(
            (told.status, told.code(), place),
            (status, code, pointer),
            "{path}\n{told:#?}"
        );
    }
    let sql = "%27%3B%20drop%20table%20capture.intents%3B%20--";
    for name in ["provider", "account", "code", "order", "payment"] {
        let told = world.get(&format!("/v1/captures?{name}={sql}")).await.is(200);
        assert_eq!(told.json["captures"], json!([]));
    }
}

#[tokio::test]
async fn the_wrong_method_type_size_and_address_are_problems_too() {
    let world = World::new().await;
    let told = answer(world.ask(Method::PUT, "/v1/captures")).await.is(405);
    assert_eq!(told.code(), "method_not_allowed");
    assert!(told.header("allow").contains("POST"), "{told:?}");
    let told = answer(world.ask(Method::POST, "/v1/captures").body("{}")).await.is(415);
    assert_eq!(told.code(), "body_not_json");
    let told = answer(world.ask(Method::GET, "/v1/captures").header("accept", "text/csv"))
        .await
        .is(406);
    assert_eq!(told.code(), "only_json");
    answer(
        world
            .ask(Method::GET, "/v1/captures")
            .header("accept", "text/html, */*;q=0.1"),
    )
    .await
    .is(200);
    let told = world.get("/v1/nothing").await.is(404);
    assert_eq!(
        (told.code(), told.header("content-type")),
        ("not_found", "application/problem+json")
    );
    let big = with("details", json!({ "description": "x".repeat(70_000) }));
    let told = posted(&world, "/v1/captures", &big).await.is(413);
    assert_eq!(told.code(), "body_too_large");
    let told = world
        .get("/v1/captures/018f2f60-7a3c-7cc4-9a3e-1f0a6b1d2c3e")
        .await
        .is(404);
    assert_eq!(told.code(), "not_found");
    world
        .post("/v1/lanes/afterpay/none/pause", &json!({ "reason": "r" }))
        .await
        .is(404);
    for header in ["", "Basic x", "Bearer", "Bearer x", "Bearer cap_00000000_00"] {
        let request = client()
            .get(format!("{}/v1/version", world.server.base))
            .header("authorization", header);
        assert_eq!(answer(request).await.is(401).code(), "key_required");
    }
}

#[tokio::test]
async fn every_answer_is_protected() {
    let world = World::new().await;
    for path in ["/v1/version", "/v1/nothing", "/health/live", "/docs/"] {
        let told = world.get(path).await;
        assert_eq!(told.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(told.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(told.header("cache-control"), "no-store", "{path}");
        assert!(
            told.header("content-security-policy")
                .contains("frame-ancestors 'none'"),
            "{path}"
        );
    }
}

//! Operations over HTTP: previewed, begun, watched, read item by item.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::database::Session;
use crate::world::{World, answer, client};

#[tokio::test]
async fn an_operation_is_previewed_begun_and_worked_off_by_the_server() {
    let world = World::new().await;
    for n in 0..5 {
        world.enqueue(&format!("r{n}")).await;
    }
    let mut body = json!({ "act": "cancel", "filter": { "provider": "afterpay" }, "dry_run": true });
    let preview = world.post("/v1/operations", &body).await.is(200);
    assert_eq!(
        (&preview.json["matching"], &preview.json["will_act"]),
        (&json!(5), &json!(5)),
        "{preview:#?}"
    );
    assert_eq!(
        preview.json["sums"],
        json!([{ "amount_minor": 5 * 4990, "currency": "USD" }])
    );
    assert_eq!(world.get("/v1/operations").await.is(200).json["operations"], json!([]));
    body["dry_run"] = json!(false);
    assert_eq!(
        world.post("/v1/operations", &body).await.is(422).code(),
        "audit_says_why"
    );
    body["reason"] = json!("the campaign was called off");
    let begun = world.post("/v1/operations", &body).await.is(202);
    let path = begun.header("location").to_owned();
    let ended = loop {
        let row = world.get(&path).await.is(200);
        if row.json["state"] != "running" {
            break row;
        }
    };
    assert_eq!(
        (&ended.json["state"], &ended.json["done"]),
        (&json!("done"), &json!(5)),
        "{ended:#?}"
    );
    assert_eq!(ended.json["actor"], "all");
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world.get(&format!("{path}/items?limit=2{cursor}")).await.is(200);
        seen.extend(page.json["items"].as_array().unwrap().clone());
        match page.json["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|item| item["verdict"] == "cancelled"), "{seen:#?}");
    let why = json!({ "reason": "too late" });
    assert_eq!(
        world.post(&format!("{path}/pause"), &why).await.is(409).code(),
        "operation_state_forbids"
    );
    let listed = world.get("/v1/operations?limit=1").await.is(200);
    assert_eq!(listed.json["operations"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_operation_begins_with_the_list_that_was_previewed_and_with_no_other() {
    let world = World::new().await;
    world.enqueue("r1").await;
    let mut body = json!({ "act": "cancel", "filter": { "provider": "afterpay" }, "reason": "called off" });
    body["dry_run"] = json!(true);
    let preview = world.post("/v1/operations", &body).await.is(200);
    world.enqueue("r2").await;
    body["dry_run"] = json!(false);
    body["digest"] = preview.json["digest"].clone();
    let told = world.post("/v1/operations", &body).await.is(409);
    assert_eq!(
        (told.code(), &told.json["pointer"]),
        ("operations_list_previewed", &json!("/digest"))
    );
    let mut settle = json!({ "act": "resolve", "filter": { "provider": "afterpay" }, "reason": "seen" });
    settle["as"] = json!("captured");
    settle["evidence"] = json!("statement 7");
    let told = world.post("/v1/operations", &settle).await.is(422);
    assert_eq!(
        (told.code(), &told.json["pointer"]),
        ("operations_resolve_previewed", &json!("/digest"))
    );
    assert_eq!(world.get("/v1/operations").await.is(200).json["operations"], json!([]));
    body["dry_run"] = json!(true);
    let preview = world.post("/v1/operations", &body).await.is(200);
    body["dry_run"] = json!(false);
    body["digest"] = preview.json["digest"].clone();
    assert_eq!(world.post("/v1/operations", &body).await.is(202).json["total"], 2);
}

#[tokio::test]
async fn a_request_that_is_repeated_under_its_key_begins_no_second_operation() {
    let world = World::new().await;
    for n in 0..3 {
        world.enqueue(&format!("r{n}")).await;
    }
    let begin = async |key: &str, actor: &str, body: &Value| {
        let request = world.ask(Method::POST, "/v1/operations").header("Idempotency-Key", key);
        answer(request.header("X-Capture-Actor", actor).json(body)).await
    };
    let body = json!({ "act": "cancel", "filter": { "provider": "afterpay", "since": "24h" }, "reason": "called off" });
    let at_once = join_all((0..8).map(|_| begin("k1", "alice", &body))).await;
    let places: BTreeSet<&str> = at_once.iter().map(|told| told.header("location")).collect();
    assert!(at_once.iter().all(|told| told.status == 202), "{at_once:#?}");
    assert_eq!(places.len(), 1, "{places:?}");
    // Also when the filter means something else by now.
    world.enqueue("r3").await;
    let again = begin("\"k1\"", "alice", &body).await.is(202);
    assert_eq!(
        (again.json["total"].clone(), again.header("location")),
        (json!(3), at_once[0].header("location"))
    );
    let mut other = body.clone();
    other["reason"] = json!("something else");
    let told = begin("k1", "alice", &other).await.is(409);
    assert_eq!(
        (told.code(), &told.json["pointer"]),
        ("operations_request_once", &json!("Idempotency-Key:"))
    );
    let told = begin(&"k".repeat(256), "alice", &body).await.is(400);
    assert_eq!(told.code(), "idempotency_key_not_readable");
    // Somebody else's key of the same name is another one.
    begin("k1", "bob", &body).await.is(202);
    let listed = world.get("/v1/operations").await.is(200);
    assert_eq!(listed.json["operations"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_has_begun_is_told_though_it_cannot_be_looked_at() {
    let world = World::new().await;
    world.enqueue("r1").await;
    let mut session = Session::open(&world.url).await;
    // What only a look asks for is not there.
    session
        .run("alter table capture.operations rename column last_word to hidden_word")
        .await;
    let body = json!({ "act": "cancel", "filter": { "provider": "afterpay" }, "reason": "called off" });
    let begun = world.post("/v1/operations", &body).await.is(202);
    let id: String = session.scalar("select id::text from capture.operations").await;
    assert_eq!(begun.json, json!({ "id": id }));
    assert_eq!(begun.header("location"), format!("/v1/operations/{id}"));
    session
        .run("alter table capture.operations rename column hidden_word to last_word")
        .await;
    world.get(begun.header("location")).await.is(200);
}

#[tokio::test]
async fn what_an_operation_lacks_is_told() {
    let world = World::new().await;
    let id = "018f2f60-7a3c-7cc4-9a3e-1f0a6b1d2c3e";
    for (body, code, pointer) in [
        (
            json!({ "act": "replay", "filter": {}, "reason": "r" }),
            "operations_filter_means_everything",
            "/all",
        ),
        (
            json!({ "act": "replay", "filter": {}, "dry_run": true }),
            "operations_filter_means_everything",
            "/all",
        ),
        (
            json!({ "act": "replay", "reason": "r" }),
            "operations_name_captures",
            "/ids",
        ),
        (
            json!({ "act": "replay", "ids": [id], "filter": {} }),
            "operations_name_captures",
            "/ids",
        ),
        (
            json!({ "act": "replay", "ids": [], "reason": "r" }),
            "operations_name_captures",
            "/ids",
        ),
        (
            json!({ "act": "replay", "ids": vec![id; 25_001], "reason": "r" }),
            "operations_name_few",
            "/ids",
        ),
        (json!({ "act": "replay", "ids": [id] }), "audit_says_why", "/reason"),
        (
            json!({ "act": "resolve", "ids": [id], "reason": "r" }),
            "operations_resolve_as",
            "/as",
        ),
        (
            json!({ "act": "resolve", "ids": [id], "reason": "r", "as": "captured" }),
            "operations_resolve_by_evidence",
            "/evidence",
        ),
        (
            json!({ "act": "replay", "ids": [id], "reason": "r", "evidence": "e" }),
            "operations_field_of_another_act",
            "/evidence",
        ),
        (
            json!({ "act": "replay", "ids": [id], "reason": "r", "rate_per_second": 0 }),
            "operations_rate_plausible",
            "/rate_per_second",
        ),
        (json!({ "act": "redo", "ids": [id] }), "document_not_understood", "/act"),
        (
            json!({ "act": "replay", "ids": ["x"] }),
            "document_not_understood",
            "/ids/0",
        ),
        (
            json!({ "act": "replay", "filter": { "stat": "dead" } }),
            "document_not_understood",
            "/filter/stat",
        ),
    ] {
        let told = world.post("/v1/operations", &body).await;
        let place = told.json["pointer"].as_str().unwrap_or_default();
        assert_eq!(
            (told.status, told.code(), place),
            (422, code, pointer),
            "{body}\n{told:#?}"
        );
    }
    let told = world
        .post(
            "/v1/operations",
            &json!({ "act": "replay", "filter": { "state": ["done"] } }),
        )
        .await
        .is(422);
    assert_eq!(
        (told.code(), &told.json["pointer"]),
        ("filter_not_understood", &json!("/filter/state"))
    );
    let told = world
        .post("/v1/operations", &json!({ "act": "replay", "ids": vec![id; 30_000] }))
        .await;
    assert_eq!(told.is(413).code(), "body_too_large");
    answer(
        client()
            .get(format!("{}/v1/dead-letters/{id}/safety", world.server.base))
            .bearer_auth(&world.key),
    )
    .await
    .is(404);
}

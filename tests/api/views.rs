//! What people look at from the command line is there for programs too.

use capture::api_key::Scope;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::database::Session;
use crate::world::{World, answer, intent};

async fn enqueue_until(world: &World, reference: &str, expires_in: &str) -> String {
    let mut session = Session::open(&world.url).await;
    let at: String = session
        .scalar(&format!(
            "select to_char(capture.clock_now() at time zone 'UTC' + interval '{expires_in}', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        ))
        .await;
    let mut document = intent(reference);
    document["authorization_expires_at"] = json!(at);
    let created = world.post("/v1/captures", &document).await.is(201);
    created.json["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_forecast_names_what_ends_before_its_turn_the_nearest_end_first() {
    let world = World::new().await;
    let later = enqueue_until(&world, "r1", "30 hours").await;
    let sooner = enqueue_until(&world, "r2", "3 hours").await;
    world.enqueue("without-an-end").await;
    let forecast = world.get("/v1/risk/forecast").await.is(200).json;
    let ids: Vec<&str> = forecast["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [&sooner, &later], "{forecast:#}");
    // Nothing was captured within the hour: nobody gets a turn.
    assert_eq!(forecast["rows"][0]["turn_at"], json!(null));
    // The one that ends first goes first.
    assert_eq!(forecast["rows"][0]["before_it"], 0);
    assert_eq!(
        (&forecast["lanes"][0]["in_line"], &forecast["more"]),
        (&json!(3), &json!(false))
    );
    assert!(forecast["as_of"].is_string());
    let first = world.get("/v1/risk/forecast?limit=1").await.is(200).json;
    assert_eq!(
        (first["rows"].as_array().unwrap().len(), &first["more"]),
        (1, &json!(true))
    );
    for wrong in ["limit=0", "limit=201", "within=48h"] {
        let told = world.get(&format!("/v1/risk/forecast?{wrong}")).await.is(400);
        assert_eq!(told.code(), "query_not_understood");
    }
}

#[tokio::test]
async fn codes_are_told_while_they_are_new_and_unclassified_ones_while_they_are_seen() {
    let world = World::new().await;
    let id = world.enqueue("r1").await;
    let mut session = Session::open(&world.url).await;
    for (fence, code, ago) in [
        (1, "old_news", "3 days"),
        (2, "unclassified", "2 days"),
        (3, "brand_new", "1 hour"),
    ] {
        session
            .run(&format!(
                "insert into capture.attempts_apart (intent, fence, lease, worker, purpose, generation, request_format, sent, outcome, class, code,
                        ended_at, host)
                 values ('{id}', {fence}, '{nil}', '{nil}', 0, 0, 1, true, 'failed', 'rejected', '{code}',
                         capture.clock_now() - interval '{ago}', 'api.example')",
                nil = Uuid::nil()
            ))
            .await;
    }
    let names = async |query: &str| {
        let told = world.get(&format!("/v1/codes{query}")).await.is(200).json;
        let codes = told["codes"].as_array().unwrap().clone();
        codes
            .iter()
            .map(|code| code["code"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["brand_new"]);
    assert_eq!(names("?since=49h").await, ["brand_new", "unclassified"]);
    let told = world.get("/v1/codes").await.is(200).json;
    let code = &told["codes"][0];
    assert_eq!(
        (&code["new"], &code["unclassified"], &code["attempts"], &code["example"]),
        (&json!(true), &json!(false), &json!(1), &json!(id))
    );
    assert!(told["since"].is_string() && told["as_of"].is_string());
    let told = world.get("/v1/codes?since=yesterday").await.is(422);
    assert_eq!(
        (told.code(), &told.json["pointer"]),
        ("filter_not_understood", &json!("?since"))
    );
}

#[tokio::test]
async fn the_chain_of_the_audit_is_reckoned_again_and_a_rewritten_row_is_named() {
    let world = World::new().await;
    world.key("second", &[Scope::Read]).await;
    let whole = world.get("/v1/audit/verification").await.is(200).json;
    assert_eq!((&whole["rows"], &whole["fault"]), (&json!(2), &json!(null)));
    let head = whole["head"].as_str().unwrap();
    let expected = world
        .get(&format!("/v1/audit/verification?expect={head}"))
        .await
        .is(200)
        .json;
    assert_eq!(expected["expected"], 2);
    let foreign = "0".repeat(64);
    let other = world
        .get(&format!("/v1/audit/verification?expect={foreign}"))
        .await
        .is(200)
        .json;
    assert!(
        other["fault"]["says"].as_str().unwrap().contains("no row has the hash"),
        "{other}"
    );
    let told = world.get("/v1/audit/verification?expect=xyz").await.is(400);
    assert_eq!(told.json["pointer"], "?expect");
    let mut session = Session::open(&world.url).await;
    session
        .run("set session_replication_role = replica; update capture.audit set actor = 'nobody' where id = 1")
        .await;
    let broken = world.get("/v1/audit/verification").await.is(200).json;
    assert_eq!(broken["fault"]["row"], 1, "{broken}");
}

#[tokio::test]
async fn for_whom_a_key_acts_is_described_where_it_is_read() {
    let world = World::new().await;
    let document: serde_json::Value = serde_json::from_str(&capture::http::openapi_document()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let told = operation["parameters"].as_array().into_iter().flatten();
            let named = told.filter(|parameter| parameter["name"] == "X-Capture-Actor").count();
            // Who is known by a signature alone acts for nobody else.
            let keyed = operation["security"][0].get("key").is_some();
            assert_eq!(named, usize::from(keyed), "{method} {path}");
        }
    }
    let request = world.ask(Method::GET, "/v1/version").header("X-Capture-Actor", "   ");
    assert_eq!(answer(request).await.is(400).code(), "actor_not_readable");
}

//! Captures: created once, listed in pages, taken back.

use capture::api_key::Scope;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::database::Session;
use crate::world::{Plan, Server, World, answer, client, intent};

#[tokio::test]
async fn a_capture_is_created_once_whoever_repeats_it() {
    let world = World::new().await;
    let created = world.post("/v1/captures", &intent("r1")).await.is(201);
    assert_eq!(created.json["created"], true);
    let id = created.json["id"].as_str().unwrap();
    assert_eq!(created.header("location"), format!("/v1/captures/{id}"));
    let again = world.post("/v1/captures", &intent("r1")).await.is(200);
    assert_eq!(again.json, json!({ "id": id, "created": false }));
    let mut other = intent("r1");
    other["amount_minor"] = json!(4991);
    let told = world.post("/v1/captures", &other).await.is(409);
    assert_eq!(told.code(), "intents_capture_ref_unique");
    assert_eq!(told.json["pointer"], "/amount_minor");
    let row = world.get(&format!("/v1/captures/{id}")).await.is(200);
    assert_eq!(
        (&row.json["amount_minor"], &row.json["state"]),
        (&json!(4990), &json!("ready"))
    );
}

#[tokio::test]
async fn a_capture_says_whether_its_provider_was_told_of_the_parcel() {
    let world = World::new().await;
    let id = world.enqueue("r1").await;
    let path = format!("/v1/captures/{id}");
    assert_eq!(world.get(&path).await.is(200).json["shipping_data"], Value::Null);
    let mut session = Session::open(&world.url).await;
    session
        .run(&format!(
            "insert into capture.shipping_notices (intent, lane, state, tries, since, ended_at, code)
                 values ('{id}', 1, 'given_up', 8, now(), '2026-01-02 03:04:05Z', 'http_422')"
        ))
        .await;
    assert_eq!(
        world.get(&path).await.is(200).json["shipping_data"],
        json!({ "state": "given_up", "tries": 8, "code": "http_422", "ended_at": "2026-01-02T03:04:05Z" })
    );
}

#[tokio::test]
async fn the_idempotency_key_is_the_reference_bare_or_quoted() {
    let world = World::new().await;
    let mut body = intent("r1");
    body.as_object_mut().unwrap().remove("capture_ref");
    let post = async |key: &str, body: &Value| {
        let request = world.ask(Method::POST, "/v1/captures").header("Idempotency-Key", key);
        answer(request.json(body)).await
    };
    let created = post("r1", &body).await.is(201);
    assert_eq!(post("\"r1\"", &body).await.is(200).json["id"], created.json["id"]);
    assert_eq!(
        post("\"r1\"", &intent("r1")).await.is(200).json["id"],
        created.json["id"]
    );
    let row = world.get(created.header("location")).await.is(200);
    assert_eq!(row.json["capture_ref"], "r1");
    let told = post("r2", &intent("r1")).await.is(422);
    assert_eq!(
        (told.code(), &told.json["pointer"]),
        ("idempotency_key_differs", &json!("/capture_ref"))
    );
    let told = post("\"r2", &body).await.is(400);
    assert_eq!(told.json["pointer"], "Idempotency-Key:");
}

#[tokio::test]
async fn sixteen_clients_of_two_servers_that_ask_at_once_make_one_capture() {
    let world = World::new().await;
    let second = Server::start(&world.url, &Plan::default()).await;
    let answers = join_all((0..16).map(|n| {
        let base = if n % 2 == 0 { &world.server.base } else { &second.base };
        let request = client().post(format!("{base}/v1/captures")).bearer_auth(&world.key);
        answer(request.json(&intent("race")))
    }))
    .await;
    let created = answers.iter().filter(|told| told.status == 201).count();
    let repeated = answers.iter().filter(|told| told.status == 200).count();
    assert_eq!((created, repeated), (1, 15), "{answers:#?}");
    assert!(answers.iter().all(|told| told.json["id"] == answers[0].json["id"]));
    let mut session = Session::open(&world.url).await;
    assert_eq!(session.scalar::<i64>("select count(*) from capture.intents").await, 1);
}

#[tokio::test]
async fn pages_show_every_capture_once_the_newest_first() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(world.enqueue(&format!("r{n}")).await);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world
            .get(&format!("/v1/captures?limit=3&provider=afterpay{cursor}"))
            .await
            .is(200);
        let rows = page.json["captures"].as_array().unwrap().clone();
        seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        match page.json["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    ids.reverse();
    assert_eq!(seen, ids);
    let one = world.get("/v1/captures?order=o-r3&state=ready,dead").await.is(200);
    assert_eq!(one.json["captures"].as_array().unwrap().len(), 1);
    let order = world.get("/v1/orders/o-r3").await.is(200);
    assert_eq!(order.json["payments"][0]["open_minor"], 4990);
    world.get("/v1/orders/none").await.is(404);
    let risk = world.get("/v1/risk").await.is(200);
    assert_eq!(risk.json["rows"][0]["amount_minor"], 7 * 4990);
}

#[tokio::test]
async fn a_cancel_is_told_by_the_key_and_the_person_behind_it() {
    let world = World::new().await;
    let id = world.enqueue("r1").await;
    let path = format!("/v1/captures/{id}/cancel");
    let shop = world.key("shop", &[Scope::Cancel]).await;
    let request = world
        .ask_as(&shop, Method::POST, &path)
        .header("X-Capture-Actor", "alice@example.com");
    let told = answer(request.json(&json!({ "reason": "the order was cancelled" })))
        .await
        .is(200);
    assert_eq!(told.json["result"], "cancelled");
    let told = answer(
        world
            .ask_as(&shop, Method::POST, &path)
            .json(&json!({ "reason": "again" })),
    )
    .await
    .is(409);
    assert_eq!(told.code(), "capture_ended");
    let audit = world.get(&format!("/v1/audit?capture={id}")).await.is(200);
    assert_eq!(audit.json["acts"][0]["actor"], "shop:alice@example.com");
    assert_eq!(audit.json["acts"][0]["reason"], "the order was cancelled");
    let timeline = world.get(&format!("/v1/captures/{id}/timeline")).await.is(200);
    assert!(timeline.json["entries"].as_array().unwrap().len() >= 2, "{timeline:?}");
    let attempts = world.get(&format!("/v1/captures/{id}/attempts")).await.is(200);
    assert_eq!(attempts.json, json!({ "attempts": [] }));
}

#[tokio::test]
async fn a_release_is_written_once_for_a_shipment() {
    let world = World::new().await;
    let body = json!({ "provider": "afterpay", "payment_id": "1001", "shipment_ref": "parcel-1" });
    world.post("/v1/releases", &body).await.is(201);
    let again = world.post("/v1/releases", &body).await.is(200);
    assert_eq!(again.json["created"], false);
}

#[tokio::test]
async fn a_release_that_is_repeated_frees_no_second_capture_and_is_told_by_name() {
    let world = World::new().await;
    let mut session = Session::open(&world.url).await;
    let payment = json!({ "provider": "afterpay", "payment_id": "1001" });
    let told = world.post("/v1/releases", &payment).await.is(422);
    assert_eq!(
        (told.code(), &told.json["pointer"]),
        ("releases_name_a_shipment_or_a_capture", &json!("/shipment_ref"))
    );
    let mut blank = payment.clone();
    blank["shipment_ref"] = json!(" ");
    world.post("/v1/releases", &blank).await.is(422);
    let shop = world.key("shop", &[Scope::Release]).await;
    let keyed = async |key: &str, body: &Value| {
        let request = world
            .ask_as(&shop, Method::POST, "/v1/releases")
            .header("Idempotency-Key", key);
        answer(request.header("X-Capture-Actor", "alice").json(body)).await
    };
    let first = keyed("parcel-1", &payment).await.is(201);
    let again = keyed("\"parcel-1\"", &payment).await.is(200);
    assert_eq!(first.json["release_id"], again.json["release_id"]);
    let mut other = payment.clone();
    other["shipment_ref"] = json!("parcel-2");
    assert_eq!(
        keyed("parcel-1", &other).await.is(422).code(),
        "idempotency_key_differs"
    );
    let id = world.enqueue("c").await;
    let capture = json!({ "provider": "afterpay", "payment_id": "099", "capture_ref": "c" });
    world.post("/v1/releases", &capture).await.is(201);
    world.post("/v1/releases", &capture).await.is(200);
    let rows: Vec<String> = session
        .column("select released_by || ' ' || shipment_ref from capture.releases order by id")
        .await;
    assert_eq!(rows, ["shop:alice parcel-1", "all c"]);
    let audit = world.get("/v1/audit").await.is(200);
    let told = |n: usize| {
        let act = &audit.json["acts"][n];
        (
            act["action"].clone(),
            act["actor"].clone(),
            act["reason"].clone(),
            act["intent"].clone(),
        )
    };
    assert_eq!(
        told(0),
        (json!("release"), json!("all"), json!("shipment c"), json!(id))
    );
    assert_eq!(
        told(1),
        (
            json!("release"),
            json!("shop:alice"),
            json!("shipment parcel-1"),
            Value::Null
        )
    );
}

#[tokio::test]
async fn a_value_that_no_index_can_hold_is_refused_and_not_a_fault_of_ours() {
    let world = World::new().await;
    // Not one letter again and again, which would be compressed.
    let letters = (0u64..20_000)
        .map(|n| char::from(b'a' + u8::try_from(n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 13 & 15).unwrap()));
    let body = json!({ "provider": "afterpay", "payment_id": "1001", "shipment_ref": letters.collect::<String>() });
    let told = world.post("/v1/releases", &body).await.is(422);
    assert_eq!(
        (told.code(), &told.json["pointer"]),
        ("releases_texts_short", &json!("/shipment_ref"))
    );
}

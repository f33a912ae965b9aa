//! Shipments come in by key, by Standard Webhooks, from Shopify and from whoever else signs, and by nobody else.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capture::api_key::Scope;
use capture::shipment::{Encoding, HmacScheme, Mapping, Pointer, SecretBytes, Source, SourceKind, standard_secret};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::database::Session;
use crate::world::{Answer, Plan, World, answer, client, intent};

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_WHSEC: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn sign(secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn source(name: &str, kind: SourceKind, secrets: &[&[u8]]) -> Source {
    Source {
        name: name.to_owned(),
        provider: Some("afterpay".to_owned()),
        account: None,
        kind,
        secrets: secrets.iter().map(|secret| SecretBytes::new(secret.to_vec())).collect(),
    }
}

pub fn sources() -> Vec<Source> {
    let at = |text: &str| Some(Pointer::parse(text).unwrap());
    let (new, old) = (standard_secret(WHSEC).unwrap(), standard_secret(OLD_WHSEC).unwrap());
    vec![
        source("wms", SourceKind::Standard, &[&new, &old]),
        source(
            "shopify",
            SourceKind::Shopify(Pointer::parse("/order_id").unwrap()),
            &[b"hush"],
        ),
        source(
            "easypost",
            SourceKind::Hmac {
                scheme: HmacScheme {
                    prefix: "hmac-sha256-hex=".to_owned(),
                    ..HmacScheme::of_body("x-hmac-signature", Encoding::Hex)
                },
                id: at("/id"),
                mapping: Mapping {
                    tracking: at("/result/tracking_code"),
                    company: at("/result/carrier"),
                    status: at("/result/status"),
                    ..Mapping::default()
                },
            },
            &[b"s3cret"],
        ),
    ]
}

async fn world() -> World {
    let plan = Plan {
        shipment_sources: sources(),
        ..Plan::default()
    };
    World::planned(&plan).await
}

impl World {
    fn shipment(&self, path: &str) -> RequestBuilder {
        client().request(Method::POST, format!("{}/v1/shipments{path}", self.server.base))
    }

    /// Signed as Standard Webhooks has it.
    fn standard(&self, path: &str, id: &str, at: i64, secret: &str, body: &str) -> RequestBuilder {
        let time = at.to_string();
        let parts: [&[u8]; 5] = [id.as_bytes(), b".", time.as_bytes(), b".", body.as_bytes()];
        let signature = STANDARD.encode(sign(&standard_secret(secret).unwrap(), &parts));
        self.shipment(path)
            .header("webhook-id", id)
            .header("webhook-timestamp", time)
            .header("webhook-signature", format!("v1,{signature}"))
            .body(body.to_owned())
    }

    fn shopify(&self, id: &str, topic: &str, body: &str) -> RequestBuilder {
        self.shipment("/shopify")
            .header("x-shopify-webhook-id", id)
            .header("x-shopify-topic", topic)
            .header(
                "x-shopify-hmac-sha256",
                STANDARD.encode(sign(b"hush", &[body.as_bytes()])),
            )
            .body(body.to_owned())
    }

    fn easypost(&self, body: &str) -> RequestBuilder {
        let signature = hex(&sign(b"s3cret", &[body.as_bytes()]));
        self.shipment("/easypost")
            .header("x-hmac-signature", format!("hmac-sha256-hex={signature}"))
            .body(body.to_owned())
    }

    /// How many rows the inbox has, and how many bodies are kept.
    async fn kept(&self) -> (i64, i64) {
        let mut db = Session::open(&self.url).await;
        let events = db.scalar("select count(*) from capture.shipment_events").await;
        (events, db.scalar("select count(*) from capture.shipment_bodies").await)
    }

    /// What workers would do.
    async fn match_all(&self) -> i32 {
        self.outbox.take_shipments(100).await.unwrap();
        self.outbox.match_releases(100).await.unwrap()
    }

    async fn hold(&self, reference: &str) -> String {
        let mut document = intent(reference);
        document["hold"] = json!("shipment");
        let created = self.post("/v1/captures", &document).await.is(201);
        created.json["id"].as_str().unwrap().to_owned()
    }
}

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

fn document(order: &str) -> Value {
    json!({ "provider": "afterpay", "order_id": order, "kind": "shipped", "company": "UPS", "method": "Ground", "tracking_number": "1Z1" })
}

fn fulfilment(id: u64, order: &str, number: Option<&str>) -> String {
    json!({ "id": id, "order_id": order, "status": "success", "service": "manual", "tracking_company": "UPS",
        "shipment_status": null, "tracking_number": number, "updated_at": "2026-11-22T10:00:00Z", "line_items": [] })
    .to_string()
}

#[tokio::test]
async fn a_shipment_told_with_a_key_releases_what_is_held_and_twice_is_once() {
    let world = world().await;
    let lane = capture::intent::Lane {
        provider: "afterpay".to_owned(),
        account: "default".to_owned(),
    };
    world.outbox.register_lane(&lane, 0).await.unwrap();
    let held = world.hold("a").await;
    let mut document = document("o-a");
    document["event_id"] = json!("1");
    let key = world.key("warehouse", &[Scope::Ship]).await;
    let tell = async || answer(world.ask_as(&key, Method::POST, "/v1/shipments").json(&document)).await;
    let told = tell().await.is(202);
    assert_eq!(
        (told.json["known"].as_bool(), told.json["shipment"].as_i64()),
        (Some(false), Some(1))
    );
    let again = tell().await.is(200);
    assert_eq!(
        (again.json["known"].as_bool(), again.json["shipment"].as_i64()),
        (Some(true), None)
    );
    assert_eq!(world.kept().await, (1, 1));
    assert_eq!(world.match_all().await, 1);
    assert_eq!(
        world.get(&format!("/v1/captures/{held}")).await.json["state"],
        "scheduled"
    );
    let source: String = Session::open(&world.url)
        .await
        .scalar("select source from capture.shipment_events")
        .await;
    assert_eq!(source, "api:warehouse");
}

#[tokio::test]
async fn a_document_that_is_wrong_is_told_where() {
    let world = world().await;
    for (field, value, pointer) in [
        ("no_such_field", json!(1), "/no_such_field"),
        ("kind", json!("flown"), "/kind"),
        ("amount_minor", json!(12.34), "/amount_minor"),
        ("amount_minor", json!(0), "/amount_minor"),
        (
            "line_items",
            json!([{ "sku": "a", "amount_minor": "1" }]),
            "/line_items/0/amount_minor",
        ),
        ("order_id", json!("o\u{0}"), "/order_id"),
        ("event_id", json!(" "), "/event_id"),
        ("provider", json!("nobody"), "/provider"),
    ] {
        let mut document = document("o-a");
        document["event_id"] = json!("1");
        document[field] = value;
        let told = world.post("/v1/shipments", &document).await.is(422);
        assert_eq!(told.json["pointer"], pointer, "{told:?}");
    }
    assert_eq!(world.kept().await, (0, 0));
}

#[tokio::test]
async fn a_signature_of_standard_webhooks_opens_and_nothing_else_does() {
    let world = world().await;
    let body = document("o-a").to_string();
    let told = async |request: RequestBuilder| -> Answer { answer(request).await };
    // By name and without; with the old secret while the secrets are exchanged.
    told(world.standard("", "msg_1", now(), WHSEC, &body)).await.is(202);
    told(world.standard("/wms", "msg_2", now() - 299, OLD_WHSEC, &body))
        .await
        .is(202);
    // The same id within the time is a repeat, and no attack.
    told(world.standard("/wms", "msg_1", now(), WHSEC, &body)).await.is(200);
    told(world.standard("/wms", "msg_1", now() + 10, WHSEC, &body))
        .await
        .is(200);
    // Whatever it would like to be answered in, by name and without.
    for path in ["", "/wms"] {
        let picky = world
            .standard(path, "msg_1", now(), WHSEC, &body)
            .header("accept", "text/html");
        told(picky).await.is(200);
    }
    assert_eq!(world.kept().await, (2, 2));
    let other = "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
    for path in ["", "/wms"] {
        for (request, code) in [
            (world.standard(path, "msg_3", now(), other, &body), "signature_wrong"),
            (
                world
                    .standard(path, "msg_3", now(), WHSEC, &body)
                    .body(body.replace("o-a", "o-b")),
                "signature_wrong",
            ),
            (
                world.standard(path, "msg_1", now() - 302, WHSEC, &body),
                "signature_stale",
            ),
            (
                world.standard(path, "msg_3", now() + 310, WHSEC, &body),
                "signature_stale",
            ),
        ] {
            let refused = told(request).await.is(401);
            assert_eq!(refused.code(), code, "{path}");
        }
    }
    told(world.shipment("/wms").body(body.clone())).await.is(401);
    let by_key = world.ask(Method::POST, "/v1/shipments/wms").body(body.clone());
    told(by_key).await.is(401);
    told(world.standard("/nobody", "msg_3", now(), WHSEC, &body))
        .await
        .is(404);
    let large = format!("{body}{}", " ".repeat(1 << 20));
    told(world.standard("/wms", "msg_4", now(), WHSEC, &large))
        .await
        .is(413);
    assert_eq!(world.kept().await, (2, 2), "nothing is stored of who is not believed");
    // What was refused is counted, and only that.
    let mut counted = Vec::new();
    for _ in 0..100 {
        counted = world.outbox.shipment_requests().await.unwrap();
        if counted
            .iter()
            .any(|(source, result, _)| source == "wms" && result == "signature_wrong")
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let of = |source: &str, result: &str| {
        counted
            .iter()
            .find(|row| row.0 == source && row.1 == result)
            .map_or(0, |row| row.2)
    };
    assert_eq!(of("wms", "signature_stale"), 2, "{counted:?}");
    assert_eq!(of("api", "signature_stale"), 2, "{counted:?}");
    assert_eq!(of("wms", "signature_missing"), 2, "{counted:?}");
    assert_eq!(
        (of("wms", "signature_wrong"), of("wms", "known"), of("wms", "accepted")),
        (2, 4, 2),
        "{counted:?}"
    );
}

#[tokio::test]
async fn what_is_signed_and_means_nothing_is_told_where_and_its_bytes_are_kept() {
    let world = world().await;
    for (id, body, pointer) in [
        ("msg_1", "{", ""),
        ("msg_2", "[]", ""),
        (
            "msg_3",
            r#"{"provider":"afterpay","order_id":"o-1","colour":"red"}"#,
            "/colour",
        ),
        ("msg_4", r#"{"provider":"afterpay"}"#, "/order_id"),
    ] {
        let told = answer(world.standard("/wms", id, now(), WHSEC, body)).await.is(422);
        assert_eq!(told.json["pointer"], pointer, "{told:?}");
        // Again, as senders do.
        answer(world.standard("/wms", id, now(), WHSEC, body)).await.is(422);
    }
    let told = answer(world.shopify("w-1", "orders/create", "{}")).await.is(422);
    assert_eq!(told.json["pointer"], "X-Shopify-Topic:");
    let told = answer(world.easypost(r#"{"id":"evt_1","result":{"status":"in_transit"}}"#))
        .await
        .is(422);
    assert_eq!(told.json["pointer"], "/result/tracking_code");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    answer(world.easypost(&deep)).await.is(422);
    let mut db = Session::open(&world.url).await;
    let kept: Vec<String> = db
        .column("select convert_from(body, 'UTF8') || ' ' || fault from capture.shipment_bodies where source = 'wms' order by id")
        .await;
    assert_eq!(kept.len(), 4, "{kept:?}");
    assert!(kept[2].contains("colour") && kept[2].contains("/colour"), "{kept:?}");
    assert_eq!(world.kept().await.0, 0);
    // What was a mistake of ours may be sent again once it is mended.
    let fine = r#"{"provider":"afterpay","order_id":"o-1"}"#;
    answer(world.standard("/wms", "msg_4", now(), WHSEC, fine))
        .await
        .is(202);
}

#[tokio::test]
async fn shopify_is_known_by_its_signature_and_a_fulfilment_ships_once_under_whatever_id() {
    let world = world().await;
    let lane = capture::intent::Lane {
        provider: "afterpay".to_owned(),
        account: "default".to_owned(),
    };
    world.outbox.register_lane(&lane, 0).await.unwrap();
    let held = [world.hold("a").await, world.hold("b").await];
    let created = fulfilment(7, "o-a", None);
    answer(world.shopify("w-1", "fulfillments/create", &created))
        .await
        .is(202);
    answer(world.shopify("w-1", "fulfillments/create", &created))
        .await
        .is(200);
    // Whatever it would like to be answered in.
    let html = world
        .shopify("w-1", "fulfillments/create", &created)
        .header("accept", "text/html");
    answer(html).await.is(200);
    // Its id is not signed: who overheard the bytes may send them again under another, and changes nothing.
    answer(world.shopify("w-2", "fulfillments/create", &created))
        .await
        .is(200);
    // The parcel gets its number: the same fulfilment.
    let updated = fulfilment(7, "o-a", Some("1Z7"));
    answer(world.shopify("w-3", "fulfillments/update", &updated))
        .await
        .is(202);
    let carrier = r#"{"id":"evt_7","result":{"tracking_code":"1Z7","status":"in_transit","carrier":"UPS"}}"#;
    answer(world.easypost(carrier)).await.is(202);
    answer(world.easypost(carrier)).await.is(200);
    let forged = world
        .shopify("w-4", "fulfillments/create", &created)
        .body(fulfilment(8, "o-b", None));
    assert_eq!(answer(forged).await.is(401).code(), "signature_wrong");
    let unsigned = world.shipment("/shopify").body(created);
    assert_eq!(answer(unsigned).await.is(401).code(), "signature_missing");
    assert_eq!(world.kept().await, (3, 3));
    assert_eq!(world.match_all().await, 1);
    let state = async |id: &str| world.get(&format!("/v1/captures/{id}")).await.json["state"].clone();
    assert_eq!(
        (state(&held[0]).await, state(&held[1]).await),
        (json!("scheduled"), json!("held"))
    );
    assert_eq!(world.match_all().await, 0);
}

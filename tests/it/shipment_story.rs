//! A warehouse's day, told by four sources at once and badly: repeated, out of order, before the orders, of orders that nobody
//! knows, while a worker is killed. Each order is captured to the cent, once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capture::api_key::{FreshKey, Scope, Scopes};
use capture::http::{ApiServer, Office, OfficeSettings, ProxySettings};
use capture::outbox::{AuditStamp, ConnectSettings, NewKey};
use capture::shipment::{
    Encoding, Fulfilment, HmacScheme, Mapping, Pointer, ReleaseOn, SecretBytes, ShipmentAmount, Source, SourceKind,
};
use futures_util::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use reqwest::Client;
use secrecy::ExposeSecret;
use serde_json::json;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::database::Session;
use crate::kind::Kind;
use crate::releases::HELD;
use crate::world::{Plan, World, enqueue};

/// What is authorised of each order, and what a part of it is worth.
const WHOLE: i64 = 5000;
const PART: i64 = 1900;

/// Who tells.
#[derive(Clone, Copy)]
enum Teller {
    Sql,
    Key,
    Shopify,
    Hmac,
}

/// One event of one shipment.
#[derive(Clone)]
struct Told {
    teller: Teller,
    event: String,
    order: String,
    parcel: String,
    amount: Option<i64>,
    is_final: bool,
}

fn mac(secret: &[u8], body: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn sources() -> Vec<Source> {
    let at = |text: &str| Some(Pointer::parse(text).unwrap());
    let source = |name: &str, kind, secret: &[u8]| Source {
        name: name.to_owned(),
        provider: Some("afterpay".to_owned()),
        account: None,
        kind,
        secrets: vec![SecretBytes::new(secret.to_vec())],
    };
    let mapping = Mapping {
        order: at("/order"),
        tracking: at("/parcel"),
        amount_minor: at("/worth"),
        is_final: at("/last"),
        status: at("/status"),
        ..Mapping::default()
    };
    vec![
        source(
            "shopify",
            SourceKind::Shopify(Pointer::parse("/order_id").unwrap()),
            b"hush",
        ),
        source(
            "carrier",
            SourceKind::Hmac {
                scheme: HmacScheme::of_body("x-signature", Encoding::Hex),
                id: at("/id"),
                mapping,
            },
            b"s3cret",
        ),
    ]
}

/// Everybody's way in.
struct Doors {
    url: String,
    base: String,
    key: String,
    client: Client,
}

impl Doors {
    async fn tell(&self, told: Told) {
        let Told {
            event, order, parcel, ..
        } = &told;
        let request = match told.teller {
            Teller::Sql => {
                let amount = told.amount.map_or("null".to_owned(), |minor| format!("'{minor}'"));
                let sql = format!(
                    "insert into capture.shipment_events (source, event_id, provider, order_id, tracking_number, kind, amount_minor, is_final)
                     values ('wms', '{event}', 'afterpay', '{order}', '{parcel}', 'shipped', {amount}, '{}') on conflict do nothing",
                    told.is_final
                );
                Session::open(&self.url).await.run(&sql).await;
                return;
            }
            Teller::Key => {
                let body = json!({ "event_id": event, "provider": "afterpay", "order_id": order, "tracking_number": parcel,
                    "amount_minor": told.amount, "final": told.is_final });
                let request = self.client.post(format!("{}/v1/shipments", self.base));
                request.bearer_auth(&self.key).json(&body)
            }
            Teller::Shopify => {
                // It alone knows no amounts, and tells of the order when all of it has left.
                let body = json!({ "id": 1, "fulfillments": [{ "id": event, "order_id": order, "status": "success",
                    "tracking_number": parcel, "tracking_company": "UPS" }] });
                let body = body.to_string();
                self.client
                    .post(format!("{}/v1/shipments/shopify", self.base))
                    .header("x-shopify-topic", "orders/fulfilled")
                    .header("x-shopify-webhook-id", event)
                    .header("x-shopify-hmac-sha256", STANDARD.encode(mac(b"hush", &body)))
                    .body(body)
            }
            Teller::Hmac => {
                let body = json!({ "id": event, "order": order, "parcel": parcel, "worth": told.amount, "last": told.is_final,
                    "status": "in_transit" });
                let body = body.to_string();
                let signature: String = mac(b"s3cret", &body).iter().map(|byte| format!("{byte:02x}")).collect();
                self.client
                    .post(format!("{}/v1/shipments/carrier", self.base))
                    .header("x-signature", signature)
                    .body(body)
            }
        };
        // As senders do: until it is taken.
        for _ in 0..20 {
            let answer = request.try_clone().unwrap().send().await.unwrap();
            match answer.status().as_u16() {
                200 | 202 => return,
                503 => {}
                _ => panic!("{} {}", answer.status(), answer.text().await.unwrap()),
            }
        }
        panic!("{event} is not taken");
    }
}

/// What is told of so many orders, in a bad order, and how many shipments are of orders that nobody has.
fn day(orders: u32, rng: &mut StdRng) -> (Vec<Told>, usize) {
    let mut events = Vec::new();
    let mut strange = 0;
    for n in 0..orders {
        let teller = [Teller::Sql, Teller::Key, Teller::Shopify, Teller::Hmac][(n % 4) as usize];
        let is_strange = n % 20 == 19;
        strange += usize::from(is_strange);
        let whole = Told {
            teller,
            event: format!("e{n}"),
            order: match is_strange {
                true => format!("nobody's {n}"),
                false => format!("order of {}", Kind::Afterpay.payment(n)),
            },
            parcel: format!("1Z{n}"),
            amount: Some(WHOLE),
            is_final: false,
        };
        let in_parts = rng.random_bool(0.3) && !is_strange && !matches!(teller, Teller::Shopify);
        let told = match in_parts {
            false => vec![whole],
            true => vec![
                Told {
                    event: format!("e{n}-1"),
                    parcel: format!("1Z{n}-1"),
                    amount: Some(PART),
                    ..whole.clone()
                },
                Told {
                    event: format!("e{n}-2"),
                    parcel: format!("1Z{n}-2"),
                    amount: None,
                    is_final: true,
                    ..whole
                },
            ],
        };
        for one in told {
            if rng.random_bool(0.33) {
                events.push(one.clone());
            }
            events.push(one);
        }
    }
    // A third is told at any time, the rest as it happened.
    let (mut late, mut in_order): (Vec<Told>, Vec<Told>) = events.into_iter().partition(|_| rng.random_bool(0.33));
    late.shuffle(rng);
    for told in late {
        in_order.insert(rng.random_range(0..=in_order.len()), told);
    }
    (in_order, strange)
}

async fn play(orders: u32, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = Plan {
        fulfilment: Fulfilment {
            release_on: ReleaseOn::Shipped,
            amount: ShipmentAmount::LineItems,
            ..Fulfilment::default()
        },
        ..Plan::default()
    };
    let mut world = World::of(plan).await;
    let (told, strange) = day(orders, &mut rng);

    let mut early = Vec::new();
    let mut late = Vec::new();
    for n in (0..orders).filter(|n| n % 20 != 19) {
        let payment = Kind::Afterpay.payment(n);
        world.authorize(Kind::Afterpay, &payment, WHOLE);
        let more = format!("{HELD}, authorized_minor => {WHOLE}");
        let sql = enqueue(Kind::Afterpay, &payment, "c1", WHOLE, &more);
        // The shipment of a tenth comes before its order.
        if n % 10 == 3 { &mut late } else { &mut early }.push(sql);
    }
    for sql in &early {
        world.db.run(sql).await;
    }

    let settings = OfficeSettings {
        connect: ConnectSettings::new(&world.url),
        abilities: Default::default(),
        providers: Default::default(),
        rate_per_second: NonZeroU32::new(10_000).unwrap(),
        patience: Duration::from_secs(10),
        proxy: ProxySettings::default(),
        networks: Default::default(),
        shipment_sources: sources(),
    };
    let draining = CancellationToken::new();
    let office = Arc::new(Office::open(&settings, draining.clone()).unwrap());
    let server = ApiServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", server.address());
    let serving = tokio::spawn(server.run(office));
    let fresh = FreshKey::make().unwrap();
    let stamp = AuditStamp {
        actor: "tess".to_owned(),
        reason: "a story".to_owned(),
    };
    let scopes: Scopes = [Scope::Ship].into_iter().collect();
    let key = NewKey::First(scopes);
    world
        .outbox
        .create_key(&fresh, "warehouse", &key, None, &stamp)
        .await
        .unwrap();
    let doors = Doors {
        url: world.url.clone(),
        base,
        key: fresh.whole.expose_secret().to_owned(),
        client: Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap(),
    };

    // Two workers; one is dropped in the middle of whatever it does.
    let work = async |world: &World| {
        let worker = world.another_worker().await;
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { worker.run(shutdown).await }
        });
        (running, shutdown)
    };
    let (first, _) = work(&world).await;
    let (second, stop) = work(&world).await;
    let half = told.len() / 2;
    let mut told = told;
    let rest = told.split_off(half);
    futures_util::stream::iter(told)
        .for_each_concurrent(8, |told| doors.tell(told))
        .await;
    first.abort();
    for sql in &late {
        world.db.run(sql).await;
    }
    futures_util::stream::iter(rest)
        .for_each_concurrent(8, |told| doors.tell(told))
        .await;
    stop.cancel();
    second.await.unwrap();
    draining.cancel();
    serving.await.unwrap();

    for _ in 0..50 {
        world.pass(Duration::from_secs(700)).await;
        world.outbox.rescue(1000).await.unwrap();
        world.outbox.take_shipments(10_000).await.unwrap();
        world.outbox.match_releases(10_000).await.unwrap();
        world.drain().await;
        let open: i64 = world
            .db
            .scalar("select count(*) from capture.status where state not in ('captured', 'cancelled')")
            .await;
        if open == 0 {
            break;
        }
    }
    let wrong: Vec<String> = world
        .db
        .column(&format!(
            "select payment_id || ': ' || string_agg(capture_ref || ' ' || amount_minor || ' ' || state, ', ' order by created_at) from capture.status
             group by payment_id having sum(captured_minor) is distinct from {WHOLE}
                 or count(*) filter (where state not in ('captured', 'cancelled')) > 0"
        ))
        .await;
    assert_eq!(wrong, [""; 0], "seed {seed}");
    let payments: i64 = world
        .db
        .scalar("select count(distinct payment_id) from capture.status")
        .await;
    assert_eq!(payments, i64::from(orders) - i64::try_from(strange).unwrap());
    world.pass(Duration::from_secs(7200)).await;
    while world
        .outbox
        .watch_shipments(Duration::from_secs(3600), Duration::from_secs(86400), 1000)
        .await
        .unwrap()
        > 0
    {}
    let unmatched = world.outbox.shipments(true, 100_000).await.unwrap();
    let orders: std::collections::BTreeSet<String> = unmatched.into_iter().filter_map(|row| row.order_id).collect();
    assert_eq!(orders.len(), strange, "{orders:?}");
    assert!(orders.iter().all(|order| order.starts_with("nobody's")), "{orders:?}");
    let twice: Vec<Uuid> = world
        .db
        .column("select intent from capture.releases where intent is not null group by intent having count(*) > 1")
        .await;
    assert!(twice.is_empty(), "{twice:?}");
    world.books_agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_is_told_badly_by_four_sources_is_captured_to_the_cent() {
    play(80, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "10,000 orders take minutes"]
async fn ten_thousand_orders_that_are_told_badly_are_captured_to_the_cent() {
    play(10_000, 8).await;
}

//! The provider of the example, which is written against the public trait alone: it holds the laws, and a worker serves it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Json, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use capture::intent::{Currency, Lane, Money};
use capture::outbox::Outbox;
use capture::provider::Provider;
use capture::provider::contract::{Law, Stand, Trouble, try_all, try_one};
use capture::worker::{ServedLane, Settings, Worker};
use serde_json::{Value, json};

use crate::world::World;

#[path = "../../examples/outside_provider/acme.rs"]
mod acme;
use acme::Acme;

/// Acme itself: it knows keys, and a reference is on each capture.
#[derive(Default)]
struct Books {
    captures: BTreeMap<String, Vec<Value>>,
    keys: BTreeMap<String, Value>,
    next: Option<Trouble>,
    posts: usize,
    /// It forgets keys at once: what an adapter must not say of it then.
    forgets: bool,
}

type Shared = Arc<Mutex<Books>>;

fn broken() -> Response {
    let cut = futures_util::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("cut")) });
    (StatusCode::CREATED, Body::from_stream(cut)).into_response()
}

async fn capture(
    State(books): State<Shared>,
    Path(payment): Path<String>,
    headers: HeaderMap,
    Json(asked): Json<Value>,
) -> Response {
    let mut books = books.lock().unwrap();
    books.posts += 1;
    let trouble = books.next.take();
    match trouble {
        Some(Trouble::Broken) => return broken(),
        Some(Trouble::Nonsense) => return "<p>Please log in".into_response(),
        Some(Trouble::Refused) => return (StatusCode::PAYMENT_REQUIRED, Json(json!({}))).into_response(),
        Some(Trouble::AnswerLost | Trouble::GatewayAfterwards) | None => {}
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let known = books.keys.get(&key).filter(|_| !books.forgets).cloned();
    let made = known.unwrap_or_else(|| {
        let mut made = asked;
        made["id"] = json!(format!("cap_{}", books.posts));
        books.captures.entry(payment).or_default().push(made.clone());
        books.keys.insert(key, made.clone());
        made
    });
    match trouble {
        Some(Trouble::AnswerLost) => broken(),
        Some(Trouble::GatewayAfterwards) => (StatusCode::BAD_GATEWAY, "<h1>502").into_response(),
        Some(Trouble::Broken | Trouble::Nonsense | Trouble::Refused) | None => {
            (StatusCode::CREATED, Json(made)).into_response()
        }
    }
}

async fn look(State(books): State<Shared>, Path(payment): Path<String>) -> Json<Vec<Value>> {
    Json(
        books
            .lock()
            .unwrap()
            .captures
            .get(&payment)
            .cloned()
            .unwrap_or_default(),
    )
}

/// Acme, listening, and its adapter.
struct Ground {
    books: Shared,
    base: String,
    payments: AtomicUsize,
}

impl Ground {
    async fn new() -> Ground {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let books = Shared::default();
        let routes = Router::new().route("/payments/{id}/captures", post(capture).get(look));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, routes.with_state(books.clone())).into_future());
        Ground {
            books,
            base,
            payments: AtomicUsize::new(1),
        }
    }

    fn acme(&self) -> Arc<Acme> {
        let http = reqwest::Client::builder()
            .retry(reqwest::retry::never())
            .timeout(Duration::from_secs(2));
        Arc::new(Acme {
            http: http.build().unwrap(),
            base: self.base.clone(),
            token: "t".to_owned(),
        })
    }
}

#[async_trait]
impl Stand for Ground {
    fn provider(&self) -> Arc<dyn Provider> {
        self.acme()
    }

    fn lane(&self) -> Lane {
        Lane {
            provider: "acme".to_owned(),
            account: "default".to_owned(),
        }
    }

    fn amount(&self) -> Money {
        Money::new(1000, Currency::from_code("USD").unwrap())
    }

    async fn authorize(&self, _amount: Money) -> String {
        format!("pay-{}", self.payments.fetch_add(1, Ordering::Relaxed))
    }

    async fn next(&self, trouble: Trouble) {
        self.books.lock().unwrap().next = Some(trouble);
    }

    async fn captured(&self, payment_id: &str) -> Vec<i64> {
        let books = self.books.lock().unwrap();
        let captures = books.captures.get(payment_id).into_iter().flatten();
        captures.map(|made| made["amount_minor"].as_i64().unwrap()).collect()
    }

    async fn posts(&self) -> usize {
        self.books.lock().unwrap().posts
    }
}

#[tokio::test]
async fn a_provider_from_outside_holds_the_laws_and_one_that_says_too_much_of_itself_does_not() {
    let ground = Ground::new().await;
    let broken = try_all(&ground).await;
    assert!(broken.is_empty(), "{broken:#?}");
    // The same adapter, for a provider that does not remember keys as it says.
    ground.books.lock().unwrap().forgets = true;
    let seen = try_one(Law::RepeatMovesNothing, &ground).await.unwrap_err();
    assert_eq!(seen, "captured should be [1000]: [1000, 1000]");
}

#[tokio::test]
async fn a_worker_serves_a_provider_from_outside_through_a_lost_answer() {
    let mut world = World::new().await;
    let ground = Ground::new().await;
    world
        .db
        .run("insert into capture.providers (name, most_decimals) values ('acme', 2)")
        .await;
    let outbox: Outbox = world.outbox.clone();
    let served = ServedLane {
        lane: ground.lane(),
        provider: ground.acme(),
        concurrency: 4,
        rate_per_minute: 0,
        fulfilment: Default::default(),
        authorization_lifetime: None,
    };
    let worker = Worker::new(outbox, vec![served], Settings::default()).await.unwrap();
    let intent = world
        .db
        .scalar("select id from capture.enqueue(provider => 'acme', order_id => '7', payment_id => 'pay-7', capture_ref => 'a', amount_minor => 1000, currency => 'USD', authorized_minor => 1000)")
        .await;
    ground.next(Trouble::AnswerLost).await;
    let mut state = String::new();
    for _ in 0..20 {
        worker.drain().await.unwrap();
        state = world.state(intent).await;
        if state == "captured" {
            break;
        }
        world.pass(Duration::from_secs(60)).await;
    }
    assert_eq!(state, "captured", "{:?}", world.story(intent).await);
    assert_eq!(ground.captured("pay-7").await, [1000]);
}

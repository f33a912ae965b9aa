//! A world for one test: its own database, a server (or two) and keys.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use capture::api_key::{FreshKey, Scope, Scopes};
use capture::http::{ApiServer, Office, OfficeSettings};
use capture::outbox::{AuditStamp, ConnectSettings, NewKey, Outbox};
use capture::shipment::Source;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::database::{connect, migrated_database};

pub fn client() -> reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    let client = CLIENT.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap()
    });
    client.clone()
}

pub fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "tess".to_owned(),
        reason: "a test".to_owned(),
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Answer {
    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    Answer {
        status,
        headers,
        json: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

/// A server that answers.
pub struct Server {
    pub base: String,
    pub draining: CancellationToken,
    pub running: JoinHandle<()>,
}

/// How a server is set where a test is about that.
pub struct Plan {
    pub rate_per_second: u32,
    pub patience: Duration,
    pub shipment_sources: Vec<Source>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            rate_per_second: 10_000,
            patience: Duration::from_secs(10),
            shipment_sources: Vec::new(),
        }
    }
}

impl Server {
    pub async fn start(url: &str, plan: &Plan) -> Server {
        let draining = CancellationToken::new();
        let settings = OfficeSettings {
            connect: ConnectSettings::new(url),
            abilities: BTreeMap::new(),
            providers: BTreeMap::new(),
            rate_per_second: NonZeroU32::new(plan.rate_per_second).unwrap(),
            patience: plan.patience,
            shipment_sources: plan.shipment_sources.clone(),
            networks: capture::webhook::Networks::default(),
            proxy: capture::http::ProxySettings::default(),
        };
        let office = Arc::new(Office::open(&settings, draining.clone()).unwrap());
        let server = ApiServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let base = format!("http://{}", server.address());
        let running = tokio::spawn(server.run(office));
        Server {
            base,
            draining,
            running,
        }
    }
}

pub struct World {
    pub url: String,
    pub outbox: Outbox,
    pub server: Server,
    /// May everything.
    pub key: String,
}

impl World {
    pub async fn new() -> World {
        World::planned(&Plan::default()).await
    }

    pub async fn planned(plan: &Plan) -> World {
        World::at(migrated_database().await, plan).await
    }

    pub async fn at(url: String, plan: &Plan) -> World {
        let _ = client();
        let outbox = connect(&url).await;
        let server = Server::start(&url, plan).await;
        let key = make_key(&outbox, "all", &Scope::ALL).await;
        World {
            url,
            outbox,
            server,
            key,
        }
    }

    pub async fn key(&self, name: &str, scopes: &[Scope]) -> String {
        make_key(&self.outbox, name, scopes).await
    }

    /// A request with the key that may everything.
    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.ask_as(&self.key, method, path)
    }

    pub fn ask_as(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        client()
            .request(method, format!("{}{path}", self.server.base))
            .bearer_auth(key)
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.ask(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.ask(Method::POST, path).json(body)).await
    }

    /// Asks for a capture of that reference.
    pub async fn enqueue(&self, reference: &str) -> String {
        let created = self.post("/v1/captures", &intent(reference)).await.is(201);
        created.json["id"].as_str().unwrap().to_owned()
    }
}

pub async fn make_key(outbox: &Outbox, name: &str, scopes: &[Scope]) -> String {
    let fresh = FreshKey::make().unwrap();
    let scopes: Scopes = scopes.iter().copied().collect();
    let lifetime = Some(Duration::from_secs(3600));
    outbox
        .create_key(&fresh, name, &NewKey::First(scopes), lifetime, &stamp())
        .await
        .unwrap();
    fresh.whole.expose_secret().to_owned()
}

pub fn intent(reference: &str) -> Value {
    // Afterpay's are digits.
    let digits: String = reference.bytes().map(|byte| format!("{byte:03}")).collect();
    json!({
        "provider": "afterpay", "order_id": format!("o-{reference}"), "payment_id": digits,
        "capture_ref": reference, "amount_minor": 4990, "currency": "USD",
    })
}

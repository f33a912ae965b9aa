//! A world with a server before it, and somebody who looks at its pages without a browser.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use capture::api_key::{FreshKey, Scope};
use capture::http::{ApiServer, Office, OfficeSettings, ProxySettings};
use capture::operations::{AbilitiesByLane, ProvidersByLane};
use capture::outbox::{AuditStamp, ConnectSettings, NewKey};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Method};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::kind::Kind;
use crate::world::{Plan, World};

pub struct Stand {
    pub world: World,
    pub base: String,
    draining: CancellationToken,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.draining.cancel();
    }
}

impl Stand {
    pub async fn new() -> Stand {
        Stand::of(Plan::default(), ProxySettings::default()).await
    }

    pub async fn of(plan: Plan, proxy: ProxySettings) -> Stand {
        let world = World::of(plan).await;
        let lanes = world.plan.lanes(&world.simulator).into_iter();
        let providers = lanes.map(|lane| (lane.lane, lane.provider)).collect();
        Stand::asking(world, providers, proxy).await
    }

    /// A server that has the credentials of these accounts.
    pub async fn asking(world: World, providers: ProvidersByLane, proxy: ProxySettings) -> Stand {
        let lanes = world.plan.lanes(&world.simulator).into_iter();
        let abilities = lanes.map(|lane| (lane.lane, lane.provider.abilities())).collect();
        let (base, draining) = serve(&world.url, abilities, providers, proxy).await;
        Stand { world, base, draining }
    }

    /// A new key with these scopes; gives it, and its prefix.
    pub async fn key(&self, name: &str, scopes: &[Scope]) -> (String, String) {
        let key = FreshKey::make().unwrap();
        let new = NewKey::First(scopes.iter().copied().collect());
        self.world
            .outbox
            .create_key(&key, name, &new, None, &stamp())
            .await
            .unwrap();
        (key.whole.expose_secret().to_owned(), key.prefix.clone())
    }

    pub async fn operator(&self) -> Person {
        let (key, _) = self.key("ops", &Scope::ALL).await;
        self.enter(&key).await
    }

    pub async fn viewer(&self) -> Person {
        let (key, _) = self.key("eyes", &[Scope::Read]).await;
        self.enter(&key).await
    }

    pub fn somebody(&self) -> Person {
        Person::at(&self.base)
    }

    /// Logs in as a person does: opens the page, and sends its form.
    pub async fn enter(&self, key: &str) -> Person {
        let mut person = self.somebody();
        let page = person.get("/login").await.is(200);
        let token = page.token();
        let answer = person
            .post("/login", &[("form_token", &token), ("to", "/"), ("key", key)])
            .await;
        assert_eq!(answer.is(303).location(), "/");
        person
    }

    /// So many Afterpay captures that nobody has authorised: all of them are dead in the end.
    pub async fn dead_letters(&mut self, count: u32) -> Vec<Uuid> {
        self.world
            .db
            .run(&format!(
                "select capture.enqueue(provider => 'afterpay', account => 'default', order_id => 'order-' || n,
                    payment_id => (10010000 + n)::text, capture_ref => 'c1', amount_minor => 1000 + n, currency => 'USD',
                    authorization_expires_at => capture.clock_now() + n * interval '1 hour')
                 from generate_series(1, {count}) n"
            ))
            .await;
        let ids: Vec<Uuid> = self
            .world
            .db
            .column("select id from capture.intents order by amount_minor")
            .await;
        for _ in 0..40 {
            self.world.drain().await;
            let dead: i64 = self
                .world
                .db
                .scalar("select count(*) from capture.outcomes where state = 'dead'")
                .await;
            if dead == i64::from(count) {
                return ids;
            }
            self.world.pass(Duration::from_secs(600)).await;
        }
        panic!("they do not die: {:?}", self.world.story(ids[0]).await);
    }

    /// Now they are authorised.
    pub fn authorize_all(&self, count: u32) {
        for n in 1..=count {
            self.world
                .authorize(Kind::Afterpay, &(10_010_000 + n).to_string(), 5_000);
        }
    }
}

/// A server over that database, and what ends it.
pub async fn serve(
    url: &str,
    abilities: AbilitiesByLane,
    providers: ProvidersByLane,
    proxy: ProxySettings,
) -> (String, CancellationToken) {
    let draining = CancellationToken::new();
    let settings = OfficeSettings {
        shipment_sources: Vec::new(),
        connect: ConnectSettings::new(url),
        abilities,
        providers,
        rate_per_second: NonZeroU32::new(10_000).unwrap(),
        proxy,
        networks: capture::webhook::Networks::default(),
        patience: std::time::Duration::from_secs(10),
    };
    let office = Arc::new(Office::open(&settings, draining.clone()).unwrap());
    let server = ApiServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let base = format!("http://{}", server.address());
    tokio::spawn(server.run(office));
    (base, draining)
}

pub fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "tess".to_owned(),
        reason: "a test".to_owned(),
    }
}

/// Somebody with cookies.
pub struct Person {
    client: Client,
    base: String,
    pub cookies: BTreeMap<String, String>,
    pub headers: Vec<(String, String)>,
}

impl Person {
    pub fn at(base: &str) -> Person {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none());
        Person {
            client: client.build().unwrap(),
            base: base.to_owned(),
            cookies: BTreeMap::new(),
            headers: Vec::new(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        self.ask(Method::POST, path, Some(form)).await
    }

    /// The token that the forms of this session carry.
    pub async fn token(&mut self) -> String {
        self.get("/").await.is(200).token()
    }

    async fn ask(&mut self, method: Method, path: &str, form: Option<String>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        request = request.header(COOKIE, cookies.join("; "));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(form) = form {
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form);
        }
        let response = request.send().await.unwrap();
        for cookie in response.headers().get_all(SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            assert!(text.contains("HttpOnly") && text.contains("SameSite=Strict"), "{text}");
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            match value {
                "" => self.cookies.remove(name),
                _ => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        Answer {
            path: path.to_owned(),
            status,
            headers: headers.collect(),
            body: response.text().await.unwrap(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub path: String,
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}: {}", self.path, self.body);
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Answer {
        assert!(
            self.body.contains(text),
            "{} does not say {text:?}: {}",
            self.path,
            self.body
        );
        self
    }

    pub fn location(&self) -> &str {
        self.headers
            .get(LOCATION.as_str())
            .map(String::as_str)
            .unwrap_or_default()
    }

    #[track_caller]
    pub fn token(&self) -> String {
        self.hidden("form_token")
    }

    /// What a form of this page sends along under that name.
    #[track_caller]
    pub fn hidden(&self, name: &str) -> String {
        let (_, rest) = self.body.split_once(&format!("name=\"{name}\" value=\"")).expect(name);
        rest.split('"').next().unwrap().to_owned()
    }
}

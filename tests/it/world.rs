//! A world for one test: its own database, simulator, clock and worker.

use std::sync::Arc;
use std::time::Duration;

use capture::intent::Lane;
use capture::local_postgres::{DataDir, Durability, Listen, LocalPostgres, Settings as PostgresSettings};
use capture::outbox::{ConnectSettings, Outbox};
use capture::provider::{self, AccountSettings, Model, Provider};
use capture::retry::Policy;
use capture::simulator::{self, Authorization, ProviderName, Simulator};
use capture::worker::{ServedLane, Settings, Worker};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection, Row};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// One server for the whole binary. Its leash stops it and removes its directory when this process ends, however it does.
static SERVER: OnceCell<LocalPostgres> = OnceCell::const_new();

async fn server() -> &'static LocalPostgres {
    SERVER
        .get_or_init(|| async {
            let _ = rustls::crypto::ring::default_provider().install_default();
            LocalPostgres::start(PostgresSettings {
                data: DataDir::Temporary,
                durability: Durability::ForTests,
                listen: Listen::SocketOnly,
                max_connections: 300,
                ..PostgresSettings::default()
            })
            .await
            .unwrap()
        })
        .await
}

/// A new, empty database; returns its URL.
pub async fn new_database() -> String {
    let server = server().await;
    let name = format!("t{}", Uuid::new_v4().simple());
    let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create database {name}")))
        .execute(&mut admin)
        .await
        .unwrap();
    admin.close().await.unwrap();
    server.url(&name)
}

/// The four models under their lanes: `afterpay/default`, `optty/default`, `resolve/charges`, `resolve/orders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Afterpay,
    Optty,
    ResolveCharge,
    ResolveOrder,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Afterpay, Kind::Optty, Kind::ResolveCharge, Kind::ResolveOrder];

    pub fn lane(self) -> Lane {
        let (provider, account) = match self {
            Kind::Afterpay => ("afterpay", "default"),
            Kind::Optty => ("optty", "default"),
            Kind::ResolveCharge => ("resolve", "charges"),
            Kind::ResolveOrder => ("resolve", "orders"),
        };
        Lane {
            provider: provider.to_owned(),
            account: account.to_owned(),
        }
    }

    fn provider_name(self) -> ProviderName {
        match self {
            Kind::Afterpay => ProviderName::Afterpay,
            Kind::Optty => ProviderName::Optty,
            Kind::ResolveCharge | Kind::ResolveOrder => ProviderName::Resolve,
        }
    }

    /// A payment id in the provider's form.
    pub fn payment(self, n: u32) -> String {
        match self {
            Kind::Afterpay => format!("1001{n:04}"),
            Kind::Optty => format!("order-ref-{n}"),
            Kind::ResolveCharge => format!("ch_{n:04}"),
            Kind::ResolveOrder => format!("ord_{n:04}"),
        }
    }
}

pub struct World {
    pub url: String,
    pub outbox: Outbox,
    pub simulator: Simulator,
    pub worker: Worker,
    pub producer: PgConnection,
    ahead: Duration,
}

impl World {
    pub async fn new() -> World {
        World::with(|_| {}, |_| {}).await
    }

    pub async fn with(
        change_settings: impl FnOnce(&mut Settings),
        change_simulator: impl FnOnce(&mut simulator::Settings),
    ) -> World {
        let url = new_database().await;
        let outbox = Outbox::connect(&ConnectSettings {
            max_connections: 3,
            ..ConnectSettings::new(&url)
        })
        .await
        .unwrap();
        outbox.migrate().await.unwrap();
        let mut simulator_settings = simulator::Settings::default();
        simulator_settings.limits.resolve_per_minute = None;
        change_simulator(&mut simulator_settings);
        let simulator = Simulator::start(simulator_settings).await.unwrap();
        let mut settings = Settings {
            settle_window: Duration::from_millis(1),
            policy: Policy {
                deadline_margin: Duration::from_secs(60),
                ..Policy::default()
            },
            ..Settings::default()
        };
        change_settings(&mut settings);
        let worker = Worker::new(outbox.clone(), lanes(&simulator), settings).await.unwrap();
        let producer = PgConnection::connect(&url).await.unwrap();
        World {
            url,
            outbox,
            simulator,
            worker,
            producer,
            ahead: Duration::ZERO,
        }
    }

    /// Another worker on the same outbox.
    pub async fn another_worker(&self, change: impl FnOnce(&mut Settings)) -> Worker {
        let mut settings = Settings {
            settle_window: Duration::from_millis(1),
            ..Settings::default()
        };
        change(&mut settings);
        Worker::new(self.outbox.clone(), lanes(&self.simulator), settings)
            .await
            .unwrap()
    }

    pub fn authorize(&self, kind: Kind, payment: &str, amount_minor: i64) {
        self.simulator.create_authorization(Authorization {
            provider: kind.provider_name(),
            account: None,
            payment_id: payment.to_owned(),
            amount_minor,
            currency: "USD".to_owned(),
            expires_at: None,
            created_at: None,
            surcharge_minor: 0,
            requires_shipping: false,
            declined: false,
            merchant_reference: None,
            order_number: None,
            po_number: None,
            any_currency: false,
        });
    }

    /// An authorised payment of 50.00 USD and an intent to capture `minor` of it.
    pub async fn capture(&mut self, kind: Kind, n: u32, minor: i64) -> Uuid {
        let payment = kind.payment(n);
        self.authorize(kind, &payment, 5000);
        self.insert(kind, &payment, "c1", minor, "").await
    }

    /// Inserts an intent; `more`: further `column = literal` pairs as SQL, like `hold => 'shipment'`.
    pub async fn insert(&mut self, kind: Kind, payment: &str, reference: &str, minor: i64, more: &str) -> Uuid {
        let Lane { provider, account } = kind.lane();
        let sql = format!(
            "select id from capture.enqueue(provider => '{provider}', account => '{account}', order_id => 'order of {payment}',
                 payment_id => '{payment}', capture_ref => '{reference}', amount_minor => {minor}, currency => 'USD' {more})"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut self.producer)
            .await
            .unwrap()
            .get(0)
    }

    /// Works until nothing is ready.
    pub async fn drain(&self) -> usize {
        self.worker.drain().await.unwrap()
    }

    /// Lets time pass for the database and for the providers.
    pub async fn pass(&mut self, time: Duration) {
        self.ahead += time;
        self.outbox.set_clock_ahead(self.ahead).await.unwrap();
        self.simulator.advance(time).await.unwrap();
    }

    /// Lets time pass in steps, working after each, until the intent has ended (at most 100 steps).
    pub async fn until_ended(&mut self, intent: Uuid, step: Duration) -> String {
        for _ in 0..100 {
            self.drain().await;
            let state = self.state(intent).await;
            if ["captured", "dead", "cancelled"].contains(&state.as_str()) {
                return state;
            }
            self.outbox.rescue(100).await.unwrap();
            self.pass(step).await;
        }
        panic!(
            "the intent has not ended: {:#?}",
            self.outbox.timeline(intent).await.unwrap()
        );
    }

    pub async fn state(&self, intent: Uuid) -> String {
        self.outbox.capture(intent).await.unwrap().unwrap().state
    }

    /// The whole story as data: one word per event.
    pub async fn story(&self, intent: Uuid) -> Vec<String> {
        self.outbox
            .timeline(intent)
            .await
            .unwrap()
            .into_iter()
            .filter(|entry| entry.what != "attempt")
            .map(|entry| {
                let word = |name: &str| {
                    entry
                        .data
                        .get(name)
                        .and_then(|value| value.as_str())
                        .map(|text| format!(" {text}"))
                };
                let detail = word("reason").or_else(|| word("code")).unwrap_or_default();
                format!("{}{detail}", entry.what)
            })
            .collect()
    }

    /// One scalar from SQL.
    pub async fn scalar<T>(&mut self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.producer)
            .await
            .unwrap()
            .get(0)
    }

    /// Runs SQL.
    pub async fn sql(&mut self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.producer)
            .await
            .unwrap();
    }

    /// The books agree: each captured intent has one capture in the ledger with its amount, and the ledger has no other of ours.
    pub async fn books_agree(&mut self) {
        let ledger = self.simulator.ledger();
        assert!(ledger.doubled().is_empty(), "captured twice: {:#?}", ledger.doubled());
        let captured: i64 = self
            .scalar("select coalesce(sum(captured_minor), 0)::bigint from capture.outcomes where state = 'captured'")
            .await;
        let ours: i64 = ledger.ours().iter().map(|entry| entry.amount_minor).sum();
        assert_eq!(captured, ours, "events and ledger disagree");
        let misplaced = self.outbox.doctor_facts().await.unwrap().misplaced;
        assert_eq!(misplaced, 0, "an intent is in no place, or in two");
    }
}

fn lanes(simulator: &Simulator) -> Vec<ServedLane> {
    Kind::ALL
        .into_iter()
        .map(|kind| ServedLane {
            lane: kind.lane(),
            provider: adapter(simulator, kind),
            concurrency: 8,
            rate_per_minute: 0,
        })
        .collect()
}

pub fn adapter(simulator: &Simulator, kind: Kind) -> Arc<dyn Provider> {
    let (model, base_url, auth_url) = match kind {
        Kind::Afterpay => (Model::Afterpay, simulator.base_url("afterpay"), None),
        Kind::Optty => (
            Model::Optty,
            simulator.base_url("optty"),
            Some(simulator.optty_auth_url()),
        ),
        Kind::ResolveCharge => (Model::ResolveCharge, simulator.base_url("resolve"), None),
        Kind::ResolveOrder => (Model::ResolveOrder, simulator.base_url("resolve"), None),
    };
    provider::build(AccountSettings {
        lane: kind.lane(),
        model,
        base_url,
        auth_url,
        merchant_id: "merchant".to_owned(),
        secret: SecretString::from("secret"),
        bearer: false,
        api_version: None,
        require_shipping: false,
        adopt_equal_captures: false,
        other_writers: false,
        platform_url: None,
        connect_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_millis(500),
    })
    .unwrap()
}

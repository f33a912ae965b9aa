//! `capture serve`: the office that requests are answered from, and the server around it.
//!
//! At most five connections to the database, whatever comes in: three for looking, whose statements end after two
//! seconds, and two for acts. A database that goes away is answered with 503 until it is back; the process stays.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::caller::Limiter;
use super::connections::{self, Limits};
use super::console::ProxySettings;
use super::failures::Failures;
use super::inquiry::Inquiry;
use super::news::News;
use super::openapi;
use super::request_counts::RequestCounts;
use crate::operations::{self, AbilitiesByLane, OperationError, ProvidersByLane};
use crate::outbox::{ConnectSettings, Outbox, OutboxError};
use crate::shipment::Source;
use crate::webhook::Networks;

/// Connections for looking, and how long one look may take.
const LOOKS: u32 = 3;
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// Connections for acts, and how long one act may take: an operation freezes its list of ids in one statement.
const ACTS: u32 = 2;
const LONGEST_ACT: Duration = Duration::from_secs(30);

/// How soon it is looked whether an operation has begun: 1 s.
const NEXT_ROUND: Duration = Duration::from_secs(1);

/// How often it is written how many requests there were: 2 s.
const COUNTING: Duration = Duration::from_secs(2);

/// How long a request waits for a free connection before it is answered with 503.
const CONNECTION_WAIT: Duration = Duration::from_secs(2);

/// How long the head of a request may take to arrive, and then its body; also how long an idle connection is kept.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// After how long a client is asked to connect anew: nobody holds a connection for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// How long a request may go on after its connection, or the server, is to end: longer than the longest act, so that nobody
/// is left without an answer to what was done. Only a list that takes longer to freeze is cut off; under an
/// `Idempotency-Key` its operation is found again.
const LAST_REQUESTS: Duration = Duration::from_secs(LONGEST_ACT.as_secs() + 5);

/// Clients at once; others wait in the listener's queue.
const MOST_CLIENTS: usize = 512;

/// How the office is set.
#[derive(Clone)]
pub struct OfficeSettings {
    /// The database. The numbers of connections and the time-outs in it are not looked at.
    pub connect: ConnectSettings,
    /// What the provider of each account can do, by which dead letters are judged.
    pub abilities: AbilitiesByLane,
    /// Those whose credentials are here, for looks at them. Never for a capture.
    pub providers: ProvidersByLane,
    /// Requests that a key may make.
    pub rate_per_second: NonZeroU32,
    /// Whose word is taken for who looks at the console.
    pub proxy: ProxySettings,
    /// Networks to which webhooks may go although they are not public.
    pub networks: Networks,
    /// How long the head of a request may take to arrive, and then its body.
    pub patience: Duration,
    /// Who may tell of shipments without a key.
    pub shipment_sources: Vec<Source>,
}

/// What requests are answered from.
#[derive(Debug)]
pub struct Office {
    /// For looking.
    pub outbox: Outbox,
    /// For acts, which may take longer.
    pub acts: Outbox,
    /// What the provider of each account can do.
    pub abilities: AbilitiesByLane,
    /// What asks them for people.
    pub(super) inquiry: Inquiry,
    /// Who waits for events.
    pub news: News,
    /// Cancelled when the server drains: who waits for news is answered at once.
    pub draining: CancellationToken,
    begins: Mutex<()>,
    /// Networks to which webhooks may go although they are not public.
    pub networks: Networks,
    pub(super) limiter: Limiter,
    pub(super) failures: Failures,
    pub(super) proxy: ProxySettings,
    pub(super) patience: Duration,
    pub(super) shipment_sources: Vec<Source>,
    pub(super) shipment_requests: RequestCounts,
}

impl Office {
    /// Opens it; connects when it is first asked.
    pub fn open(settings: &OfficeSettings, draining: CancellationToken) -> Result<Office, OutboxError> {
        let pool = |connections, longest| {
            Outbox::connect_lazily(&ConnectSettings {
                max_connections: connections,
                acquire_timeout: CONNECTION_WAIT,
                statement_timeout: Some(longest),
                ..settings.connect.clone()
            })
        };
        Ok(Office {
            outbox: pool(LOOKS, LONGEST_LOOK)?,
            acts: pool(ACTS, LONGEST_ACT)?,
            abilities: settings.abilities.clone(),
            inquiry: Inquiry::new(settings.providers.clone()),
            news: News::new(),
            draining,
            begins: Mutex::new(()),
            networks: settings.networks.clone(),
            limiter: Limiter::new(settings.rate_per_second),
            failures: Failures::new(),
            proxy: settings.proxy.clone(),
            patience: settings.patience,
            shipment_sources: settings.shipment_sources.clone(),
            shipment_requests: RequestCounts::default(),
        })
    }

    /// Begins an operation. One at a time: to freeze a long list takes a connection for a while, and other acts need one too.
    pub async fn begin(&self, request: operations::Request) -> Result<Uuid, OperationError> {
        let _turn = self.begins.lock().await;
        operations::begin(&self.acts, request).await
    }

    /// What goes on beside the requests; ends when the server drains.
    pub async fn work(&self) {
        let news = self.news.watch(&self.outbox);
        tokio::select! {
            () = news => {}
            () = self.run_operations() => {}
            () = self.count_requests() => {}
            () = self.draining.cancelled() => {}
        }
    }

    /// Writes what was counted, every few seconds.
    async fn count_requests(&self) {
        loop {
            tokio::time::sleep(COUNTING).await;
            self.shipment_requests.write(&self.acts).await;
        }
    }

    /// Works off what is due of operations, round after round. A round that is dropped loses nothing: its steps are
    /// transactions.
    async fn run_operations(&self) {
        let mut told = false;
        loop {
            let pause = match operations::run_due(&self.acts, &self.abilities).await {
                Ok(ran) => {
                    told = false;
                    ran.again_in.unwrap_or(NEXT_ROUND).min(NEXT_ROUND)
                }
                Err(error) => {
                    if !told {
                        tracing::warn!(error = %error, "operations cannot be worked on; trying again");
                    }
                    told = true;
                    NEXT_ROUND
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Writes what was counted last, and closes the connections to the database.
    pub async fn close(&self) {
        self.shipment_requests.write(&self.acts).await;
        self.outbox.close().await;
        self.acts.close().await;
    }
}

/// Everything that is served, in one router.
pub fn router(office: Arc<Office>) -> Router {
    openapi::routes().with_state(office)
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct ApiServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl ApiServer {
    /// Takes the port; 0 takes a free one.
    pub async fn bind(listen: SocketAddr) -> io::Result<ApiServer> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(ApiServer { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the office drains, then finishes what is in flight.
    pub async fn run(self, office: Arc<Office>) {
        let beside = tokio::spawn({
            let office = Arc::clone(&office);
            async move { office.work().await }
        });
        let limits = Limits {
            clients: MOST_CLIENTS,
            patience: office.patience,
            life: CONNECTION_LIFE,
            last_requests: LAST_REQUESTS,
        };
        connections::answer(self.listener, router(Arc::clone(&office)), limits, &office.draining).await;
        let _ = beside.await;
        office.close().await;
    }
}

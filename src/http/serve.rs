//! `capture serve`: the office that requests are answered from, and the server around it.
//!
//! At most five connections to the database, whatever comes in: three for looking, whose statements end after two
//! seconds, and two for acts. A database that goes away is answered with 503 until it is back; the process stays.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caller::Limiter;
use super::console::{Peer, ProxySettings};
use super::news::News;
use super::openapi;
use super::request_counts::RequestCounts;
use crate::operations::{self, AbilitiesByLane};
use crate::outbox::{ConnectSettings, Outbox, OutboxError};
use crate::shipment::Source;

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

/// How long a request may go on after its connection, or the server, is to end: longer than the longest act.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Clients at once; others wait in the listener's queue.
const MOST_CLIENTS: usize = 512;

/// How the office is set.
#[derive(Debug, Clone)]
pub struct OfficeSettings {
    /// The database. The numbers of connections and the time-outs in it are not looked at.
    pub connect: ConnectSettings,
    /// What the provider of each account can do, by which dead letters are judged.
    pub abilities: AbilitiesByLane,
    /// Requests that a key may make.
    pub rate_per_second: NonZeroU32,
    /// Whose word is taken for who looks at the console.
    pub proxy: ProxySettings,
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
    /// Who waits for events.
    pub news: News,
    /// Cancelled when the server drains: who waits for news is answered at once.
    pub draining: CancellationToken,
    pub(super) limiter: Limiter,
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
            news: News::new(),
            draining,
            limiter: Limiter::new(settings.rate_per_second),
            proxy: settings.proxy.clone(),
            patience: settings.patience,
            shipment_sources: settings.shipment_sources.clone(),
            shipment_requests: RequestCounts::default(),
        })
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
        let draining = office.draining.clone();
        let beside = tokio::spawn({
            let office = Arc::clone(&office);
            async move { office.work().await }
        });
        let service = TowerToHyperService::new(router(Arc::clone(&office)));
        let clients = Arc::new(Semaphore::new(MOST_CLIENTS));
        let connections = TaskTracker::new();
        loop {
            let (client, address, room) = tokio::select! {
                accepted = self.accept(&clients) => accepted,
                () = draining.cancelled() => break,
            };
            let (service, draining, patience) = (service.clone(), draining.clone(), office.patience);
            let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(Peer(address));
                service.call(request)
            });
            connections.spawn(async move {
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(patience);
                let serving = server.serve_connection(TokioIo::new(client), service);
                let mut serving = pin!(serving);
                tokio::select! {
                    // Broken connections are the clients' matter.
                    _ = serving.as_mut() => return drop(room),
                    () = draining.cancelled() => (),
                    () = tokio::time::sleep(CONNECTION_LIFE) => (),
                }
                serving.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(LAST_REQUESTS, serving).await;
                drop(room);
            });
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
        let _ = beside.await;
        office.close().await;
    }

    async fn accept(&self, clients: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let Ok(room) = Arc::clone(clients).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((client, address)) => {
                    let _ = client.set_nodelay(true);
                    return (client, address, room);
                }
                Err(error) => {
                    // Too many open files, mostly; those in use are given back.
                    tracing::warn!(error = %error, "a client could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

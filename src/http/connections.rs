//! Connections, of whatever server: how many at once, how long each may take its time, and how they end. Nobody who only
//! holds on takes the room, or the open files, of those who ask.

use std::net::SocketAddr;
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

use super::console::Peer;

/// What clients are held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Clients at once; others wait in the listener's queue.
    pub clients: usize,
    /// How long the head of a request may take to arrive; also how long an idle connection is kept.
    pub patience: Duration,
    /// After how long a client is asked to connect anew: nobody holds a connection for ever.
    pub life: Duration,
    /// How long a request may go on after its connection, or the server, is to end.
    pub last_requests: Duration,
}

/// Answers until `ending`; then gives the port back and finishes what is in flight.
pub async fn answer(listener: TcpListener, router: Router, limits: Limits, ending: &CancellationToken) {
    let service = TowerToHyperService::new(router);
    let clients = Arc::new(Semaphore::new(limits.clients));
    let connections = TaskTracker::new();
    loop {
        let (client, address, room) = tokio::select! {
            accepted = accept(&listener, &clients) => accepted,
            () = ending.cancelled() => break,
        };
        let (service, ending) = (service.clone(), ending.clone());
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(address));
            service.call(request)
        });
        connections.spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(limits.patience);
            let serving = server.serve_connection(TokioIo::new(client), service);
            let mut serving = pin!(serving);
            tokio::select! {
                // Broken connections are the clients' matter.
                _ = serving.as_mut() => return drop(room),
                () = ending.cancelled() => (),
                () = tokio::time::sleep(limits.life) => (),
            }
            serving.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(limits.last_requests, serving).await;
            drop(room);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(listener: &TcpListener, clients: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let Ok(room) = Arc::clone(clients).acquire_owned().await else {
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
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

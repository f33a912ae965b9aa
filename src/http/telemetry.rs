//! What a running process tells about itself over HTTP: `/metrics`, `/health/live`, `/health/ready`.
//!
//! For machines inside the deployment; it shows amounts and accounts, so it does not listen unless told to. Nothing is
//! read from a request but its path. Every question to the process has a time limit, because a probe that hangs is taken
//! for a dead process just when it is busiest.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::connections::{self, Limits};
use crate::metrics::{BacklogGauges, Metrics};

/// How long readiness may take: 2 s. Orchestrators ask every few seconds and give up after one to three.
const READY_WAIT: Duration = Duration::from_secs(2);

/// How long reading the backlog may take: 5 s. Half of the time that Prometheus gives a scrape by default.
const BACKLOG_WAIT: Duration = Duration::from_secs(5);

/// For how long a backlog is told again instead of being read anew: 5 s. Several scrapers cost one read.
const BACKLOG_AGE: Duration = Duration::from_secs(5);

/// How often histograms are folded while nobody scrapes: 10 s.
const UPKEEP: Duration = Duration::from_secs(10);

/// How long open requests may go on after the shutdown: 2 s.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// What probes and scrapers are held to. They share the worker's open files, which are for the database and the providers: 64
/// connections at most. Whoever says nothing is hung up on after 2 s, so that those behind it are answered before a scrape
/// gives up.
const LIMITS: Limits = Limits {
    clients: 64,
    patience: Duration::from_secs(2),
    life: Duration::from_secs(300),
    last_requests: LAST_REQUESTS,
};

/// May this process be given work?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// No: what is in the way. Shown to whoever asks, so no secret in it.
    NotReady {
        /// Reads alone, such as `the database cannot be reached`.
        reason: String,
    },
}

/// What the server asks the process.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// May it be given work? Should look at what work needs: the database, its schema, not draining.
    async fn ready(&self) -> Readiness;

    /// What the database says about the lanes; `None` if it cannot be asked. May be dropped half-way, so it only reads.
    async fn backlog(&self) -> Option<BacklogGauges>;
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct TelemetryServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl TelemetryServer {
    /// Takes the port; 0 takes a free one.
    pub async fn bind(listen: SocketAddr) -> io::Result<TelemetryServer> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(TelemetryServer { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`. Cancel that after the drain, not before: a draining process is live, not ready, and its
    /// metrics are wanted most.
    pub async fn run(self, metrics: Metrics, probe: Arc<dyn Probe>, shutdown: CancellationToken) -> io::Result<()> {
        let upkeep = {
            let metrics = metrics.clone();
            async move {
                let mut tick = tokio::time::interval(UPKEEP);
                loop {
                    tick.tick().await;
                    metrics.upkeep();
                }
            }
        };
        let asked = Arc::new(Asked {
            metrics,
            probe,
            backlog: Mutex::new(None),
        });
        tokio::select! {
            () = connections::answer(self.listener, routes(asked), LIMITS, &shutdown) => Ok(()),
            () = upkeep => Ok(()),
        }
    }
}

struct Asked {
    metrics: Metrics,
    probe: Arc<dyn Probe>,
    /// The last backlog and when it was read. The lock is held while it is read: one reader at a time.
    backlog: Mutex<Option<(Instant, BacklogGauges)>>,
}

fn routes(asked: Arc<Asked>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .fallback(nothing_here)
        .with_state(asked)
}

async fn metrics(State(asked): State<Arc<Asked>>) -> Response {
    let backlog = tokio::time::timeout(BACKLOG_WAIT, asked.backlog()).await.ok().flatten();
    let text = asked.metrics.render(backlog.as_ref());
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

impl Asked {
    async fn backlog(&self) -> Option<BacklogGauges> {
        let mut last = self.backlog.lock().await;
        if let Some((read_at, backlog)) = last.as_ref()
            && read_at.elapsed() < BACKLOG_AGE
        {
            return Some(backlog.clone());
        }
        // What cannot be read is not told again from memory: a stale backlog looks like a calm one.
        *last = None;
        let backlog = self.probe.backlog().await?;
        *last = Some((Instant::now(), backlog.clone()));
        Some(backlog)
    }
}

/// That this is answered at all says that the runtime turns.
async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

async fn ready(State(asked): State<Arc<Asked>>) -> Response {
    let readiness = tokio::time::timeout(READY_WAIT, asked.probe.ready()).await;
    match readiness {
        Ok(Readiness::Ready) => Json(json!({ "ready": true })).into_response(),
        Ok(Readiness::NotReady { reason }) => not_ready(&reason),
        Err(_) => not_ready(&format!("the check took longer than {} s", READY_WAIT.as_secs())),
    }
}

fn not_ready(reason: &str) -> Response {
    let body = Json(json!({ "ready": false, "reason": reason }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn nothing_here() -> Response {
    let told = "there is /metrics, /health/live and /health/ready\n";
    (StatusCode::NOT_FOUND, told).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    #[derive(Default)]
    struct Process {
        ready: AtomicBool,
        stuck: AtomicBool,
        gone: AtomicBool,
        reads: AtomicU32,
    }

    #[async_trait]
    impl Probe for Process {
        async fn ready(&self) -> Readiness {
            if self.stuck.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            match self.ready.load(Ordering::SeqCst) {
                true => Readiness::Ready,
                false => Readiness::NotReady {
                    reason: "the schema is \"older\"".to_owned(),
                },
            }
        }

        async fn backlog(&self) -> Option<BacklogGauges> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let gone = self.gone.load(Ordering::SeqCst);
            (!gone).then(|| BacklogGauges {
                workers: 3,
                ..BacklogGauges::default()
            })
        }
    }

    async fn started(
        process: Arc<Process>,
    ) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<io::Result<()>>) {
        let server = TelemetryServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.address();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server.run(Metrics::unheard().unwrap(), process, shutdown.clone()));
        (address, shutdown, running)
    }

    async fn asked(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    #[tokio::test]
    async fn a_process_is_live_while_it_is_not_ready_and_says_why() {
        let process = Arc::new(Process::default());
        let (address, _shutdown, _running) = started(Arc::clone(&process)).await;
        assert_ne!(address.port(), 0);
        let (status, body) = asked(address, "GET", "/health/ready").await;
        assert_eq!(status, 503);
        assert!(
            body.ends_with(r#"{"ready":false,"reason":"the schema is \"older\""}"#),
            "{body}"
        );
        assert_eq!(asked(address, "GET", "/health/live").await.0, 200);
        process.ready.store(true, Ordering::SeqCst);
        let (status, body) = asked(address, "GET", "/health/ready").await;
        assert_eq!(status, 200);
        assert!(body.ends_with(r#"{"ready":true}"#), "{body}");
    }

    #[tokio::test]
    async fn a_check_that_hangs_is_an_answer_too() {
        let process = Arc::new(Process::default());
        process.stuck.store(true, Ordering::SeqCst);
        let (address, _shutdown, _running) = started(process).await;
        let (status, body) = asked(address, "GET", "/health/ready").await;
        assert_eq!(status, 503);
        assert!(body.contains("the check took longer than 2 s"), "{body}");
    }

    #[tokio::test]
    async fn several_scrapers_cost_one_read_of_the_backlog() {
        let process = Arc::new(Process::default());
        let (address, _shutdown, _running) = started(Arc::clone(&process)).await;
        for _ in 0..3 {
            let (status, body) = asked(address, "GET", "/metrics").await;
            assert_eq!(status, 200);
            assert!(body.contains("content-type: text/plain; version=0.0.4"), "{body}");
            assert!(body.contains("\ncapture_workers 3\n"), "{body}");
        }
        assert_eq!(process.reads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn metrics_are_told_without_a_database_too() {
        let process = Arc::new(Process::default());
        process.gone.store(true, Ordering::SeqCst);
        let (address, _shutdown, _running) = started(process).await;
        let (status, body) = asked(address, "GET", "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("\ncapture_database_up 0\n"), "{body}");
    }

    #[tokio::test]
    async fn nothing_else_is_there_and_nothing_is_taken() {
        let (address, _shutdown, _running) = started(Arc::new(Process::default())).await;
        assert_eq!(asked(address, "GET", "/").await.0, 404);
        assert_eq!(asked(address, "POST", "/metrics").await.0, 405);
    }

    #[tokio::test]
    async fn a_hundred_who_connect_and_say_nothing_keep_nobody_from_an_answer() {
        let (address, _shutdown, _running) = started(Arc::new(Process::default())).await;
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let told = tokio::time::timeout(Duration::from_secs(10), asked(address, "GET", "/metrics")).await;
        assert_eq!(told.unwrap().0, 200);
        // And they are let go: they do not hold the process's open files.
        for mut held in silent {
            let ended = tokio::time::timeout(Duration::from_secs(10), held.read(&mut [0; 64])).await;
            assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
        }
    }

    #[tokio::test]
    async fn the_server_ends_with_its_token_even_if_a_client_keeps_its_connection() {
        let (address, shutdown, running) = started(Arc::new(Process::default())).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /metr").await.unwrap();
        shutdown.cancel();
        let ended = tokio::time::timeout(LAST_REQUESTS * 3, running).await;
        assert!(ended.unwrap().unwrap().is_ok());
        assert!(TcpStream::connect(address).await.is_err());
    }
}

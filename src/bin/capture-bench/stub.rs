//! A provider over HTTP that answers every capture as captured, after a time that its path says: `/after-20/v2/payments/…`
//! takes 20 ms. It speaks Afterpay's form, keeps nothing but times, and is as cheap as can be: it shares the
//! machine with what is measured.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::child::micros;

/// No head of ours is longer.
const HEAD_LIMIT: usize = 8 * 1024;

#[derive(Debug, Default)]
struct Seen {
    requests: AtomicU64,
    answered: AtomicU64,
    /// When the first and the last request came, and the last answer went; microseconds.
    first: AtomicI64,
    last_answer: AtomicI64,
    visits: Mutex<HashMap<Uuid, Visit>>,
}

/// A capture's first request; microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// It has been read.
    pub arrived: i64,
    /// Its answer is about to go; at first the same.
    pub answered: i64,
}

/// A running stub; it ends when dropped.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stub {
    pub async fn start() -> anyhow::Result<Stub> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let accepting = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let seen = Arc::clone(&shared);
                tokio::spawn(async move {
                    // A connection that breaks is the caller's to tell.
                    let _broken = serve(connection, &seen).await;
                });
            }
        });
        Ok(Stub {
            address,
            seen,
            accepting,
        })
    }

    /// The base URL of a provider that takes so long.
    pub fn url(&self, delay: Duration) -> String {
        format!("http://{}/after-{}", self.address, delay.as_millis())
    }

    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// When the first request came (0: none did) and the last answer went.
    pub fn span(&self) -> (i64, i64) {
        let first = self.seen.first.load(Ordering::Relaxed);
        (first, self.seen.last_answer.load(Ordering::Relaxed))
    }

    /// When each capture came and was answered, by its reference: taken, so that the next round begins with none.
    pub fn take_visits(&self) -> HashMap<Uuid, Visit> {
        std::mem::take(&mut *self.seen.visits())
    }
}

impl Seen {
    fn visits(&self) -> MutexGuard<'_, HashMap<Uuid, Visit>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(mut connection: TcpStream, seen: &Seen) -> anyhow::Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(2048);
    loop {
        let Some(request) = read(&mut connection, &mut buffer).await? else {
            return Ok(());
        };
        let arrived = micros();
        seen.requests.fetch_add(1, Ordering::Relaxed);
        let _first = seen
            .first
            .compare_exchange(0, arrived, Ordering::Relaxed, Ordering::Relaxed);
        let reference = request.body.payment_event_merchant_reference;
        let first = match seen.visits().entry(reference) {
            Entry::Vacant(place) => {
                place.insert(Visit {
                    arrived,
                    answered: arrived,
                });
                true
            }
            Entry::Occupied(_) => false,
        };
        if !request.delay.is_zero() {
            tokio::time::sleep(request.delay).await;
        }
        if first && let Some(visit) = seen.visits().get_mut(&reference) {
            visit.answered = micros();
        }
        connection.write_all(request.answer().as_bytes()).await?;
        seen.answered.fetch_add(1, Ordering::Relaxed);
        seen.last_answer.fetch_max(micros(), Ordering::Relaxed);
    }
}

struct Request {
    delay: Duration,
    payment: String,
    body: Body,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    amount: Amount,
    payment_event_merchant_reference: Uuid,
}

#[derive(Debug, Deserialize)]
struct Amount {
    amount: String,
    currency: String,
}

impl Request {
    fn answer(&self) -> String {
        let (payment, reference) = (&self.payment, self.body.payment_event_merchant_reference);
        let Amount { amount, currency } = &self.body.amount;
        let body = format!(
            "{{\"id\":\"{payment}\",\"status\":\"APPROVED\",\"paymentState\":\"CAPTURED\",\"events\":[{{\"id\":\"e{payment}\",\
             \"created\":\"2026-01-01T00:00:00Z\",\"type\":\"CAPTURED\",\"amount\":{{\"amount\":\"{amount}\",\"currency\":\"{currency}\"}},\
             \"paymentEventMerchantReference\":\"{reference}\"}}]}}"
        );
        format!(
            "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// The next request on a connection; `None` if the caller has hung up between two.
async fn read(connection: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<Option<Request>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(length) = head.parse(buffer)? {
            let path = head.path.context("no path")?;
            let mut segments = path.trim_start_matches('/').split('/');
            let delay = segments
                .next()
                .and_then(|first| first.strip_prefix("after-")?.parse().ok());
            let payment = segments.nth(2).unwrap_or_default().to_owned();
            let body = head
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let body: usize = std::str::from_utf8(body.context("no length")?.value)?.parse()?;
            let end = length + body;
            while buffer.len() < end {
                if connection.read_buf(buffer).await? == 0 {
                    bail!("cut in the body");
                }
            }
            let request = Request {
                delay: Duration::from_millis(delay.context("the path says no delay")?),
                payment,
                body: serde_json::from_slice(buffer.get(length..end).unwrap_or_default())?,
            };
            buffer.drain(..end);
            return Ok(Some(request));
        }
        if buffer.len() > HEAD_LIMIT {
            bail!("the head is too long");
        }
        if connection.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

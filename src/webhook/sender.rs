//! The wire of webhooks: beside `provider/transport.rs` the only place that knows the HTTP client. No redirects, no proxies,
//! no retries of the client's own, addresses looked at (`address.rs`), the answer read to a bound, and a time for all of it.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, redirect, retry};
use tokio::time::{Instant, timeout_at};

use super::Settings;
use super::address::{AddressFault, Names, Networks, resolve};
use super::attempt::Answer;
use super::message::Message;

/// So much of an answer is read, so that its connection can be used again; the rest is not worth it.
const BODY_LIMIT: usize = 16 * 1024;

/// How long a connection may idle before it is thrown away.
const IDLE: Duration = Duration::from_secs(20);

/// One process' way to all endpoints.
#[derive(Clone)]
pub struct Sender {
    client: Client,
    networks: Networks,
    timeout: Duration,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client of webhooks cannot be built: {0} (are there root certificates? SSL_CERT_FILE names others)")]
pub struct SenderError(#[from] reqwest::Error);

struct Guard {
    names: Arc<dyn Names>,
    networks: Networks,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, networks) = (Arc::clone(&self.names), self.networks.clone());
        Box::pin(async move {
            let found = resolve(&names, &networks, name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Sender {
    /// With these settings, and these names.
    pub fn new(settings: &Settings, names: Arc<dyn Names>) -> Result<Sender, SenderError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _lost_a_race = rustls::crypto::ring::default_provider().install_default();
        }
        let guard = Guard {
            names,
            networks: settings.networks.clone(),
        };
        let client = Client::builder()
            .user_agent(concat!("capture/", env!("CARGO_PKG_VERSION"), " webhooks"))
            .dns_resolver(Arc::new(guard))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            // One message, one connection: none waits behind another one in the same.
            .http1_only()
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.per_endpoint as usize)
            .build()?;
        Ok(Sender {
            client,
            networks: settings.networks.clone(),
            timeout: settings.timeout,
        })
    }

    /// Sends a message once.
    pub async fn send(&self, url: &str, message: Message) -> Answer {
        let deadline = Instant::now() + self.timeout;
        let Ok(url) = self.networks.check_url(url) else {
            return Answer::Forbidden;
        };
        let Some(headers) = headers(&message) else {
            return Answer::Unsendable;
        };
        let request = self.client.post(url).headers(headers).body(message.body).send();
        match timeout_at(deadline, request).await {
            Err(_) => Answer::Timeout,
            Ok(Err(error)) => answer_of(&error),
            Ok(Ok(response)) => {
                let answer = Answer::Status {
                    status: response.status().as_u16(),
                    retry_after: retry_after(response.headers(), Utc::now()),
                };
                // What it is has been told by its status; a body that hangs changes nothing about that.
                let _ = timeout_at(deadline, read(response)).await;
                answer
            }
        }
    }
}

fn headers(message: &Message) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &message.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
    }
    Some(headers)
}

async fn read(mut response: Response) {
    let mut left = BODY_LIMIT;
    while let Ok(Some(piece)) = response.chunk().await {
        match left.checked_sub(piece.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.with_timezone(&Utc) - now).to_std().unwrap_or(Duration::ZERO))
}

fn answer_of(error: &reqwest::Error) -> Answer {
    if error.is_timeout() {
        return Answer::Timeout;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(fault) = error.downcast_ref::<AddressFault>() {
            return match fault {
                AddressFault::NoAddress => Answer::Unreachable,
                AddressFault::NotAUrl
                | AddressFault::Unprotected
                | AddressFault::Credentials
                | AddressFault::Fragment
                | AddressFault::Forbidden { .. } => Answer::Forbidden,
            };
        }
        cause = error.source();
    }
    Answer::Unreachable
}

//! The wire. The only place that knows the HTTP client.
//!
//! A capture is put on the wire at most once. Nothing here repeats a request: the client's own retries are off, a
//! redirect is an answer like any other, and the body of a capture stands behind a [`Gate`] that opens once. (The pool
//! may still choose another connection for a request that it had not begun to write; that is one request on the wire.)
//!
//! When a call breaks, the gate says whether the body can have left. If it never opened, nothing was sent, whatever the
//! client's error looks like. If it opened, the outcome is unknown, whatever the error looks like. The error's own story,
//! read from its types and never from its text, only gives the failure its code.
//!
//! Time: `connect_timeout` for name, TCP and TLS, and before them as long for a place among the captures that wait for a
//! connection; for a capture `read_timeout` from the moment its body left until the
//! head of the answer; `read_timeout` between any two pieces of a body; and the two together as the deadline of the whole
//! call, so that an answer that trickles cannot outlast a lease. Afterpay documents 10 s and 70 s; the others document nothing.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Url, redirect, retry};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{Answer, Headers};
use super::breakage::{Break, Cause, Sent};
use super::gate::{Gate, GatedBody, Passed, Place};
use super::json::unbuildable;
use crate::clock::SendGuard;
use crate::outcome::{Failure, Outcome};

/// The most that is read of an answer: a payment with a hundred events is a tenth of it.
pub(super) const BODY_LIMIT: usize = 256 * 1024;

/// How long a connection may idle before it is thrown away. The shortest idle time that servers commonly have is the
/// 5 s of Node.js; a connection that we drop first is never found dead with a capture on it.
const IDLE: Duration = Duration::from_secs(4);

/// How many captures of an account may wait for a connection at once. The pool dials for each that finds none idle, also
/// where one comes back meanwhile, and keeps both: five hundred captures at once had made seven hundred connections, of
/// 35 KB each, and as many handshakes within an instant.
const DIALS: usize = 64;

/// An `https` address, or an `http` one of this very machine.
#[derive(Debug, Clone)]
pub(super) struct Address(Url);

/// Why a text is no address to send credentials to. Does not repeat the text: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an absolute URL.
    #[error("is not a URL like https://host/path")]
    NotAUrl,
    /// Neither https nor http.
    #[error("must begin with https://, or with http:// if it is a loopback address")]
    Unprotected,
    /// A user, password, query or fragment.
    #[error("must have no user, password, query or fragment in it")]
    Overloaded,
}

impl Address {
    /// Reads a base address. A slash at its end makes no difference.
    pub(super) fn parse(text: &str) -> Result<Address, AddressError> {
        let mut url = Url::parse(text.trim()).map_err(|_| AddressError::NotAUrl)?;
        let host = url.host_str().ok_or(AddressError::NotAUrl)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(AddressError::Unprotected),
        }
        let plain = url.username().is_empty() && url.password().is_none();
        if !plain || url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::Overloaded);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Address(url))
    }

    /// The address of a resource below this one. Each segment is escaped as a whole, so that an id can neither leave its
    /// place nor bring a query; an id that cannot be written as one segment (empty, `.`, `..`) has no address.
    pub(super) fn of(&self, segments: &[&str]) -> Result<Address, Failure> {
        let mut path = self.0.path().trim_end_matches('/').to_owned();
        for segment in segments {
            if !is_segment(segment) {
                return Err(unbuildable());
            }
            path.push('/');
            path.extend(percent_encoding::utf8_percent_encode(segment, SEGMENT));
        }
        let mut url = self.0.clone();
        url.set_path(&path);
        Ok(Address(url))
    }

    /// Host and port, for the record of an attempt.
    pub(super) fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

const SEGMENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Can this text stand as one segment of a path? `.` and `..` cannot, not even escaped: every reader resolves them.
pub(super) fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
}

/// The body of a request.
#[derive(Clone)]
pub(super) enum Payload {
    None,
    Json(Vec<u8>),
    Form(Vec<u8>),
}

/// A request, ready to be sent.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) address: Address,
    /// The whole value of the `Authorization` header.
    pub(super) authorization: Option<&'a SecretString>,
    pub(super) headers: &'a [(&'static str, String)],
    pub(super) payload: Payload,
}

/// What the wire of an account needs to know.
pub(super) struct Settings {
    pub(super) user_agent: String,
    /// Keep connections? Never where a repeat would move money again.
    pub(super) pooled: bool,
    pub(super) connect_timeout: Duration,
    pub(super) read_timeout: Duration,
}

/// One account's way to its provider.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: Client,
    connect_timeout: Duration,
    read_timeout: Duration,
    /// Places for captures that wait for a connection; none are counted where no connection is kept.
    places: Option<Arc<Semaphore>>,
}

impl Transport {
    /// `None` if the user agent cannot be a header, or this machine has no root certificates.
    pub(super) fn new(settings: Settings) -> Option<Transport> {
        // The client has no cryptography of its own and panics without any. Whoever started us may have chosen one.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _lost_a_race = rustls::crypto::ring::default_provider().install_default();
        }
        let user_agent = HeaderValue::from_str(&settings.user_agent).ok()?;
        let client = Client::builder()
            .user_agent(user_agent)
            .redirect(if planted!(redirects_followed) {
                redirect::Policy::limited(5)
            } else {
                redirect::Policy::none()
            })
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(if settings.pooled { usize::MAX } else { 0 })
            .build()
            .ok()?;
        Some(Transport {
            client,
            connect_timeout: settings.connect_timeout,
            read_timeout: settings.read_timeout,
            places: settings.pooled.then(|| Arc::new(Semaphore::new(DIALS))),
        })
    }

    /// When a call that begins now has to be over, with everything that it does.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.connect_timeout + self.read_timeout
    }

    /// A place among those that wait for a connection, within `connect_timeout`.
    pub(super) async fn place(&self) -> Result<Place, Failure> {
        let Some(places) = &self.places else {
            return Ok(None);
        };
        match timeout(self.connect_timeout, places.clone().acquire_owned()).await {
            // (Nobody closes it.)
            Ok(place) => Ok(place.ok()),
            Err(_) => Err(Break::new(Cause::ConnectTimeout).failure(Sent::Nothing)),
        }
    }

    /// Sends a request that moves no money: a read, a marker, a token.
    pub(super) async fn ask(&self, request: Request<'_>, deadline: Instant) -> Result<Answer, Failure> {
        let body = match &request.payload {
            Payload::None => None,
            Payload::Json(bytes) | Payload::Form(bytes) => Some(reqwest::Body::from(bytes.clone())),
        };
        let told = self.exchange(&request, body, None, deadline).await;
        told.map_err(|break_| break_.failure(Sent::NoMoney))
    }

    /// Sends a capture, once, if the guard allows it now and still allows it when the connection stands.
    pub(super) async fn capture(
        &self,
        request: Request<'_>,
        guard: SendGuard,
        deadline: Instant,
        place: Place,
    ) -> Result<Answer, Outcome> {
        if !guard.may_send() {
            return Err(Outcome::NotSent);
        }
        let gate = Gate::new(guard);
        let body = match &request.payload {
            Payload::None => return Err(Outcome::Failed(unbuildable())),
            Payload::Json(bytes) | Payload::Form(bytes) => Bytes::copy_from_slice(bytes),
        };
        let body = reqwest::Body::wrap(GatedBody::new(body, gate.clone(), place));
        let told = self.exchange(&request, Some(body), Some(&gate), deadline).await;
        told.map_err(|break_| match gate.lock() {
            Passed::LeaseLapsed => Outcome::NotSent,
            Passed::Body(_) if planted!(broken_send_taken_for_unsent) => Outcome::Failed(break_.failure(Sent::Nothing)),
            Passed::NotYet | Passed::Withdrawn => Outcome::Failed(break_.failure(Sent::Nothing)),
            Passed::Body(_) => Outcome::Failed(break_.failure(Sent::Perhaps)),
        })
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        body: Option<reqwest::Body>,
        gate: Option<&Gate>,
        deadline: Instant,
    ) -> Result<Answer, Break> {
        let built = self.build(request, body).ok_or(Break::new(Cause::Unbuildable))?;
        let mut response = self.head(built, gate, deadline).await?;
        let status = response.status().as_u16();
        let broken = |cause| Break {
            cause,
            status: Some(status),
        };
        let headers = kept(response.headers());
        let mut body = Vec::new();
        loop {
            let patience = deadline.min(Instant::now() + self.read_timeout);
            match timeout_at(patience, response.chunk()).await {
                Err(_) => return Err(broken(Cause::Timeout)),
                Ok(Err(_)) if planted!(cut_answer_believed) => break,
                Ok(Err(_)) => return Err(broken(Cause::Truncated)),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(piece))) if body.len() + piece.len() > BODY_LIMIT => return Err(broken(Cause::TooLarge)),
                Ok(Ok(Some(piece))) => body.extend_from_slice(&piece),
            }
        }
        Ok(Answer {
            status,
            headers,
            body,
            new_token: false,
        })
    }

    /// Waits for the head of the answer: until the deadline, and no longer than `read_timeout` after the body left.
    async fn head(
        &self,
        built: reqwest::Request,
        gate: Option<&Gate>,
        deadline: Instant,
    ) -> Result<reqwest::Response, Break> {
        let mut answer = std::pin::pin!(self.client.execute(built));
        let mut patience = match gate {
            Some(_) => deadline.min(Instant::now() + self.read_timeout),
            None => deadline,
        };
        loop {
            match timeout_at(patience, answer.as_mut()).await {
                Ok(told) => return told.map_err(|error| Break::new(cause_of(&error))),
                Err(_) if patience >= deadline => return Err(Break::new(Cause::Timeout)),
                Err(_) => {}
            }
            let extended = match gate.map(Gate::passed) {
                Some(Passed::Body(left_at)) => deadline.min(left_at + self.read_timeout),
                Some(Passed::NotYet | Passed::LeaseLapsed | Passed::Withdrawn) | None => deadline,
            };
            if extended <= patience {
                return Err(Break::new(Cause::Timeout));
            }
            patience = extended;
        }
    }

    fn build(&self, request: &Request<'_>, body: Option<reqwest::Body>) -> Option<reqwest::Request> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let mut builder = self.client.request(method, request.address.0.clone());
        builder = builder.header(ACCEPT, "application/json");
        if let Some(secret) = request.authorization {
            let mut value = HeaderValue::from_str(secret.expose_secret()).ok()?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        for (name, value) in request.headers {
            builder = builder.header(*name, value);
        }
        builder = match request.payload {
            Payload::None => builder,
            Payload::Json(_) => builder.header(CONTENT_TYPE, "application/json"),
            Payload::Form(_) => builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded"),
        };
        if let Some(body) = body {
            builder = builder.body(body);
        }
        builder.build().ok()
    }
}

fn kept(headers: &HeaderMap) -> Headers {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    Headers {
        content_type: text("content-type"),
        date: text("date"),
        retry_after: text("retry-after"),
        ratelimit_reset: text("x-ratelimit-reset"),
        ratelimit_remaining: text("x-ratelimit-remaining"),
        correlation_id: text("http-correlation-id"),
        cf_ray: text("cf-ray"),
    }
}

/// Reads the story of an error from the types in its chain. A connect time-out is both a connect error and a time-out:
/// connect is asked first.
fn cause_of(error: &reqwest::Error) -> Cause {
    if error.is_builder() {
        return Cause::Unbuildable;
    }
    let io = io_error_in(error);
    let kind = io.map(io::Error::kind);
    if error.is_connect() {
        let tls = io
            .and_then(io::Error::get_ref)
            .is_some_and(|inner| inner.is::<rustls::Error>());
        return match kind {
            _ if error.is_dns() => Cause::Dns,
            _ if tls => Cause::Tls,
            _ if error.is_timeout() => Cause::ConnectTimeout,
            Some(io::ErrorKind::ConnectionRefused) => Cause::Refused,
            // TCP connects without reading: an end of file here is the end of a handshake.
            Some(io::ErrorKind::UnexpectedEof) => Cause::Tls,
            Some(_) | None => Cause::ConnectFailed,
        };
    }
    match kind {
        _ if error.is_timeout() => Cause::Timeout,
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Cause::Reset,
        Some(_) | None => Cause::Closed,
    }
}

/// The innermost I/O error of a chain. An I/O error hides what it wraps from the chain, so it is unwrapped by hand.
fn io_error_in(error: &reqwest::Error) -> Option<&io::Error> {
    let mut found = None;
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(mut io) = error.downcast_ref::<io::Error>() {
            while let Some(inner) = io.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()) {
                io = inner;
            }
            found = Some(io);
        }
        next = error.source();
    }
    found
}

#[cfg(test)]
mod tests;

//! Bearer tokens: minted, cached, renewed before their end, dropped when they are refused.
//!
//! One flight per account. Whoever needs a token while one is being minted waits for that flight and shares its end,
//! good or bad, so that a hundred captures with a dead authorisation server make one call, not a hundred in a row.
//! Nothing of a capture has been sent while its token is minted: no failure here is ever ambiguous.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::answer::{Answer, unreadable};
use super::json::{self, Text};
use super::transport::{Address, Method, Payload, Request, Transport};
use crate::clock::Boottime;
use crate::outcome::{Class, Code, Failure};

/// The whole value of an `Authorization` header.
pub(super) type Authorization = Arc<SecretString>;

/// A token is renewed this long before its end, or when a tenth of its life is left, whichever is shorter: longer than
/// any call takes, and short enough for tokens that live for minutes.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// A token for a call.
pub(super) struct Bearer {
    pub(super) authorization: Authorization,
    /// It was minted for this very call. If it is refused, it is not because it is old.
    pub(super) new: bool,
}

/// How a provider wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// Optty: the OAuth form `client_id, client_secret, grant_type=client_credentials, scope=api-user` (documentation).
    Form,
    /// Resolve: `POST /access-keys/token` with `{client_id, client_secret}` and no other authentication (documentation).
    Json,
}

/// Who asks, and where.
pub(super) struct Client {
    pub(super) grant: Grant,
    pub(super) address: Address,
    pub(super) id: String,
    pub(super) secret: SecretString,
}

/// The tokens of one account.
pub(super) struct Tokens {
    client: Client,
    flights: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// The flight that failed last, and how.
    failed: Option<(u64, Failure)>,
}

pub(super) struct Token {
    authorization: Authorization,
    renew_at: Boottime,
}

impl Tokens {
    pub(super) fn new(client: Client) -> Tokens {
        Tokens {
            client,
            flights: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// A token that is good now, or why there is none.
    pub(super) async fn bearer(&self, transport: &Transport) -> Result<Bearer, Failure> {
        let arrived = self.flights.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        if let Some(token) = state.token.as_ref().filter(|token| Boottime::now() < token.renew_at) {
            return Ok(Bearer {
                authorization: token.authorization.clone(),
                new: false,
            });
        }
        if let Some((_, failure)) = state.failed.as_ref().filter(|(flight, _)| *flight > arrived) {
            return Err(failure.clone());
        }
        let minted = self.mint(transport).await;
        let flight = self.flights.fetch_add(1, Ordering::AcqRel) + 1;
        match minted {
            Ok(token) => {
                let authorization = token.authorization.clone();
                state.token = Some(token);
                Ok(Bearer {
                    authorization,
                    new: true,
                })
            }
            Err(failure) => {
                state.token = None;
                state.failed = Some((flight, failure.clone()));
                Err(failure)
            }
        }
    }

    /// The provider no longer takes this token: the next call mints anew. A newer one stays.
    pub(super) async fn drop_refused(&self, refused: &Authorization) {
        let mut state = self.state.lock().await;
        if state
            .token
            .as_ref()
            .is_some_and(|token| Arc::ptr_eq(&token.authorization, refused))
        {
            state.token = None;
        }
    }

    async fn mint(&self, transport: &Transport) -> Result<Token, Failure> {
        let asked_at = Boottime::now();
        let request = Request {
            method: Method::Post,
            address: self.client.address.clone(),
            authorization: None,
            headers: &[],
            payload: self.client.payload()?,
        };
        let answer = transport.ask(request, transport.deadline()).await;
        let answer = answer.map_err(|failure| failure.with_evidence(json::evidence(&Step { step: "token" })))?;
        read(&answer, asked_at).ok_or_else(|| refusal(&answer))
    }
}

// A token is a secret, and so is what it is minted from.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Client {
    fn payload(&self) -> Result<Payload, Failure> {
        let secret = self.secret.expose_secret();
        match self.grant {
            Grant::Form => {
                let escape = |text: &str| {
                    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
                };
                let form = format!(
                    "client_id={}&client_secret={}&grant_type=client_credentials&scope=api-user",
                    escape(&self.id),
                    escape(secret)
                );
                Ok(Payload::Form(form.into_bytes()))
            }
            Grant::Json => {
                #[derive(Serialize)]
                struct Body<'a> {
                    client_id: &'a str,
                    client_secret: &'a str,
                }
                let body = json::body(&Body {
                    client_id: &self.id,
                    client_secret: secret,
                })?;
                Ok(Payload::Json(body))
            }
        }
    }
}

#[derive(Serialize)]
struct Step {
    step: &'static str,
}

/// Both providers answer `{access_token, expires_in: 86400, token_type}` (documentation). A token that could not stand
/// in a header is none. One that does not tell its life is used for this call only.
pub(super) fn read(answer: &Answer, asked_at: Boottime) -> Option<Token> {
    #[derive(Deserialize)]
    struct Minted {
        access_token: String,
        expires_in: Option<Text>,
    }
    if !matches!(answer.status, 200 | 201) {
        return None;
    }
    let minted: Minted = answer.read()?;
    let token = minted.access_token;
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let seconds = minted
        .expires_in
        .and_then(|life| life.as_str().parse().ok())
        .unwrap_or(0);
    let life = Duration::from_secs(seconds);
    Some(Token {
        authorization: Arc::new(SecretString::from(format!("Bearer {token}"))),
        renew_at: asked_at.plus(life.saturating_sub(RENEW_BEFORE.min(life / 10))),
    })
}

/// Why no token was given. Refused credentials are ours to mend; everything else may pass.
pub(super) fn refusal(answer: &Answer) -> Failure {
    let verdict = match answer.status {
        200 | 201 => (Class::Transient, unreadable(answer)),
        300..=399 => (Class::Misconfigured, Code::new("redirect")),
        400 | 401 | 403 | 404 => (Class::Misconfigured, Code::new("token_refused")),
        429 => (Class::RateLimited, Code::new("token_http_429")),
        status => (Class::Transient, Code::new(&format!("token_http_{status}"))),
    };
    answer.failure(verdict, answer.evidence(&Step { step: "token" }))
}

//! One account's line to its provider: base address, credentials, fixed headers, and the wire.
//!
//! The adapters say what is asked and class what is told. This is what they share: a token is fetched before the
//! capture and dropped when the provider refuses it, and everything that one call does ends by one deadline.

use std::sync::Arc;

use secrecy::SecretString;
use tokio::time::{Instant, timeout_at};

use super::Call;
use super::answer::{Answer, Manner};
use super::token::{Authorization, Bearer, Tokens};
use super::transport::{Address, Method, Payload, Request, Transport};
use crate::outcome::{Class, Failure, Outcome};

/// How an account proves who it is.
#[derive(Debug)]
pub(super) enum Credentials {
    /// The whole header, built once.
    Basic(Arc<SecretString>),
    /// Tokens, minted as needed.
    Bearer(Box<Tokens>),
}

/// One account's line.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) transport: Transport,
    pub(super) base: Address,
    pub(super) host: String,
    pub(super) credentials: Credentials,
    pub(super) headers: Vec<(&'static str, String)>,
    /// Does the provider recognise a repeat by its key?
    pub(super) keyed: bool,
}

/// A capture that was answered, and until when its follow-up read may take.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) answer: Answer,
    pub(super) deadline: Instant,
}

impl Channel {
    /// What the classes of this account's answers depend on.
    pub(super) fn manner(&self) -> Manner {
        Manner {
            keyed: self.keyed,
            bearer: matches!(self.credentials, Credentials::Bearer(_)),
        }
    }

    /// Posts a capture, once.
    pub(super) async fn capture(&self, call: &Call<'_>, path: &[&str], body: Vec<u8>) -> Result<Told, Outcome> {
        let address = self.base.of(path).map_err(Outcome::Failed)?;
        if !call.guard.may_send() {
            return Err(Outcome::NotSent);
        }
        let bearer = self.bearer().await.map_err(Outcome::Failed)?;
        let place = self.transport.place().await.map_err(Outcome::Failed)?;
        let deadline = self.transport.deadline();
        let request = self.request(Method::Post, address, &bearer.authorization, Payload::Json(body));
        let answer = self.transport.capture(request, call.guard, deadline, place).await?;
        let answer = self.noting_refusal(answer, &bearer).await;
        Ok(Told { answer, deadline })
    }

    /// Asks something that moves no money.
    pub(super) async fn ask(&self, method: Method, path: &[&str], payload: Payload) -> Result<Answer, Failure> {
        self.ask_until(method, path, payload, self.transport.deadline()).await
    }

    /// Tells something that follows a capture: it moves no money, and what is answered beside the status is not read.
    pub(super) async fn tell(&self, method: Method, path: &[&str], body: Vec<u8>) -> Result<(), Failure> {
        let answer = self.ask(method, path, Payload::Json(body)).await?;
        answer.told(self.manner())
    }

    /// The same, within what is left of a call.
    pub(super) async fn ask_until(
        &self,
        method: Method,
        path: &[&str],
        payload: Payload,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let address = self.base.of(path)?;
        let bearer = timeout_at(deadline, self.bearer());
        let bearer = bearer.await.map_err(|_| Failure::new(Class::Transient, "timeout"))??;
        let request = self.request(method, address, &bearer.authorization, payload);
        let answer = self.transport.ask(request, deadline).await?;
        Ok(self.noting_refusal(answer, &bearer).await)
    }

    fn request<'a>(
        &'a self,
        method: Method,
        address: Address,
        authorization: &'a Authorization,
        payload: Payload,
    ) -> Request<'a> {
        Request {
            method,
            address,
            authorization: Some(authorization),
            headers: &self.headers,
            payload,
        }
    }

    async fn bearer(&self) -> Result<Bearer, Failure> {
        match &self.credentials {
            Credentials::Basic(header) => Ok(Bearer {
                authorization: header.clone(),
                new: false,
            }),
            Credentials::Bearer(tokens) => tokens.bearer(&self.transport).await,
        }
    }

    /// A token that is refused is forgotten; the answer says whether it was a new one.
    async fn noting_refusal(&self, answer: Answer, used: &Bearer) -> Answer {
        match &self.credentials {
            Credentials::Bearer(tokens) if answer.status == 401 => tokens.drop_refused(&used.authorization).await,
            Credentials::Bearer(_) | Credentials::Basic(_) => {}
        }
        Answer {
            new_token: used.new,
            ..answer
        }
    }
}

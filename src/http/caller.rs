//! Who asks, and whether they may: the key of a request.
//!
//! A handler says in its signature what its caller must be allowed ([`Allowed`]); that is checked before anything else of
//! the request is read. Nothing is remembered between requests, so a revoked key opens nothing from the next one on.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::console::peer;
use super::problem::Problem;
use super::serve::Office;
use crate::api_key::{KeyDigest, Scope, Scopes, ShownKey};
use crate::operations::Act;
use crate::outbox::{AuditStamp, OperationRow};

/// Says for which person a key acts.
const ACTOR: &str = "x-capture-actor";

/// The longest name of a person.
pub(super) const LONGEST_ACTOR: usize = 80;

/// Its form, for the document: printable ASCII, more than spaces.
pub(super) const ACTOR_FORM: &str = "^[!-~]([ -~]*[!-~])?$";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's name, and the person that it speaks for, if it names one: `shop` or `shop:alice@example.com`.
    pub name: String,
    /// What they may.
    pub scopes: Scopes,
}

impl Caller {
    /// Refuses who lacks that scope.
    pub fn must(&self, scope: Scope) -> Result<(), Problem> {
        match self.scopes.has(scope) {
            true => Ok(()),
            false => Err(Problem::scope_missing(&self.name, scope)),
        }
    }

    /// Who does something, and why: an act without a reason is refused.
    pub fn stamp(&self, reason: &str) -> Result<AuditStamp, Problem> {
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "audit_says_why",
                "the reason is empty",
            )
            .hint("say in a few words why; it is kept with the act")
            .at("/reason"));
        }
        Ok(AuditStamp {
            actor: self.name.clone(),
            reason: reason.to_owned(),
        })
    }

    /// Who does something that says by itself why: its reason is what it was for.
    pub fn note(&self, what: impl Into<String>) -> AuditStamp {
        AuditStamp {
            actor: self.name.clone(),
            reason: what.into(),
        }
    }
}

impl FromRequestParts<Arc<Office>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, office: &Arc<Office>) -> Result<Caller, Problem> {
        office.caller(parts).await
    }
}

/// An operation that goes on acts again: whoever lets it needs what its begin needs.
pub fn may_resume(caller: &Caller, operation: &OperationRow) -> Result<(), Problem> {
    caller.must(Scope::Operate)?;
    match operation.act == Act::Cancel.name() {
        true => caller.must(Scope::Cancel),
        false => Ok(()),
    }
}

/// What a handler needs its caller to be allowed.
pub trait Need: Send + Sync + 'static {
    /// This.
    const SCOPE: Scope;
}

macro_rules! needs {
    ($($name:ident $scope:ident $says:literal;)*) => { $(
        #[doc = $says]
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl Need for $name {
            const SCOPE: Scope = Scope::$scope;
        }
    )* };
}

needs! {
    ToRead Read "Needs the scope `read`.";
    ToEnqueue Enqueue "Needs the scope `enqueue`.";
    ToRelease Release "Needs the scope `release`.";
    ToCancel Cancel "Needs the scope `cancel`.";
    ToOperate Operate "Needs the scope `operate`.";
    ToWorkLanes Lanes "Needs the scope `lanes`.";
    ToWorkWebhooks Webhooks "Needs the scope `webhooks`.";
}

/// A caller who is allowed it. Stands first among a handler's arguments: who may not is told so, whatever else is wrong.
#[derive(Debug)]
pub struct Allowed<N>(pub Caller, pub PhantomData<N>);

impl<N: Need> FromRequestParts<Arc<Office>> for Allowed<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, office: &Arc<Office>) -> Result<Allowed<N>, Problem> {
        let caller = Caller::from_request_parts(parts, office).await?;
        caller.must(N::SCOPE)?;
        Ok(Allowed(caller, PhantomData))
    }
}

/// How many requests a key may make.
#[derive(Debug)]
pub struct Limiter {
    limiter: DefaultKeyedRateLimiter<String>,
    clock: DefaultClock,
}

impl Limiter {
    /// So many a second, twice as many at once.
    pub fn new(per_second: NonZeroU32) -> Limiter {
        let burst = per_second.saturating_mul(NonZeroU32::new(2).unwrap_or(NonZeroU32::MIN));
        Limiter {
            limiter: RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)),
            clock: DefaultClock::default(),
        }
    }

    /// Refuses one that has asked too often.
    pub(super) fn check(&self, prefix: &str) -> Result<(), Problem> {
        let Err(not_until) = self.limiter.check_key(&prefix.to_owned()) else {
            return Ok(());
        };
        let wait = not_until.wait_time_from(self.clock.now());
        let detail = "this key has made more requests than it may";
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
            .hint("ask less often; http.rate_per_second sets how often")
            .again_after(wait.as_secs().saturating_add(1)))
    }
}

impl Office {
    /// Who shows the key of this request.
    pub async fn caller(&self, parts: &Parts) -> Result<Caller, Problem> {
        let caller = self.caller_of_key(bearer(&parts.headers)?, peer(parts, self)).await?;
        let Some(person) = parts.headers.get(ACTOR) else {
            return Ok(caller);
        };
        let person = person.to_str().unwrap_or_default().trim();
        let readable = person.chars().all(|c| c == ' ' || c.is_ascii_graphic());
        if person.is_empty() || person.len() > LONGEST_ACTOR || !readable {
            let detail = format!("X-Capture-Actor is not 1 to {LONGEST_ACTOR} printable ASCII characters");
            return Err(Problem::bad_request("actor_not_readable", detail)
                .hint("name the person for whom the key acts, such as alice@example.com, or leave it out")
                .at("X-Capture-Actor:"));
        }
        Ok(Caller {
            name: format!("{}:{person}", caller.name),
            scopes: caller.scopes,
        })
    }

    /// Who has this key. Also for a log-in, where it comes in a form. From an address where too many failed no unknown key
    /// is looked at, whether it would be good or not.
    pub async fn caller_of_key(&self, key: &str, from: Option<IpAddr>) -> Result<Caller, Problem> {
        let refused = || Problem::not_known("this key opens nothing: it is unknown, over or revoked");
        let shown = ShownKey::parse(key);
        let digest = shown.as_ref().map(ShownKey::digest);
        self.failures.check(from, digest.as_ref())?;
        let (Some(shown), Some(digest)) = (shown, digest) else {
            self.failures.note(from, None);
            return Err(refused());
        };
        let found = self.outbox.live_key(&shown.prefix).await?;
        // An unknown prefix is compared too, with what nothing gives: both take the same way.
        let kept = found.as_ref().map_or(KeyDigest([0; 32]), |found| found.digest);
        let fits = digest.equals(&kept);
        let Some(found) = found.filter(|_| fits) else {
            self.failures.note(from, Some(&digest));
            tracing::warn!(key = shown.prefix, "a request with a key that opens nothing");
            return Err(refused());
        };
        self.failures.forgive(&digest);
        self.limiter.check(&shown.prefix)?;
        if found.use_is_old {
            // Only told to people: a request does not fail for it.
            if let Err(error) = self.acts.note_key_use(&shown.prefix).await {
                tracing::warn!(error = %error, key = shown.prefix, "that a key was used could not be noted");
            }
        }
        tracing::debug!(key = shown.prefix, name = found.name, "a request");
        Ok(Caller {
            name: found.name,
            scopes: found.scopes,
        })
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::not_known("there is no key in this request"));
    };
    let given = given.to_str().unwrap_or_default();
    match given.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(key.trim()),
        Some(_) | None => Err(Problem::not_known(
            "the header Authorization has not the form Bearer cap_…",
        )),
    }
}

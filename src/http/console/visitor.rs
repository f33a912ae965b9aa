//! Who looks at a page, and whether what they send was meant by them.
//!
//! A session is begun with an API key; its secret lives in a cookie that no script can read, and its digest in the
//! database, so that several servers and a restart make no difference. Or a reverse proxy, whose address is configured,
//! says in a header who is there. A form carries a token that follows from the secret in the cookie, and a browser says
//! from where it was sent: both must fit before anything of it is read.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::fault::Fault;
use crate::api_key::{KeyDigest, Scope, Scopes};
use crate::http::body;
use crate::http::caller::Caller;
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;

/// A session ends after a working day, whatever is done in it.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// And after an hour in which nobody did anything.
const IDLE: Duration = Duration::from_secs(3600);
/// The most bytes of a form: a page of ids, a filter, a reason and evidence.
const MOST_BYTES: usize = 256 << 10;

/// The cookie of a session.
pub const SESSION: &str = "capture_session";
/// The cookie that binds forms of who has no session: the log-in, and who comes through a proxy.
pub const FORM: &str = "capture_form";
/// Says that a page asks again by itself, and no person did anything.
const LIVE: &str = "x-console-live";

/// Where a request came from: put there by the server.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// A reverse proxy whose headers are believed.
#[derive(Debug, Clone, Default)]
pub struct ProxySettings {
    /// Its addresses; empty: nobody's headers are.
    pub addresses: Vec<IpAddr>,
    /// Which header says who is there.
    pub user_header: Option<String>,
    /// Which header says what they are: `viewer`, `operator`.
    pub roles_header: Option<String>,
}

/// Who looks.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Their name, and what they may.
    pub caller: Caller,
    /// What their forms must carry.
    pub form_token: String,
    /// Of a session: what is kept of its secret.
    pub session: Option<KeyDigest>,
    /// A cookie that the answer sets.
    pub new_cookie: Option<String>,
}

impl Visitor {
    /// May they?
    pub fn may(&self, scope: Scope) -> bool {
        self.caller.scopes.has(scope)
    }

    /// `operator`, `viewer`, or something between.
    pub fn role(&self) -> &'static str {
        let acts = [Scope::Release, Scope::Cancel, Scope::Operate, Scope::Lanes];
        match acts.into_iter().filter(|scope| self.may(*scope)).count() {
            0 => "viewer",
            4 => "operator",
            _ => "some rights",
        }
    }
}

/// A secret of 32 random bytes, in hexadecimal.
pub fn fresh_secret() -> Result<String, Fault> {
    let mut bytes = [0u8; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| {
        tracing::error!(error = %error, "the system gives no random numbers");
        Problem::internal()
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a form must carry: follows from the cookie's secret, which it does not tell.
pub fn form_token(secret: &str, who: &str) -> String {
    let digest = Sha256::new()
        .chain_update(b"capture console form\0")
        .chain_update(secret)
        .chain_update(b"\0")
        .chain_update(who)
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A cookie's value.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value.to_owned())
        .filter(|value| value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// `Set-Cookie` of a cookie that only our own pages send, and no script reads.
pub fn set_cookie(parts: &Parts, office: &Office, name: &str, value: &str, seconds: u64) -> String {
    let secure = if is_behind_tls(parts, office) { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

/// Is the other end a proxy that was configured?
fn is_proxy(parts: &Parts, office: &Office) -> bool {
    let peer = parts.extensions.get::<Peer>();
    peer.is_some_and(|Peer(address)| office.proxy.addresses.contains(&address.ip().to_canonical()))
}

/// Which address a request came from: of what a configured proxy passes on, the one that the proxy saw itself.
pub fn peer(parts: &Parts, office: &Office) -> Option<IpAddr> {
    let Peer(address) = parts.extensions.get::<Peer>()?;
    let forwarded = parts.headers.get_all("x-forwarded-for").iter().next_back();
    let seen = forwarded
        .filter(|_| is_proxy(parts, office))
        .and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    Some(seen.unwrap_or_else(|| address.ip()))
}

fn is_behind_tls(parts: &Parts, office: &Office) -> bool {
    let said = parts
        .headers
        .get("x-forwarded-proto")
        .and_then(|value| value.to_str().ok());
    // The browser itself says it of a form that it sends. Nobody else can: of another origin, the form is refused.
    let origin = parts.headers.get("origin").and_then(|value| value.to_str().ok());
    let sent_by_tls = origin.is_some_and(|origin| origin.to_ascii_lowercase().starts_with("https://"));
    sent_by_tls || (is_proxy(parts, office) && said.is_some_and(|said| said.eq_ignore_ascii_case("https")))
}

impl FromRequestParts<Arc<Office>> for Visitor {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, office: &Arc<Office>) -> Result<Visitor, Fault> {
        let visitor = match proxied(parts, office)? {
            Some(visitor) => visitor,
            None => of_session(parts, office).await?,
        };
        visitor.caller.must(Scope::Read)?;
        Ok(visitor)
    }
}

async fn of_session(parts: &Parts, office: &Office) -> Result<Visitor, Fault> {
    let nobody = || {
        let then = match parts.method == Method::GET {
            true => parts.uri.path_and_query().map(|path| path.as_str().to_owned()),
            false => None,
        };
        Fault::LogIn {
            then: then.unwrap_or_default(),
        }
    };
    let secret = cookie(&parts.headers, SESSION).ok_or_else(nobody)?;
    let digest = KeyDigest::of(&secret);
    let found = office.outbox.live_session(&digest, IDLE).await?.ok_or_else(nobody)?;
    office.limiter.check(&format!("console {}", found.key))?;
    if found.use_is_old
        && !parts.headers.contains_key(LIVE)
        && let Err(error) = office.acts.use_session(&digest).await
    {
        tracing::warn!(error = %error, "that a session was used could not be noted");
    }
    Ok(Visitor {
        caller: Caller {
            name: found.name,
            scopes: found.scopes,
        },
        form_token: form_token(&secret, &found.key),
        session: Some(digest),
        new_cookie: None,
    })
}

/// Who a configured proxy says is there; `None`: it says nothing, or is none.
fn proxied(parts: &Parts, office: &Office) -> Result<Option<Visitor>, Fault> {
    let (Some(user), Some(roles)) = (&office.proxy.user_header, &office.proxy.roles_header) else {
        return Ok(None);
    };
    let Some(user) = parts.headers.get(user).filter(|_| is_proxy(parts, office)) else {
        return Ok(None);
    };
    let user = user.to_str().unwrap_or_default().trim();
    if user.is_empty() || user.len() > 80 {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "proxy_user",
            "the proxy names nobody that can be read",
        )
        .into());
    }
    let roles = parts
        .headers
        .get_all(roles)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut scopes = Vec::new();
    for role in roles.flat_map(|value| value.split(',')) {
        match role.trim() {
            "operator" => scopes.extend([Scope::Read, Scope::Release, Scope::Cancel, Scope::Operate, Scope::Lanes]),
            "viewer" => scopes.push(Scope::Read),
            // Roles of other programs.
            _ => {}
        }
    }
    if scopes.is_empty() {
        let detail = format!("{user} is neither viewer nor operator here");
        return Err(Problem::new(StatusCode::FORBIDDEN, "proxy_role", detail)
            .hint("the proxy must say which of the two, in the header that http.proxy_roles_header names")
            .into());
    }
    let name = format!("proxy:{user}");
    let (secret, new_cookie) = match cookie(&parts.headers, FORM) {
        Some(secret) => (secret, None),
        None => {
            let secret = fresh_secret()?;
            let set = set_cookie(parts, office, FORM, &secret, LIFETIME.as_secs());
            (secret, Some(set))
        }
    };
    Ok(Some(Visitor {
        form_token: form_token(&secret, &name),
        caller: Caller {
            name,
            scopes: scopes.into_iter().collect::<Scopes>(),
        },
        session: None,
        new_cookie,
    }))
}

/// A form that the visitor has sent from one of our pages.
#[derive(Debug)]
pub struct Sent {
    /// Who.
    pub visitor: Visitor,
    /// Its fields, without the token.
    pub fields: Parameters,
}

impl FromRequest<Arc<Office>> for Sent {
    type Rejection = Fault;

    async fn from_request(request: Request, office: &Arc<Office>) -> Result<Sent, Fault> {
        let (mut parts, content) = request.into_parts();
        refuse_foreign(&parts, office)?;
        let visitor = Visitor::from_request_parts(&mut parts, office).await?;
        let mut fields = fields(Request::from_parts(parts, content), office).await?;
        check_token(&mut fields, &visitor.form_token)?;
        Ok(Sent { visitor, fields })
    }
}

/// The fields of a form.
pub async fn fields(request: Request, office: &Office) -> Result<Parameters, Fault> {
    let bytes = body::form_bytes(request, MOST_BYTES, office.patience).await?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| Problem::bad_request("form_not_readable", "the form is no text"))?;
    Ok(Parameters::read(text)?)
}

/// Does the form carry the token of this visitor?
pub fn check_token(fields: &mut Parameters, expected: &str) -> Result<(), Fault> {
    let given = fields.take("form_token")?.unwrap_or_default();
    match bool::from(given.as_bytes().ct_eq(expected.as_bytes())) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "form_not_ours",
            "this form does not belong to your session",
        )
        .hint("open the page again and send it from there; nothing was done")
        .into()),
    }
}

/// Refuses what a page of another site has sent. A browser says so itself; other programs say nothing, and need the token.
pub fn refuse_foreign(parts: &Parts, office: &Office) -> Result<(), Fault> {
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let forwarded = text("x-forwarded-host").filter(|_| is_proxy(parts, office));
    let host = forwarded.or_else(|| text("host")).unwrap_or_default();
    let origin = match text("origin") {
        None => true,
        Some(origin) => {
            let after = origin.split_once("://").map(|(_, host)| host);
            !host.is_empty() && after.is_some_and(|after| after.eq_ignore_ascii_case(host))
        }
    };
    match site && origin {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "form_foreign",
            "this form was sent by a page of another site",
        )
        .hint("nothing was done; behind a proxy, let it pass on the header Host")
        .into()),
    }
}

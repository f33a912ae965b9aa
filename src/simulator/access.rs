//! Credentials, tokens and rate limits: what stands before any business.
//!
//! Afterpay takes basic authentication, Optty bearer tokens, Resolve both; tokens live for a day.
//! All by the providers' current documents.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    answer::Answer,
    books::Window,
    json::Object,
    model::{Model, ProviderName},
    refusal::Refusal,
    request::{Head, Request, form_value},
    simulation::Simulation,
};

/// Whose call it is, or 401.
pub(super) fn account_of(simulation: &Simulation, model: Model, head: &Head) -> Result<String, Refusal> {
    let provider = model.provider();
    let denied = || Refusal::usual(model, 401);
    let header = head.header("authorization").ok_or_else(denied)?;
    let (scheme, value) = header.split_once(' ').ok_or_else(denied)?;
    if scheme.eq_ignore_ascii_case("basic") && provider != ProviderName::Optty {
        let decoded = STANDARD.decode(value.trim()).map_err(|_| denied())?;
        let decoded = String::from_utf8(decoded).map_err(|_| denied())?;
        let (merchant_id, secret) = decoded.split_once(':').ok_or_else(denied)?;
        if is_known(simulation, provider, merchant_id, secret) {
            return Ok(merchant_id.to_owned());
        }
    }
    if scheme.eq_ignore_ascii_case("bearer") && provider != ProviderName::Afterpay {
        let from = simulation.books().tokens_from;
        let account = token_account(simulation, provider, value.trim(), from);
        return account.ok_or_else(denied);
    }
    Err(denied())
}

fn is_known(simulation: &Simulation, provider: ProviderName, id: &str, secret: &str) -> bool {
    let listed = &simulation.settings.credentials;
    if !listed.iter().any(|credential| credential.provider == provider) {
        return !id.is_empty() && !secret.is_empty();
    }
    listed.iter().any(|credential| {
        credential.provider == provider && credential.merchant_id == id && credential.secret == secret
    })
}

/// A token names its account and its times and carries a proof, so that none has to be remembered.
fn mint(simulation: &Simulation, provider: ProviderName, account: &str) -> String {
    let now = simulation.clock.now();
    let life = TimeDelta::from_std(simulation.settings.token_life).unwrap_or(TimeDelta::MAX);
    let until = now.checked_add_signed(life).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let claims = format!(
        "{provider}\n{}\n{}\n{account}",
        now.timestamp_micros(),
        until.timestamp_micros()
    );
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(&claims),
        proof(simulation.settings.seed, &claims)
    )
}

fn token_account(simulation: &Simulation, provider: ProviderName, token: &str, from: DateTime<Utc>) -> Option<String> {
    let (claims, proven) = token.split_once('.')?;
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    if proof(simulation.settings.seed, &claims) != proven {
        return None;
    }
    let mut parts = claims.splitn(4, '\n');
    let named = parts.next()?.parse::<ProviderName>().ok()?;
    let minted: i64 = parts.next()?.parse().ok()?;
    let until: i64 = parts.next()?.parse().ok()?;
    let now = simulation.clock.now().timestamp_micros();
    let valid = named == provider && minted >= from.timestamp_micros() && now < until;
    valid.then(|| parts.next().map(str::to_owned))?
}

fn proof(seed: u64, claims: &str) -> String {
    let digest = Sha256::digest(format!("simulator {seed}\n{claims}"));
    URL_SAFE_NO_PAD.encode(digest)
}

/// Answers a request for a token: Optty takes a form, Resolve JSON; both answer
/// `{access_token, expires_in, token_type}` (current documents of both).
pub(super) fn token_answer(simulation: &Simulation, model: Model, request: &Request) -> Answer {
    #[derive(Deserialize)]
    struct AccessKey {
        client_id: String,
        client_secret: String,
    }
    let provider = model.provider();
    let asked = match provider {
        ProviderName::Optty => {
            let form = String::from_utf8_lossy(&request.body);
            let is = |name, value| form_value(&form, name).as_deref() == Some(value);
            if !is("grant_type", "client_credentials") || !is("scope", "api-user") {
                let message = "grant_type must be client_credentials and scope api-user";
                return Refusal::new(400, "", message).answer(model);
            }
            form_value(&form, "client_id").zip(form_value(&form, "client_secret"))
        }
        _ => serde_json::from_slice::<AccessKey>(&request.body)
            .ok()
            .map(|key| (key.client_id, key.client_secret)),
    };
    let Some((id, secret)) = asked else {
        let message = "client_id and client_secret are required";
        return Refusal::new(400, "validation_error", message).answer(model);
    };
    if !is_known(simulation, provider, &id, &secret) {
        return Refusal::usual(model, 401).answer(model);
    }
    let life = simulation.settings.token_life.as_secs().to_string();
    let body = Object::new()
        .text("access_token", &mint(simulation, provider, &id))
        .raw("expires_in", &life)
        .text("token_type", "Bearer")
        .done();
    Answer::json(200, body)
}

/// The headers that Resolve puts on every answer, and others on none (Resolve's current documents;
/// that the reset is when the oldest request leaves the minute is an assumption).
pub(super) fn with_window(answer: Answer, provider: ProviderName, window: Option<Window>) -> Answer {
    match window {
        Some(window) if provider == ProviderName::Resolve => answer
            .with("X-Ratelimit-Limit", window.limit.to_string())
            .with("X-Ratelimit-Remaining", window.remaining.to_string())
            .with("X-Ratelimit-Reset", (window.resets_at.timestamp() + 1).to_string()),
        _ => answer,
    }
}

//! The control API: the same acts over HTTP, for a simulator in a process of its own. The module
//! documentation of [`super`] has the documents.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    acts::ActError,
    amount::{exponent, minor_from_decimal},
    answer::Answer,
    fault::Fault,
    fault_plan::{FaultPlan, FaultRule, FaultSet, Target},
    model::{Operation, ProviderName},
    payment::Authorization,
    request::Request,
    settings::{Limits, Pace},
    simulation::Simulation,
};

/// Why a document was not followed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Document(String),
    #[error("there is no {0}; GET /_simulator tells what there is")]
    Path(String),
    #[error(transparent)]
    Act(#[from] ActError),
}

impl From<serde_json::Error> for Refused {
    fn from(error: serde_json::Error) -> Self {
        Self::Document(error.to_string())
    }
}

pub(super) async fn answer(simulation: &Arc<Simulation>, path: &[String], request: &Request) -> Answer {
    let (status, document) = match act(simulation, path, request).await {
        Ok((status, document)) => (status, document),
        Err(refused) => {
            let status = match &refused {
                Refused::Document(_) | Refused::Act(ActError::Amount { .. } | ActError::Ambiguous(_)) => 400,
                Refused::Path(_) | Refused::Act(ActError::NoPayment(_)) => 404,
                Refused::Act(ActError::NotWritten(_) | ActError::Port(_)) => 500,
            };
            (status, json!({ "error": refused.to_string() }))
        }
    };
    Answer::json(status, document.to_string())
}

async fn act(simulation: &Arc<Simulation>, path: &[String], request: &Request) -> Result<(u16, Value), Refused> {
    let path: Vec<&str> = path
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    let done = |document: Value| Ok((200, document));
    match (request.head.method.as_str(), path.as_slice()) {
        ("GET", []) => done(about(simulation)),
        ("GET", ["ledger"]) => done(ledger(simulation, request)?),
        ("GET", ["requests"]) => done(requests(simulation, request)?),
        ("GET", ["counts"]) => done(serde_json::to_value(simulation.counts())?),
        ("POST", ["authorizations"]) => {
            let authorizations = authorizations(simulation, &request.body)?;
            let count = authorizations.len();
            simulation.authorize(authorizations).await?;
            Ok((201, json!({ "authorized": count })))
        }
        ("POST", ["faults"]) => {
            faults(simulation, read(request)?)?;
            done(json!({ "faults": "set" }))
        }
        ("POST", ["foreign-captures"]) => {
            let asked: ForeignCapture = read(request)?;
            let entry = simulation
                .foreign_capture(asked.provider, &asked.payment_id, asked.amount_minor)
                .await?;
            Ok((201, serde_json::to_value(entry)?))
        }
        ("POST", ["voids"]) => {
            let asked: PaymentName = read(request)?;
            simulation.void(asked.provider, &asked.payment_id).await?;
            done(json!({ "voided": asked.payment_id }))
        }
        ("POST", ["clock"]) => {
            let asked: ClockHand = read(request)?;
            let offset_ms = match asked {
                ClockHand::AdvanceMs(by) => simulation.clock.offset_ms().saturating_add(by),
                ClockHand::OffsetMs(offset_ms) => offset_ms,
            };
            simulation.set_offset_ms(offset_ms).await?;
            done(json!({ "now": simulation.clock.now(), "offset_ms": offset_ms }))
        }
        ("POST", ["hurry"]) => {
            simulation.hurry().await;
            done(json!({ "hurried": true }))
        }
        ("POST", ["token-expiry"]) => {
            simulation.expire_tokens();
            done(json!({ "tokens": "expired" }))
        }
        ("POST", ["pace"]) => {
            let change: PaceChange = read(request)?;
            let mut books = simulation.books();
            change.apply(&mut books.pace);
            done(json!({ "pace": "set" }))
        }
        ("POST", ["limits"]) => {
            let limits: Limits = read(request)?;
            simulation.books().limits = limits;
            done(serde_json::to_value(limits)?)
        }
        (method, _) => Err(Refused::Path(format!("{method} {}", request.head.path()))),
    }
}

fn read<T: DeserializeOwned>(request: &Request) -> Result<T, Refused> {
    Ok(serde_json::from_slice(&request.body)?)
}

fn about(simulation: &Simulation) -> Value {
    let urls: serde_json::Map<String, Value> = ProviderName::ALL
        .into_iter()
        .map(|provider| {
            let url = format!("http://{}/{provider}", simulation.ports.address(provider));
            (provider.to_string(), Value::from(url))
        })
        .collect();
    json!({
        "now": simulation.clock.now(),
        "offset_ms": simulation.clock.offset_ms(),
        "base_urls": urls,
        "optty_auth_url": format!("http://{}/optty/token", simulation.ports.address(ProviderName::Optty)),
        "limits": simulation.books().limits,
        "get": ["ledger", "requests", "counts"],
        "post": ["authorizations", "faults", "foreign-captures", "voids", "clock", "hurry",
            "token-expiry", "pace", "limits"],
        "faults": Fault::all(),
    })
}

fn named<T: std::str::FromStr>(request: &Request, name: &str) -> Result<Option<T>, Refused> {
    let Some(text) = request.head.query(name) else {
        return Ok(None);
    };
    let parsed = text.parse().map(Some);
    parsed.map_err(|_| Refused::Document(format!("{name} cannot be {text:?}")))
}

fn ledger(simulation: &Simulation, request: &Request) -> Result<Value, Refused> {
    let provider: Option<ProviderName> = named(request, "provider")?;
    let payment_id: Option<String> = named(request, "payment_id")?;
    let mut ledger = simulation.ledger();
    ledger.captures.retain(|entry| {
        provider.is_none_or(|provider| provider == entry.provider)
            && payment_id
                .as_ref()
                .is_none_or(|payment_id| *payment_id == entry.payment_id)
    });
    Ok(serde_json::to_value(ledger)?)
}

fn requests(simulation: &Simulation, request: &Request) -> Result<Value, Refused> {
    let from: u64 = named(request, "from")?.unwrap_or(0);
    let limit: usize = named(request, "limit")?.unwrap_or(1000);
    let payment_id: Option<String> = named(request, "payment_id")?;
    let mut requests =
        simulation.requests(|record| record.seq >= from && (payment_id.is_none() || payment_id == record.payment_id));
    requests.truncate(limit);
    Ok(json!({ "requests": requests, "total": simulation.books().counts.requests }))
}

/// One or many; `amount` in decimals may stand for `amount_minor`, `expires_in_ms` for `expires_at`.
fn authorizations(simulation: &Simulation, body: &[u8]) -> Result<Vec<Authorization>, Refused> {
    let documents = match serde_json::from_slice(body)? {
        Value::Array(many) => many,
        one => vec![one],
    };
    documents
        .into_iter()
        .map(|mut document| {
            let members = document
                .as_object_mut()
                .ok_or_else(|| Refused::Document("an authorisation is an object".to_owned()))?;
            if let Some(amount) = members.remove("amount") {
                let currency = members.get("currency").and_then(Value::as_str).unwrap_or_default();
                let minor = amount.as_str().map(|text| minor_from_decimal(text, exponent(currency)));
                match minor {
                    Some(Ok(minor)) => members.insert("amount_minor".to_owned(), minor.into()),
                    _ => {
                        return Err(Refused::Document("amount must be like \"10.00\"".to_owned()));
                    }
                };
            }
            if let Some(wait) = members.remove("expires_in_ms") {
                let wait = wait.as_i64().and_then(TimeDelta::try_milliseconds);
                let at = wait.and_then(|wait| simulation.clock.now().checked_add_signed(wait));
                let at = at.ok_or_else(|| Refused::Document("expires_in_ms must be whole milliseconds".to_owned()))?;
                members.insert("expires_at".to_owned(), serde_json::to_value(at)?);
            }
            Ok(serde_json::from_value(document)?)
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForeignCapture {
    provider: Option<ProviderName>,
    payment_id: String,
    amount_minor: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PaymentName {
    provider: Option<ProviderName>,
    payment_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClockHand {
    AdvanceMs(i64),
    OffsetMs(i64),
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct PaceChange {
    answer_after_ms: Option<u64>,
    silence_ms: Option<u64>,
    drip_ms: Option<u64>,
    late_after_ms: Option<u64>,
    running_for_ms: Option<u64>,
    pending_for_ms: Option<u64>,
    read_lag_ms: Option<u64>,
    retry_after_ms: Option<u64>,
}

impl PaceChange {
    fn apply(&self, pace: &mut Pace) {
        for (change, time) in [
            (self.answer_after_ms, &mut pace.answer_after),
            (self.silence_ms, &mut pace.silence),
            (self.drip_ms, &mut pace.drip),
            (self.late_after_ms, &mut pace.late_after),
            (self.running_for_ms, &mut pace.running_for),
            (self.pending_for_ms, &mut pace.pending_for),
            (self.read_lag_ms, &mut pace.read_lag),
            (self.retry_after_ms, &mut pace.retry_after),
        ] {
            if let Some(millis) = change {
                *time = Duration::from_millis(millis);
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Faults {
    /// First of all: no scripts, no random faults.
    clear: bool,
    script: Option<Scripted>,
    /// Replaces the random faults.
    random: Option<Vec<Random>>,
    seed: Option<u64>,
    down: Option<Down>,
    up: Option<ProviderName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scripted {
    provider: Option<ProviderName>,
    payment_id: Option<String>,
    #[serde(default)]
    operation: Operation,
    faults: Vec<Fault>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Random {
    per_mille: u16,
    set: Option<FaultSet>,
    #[serde(default)]
    faults: Vec<Fault>,
    operation: Option<Operation>,
    provider: Option<ProviderName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Down {
    provider: ProviderName,
    /// Until told otherwise, if absent.
    for_ms: Option<u64>,
}

fn faults(simulation: &Arc<Simulation>, document: Faults) -> Result<(), Refused> {
    let mut books = simulation.books();
    if document.clear {
        books.script.clear();
        books.plan = FaultPlan::none();
    }
    if let Some(seed) = document.seed {
        books.seed = seed;
    }
    if let Some(scripted) = document.script {
        let target = Target {
            provider: scripted.provider,
            payment_id: scripted.payment_id,
            operation: scripted.operation,
        };
        books.script.add(target, scripted.faults);
    }
    if let Some(random) = document.random {
        books.plan.rules = random.into_iter().map(rule).collect();
    }
    drop(books);
    match document.down {
        Some(Down {
            provider,
            for_ms: Some(millis),
        }) => {
            simulation.down_for(provider, Duration::from_millis(millis))?;
        }
        Some(Down { provider, for_ms: None }) => simulation.set_down(provider, true)?,
        None => {}
    }
    if let Some(provider) = document.up {
        simulation.set_down(provider, false)?;
    }
    Ok(())
}

fn rule(random: Random) -> FaultRule {
    let mut faults = random.faults;
    let operation = random.set.map(FaultSet::operation);
    faults.extend(random.set.map(FaultSet::faults).unwrap_or_default());
    FaultRule {
        per_mille: random.per_mille,
        faults,
        operation: random.operation.or(operation).unwrap_or_default(),
        provider: random.provider,
    }
}

//! Operations: replay, cancel and resolve for any number of captures, so that a person sees before what will happen, and
//! after what did.
//!
//! [`preview`] tells how many an act is for, which of them it would leave alone and why, the money, and how safe it is
//! (`safety.rs`); it changes nothing. [`begin`] freezes the list of ids in the database, with who and why. From then on
//! anybody who has the accounts' settings works it off (`run.rs`): any worker, the server, the command line while it
//! watches. A step is one transaction that acts on a few captures and writes their verdicts, so a driver that dies loses
//! and repeats nothing, and of two operations that mean the same capture one acts and the other says by whom and when it
//! was done.

mod asking;
mod digest;
mod preview;
mod repeated;
mod run;
mod safety;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::filter::{Filter, State};
use crate::intent::Lane;
use crate::outbox::{AuditStamp, NewOperation, Outbox, OutboxError};
use crate::provider::Abilities;
use repeated::{begun_before, lost_the_race};

pub use asking::{ProvidersByLane, Told, ask};
pub use digest::ListDigest;
pub use preview::{Group, Line, Preview, Sum, Surveyed, preview, survey};
pub use repeated::RequestKey;
pub use run::{Ran, Strangers, drive, run_due};
pub use safety::{Prospect, RECEIPT_HELD, Safety, judge, read_now, safety};

/// What the provider of each account can do, by which a dead letter is judged.
pub type AbilitiesByLane = BTreeMap<Lane, Abilities>;

/// Acts a second, unless said otherwise.
pub const DEFAULT_RATE: u32 = 50;
/// An operation stops itself when more than so many of a hundred fail, unless said otherwise.
pub const DEFAULT_STOP_AT_PERCENT: u8 = 20;
/// The highest rate that may be asked for.
pub const HIGHEST_RATE: u32 = 10_000;

/// What is done to each capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Dead letters go back to work, reads first.
    Replay {
        /// Also those that a person has resolved as not captured; only if they are named by their ids.
        also_resolved: bool,
    },
    /// What was not sent is taken back.
    Cancel,
    /// Dead letters are settled by what a person has seen.
    Resolve {
        /// The money was captured; else it was not, and will not be.
        captured: bool,
        /// Where that was seen.
        evidence: String,
    },
}

impl Act {
    /// The name in SQL, CLI and HTTP.
    pub fn name(&self) -> &'static str {
        match self {
            Act::Replay { .. } => "replay",
            Act::Cancel => "cancel",
            Act::Resolve { .. } => "resolve",
        }
    }

    /// The states that it does something to; a filter without states means these.
    pub fn states(&self) -> &'static [State] {
        match self {
            Act::Replay { .. } | Act::Resolve { .. } => &[State::Dead],
            Act::Cancel => &[
                State::Held,
                State::Scheduled,
                State::Ready,
                State::Leased,
                State::Verifying,
            ],
        }
    }

    fn detail(&self) -> Value {
        match self {
            Act::Replay { also_resolved } => json!({ "also_resolved": also_resolved }),
            Act::Cancel => json!({}),
            Act::Resolve { captured, evidence } => json!({ "captured": captured, "evidence": evidence }),
        }
    }

    /// As it was written when the operation began; `None`: a newer version wrote it.
    pub fn stored(name: &str, detail: &Value) -> Option<Act> {
        let flag = |name: &str| detail.get(name).and_then(Value::as_bool);
        match name {
            "replay" => Some(Act::Replay {
                also_resolved: flag("also_resolved").unwrap_or(false),
            }),
            "cancel" => Some(Act::Cancel),
            "resolve" => Some(Act::Resolve {
                captured: flag("captured")?,
                evidence: detail.get("evidence")?.as_str()?.to_owned(),
            }),
            _ => None,
        }
    }
}

/// Which captures.
#[derive(Debug, Clone)]
pub enum Choice {
    /// These.
    Ids(Vec<Uuid>),
    /// Those that match, as long as the act does something to their state.
    Filter(Filter),
}

/// What shall be begun.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is done to each.
    pub act: Act,
    /// Which.
    pub choice: Choice,
    /// A filter that means everything is meant so.
    pub all: bool,
    /// The list that a preview showed: another one is not begun. A resolve by a filter does not go without.
    pub digest: Option<ListDigest>,
    /// By which it is known again if it is asked for twice.
    pub key: Option<RequestKey>,
    /// Who, and why.
    pub stamp: AuditStamp,
    /// Acts a second, at most.
    pub rate_per_second: u32,
    /// It stops itself when more than so many of a hundred fail: of the replayed ones that are dead again, or refused.
    pub stop_at_percent: u8,
}

/// Why an operation was not begun.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The filter means everything, and nobody said that this is meant.
    #[error("the filter means every capture that {act} does something to")]
    Everything {
        /// The act.
        act: &'static str,
    },
    /// The filter names a state that the act does nothing to.
    #[error("{act} does nothing to what is {state}")]
    State {
        /// The act.
        act: &'static str,
        /// The state.
        state: State,
        /// Those that it does something to.
        acts_on: &'static [State],
    },
    /// No ids at all.
    #[error("no captures are named")]
    NothingNamed,
    /// Only ids, one by one, reopen what a person has closed.
    #[error("what a person has resolved is replayed only if it is named by its id")]
    ResolvedByFilter,
    /// What is settled by a person's word, that person has looked at.
    #[error("nobody has looked at what the filter means")]
    NotPreviewed,
    /// What matches is not what was looked at.
    #[error("the list is not the one that was previewed: {now} captures match now")]
    ListMoved {
        /// How many match now.
        now: usize,
    },
    /// The key stands for another request.
    #[error("this key has begun another operation, {by}")]
    KeyTaken {
        /// Which.
        by: Uuid,
    },
    /// Reason, actor or evidence is empty.
    #[error("{what} is empty")]
    Empty {
        /// What.
        what: &'static str,
    },
    /// The rate or the percentage is out of bounds.
    #[error("{what} is {given}, not {least} to {most}")]
    OutOfBounds {
        /// What.
        what: &'static str,
        /// What was given.
        given: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// The database could not.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

impl OperationError {
    /// Its name in the catalogue of errors; `None`: ask the outbox's refusal.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            OperationError::Everything { .. } => Some("operations_filter_means_everything"),
            OperationError::State { .. } => Some("operations_state_acted_on"),
            OperationError::NothingNamed => Some("operations_name_captures"),
            OperationError::ResolvedByFilter => Some("operations_resolved_by_id"),
            OperationError::NotPreviewed => Some("operations_resolve_previewed"),
            OperationError::ListMoved { .. } => Some("operations_list_previewed"),
            OperationError::KeyTaken { .. } => Some("operations_request_once"),
            OperationError::Empty { what: "evidence" } => Some("operations_resolve_by_evidence"),
            OperationError::Empty { what: "actor" } => Some("operations_name_who"),
            OperationError::Empty { .. } => Some("operations_say_why"),
            OperationError::OutOfBounds {
                what: "stop_at_percent",
                ..
            } => Some("operations_stop_at_a_percentage"),
            OperationError::OutOfBounds { .. } => Some("operations_rate_plausible"),
            OperationError::Outbox(_) => None,
        }
    }

    /// Which field of a request is wrong; a header has a colon.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            OperationError::Everything { .. } => Some("all"),
            OperationError::State { .. } => Some("state"),
            OperationError::NothingNamed => Some("ids"),
            OperationError::ResolvedByFilter => Some("also_resolved"),
            OperationError::NotPreviewed | OperationError::ListMoved { .. } => Some("digest"),
            OperationError::KeyTaken { .. } => Some("Idempotency-Key:"),
            OperationError::Empty { what } | OperationError::OutOfBounds { what, .. } => Some(what),
            OperationError::Outbox(_) => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            OperationError::Everything { .. } => Some("narrow it, or say that all are meant".to_owned()),
            OperationError::State { acts_on, .. } => {
                let names: Vec<&str> = acts_on.iter().map(|state| state.name()).collect();
                Some(format!("it acts on {}", names.join(", ")))
            }
            OperationError::NothingNamed => Some("give ids, or a filter".to_owned()),
            OperationError::ResolvedByFilter => Some("name the ids".to_owned()),
            OperationError::NotPreviewed => Some("preview it first, and pass on the digest of that preview".to_owned()),
            OperationError::ListMoved { .. } => Some(
                "nothing was done; look at the new preview, or narrow the filter until nothing new matches".to_owned(),
            ),
            OperationError::KeyTaken { .. } => {
                Some("send what is asked for again as it was, or under a new key".to_owned())
            }
            OperationError::Empty { what: "evidence" } => {
                Some("name where you saw it, so that others can look there too".to_owned())
            }
            OperationError::Empty { .. } => Some("it is kept with the act, for those who read the audit".to_owned()),
            OperationError::OutOfBounds { .. } => None,
            OperationError::Outbox(error) => error.refusal().and_then(|refusal| refusal.hint),
        }
    }
}

/// Freezes the list, and begins. Nothing is acted on yet: that is done by whoever drives it. A request that has begun one
/// before, by its key, gets that one.
pub async fn begin(outbox: &Outbox, request: Request) -> Result<Uuid, OperationError> {
    check(&request)?;
    if let Some(id) = begun_before(outbox, &request).await? {
        return Ok(id);
    }
    let (ids, filter) = match &request.choice {
        Choice::Ids(ids) => (ids.clone(), None),
        Choice::Filter(filter) => {
            let filter = meant(&request.act, filter, request.all)?;
            let found = outbox.candidates(&filter).await?;
            (found.ids, Some(written(&filter)))
        }
    };
    if let Some(seen) = &request.digest
        && *seen != ListDigest::of(&ids)
    {
        return Err(OperationError::ListMoved { now: ids.len() });
    }
    let new = NewOperation {
        act: request.act.name(),
        detail: request.act.detail(),
        filter,
        ids: &ids,
        rate_per_second: request.rate_per_second,
        stop_at_percent: request.stop_at_percent,
        stamp: &request.stamp,
        request: request
            .key
            .as_ref()
            .map(|RequestKey { key, hash }| (key.as_str(), hash.as_slice())),
    };
    match outbox.begin_operation(&new).await {
        Ok(id) => Ok(id),
        Err(error) => match lost_the_race(&error) {
            true => begun_before(outbox, &request)
                .await?
                .ok_or(OperationError::Outbox(error)),
            false => Err(error.into()),
        },
    }
}

fn check(request: &Request) -> Result<(), OperationError> {
    let empty = |text: &str| text.trim().is_empty();
    if empty(&request.stamp.actor) {
        return Err(OperationError::Empty { what: "actor" });
    }
    if empty(&request.stamp.reason) {
        return Err(OperationError::Empty { what: "reason" });
    }
    match &request.act {
        Act::Resolve { evidence, .. } if empty(evidence) => return Err(OperationError::Empty { what: "evidence" }),
        Act::Resolve { .. } | Act::Replay { .. } | Act::Cancel => {}
    }
    for (what, given, least, most) in [
        ("rate_per_second", request.rate_per_second, 1, HIGHEST_RATE),
        ("stop_at_percent", u32::from(request.stop_at_percent), 0, 100),
    ] {
        if !(least..=most).contains(&given) {
            return Err(OperationError::OutOfBounds {
                what,
                given,
                least,
                most,
            });
        }
    }
    check_choice(&request.act, &request.choice, request.all)?;
    if let (Act::Resolve { .. }, Choice::Filter(_), None) = (&request.act, &request.choice, &request.digest) {
        return Err(OperationError::NotPreviewed);
    }
    Ok(())
}

fn check_choice(act: &Act, choice: &Choice, all: bool) -> Result<(), OperationError> {
    match choice {
        Choice::Ids(ids) if ids.is_empty() => Err(OperationError::NothingNamed),
        Choice::Ids(_) => Ok(()),
        Choice::Filter(_) if *act == (Act::Replay { also_resolved: true }) => Err(OperationError::ResolvedByFilter),
        Choice::Filter(filter) => meant(act, filter, all).map(drop),
    }
}

/// The filter with the states that the act does something to.
fn meant(act: &Act, filter: &Filter, all: bool) -> Result<Filter, OperationError> {
    if filter.means_everything() && !all {
        return Err(OperationError::Everything { act: act.name() });
    }
    if let Some(state) = filter.states.iter().find(|state| !act.states().contains(state)) {
        return Err(OperationError::State {
            act: act.name(),
            state: *state,
            acts_on: act.states(),
        });
    }
    let mut filter = filter.clone();
    if filter.states.is_empty() {
        filter.states = act.states().to_vec();
    }
    Ok(filter)
}

/// The filter under the names of its conditions, as it is kept with the operation.
fn written(filter: &Filter) -> Value {
    #[derive(Serialize)]
    struct Written {
        #[serde(flatten)]
        conditions: BTreeMap<&'static str, Value>,
    }
    let mut conditions = BTreeMap::new();
    let texts = [
        ("provider", filter.provider.clone()),
        ("account", filter.account.clone()),
        ("class", filter.class.map(|class| class.name().to_owned())),
        ("code", filter.code.clone()),
        ("order", filter.order_id.clone()),
        ("payment", filter.payment_id.clone()),
        ("since", filter.since.map(|at| at.to_rfc3339())),
        ("until", filter.until.map(|at| at.to_rfc3339())),
        (
            "amount",
            filter.amount.map(|(sign, money)| format!("{}{money}", sign.sign())),
        ),
        (
            "expires-within",
            filter
                .expires_within
                .map(|span| humantime::format_duration(span).to_string()),
        ),
    ];
    for (name, text) in texts {
        conditions.extend(text.map(|text| (name, Value::from(text))));
    }
    let states: Vec<&str> = filter.states.iter().map(|state| state.name()).collect();
    conditions.insert("state", Value::from(states));
    conditions.extend(filter.limit.map(|limit| ("limit", Value::from(limit))));
    serde_json::to_value(Written { conditions }).unwrap_or_default()
}

#[cfg(test)]
mod tests;

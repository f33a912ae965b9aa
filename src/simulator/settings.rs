//! What can be set before the start.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{fault_plan::FaultPlan, model::ProviderName};

/// How a simulator is to behave. `Settings::default()` listens on a free loopback port, plays no
/// faults and keeps its ledger in memory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where all providers and the control API are reached; loopback only, port 0 picks one.
    pub listen: SocketAddr,
    /// Whether each provider also has a port of its own, which alone can refuse connections.
    pub own_ports: OwnPorts,
    /// Decides every random fault, id and token.
    pub seed: u64,
    /// The file of the ledger; `None` keeps it in memory.
    pub ledger: Option<PathBuf>,
    /// Random faults.
    pub faults: FaultPlan,
    /// Requests a minute.
    pub limits: Limits,
    /// How long things take.
    pub pace: Pace,
    /// Who may call. A provider for which none is listed takes any credentials.
    pub credentials: Vec<Credential>,
    /// Whether an unknown payment id is authorised, generously, when it is first used.
    pub auto_authorize: bool,
    /// How long Afterpay replays the answer of a `requestId`: 24 h are documented as the most;
    /// afterwards the same id captures again (inference, and the worst that could be).
    pub key_window: Duration,
    /// Whether a stored refusal is replayed for its key as well (inference).
    pub replay_refusals: bool,
    /// How long tokens of Optty and Resolve live: 24 h by their documents.
    pub token_life: Duration,
    /// What a second capture of a captured Resolve charge does.
    pub resolve_recapture: Recapture,
    /// What Optty answers to a `captureReference` it has seen.
    pub optty_duplicate: DuplicateReference,
    /// Whether Optty's details show `captureReference` with each capture: unknown, so off.
    pub optty_shows_references: bool,
    /// Provider time minus real time, at the start.
    pub time_offset_ms: i64,
    /// So many requests are remembered in full; counts go on for ever.
    pub requests_kept: usize,
    /// Length of the body of the fault `huge-body`.
    pub huge_body_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            own_ports: OwnPorts::Picked,
            seed: 1,
            ledger: None,
            faults: FaultPlan::default(),
            limits: Limits::default(),
            pace: Pace::default(),
            credentials: Vec::new(),
            auto_authorize: false,
            key_window: Duration::from_secs(24 * 60 * 60),
            replay_refusals: true,
            token_life: Duration::from_secs(24 * 60 * 60),
            resolve_recapture: Recapture::Double,
            optty_duplicate: DuplicateReference::Refuse400,
            optty_shows_references: false,
            time_offset_ms: 0,
            requests_kept: 200_000,
            huge_body_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Ports of single providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPorts {
    /// None: a provider that is down resets connections on the common port.
    None,
    /// Free ports are picked.
    Picked,
    /// Afterpay has this port, Optty the next, Resolve the one after.
    From(u16),
}

/// Requests a minute and account, sliding, reads included; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Undocumented for Afterpay, though 429 was seen by shop plugins.
    pub afterpay_per_minute: Option<u32>,
    /// Undocumented for Optty.
    pub optty_per_minute: Option<u32>,
    /// 100 by Resolve's own documents.
    pub resolve_per_minute: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            afterpay_per_minute: None,
            optty_per_minute: None,
            resolve_per_minute: Some(100),
        }
    }
}

impl Limits {
    pub(super) fn per_minute(&self, provider: ProviderName) -> Option<u32> {
        match provider {
            ProviderName::Afterpay => self.afterpay_per_minute,
            ProviderName::Optty => self.optty_per_minute,
            ProviderName::Resolve => self.resolve_per_minute,
        }
    }
}

/// How long things take. Those marked (provider time) also pass when the clock is advanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long every answer of a provider takes, whatever it says: what is asked for has been done by then.
    pub answer_after: Duration,
    /// Silences and stalls end, by closing, after this; longer than the 70 s a client is asked to wait.
    pub silence: Duration,
    /// Between two bytes of a dripping answer.
    pub drip: Duration,
    /// Until a late request is executed (provider time).
    pub late_after: Duration,
    /// How long a slow request runs (provider time).
    pub running_for: Duration,
    /// How long an Optty capture stays pending (provider time).
    pub pending_for: Duration,
    /// Reads do not show captures younger than this (provider time).
    pub read_lag: Duration,
    /// The `Retry-After` of a rate limit, in whole seconds.
    pub retry_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer_after: Duration::ZERO,
            silence: Duration::from_secs(75),
            drip: Duration::from_secs(5),
            late_after: Duration::from_secs(100),
            running_for: Duration::from_secs(20),
            pending_for: Duration::from_secs(60),
            read_lag: Duration::ZERO,
            retry_after: Duration::from_secs(2),
        }
    }
}

/// One merchant's credentials at one provider.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Where they are taken.
    pub provider: ProviderName,
    /// User of basic authentication, or client id.
    pub merchant_id: String,
    /// Password, or client secret.
    pub secret: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Credential")
            .field("provider", &self.provider)
            .field("merchant_id", &self.merchant_id)
            .finish_non_exhaustive()
    }
}

/// What a second capture of a captured Resolve charge does. Undocumented; the default is the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recapture {
    /// The money moves again.
    #[default]
    Double,
    /// 400 `invalid_request`.
    #[serde(rename = "refuse_400")]
    Refuse400,
}

/// What Optty answers to a `captureReference` it has seen on this order. Undocumented; both are plausible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateReference {
    /// 400 with a text.
    #[default]
    #[serde(rename = "refuse_400")]
    Refuse400,
    /// The answer of the first capture.
    Replay,
}

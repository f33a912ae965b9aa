//! Who answers: three providers, four capture models, and what a call is about.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A provider that is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderName {
    /// Afterpay (Cash App Afterpay, Clearpay), API v2.
    Afterpay,
    /// Optty.
    Optty,
    /// Resolve, charges and orders.
    Resolve,
}

impl ProviderName {
    /// All of them, in the order of their own ports.
    pub const ALL: [ProviderName; 3] = [Self::Afterpay, Self::Optty, Self::Resolve];

    /// The name in paths, documents and ledgers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Afterpay => "afterpay",
            Self::Optty => "optty",
            Self::Resolve => "resolve",
        }
    }

    pub(super) fn place(self) -> usize {
        match self {
            Self::Afterpay => 0,
            Self::Optty => 1,
            Self::Resolve => 2,
        }
    }

    /// The model that stands for calls which belong to no payment.
    pub(super) fn usual_model(self) -> Model {
        match self {
            Self::Afterpay => Model::Afterpay,
            Self::Optty => Model::Optty,
            Self::Resolve => Model::ResolveCharge,
        }
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A text that names no provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no provider {0:?}; there are afterpay, optty and resolve")]
pub struct UnknownProvider(pub String);

impl FromStr for ProviderName {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.as_str() == name)
            .ok_or_else(|| UnknownProvider(name.to_owned()))
    }
}

/// A way of capturing. Resolve has two, told apart by the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// `POST /v2/payments/{id}/capture`, keyed by `requestId`.
    Afterpay,
    /// `POST /orders/{reference}/capture`, unique `captureReference`.
    Optty,
    /// `POST /charges/{id}/capture`, no key.
    ResolveCharge,
    /// `POST /orders/{id}/capture`, keyed by `idempotency_key`.
    ResolveOrder,
}

impl Model {
    pub(super) fn provider(self) -> ProviderName {
        match self {
            Self::Afterpay => ProviderName::Afterpay,
            Self::Optty => ProviderName::Optty,
            Self::ResolveCharge | Self::ResolveOrder => ProviderName::Resolve,
        }
    }
}

/// What a call does; faults are aimed by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Money may move.
    #[default]
    Capture,
    /// A payment, order, charge or invoice is looked at.
    Read,
    /// Metadata or shipping is written.
    Update,
    /// A token is asked for.
    Token,
    /// A path that the provider does not have.
    Unknown,
}

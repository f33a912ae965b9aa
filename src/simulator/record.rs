//! What came over the wire, for tests that count.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    fault::Fault,
    model::{Model, Operation, ProviderName},
};

/// One request as it was read. Bodies and credentials are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// From 0, in the order of arrival.
    pub seq: u64,
    /// Number of the connection it came on.
    pub connection: u64,
    /// Whom the path names.
    pub provider: Option<ProviderName>,
    /// Which model the path belongs to.
    pub model: Option<Model>,
    /// What it does.
    pub operation: Operation,
    /// As it came.
    pub method: String,
    /// As it came, still encoded.
    pub path: String,
    /// Merchant id of its credentials, if they were taken.
    pub account: Option<String>,
    /// From the path, decoded; an invoice is named by its payment.
    pub payment_id: Option<String>,
    /// `requestId` or `idempotency_key`.
    pub key: Option<String>,
    /// `paymentEventMerchantReference`, `captureReference`, `idempotency_key` or `order_number`.
    pub reference: Option<String>,
    /// Lower-case hex.
    pub body_sha256: String,
    /// By the providers' clock.
    pub arrived_at: DateTime<Utc>,
    /// What was played.
    pub fault: Option<Fault>,
    /// What was answered, or would have been.
    pub status: Option<u16>,
    /// Whether this request moved money, possibly long after its answer.
    pub money_moved: bool,
    /// Whether a stored answer was given again.
    pub replayed: bool,
}

/// Totals since the start; they are not read back from a ledger, but for the captures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests read.
    pub requests: u64,
    /// The same by provider.
    pub by_provider: BTreeMap<ProviderName, u64>,
    /// The same by what they do.
    pub by_operation: BTreeMap<Operation, u64>,
    /// Answers by status, whether or not they arrived.
    pub answers: BTreeMap<u16, u64>,
    /// Faults played, by name.
    pub faults: BTreeMap<String, u64>,
    /// Captures by calls.
    pub captures_ours: u64,
    /// Captures by others.
    pub captures_foreign: u64,
    /// Captures of ours beyond the first for one reference: the number that must be 0.
    pub doubles: u64,
    /// Stored answers given again.
    pub replays: u64,
    /// 409 while an earlier call with the key was running.
    pub in_progress: u64,
    /// Repeats of a key with another body: a fault of the client.
    pub key_reused_with_other_body: u64,
    /// 429 because of a limit, not of a fault.
    pub rate_limited: u64,
    /// Requests that arrived where a redirect pointed: a fault of the client.
    pub redirects_followed: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Of these, ended before anything was read.
    pub ended_at_accept: u64,
    /// Requests that ended before they were whole.
    pub incomplete_requests: u64,
}

//! What was truly captured, as others may see it.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    ledger_file::{Line, Movement},
    model::{Model, ProviderName},
};

/// Whose call moved the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writer {
    /// A capture call over HTTP.
    Ours,
    /// A dashboard, a shop plugin, another system.
    Foreign,
}

/// One movement of money. A declined, failed or still pending capture is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Where.
    pub provider: ProviderName,
    /// How, if by a call.
    pub model: Option<Model>,
    /// Merchant id of the credentials that the call came with.
    pub account: Option<String>,
    /// The authorised payment.
    pub payment_id: String,
    /// The provider's id of this capture.
    pub capture_id: String,
    /// The merchant's reference as received: `paymentEventMerchantReference`, `captureReference`,
    /// `idempotency_key`, or the `order_number` of a Resolve charge.
    pub reference: Option<String>,
    /// The idempotency key as received: `requestId` or `idempotency_key`.
    pub key: Option<String>,
    /// In minor units of the currency.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// By the provider's clock.
    pub captured_at: DateTime<Utc>,
    /// Ours or somebody else's.
    pub writer: Writer,
}

/// Provider, account, payment, reference.
pub(super) type IntentName = (ProviderName, Option<String>, String, Option<String>);

impl LedgerEntry {
    /// What the merchant means to capture once: two captures of one name are a double. A charge of
    /// Resolve, which has no reference of a capture, counts as one whole.
    pub fn intent_name(&self) -> (ProviderName, Option<String>, String, Option<String>) {
        let reference = self
            .reference
            .clone()
            .filter(|_| self.model != Some(Model::ResolveCharge));
        (self.provider, self.account.clone(), self.payment_id.clone(), reference)
    }

    pub(super) fn of(movement: &Movement) -> Self {
        Self {
            provider: movement.provider,
            model: movement.model,
            account: movement.account.clone(),
            payment_id: movement.payment_id.clone(),
            capture_id: movement.capture_id.clone(),
            reference: movement.reference.clone(),
            key: movement.key.clone(),
            amount_minor: movement.amount_minor,
            currency: movement.currency.clone(),
            captured_at: movement.at,
            writer: movement.writer,
        }
    }
}

/// The captures at one instant, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// All of them.
    pub captures: Vec<LedgerEntry>,
}

impl Ledger {
    /// Captures of one payment, whoever made them.
    pub fn of_payment(&self, payment_id: &str) -> Vec<&LedgerEntry> {
        self.captures
            .iter()
            .filter(|entry| entry.payment_id == payment_id)
            .collect()
    }

    /// Captures that came over HTTP.
    pub fn ours(&self) -> Vec<&LedgerEntry> {
        self.captures
            .iter()
            .filter(|entry| entry.writer == Writer::Ours)
            .collect()
    }

    /// Money moved on one payment, all writers.
    pub fn captured_minor(&self, payment_id: &str) -> i64 {
        self.of_payment(payment_id).iter().map(|entry| entry.amount_minor).sum()
    }

    /// Captures of ours that [`LedgerEntry::intent_name`] counts twice. This list must stay empty.
    pub fn doubled(&self) -> Vec<&LedgerEntry> {
        let mut seen = HashSet::new();
        let ours = self.ours().into_iter();
        ours.filter(|entry| !seen.insert(entry.intent_name())).collect()
    }
}

/// Why a ledger file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerReadError {
    /// The file itself.
    #[error("the ledger cannot be read")]
    Io(#[from] io::Error),
    /// A line that is whole but says nothing; a torn last line without its newline is no such case.
    #[error("line {line} of the ledger is damaged")]
    Damaged {
        /// From 1.
        line: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
}

/// Reads a ledger from outside, the simulator running, stopped or killed.
///
/// # Errors
/// If the file cannot be read, or a line that ends with a newline is damaged.
pub fn read_ledger(path: impl AsRef<Path>) -> Result<Vec<LedgerEntry>, LedgerReadError> {
    let (lines, _) = read_lines(path.as_ref())?;
    let mut pending: HashMap<String, Movement> = HashMap::new();
    let mut captures = Vec::new();
    for line in lines {
        match line {
            Line::Capture(movement) => captures.push(LedgerEntry::of(&movement)),
            Line::Pending(movement) => {
                pending.insert(movement.capture_id.clone(), movement);
            }
            Line::Settled {
                capture_id,
                captured: true,
                at,
                ..
            } => {
                if let Some(mut movement) = pending.remove(&capture_id) {
                    movement.at = at;
                    captures.push(LedgerEntry::of(&movement));
                }
            }
            _ => {}
        }
    }
    Ok(captures)
}

/// All whole lines, and how many bytes of the file they are.
pub(super) fn read_lines(path: &Path) -> Result<(Vec<Line>, u64), LedgerReadError> {
    let bytes = fs::read(path)?;
    let mut lines = Vec::new();
    let mut whole = 0_u64;
    for (place, text) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if text.last() != Some(&b'\n') {
            break;
        }
        let line = serde_json::from_slice(text).map_err(|source| LedgerReadError::Damaged {
            line: place + 1,
            source,
        })?;
        lines.push(line);
        whole += text.len() as u64;
    }
    Ok((lines, whole))
}

//! An authorised payment and what was done to it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    ledger_file::{Movement, Standing},
    model::ProviderName,
};

/// A payment that the shopper has agreed to, ready to be captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// Where.
    pub provider: ProviderName,
    /// Merchant id that alone sees it; `None`: every account does.
    #[serde(default)]
    pub account: Option<String>,
    /// Afterpay order id, Optty order reference, Resolve charge or order id.
    pub payment_id: String,
    /// What was authorised, in minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// From when on captures are refused.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// Provider time; filled in if absent.
    #[serde(default)]
    pub created_at: Option<DateTime<Utc>>,
    /// Optty: added to the order amount.
    #[serde(default)]
    pub surcharge_minor: i64,
    /// Optty: captures without `shippingInfo` are refused.
    #[serde(default)]
    pub requires_shipping: bool,
    /// The shopper's bank said no: nothing can be captured.
    #[serde(default)]
    pub declined: bool,
    /// Afterpay's reference of the order.
    #[serde(default)]
    pub merchant_reference: Option<String>,
    /// Resolve's order number.
    #[serde(default)]
    pub order_number: Option<String>,
    /// Resolve's purchase order number.
    #[serde(default)]
    pub po_number: Option<String>,
    /// The first capture decides the currency; for payments authorised on first use.
    #[serde(default)]
    pub any_currency: bool,
}

impl Authorization {
    /// A plain one: every account sees it, it does not expire.
    pub fn new(
        provider: ProviderName,
        payment_id: impl Into<String>,
        amount_minor: i64,
        currency: impl Into<String>,
    ) -> Self {
        Self {
            provider,
            account: None,
            payment_id: payment_id.into(),
            amount_minor,
            currency: currency.into(),
            expires_at: None,
            created_at: None,
            surcharge_minor: 0,
            requires_shipping: false,
            declined: false,
            merchant_reference: None,
            order_number: None,
            po_number: None,
            any_currency: false,
        }
    }

    /// The same, seen by one account only.
    pub fn for_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// The same, refusing captures from an instant on.
    pub fn expiring_at(mut self, expires_at: DateTime<Utc>) -> Self {
        self.expires_at = Some(expires_at);
        self
    }
}

/// The goods of a payment, as they were told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldParcel {
    /// The carrier.
    pub courier: String,
    /// The parcel's number.
    pub tracking: String,
    /// Afterpay: when it left, as it was written.
    pub shipped_at: Option<String>,
    /// Resolve: of which invoice.
    pub invoice_id: Option<String>,
    /// By the provider's clock.
    pub told_at: DateTime<Utc>,
}

/// How a payment is found: the provider, the account if it belongs to one, its id.
pub(super) type PaymentKey = (ProviderName, Option<String>, String);

#[derive(Clone, Debug)]
pub(super) struct Payment {
    pub(super) authorization: Authorization,
    pub(super) created_at: DateTime<Utc>,
    pub(super) voided_at: Option<DateTime<Utc>>,
    pub(super) movements: Vec<Movement>,
    pub(super) metadata: serde_json::Map<String, serde_json::Value>,
    pub(super) parcels: Vec<ToldParcel>,
    /// Held from the decision about a capture until it is in the ledger.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Payment {
    pub(super) fn new(authorization: Authorization, now: DateTime<Utc>) -> Self {
        Self {
            created_at: authorization.created_at.unwrap_or(now),
            authorization,
            voided_at: None,
            movements: Vec::new(),
            metadata: serde_json::Map::new(),
            parcels: Vec::new(),
            turn: Arc::default(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.authorization.payment_id
    }

    pub(super) fn key(&self) -> PaymentKey {
        let authorization = &self.authorization;
        (
            authorization.provider,
            authorization.account.clone(),
            authorization.payment_id.clone(),
        )
    }

    pub(super) fn currency(&self) -> &str {
        &self.authorization.currency
    }

    /// Order amount and surcharge.
    pub(super) fn authorized_minor(&self) -> i64 {
        self.authorization.amount_minor + self.authorization.surcharge_minor
    }

    /// What is taken, or may yet be taken.
    pub(super) fn taken_minor(&self) -> i64 {
        self.movements
            .iter()
            .filter(|movement| movement.standing.holds_money())
            .map(|movement| movement.amount_minor)
            .sum()
    }

    pub(super) fn remaining_minor(&self) -> i64 {
        (self.authorized_minor() - self.taken_minor()).max(0)
    }

    pub(super) fn is_voided(&self, at: DateTime<Utc>) -> bool {
        self.voided_at.is_some_and(|voided_at| voided_at <= at)
    }

    pub(super) fn is_expired(&self, at: DateTime<Utc>) -> bool {
        self.authorization.expires_at.is_some_and(|expires_at| expires_at <= at)
    }

    pub(super) fn next_capture_id(&self, prefix: &str) -> String {
        let provider = self.authorization.provider;
        let ordinal = self.movements.len() + 1;
        let account = self.authorization.account.as_deref().unwrap_or_default();
        let name = format!("{provider}/{account}/{}/{ordinal}", self.id());
        let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes());
        format!("{prefix}{}", id.simple())
    }
}

/// What one answer shows of a payment: not always all that there is.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) payment: &'a Payment,
    /// Movements from here on are not shown.
    pub(super) upto: usize,
    /// Movements, voids and expiries after this are not shown.
    pub(super) as_of: DateTime<Utc>,
    /// What is shown wrongly.
    pub(super) twist: Option<Twist>,
}

/// One lie, told about the last movement shown, or about the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twist {
    Amount,
    Currency,
    Reference,
    Payment,
    /// The id of the capture ends with [`BROKEN`], which the wire replaces by something worse.
    BrokenId,
    Number,
}

/// Stands in a string for what no JSON writer would write.
pub(super) const BROKEN: char = '\u{1}';

impl<'a> View<'a> {
    pub(super) fn movements(&self) -> impl DoubleEndedIterator<Item = Movement> + use<'a> {
        let as_of = self.as_of;
        let shown: Vec<&'a Movement> = self
            .payment
            .movements
            .iter()
            .take(self.upto)
            .filter(|movement| movement.at <= as_of)
            .collect();
        let last = shown.len().saturating_sub(1);
        let twist = self.twist;
        shown.into_iter().enumerate().map(move |(place, movement)| {
            let mut movement = movement.clone();
            if place == last {
                match twist {
                    Some(Twist::Amount) => movement.amount_minor += 1,
                    Some(Twist::Reference) => movement.reference = Some("somebody-elses".to_owned()),
                    Some(Twist::BrokenId) => movement.capture_id.push(BROKEN),
                    _ => {}
                }
            }
            movement
        })
    }

    pub(super) fn payment_id(&self) -> String {
        match self.twist {
            Some(Twist::Payment) => format!("{}9", self.payment.id()),
            _ => self.payment.id().to_owned(),
        }
    }

    pub(super) fn currency(&self) -> &'a str {
        match (self.twist, self.payment.currency()) {
            (Some(Twist::Currency), "NZD") => "AUD",
            (Some(Twist::Currency), _) => "NZD",
            (_, currency) => currency,
        }
    }

    pub(super) fn captured_minor(&self) -> i64 {
        self.movements()
            .filter(|movement| movement.standing == Standing::Captured)
            .map(|movement| movement.amount_minor)
            .sum()
    }
}

//! What was asked: one capture of one amount on one authorised payment.
//!
//! An intent never changes once it is in the outbox. Everything that is sent to a provider follows from it: the
//! reference, the idempotency key (from the intent and the key generation) and the body, so that a repeat is
//! byte-identical by construction.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The identity of an intent. Also the reference that the provider is given (36 ASCII characters).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IntentId(pub Uuid);

impl IntentId {
    /// The reference under which the provider files this capture: the id, hyphenated, 36 ASCII characters.
    pub fn reference(self) -> String {
        self.0.hyphenated().to_string()
    }

    /// The idempotency key of a generation: a function of the intent and the generation alone, never of the attempt.
    pub fn key(self, generation: KeyGeneration) -> IdempotencyKey {
        IdempotencyKey(Uuid::new_v5(
            &self.0,
            format!("capture key generation {}", generation.0).as_bytes(),
        ))
    }
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for IntentId {
    type Err = uuid::Error;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(s).map(IntentId)
    }
}

/// Which key an intent uses with a keyed provider. Rises only when it is proven that the key before moved no money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGeneration(pub i16);

impl KeyGeneration {
    /// The generation after this one.
    pub fn next(self) -> KeyGeneration {
        KeyGeneration(self.0.saturating_add(1))
    }
}

/// What a keyed provider recognises a repeat by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Uuid);

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// One (provider, account): the unit of concurrency, rate, pause and breaker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Lane {
    /// `afterpay`, `optty`, `resolve`, or what is added later.
    pub provider: String,
    /// Which merchant account's credentials.
    pub account: String,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.account)
    }
}

/// An ISO 4217 currency with its exponent (JPY 0, USD 2, KWD 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// `None` if `code` is no ISO 4217 code, or one without minor units (gold, test codes).
    pub fn from_code(code: &str) -> Option<Currency> {
        let currency = iso_currency::Currency::from_code(code)?;
        currency.exponent()?;
        Some(Currency(currency))
    }

    /// Three capital letters.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// How many decimal digits the minor unit has.
    pub fn exponent(self) -> u32 {
        self.0.exponent().map_or(2, u32::from)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount in whole minor units. Never a float; written to and read from decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// Whole minor units (cents for USD, yen for JPY).
    pub minor: i64,
    /// Which currency's minor units.
    pub currency: Currency,
}

/// Why digits are no amount of a currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not of the form `-?digits[.digits]`.
    #[error("'{0}' is not a plain decimal number")]
    NotDecimal(String),
    /// More decimal digits than the currency has, and not zeros.
    #[error("'{digits}' has more decimals than {currency} allows ({exponent})")]
    TooPrecise {
        /// What was read.
        digits: String,
        /// The currency's code.
        currency: &'static str,
        /// How many decimals it has.
        exponent: u32,
    },
    /// Beyond what 64 bits of minor units hold.
    #[error("'{0}' is too large")]
    TooLarge(String),
}

impl Money {
    /// An amount of `minor` units.
    pub fn new(minor: i64, currency: Currency) -> Money {
        Money { minor, currency }
    }

    /// The amount as decimal digits with the currency's decimals: `10.00`, `1000` (JPY), `1.250` (KWD).
    pub fn decimal(self) -> String {
        let exponent = self.currency.exponent() as usize;
        let sign = if self.minor < 0 { "-" } else { "" };
        let digits = self.minor.unsigned_abs().to_string();
        if exponent == 0 {
            return format!("{sign}{digits}");
        }
        let padded = format!("{digits:0>width$}", width = exponent + 1);
        let (whole, cents) = padded.split_at(padded.len() - exponent);
        format!("{sign}{whole}.{cents}")
    }

    /// Reads decimal digits (`10`, `10.0`, `10.00`, `-3.5`). An exponent (`1e2`) is refused: no provider documents one.
    pub fn from_decimal(digits: &str, currency: Currency) -> Result<Money, AmountError> {
        let bad = || AmountError::NotDecimal(digits.chars().take(40).collect());
        let (negative, unsigned) = match digits.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, digits),
        };
        let (whole, decimals) = match unsigned.split_once('.') {
            Some((whole, decimals)) if !decimals.is_empty() => (whole, decimals),
            Some(_) => return Err(bad()),
            None => (unsigned, ""),
        };
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(decimals) {
            return Err(bad());
        }
        let exponent = currency.exponent() as usize;
        let (kept, cut) = decimals.split_at(decimals.len().min(exponent));
        if cut.bytes().any(|b| b != b'0') {
            return Err(AmountError::TooPrecise {
                digits: digits.chars().take(40).collect(),
                currency: currency.code(),
                exponent: currency.exponent(),
            });
        }
        let sign = if negative { "-" } else { "" };
        let minor = format!("{sign}{whole}{kept:0<exponent$}")
            .parse::<i64>()
            .map_err(|_| AmountError::TooLarge(digits.chars().take(40).collect()))?;
        Ok(Money { minor, currency })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.decimal(), self.currency)
    }
}

/// Where the goods went; sent along where the provider's capture takes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shipping {
    /// The carrier.
    pub company: String,
    /// The carrier's service.
    pub method: String,
    /// The parcel's number.
    pub tracking_number: String,
}

/// The goods of a capture that is on record, as its provider is told of them where the capture itself takes no shipping data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Whose capture.
    pub intent: IntentId,
    /// The authorised payment at the provider.
    pub payment_id: String,
    /// The provider's own id of the capture, or of its invoice.
    pub provider_capture_id: String,
    /// Where the goods went.
    pub shipping: Shipping,
    /// When we were told that they left.
    pub shipped_at: DateTime<Utc>,
}

/// What the order system said beside the amount; all optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// Free text shown by the provider.
    pub description: Option<String>,
    /// Where the goods went.
    pub shipping: Option<Shipping>,
    /// Overwrites the order's reference at Afterpay for ever; sent only if given.
    pub merchant_reference: Option<String>,
    /// Overrides the charge's order number at Resolve; sent only if given.
    pub order_number: Option<String>,
    /// Overrides the charge's purchase order number at Resolve; sent only if given.
    pub po_number: Option<String>,
}

/// One capture that was asked for. Immutable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CaptureIntent {
    /// The intent's id, and the reference of the capture at the provider.
    pub id: IntentId,
    /// Provider and account.
    pub lane: Lane,
    /// The merchant's own order number.
    pub order_id: String,
    /// The authorised payment at the provider.
    pub payment_id: String,
    /// The merchant's own reference of this capture, unique for ever within the payment.
    pub capture_ref: String,
    /// How much to capture; greater than zero.
    pub amount: Money,
    /// What was authorised in all, in minor units of the same currency, if known.
    pub authorized_minor: Option<i64>,
    /// When the authorisation ends, if known. Nothing is sent after it.
    pub authorization_expires_at: Option<DateTime<Utc>>,
    /// Shipping and references.
    pub details: Details,
    /// W3C trace context of the producer.
    pub traceparent: Option<String>,
    /// When it was inserted, by the database's clock.
    pub created_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn currency(code: &str) -> Currency {
        Currency::from_code(code).unwrap()
    }

    #[test]
    fn amounts_are_written_with_the_decimals_of_their_currency() {
        for (minor, code, written) in [
            (1000, "USD", "10.00"),
            (1, "USD", "0.01"),
            (1000, "JPY", "1000"),
            (1250, "KWD", "1.250"),
            (-350, "EUR", "-3.50"),
            (i64::MAX, "USD", "92233720368547758.07"),
        ] {
            assert_eq!(Money::new(minor, currency(code)).decimal(), written);
        }
    }

    #[test]
    fn digits_that_are_no_amount_are_refused() {
        for digits in [
            "",
            ".",
            "1.",
            ".5",
            "1e2",
            "1,00",
            "0x10",
            "NaN",
            "10.001",
            "--1",
            "92233720368547758.08",
            " 1",
        ] {
            assert!(
                Money::from_decimal(digits, currency("USD")).is_err(),
                "{digits} was taken for an amount"
            );
        }
        assert_eq!(Money::from_decimal("10.000", currency("USD")).unwrap().minor, 1000);
        assert_eq!(Money::from_decimal("10", currency("KWD")).unwrap().minor, 10_000);
    }

    #[test]
    fn a_key_follows_from_intent_and_generation_alone() {
        let id: IntentId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(id.key(KeyGeneration(0)), id.key(KeyGeneration(0)));
        assert_ne!(id.key(KeyGeneration(0)), id.key(KeyGeneration(1)));
        assert_eq!(id.reference().len(), 36);
    }

    proptest! {
        #[test]
        fn an_amount_survives_writing_and_reading(minor in any::<i64>(), code in prop::sample::select(vec!["USD", "JPY", "KWD", "EUR"])) {
            let money = Money::new(minor, currency(code));
            prop_assert_eq!(Money::from_decimal(&money.decimal(), money.currency).unwrap(), money);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            let _ = Money::from_decimal(&text, currency("USD"));
        }
    }
}

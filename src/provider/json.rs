//! JSON as money needs it: amounts leave as the digits they are and come back as the digits that were sent, never
//! through a float; ids may be strings or whole numbers.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::intent::{Currency, Money};
use crate::outcome::{Class, Evidence, Failure};

/// A decimal that was sent as a JSON number (`10.00`) or as a string (`"10.00"`), digit by digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digits(String);

impl Digits {
    /// As an amount of that currency; `None` if it is none.
    pub(super) fn money(&self, currency: Currency) -> Option<Money> {
        Money::from_decimal(&self.0, currency).ok()
    }

    /// For evidence: the digits, cut short.
    pub(super) fn shown(&self) -> String {
        crate::outcome::printable_id(&self.0).chars().take(24).collect()
    }
}

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        Ok(Digits(text.0))
    }
}

/// An id or a word that was sent as a string or as a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text).map(Text).map_err(D::Error::custom),
            Some(b'-' | b'0'..=b'9') => Ok(Text(text.to_owned())),
            _ => Err(D::Error::custom("neither a string nor a number")),
        }
    }
}

/// The amount as a JSON number with exactly its currency's decimals.
pub(super) fn number(amount: Money) -> Result<Box<RawValue>, Failure> {
    RawValue::from_string(amount.decimal()).map_err(|_| unbuildable())
}

/// The compact bytes of a request's body.
pub(super) fn body<T: Serialize>(content: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(content).map_err(|_| unbuildable())
}

/// The compact bytes of white-listed facts.
pub(super) fn evidence<T: Serialize>(facts: &T) -> Evidence {
    Evidence::new(serde_json::to_vec(facts).unwrap_or_default())
}

/// A request that we could not build: our own mistake, and nothing left this machine.
pub(super) fn unbuildable() -> Failure {
    Failure::new(Class::Rejected, "unbuildable")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd() -> Currency {
        Currency::from_code("USD").unwrap()
    }

    #[test]
    fn an_amount_is_read_from_the_digits_that_were_sent() {
        for sent in ["10.00", "\"10.00\"", "10", "10.0", "\"10\"", "10.000"] {
            let digits: Digits = serde_json::from_str(sent).unwrap();
            assert_eq!(digits.money(usd()), Some(Money::new(1000, usd())), "{sent}");
        }
        for odd in ["1e1", "10.001", "\"\"", "\"ten\"", "1e400000"] {
            let digits: Digits = serde_json::from_str(odd).unwrap();
            assert_eq!(digits.money(usd()), None, "{odd}");
        }
        for other in ["true", "null", "[10]", "{\"amount\":10}"] {
            assert!(serde_json::from_str::<Digits>(other).is_err(), "{other}");
        }
    }

    #[test]
    fn an_amount_is_written_as_a_number_that_no_float_has_touched() {
        let huge = Money::new(i64::MAX, usd());
        assert_eq!(number(huge).unwrap().get(), "92233720368547758.07");
    }
}

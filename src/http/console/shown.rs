//! Amounts, times and counts as people read them. Amounts are whole minor units from end to end.

use chrono::{DateTime, SecondsFormat, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::intent::{Currency, Money};

/// What needs no escape in an address.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `4,102`.
pub fn count(number: impl Into<i128>) -> String {
    grouped(&number.into().to_string())
}

/// `1 capture`, `4,102 captures`.
pub fn captures(number: i64) -> String {
    match number {
        1 => "1 capture".to_owned(),
        several => format!("{} captures", count(several)),
    }
}

/// Digits in groups of three: `12,345.60`.
fn grouped(decimal: &str) -> String {
    let (sign, unsigned) = match decimal.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", decimal),
    };
    let (whole, cents) = match unsigned.split_once('.') {
        Some((whole, cents)) => (whole, format!(".{cents}")),
        None => (unsigned, String::new()),
    };
    let mut groups = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n).is_multiple_of(3) {
            groups.push(',');
        }
        groups.push(digit);
    }
    format!("{sign}{groups}{cents}")
}

/// `1,234.50 USD`.
pub fn money(minor: i64, currency: &str) -> String {
    match Currency::from_code(currency) {
        Some(known) => format!("{} {currency}", grouped(&Money::new(minor, known).decimal())),
        None => format!("{} minor units of {currency}", count(minor)),
    }
}

/// How many decimals the currency has.
pub fn exponent(currency: &str) -> u32 {
    Currency::from_code(currency).map_or(0, Currency::exponent)
}

/// `1,234.50 USD + 20.00 EUR`, the sums by currency; nothing is `0`.
pub fn sums<'a>(amounts: impl IntoIterator<Item = (&'a str, i64)>) -> String {
    let mut sums = std::collections::BTreeMap::<&str, i64>::new();
    for (currency, minor) in amounts {
        let sum = sums.entry(currency).or_default();
        *sum = sum.saturating_add(minor);
    }
    match sums.is_empty() {
        true => "0".to_owned(),
        false => {
            let shown: Vec<String> = sums.iter().map(|(currency, minor)| money(*minor, currency)).collect();
            shown.join(" + ")
        }
    }
}

/// `2 h 14 min`: the two largest units.
pub fn span(seconds: i64) -> String {
    let all = seconds.unsigned_abs();
    let (days, hours, minutes) = (all / 86_400, all % 86_400 / 3_600, all % 3_600 / 60);
    let pair = |first: u64, unit: &str, second: u64, other: &str| match second {
        0 => format!("{first} {unit}"),
        _ => format!("{first} {unit} {second} {other}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{all} s"),
        (0, 0, minutes) if minutes < 10 => pair(minutes, "min", all % 60, "s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => pair(hours, "h", minutes, "min"),
        (days, hours, _) => pair(days, "d", hours, "h"),
    }
}

/// A time as it is served: UTC, which the script may show in the reader's zone.
#[derive(Debug, Clone)]
pub struct Time {
    /// For programs.
    pub iso: String,
    /// For people.
    pub shown: String,
    /// How much of it is shown.
    pub form: &'static str,
}

impl Time {
    fn of(at: DateTime<Utc>, form: &'static str, pattern: &str) -> Time {
        Time {
            iso: at.to_rfc3339_opts(SecondsFormat::Millis, true),
            shown: at.format(pattern).to_string(),
            form,
        }
    }

    /// `12:03:41 UTC`: of today.
    pub fn clock(at: DateTime<Utc>) -> Time {
        Time::of(at, "clock", "%H:%M:%S UTC")
    }

    /// `21 Nov 02:10`: in a list.
    pub fn day(at: DateTime<Utc>) -> Time {
        Time::of(at, "day", "%-d %b %H:%M")
    }

    /// `21 Nov 2026 02:10:31 UTC`.
    pub fn full(at: DateTime<Utc>) -> Time {
        Time::of(at, "full", "%-d %b %Y %H:%M:%S UTC")
    }
}

/// How soon something ends.
#[derive(Debug, Clone)]
pub struct Ends {
    /// `in 14 h`, `2 h ago`; and who said so, if it was not the order system: `in 14 h, assumed`.
    pub shown: String,
    /// The tone of it: `bad`, `warn` or none.
    pub tone: &'static str,
}

impl Ends {
    /// Of an authorisation that ends then, as `source` said.
    pub fn of(at: DateTime<Utc>, source: Option<&str>, now: DateTime<Utc>) -> Ends {
        let left = (at - now).num_seconds();
        let (shown, tone) = match left {
            ..=0 => (format!("{} ago", span(left)), "bad"),
            1..=21_600 => (format!("in {}", span(left)), "bad"),
            21_601..=172_800 => (format!("in {}", span(left)), "warn"),
            _ => (format!("in {}", span(left)), ""),
        };
        match source {
            None | Some("producer") => Ends { shown, tone },
            Some(source) => Ends {
                shown: format!("{shown}, {source}"),
                tone,
            },
        }
    }
}

/// The tone of a state.
pub fn tone_of_state(state: &str) -> &'static str {
    match state {
        "captured" | "done" => "good",
        "dead" | "stopped" | "failed" => "bad",
        "verifying" | "held" | "paused" | "cancelled" => "warn",
        "leased" | "running" => "on",
        _ => "",
    }
}

/// One part of an address, escaped.
pub fn part(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A query string.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", part(name), part(value)))
        .collect();
    pairs.join("&")
}

/// A path and its query.
pub fn address(path: &str, pairs: &[(&str, &str)]) -> String {
    match pairs {
        [] => path.to_owned(),
        _ => format!("{path}?{}", query(pairs)),
    }
}

/// A word as a shell reads it.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | ',' | '@' | '+');
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_grouped_and_keep_every_digit() {
        assert_eq!(money(123_456_789, "USD"), "1,234,567.89 USD");
        assert_eq!(money(-5, "USD"), "-0.05 USD");
        assert_eq!(money(1_000, "JPY"), "1,000 JPY");
        assert_eq!(money(i64::MAX, "KWD"), "9,223,372,036,854,775.807 KWD");
        assert_eq!(sums([("USD", 1), ("EUR", 2), ("USD", 3)]), "0.02 EUR + 0.04 USD");
    }

    #[test]
    fn spans_are_told_in_two_units() {
        let told: Vec<String> = [5, 65, 840, 8_040, 7_200, 90_000].into_iter().map(span).collect();
        assert_eq!(told, ["5 s", "1 min 5 s", "14 min", "2 h 14 min", "2 h", "1 d 1 h"]);
    }

    #[test]
    fn a_word_for_a_shell_ends_nothing_and_begins_nothing() {
        assert_eq!(shell_word("order-1"), "order-1");
        assert_eq!(shell_word("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
    }
}

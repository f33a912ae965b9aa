//! What a search asks for: the same names and forms on the command line, in the HTTP API and in the console's URL.
//!
//! A filter is built from pairs of name and text, so that the three read every value alike and tell the same fault in
//! the same words. Conditions are joined by *and*; the listed states of `state` by *or*.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};

use crate::intent::{Currency, Money};
use crate::outcome::Class;

/// The state of an intent, as the view `status` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Waits for a release.
    Held,
    /// Waits for a time: scheduled by the producer, or the pause before another attempt.
    Scheduled,
    /// May be claimed now.
    Ready,
    /// A worker has it.
    Leased,
    /// Its outcome is unknown or not final; reads will tell.
    Verifying,
    /// Done, with a receipt or a proof.
    Captured,
    /// Ended without a capture that we know of; a person decides.
    Dead,
    /// Withdrawn before it was sent.
    Cancelled,
}

impl State {
    /// Every state, in the order of an intent's way.
    pub const ALL: [State; 8] = [
        State::Held,
        State::Scheduled,
        State::Ready,
        State::Leased,
        State::Verifying,
        State::Captured,
        State::Dead,
        State::Cancelled,
    ];

    /// The name in SQL, CLI and HTTP.
    pub fn name(self) -> &'static str {
        match self {
            State::Held => "held",
            State::Scheduled => "scheduled",
            State::Ready => "ready",
            State::Leased => "leased",
            State::Verifying => "verifying",
            State::Captured => "captured",
            State::Dead => "dead",
            State::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Has an intent in this state ended?
    pub fn is_end(self) -> bool {
        match self {
            State::Captured | State::Dead | State::Cancelled => true,
            State::Held | State::Scheduled | State::Ready | State::Leased | State::Verifying => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The types of events that this version writes, without their prefix `capture.`.
pub const EVENT_TYPES: [&str; 14] = [
    "enqueued",
    "held",
    "released",
    "attempt_failed",
    "retry_scheduled",
    "outcome_unknown",
    "captured",
    "dead_lettered",
    "cancelled",
    "replayed",
    "resolved",
    "late_result",
    "auth_expiring",
    "shipment_unmatched",
];

/// An event's type as the feed writes it, from its name with or without the prefix; else what is wrong and what would be
/// right.
pub fn event_type(name: &str) -> Result<String, (String, String)> {
    let short = name.trim().trim_start_matches("capture.");
    match EVENT_TYPES.contains(&short) {
        true => Ok(format!("capture.{short}")),
        false => Err(unknown(short, EVENT_TYPES)),
    }
}

/// How an amount is compared with the filter's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    More,
}

impl Comparison {
    /// The longer signs first, so that `>=` is not read as `>`.
    const ALL: [Comparison; 5] = [
        Comparison::AtMost,
        Comparison::AtLeast,
        Comparison::Less,
        Comparison::More,
        Comparison::Equal,
    ];

    /// The sign, which is also SQL's.
    pub fn sign(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::AtMost => "<=",
            Comparison::Equal => "=",
            Comparison::AtLeast => ">=",
            Comparison::More => ">",
        }
    }
}

/// Which intents are meant. `Default`: all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// `--provider`
    pub provider: Option<String>,
    /// `--account`
    pub account: Option<String>,
    /// `--state`: one of these; empty: any.
    pub states: Vec<State>,
    /// `--class`: the class of the last failure.
    pub class: Option<Class>,
    /// `--code`: the code of the last failure.
    pub code: Option<String>,
    /// `--order`
    pub order_id: Option<String>,
    /// `--payment`
    pub payment_id: Option<String>,
    /// `--since`: created at this instant or later.
    pub since: Option<DateTime<Utc>>,
    /// `--until`: created before this instant.
    pub until: Option<DateTime<Utc>>,
    /// `--amount`: compared within its currency only; intents of other currencies do not match.
    pub amount: Option<(Comparison, Money)>,
    /// `--expires-within`: the authorisation's deadline is known, not over, and this near.
    pub expires_within: Option<Duration>,
    /// `--limit`: at most so many rows. `None`: the verb's own bound.
    pub limit: Option<u32>,
}

/// The most rows that a `limit` may ask for: 1,000,000. A bound so that a slip of the finger is noticed.
pub const MOST_ROWS: u32 = 1_000_000;

/// The longest `expires-within`, and the longest way back of `--since 24h`: 10 years.
const LONGEST_SPAN: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Why a filter was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {wrong}")]
pub struct FilterFault {
    /// Which condition, such as `since`.
    pub name: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl Filter {
    /// The names of all conditions.
    pub const NAMES: [&str; 12] = [
        "provider",
        "account",
        "state",
        "class",
        "code",
        "order",
        "payment",
        "since",
        "until",
        "amount",
        "expires-within",
        "limit",
    ];

    /// Builds a filter from names and texts; `state` may come several times or list states with commas. Relative times
    /// (`24h`) count back from `now`. Tells every fault.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        now: DateTime<Utc>,
    ) -> Result<Filter, Vec<FilterFault>> {
        let mut filter = Filter::default();
        let mut faults = Vec::new();
        for (name, text) in pairs {
            if let Err((wrong, right)) = filter.add(name, text.trim(), now) {
                let name = name.to_owned();
                faults.push(FilterFault { name, wrong, right });
            }
        }
        if let (Some(since), Some(until)) = (filter.since, filter.until)
            && since >= until
        {
            faults.push(FilterFault {
                name: "until".to_owned(),
                wrong: format!("{} is not after since ({})", written(until), written(since)),
                right: "since is the earlier one; until itself is not included".to_owned(),
            });
        }
        if faults.is_empty() { Ok(filter) } else { Err(faults) }
    }

    fn add(&mut self, name: &str, text: &str, now: DateTime<Utc>) -> Result<(), (String, String)> {
        if text.is_empty() {
            return Err(("is empty".to_owned(), "give a value or leave it out".to_owned()));
        }
        match name {
            "provider" => once(&mut self.provider, text.to_owned()),
            "account" => once(&mut self.account, text.to_owned()),
            "code" => once(&mut self.code, text.to_owned()),
            "order" => once(&mut self.order_id, text.to_owned()),
            "payment" => once(&mut self.payment_id, text.to_owned()),
            "state" => {
                for name in text.split(',').map(str::trim) {
                    let state = State::from_name(name).ok_or_else(|| unknown(name, State::ALL.map(State::name)))?;
                    if !self.states.contains(&state) {
                        self.states.push(state);
                    }
                }
                Ok(())
            }
            "class" => {
                let class = Class::from_name(text).ok_or_else(|| unknown(text, Class::ALL.map(Class::name)))?;
                once(&mut self.class, class)
            }
            "since" => once(&mut self.since, instant(text, now)?),
            "until" => once(&mut self.until, instant(text, now)?),
            "amount" => once(&mut self.amount, amount(text)?),
            "expires-within" | "expires_within" => once(&mut self.expires_within, span(text)?),
            "limit" => once(&mut self.limit, limit(text)?),
            _ => Err((
                "is no filter".to_owned(),
                format!("filters are {}", Filter::NAMES.join(", ")),
            )),
        }
    }

    /// Does it mean every intent there is? (A limit alone does not choose.)
    pub fn means_everything(&self) -> bool {
        let unlimited = Filter {
            limit: None,
            ..self.clone()
        };
        unlimited == Filter::default()
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), (String, String)> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(("is given twice".to_owned(), "give it once".to_owned())),
    }
}

fn unknown<const N: usize>(text: &str, names: [&'static str; N]) -> (String, String) {
    let wrong = format!("there is no '{}'", shortened(text));
    let distance = |name: &&&str| strsim::damerau_levenshtein(name, text);
    // A slip or two, in a long name one more.
    let slips = (text.chars().count() / 3).max(2);
    let near = names.iter().min_by_key(distance).filter(|name| distance(name) <= slips);
    let right = match near {
        Some(near) => format!("did you mean {near}? It is one of {}", names.join(", ")),
        None => format!("it is one of {}", names.join(", ")),
    };
    (wrong, right)
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

fn written(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// RFC 3339, a date (its first instant, UTC), or how long ago.
pub fn instant(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, (String, String)> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(instant.to_utc());
    }
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN).and_utc());
    }
    let ago = humantime::parse_duration(text)
        .ok()
        .filter(|ago| !ago.is_zero() && *ago <= LONGEST_SPAN);
    let instant = ago.and_then(|ago| now.checked_sub_signed(chrono::TimeDelta::from_std(ago).ok()?));
    instant.ok_or_else(|| {
        (
            format!("'{}' is no time", shortened(text)),
            "write 2026-01-31T10:00:00Z, a date such as 2026-01-31 (00:00 UTC), or how long ago, such as 24h or 7d"
                .to_owned(),
        )
    })
}

fn span(text: &str) -> Result<Duration, (String, String)> {
    let span = humantime::parse_duration(text).ok();
    span.filter(|span| !span.is_zero() && *span <= LONGEST_SPAN)
        .ok_or_else(|| {
            (
                format!("'{}' is no span of time", shortened(text)),
                "write a number and its unit, such as 30m, 48h or 7d".to_owned(),
            )
        })
}

/// `>=100.00 USD`; without a sign, equal.
fn amount(text: &str) -> Result<(Comparison, Money), (String, String)> {
    let right = || "write it like '>=100.00 USD' (in quotes), with <, <=, =, >= or >".to_owned();
    let found = Comparison::ALL.into_iter().find(|sign| text.starts_with(sign.sign()));
    let comparison = found.unwrap_or(Comparison::Equal);
    let rest = match found {
        Some(comparison) => text.strip_prefix(comparison.sign()).unwrap_or(text),
        None => text,
    };
    let Some((digits, code)) = rest.trim().split_once(char::is_whitespace) else {
        return Err((format!("'{}' is no amount with its currency", shortened(text)), right()));
    };
    let code = code.trim();
    let Some(currency) = Currency::from_code(code) else {
        let wrong = format!("'{}' is no currency of ISO 4217", shortened(code));
        return Err((wrong, right()));
    };
    match Money::from_decimal(digits, currency) {
        Ok(money) if money.minor >= 0 => Ok((comparison, money)),
        Ok(_) => Err(("an amount is never negative".to_owned(), right())),
        Err(error) => Err((error.to_string(), right())),
    }
}

fn limit(text: &str) -> Result<u32, (String, String)> {
    let limit = text.parse::<u32>().ok();
    limit.filter(|limit| (1..=MOST_ROWS).contains(limit)).ok_or_else(|| {
        (
            format!("'{}' is no number of rows", shortened(text)),
            format!("write a whole number from 1 to {MOST_ROWS}"),
        )
    })
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;

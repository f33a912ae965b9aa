//! Typed cells and the columns that they stand in.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::Color;
use serde_json::Value;

use crate::filter::State;
use crate::intent::Money;

/// What a column holds; from it follow its alignment and its names in the forms for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Id,
    Number,
    Money,
    Span,
}

/// How a column gives way on a terminal that is too narrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It is left out.
    Leaves,
    /// Its texts are cut, to this many characters at least, and end (an id: begin) with `…`.
    Shortens(u16),
    /// Its texts are broken into lines, of at least so many characters.
    Wraps(u16),
}

/// A column: its name and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The lower the number, the earlier its turn to give way.
    pub(super) way: Option<(u8, Way)>,
}

impl Column {
    const fn new(name: &'static str, kind: Kind) -> Column {
        Column { name, kind, way: None }
    }

    /// Text, a state, a time, a flag or JSON.
    pub const fn text(name: &'static str) -> Column {
        Column::new(name, Kind::Plain)
    }

    /// The id that `-o id` prints.
    pub const fn id(name: &'static str) -> Column {
        Column::new(name, Kind::Id)
    }

    /// A number, aligned to the right.
    pub const fn number(name: &'static str) -> Column {
        Column::new(name, Kind::Number)
    }

    /// An amount. For people `10.00 USD`; for programs two fields, `<name>_minor` and `currency`. Several amounts of one
    /// row are of one currency, which is written once.
    pub const fn money(name: &'static str) -> Column {
        Column::new(name, Kind::Money)
    }

    /// A span of time. For people `2h 5m`; for programs `<name>_seconds`, whole.
    pub const fn span(name: &'static str) -> Column {
        Column::new(name, Kind::Span)
    }

    /// On a narrow terminal it is left out, at this turn: the lowest first.
    pub const fn leaves(self, turn: u8) -> Column {
        self.gives_way(turn, Way::Leaves)
    }

    /// On a narrow terminal it is cut at this turn, to no fewer characters than these. Never for numbers and amounts.
    pub const fn shortens(self, turn: u8, least: u16) -> Column {
        self.gives_way(turn, Way::Shortens(least))
    }

    /// On a narrow terminal it is broken into lines at this turn, of no fewer characters than these.
    pub const fn wraps(self, turn: u8, least: u16) -> Column {
        self.gives_way(turn, Way::Wraps(least))
    }

    const fn gives_way(self, turn: u8, way: Way) -> Column {
        Column {
            way: Some((turn, way)),
            ..self
        }
    }
}

/// A value in a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// No value: blank for people, `null` for programs.
    Nothing,
    /// Text. May come from outside: control characters never reach a terminal.
    Text(String),
    /// A whole number.
    Number(i64),
    /// An amount.
    Money(Money),
    /// An instant.
    Time(DateTime<Utc>),
    /// A span of time.
    Span(Duration),
    /// True or false.
    Flag(bool),
    /// The state of an intent.
    State(State),
    /// Anything else. For people in one line.
    Json(Value),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Cell {
        Cell::Number(number)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Cell {
        Cell::Number(number.into())
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Cell {
        Cell::Number(number.into())
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Cell {
        Cell::Flag(flag)
    }
}

impl From<Money> for Cell {
    fn from(money: Money) -> Cell {
        Cell::Money(money)
    }
}

impl From<DateTime<Utc>> for Cell {
    fn from(time: DateTime<Utc>) -> Cell {
        Cell::Time(time)
    }
}

impl From<Duration> for Cell {
    fn from(span: Duration) -> Cell {
        Cell::Span(span)
    }
}

impl From<State> for Cell {
    fn from(state: State) -> Cell {
        Cell::State(state)
    }
}

impl From<Value> for Cell {
    fn from(value: Value) -> Cell {
        Cell::Json(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Nothing, Into::into)
    }
}

impl Cell {
    /// As a person reads it, harmless to a terminal.
    pub fn for_people(&self) -> String {
        match self {
            Cell::Nothing => String::new(),
            Cell::Text(text) => harmless(text),
            Cell::Number(number) => number.to_string(),
            Cell::Money(money) => money.to_string(),
            Cell::Time(time) => written_time(time),
            Cell::Span(span) => written_span(*span),
            Cell::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Cell::State(state) => state.name().to_owned(),
            Cell::Json(value) => harmless(&value.to_string()),
        }
    }

    pub(super) fn for_programs(&self) -> Value {
        match self {
            Cell::Nothing => Value::Null,
            Cell::Text(text) => Value::from(text.as_str()),
            Cell::Number(number) => Value::from(*number),
            Cell::Money(money) => Value::from(money.minor),
            Cell::Time(time) => Value::from(written_time(time)),
            Cell::Span(span) => Value::from(span.as_secs()),
            Cell::Flag(flag) => Value::from(*flag),
            Cell::State(state) => Value::from(state.name()),
            Cell::Json(value) => value.clone(),
        }
    }

    pub(super) fn colour(&self) -> Option<Color> {
        let Cell::State(state) = self else {
            return None;
        };
        match state {
            State::Captured => Some(Color::Green),
            State::Dead => Some(Color::Red),
            State::Verifying => Some(Color::Yellow),
            State::Held | State::Scheduled | State::Ready | State::Leased | State::Cancelled => None,
        }
    }
}

/// RFC 3339, UTC, to the millisecond at most.
fn written_time(time: &DateTime<Utc>) -> String {
    match time.timestamp_subsec_millis() {
        0 => time.to_rfc3339_opts(SecondsFormat::Secs, true),
        _ => time.to_rfc3339_opts(SecondsFormat::Millis, true),
    }
}

/// The two largest units: nobody at night reads seconds behind days.
fn written_span(span: Duration) -> String {
    let whole = Duration::from_secs(span.as_secs());
    let written = humantime::format_duration(whole).to_string();
    written.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Control characters and those that turn the direction of writing, shown as escapes: text from an order system must not
/// move the cursor, ring bells or reorder a line on the operator's terminal.
fn harmless(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

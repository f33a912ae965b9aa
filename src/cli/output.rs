//! How verbs speak: data on stdout in the form that was asked for; talk goes to stderr.
//!
//! Rows are written once, with typed cells, and come out as an aligned table for people, or as JSON, JSON lines, CSV or
//! bare ids for programs. In the forms for programs nothing is cut or coloured and each name is the one of the SQL
//! contract: a money column `amount` becomes `amount_minor` and `currency`, a span `age` becomes `age_seconds`.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Color, ColumnConstraint, ContentArrangement, Width};
use serde_json::Value;

use crate::config::Environment;

use crate::filter::State;
use crate::intent::Money;

pub use super::exit::{Error, Exit, say, warn};

/// May this stream be coloured? On a terminal that can, unless `NO_COLOR` is set to anything.
pub fn may_colour(stream: &impl IsTerminal, environment: &Environment) -> bool {
    stream.is_terminal() && environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb")
}

/// The form of the data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// One JSON array of objects (one object where there is one thing)
    Json,
    /// One JSON object a line
    Ndjson,
    /// Comma separated, with a header
    Csv,
    /// The ids and nothing else, one a line
    Id,
}

/// `-o`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OutputArgs {
    /// The form of the data on stdout
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        value_name = "FORM",
        default_value = "table",
        global = true
    )]
    pub format: Format,
}

/// What a column holds; from it follow its alignment and its names in the forms for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Id,
    Number,
    Money,
    Span,
}

/// A terminal of fewer columns gets no fitted tables.
const LEAST_WIDTH: u16 = 60;

/// No text column is made narrower.
const LEAST_TEXT: u16 = 10;

/// A column: its name and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    name: &'static str,
    kind: Kind,
}

impl Column {
    /// Text, a state, a time, a flag or JSON.
    pub const fn text(name: &'static str) -> Column {
        Column {
            name,
            kind: Kind::Plain,
        }
    }

    /// The id that `-o id` prints.
    pub const fn id(name: &'static str) -> Column {
        Column { name, kind: Kind::Id }
    }

    /// A number, aligned to the right.
    pub const fn number(name: &'static str) -> Column {
        Column {
            name,
            kind: Kind::Number,
        }
    }

    /// An amount. For people `10.00 USD`; for programs two fields, `<name>_minor` and `currency`. Several amounts of one
    /// row are of one currency, which is written once.
    pub const fn money(name: &'static str) -> Column {
        Column {
            name,
            kind: Kind::Money,
        }
    }

    /// A span of time. For people `2h 5m`; for programs `<name>_seconds`, whole.
    pub const fn span(name: &'static str) -> Column {
        Column { name, kind: Kind::Span }
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

    fn for_programs(&self) -> Value {
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

    fn colour(&self) -> Option<Color> {
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

/// Where and how data goes.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The form.
    pub format: Format,
    /// Is stdout a terminal? Then tables are fitted to its width; else nothing is ever wrapped.
    pub terminal: bool,
    /// Is stdout coloured?
    pub colour: bool,
}

impl Output {
    /// For stdout.
    pub fn new(args: OutputArgs, environment: &Environment) -> Output {
        let stdout = io::stdout();
        Output {
            format: args.format,
            terminal: stdout.is_terminal(),
            colour: may_colour(&stdout, environment),
        }
    }

    /// Begins rows on stdout.
    pub fn rows(&self, columns: &[Column]) -> Result<Rows<BufWriter<StdoutLock<'static>>>, Error> {
        self.rows_to(columns, BufWriter::new(io::stdout().lock()))
    }

    /// Begins rows on any writer.
    pub fn rows_to<W: Write>(&self, columns: &[Column], mut writer: W) -> Result<Rows<W>, Error> {
        let columns = columns.to_vec();
        let sink = match self.format {
            Format::Table => Sink::Table(self.table(&columns), writer),
            Format::Json => {
                writer.write_all(b"[")?;
                Sink::Json(writer)
            }
            Format::Ndjson => Sink::Ndjson(writer),
            Format::Csv => {
                let mut csv = csv::Writer::from_writer(writer);
                csv.write_record(fields(&columns).map(|field| field.name()))
                    .map_err(io::Error::from)?;
                Sink::Csv(csv)
            }
            Format::Id => {
                if !columns.iter().any(|column| column.kind == Kind::Id) {
                    return Err(Error::usage("these rows have no id").hint("choose -o table, json, ndjson or csv"));
                }
                Sink::Id(writer)
            }
        };
        Ok(Rows {
            columns,
            colour: self.colour,
            written: 0,
            sink,
        })
    }

    /// One thing, on stdout: for people a field a line, in JSON an object.
    pub fn record(&self, columns: &[Column], cells: &[Cell]) -> Result<(), Error> {
        self.record_to(columns, cells, BufWriter::new(io::stdout().lock()))
    }

    /// One thing, on any writer.
    pub fn record_to<W: Write>(&self, columns: &[Column], cells: &[Cell], mut writer: W) -> Result<(), Error> {
        match self.format {
            Format::Table => {
                let width = columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
                for (column, cell) in columns.iter().zip(cells) {
                    let line = format!("{:width$}  {}", column.name, cell.for_people());
                    writeln!(writer, "{}", line.trim_end())?;
                }
                writer.flush()?;
            }
            Format::Json | Format::Ndjson => {
                writeln!(writer, "{}", object(columns, cells))?;
                writer.flush()?;
            }
            Format::Csv | Format::Id => {
                let mut rows = self.rows_to(columns, writer)?;
                rows.row(cells)?;
                rows.finish()?;
            }
        }
        Ok(())
    }

    fn table(&self, columns: &[Column]) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        // On a narrower one lines that the terminal breaks read better than words in columns of two letters.
        if self.terminal && table.width().is_some_and(|width| width >= LEAST_WIDTH) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.force_no_tty();
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(columns.iter().map(|column| column.name.to_uppercase()));
        for (index, column) in columns.iter().enumerate() {
            if let Some(made) = table.column_mut(index) {
                made.set_padding((0, 2));
                if matches!(column.kind, Kind::Number | Kind::Money | Kind::Span) {
                    made.set_cell_alignment(CellAlignment::Right);
                }
                // Only text gives way: an id, a number or an amount that is broken in two is copied wrong.
                made.set_constraint(match column.kind {
                    Kind::Plain => ColumnConstraint::LowerBoundary(Width::Fixed(LEAST_TEXT)),
                    Kind::Id | Kind::Number | Kind::Money | Kind::Span => ColumnConstraint::ContentWidth,
                });
            }
        }
        table
    }
}

/// Rows on their way out. Tables wait for the last row, because only then the widths are known; all others stream.
pub struct Rows<W: Write> {
    columns: Vec<Column>,
    colour: bool,
    written: usize,
    sink: Sink<W>,
}

enum Sink<W: Write> {
    Table(comfy_table::Table, W),
    Json(W),
    Ndjson(W),
    Csv(csv::Writer<W>),
    Id(W),
}

impl<W: Write> Rows<W> {
    /// Adds a row: a cell a column, in their order. Missing cells are blank.
    pub fn row(&mut self, cells: &[Cell]) -> Result<(), Error> {
        match &mut self.sink {
            Sink::Table(table, _) => {
                let shown = (0..self.columns.len()).map(|index| {
                    let cell = cells.get(index).unwrap_or(&Cell::Nothing);
                    let shown = comfy_table::Cell::new(cell.for_people());
                    match cell.colour() {
                        Some(colour) if self.colour => shown.fg(colour),
                        _ => shown,
                    }
                });
                table.add_row(shown);
            }
            Sink::Json(writer) => {
                let before = if self.written == 0 { "\n" } else { ",\n" };
                write!(writer, "{before}{}", object(&self.columns, cells))?;
            }
            Sink::Ndjson(writer) => writeln!(writer, "{}", object(&self.columns, cells))?,
            Sink::Csv(writer) => {
                let record = fields(&self.columns).map(|field| for_csv(field.value(cells)));
                writer.write_record(record).map_err(io::Error::from)?;
            }
            Sink::Id(writer) => {
                let at = self.columns.iter().position(|column| column.kind == Kind::Id);
                if let Some(cell) = at.and_then(|at| cells.get(at)) {
                    writeln!(writer, "{}", cell.for_people())?;
                }
            }
        }
        self.written += 1;
        Ok(())
    }

    /// Sends on what streams; for a tail that is read as it grows.
    pub fn flush(&mut self) -> Result<(), Error> {
        match &mut self.sink {
            Sink::Table(_, writer) | Sink::Json(writer) | Sink::Ndjson(writer) | Sink::Id(writer) => writer.flush()?,
            Sink::Csv(writer) => writer.flush()?,
        }
        Ok(())
    }

    /// Ends the rows and tells how many there were.
    pub fn finish(mut self) -> Result<usize, Error> {
        match &mut self.sink {
            Sink::Table(table, writer) if self.written > 0 => writeln!(writer, "{}", table.trim_fmt())?,
            Sink::Table(..) => {}
            Sink::Json(writer) if self.written > 0 => writer.write_all(b"\n]\n")?,
            Sink::Json(writer) => writer.write_all(b"]\n")?,
            Sink::Ndjson(_) | Sink::Csv(_) | Sink::Id(_) => {}
        }
        self.flush()?;
        Ok(self.written)
    }
}

/// A field of the forms for programs: a column, or one of the two that a money column becomes.
#[derive(Clone, Copy)]
struct Field {
    column: Column,
    index: usize,
    currency: bool,
}

impl Field {
    fn name(self) -> String {
        match self.column.kind {
            _ if self.currency => "currency".to_owned(),
            Kind::Money => format!("{}_minor", self.column.name),
            Kind::Span => format!("{}_seconds", self.column.name),
            Kind::Plain | Kind::Id | Kind::Number => self.column.name.to_owned(),
        }
    }

    fn value(self, cells: &[Cell]) -> Value {
        match cells.get(self.index).unwrap_or(&Cell::Nothing) {
            Cell::Money(money) if self.currency => Value::from(money.currency.code()),
            _ if self.currency => Value::Null,
            cell => cell.for_programs(),
        }
    }
}

fn fields(columns: &[Column]) -> impl Iterator<Item = Field> {
    let first_money = columns.iter().position(|column| column.kind == Kind::Money);
    columns.iter().enumerate().flat_map(move |(index, column)| {
        let field = |currency| Field {
            column: *column,
            index,
            currency,
        };
        let currency = (first_money == Some(index)).then(|| field(true));
        std::iter::once(field(false)).chain(currency)
    })
}

/// A JSON object whose fields stand in the order of the columns.
fn object(columns: &[Column], cells: &[Cell]) -> String {
    let members: Vec<String> = fields(columns)
        .map(|field| format!("{}:{}", Value::from(field.name()), field.value(cells)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a return) gets a `'` in
/// front: order numbers come from outside, and an export is opened by people who have money to lose. Numbers stay as
/// they are. Who needs the bare text takes `ndjson`.
fn for_csv(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;

//! How verbs speak: data on stdout in the form that was asked for; talk goes to stderr.
//!
//! Rows are written once, with typed cells, and come out as an aligned table for people, or as JSON, JSON lines, CSV or
//! bare ids for programs. In the forms for programs nothing is cut or coloured and each name is the one of the SQL
//! contract: a money column `amount` becomes `amount_minor` and `currency`, a span `age` becomes `age_seconds`.

mod cell;
mod fields;
mod table;

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use clap::{Args, ValueEnum};

use crate::config::Environment;

use cell::Kind;
use fields::{fields, for_csv, object};
use table::Table;

pub use super::exit::{Error, Exit, say, warn};
pub use cell::{Cell, Column};

/// May this stream be coloured? On a terminal that can, unless `NO_COLOR` is set to anything.
pub fn may_colour(stream: &impl IsTerminal, environment: &Environment) -> bool {
    stream.is_terminal() && environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb")
}

/// How wide the terminal is that stdout is: COLUMNS if it is set, as other programs do, else what it says itself.
fn terminal_width(environment: &Environment) -> Option<u16> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let told = environment.get("COLUMNS").and_then(|text| text.trim().parse().ok());
    let width = told.or_else(|| comfy_table::Table::new().width());
    width.filter(|width| *width > 0)
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

/// Where and how data goes.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The form.
    pub format: Format,
    /// Is stdout a terminal?
    pub terminal: bool,
    /// Its width, to which tables are fitted; elsewhere nothing is ever cut or wrapped.
    pub width: Option<u16>,
    /// Is stdout coloured?
    pub colour: bool,
    /// Does the verb go on when nobody reads stdout any more? See [`Stdout`].
    pub outlives_reader: bool,
}

/// Stdout. A reader that has gone away (`… | head`) ends a verb that only looks. One that acts goes on without it, and its
/// exit code tells how: half an act is worse than an act that nobody reads about.
pub struct Stdout {
    lock: StdoutLock<'static>,
    outlives_reader: bool,
}

impl Stdout {
    fn or_nobody<T>(&self, written: io::Result<T>, as_if: T) -> io::Result<T> {
        match written {
            Err(error) if self.outlives_reader && error.kind() == io::ErrorKind::BrokenPipe => Ok(as_if),
            other => other,
        }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.lock.write(bytes);
        self.or_nobody(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.lock.flush();
        self.or_nobody(flushed, ())
    }
}

impl Output {
    /// For stdout.
    pub fn new(args: OutputArgs, environment: &Environment) -> Output {
        let stdout = io::stdout();
        Output {
            format: args.format,
            terminal: stdout.is_terminal(),
            width: terminal_width(environment),
            colour: may_colour(&stdout, environment),
            outlives_reader: false,
        }
    }

    fn stdout(&self) -> BufWriter<Stdout> {
        BufWriter::new(Stdout {
            lock: io::stdout().lock(),
            outlives_reader: self.outlives_reader,
        })
    }

    /// Begins rows on stdout.
    pub fn rows(&self, columns: &[Column]) -> Result<Rows<BufWriter<Stdout>>, Error> {
        self.rows_to(columns, self.stdout())
    }

    /// Begins rows on any writer.
    pub fn rows_to<W: Write>(&self, columns: &[Column], mut writer: W) -> Result<Rows<W>, Error> {
        let columns = columns.to_vec();
        let sink = match self.format {
            Format::Table => Sink::Table(Table::new(&columns, self.colour, self.width), writer),
            Format::Json => {
                writer.write_all(b"[")?;
                Sink::Json(writer)
            }
            Format::Ndjson => Sink::Ndjson(writer),
            Format::Csv => {
                let mut csv = csv::Writer::from_writer(writer);
                csv.write_record(fields(&columns).map(|field| field.name()))
                    .map_err(io::Error::from)?;
                Sink::Csv(Box::new(csv))
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
            written: 0,
            sink,
        })
    }

    /// One thing, on stdout: for people a field a line, in JSON an object.
    pub fn record(&self, columns: &[Column], cells: &[Cell]) -> Result<(), Error> {
        self.record_to(columns, cells, self.stdout())
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
}

/// Rows on their way out. Tables wait for the last row, because only then the widths are known; all others stream.
pub struct Rows<W: Write> {
    columns: Vec<Column>,
    written: usize,
    sink: Sink<W>,
}

enum Sink<W: Write> {
    Table(Table, W),
    Json(W),
    Ndjson(W),
    Csv(Box<csv::Writer<W>>),
    Id(W),
}

impl<W: Write> Rows<W> {
    /// Adds a row: a cell a column, in their order. Missing cells are blank.
    pub fn row(&mut self, cells: &[Cell]) -> Result<(), Error> {
        match &mut self.sink {
            Sink::Table(table, _) => table.row(cells),
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
        let mut ids_cut = false;
        match &mut self.sink {
            Sink::Table(table, writer) => ids_cut = table.write(writer)?,
            Sink::Json(writer) if self.written > 0 => writer.write_all(b"\n]\n")?,
            Sink::Json(writer) => writer.write_all(b"]\n")?,
            Sink::Ndjson(_) | Sink::Csv(_) | Sink::Id(_) => {}
        }
        self.flush()?;
        if ids_cut {
            say("only the ends of ids are shown, to fit this terminal; -o id, or a pipe, shows them whole");
        }
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests;

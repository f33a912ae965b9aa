//! `events`: the feed that order systems read, for people and scripts.

use std::io::{BufWriter, StdoutLock, Write};
use std::time::Duration;

use clap::Subcommand;

use crate::filter::event_type;
use crate::outbox::{Event, EventPage, Outbox};

use super::capture_rows::amount;
use super::context::Context;
use super::output::{Cell, Column, Error, Exit, Format, Output, Rows, Stdout, say};
use super::timeline::in_words;

/// Events read at once.
const PAGE: i32 = 500;

/// How often --follow looks for more.
const LOOK: Duration = Duration::from_millis(500);

/// What to do with events.
#[derive(Debug, Subcommand)]
pub enum EventsVerb {
    // Not a doc comment, which would take the place of what `--help` says beyond this line.
    #[command(about = "The last events, or all after a cursor")]
    Tail(Tail),
}

/// Shows the last events, or all after a cursor; with --follow goes on until Ctrl-C.
///
/// Every event carries its cursor: --after CURSOR goes on behind it and misses nothing, also not what commits late.
#[derive(Debug, clap::Args)]
pub struct Tail {
    /// Go on as events come
    #[arg(short = 'f', long)]
    follow: bool,
    /// All events after this cursor; 0-0 is before the first
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Begin with so many of the last events
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "after")]
    last: u32,
    /// Only of these types, such as captured or dead_lettered; --last then counts these
    #[arg(long = "type", value_name = "TYPE,…", value_delimiter = ',')]
    types: Vec<String>,
}

/// Runs it.
pub async fn run(verb: EventsVerb, context: &Context) -> Result<Exit, Error> {
    let EventsVerb::Tail(args) = verb;
    let types = event_types(&args.types)?;
    let outbox = context.outbox().await?;
    let wanted = |event: &Event| types.is_empty() || types.contains(&event.kind);
    let mut lines = Lines::begin(&context.output)?;
    let mut cursor = match args.after {
        Some(cursor) => cursor,
        None => {
            let page = outbox.last_events(args.last, &types).await?;
            for event in &page.events {
                lines.write(event)?;
            }
            lines.flush()?;
            if !args.follow {
                lines.finish()?;
                return Ok(Exit::Done);
            }
            page.cursor.unwrap_or_default()
        }
    };
    let mut away = false;
    loop {
        let page = tokio::select! {
            page = next(&outbox, &cursor) => page,
            () = context.interrupted.cancelled() => break,
        };
        let page = match page {
            Ok(page) => page,
            // Somebody who follows is not sent away because the database is restarted.
            Err(error) if args.follow && error.exit == Exit::Unreachable => {
                if !away {
                    say(&format!("{error}\nhint: looking again; going on behind {cursor}"));
                }
                away = true;
                tokio::time::sleep(LOOK * 2).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        away = false;
        for event in page.events.iter().filter(|event| wanted(event)) {
            lines.write(event)?;
        }
        lines.flush()?;
        let found = page.events.len();
        cursor = page.cursor.unwrap_or(cursor);
        if found < PAGE as usize {
            if !args.follow {
                lines.finish()?;
                return Ok(Exit::Done);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = context.interrupted.cancelled() => break,
            }
        }
    }
    lines.finish()?;
    say(&format!("go on with --after {cursor}"));
    Ok(Exit::Interrupted)
}

/// The types as the feed writes them; every one that there is not is told.
pub fn event_types(names: &[String]) -> Result<Vec<String>, Error> {
    let mut types = Vec::new();
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    for name in names {
        match event_type(name) {
            Ok(name) => types.push(name),
            Err((what, instead)) => {
                wrong.push(format!("--type: {what}"));
                right.push(instead);
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(types),
        false => Err(Error::usage(wrong.join("\n")).hint(right.join("\n"))),
    }
}

async fn next(outbox: &Outbox, cursor: &str) -> Result<EventPage, Error> {
    Ok(outbox.events_after(Some(cursor), PAGE).await?)
}

fn short_type(event: &Event) -> &str {
    event.kind.trim_start_matches("capture.")
}

const COLUMNS: [Column; 13] = [
    Column::text("cursor"),
    Column::number("seq"),
    Column::id("id"),
    Column::text("type"),
    Column::text("intent_id"),
    Column::text("provider"),
    Column::text("account"),
    Column::text("order_id"),
    Column::text("payment_id"),
    Column::text("capture_ref"),
    Column::money("amount"),
    Column::text("data"),
    Column::text("occurred_at"),
];

/// Events as they go out. A table would wait for its last row, so for people each event is a line by itself.
enum Lines {
    ForPeople(BufWriter<StdoutLock<'static>>),
    Rows(Box<Rows<BufWriter<Stdout>>>),
}

impl Lines {
    fn begin(output: &Output) -> Result<Lines, Error> {
        Ok(match output.format {
            Format::Table => Lines::ForPeople(BufWriter::new(std::io::stdout().lock())),
            Format::Json | Format::Ndjson | Format::Csv | Format::Id => Lines::Rows(Box::new(output.rows(&COLUMNS)?)),
        })
    }

    fn write(&mut self, event: &Event) -> Result<(), Error> {
        let money = amount(event.amount_minor, &event.currency);
        match self {
            Lines::ForPeople(writer) => {
                let shown = |cell: Cell| cell.for_people();
                let line = format!(
                    "{:<24}  {:<15}  {}/{}  order {}  {}  {}  {}",
                    shown(event.occurred_at.into()),
                    short_type(event),
                    event.provider,
                    event.account,
                    event.order_id,
                    shown(money),
                    event.intent_id,
                    in_words(&event.data)
                );
                writeln!(writer, "{}", shown(line.trim_end().into()))?;
                Ok(())
            }
            Lines::Rows(rows) => rows.row(&[
                event.cursor.as_str().into(),
                event.seq.into(),
                event.id.to_string().into(),
                event.kind.as_str().into(),
                event.intent_id.to_string().into(),
                event.provider.as_str().into(),
                event.account.as_str().into(),
                event.order_id.as_str().into(),
                event.payment_id.as_str().into(),
                event.capture_ref.as_str().into(),
                money,
                event.data.clone().into(),
                event.occurred_at.into(),
            ]),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        match self {
            Lines::ForPeople(writer) => Ok(writer.flush()?),
            Lines::Rows(rows) => rows.flush(),
        }
    }

    fn finish(self) -> Result<(), Error> {
        match self {
            Lines::ForPeople(mut writer) => Ok(writer.flush()?),
            Lines::Rows(rows) => rows.finish().map(drop),
        }
    }
}

//! `export`: captures, events or the audit trail, of any size, with as much memory as a page.

use std::io::BufWriter;

use clap::Subcommand;

use crate::outbox::{Cursor, Outbox};

use super::capture_rows::{amount, whole, whole_columns};
use super::context::Context;
use super::filter::FilterArgs;
use super::output::{Cell, Column, Error, Exit, Format, Output, Rows, Stdout, say};

/// So many rows are read at once.
const PAGE: u32 = 1_000;

/// What to export.
#[derive(Debug, Subcommand)]
pub enum ExportVerb {
    /// Captures that match, the newest first
    Captures(Box<Captures>),
    /// Events, in the order of the feed
    Events(After),
    /// What operators did, the first act first
    Audit(After),
}

/// Captures that match, the newest first, a row each with its cursor.
#[derive(Debug, clap::Args)]
pub struct Captures {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    after: After,
}

/// Where to begin.
#[derive(Debug, Clone, clap::Args)]
pub struct After {
    /// Go on behind this cursor: that of the last row that was read
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

/// Writes rows as JSON lines, or with -o as CSV or a JSON array; every row has the cursor to go on from.
pub async fn run(verb: ExportVerb, context: &Context) -> Result<Exit, Error> {
    let mut out = Out::new(context);
    let done = match verb {
        ExportVerb::Captures(args) => captures(*args, context, &mut out).await,
        ExportVerb::Events(after) => events(after, context, &mut out).await,
        ExportVerb::Audit(after) => audit(after, context, &mut out).await,
    };
    match (&done, &out.cursor) {
        // Whoever was cut off knows where to go on.
        (Ok(Exit::Interrupted) | Err(_), Some(cursor)) => say(&format!("go on with --after {cursor}")),
        (Ok(_), _) => say(&match out.written {
            1 => "1 row".to_owned(),
            rows => format!("{rows} rows"),
        }),
        (Err(_), None) => {}
    }
    done
}

/// The way out, and how far it came.
struct Out<'a> {
    context: &'a Context,
    cursor: Option<String>,
    written: u64,
}

type Lines = Rows<BufWriter<Stdout>>;

impl<'a> Out<'a> {
    fn new(context: &'a Context) -> Out<'a> {
        Out {
            context,
            cursor: None,
            written: 0,
        }
    }

    /// A table waits for its last row, so an export is never one.
    fn begin(&self, columns: &[Column]) -> Result<Lines, Error> {
        let output = self.context.output;
        let format = match output.format {
            Format::Table => Format::Ndjson,
            other => other,
        };
        Output { format, ..output }.rows(columns)
    }

    fn row(&mut self, lines: &mut Lines, cells: &[Cell], cursor: String) -> Result<(), Error> {
        lines.row(cells)?;
        self.cursor = Some(cursor);
        self.written += 1;
        Ok(())
    }

    /// Between two pages; true: somebody wants it to end.
    fn paused(&self, lines: &mut Lines) -> Result<bool, Error> {
        lines.flush()?;
        Ok(self.context.interrupted.is_cancelled())
    }
}

async fn captures(args: Captures, context: &Context, out: &mut Out<'_>) -> Result<Exit, Error> {
    args.filter.filter(chrono::Utc::now())?;
    let given = args.after.after.as_deref().map(str::parse::<Cursor>).transpose();
    let mut after = given.map_err(|fault| Error::usage(format!("--after: {fault}")))?;
    let outbox = context.outbox().await?;
    let filter = args.filter.filter(outbox.now().await?)?;
    let mut columns = whole_columns().to_vec();
    columns.push(Column::text("cursor"));
    let mut lines = out.begin(&columns)?;
    loop {
        let missing = filter
            .limit
            .map_or(u64::MAX, |limit| u64::from(limit).saturating_sub(out.written));
        let page = outbox
            .page(
                &filter,
                after.as_ref(),
                PAGE.min(u32::try_from(missing).unwrap_or(u32::MAX)),
            )
            .await?;
        for row in &page.rows {
            let cursor = Cursor::behind(row).to_string();
            let mut cells = whole(row);
            cells.push(cursor.as_str().into());
            out.row(&mut lines, &cells, cursor)?;
        }
        if let Some(next) = page.next {
            out.cursor = Some(next.to_string());
        }
        let interrupted = out.paused(&mut lines)?;
        let enough = filter.limit.is_some_and(|limit| out.written >= u64::from(limit));
        after = page.next;
        if interrupted || enough || after.is_none() {
            lines.finish()?;
            let cut = interrupted && !enough && after.is_some();
            return Ok(if cut { Exit::Interrupted } else { Exit::Done });
        }
    }
}

async fn events(args: After, context: &Context, out: &mut Out<'_>) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let mut lines = out.begin(&[
        Column::text("cursor"),
        Column::id("id"),
        Column::text("type"),
        Column::text("occurred_at"),
        Column::text("intent_id"),
        Column::text("provider"),
        Column::text("account"),
        Column::text("order_id"),
        Column::text("payment_id"),
        Column::text("capture_ref"),
        Column::money("amount"),
        Column::text("data"),
    ])?;
    let mut cursor = args.after;
    loop {
        let page = next_events(&outbox, cursor.as_deref()).await?;
        for event in &page.events {
            let cells = [
                event.cursor.as_str().into(),
                event.id.to_string().into(),
                event.kind.as_str().into(),
                event.occurred_at.into(),
                event.intent_id.to_string().into(),
                event.provider.as_str().into(),
                event.account.as_str().into(),
                event.order_id.as_str().into(),
                event.payment_id.as_str().into(),
                event.capture_ref.as_str().into(),
                amount(event.amount_minor, &event.currency),
                event.data.clone().into(),
            ];
            out.row(&mut lines, &cells, event.cursor.clone())?;
        }
        cursor = page.cursor;
        let interrupted = out.paused(&mut lines)?;
        if interrupted || page.events.is_empty() {
            lines.finish()?;
            return Ok(if interrupted { Exit::Interrupted } else { Exit::Done });
        }
    }
}

async fn next_events(outbox: &Outbox, cursor: Option<&str>) -> Result<crate::outbox::EventPage, Error> {
    let page = outbox
        .events_after(cursor, i32::try_from(PAGE).unwrap_or(i32::MAX))
        .await;
    page.map_err(|error| match error.refusal() {
        Some(refusal) if refusal.sqlstate == "22023" => {
            Error::usage(refusal.message).hint("pass the cursor of a row of an earlier export, or leave --after out")
        }
        _ => error.into(),
    })
}

async fn audit(args: After, context: &Context, out: &mut Out<'_>) -> Result<Exit, Error> {
    let given = args.after.as_deref().map(|text| text.trim().parse::<i64>()).transpose();
    let given = given.map_err(|_| {
        Error::usage("--after: this is no cursor of the audit trail").hint("pass the id of the last row that was read")
    })?;
    let mut after = given.unwrap_or(0);
    let outbox = context.outbox().await?;
    let mut lines = out.begin(&[
        Column::id("id"),
        Column::text("at"),
        Column::text("actor"),
        Column::text("action"),
        Column::text("reason"),
        Column::text("intent"),
        Column::text("lane"),
        Column::text("detail"),
    ])?;
    loop {
        let page = outbox.audit_after(after, PAGE).await?;
        for act in &page {
            let cells = [
                act.id.into(),
                act.at.into(),
                act.actor.as_str().into(),
                act.action.as_str().into(),
                act.reason.as_str().into(),
                act.intent.map(|id| id.to_string()).into(),
                act.lane.as_deref().into(),
                act.detail.clone().into(),
            ];
            out.row(&mut lines, &cells, act.id.to_string())?;
            after = act.id;
        }
        let interrupted = out.paused(&mut lines)?;
        if interrupted || page.is_empty() {
            lines.finish()?;
            return Ok(if interrupted { Exit::Interrupted } else { Exit::Done });
        }
    }
}

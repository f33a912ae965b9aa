//! `operations`: looks at operations, and steers them.

use clap::Subcommand;
use uuid::Uuid;

use crate::operations::Strangers;
use crate::outbox::{AuditStamp, Changed, OperationRow, Outbox};

use super::accounts;
use super::act::ActArgs;
use super::acting::{no_such, watch};
use super::context::Context;
use super::output::{Cell, Column, Error, Exit, Format, say};

/// What to do with operations.
#[derive(Debug, Subcommand)]
pub enum OperationsVerb {
    /// Operations, the newest first
    List(List),
    /// One operation: its captures, and the verdict of each
    Get(Get),
    /// Watch one to its end; this process helps to carry it out, if it may
    Watch(One),
    /// Let one rest until it is resumed
    Pause(Steer),
    /// Let a paused one go on
    Resume(Steer),
    /// End one; what was done stays done
    Cancel(Steer),
}

/// How many.
#[derive(Debug, clap::Args)]
pub struct List {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// Older than this one
    #[arg(long, value_name = "OPERATION")]
    before: Option<Uuid>,
}

/// Which one.
#[derive(Debug, clap::Args)]
pub struct One {
    /// The operation
    #[arg(value_name = "OPERATION")]
    id: Uuid,
}

/// Which one, and what of it.
#[derive(Debug, clap::Args)]
pub struct Get {
    /// The operation
    #[arg(value_name = "OPERATION")]
    id: Uuid,
    /// Only captures that were not acted on: not yet, left alone, or refused
    #[arg(long)]
    not_done: bool,
}

/// Which one, who and why.
#[derive(Debug, clap::Args)]
pub struct Steer {
    /// The operation
    #[arg(value_name = "OPERATION")]
    id: Uuid,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs it.
pub async fn run(verb: OperationsVerb, context: &Context) -> Result<Exit, Error> {
    match verb {
        OperationsVerb::List(args) => list(args, context).await,
        OperationsVerb::Get(args) => get(args, context).await,
        OperationsVerb::Watch(args) => watch_one(args.id, context).await,
        OperationsVerb::Pause(args) => steer(args, "paused", context).await,
        OperationsVerb::Resume(args) => steer(args, "running", context).await,
        OperationsVerb::Cancel(args) => steer(args, "cancelled", context).await,
    }
}

const SHORT: [Column; 10] = [
    Column::id("id").shortens(5, 13),
    Column::text("act"),
    Column::text("state"),
    Column::number("total"),
    Column::number("done"),
    Column::number("skipped"),
    Column::number("failed"),
    Column::text("actor").leaves(3),
    Column::text("reason").leaves(1),
    Column::text("created_at").leaves(2),
];

const WHOLE: [Column; 19] = [
    Column::id("id"),
    Column::text("act"),
    Column::text("detail"),
    Column::text("filter"),
    Column::text("state"),
    Column::number("total"),
    Column::number("done"),
    Column::number("skipped"),
    Column::number("failed"),
    Column::number("ended"),
    Column::number("dead_again"),
    Column::number("rate_per_second"),
    Column::number("stop_at_percent"),
    Column::text("actor"),
    Column::text("reason"),
    Column::text("created_at"),
    Column::text("ended_at"),
    Column::text("last_word"),
    Column::number("seconds_left"),
];

fn whole(row: &OperationRow) -> Vec<Cell> {
    vec![
        row.id.to_string().into(),
        row.act.as_str().into(),
        row.detail.clone().into(),
        row.filter.clone().into(),
        row.state.as_str().into(),
        row.total.into(),
        row.done.into(),
        row.skipped.into(),
        row.failed.into(),
        row.ended.into(),
        row.dead_again.into(),
        i64::from(row.rate_per_second).into(),
        i64::from(row.stop_at_percent).into(),
        row.actor.as_str().into(),
        row.reason.as_str().into(),
        row.created_at.into(),
        row.ended_at.into(),
        row.last_word.as_deref().into(),
        row.seconds_left.into(),
    ]
}

async fn list(args: List, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let people = context.output.format == Format::Table;
    let mut rows = context.output.rows(if people { &SHORT } else { &WHOLE })?;
    for row in outbox.operations(args.before, args.limit).await? {
        rows.row(&match people {
            false => whole(&row),
            true => vec![
                row.id.to_string().into(),
                row.act.as_str().into(),
                row.state.as_str().into(),
                row.total.into(),
                row.done.into(),
                row.skipped.into(),
                row.failed.into(),
                row.actor.as_str().into(),
                row.reason.as_str().into(),
                row.created_at.into(),
            ],
        })?;
    }
    if rows.finish()? == 0 {
        say("no operations");
    }
    Ok(Exit::Done)
}

async fn existing(outbox: &Outbox, id: Uuid) -> Result<OperationRow, Error> {
    outbox.operation(id).await?.ok_or_else(|| no_such(id))
}

async fn get(args: Get, context: &Context) -> Result<Exit, Error> {
    const PAGE: i64 = 1_000;
    let outbox = context.outbox().await?;
    let row = existing(&outbox, args.id).await?;
    say_of(&row);
    let mut rows = context.output.rows(&[
        Column::number("n"),
        Column::id("intent").shortens(2, 13),
        Column::text("verdict"),
        Column::text("says").wraps(1, 30),
        Column::text("key").leaves(4),
        Column::number("key_generation").leaves(3),
        Column::text("at").leaves(5),
        Column::text("came_to"),
    ])?;
    let mut after = 0;
    loop {
        let items = outbox.operation_items(row.id, after, PAGE, args.not_done).await?;
        let Some(last) = items.last() else { break };
        after = last.n;
        for item in &items {
            rows.row(&[
                item.n.into(),
                item.intent.to_string().into(),
                item.verdict.as_deref().into(),
                item.says.as_deref().into(),
                item.key.as_deref().into(),
                item.key_generation.map(i64::from).into(),
                item.at.into(),
                item.came_to.as_deref().into(),
            ])?;
        }
    }
    rows.finish()?;
    Ok(Exit::Done)
}

/// The operation itself, on stderr: its captures are the data.
fn say_of(row: &OperationRow) {
    say(&format!(
        "{} of {} captures by {}: {}\n{}: {} done, {} left alone, {} refused, {} without a verdict; at most {} a second",
        row.act,
        row.total,
        row.actor,
        row.reason,
        row.state,
        row.done,
        row.skipped,
        row.failed,
        row.not_done(),
        row.rate_per_second
    ));
    if row.ended > 0 {
        say(&format!(
            "of the replayed ones {} have ended, {} of them dead again",
            row.ended, row.dead_again
        ));
    }
    if let Some(word) = &row.last_word {
        say(word);
    }
}

async fn watch_one(id: Uuid, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    existing(&outbox, id).await?;
    let abilities = accounts::abilities(&context.settings()?)?;
    // What these settings cannot judge is left to those that can.
    let Some(row) = watch(&outbox, id, Some((&abilities, Strangers::Leave)), context).await? else {
        return Ok(Exit::Interrupted);
    };
    match context.output.format {
        Format::Table => say_of(&row),
        Format::Json | Format::Ndjson | Format::Csv | Format::Id => context.output.record(&WHOLE, &whole(&row))?,
    }
    Ok(match (row.state.as_str(), row.failed) {
        ("done", 0) => Exit::Done,
        _ => Exit::PartlyDone,
    })
}

async fn steer(args: Steer, to: &'static str, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let outbox = context.outbox().await?;
    let before = existing(&outbox, args.id).await?;
    let (word, would) = match to {
        "paused" => ("paused", "would_pause"),
        "running" => ("resumed", "would_resume"),
        _ => ("cancelled", "would_cancel"),
    };
    let result = if args.act.dry_run {
        let may = match to {
            "paused" => before.state == "running",
            "running" => before.state == "paused",
            _ => !before.is_over(),
        };
        if !may {
            return Err(forbidden(args.id, &before.state));
        }
        would
    } else {
        match change(&outbox, args.id, to, &stamp).await? {
            Changed::Changed => word,
            Changed::NotFound => return Err(no_such(args.id)),
            Changed::Forbidden(state) => return Err(forbidden(args.id, &state)),
        }
    };
    context.output.record(
        &[
            Column::id("id"),
            Column::text("result"),
            Column::number("done"),
            Column::number("not_done"),
        ],
        &[
            args.id.to_string().into(),
            result.into(),
            before.done.into(),
            before.not_done().into(),
        ],
    )?;
    if args.act.dry_run {
        say("nothing was changed");
    }
    Ok(Exit::Done)
}

async fn change(outbox: &Outbox, id: Uuid, to: &str, stamp: &AuditStamp) -> Result<Changed, Error> {
    Ok(match to {
        "paused" => outbox.pause_operation(id, stamp).await?,
        "running" => outbox.resume_operation(id, stamp).await?,
        _ => outbox.cancel_operation(id, stamp).await?,
    })
}

fn forbidden(id: Uuid, state: &str) -> Error {
    let error = Error::state_forbids(format!("operation {id} is {state}"));
    match state {
        "running" | "paused" => error,
        _ => error.hint("it acts no more; begin another one for what it left"),
    }
}

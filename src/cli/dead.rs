//! `dead`: dead letters, counted and explained.

use chrono::Utc;
use clap::{Subcommand, ValueEnum};

use crate::filter::State;
use crate::outbox::{DeadGroup, GroupBy, Outbox, RESOLVED_NOT_CAPTURED};

use super::capture_rows::{self, amount};
use super::context::Context;
use super::explanations::{EXPLANATIONS, explanations_of};
use super::filter::FilterArgs;
use super::output::{Cell, Column, Error, Exit, Format, say};
use super::watch::WatchArgs;

/// So many rows without --limit.
const USUAL: u32 = 200;

/// So many are read at once.
const PAGE: u32 = 2000;

/// No line of an explanation is longer, however wide the terminal: longer ones are hard to read.
const WIDEST: usize = 100;

/// Dead letters: captures that a person decides about.
///
/// For people first their sums by reason, class and code, then the rows, the newest first. For programs the rows, or with
/// --group-by the sums.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<DeadVerb>,
    #[command(flatten)]
    list: ListArgs,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
enum DeadVerb {
    /// Show them; the same as without a verb
    List(Box<ListArgs>),
    // Not a doc comment, which would take the place of what `--help` says beyond this line.
    #[command(about = "Codes that are new, or that no class is known for")]
    Codes(super::codes::Args),
    /// Say what a class, a dead reason or an alert means, where to look and what to type
    Explain {
        /// Such as ambiguous, undecided or lane_paused; without it all
        #[arg(value_name = "CLASS|REASON|ALERT")]
        name: Option<String>,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct ListArgs {
    /// Sums instead of rows, by these; alone: reason,class,code
    #[arg(long, value_enum, value_name = "BY,…", value_delimiter = ',', num_args = 0..=1, default_missing_value = "reason,class,code")]
    group_by: Option<Vec<By>>,
    /// Also show those that a person has resolved as not captured; no sum counts them
    #[arg(long, conflicts_with = "group_by")]
    resolved: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    watch: WatchArgs,
}

/// What sums are told apart by, beside the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// The provider
    Provider,
    /// The merchant account
    Account,
    /// Why they are dead
    Reason,
    /// The class of the last failure
    Class,
    /// Its code
    Code,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    match args.verb {
        None => list(args.list, context).await,
        Some(DeadVerb::List(args)) => list(*args, context).await,
        Some(DeadVerb::Codes(args)) => super::codes::run(args, context).await,
        Some(DeadVerb::Explain { name }) => explain(name.as_deref(), context),
    }
}

async fn list(args: ListArgs, context: &Context) -> Result<Exit, Error> {
    let named = args.filter.filter(Utc::now())?;
    if let Some(other) = named.states.iter().find(|state| **state != State::Dead) {
        return Err(
            Error::usage(format!("--state: dead letters are dead, not {other}")).hint("capture list shows the others")
        );
    }
    args.watch.check(context)?;
    let outbox = context.outbox().await?;
    args.watch
        .run(context, async |page: &mut Vec<u8>| {
            draw(&args, &outbox, context, page).await
        })
        .await
}

async fn draw(args: &ListArgs, outbox: &Outbox, context: &Context, page: &mut Vec<u8>) -> Result<Exit, Error> {
    let mut filter = args.filter.filter(outbox.now().await?)?;
    filter.states = vec![State::Dead];
    let people = context.output.format == Format::Table;
    if people || args.group_by.is_some() {
        let by = args.group_by.as_deref().unwrap_or(&[By::Reason, By::Class, By::Code]);
        let groups: Vec<GroupBy> = by.iter().map(|by| by.group()).collect();
        write_sums(&outbox.dead_groups(&filter, &groups).await?, by, context, page)?;
    }
    if args.group_by.is_some() {
        return Ok(Exit::Done);
    }
    let wanted = filter.limit.take();
    let shown = wanted.unwrap_or(USUAL);
    let (mut found, mut resolved, mut after) = (Vec::new(), 0, None);
    // One more than is shown tells whether there are more.
    while found.len() <= shown as usize {
        let page = outbox
            .page(&filter, after.as_ref(), shown.saturating_add(1).min(PAGE))
            .await?;
        for row in page.rows {
            let closed = row.last_code.as_deref() == Some(RESOLVED_NOT_CAPTURED);
            if found.len() < shown as usize {
                resolved += usize::from(closed);
            }
            if args.resolved || !closed {
                found.push(row);
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let more = wanted.is_none() && found.len() > shown as usize;
    found.truncate(shown as usize);
    if people && !found.is_empty() {
        page.push(b'\n');
    }
    let mut rows = context.output.rows_to(capture_rows::columns(&context.output), page)?;
    for row in &found {
        rows.row(&capture_rows::cells(row, &context.output))?;
    }
    if rows.finish()? == 0 && people {
        say("no dead letters");
    }
    if people && resolved > 0 {
        say(&match args.resolved {
            true => format!("resolved as not captured: {resolved}; the sums do not count them"),
            false => {
                format!("left out, because a person resolved them as not captured: {resolved}; --resolved shows them")
            }
        });
    }
    if more {
        say(&format!(
            "only the newest {shown} are shown; --limit N shows more, --group-by sums all"
        ));
    }
    Ok(Exit::Done)
}

fn writeln_stdout(line: &str) -> Result<(), Error> {
    use std::io::Write;
    writeln!(std::io::stdout().lock(), "{line}")?;
    Ok(())
}

fn write_sums(groups: &[DeadGroup], by: &[By], context: &Context, page: &mut Vec<u8>) -> Result<(), Error> {
    let mut columns: Vec<Column> = by.iter().map(|by| Column::text(by.name()).shortens(2, 12)).collect();
    columns.extend([
        Column::number("captures"),
        Column::money("amount"),
        Column::text("oldest").leaves(1),
    ]);
    let mut rows = context.output.rows_to(&columns, page)?;
    for group in groups {
        let mut cells: Vec<Cell> = by.iter().map(|by| group.of(by.group()).into()).collect();
        cells.extend([
            group.captures.into(),
            amount(group.amount_minor, &group.currency),
            capture_rows::time(group.oldest, &context.output),
        ]);
        rows.row(&cells)?;
    }
    rows.finish().map(drop)
}

impl By {
    /// The name of the column: the contract's.
    fn name(self) -> &'static str {
        match self {
            By::Provider => "provider",
            By::Account => "account",
            By::Reason => "dead_reason",
            By::Class => "last_class",
            By::Code => "last_code",
        }
    }

    fn group(self) -> GroupBy {
        match self {
            By::Provider => GroupBy::Provider,
            By::Account => GroupBy::Account,
            By::Reason => GroupBy::Reason,
            By::Class => GroupBy::Class,
            By::Code => GroupBy::Code,
        }
    }
}

fn explain(name: Option<&str>, context: &Context) -> Result<Exit, Error> {
    let meant = match name {
        None => EXPLANATIONS.iter().collect(),
        Some(name) => explanations_of(name),
    };
    if meant.is_empty() {
        let mut names: Vec<&str> = EXPLANATIONS.iter().map(|explanation| explanation.name).collect();
        names.sort_unstable();
        names.dedup();
        let given = name.unwrap_or_default();
        return Err(
            Error::usage(format!("'{given}' is neither a class, a dead reason nor an alert")).hint(format!(
                "there are {}; a code is the provider's own word",
                names.join(", ")
            )),
        );
    }
    if context.output.format == Format::Table {
        let width = context.output.width.map_or(WIDEST, usize::from).min(WIDEST);
        for (place, explanation) in meant.into_iter().enumerate() {
            if place > 0 {
                writeln_stdout("")?;
            }
            let (name, of) = (explanation.name, explanation.of.name());
            writeln_stdout(&format!("{name} ({of})"))?;
            writeln_stdout(&paragraph("means", explanation.means, width))?;
            writeln_stdout(&paragraph("look", explanation.look, width))?;
            writeln_stdout(&paragraph("do", explanation.act, width))?;
        }
        return Ok(Exit::Done);
    }
    let columns = ["of", "name", "means", "look", "do"];
    let columns = columns.map(|name| {
        if name == "name" {
            Column::id(name)
        } else {
            Column::text(name)
        }
    });
    let mut rows = context.output.rows(&columns)?;
    for explanation in meant {
        rows.row(&[
            explanation.of.name().into(),
            explanation.name.into(),
            explanation.means.into(),
            explanation.look.into(),
            explanation.act.into(),
        ])?;
    }
    rows.finish()?;
    Ok(Exit::Done)
}

/// Words in lines of at most so many characters, under their heading.
fn paragraph(heading: &str, text: &str, width: usize) -> String {
    let mut lines = Vec::new();
    let mut line = format!("  {heading:5}");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(7)));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

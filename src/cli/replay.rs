//! `replay`: sends dead letters back to work, and says before whether that is safe.

mod prospect;
mod results;

use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;

use crate::filter::State;
use crate::outbox::{CaptureRow, RESOLVED_NOT_CAPTURED, Replayed};

use super::accounts;
use super::act::ActArgs;
use super::context::Context;
use super::output::{Error, Exit, say};
use super::selection::{Acting, SelectionArgs, Tally};

use prospect::Prospect;
use results::Results;

const ACTING: Acting = Acting {
    verb: "replay",
    states: &[State::Dead],
};

/// How many dead letters are read at once.
const READ_AT_ONCE: usize = 4;

/// Sends dead letters back to work: to reads first, and only then, if they show nothing of ours, to the provider.
///
/// With -n it says of each whether that is safe, and under which key it would be sent, and changes nothing. What a person
/// has resolved is closed: a filter passes it over, and by its id it says who resolved it and is not replayed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Also replay what a person resolved as not captured: named by its id, and looked up at the provider once more
    #[arg(long, requires = "ids")]
    resolved: bool,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let (outbox, mut selected) = args.selection.select(&ACTING, context).await?;
    if selected.by_filter {
        leave_out_resolved(&mut selected.rows);
    }
    let abilities = accounts::abilities(&context.settings()?)?;
    let prospects: Vec<Prospect> = stream::iter(selected.rows.clone())
        .map(|row| prospect::prospect(&outbox, row, &abilities, args.resolved))
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await?;
    prospect::say_what_is_planned(&prospects);
    if !args.act.dry_run {
        args.selection.confirm(&ACTING, &selected, context).await?;
    }
    let mut results = Results::begin(prospects.len(), context)?;
    let mut tally = Tally::default();
    let progress = ProgressBar::new(u64::try_from(prospects.len()).unwrap_or(0));
    for prospect in &prospects {
        if context.interrupted.is_cancelled() {
            progress.finish_and_clear();
            results.finish()?;
            say(&format!(
                "interrupted: {} of {} were replayed",
                tally.done,
                prospects.len()
            ));
            return Ok(Exit::Interrupted);
        }
        let result = match prospect {
            Prospect::Not(..) => "not_replayed",
            Prospect::Planned(_) if args.act.dry_run => "would_replay",
            Prospect::Planned(planned) => match outbox.replay(&planned.letter, &planned.plan, &stamp).await? {
                Replayed::Replayed => "replayed",
                Replayed::MovedMeanwhile => "moved_meanwhile",
            },
        };
        let done = matches!(result, "replayed" | "would_replay");
        match done {
            true => tally.done += 1,
            false => tally.forbidden += 1,
        }
        results.write(prospect, result, done)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    for id in &selected.missing {
        tally.missing += 1;
        results.missing(id)?;
    }
    results.finish()?;
    match args.act.dry_run {
        true => say(&format!("nothing was changed; {} would be replayed", tally.done)),
        false => say(&format!(
            "{} replayed, {} not; capture list --state verifying shows them at work",
            tally.done,
            tally.forbidden + tally.missing
        )),
    }
    Ok(tally.exit())
}

/// What a person has settled is not sent again because a filter happens to mean it too.
fn leave_out_resolved(rows: &mut Vec<CaptureRow>) {
    let before = rows.len();
    rows.retain(|row| row.last_code.as_deref() != Some(RESOLVED_NOT_CAPTURED));
    if rows.len() < before {
        say(&format!(
            "left out, because a person resolved them as not captured: {}; capture dead --resolved shows them, and by its \
             id each says who did",
            before - rows.len()
        ));
    }
}

//! `prune`: removes attempts and events of captures that ended long ago.

use std::time::Duration;

use super::act::ActArgs;
use super::context::Context;
use super::output::{Column, Error, Exit, say};
use super::risk::span;

/// Captures that are looked at in one step, and the pause behind it: what works goes before.
const STEP: i32 = 1_000;
const PAUSE: Duration = Duration::from_millis(50);

/// The least that is kept without --force.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Removes attempts and events of captures that ended long ago, in small steps.
///
/// An intent, its outcome, its late results and the audit trail stay for ever, so nothing can be captured again. What has
/// not ended keeps everything, and so does a dead letter that nobody has resolved. A reader of the feed whose cursor is
/// older than the span misses the events that are gone: prune behind your slowest reader. Ctrl-C ends it between two steps;
/// it can be run again at any time.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What ended longer ago than this, such as 90d
    #[arg(long, value_name = "SPAN", value_parser = span)]
    older_than: Duration,
    /// Also less than 7 days
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    if args.older_than < WEEK && !args.force {
        return Err(Error::usage("--older-than: less than 7 days").hint(
            "attempts and events are how a dispute, or an outage, is understood; keep a week at least, or add --force",
        ));
    }
    let outbox = context.outbox().await?;
    let columns = [
        Column::number("captures"),
        Column::number("attempts"),
        Column::number("events"),
    ];
    if args.act.dry_run {
        let (attempts, events) = outbox.would_prune(args.older_than).await?;
        let cells = [super::output::Cell::Nothing, attempts.into(), events.into()];
        context.output.record(&columns, &cells)?;
        say("nothing was changed");
        return Ok(Exit::Done);
    }
    let audit = outbox.begin_prune(args.older_than, args.force, &stamp).await?;
    let (mut captures, mut attempts, mut events) = (0, 0, 0);
    let mut place = None;
    let exit = loop {
        let done = outbox.prune_some(audit, place, STEP).await?;
        captures += done.looked;
        attempts += done.attempts;
        events += done.events;
        place = done.next;
        if place.is_none() {
            break Exit::Done;
        }
        if context.interrupted.is_cancelled() {
            break Exit::Interrupted;
        }
        // What is long gone costs little to pass over, and needs no pause.
        if done.attempts + done.events > 0 {
            tokio::time::sleep(PAUSE).await;
        }
    };
    context
        .output
        .record(&columns, &[captures.into(), attempts.into(), events.into()])?;
    if exit == Exit::Interrupted {
        say("ended early; run it again to go on");
    }
    Ok(exit)
}

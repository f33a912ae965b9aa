//! `prune`: removes attempts and events of captures that ended long ago, and shipments that are done with.

use std::time::Duration;

use crate::outbox::{Outbox, ShipmentPart};

use super::act::ActArgs;
use super::context::Context;
use super::output::{Cell, Column, Error, Exit, say};
use super::risk::span;

/// Captures that are looked at in one step, and the pause behind it: what works goes before.
const STEP: i32 = 1_000;
const PAUSE: Duration = Duration::from_millis(50);

/// The least that is kept without --force.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Removes attempts and events of captures that ended long ago, and shipments that are done with, in small steps.
///
/// An intent, its outcome, its late results and the audit trail stay for ever, so nothing can be captured again. What has
/// not ended keeps everything, and so does a dead letter that nobody has resolved. Releases and shipment events stay for 90
/// days at least, whatever the span, and as long as a capture of their payment or order is open, so that a repeat is known;
/// what may still free a capture, and what nobody could place, stays. A reader of the feed whose cursor is older than the
/// span misses the events that are gone: prune behind your slowest reader. Ctrl-C ends it between two steps; it can be run
/// again at any time.
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
        Column::number("releases"),
        Column::number("shipments"),
    ];
    if args.act.dry_run {
        let would = outbox.would_prune(args.older_than).await?;
        let cells = [
            Cell::Nothing,
            would.attempts.into(),
            would.events.into(),
            would.releases.into(),
            would.shipments.into(),
        ];
        context.output.record(&columns, &cells)?;
        say("nothing was changed");
        return Ok(Exit::Done);
    }
    let audit = outbox.begin_prune(args.older_than, args.force, &stamp).await?;
    let mut gone = Gone::default();
    let exit = match captures(&outbox, audit, context, &mut gone).await? {
        Exit::Done => shipments(&outbox, audit, context, &mut gone).await?,
        ended => ended,
    };
    let cells = [
        gone.captures.into(),
        gone.attempts.into(),
        gone.events.into(),
        gone.releases.into(),
        gone.shipments.into(),
    ];
    context.output.record(&columns, &cells)?;
    if exit == Exit::Interrupted {
        say("ended early; run it again to go on");
    }
    Ok(exit)
}

/// How many are gone; of captures, how many were looked at.
#[derive(Debug, Default)]
struct Gone {
    captures: i64,
    attempts: i64,
    events: i64,
    releases: i64,
    shipments: i64,
}

async fn captures(outbox: &Outbox, audit: i64, context: &Context, gone: &mut Gone) -> Result<Exit, Error> {
    let mut place = None;
    loop {
        let done = outbox.prune_some(audit, place, STEP).await?;
        gone.captures += done.looked;
        gone.attempts += done.attempts;
        gone.events += done.events;
        place = done.next;
        if place.is_none() {
            return Ok(Exit::Done);
        }
        if context.interrupted.is_cancelled() {
            return Ok(Exit::Interrupted);
        }
        // What is long gone costs little to pass over, and needs no pause.
        if done.attempts + done.events > 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn shipments(outbox: &Outbox, audit: i64, context: &Context, gone: &mut Gone) -> Result<Exit, Error> {
    for part in ShipmentPart::ALL {
        let mut after = None;
        loop {
            if context.interrupted.is_cancelled() {
                return Ok(Exit::Interrupted);
            }
            let (rows, next) = outbox.prune_shipments_some(audit, part, after, STEP).await?;
            match part {
                ShipmentPart::Releases => gone.releases += rows,
                ShipmentPart::Shipments => gone.shipments += rows,
                // They go with their shipments.
                ShipmentPart::Bodies => {}
                ShipmentPart::Unmatched => gone.events += rows,
            }
            after = next;
            if after.is_none() {
                break;
            }
            if rows > 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(Exit::Done)
}

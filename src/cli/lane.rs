//! `lane`: looks at lanes, pauses and resumes them; `lane_acts` limits and tests them.

use clap::Subcommand;

use crate::outbox::{LaneRow, Outbox};

use super::act::ActArgs;
use super::context::Context;
use super::lane_acts;
use super::output::{Cell, Column, Error, Exit, Format, say};
use super::watch::WatchArgs;

/// What to do with lanes.
#[derive(Debug, Subcommand)]
pub enum LaneVerb {
    /// Lanes, their pauses, limits and breakers
    List(WatchArgs),
    /// Claim nothing of a lane until it is resumed; what is in flight goes on
    Pause(Change),
    /// Go on with a paused lane; also closes its breaker
    Resume(Change),
    /// Set how many calls a minute all workers together may make, against the settings, until --clear
    Limit(lane_acts::Limit),
    // Not a doc comment, which would take the place of what `--help` says beyond this line.
    #[command(about = "Let an open breaker test the provider now, or read once from it")]
    Probe(lane_acts::Probe),
}

/// Which lanes, who and why.
#[derive(Debug, clap::Args)]
pub struct Change {
    /// One lane, or every account of a provider
    #[arg(value_name = "PROVIDER[/ACCOUNT]")]
    lane: String,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs it.
pub async fn run(verb: LaneVerb, context: &Context) -> Result<Exit, Error> {
    match verb {
        LaneVerb::List(watch) => list(&watch, context).await,
        LaneVerb::Pause(change) => set(change, true, context).await,
        LaneVerb::Resume(change) => set(change, false, context).await,
        LaneVerb::Limit(args) => lane_acts::limit(args, context).await,
        LaneVerb::Probe(args) => lane_acts::probe(args, context).await,
    }
}

async fn list(watch: &WatchArgs, context: &Context) -> Result<Exit, Error> {
    watch.check(context)?;
    let outbox = context.outbox().await?;
    let draw = async |page: &mut Vec<u8>| {
        let now = outbox.now().await?;
        let people = context.output.format == Format::Table;
        let mut rows = context
            .output
            .rows_to(if people { &SHORT[..] } else { &WHOLE[..] }, page)?;
        for lane in outbox.lanes().await? {
            let open = lane.open_until.is_some_and(|until| until > now);
            let breaker = if open { "open" } else { "closed" };
            rows.row(&if people {
                short(&lane, breaker)
            } else {
                whole(&lane, breaker)
            })?;
        }
        if rows.finish()? == 0 {
            say("no lanes yet: the first capture, or the first worker, makes them");
        }
        Ok(Exit::Done)
    };
    watch.run(context, draw).await
}

const SHORT: [Column; 9] = [
    Column::id("lane"),
    Column::text("paused").wraps(3, 20),
    Column::number("per_minute").leaves(2),
    Column::text("limited_until"),
    Column::text("breaker"),
    Column::number("ready"),
    Column::number("waiting"),
    Column::number("leased"),
    Column::number("workers").leaves(1),
];

fn short(lane: &LaneRow, breaker: &str) -> Vec<Cell> {
    let paused = lane.paused.as_ref().map(|(_, who, why)| format!("{who}: {why}"));
    let limit = lane.rate_in_force().map(|rate| match lane.rate_override {
        Some(_) => format!("{rate} (operator)"),
        None => rate.to_string(),
    });
    vec![
        lane.lane.to_string().into(),
        paused.into(),
        limit.into(),
        lane.limited_until.into(),
        breaker.into(),
        lane.ready.into(),
        lane.waiting.into(),
        lane.leased.into(),
        lane.workers.into(),
    ]
}

const WHOLE: [Column; 17] = [
    Column::id("lane"),
    Column::text("provider"),
    Column::text("account"),
    Column::text("paused"),
    Column::text("paused_at"),
    Column::text("paused_by"),
    Column::text("pause_reason"),
    Column::number("rate_per_minute"),
    Column::number("rate_override"),
    Column::text("limited_until"),
    Column::text("breaker"),
    Column::text("open_until"),
    Column::number("unanswered"),
    Column::number("ready"),
    Column::number("waiting"),
    Column::number("leased"),
    Column::number("workers"),
];

fn whole(lane: &LaneRow, breaker: &str) -> Vec<Cell> {
    let paused = lane.paused.as_ref();
    vec![
        lane.lane.to_string().into(),
        lane.lane.provider.as_str().into(),
        lane.lane.account.as_str().into(),
        paused.is_some().into(),
        paused.map(|(at, _, _)| *at).into(),
        paused.map(|(_, who, _)| who.as_str()).into(),
        paused.map(|(_, _, why)| why.as_str()).into(),
        lane.rate_per_minute.into(),
        lane.rate_override.into(),
        lane.limited_until.into(),
        breaker.into(),
        lane.open_until.into(),
        lane.unanswered.into(),
        lane.ready.into(),
        lane.waiting.into(),
        lane.leased.into(),
        lane.workers.into(),
    ]
}

async fn set(change: Change, pause: bool, context: &Context) -> Result<Exit, Error> {
    let stamp = change.act.stamp(context)?;
    let outbox = context.outbox().await?;
    let lanes = named(&outbox, &change.lane).await?;
    let (done, would, already) = match pause {
        true => ("paused", "would_pause", "was_paused"),
        false => ("resumed", "would_resume", "was_not_paused"),
    };
    let mut rows = context.output.rows(&[
        Column::id("lane"),
        Column::text("result"),
        Column::number("ready"),
        Column::number("waiting"),
    ])?;
    let (mut kept, mut dropped) = (0, 0);
    for lane in lanes {
        let changed = match change.act.dry_run {
            true => lane.paused.is_some() != pause,
            false => outbox.set_lane_pause(lane.id, pause, &stamp).await?,
        };
        let result = match (changed, change.act.dry_run) {
            (true, false) => done,
            (true, true) => would,
            (false, _) => already,
        };
        if pause && !changed {
            dropped += 1;
            let name = &lane.lane;
            say(&match &lane.paused {
                Some((at, by, why)) => format!(
                    "{name} is paused already: by {by} since {}: {why}",
                    at.format("%Y-%m-%d %H:%M:%S UTC")
                ),
                None => format!("{name} was paused just now by somebody else"),
            });
        } else {
            kept += 1;
        }
        rows.row(&[
            lane.lane.to_string().into(),
            result.into(),
            lane.ready.into(),
            lane.waiting.into(),
        ])?;
    }
    rows.finish()?;
    if change.act.dry_run {
        say("nothing was changed");
        return Ok(Exit::Done);
    }
    // A second reason is kept nowhere: whoever gave it must not take it for kept.
    Ok(match (kept, dropped) {
        (_, 0) => Exit::Done,
        (0, _) => {
            say("nothing was changed; to pause it for another reason, resume it first");
            Exit::StateForbids
        }
        _ => Exit::PartlyDone,
    })
}

/// The lanes that `provider` or `provider/account` means.
pub async fn named(outbox: &Outbox, name: &str) -> Result<Vec<LaneRow>, Error> {
    let all = outbox.lanes().await?;
    let known: Vec<String> = all.iter().map(|lane| lane.lane.to_string()).collect();
    let meant: Vec<LaneRow> = all
        .into_iter()
        .filter(|lane| lane.lane.to_string() == name || lane.lane.provider == name)
        .collect();
    if meant.is_empty() {
        let error = Error::not_found(format!("there is no lane '{name}'"));
        return Err(match known.is_empty() {
            true => error.hint("there are none yet: the first capture, or the first worker, makes them"),
            false => error.hint(format!("there are {}", known.join(", "))),
        });
    }
    Ok(meant)
}

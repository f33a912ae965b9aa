//! `status`: lanes, workers and counts at a glance.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::filter::State;
use crate::outbox::{Check, LaneBacklog, LaneRow, Outbox, StateCount, Unmatched, WebhookTally, WorkerRow};

use super::context::Context;
use super::doctor::webhooks_in_words;
use super::output::{Cell, Column, Error, Exit, Format, Output};
use super::watch::WatchArgs;

/// Lanes, workers and counts at a glance.
///
/// Dead letters that a person resolved as not captured are closed: they are counted as resolved, not as dead. Of more than
/// 100,000 captured or cancelled ones the number is an estimate, and says so. In JSON one object with lanes, workers, states,
/// which of those are estimated, the number of shipments that released nothing, and webhooks; in the other forms for programs the
/// lanes alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show only what somebody should look at, and end with 7 if there is anything
    #[arg(long, conflicts_with = "watch")]
    check: bool,
    #[command(flatten)]
    watch: WatchArgs,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    args.watch.check(context)?;
    let outbox = context.outbox().await?;
    if args.check {
        return check(&outbox, &context.output).await;
    }
    let draw = async |page: &mut Vec<u8>| {
        Overview::read(&outbox).await?.write(&context.output, page)?;
        Ok(Exit::Done)
    };
    args.watch.run(context, draw).await
}

async fn check(outbox: &Outbox, output: &Output) -> Result<Exit, Error> {
    let checks = outbox.checks().await?;
    let mut rows = output.rows(&[Column::id("check"), Column::number("intents"), Column::text("says")])?;
    for Check { name, says, intents } in &checks {
        rows.row(&[(*name).into(), (*intents).into(), says.as_str().into()])?;
    }
    match rows.finish()? {
        0 => Ok(Exit::Done),
        _ => Ok(Exit::CheckTripped),
    }
}

/// Counts beside each other; on a terminal that is too narrow, in lines that end between two of them.
fn joined(counts: &[String], width: Option<u16>) -> String {
    let width = width.map_or(usize::MAX, usize::from);
    let mut lines: Vec<String> = Vec::new();
    for count in counts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 3 + count.chars().count() <= width => {
                line.push_str(" · ");
                line.push_str(count);
            }
            _ => lines.push(count.clone()),
        }
    }
    lines.join("\n")
}

/// Everything that is shown, read at once.
struct Overview {
    lanes: Vec<(LaneBacklog, Option<LaneRow>)>,
    workers: Vec<WorkerRow>,
    counts: Vec<StateCount>,
    unmatched: Unmatched,
    webhooks: WebhookTally,
}

impl Overview {
    async fn read(outbox: &Outbox) -> Result<Overview, Error> {
        let mut facts = outbox.lanes().await?;
        let backlog = outbox.backlog().await?.lanes.into_iter();
        let lanes = backlog.map(|backlog| {
            let at = facts.iter().position(|fact| fact.id == backlog.id);
            (backlog, at.map(|at| facts.swap_remove(at)))
        });
        Ok(Overview {
            lanes: lanes.collect(),
            workers: outbox.workers().await?,
            counts: outbox.tally().await?.states,
            unmatched: outbox.unmatched_shipments().await?,
            webhooks: outbox.webhook_tally().await?,
        })
    }

    fn write(&self, output: &Output, to: &mut impl Write) -> Result<(), Error> {
        match output.format {
            Format::Table => self.write_page(output, to),
            Format::Json => {
                let lanes = objects(&LANES, self.lanes.iter().map(lane_cells))?;
                let workers = objects(&WORKERS, self.workers.iter().map(worker_cells))?;
                let states: serde_json::Map<String, Value> = self
                    .by_state()
                    .into_iter()
                    .chain([("resolved", self.resolved())])
                    .map(|(name, n)| (name.to_owned(), n.into()))
                    .collect();
                let estimated: Vec<&str> = State::ALL
                    .map(State::name)
                    .into_iter()
                    .filter(|name| self.estimated(name))
                    .collect();
                writeln!(
                    to,
                    "{}",
                    json!({
                        "lanes": lanes, "workers": workers, "states": states, "estimated": estimated,
                        "unmatched_shipments": self.unmatched.shipments, "webhooks": self.webhooks
                    })
                )?;
                to.flush()?;
                Ok(())
            }
            Format::Ndjson | Format::Csv | Format::Id => {
                let mut rows = output.rows_to(&LANES, to)?;
                for lane in &self.lanes {
                    rows.row(&lane_cells(lane))?;
                }
                rows.finish().map(drop)
            }
        }
    }

    fn write_page(&self, output: &Output, to: &mut impl Write) -> Result<(), Error> {
        // The lane's name says provider and account already.
        let mut columns = LANES.to_vec();
        columns.drain(PARTS);
        let mut rows = output.rows_to(&columns, &mut *to)?;
        for lane in &self.lanes {
            let mut cells = lane_cells(lane);
            cells.drain(PARTS);
            rows.row(&cells)?;
        }
        if rows.finish()? == 0 {
            writeln!(to, "no lanes yet: the first capture, or the first worker, makes them")?;
        }
        writeln!(to)?;
        let mut rows = output.rows_to(&WORKERS, &mut *to)?;
        for worker in &self.workers {
            rows.row(&worker_cells(worker))?;
        }
        if rows.finish()? == 0 {
            writeln!(to, "no worker: start capture work")?;
        }
        let mut states: Vec<String> = self
            .by_state()
            .iter()
            .map(|(name, n)| match self.estimated(name) {
                true => format!("{name} about {n}"),
                false => format!("{name} {n}"),
            })
            .collect();
        if self.resolved() > 0 {
            states.push(format!("resolved as not captured {}", self.resolved()));
        }
        writeln!(to, "\n{}", joined(&states, output.width))?;
        if self.unmatched.shipments > 0 {
            let found = self.unmatched.shipments;
            writeln!(
                to,
                "goods left uncaptured: {found}, see capture shipment list --unmatched"
            )?;
        }
        if let Some(webhooks) = webhooks_in_words(&self.webhooks) {
            writeln!(to, "webhooks: {webhooks}")?;
        }
        to.flush()?;
        Ok(())
    }

    /// Every state, also those with none, in the order of an intent's way. Dead are those that wait for a person, as in
    /// `dead list` and in the lanes.
    fn by_state(&self) -> Vec<(&'static str, i64)> {
        State::ALL
            .map(|state| (state.name(), self.count(state.name())))
            .to_vec()
    }

    /// Dead letters that a person closed.
    fn resolved(&self) -> i64 {
        self.count("resolved")
    }

    /// Too many to be counted: the server's statistics say about how many.
    fn estimated(&self, wanted: &str) -> bool {
        self.counts.iter().any(|count| count.state == wanted && count.estimated)
    }

    fn count(&self, wanted: &str) -> i64 {
        self.counts
            .iter()
            .filter(|count| count.state == wanted)
            .map(|count| count.captures)
            .sum()
    }
}

const LANES: [Column; 13] = [
    Column::id("lane"),
    Column::text("provider"),
    Column::text("account"),
    Column::number("ready"),
    Column::number("waiting"),
    Column::number("held").leaves(3),
    Column::number("unknown"),
    Column::number("leased"),
    Column::number("dead"),
    Column::span("oldest_ready").leaves(4),
    Column::text("breaker"),
    Column::text("paused").shortens(2, 14),
    // The workers themselves stand below.
    Column::number("workers").leaves(1),
];

/// Where provider and account stand.
const PARTS: std::ops::Range<usize> = 1..3;

fn lane_cells((backlog, facts): &(LaneBacklog, Option<LaneRow>)) -> Vec<Cell> {
    let paused = facts.as_ref().and_then(|facts| facts.paused.as_ref());
    vec![
        backlog.lane.to_string().into(),
        backlog.lane.provider.as_str().into(),
        backlog.lane.account.as_str().into(),
        backlog.ready.into(),
        backlog.waiting.into(),
        backlog.held.into(),
        backlog.unknown.into(),
        backlog.leased.into(),
        backlog.dead.into(),
        oldest(backlog).into(),
        if backlog.breaker_open { "open" } else { "closed" }.into(),
        paused.map(|(_, who, why)| format!("{who}: {why}")).into(),
        facts.as_ref().map(|facts| facts.workers).into(),
    ]
}

fn oldest(backlog: &LaneBacklog) -> Option<Duration> {
    let seconds = u64::try_from(backlog.oldest_ready_s).ok()?;
    (backlog.ready > 0).then(|| Duration::from_secs(seconds))
}

const WORKERS: [Column; 7] = [
    Column::id("worker"),
    Column::text("version").leaves(1),
    Column::number("pid").leaves(2),
    Column::text("listen"),
    Column::number("lanes"),
    Column::span("up"),
    Column::span("silent"),
];

fn worker_cells(worker: &WorkerRow) -> Vec<Cell> {
    let span = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    vec![
        worker.id.to_string().into(),
        worker.version.as_str().into(),
        worker.pid.into(),
        worker.listen.as_deref().into(),
        worker.lanes.into(),
        span(worker.up_s).into(),
        span(worker.silent_s).into(),
    ]
}

/// Rows as JSON objects, by the same columns as everywhere.
fn objects(columns: &[Column], rows: impl Iterator<Item = Vec<Cell>>) -> Result<Value, Error> {
    let plain = Output {
        format: Format::Json,
        terminal: false,
        width: None,
        colour: false,
        outlives_reader: false,
    };
    let mut bytes = Vec::new();
    let mut written = plain.rows_to(columns, &mut bytes)?;
    for row in rows {
        written.row(&row)?;
    }
    written.finish()?;
    serde_json::from_slice(&bytes).map_err(|error| Error::failed(error.to_string()))
}

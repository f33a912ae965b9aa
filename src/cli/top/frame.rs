//! What a frame of `top` shows.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::SubsecRound;

use crate::cli::capture_rows::amount;
use crate::cli::output::{Cell, Column, Error, Format, Output};
use crate::outbox::{Hours, LaneBacklog, LaneRate, LaneRow, OpenOperation, Outbox, Risk, WorkerRow};

/// Everything that a frame shows, read at once.
pub struct Figures {
    backlog: Vec<LaneBacklog>,
    lanes: Vec<LaneRow>,
    rates: Vec<LaneRate>,
    risk: Risk,
    workers: Vec<WorkerRow>,
    operations: Vec<OpenOperation>,
}

impl Figures {
    /// Reads them.
    pub async fn read(outbox: &Outbox) -> Result<Figures, Error> {
        Ok(Figures {
            backlog: outbox.backlog().await?.lanes,
            lanes: outbox.lanes().await?,
            rates: outbox.lane_rates().await?,
            workers: outbox.workers().await?,
            operations: outbox.open_operations().await?,
            risk: outbox.risk(None).await?,
        })
    }
}

const LANES: [Column; 11] = [
    Column::text("lane"),
    Column::number("per_min").leaves(4),
    Column::number("in_flight"),
    Column::number("ready"),
    Column::span("oldest"),
    Column::number("waiting").leaves(2),
    Column::number("held").leaves(3),
    Column::number("unknown"),
    Column::number("dead"),
    Column::text("breaker"),
    Column::text("budget").leaves(1),
];

/// The frame, a line each. Fits 80 columns, and 24 rows with a few lanes.
pub fn lines(figures: &Figures, outbox: &Outbox, output: &Output) -> Result<Vec<String>, Error> {
    let plain = Output {
        colour: false,
        format: Format::Table,
        ..*output
    };
    let as_of = figures.risk.as_of.trunc_subsecs(0);
    let mut frame = vec![
        format!(
            "capture · {} schema {} · as of {as_of:?}",
            outbox.address(),
            outbox.schema()
        ),
        String::new(),
    ];
    let mut page = Vec::new();
    let mut rows = plain.rows_to(&LANES, &mut page)?;
    for lane in &figures.backlog {
        rows.row(&lane_cells(lane, figures))?;
    }
    if rows.finish()? == 0 {
        page = b"no lanes yet: the first capture, or the first worker, makes them".to_vec();
    }
    frame.extend(text(&page));
    frame.push(String::new());
    frame.push("money at risk (authorised and not captured), by the end of its authorisation".to_owned());
    frame.extend(money(&figures.risk, &plain)?);
    frame.push(String::new());
    frame.push(workers(&figures.workers));
    frame.push(match figures.operations.as_slice() {
        [] => "operations: none is running".to_owned(),
        some => some.iter().map(operation).collect::<Vec<_>>().join(" · "),
    });
    Ok(frame)
}

fn text(page: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(page).lines().map(str::to_owned).collect()
}

fn lane_cells(lane: &LaneBacklog, figures: &Figures) -> Vec<Cell> {
    let rate = figures.rates.iter().find(|rate| rate.id == lane.id);
    let facts = figures.lanes.iter().find(|facts| facts.id == lane.id);
    let oldest = u64::try_from(lane.oldest_ready_s).unwrap_or(0);
    let breaker = match (lane.paused, lane.breaker_open) {
        (true, _) => "paused",
        (false, true) => "open",
        (false, false) => "closed",
    };
    vec![
        lane.lane.to_string().into(),
        rate.map(|rate| rate.captured_last_minute).into(),
        lane.leased.into(),
        lane.ready.into(),
        (lane.ready > 0).then(|| Duration::from_secs(oldest)).into(),
        lane.waiting.into(),
        lane.held.into(),
        lane.unknown.into(),
        lane.dead.into(),
        breaker.into(),
        facts
            .and_then(LaneRow::rate_in_force)
            .map(|rate| format!("{rate}/min"))
            .into(),
    ]
}

/// A line a currency: what ends within a day, within two, later, and at a time that nobody knows.
fn money(risk: &Risk, output: &Output) -> Result<Vec<String>, Error> {
    let mut sums: BTreeMap<&str, [i64; 4]> = BTreeMap::new();
    for row in &risk.rows {
        let at = match row.hours {
            Hours::Over | Hours::To6 | Hours::To24 => 0,
            Hours::To48 => 1,
            Hours::To168 | Hours::Later => 2,
            Hours::Unknown => 3,
        };
        if let Some(sum) = sums.entry(&row.currency).or_default().get_mut(at) {
            *sum = sum.saturating_add(row.amount_minor);
        }
    }
    if sums.is_empty() {
        return Ok(vec!["none".to_owned()]);
    }
    let mut page = Vec::new();
    let columns = ["under_24h", "24_to_48h", "later", "end_unknown"].map(Column::money);
    let mut rows = output.rows_to(&columns, &mut page)?;
    for (currency, sums) in sums {
        rows.row(&sums.map(|minor| amount(minor, currency)))?;
    }
    rows.finish()?;
    Ok(text(&page))
}

fn workers(workers: &[WorkerRow]) -> String {
    let fresh: Vec<&WorkerRow> = workers.iter().filter(|worker| worker.silent_s <= 60).collect();
    let mut versions: Vec<&str> = fresh.iter().map(|worker| worker.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    match fresh.first() {
        None => "workers: none; start capture work".to_owned(),
        Some(newest) => format!(
            "workers: {} · last heartbeat {} s ago · version {} · silent for over a minute: {}",
            fresh.len(),
            newest.silent_s,
            versions.join(", "),
            workers.len() - fresh.len()
        ),
    }
}

fn operation(operation: &OpenOperation) -> String {
    format!(
        "{} {} {} of {}",
        operation.act, operation.state, operation.done, operation.total
    )
}

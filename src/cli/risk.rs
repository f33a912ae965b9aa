//! `risk`: money that is authorised and not captured.

use std::time::Duration;

use crate::outbox::{ForecastRow, LaneRate, Outbox};

use super::capture_rows::{amount, time};
use super::context::Context;
use super::output::{Column, Error, Exit, Format, Output, say};
use super::watch::WatchArgs;

/// So many rows of a forecast without --limit.
const USUAL: u32 = 200;

/// Money that is authorised and not captured, by hours to the authorisation's end and by what it waits for.
///
/// With --forecast the captures whose authorisation ends before their turn comes, if every lane goes on at the rate of the
/// last hour: an estimate from the queue as it stands. A lane that captured nothing for an hour gives nobody a turn, nor does
/// one that is paused or whose breaker is open.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only authorisations that are over or end within this time, such as 48h
    #[arg(long, value_name = "SPAN", value_parser = span, conflicts_with = "forecast")]
    within: Option<Duration>,
    /// Which captures will expire first, row by row
    #[arg(long)]
    forecast: bool,
    /// With --forecast: at most so many rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000), requires = "forecast")]
    limit: Option<u32>,
    #[command(flatten)]
    watch: WatchArgs,
}

/// A span of time as filters write it.
pub fn span(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(10 * 366 * 24 * 3600);
    let span = humantime::parse_duration(text).ok();
    span.filter(|span| !span.is_zero() && *span <= most)
        .ok_or_else(|| "write a number and its unit, such as 30m, 48h or 7d".to_owned())
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    args.watch.check(context)?;
    let outbox = context.outbox().await?;
    let draw = async |page: &mut Vec<u8>| match args.forecast {
        true => forecast(&outbox, args.limit.unwrap_or(USUAL), &context.output, page).await,
        false => risk(&outbox, args.within, &context.output, page).await,
    };
    args.watch.run(context, draw).await
}

async fn risk(outbox: &Outbox, within: Option<Duration>, output: &Output, page: &mut Vec<u8>) -> Result<Exit, Error> {
    let risk = outbox.risk(within).await?;
    let mut rows = output.rows_to(
        &[
            Column::text("hours"),
            Column::text("reason"),
            Column::number("captures"),
            Column::number("assumed"),
            Column::money("amount"),
        ],
        page,
    )?;
    for row in &risk.rows {
        rows.row(&[
            row.hours.name().into(),
            row.reason.as_str().into(),
            row.captures.into(),
            row.assumed.into(),
            amount(row.amount_minor, &row.currency),
        ])?;
    }
    if rows.finish()? == 0 && output.format == Format::Table {
        say("nothing is authorised and not captured");
    }
    Ok(Exit::Done)
}

async fn forecast(outbox: &Outbox, limit: u32, output: &Output, page: &mut Vec<u8>) -> Result<Exit, Error> {
    let forecast = outbox.forecast(limit).await?;
    let mut rows = output.rows_to(&COLUMNS, page)?;
    for row in &forecast.rows {
        rows.row(&cells(row, output))?;
    }
    let found = rows.finish()?;
    if output.format == Format::Table {
        let slow = forecast.lanes.iter().filter(|lane| lane.in_line > 0);
        let rates: Vec<String> = slow.map(in_words).collect();
        if found == 0 {
            say("at this rate every known deadline is kept");
        }
        if !rates.is_empty() {
            say(&format!(
                "an estimate, from what was captured in the last hour: {}",
                rates.join(" · ")
            ));
        }
    }
    if forecast.more {
        say(&format!("only the nearest {limit} are shown; --limit N shows more"));
    }
    Ok(Exit::Done)
}

fn in_words(lane: &LaneRate) -> String {
    let stands = match lane.stands_still {
        Some("paused") => Some("paused"),
        Some(_) => Some("held back by its open breaker"),
        None => None,
    };
    if let Some(why) = stands {
        return format!(
            "{} is {why}, so none of {} in line gets its turn",
            lane.lane, lane.in_line
        );
    }
    format!(
        "{} {} an hour, {} in line",
        lane.lane, lane.captured_last_hour, lane.in_line
    )
}

const COLUMNS: [Column; 10] = [
    Column::id("id").shortens(4, 13),
    Column::text("lane").leaves(3),
    Column::text("order_id").shortens(5, 10),
    Column::text("payment_id").leaves(1),
    Column::money("amount"),
    Column::text("state"),
    Column::text("authorization_expires_at"),
    Column::text("expiry_source").leaves(4),
    Column::number("before_it").leaves(2),
    Column::text("turn_at"),
];

fn cells(row: &ForecastRow, output: &Output) -> Vec<super::output::Cell> {
    vec![
        row.id.to_string().into(),
        row.lane.to_string().into(),
        row.order_id.as_str().into(),
        row.payment_id.as_str().into(),
        amount(row.amount_minor, &row.currency),
        row.state.as_str().into(),
        time(row.authorization_expires_at, output),
        row.expiry_source.as_str().into(),
        row.before_it.into(),
        row.turn_at
            .map(|at| time(at, output))
            .unwrap_or(super::output::Cell::Nothing),
    ]
}

//! `lane limit` and `lane probe`.

use crate::filter::Filter;
use crate::outbox::LaneTest;

use super::act::ActArgs;
use super::context::Context;
use super::lane::named;
use super::order::{Asked, adapters};
use super::output::{Column, Error, Exit, say};

/// Which lanes, how fast, who and why.
#[derive(Debug, clap::Args)]
pub struct Limit {
    /// One lane, or every account of a provider
    #[arg(value_name = "PROVIDER[/ACCOUNT]")]
    lane: String,
    /// Calls a minute of all workers together; goes before the workers' settings until it is taken back
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1_000_000), required_unless_present = "clear")]
    rate_per_minute: Option<i32>,
    /// Give the lane back to the workers' settings
    #[arg(long, conflicts_with = "rate_per_minute")]
    clear: bool,
    #[command(flatten)]
    act: ActArgs,
}

/// Sets or clears an operator's rate.
pub async fn limit(args: Limit, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let outbox = context.outbox().await?;
    let lanes = named(&outbox, &args.lane).await?;
    let rate = args.rate_per_minute.filter(|_| !args.clear);
    let (done, would, already) = match args.clear {
        false => ("limited", "would_limit", "was_so_limited"),
        true => ("cleared", "would_clear", "was_not_limited"),
    };
    let mut rows = context.output.rows(&[
        Column::id("lane"),
        Column::text("result"),
        Column::number("before"),
        Column::number("rate_per_minute"),
    ])?;
    for lane in lanes {
        let changed = match args.act.dry_run {
            true => lane.rate_override != rate,
            false => outbox.set_lane_rate(lane.id, rate, &stamp).await?,
        };
        let result = match (changed, args.act.dry_run) {
            (true, false) => done,
            (true, true) => would,
            (false, _) => already,
        };
        let settings = Some(lane.rate_per_minute).filter(|rate| *rate > 0);
        rows.row(&[
            lane.lane.to_string().into(),
            result.into(),
            lane.rate_in_force().into(),
            rate.or(settings).into(),
        ])?;
    }
    rows.finish()?;
    if args.act.dry_run {
        say("nothing was changed");
    }
    Ok(Exit::Done)
}

/// Tests a provider.
///
/// A breaker opens when calls come back without an answer, and tests by itself when its time is over. This makes it test
/// now: the next claim of any worker lets one capture or verification through as it would have anyway, and the answer
/// closes the breaker, or opens it for twice as long. A paused lane is left alone: what paused it is to be mended first, then
/// lane resume. With --read nothing in the outbox is touched: the provider is asked once about the newest capture of the
/// lane, by a read, with the account of the settings, which shows whether network and credentials are in order.
#[derive(Debug, clap::Args)]
pub struct Probe {
    /// One lane, or every account of a provider
    #[arg(value_name = "PROVIDER[/ACCOUNT]")]
    lane: String,
    /// Only read from the provider, once; changes nothing, needs no --reason
    #[arg(long)]
    read: bool,
    #[command(flatten)]
    act: super::act::OptionalActArgs,
}

/// Tests breakers now, or reads.
pub async fn probe(args: Probe, context: &Context) -> Result<Exit, Error> {
    if args.read {
        return read(&args.lane, context).await;
    }
    let stamp = args.act.stamp(context)?;
    let outbox = context.outbox().await?;
    let lanes = named(&outbox, &args.lane).await?;
    let now = outbox.now().await?;
    let mut rows = context.output.rows(&[
        Column::id("lane"),
        Column::text("result"),
        Column::number("ready"),
        Column::text("says").wraps(1, 20),
    ])?;
    let mut paused = false;
    for lane in lanes {
        let found = match args.act.dry_run() {
            true if lane.paused.is_some() => LaneTest::Paused,
            true if lane.open_until.is_none() => LaneTest::Closed,
            true if lane.open_until <= Some(now) => LaneTest::Due,
            true => LaneTest::Probing,
            false => outbox.test_lane(lane.id, &stamp).await?,
        };
        paused |= found == LaneTest::Paused;
        let says = match found {
            LaneTest::Probing if lane.limited_until > Some(now) => {
                "the next claim lets one through, once the wait that the provider asked for is over"
            }
            LaneTest::Probing if lane.ready == 0 => "the next row that is ready is let through to test",
            LaneTest::Probing => "the next claim lets one through to test",
            LaneTest::Paused => "paused: nothing is let through; mend what paused it, then capture lane resume",
            LaneTest::Closed => "the breaker is closed: there is nothing to test",
            LaneTest::Due => "its time is over: the next claim tests anyway",
            LaneTest::Testing => "a test is in flight",
        };
        rows.row(&[
            lane.lane.to_string().into(),
            found.name().into(),
            lane.ready.into(),
            says.into(),
        ])?;
    }
    rows.finish()?;
    if args.act.dry_run() {
        say("nothing was changed");
    }
    Ok(if paused { Exit::StateForbids } else { Exit::Done })
}

async fn read(name: &str, context: &Context) -> Result<Exit, Error> {
    let adapters = adapters(context)?;
    let outbox = context.outbox().await?;
    let mut failed = false;
    let mut rows = context.output.rows(&[
        Column::id("lane"),
        Column::text("result"),
        Column::text("capture").shortens(1, 13),
        Column::text("says").wraps(2, 20),
    ])?;
    for lane in named(&outbox, name).await? {
        let filter = Filter {
            provider: Some(lane.lane.provider.clone()),
            account: Some(lane.lane.account.clone()),
            ..Filter::default()
        };
        let newest = outbox.page(&filter, None, 1).await?.rows.into_iter().next();
        let (result, says) = match &newest {
            None => ("not_asked", "the lane has no capture to ask about".to_owned()),
            Some(capture) => {
                let told = Asked::of(Some(&adapters)).about(&outbox, capture).await?;
                let result = match told.differs {
                    Some(_) => "answered",
                    None if told.says.starts_with("not asked") => "not_asked",
                    None => "failed",
                };
                failed |= result == "failed";
                (result, told.says)
            }
        };
        rows.row(&[
            lane.lane.to_string().into(),
            result.into(),
            newest.map(|capture| capture.id.to_string()).into(),
            says.into(),
        ])?;
    }
    rows.finish()?;
    Ok(if failed { Exit::CheckTripped } else { Exit::Done })
}

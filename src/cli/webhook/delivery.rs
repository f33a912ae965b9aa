//! `webhook delivery`: what was told to whom, and once more if need be.

use chrono::{DateTime, Utc};
use clap::{Subcommand, ValueEnum};
use uuid::Uuid;

use crate::cli::act::ActArgs;
use crate::cli::context::Context;
use crate::cli::intent_id::intent_id;
use crate::cli::output::{Cell, Column, Error, Exit, Format, say};
use crate::filter::instant;
use crate::outbox::{Delivery, DeliveryFilter};

/// Events that one step of a redelivery reads.
const STEP: i32 = 2000;

/// What to do with deliveries.
#[derive(Debug, Subcommand)]
pub enum DeliveryVerb {
    /// Deliveries, the newest first
    List(List),
    /// One delivery, whole
    Get(Get),
    #[command(about = "Tell once more: these deliveries, or the events of a span of time")]
    Redeliver(Redeliver),
}

/// The state of a delivery.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    /// Under way, or to be tried again
    Pending,
    /// It arrived
    Delivered,
    /// It was given up
    Failed,
    /// Its event was pruned before
    Dropped,
}

/// Which ones.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Of this endpoint
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<Uuid>,
    /// In this state
    #[arg(long, value_enum, value_name = "STATE")]
    state: Option<State>,
    /// Of this event
    #[arg(long, value_name = "EVENT")]
    event: Option<Uuid>,
    /// Of the events of this capture
    #[arg(long, value_name = "INTENT", value_parser = intent_id)]
    capture: Option<Uuid>,
    /// Older than this one
    #[arg(long, value_name = "DELIVERY")]
    before: Option<i64>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
}

/// Which one.
#[derive(Debug, clap::Args)]
pub struct Get {
    /// The delivery
    #[arg(value_name = "DELIVERY")]
    id: i64,
}

/// Tells once more, with the same ids: a receiver that keeps the ids it has seen does nothing twice.
///
/// By their numbers, whatever became of them; or for an endpoint all events of a span of time, of the types it is told: also
/// those from before it was made, or while it was disabled.
#[derive(Debug, clap::Args)]
pub struct Redeliver {
    /// The deliveries
    #[arg(value_name = "DELIVERY", required_unless_present = "endpoint", conflicts_with_all = ["endpoint", "since", "until"])]
    ids: Vec<i64>,
    /// The endpoint
    #[arg(long, value_name = "ENDPOINT", requires = "since")]
    endpoint: Option<Uuid>,
    /// Events that happened at this time or later: 2026-01-31T10:00:00Z, 2026-01-31, or how long ago, such as 24h
    #[arg(long, value_name = "TIME", requires = "endpoint")]
    since: Option<String>,
    /// And before this time; else until now
    #[arg(long, value_name = "TIME", requires = "endpoint")]
    until: Option<String>,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs it.
pub async fn run(verb: DeliveryVerb, context: &Context) -> Result<Exit, Error> {
    match verb {
        DeliveryVerb::List(args) => list(args, context).await,
        DeliveryVerb::Get(args) => get(args.id, context).await,
        DeliveryVerb::Redeliver(args) => redeliver(args, context).await,
    }
}

const SHORT: [Column; 8] = [
    Column::id("id"),
    Column::text("endpoint").shortens(2, 13),
    Column::text("type"),
    Column::text("event").shortens(1, 13),
    Column::text("state"),
    Column::number("attempts"),
    Column::text("last_code"),
    Column::text("due_at").leaves(3),
];

const WHOLE: [Column; 15] = [
    Column::id("id"),
    Column::text("endpoint"),
    Column::text("event"),
    Column::text("type"),
    Column::text("intent_id"),
    Column::text("state"),
    Column::number("attempts"),
    Column::number("redeliveries"),
    Column::text("begun_at"),
    Column::text("due_at"),
    Column::text("ended_at"),
    Column::text("last_at"),
    Column::text("last_code"),
    Column::number("last_status"),
    Column::number("last_ms"),
];

fn short(delivery: &Delivery) -> Vec<Cell> {
    let kind = delivery.kind.as_deref().map(|kind| kind.trim_start_matches("capture."));
    vec![
        delivery.id.to_string().into(),
        delivery.endpoint.to_string().into(),
        kind.into(),
        delivery.event.to_string().into(),
        delivery.state.as_str().into(),
        delivery.attempts.into(),
        delivery.last_code.as_deref().into(),
        delivery.due_at.into(),
    ]
}

fn whole(delivery: &Delivery) -> Vec<Cell> {
    vec![
        delivery.id.to_string().into(),
        delivery.endpoint.to_string().into(),
        delivery.event.to_string().into(),
        delivery.kind.as_deref().into(),
        delivery.intent_id.map(|id| id.to_string()).into(),
        delivery.state.as_str().into(),
        delivery.attempts.into(),
        delivery.redeliveries.into(),
        delivery.begun_at.into(),
        delivery.due_at.into(),
        delivery.ended_at.into(),
        delivery.last_at.into(),
        delivery.last_code.as_deref().into(),
        delivery.last_status.map(i32::from).into(),
        delivery.last_ms.into(),
    ]
}

async fn list(args: List, context: &Context) -> Result<Exit, Error> {
    let state = args.state.and_then(|state| state.to_possible_value());
    let filter = DeliveryFilter {
        endpoint: args.endpoint,
        state: state.map(|state| state.get_name().to_owned()),
        event: args.event,
        intent: args.capture,
        before: args.before,
    };
    let outbox = context.outbox().await?;
    let people = context.output.format == Format::Table;
    let mut rows = context.output.rows(if people { &SHORT[..] } else { &WHOLE[..] })?;
    for delivery in outbox.webhook_deliveries(&filter, args.limit).await? {
        rows.row(&if people { short(&delivery) } else { whole(&delivery) })?;
    }
    rows.finish()?;
    Ok(Exit::Done)
}

async fn get(id: i64, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let delivery = outbox.webhook_delivery(id).await?;
    let delivery = delivery.ok_or_else(|| Error::not_found(format!("there is no delivery {id}")))?;
    context.output.record(&WHOLE, &whole(&delivery))?;
    Ok(Exit::Done)
}

fn time(flag: &str, text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    instant(text.trim(), now).map_err(|(wrong, right)| Error::usage(format!("{flag}: {wrong}")).hint(right))
}

async fn redeliver(args: Redeliver, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let outbox = context.outbox().await?;
    let columns = [Column::number("deliveries")];
    let nothing_changed = |count: i64| {
        context.output.record(&columns, &[count.into()])?;
        say("nothing was changed");
        Ok(Exit::Done)
    };
    let (Some(endpoint), Some(since)) = (args.endpoint, &args.since) else {
        if args.act.dry_run {
            return nothing_changed(i64::try_from(args.ids.len()).unwrap_or(i64::MAX));
        }
        let count = outbox.redeliver_webhooks(&args.ids, &stamp).await?;
        context.output.record(&columns, &[count.into()])?;
        let asked = i64::try_from(args.ids.len()).unwrap_or(i64::MAX);
        if count < asked {
            say("the others are no deliveries, or of endpoints that were removed");
            return Ok(if count == 0 { Exit::NotFound } else { Exit::PartlyDone });
        }
        return Ok(Exit::Done);
    };
    let now = outbox.now().await?;
    let since = time("--since", since, now)?;
    let until = args.until.map(|until| time("--until", &until, now)).transpose()?;
    if args.act.dry_run {
        return nothing_changed(outbox.would_redeliver(endpoint, since, until).await?);
    }
    let begun = outbox.begin_webhook_redelivery(endpoint, since, until, &stamp).await?;
    let mut left = Some(begun.ok_or_else(|| {
        Error::not_found(format!("there is no endpoint {endpoint}"))
            .hint("capture webhook endpoint list shows every one")
    })?);
    let mut count = 0;
    while let Some(redelivery) = left {
        let (done, next) = outbox.redeliver_webhooks_step(redelivery, STEP).await?;
        count += done;
        left = next;
    }
    context.output.record(&columns, &[count.into()])?;
    Ok(Exit::Done)
}

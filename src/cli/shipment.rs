//! `shipment`: what was told of shipments, and what came of it.

use clap::Subcommand;

use crate::outbox::{Matched, ShipmentMatch};

use super::act::ActArgs;
use super::context::Context;
use super::output::{Cell, Column, Error, Exit, say};

/// What to do with shipments.
#[derive(Debug, Subcommand)]
pub enum ShipmentVerb {
    /// What was told, the newest first, and what came of it
    List(List),
    /// Say which order or payment a shipment belongs to, or that it belongs to none
    Match(Match),
}

/// Which of them.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only goods that left while no capture of theirs was held: money that nobody asks for
    #[arg(long)]
    unmatched: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
}

/// Says which order or payment a shipment belongs to. Workers then look for its held capture as if it had been told so.
///
/// It captures what the rule of the account says; with --whole what is held, whole. For another amount cancel what is held
/// and enqueue anew.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whose").required(true).args(["payment", "order", "none"]))]
pub struct Match {
    /// Its id, as shipment list shows it
    #[arg(value_name = "SHIPMENT", value_parser = shipment_id)]
    shipment: String,
    /// It is of this payment
    #[arg(long, value_name = "ID")]
    payment: Option<String>,
    /// Or of this order
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// Or of none that is captured here: nobody is told of it any more
    #[arg(long, conflicts_with_all = ["provider", "account", "whole"])]
    none: bool,
    /// Of this provider; else as it was told
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Of this merchant account; else as it was told
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Let what is held go whole, whatever the rule of the account
    #[arg(long)]
    whole: bool,
    #[command(flatten)]
    act: ActArgs,
}

fn shipment_id(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('r').unwrap_or(text);
    let is_id = !digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit());
    match is_id {
        true => Ok(text.to_owned()),
        false => Err("the id of a shipment is a number, or r and a number; capture shipment list shows it".to_owned()),
    }
}

/// Runs it.
pub async fn run(verb: ShipmentVerb, context: &Context) -> Result<Exit, Error> {
    match verb {
        ShipmentVerb::List(args) => list(&args, context).await,
        ShipmentVerb::Match(args) => match_one(args, context).await,
    }
}

async fn list(args: &List, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let mut rows = context.output.rows(&[
        Column::id("shipment"),
        Column::text("state"),
        Column::text("source").leaves(3),
        Column::text("kind").leaves(2),
        Column::text("provider").leaves(4),
        Column::text("account").leaves(4),
        Column::text("order").shortens(1, 13),
        Column::text("payment").shortens(1, 13),
        Column::text("tracking_number").shortens(2, 13),
        Column::number("amount_minor").leaves(3),
        Column::text("received_at").leaves(5),
        Column::text("intent").shortens(1, 13),
        Column::text("says").wraps(3, 20),
    ])?;
    for row in outbox.shipments(args.unmatched, args.limit).await? {
        rows.row(&[
            Cell::from(row.id),
            row.state.into(),
            row.source.into(),
            row.kind.into(),
            row.provider.into(),
            row.account.into(),
            row.order_id.into(),
            row.payment_id.into(),
            row.tracking_number.into(),
            row.amount_minor
                .and_then(|minor| minor.trim().parse::<i64>().ok())
                .into(),
            row.received_at.into(),
            row.intent.map(|intent| intent.to_string()).into(),
            row.says.into(),
        ])?;
    }
    rows.finish()?;
    Ok(Exit::Done)
}

async fn match_one(args: Match, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let outbox = context.outbox().await?;
    if args.act.dry_run {
        say(match args.none {
            true => "it would be dismissed; nothing was changed",
            false => "it would be matched; nothing was changed",
        });
        return Ok(Exit::Done);
    }
    let said = ShipmentMatch {
        shipment: args.shipment,
        provider: args.provider,
        account: args.account,
        order_id: args.order,
        payment_id: args.payment,
        whole: args.whole,
    };
    match outbox.match_shipment(&said, &stamp).await? {
        Matched::Matched => {
            say("matched: workers look for its capture now; capture shipment list shows what comes of it");
            Ok(Exit::Done)
        }
        Matched::Dismissed => {
            say("dismissed: it belongs to no payment");
            Ok(Exit::Done)
        }
        Matched::NotFound => {
            Err(Error::not_found("there is no such shipment").hint("capture shipment list shows those that there are"))
        }
        Matched::Freed => Err(Error::state_forbids("this shipment has released a capture").hint(
            "capture shipment list shows which; what was captured for the wrong order is refunded at the provider",
        )),
        Matched::ToldBefore => Err(
            Error::state_forbids("the same shipment of that payment was told before")
                .hint("dismiss this one with --none"),
        ),
    }
}

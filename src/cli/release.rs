//! `release`: lets a held capture go.

use crate::filter::{Filter, State};
use crate::outbox::HeldRelease;

use super::act::OptionalActArgs;
use super::capture_rows;
use super::context::Context;
use super::output::{Column, Error, Exit, say, warn};

/// Lets a held capture go, as fulfilment does when the goods ship.
///
/// A release is kept and matched by workers, so it may come before the capture it is for. With --capture-ref it frees just
/// that one; else the oldest held capture of the payment. The same --shipment-ref again changes nothing. Without either, a
/// second try frees the next held capture, whose goods may not have left. With --reason it leaves a line of audit under your
/// name, which takes the rights of an operator; else the login's name is kept with the release.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["payment", "order"]))]
pub struct Args {
    /// Of this provider
    #[arg(long, value_name = "NAME")]
    provider: String,
    /// Of this merchant account; else default
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Of this payment
    #[arg(long, value_name = "ID")]
    payment: Option<String>,
    /// Or of this order
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// Just this capture
    #[arg(long, value_name = "REF")]
    capture_ref: Option<String>,
    /// The shipment that is the reason
    #[arg(long, value_name = "REF")]
    shipment_ref: Option<String>,
    /// Who carries it
    #[arg(long, value_name = "NAME", requires_all = ["method", "tracking"])]
    company: Option<String>,
    /// By which service
    #[arg(long, value_name = "NAME", requires_all = ["company", "tracking"])]
    method: Option<String>,
    /// Under which number
    #[arg(long, value_name = "NUMBER", requires_all = ["company", "method"])]
    tracking: Option<String>,
    #[command(flatten)]
    act: OptionalActArgs,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.given(context)?;
    let shipment_ref = shipment(&args);
    let outbox = context.outbox().await?;
    if args.act.dry_run() {
        let filter = Filter {
            provider: Some(args.provider),
            account: Some(args.account.unwrap_or_else(|| "default".to_owned())),
            states: vec![State::Held],
            order_id: args.order,
            payment_id: args.payment,
            ..Filter::default()
        };
        let mut held = outbox.list(&filter, 1000).await?;
        held.retain(|row| {
            args.capture_ref
                .as_ref()
                .is_none_or(|wanted| *wanted == row.capture_ref)
        });
        let mut rows = context.output.rows(capture_rows::columns(&context.output))?;
        // The oldest goes first.
        for row in held.iter().rev() {
            rows.row(&capture_rows::cells(row, &context.output))?;
        }
        match rows.finish()? {
            0 => say("nothing was changed; no such capture is held now, and the release would wait for one"),
            1 => say("nothing was changed; this one would go"),
            _ => say("nothing was changed; the first of these would go"),
        }
        return Ok(Exit::Done);
    }
    let shipping = match (args.company, args.method, args.tracking) {
        (Some(company), Some(method), Some(tracking)) => Some((company, method, tracking)),
        _ => None,
    };
    let release = HeldRelease {
        provider: args.provider,
        account: args.account,
        payment_id: args.payment,
        order_id: args.order,
        capture_ref: args.capture_ref,
        shipment_ref,
        shipping,
    };
    if release.shipment_ref.is_none() {
        warn(
            "nothing tells this release from another one of the payment: the same line again would free the next held capture; give \
             --shipment-ref, the same for every try, or --capture-ref",
        );
    }
    let (number, created) = match &stamp {
        Some(stamp) => outbox.release_by(&release, stamp).await?,
        None => outbox.release(&release).await?,
    };
    context.output.record(
        &[Column::id("release"), Column::text("created")],
        &[number.into(), created.into()],
    )?;
    if !created {
        say("this shipment was told before: nothing was changed");
    }
    Ok(Exit::Done)
}

/// By what a repeat is known. A capture is released once, so its own reference will do.
fn shipment(args: &Args) -> Option<String> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    given(&args.shipment_ref).or_else(|| given(&args.capture_ref))
}

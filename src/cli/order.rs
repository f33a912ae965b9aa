//! `order`: the ledger of an order, and with `--ask` the provider's word beside ours.

use std::io::{BufWriter, Write};

use uuid::Uuid;

use crate::config::{Config, Need, Sources};
use crate::operations::{self, ProvidersByLane, Told};
use crate::outbox::{CaptureRow, Outbox, PaymentLedger, ShippingNotice};

use super::accounts;
use super::capture_rows::amount;
use super::context::Context;
use super::output::{Cell, Column, Error, Exit, Format, say};
use super::watch::WatchArgs;

/// So many captures are asked about; each is a call.
const ASKED: usize = 100;

/// What was authorised for an order, and where it is: captured, held, unknown, open, dead.
///
/// Unknown is what may have been captured: under verification, or left to a person undecided. Every capture of the order's
/// payments counts, also those of other orders. With --ask each capture is looked up at its provider, by reads only, with
/// the accounts of the settings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The order
    #[arg(value_name = "ORDER")]
    order: String,
    /// Only payments of this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only payments of this merchant account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Ask the provider what it knows of each capture; moves no money
    #[arg(long, conflicts_with = "watch")]
    ask: bool,
    // What a provider is asked is asked once: its rate is meant for captures.
    #[command(flatten)]
    watch: WatchArgs,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    args.watch.check(context)?;
    // The settings before the database: a missing secret is told at once.
    let adapters = args.ask.then(|| adapters(context)).transpose()?;
    let outbox = context.outbox().await?;
    if args.watch.is_on() {
        let draw = async |page: &mut Vec<u8>| show(&args, None, &outbox, context, page).await;
        return args.watch.run(context, draw).await;
    }
    // Straight out: a row is there as soon as its provider has answered.
    let stdout = BufWriter::new(std::io::stdout().lock());
    show(&args, adapters.as_ref(), &outbox, context, stdout).await
}

async fn show(
    args: &Args,
    adapters: Option<&ProvidersByLane>,
    outbox: &Outbox,
    context: &Context,
    mut page: impl Write,
) -> Result<Exit, Error> {
    let found = outbox
        .order(&args.order, args.provider.as_deref(), args.account.as_deref())
        .await?;
    let Some(ledger) = found else {
        return Err(Error::not_found(format!("no capture names the order '{}'", args.order))
            .hint("the order id is the one that was inserted with the capture; capture list shows some"));
    };
    if context.output.format == Format::Table {
        let mut rows = context.output.rows_to(&PAYMENTS, &mut page)?;
        for payment in &ledger.payments {
            rows.row(&payment_cells(payment))?;
        }
        rows.finish()?;
        writeln!(page)?;
    }
    let ids = ledger.payments.iter().flat_map(|payment| &payment.captures);
    let ids: Vec<Uuid> = ids.map(|capture| capture.id).collect();
    let notices = outbox.shipping_notices(&ids).await?;
    let mut asked = Asked::of(adapters);
    let mut columns = CAPTURES.to_vec();
    if !notices.is_empty() {
        columns.push(Column::text("shipping_data").leaves(0));
    }
    if args.ask {
        columns.extend([Column::text("provider_says").wraps(2, 20), Column::text("differs")]);
    }
    let mut rows = context.output.rows_to(&columns, page)?;
    let captures = ledger.payments.iter().flat_map(|payment| {
        let authorized = payment.authorized_minor;
        payment.captures.iter().map(move |capture| (authorized, capture))
    });
    for (place, (authorized, capture)) in captures.enumerate() {
        let mut cells = capture_cells(authorized, capture);
        if !notices.is_empty() {
            cells.push(notices.get(&capture.id).map(ShippingNotice::words).into());
        }
        if args.ask {
            let told = match place < ASKED {
                true => asked.about(outbox, capture).await?,
                false => Told::nothing("not asked: too many captures"),
            };
            cells.extend([
                told.says.as_str().into(),
                told.differs.map(|differs| differs.into()).unwrap_or(Cell::Nothing),
            ]);
        }
        rows.row(&cells)?;
        rows.flush()?;
    }
    rows.finish()?;
    if ledger.truncated {
        say("this order id has too many captures: only the newest 5000 are summed and shown");
    }
    match asked.differences {
        0 => Ok(Exit::Done),
        1 => {
            say("1 capture differs from what its provider says");
            Ok(Exit::CheckTripped)
        }
        several => {
            say(&format!("{several} captures differ from what their provider says"));
            Ok(Exit::CheckTripped)
        }
    }
}

const PAYMENTS: [Column; 8] = [
    Column::text("lane").leaves(1),
    Column::text("payment_id"),
    Column::money("authorized"),
    Column::money("captured"),
    Column::money("held"),
    Column::money("unknown"),
    Column::money("open"),
    Column::money("dead"),
];

fn payment_cells(payment: &PaymentLedger) -> Vec<Cell> {
    let money = |minor: i64| amount(minor, &payment.currency);
    vec![
        payment.lane.to_string().into(),
        payment.payment_id.as_str().into(),
        payment.authorized_minor.map(money).unwrap_or(Cell::Nothing),
        money(payment.captured_minor),
        money(payment.held_minor),
        money(payment.unknown_minor),
        money(payment.open_minor),
        money(payment.dead_minor),
    ]
}

const CAPTURES: [Column; 11] = [
    Column::id("id").shortens(4, 13),
    Column::text("lane").leaves(3),
    Column::text("order_id").leaves(2),
    Column::text("payment_id").leaves(4),
    Column::text("capture_ref").leaves(1),
    Column::money("amount"),
    Column::money("authorized").leaves(0),
    Column::money("captured").leaves(5),
    Column::text("state"),
    Column::text("dead_reason").leaves(6),
    Column::text("last_code").leaves(7),
];

fn capture_cells(authorized: Option<i64>, capture: &CaptureRow) -> Vec<Cell> {
    let money = |minor: i64| amount(minor, &capture.currency);
    vec![
        capture.id.to_string().into(),
        format!("{}/{}", capture.provider, capture.account).into(),
        capture.order_id.as_str().into(),
        capture.payment_id.as_str().into(),
        capture.capture_ref.as_str().into(),
        money(capture.amount_minor),
        authorized.map(money).unwrap_or(Cell::Nothing),
        capture.captured_minor.map(money).unwrap_or(Cell::Nothing),
        capture.state.as_str().into(),
        capture.dead_reason.as_deref().into(),
        capture.last_code.as_deref().into(),
    ]
}

/// The adapters of all accounts of the settings.
pub fn adapters(context: &Context) -> Result<ProvidersByLane, Error> {
    let sources = Sources {
        need: Need::Everything,
        ..context.sources.clone()
    };
    let (config, _) = Config::load(&sources)?;
    let adapters = accounts::adapters(&config)?;
    match adapters.is_empty() {
        true => Err(accounts::none_configured().into()),
        false => Ok(adapters.into_iter().collect()),
    }
}

/// What was asked so far.
pub struct Asked<'a> {
    adapters: Option<&'a ProvidersByLane>,
    differences: usize,
}

impl<'a> Asked<'a> {
    /// With these.
    pub fn of(adapters: Option<&'a ProvidersByLane>) -> Asked<'a> {
        Asked {
            adapters,
            differences: 0,
        }
    }

    /// Reads what the provider knows of a capture.
    pub async fn about(&mut self, outbox: &Outbox, capture: &CaptureRow) -> Result<Told, Error> {
        let Some(adapters) = self.adapters else {
            return Ok(Told::nothing("not asked"));
        };
        let told = operations::ask(outbox, adapters, capture).await?;
        self.differences += usize::from(told.differs == Some(true));
        Ok(told)
    }
}

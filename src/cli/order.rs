//! `order`: the ledger of an order, and with `--ask` the provider's word beside ours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Boottime, SendGuard};
use crate::config::{Config, Need, Sources};
use crate::filter::State;
use crate::intent::Lane;
use crate::outbox::{CaptureRow, Outbox, PaymentLedger, Question};
use crate::outcome::Observation;
use crate::provider::{Call, Provider};

use super::accounts;
use super::capture_rows::amount;
use super::context::Context;
use super::output::{Cell, Column, Error, Exit, Format, say};

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
    #[arg(long)]
    ask: bool,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    // The settings before the database: a missing secret is told at once.
    let adapters = args.ask.then(|| adapters(context)).transpose()?;
    let outbox = context.outbox().await?;
    let found = outbox
        .order(&args.order, args.provider.as_deref(), args.account.as_deref())
        .await?;
    let Some(ledger) = found else {
        return Err(Error::not_found(format!("no capture names the order '{}'", args.order))
            .hint("the order id is the one that was inserted with the capture; capture list shows some"));
    };
    let people = context.output.format == Format::Table;
    if people {
        let mut rows = context.output.rows(&PAYMENTS)?;
        for payment in &ledger.payments {
            rows.row(&payment_cells(payment))?;
        }
        rows.finish()?;
        println_stdout()?;
    }
    let mut asked = Asked::of(adapters.as_ref());
    let mut columns = CAPTURES.to_vec();
    if args.ask {
        columns.extend([Column::text("provider_says").wraps(2, 20), Column::text("differs")]);
    }
    let mut rows = context.output.rows(&columns)?;
    let captures = ledger.payments.iter().flat_map(|payment| {
        let authorized = payment.authorized_minor;
        payment.captures.iter().map(move |capture| (authorized, capture))
    });
    for (place, (authorized, capture)) in captures.enumerate() {
        let mut cells = capture_cells(authorized, capture);
        if args.ask {
            let told = match place < ASKED {
                true => asked.about(&outbox, capture).await?,
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

fn println_stdout() -> Result<(), Error> {
    use std::io::Write;
    writeln!(std::io::stdout().lock())?;
    Ok(())
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

type Adapters = BTreeMap<Lane, Arc<dyn Provider>>;

/// The adapters of all accounts of the settings.
pub fn adapters(context: &Context) -> Result<Adapters, Error> {
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
    adapters: Option<&'a Adapters>,
    differences: usize,
}

/// A provider's word about one capture.
pub struct Told {
    /// In words.
    pub says: String,
    /// Does it contradict our state? `None`: it says nothing about it.
    pub differs: Option<bool>,
}

impl Told {
    fn nothing(says: impl Into<String>) -> Told {
        Told {
            says: says.into(),
            differs: None,
        }
    }
}

impl<'a> Asked<'a> {
    /// With these.
    pub fn of(adapters: Option<&'a Adapters>) -> Asked<'a> {
        Asked {
            adapters,
            differences: 0,
        }
    }

    /// Reads what the provider knows of a capture. Never sends one: the guard of the call is over.
    pub async fn about(&mut self, outbox: &Outbox, capture: &CaptureRow) -> Result<Told, Error> {
        let lane = Lane {
            provider: capture.provider.clone(),
            account: capture.account.clone(),
        };
        let Some(adapter) = self.adapters.and_then(|adapters| adapters.get(&lane)) else {
            return Ok(Told::nothing(format!("not asked: no account {lane} in the settings")));
        };
        let Some(question) = outbox.question(capture.id).await? else {
            return Ok(Told::nothing("not asked: it is gone"));
        };
        let call = Call {
            intent: &question.intent,
            generation: question.generation,
            first_sent_at: question.first_sent_at,
            // A person who asks wants to hear of whatever is there.
            refused: true,
            siblings: &question.siblings,
            guard: SendGuard::new(Boottime::now(), Duration::ZERO, Duration::ZERO),
        };
        let told = told(capture, &question, &adapter.read(&call).await);
        self.differences += usize::from(told.differs == Some(true));
        Ok(told)
    }
}

/// What the provider's word means beside our state. While a capture is on its way everything is possible, so only ends
/// and captures that were never sent can differ.
fn told(capture: &CaptureRow, question: &Question, observation: &Observation) -> Told {
    let state = State::from_name(&capture.state);
    let captured = state == Some(State::Captured);
    let undecided = capture.dead_reason.as_deref() == Some("undecided");
    // Do we say that no money of ours moved?
    let unsent = match state {
        Some(State::Held | State::Cancelled) => true,
        Some(State::Dead) => !undecided,
        Some(State::Captured | State::Scheduled | State::Ready | State::Leased | State::Verifying) | None => false,
    };
    let (says, differs) = match observation {
        Observation::Captured(receipt) if question.is_a_siblings(receipt) => (
            format!(
                "captured as {} for another capture of this payment",
                receipt.provider_capture_id
            ),
            Some(captured),
        ),
        Observation::Captured(receipt) => {
            let other_amount = capture
                .captured_minor
                .is_some_and(|minor| minor != receipt.amount.minor);
            let other_id = capture
                .provider_capture_id
                .as_ref()
                .is_some_and(|id| *id != receipt.provider_capture_id);
            (
                format!(
                    "captured {} as {} ({})",
                    receipt.amount,
                    receipt.provider_capture_id,
                    receipt.proof.name()
                ),
                Some(unsent || undecided || other_amount || other_id),
            )
        }
        Observation::Pending { .. } => ("ours, and not final yet".to_owned(), Some(captured || unsent)),
        Observation::Declined { code, .. } => (format!("declined ({code})"), Some(captured)),
        Observation::NotCaptured { open_minor, .. } => {
            let open = open_minor
                .map(|minor| format!(", {minor} minor units are open"))
                .unwrap_or_default();
            (format!("nothing of ours is captured{open}"), Some(captured))
        }
        Observation::Closed { code, .. } => (format!("nothing of ours, and closed ({code})"), Some(captured)),
        // What others of ours took is no difference: their rows say so.
        Observation::Foreign { .. } if question.siblings_explain() => (
            "nothing of ours is captured: other captures of this payment left no room".to_owned(),
            Some(captured),
        ),
        Observation::Foreign { .. } => (
            "captured by somebody else".to_owned(),
            Some(captured || capture.dead_reason.as_deref() != Some("captured_elsewhere")),
        ),
        Observation::Contradicts { code, .. } => (format!("it fits no story ({code})"), Some(true)),
        Observation::Failed(failure) => (format!("the read failed: {} {}", failure.class, failure.code), None),
    };
    Told { says, differs }
}

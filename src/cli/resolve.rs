//! `resolve`: settles a dead letter by what a person has seen elsewhere.

use clap::ValueEnum;
use uuid::Uuid;

use crate::filter::State;
use crate::outbox::Resolved;

use super::act::ActArgs;
use super::capture_rows::amount;
use super::context::Context;
use super::get::existing;
use super::intent_id::intent_id;
use super::output::{Column, Error, Exit, say};

/// Settles a dead letter by evidence from outside: what the provider's dashboard or statement shows.
///
/// Nothing is sent. Evidence and reason are kept, and readers of the event feed are told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The intent
    #[arg(value_name = "ID", value_parser = intent_id)]
    id: Uuid,
    /// What is true at the provider
    #[arg(long = "as", value_enum, value_name = "WHAT")]
    truth: Truth,
    /// Where it was seen: the provider's id of the capture, a ticket, a statement
    #[arg(long, value_name = "REF")]
    evidence: String,
    #[command(flatten)]
    act: ActArgs,
}

/// What is true at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Truth {
    /// The money was captured, for this intent, in full
    Captured,
    /// It was not, and will not be
    NotCaptured,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let evidence = args.evidence.trim();
    if evidence.is_empty() {
        return Err(
            Error::usage("--evidence is empty").hint("name where you saw it, so that others can look there too")
        );
    }
    let outbox = context.outbox().await?;
    let row = existing(&outbox, args.id).await?;
    let captured = args.truth == Truth::Captured;
    let result = if args.act.dry_run {
        if row.state != State::Dead.name() {
            return Err(not_dead(args.id, &row.state));
        }
        "would_resolve"
    } else {
        match outbox.resolve(args.id, captured, evidence, &stamp).await? {
            Resolved::Resolved => "resolved",
            Resolved::NotFound => return Err(Error::not_found(format!("there is no intent {}", args.id))),
            Resolved::NotDead(state) => return Err(not_dead(args.id, &state)),
        }
    };
    context.output.record(
        &[
            Column::id("id"),
            Column::text("order_id"),
            Column::money("amount"),
            Column::text("as"),
            Column::text("result"),
        ],
        &[
            args.id.to_string().into(),
            row.order_id.as_str().into(),
            amount(row.amount_minor, &row.currency),
            if captured { "captured" } else { "not-captured" }.into(),
            result.into(),
        ],
    )?;
    if args.act.dry_run {
        say("nothing was changed");
    }
    Ok(Exit::Done)
}

fn not_dead(id: Uuid, state: &str) -> Error {
    let error = Error::state_forbids(format!("{id} is no dead letter: it is {state}"));
    match State::from_name(state) {
        Some(State::Captured | State::Cancelled) => error,
        _ => error.hint("a worker still has the say; capture cancel, or wait until it is dead"),
    }
}

//! `resolve`: settles dead letters by what a person has seen elsewhere.

use clap::ValueEnum;
use uuid::Uuid;

use crate::filter::State;
use crate::operations::{AbilitiesByLane, Act, RECEIPT_HELD};
use crate::outbox::Resolved;

use super::act::ActArgs;
use super::acting::{Acting, Carried, PaceArgs, Survey, say_groups};
use super::capture_rows::amount;
use super::context::Context;
use super::get::existing;
use super::output::{Column, Error, Exit, say};
use super::selection::SelectionArgs;

/// Settles dead letters by evidence from outside: what the provider's dashboard or statement shows.
///
/// Nothing is sent. Evidence and reason are kept, and readers of the event feed are told. One that is settled as
/// not-captured stays dead, as rejected with the code resolved_not_captured, and is closed: no filter replays it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    selection: SelectionArgs,
    /// What is true at the provider
    #[arg(long = "as", value_enum, value_name = "WHAT")]
    truth: Truth,
    /// Where it was seen: the provider's id of the capture, a ticket, a statement
    #[arg(long, value_name = "REF")]
    evidence: String,
    #[command(flatten)]
    act: ActArgs,
    #[command(flatten)]
    pace: PaceArgs,
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
    args.act.stamp(context)?;
    let evidence = args.evidence.trim();
    if evidence.is_empty() {
        return Err(
            Error::usage("--evidence is empty").hint("name where you saw it, so that others can look there too")
        );
    }
    let acting = Acting {
        act: Act::Resolve {
            captured: args.truth == Truth::Captured,
            evidence: evidence.to_owned(),
        },
        selection: &args.selection,
        who: &args.act,
        pace: &args.pace,
        abilities: AbilitiesByLane::new(),
    };
    let survey = acting.survey(context).await?;
    if let Some(id) = survey.chosen.only() {
        return one(&args, id, survey, evidence, context).await;
    }
    say_groups(&survey.preview);
    if args.act.dry_run {
        let tally = acting.say_what_would_be(&survey, context)?;
        say(&format!("nothing was changed; {} would be resolved", tally.done));
        return Ok(tally.exit());
    }
    Ok(match acting.carry_out(survey, context).await? {
        Carried::ToItsEnd(tally) => {
            say(&format!(
                "{} resolved, {} not",
                tally.done,
                tally.forbidden + tally.missing
            ));
            tally.exit()
        }
        Carried::ByOthers(exit) => exit,
    })
}

/// One that was named by its id is no operation: it is told whole, or why not.
async fn one(args: &Args, id: Uuid, survey: Survey, evidence: &str, context: &Context) -> Result<Exit, Error> {
    let row = existing(&survey.outbox, id).await?;
    let captured = args.truth == Truth::Captured;
    let result = if args.act.dry_run {
        if row.state != State::Dead.name() {
            return Err(not_dead(id, &row.state));
        }
        "would_resolve"
    } else {
        match survey.outbox.resolve(id, captured, evidence, &survey.stamp).await? {
            Resolved::Resolved => "resolved",
            Resolved::NotFound => return Err(Error::not_found(format!("there is no intent {id}"))),
            Resolved::NotDead(state) => return Err(not_dead(id, &state)),
            Resolved::ReceiptHeld => {
                return Err(Error::state_forbids(format!("intent {id}: {RECEIPT_HELD}")));
            }
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
            id.to_string().into(),
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

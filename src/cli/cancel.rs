//! `cancel`: takes back what was not sent.

use crate::filter::State;

use super::act::ActArgs;
use super::capture_rows::amount;
use super::context::Context;
use super::output::{Column, Error, Exit, say};
use super::selection::{Acting, SelectionArgs, Tally, sums};

const ACTING: Acting = Acting {
    verb: "cancel",
    states: &[
        State::Held,
        State::Scheduled,
        State::Ready,
        State::Leased,
        State::Verifying,
    ],
};

/// Takes back captures that were not sent.
///
/// Each is told as cancelled (0), as in_flight (6: a worker has it, or its outcome is unknown; the wish is kept, and
/// applied if a read shows that nothing was captured), or as ended (5: captured, dead or cancelled already).
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let (outbox, selected) = args.selection.select(&ACTING, context).await?;
    // The database knows its own role only; the person is kept in the reason.
    let reason = format!("{} (by {})", stamp.reason, stamp.actor);
    if !args.act.dry_run {
        args.selection.confirm(&ACTING, &selected, context).await?;
    }
    let mut rows = context.output.rows(&[
        Column::id("id"),
        Column::text("order_id"),
        Column::money("amount"),
        Column::text("result"),
    ])?;
    let mut tally = Tally::default();
    for row in &selected.rows {
        if context.interrupted.is_cancelled() {
            rows.finish()?;
            say(&format!("interrupted: {} were cancelled", tally.done));
            return Ok(Exit::Interrupted);
        }
        let said = match args.act.dry_run {
            true => expected(&row.state).to_owned(),
            false => outbox.cancel(row.id, &reason).await?,
        };
        match said.as_str() {
            "ended" => tally.forbidden += 1,
            "in_flight" | "may_be_in_flight" => tally.open += 1,
            _ => tally.done += 1,
        }
        rows.row(&[
            row.id.to_string().into(),
            row.order_id.as_str().into(),
            amount(row.amount_minor, &row.currency),
            said.into(),
        ])?;
    }
    for id in &selected.missing {
        tally.missing += 1;
        rows.row(&[
            id.to_string().into(),
            None::<&str>.into(),
            None::<&str>.into(),
            "not_found".into(),
        ])?;
    }
    rows.finish()?;
    if args.act.dry_run {
        say(&format!("nothing was changed; {}", sums(&selected.rows)));
        return Ok(Exit::Done);
    }
    say(&format!(
        "{} cancelled, {} in flight, {} ended before",
        tally.done, tally.open, tally.forbidden
    ));
    Ok(tally.exit())
}

/// What a cancel would say of a capture in this state, as far as one can tell without trying.
fn expected(state: &str) -> &'static str {
    match State::from_name(state) {
        Some(State::Held | State::Scheduled | State::Ready) => "would_cancel",
        Some(State::Captured | State::Dead | State::Cancelled) => "ended",
        Some(State::Leased | State::Verifying) | None => "may_be_in_flight",
    }
}

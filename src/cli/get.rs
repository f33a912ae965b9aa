//! `get`: one capture, whole.

use uuid::Uuid;

use crate::outbox::{CaptureRow, Outbox, RESOLVED_NOT_CAPTURED};

use super::capture_rows;
use super::context::Context;
use super::intent_id::intent_id;
use super::output::{Column, Error, Exit, say};

/// Shows one capture, every field.
///
/// Where its provider is told of the parcel after the capture, `shipping_data` says whether it was: told, not yet, or given up.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The intent
    #[arg(value_name = "ID", value_parser = intent_id)]
    id: Uuid,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let row = existing(&outbox, args.id).await?;
    let told = outbox.shipping_notices(&[args.id]).await?.remove(&args.id);
    let mut columns = capture_rows::whole_columns().to_vec();
    let mut cells = capture_rows::whole(&row);
    if let Some(notice) = told {
        columns.push(Column::text("shipping_data"));
        cells.push(notice.words().into());
    }
    context.output.record(&columns, &cells)?;
    if let (Some(reason), true) = (&row.dead_reason, context.output.terminal) {
        if row.last_code.as_deref() == Some(RESOLVED_NOT_CAPTURED) {
            say(&format!(
                "a person resolved it as not captured: capture timeline {} says who and why",
                row.id
            ));
            return Ok(Exit::Done);
        }
        say(&format!(
            "capture dead explain {reason} says what to do; capture timeline {} says what happened",
            row.id
        ));
    }
    Ok(Exit::Done)
}

/// The capture of that id, or exit code 3.
pub async fn existing(outbox: &Outbox, id: Uuid) -> Result<CaptureRow, Error> {
    outbox.capture(id).await?.ok_or_else(|| {
        Error::not_found(format!(
            "there is no intent {id} in schema \"{}\" at {}",
            outbox.schema(),
            outbox.address()
        ))
    })
}

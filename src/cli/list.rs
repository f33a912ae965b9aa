//! `list`: captures that match, the newest first.

use super::capture_rows;
use super::context::Context;
use super::filter::FilterArgs;
use super::output::{Error, Exit, say};
use super::watch::WatchArgs;

/// So many rows without --limit: a screenful or two, and a first look that is cheap however large the outbox is.
const USUAL: u32 = 200;

/// Shows captures, the newest first.
///
/// Without --limit at most 200, and stderr says so if there are more.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    watch: WatchArgs,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    // Read once by this machine's clock, so that a wrong filter is told without a database; then by the database's.
    args.filter.filter(chrono::Utc::now())?;
    args.watch.check(context)?;
    let outbox = context.outbox().await?;
    let draw = async |page: &mut Vec<u8>| {
        let filter = args.filter.filter(outbox.now().await?)?;
        let mut found = outbox.list(&filter, USUAL + 1).await?;
        let more = filter.limit.is_none() && found.len() > USUAL as usize;
        if more {
            found.truncate(USUAL as usize);
        }
        let mut rows = context.output.rows_to(capture_rows::columns(&context.output), page)?;
        for row in &found {
            rows.row(&capture_rows::cells(row, &context.output))?;
        }
        rows.finish()?;
        if more {
            say(&format!("only the newest {USUAL} are shown; --limit N shows more"));
        }
        Ok(Exit::Done)
    };
    args.watch.run(context, draw).await
}

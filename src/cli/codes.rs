//! `dead codes`: what providers said that is new, or that this version has no class for.

use chrono::Utc;

use crate::filter::Filter;

use super::capture_rows::time;
use super::context::Context;
use super::output::{Column, Error, Exit, Format, say};

/// Codes that were first seen within the span, and those that no class is known for.
///
/// An answer that no adapter knows is taken for a refusal and has the code `unclassified`; what the provider said is in
/// the evidence of the example: capture timeline ID --evidence.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Since this time: 24h, 7d, 2026-01-31, 2026-01-31T10:00:00Z
    #[arg(long, value_name = "TIME", default_value = "24h")]
    since: String,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let since = |now| {
        let filter = Filter::from_pairs([("since", args.since.as_str())], now);
        filter.map_err(|faults| {
            let fault = faults.into_iter().next();
            let (wrong, right) = fault.map(|fault| (fault.to_string(), fault.right)).unwrap_or_default();
            Error::usage(format!("--{wrong}")).hint(right)
        })
    };
    since(Utc::now())?;
    let outbox = context.outbox().await?;
    let since = since(outbox.now().await?)?.since.unwrap_or_default();
    let mut rows = context.output.rows(&[
        Column::text("provider"),
        Column::text("host").leaves(1),
        Column::text("code"),
        Column::text("class"),
        Column::text("new"),
        Column::text("unclassified"),
        Column::text("first_seen_at").leaves(2),
        Column::text("last_seen_at"),
        Column::number("attempts"),
        Column::id("example").shortens(3, 13),
    ])?;
    for code in outbox.new_codes(since).await? {
        rows.row(&[
            code.provider.as_str().into(),
            code.host.as_str().into(),
            code.code.as_str().into(),
            code.class.as_deref().into(),
            code.new.into(),
            code.unclassified.into(),
            time(code.first_seen_at, &context.output),
            time(code.last_seen_at, &context.output),
            code.attempts.into(),
            code.example.to_string().into(),
        ])?;
    }
    if rows.finish()? == 0 && context.output.format == Format::Table {
        say("no new codes, and none without a class");
    }
    Ok(Exit::Done)
}

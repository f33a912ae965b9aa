//! `version`: what this binary is.

use serde_json::json;

use crate::outbox::Outbox;

use super::context::Context;
use super::output::{Cell, Column, Error, Exit, Format};

/// Runs it.
pub fn run(context: &Context) -> Result<Exit, Error> {
    let migrations = Outbox::embedded_migrations();
    let newest = migrations.last().map(|(number, _)| *number);
    let shown: Cell = match context.output.format {
        Format::Table => newest.map(|number| format!("1 to {number}")).into(),
        Format::Json | Format::Ndjson | Format::Csv | Format::Id => {
            let list = migrations
                .iter()
                .map(|(number, name)| json!({ "number": number, "name": name }));
            list.collect::<serde_json::Value>().into()
        }
    };
    context.output.record(
        &[
            Column::id("version"),
            Column::text("commit"),
            Column::text("migrations"),
            Column::text("rustc"),
            Column::text("target"),
        ],
        &[
            env!("CARGO_PKG_VERSION").into(),
            // Set by whoever builds a release; a working copy is no commit.
            option_env!("CAPTURE_COMMIT").filter(|commit| !commit.is_empty()).into(),
            shown,
            env!("CAPTURE_RUSTC").into(),
            env!("CAPTURE_TARGET").into(),
        ],
    )?;
    Ok(Exit::Done)
}

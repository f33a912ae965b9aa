//! `migrate`: the schema of the outbox.

use clap::Subcommand;

use crate::outbox::{MigrationState, Outbox, OutboxError, SchemaFault, UnusableRoles};

use super::context::Context;
use super::output::{Column, Error, Exit, say, warn};

/// What to do with the schema.
#[derive(Debug, Subcommand)]
pub enum MigrateVerb {
    /// Create the schema if needed and apply what is missing; twice in a row changes nothing
    Up {
        /// Change nothing, and say what would be applied
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Which migrations this version brings, and which of them are applied
    Status,
    /// Compare what is applied with what this version brings, by checksum; exit code 7 if it differs
    Verify,
    /// Print the migrations as SQL, for who applies schemas by other means; needs no database
    Sql {
        /// Only those after this number
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: i64,
    },
}

/// Runs it.
pub async fn run(verb: MigrateVerb, context: &Context) -> Result<Exit, Error> {
    match verb {
        MigrateVerb::Up { dry_run } => up(dry_run, context).await,
        MigrateVerb::Status => status(context).await,
        MigrateVerb::Verify => verify(context).await,
        MigrateVerb::Sql { after } => sql(after, context),
    }
}

async fn up(dry_run: bool, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let before = outbox.migrations().await?;
    let applied = if dry_run { Vec::new() } else { outbox.migrate().await? };
    let done = |migration: &&MigrationState| match dry_run {
        true => !migration.applied,
        false => applied.contains(&migration.number),
    };
    let mut rows = context.output.rows(&[
        Column::id("number"),
        Column::text("name"),
        Column::text(if dry_run { "would_apply" } else { "applied" }),
    ])?;
    for migration in before.iter().filter(done) {
        rows.row(&[migration.number.into(), migration.name.as_str().into(), true.into()])?;
    }
    let count = rows.finish()?;
    let schema = outbox.schema();
    match (count, dry_run) {
        (0, _) => say(&format!("schema \"{schema}\" is up to date")),
        (count, true) => say(&format!("schema \"{schema}\": {count} to apply; nothing was changed")),
        (count, false) => say(&format!("schema \"{schema}\": {count} applied")),
    }
    if !dry_run && let Some(advice) = advice_on_roles(&outbox.unusable_roles().await?, schema) {
        warn(advice);
    }
    Ok(Exit::Done)
}

/// What to run for the roles that a login without CREATEROLE could not make.
fn advice_on_roles(unusable: &UnusableRoles, schema: &str) -> Option<String> {
    let grants = format!("select \"{schema}\".grant_roles();");
    match (unusable.absent.as_slice(), unusable.without_grants.as_slice()) {
        ([], []) => None,
        ([], without_grants) => Some(format!(
            "these roles have no rights in schema \"{schema}\" yet: {}\n\
             hint: run, as the owner of the schema,\n      {grants}",
            without_grants.join(", ")
        )),
        (absent, _) => {
            let creates: Vec<String> = absent
                .iter()
                .map(|role| format!("      create role {role} nologin;\n"))
                .collect();
            Some(format!(
                "these roles do not exist; a migration creates them only if its login may: {}\n\
                 hint: let somebody with CREATEROLE run\n{}      and then, as the owner of the schema,\n      {grants}",
                absent.join(", "),
                creates.concat()
            ))
        }
    }
}

async fn status(context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let mut rows = context
        .output
        .rows(&[Column::id("number"), Column::text("name"), Column::text("applied")])?;
    for migration in outbox.migrations().await? {
        rows.row(&[migration.number.into(), migration.name.into(), migration.applied.into()])?;
    }
    rows.finish()?;
    Ok(Exit::Done)
}

async fn verify(context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    match outbox.verify_schema().await {
        Ok(()) => {
            say(&format!("schema \"{}\" is what this version brings", outbox.schema()));
            Ok(Exit::Done)
        }
        Err(error @ OutboxError::Schema(SchemaFault::NotGranted { .. })) => Err(error.into()),
        Err(OutboxError::Schema(fault)) => Err(Error::new(Exit::CheckTripped, fault.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn sql(after: i64, context: &Context) -> Result<Exit, Error> {
    use std::io::Write;
    let script = Outbox::migration_sql(&context.settings()?.schema, after);
    std::io::stdout().lock().write_all(script.as_bytes())?;
    Ok(Exit::Done)
}

//! `audit`: what operators did, and whether that record is whole.

use clap::Subcommand;
use uuid::Uuid;

use super::context::Context;
use super::intent_id::intent_id;
use super::output::{Column, Error, Exit, Format, say};
use super::timeline::in_words;

/// What to do with the audit.
#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// What operators did, the newest first
    List(List),
    /// Reckon the chain of hashes again. Exit code 7 if a row was altered, removed or inserted
    Verify(Verify),
}

/// Which rows.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Of this capture
    #[arg(long, value_name = "ID", value_parser = intent_id)]
    intent: Option<Uuid>,
    /// Of this operation
    #[arg(long, value_name = "OPERATION")]
    operation: Option<Uuid>,
    /// Older than the row of this number
    #[arg(long, value_name = "N")]
    before: Option<i64>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
}

/// What it is compared with.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Some row must have this hash: a head that was printed before and kept outside of the database
    #[arg(long, value_name = "HASH", value_parser = hash)]
    expect: Option<String>,
}

fn hash(text: &str) -> Result<String, String> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_hex {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("a hash has 64 hexadecimal digits; capture audit verify prints the head's".to_owned()),
    }
}

/// Runs it.
pub async fn run(verb: AuditVerb, context: &Context) -> Result<Exit, Error> {
    match verb {
        AuditVerb::List(args) => list(args, context).await,
        AuditVerb::Verify(args) => verify(args, context).await,
    }
}

async fn list(args: List, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let people = context.output.format == Format::Table;
    let mut columns = vec![
        Column::id("id"),
        Column::text("at").leaves(4),
        Column::text("actor"),
        Column::text("action"),
        Column::text("reason").wraps(3, 20),
        Column::text("intent").shortens(2, 13),
        Column::text("lane").leaves(5),
        Column::text("operation").shortens(1, 13),
        Column::text("detail").leaves(0),
    ];
    if !people {
        columns.push(Column::text("hash"));
    }
    let mut rows = context.output.rows(&columns)?;
    let mut before = args.before;
    let mut left = args.limit;
    while left > 0 {
        let page = outbox
            .audit(before, left.min(1_000), args.intent, args.operation)
            .await?;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        left -= i64::try_from(page.len()).unwrap_or(left);
        for row in page {
            rows.row(&[
                row.id.into(),
                row.at.into(),
                row.actor.into(),
                row.action.into(),
                row.reason.into(),
                row.intent.map(|id| id.to_string()).into(),
                row.lane.into(),
                row.operation.map(|id| id.to_string()).into(),
                match people {
                    true => in_words(&row.detail).into(),
                    false => row.detail.into(),
                },
                row.hash.into(),
            ])?;
        }
    }
    rows.finish()?;
    Ok(Exit::Done)
}

async fn verify(args: Verify, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let verdict = outbox.verify_audit(args.expect.as_deref()).await?;
    let fault = verdict.fault.as_ref();
    context.output.record(
        &[
            Column::text("result"),
            Column::number("rows"),
            Column::text("head"),
            Column::number("fault_row"),
            Column::text("fault"),
            Column::number("expected_row"),
        ],
        &[
            if fault.is_some() { "broken" } else { "whole" }.into(),
            verdict.rows.into(),
            verdict.head.as_str().into(),
            fault.and_then(|fault| fault.row).into(),
            fault.map(|fault| fault.says.as_str()).into(),
            verdict.expected.into(),
        ],
    )?;
    match fault {
        Some(_) => {
            say("whoever may change tables of this database past its triggers did this; compare with a backup");
            Ok(Exit::CheckTripped)
        }
        None => {
            if args.expect.is_none() {
                say(
                    "keep the head outside of this database: verify --expect HEAD then proves that nothing before it was \
                     rewritten since, not even by who owns the database",
                );
            }
            Ok(Exit::Done)
        }
    }
}

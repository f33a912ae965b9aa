//! `timeline`: what happened to one capture, in order.

use std::collections::VecDeque;

use serde_json::Value;
use uuid::Uuid;

use crate::outbox::{AttemptRow, TimelineEntry};

use super::context::Context;
use super::get::existing;
use super::intent_id::intent_id;
use super::output::{Cell, Column, Error, Exit, Format};

/// Shows events, attempts and operators' acts of one capture, in order.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The intent
    #[arg(value_name = "ID", value_parser = intent_id)]
    id: Uuid,
    /// Also show what was seen of each answer, capped and redacted
    #[arg(long)]
    evidence: bool,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let story = outbox.timeline(args.id).await?;
    if story.is_empty() {
        existing(&outbox, args.id).await?;
    }
    let mut evidence = match args.evidence {
        true => outbox.attempts(args.id).await?.into(),
        false => VecDeque::new(),
    };
    let people = context.output.format == Format::Table;
    let mut columns = vec![
        Column::text("at"),
        Column::text("what"),
        Column::text("data").wraps(1, 30),
    ];
    if args.evidence && !people {
        columns.push(Column::text("evidence"));
    }
    let mut rows = context.output.rows(&columns)?;
    let story = match people {
        true => told_once(story),
        false => story,
    };
    for entry in story {
        let seen = (entry.what == "attempt")
            .then(|| of_fence(&mut evidence, &entry.data))
            .flatten();
        let data: Cell = match people {
            true => in_words(&entry.data).into(),
            false => entry.data.into(),
        };
        rows.row(&[entry.at.into(), entry.what.into(), data, seen.as_deref().into()])?;
        // Beside the data neither could be read on a terminal; so people find it below.
        if let (Some(seen), true) = (seen, people) {
            rows.row(&[Cell::Nothing, "evidence".into(), seen.into()])?;
        }
    }
    rows.finish()?;
    Ok(Exit::Done)
}

/// An operator's act leaves an event, for others, and a line of the audit trail. The event says all that the line says, so
/// people read the act once; programs get both, as they are kept.
fn told_once(story: Vec<TimelineEntry>) -> Vec<TimelineEntry> {
    let acts: Vec<_> = story
        .iter()
        .filter_map(|entry| match entry.what.as_str() {
            "replayed" => Some(("replay", entry.at)),
            "resolved" => Some(("resolve", entry.at)),
            "cancelled" => Some(("cancel", entry.at)),
            _ => None,
        })
        .collect();
    let is_told = |entry: &TimelineEntry| {
        let action = entry.data.get("action").and_then(Value::as_str);
        entry.what == "audit" && action.is_some_and(|action| acts.contains(&(action, entry.at)))
    };
    story.into_iter().filter(|entry| !is_told(entry)).collect()
}

/// The evidence of the attempt of that fence; both lists are in the order of fences.
fn of_fence(attempts: &mut VecDeque<AttemptRow>, data: &Value) -> Option<String> {
    let fence = data.get("fence").and_then(Value::as_i64)?;
    let at = attempts.iter().position(|attempt| i64::from(attempt.fence) == fence)?;
    attempts.remove(at).and_then(|attempt| attempt.evidence)
}

/// `class=ambiguous code=timeout`: fields of an object, as a person reads them.
pub fn in_words(data: &Value) -> String {
    let Some(fields) = data.as_object() else {
        return data.to_string();
    };
    let word = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    };
    fields.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_reads_as_fields() {
        let data = serde_json::json!({"class": "ambiguous", "fence": 3, "sent": true});
        assert_eq!(in_words(&data), "class=ambiguous fence=3 sent=true");
        assert_eq!(in_words(&Value::from("x")), "\"x\"");
    }
}

//! What a replay would do, in words, before it does it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::cli::output::{Error, say};
use crate::cli::selection::sums;
use crate::filter::State;
use crate::intent::{IntentId, Lane};
use crate::outbox::{CaptureRow, DeadLetter, Outbox, RESOLVED_NOT_CAPTURED, TimelineEntry};
use crate::provider::{Abilities, Repeat};
use crate::retry::DeadReason;
use crate::verify::{ReplayPlan, plan_replay};

/// A dead letter that may be replayed, and how.
pub struct Planned {
    /// The capture.
    pub row: CaptureRow,
    /// With what is behind it.
    pub letter: DeadLetter,
    /// How.
    pub plan: ReplayPlan,
    /// Under which key or reference it would be sent.
    pub key: Option<String>,
}

/// What one capture comes to before anything is done.
pub enum Prospect {
    /// It would go.
    Planned(Box<Planned>),
    /// Not this one, and why.
    Not(Box<CaptureRow>, String),
}

/// Judges one dead letter by what is behind it and by what its provider can do.
pub async fn prospect(
    outbox: &Outbox,
    row: CaptureRow,
    abilities: &BTreeMap<Lane, Abilities>,
    also_resolved: bool,
) -> Result<Prospect, Error> {
    let Some(letter) = outbox.dead_letter(row.id).await? else {
        let mut why = format!("it is {}, not dead", row.state);
        // If a person said so, their word can be asked after; it is not undone here: the money may have moved.
        if row.state == State::Captured.name()
            && let Some(person) = resolution(outbox, row.id).await?
        {
            why = format!(
                "{why}: {person}; capture refunds nothing and sends nothing again, settle it with the provider"
            );
        }
        return Ok(Prospect::Not(Box::new(row), why));
    };
    let resolution = match row.last_code.as_deref() {
        Some(RESOLVED_NOT_CAPTURED) => Some(
            resolution(outbox, row.id)
                .await?
                .unwrap_or_else(|| "a person resolved it as not-captured".to_owned()),
        ),
        _ => None,
    };
    if let (Some(person), false) = (&resolution, also_resolved) {
        // They may have taken the money in another way since, on the strength of this.
        let why = format!(
            "{person}; if it is to be sent all the same, ask them whether the money was taken in another way, look at the \
             provider once more, then replay it by its id with --resolved"
        );
        return Ok(Prospect::Not(Box::new(row), why));
    }
    let Some(abilities) = abilities.get(&letter.lane) else {
        // Without its account nobody knows whether a key protects it.
        let why = format!(
            "{} is not among the accounts of these settings; use the workers' capture.toml",
            letter.lane
        );
        return Ok(Prospect::Not(Box::new(row), why));
    };
    let mut plan = plan_replay(letter.reason, &letter.progress, *abilities, letter.now);
    if let Some(caution) = caution(&letter) {
        plan.says = format!("{}; {caution}", plan.says);
    }
    if let Some(person) = resolution {
        plan.says = format!("{}; but {person}", plan.says);
    }
    let id = IntentId(row.id);
    let key = match abilities.repeat {
        Repeat::Key { .. } => Some(id.key(plan.next_generation).to_string()),
        Repeat::UniqueReference => Some(id.reference()),
        Repeat::Nothing => None,
    };
    Ok(Prospect::Planned(Box::new(Planned { row, letter, plan, key })))
}

/// `tess resolved it as not-captured at 2026-03-10T12:00:00Z (evidence: dashboard 7; reason: customer left)`; `None` if
/// nobody did. The last word counts.
async fn resolution(outbox: &Outbox, id: Uuid) -> Result<Option<String>, Error> {
    let story = outbox.timeline(id).await?;
    Ok(story
        .iter()
        .rfind(|entry| entry.what == "resolved")
        .map(resolution_in_words))
}

fn resolution_in_words(entry: &TimelineEntry) -> String {
    let text = |name: &str| entry.data.get(name).and_then(Value::as_str).unwrap_or("?");
    format!(
        "{} resolved it as {} at {} (evidence: {}; reason: {})",
        text("by"),
        text("as"),
        entry.at.format("%Y-%m-%dT%H:%M:%SZ"),
        text("evidence"),
        text("reason")
    )
}

/// What a person should know although it is safe.
fn caution(letter: &DeadLetter) -> Option<String> {
    if let Some(over) = letter.authorization_expires_at.filter(|over| *over <= letter.now) {
        return Some(format!(
            "but in vain: the authorisation ended at {}",
            over.format("%Y-%m-%dT%H:%M:%SZ")
        ));
    }
    match letter.reason {
        DeadReason::CapturedElsewhere => Some("but in vain, unless somebody else's capture was undone".to_owned()),
        DeadReason::Poison => Some("but it killed workers before: it is claimed alone".to_owned()),
        DeadReason::Rejected | DeadReason::Exhausted | DeadReason::Expired | DeadReason::Undecided => None,
    }
}

/// How many and how much by what is said of them, on stderr: what somebody reads before saying yes.
pub fn say_what_is_planned(prospects: &[Prospect]) {
    let mut by_words: BTreeMap<String, Vec<&CaptureRow>> = BTreeMap::new();
    for prospect in prospects {
        let (row, words) = match prospect {
            Prospect::Planned(planned) => (&planned.row, words_without_times(&planned.plan.says)),
            Prospect::Not(row, why) => (row.as_ref(), format!("not: {why}")),
        };
        by_words.entry(words).or_default().push(row);
    }
    for (words, rows) in by_words {
        say(&format!("{}\n  {words}", sums(rows)));
    }
}

/// A time makes every letter its own group, so it is left out where letters are counted.
fn words_without_times(says: &str) -> String {
    let is_time = |word: &str| word.trim_end_matches([';', ',']).parse::<DateTime<Utc>>().is_ok();
    let words = says
        .split(' ')
        .map(|word| if is_time(word) { "its time" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_do_not_split_the_counts() {
        let says = "safe: the same key, which the provider knows until 2026-03-10T12:00:00Z";
        assert_eq!(
            words_without_times(says),
            "safe: the same key, which the provider knows until its time"
        );
    }
}

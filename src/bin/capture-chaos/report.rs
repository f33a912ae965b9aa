//! What a run tells: for people, one line of verdict and what led to it; for programs, a document.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::compare::{Breach, Judgement, Sin};
use super::counters::Counted;
use super::kind::Kind;

#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub version: &'static str,
    pub seconds: u64,
    pub took_seconds: u64,
    pub workers: usize,
    /// How often each kind really happened.
    pub kinds: BTreeMap<&'static str, u64>,
    pub faults: u64,
    /// Played by the simulator itself, by its names.
    pub provider_faults: Value,
    pub intents: u64,
    pub captured: u64,
    pub ends: BTreeMap<String, u64>,
    pub attempts: i64,
    /// Capture POSTs on the wire, and how many of them are told of by no attempt because their history was lost.
    pub posts: u64,
    pub posts_of_lost_histories: u64,
    /// By the workers' own counters, as far as they were heard before a worker was killed.
    pub counted: Counted,
    pub captured_minor: i64,
    pub events: i64,
    /// Inserted again after a fail-over that lost them.
    pub lost_with_history: u64,
    pub fail_overs: u64,
    /// Dead letters that an operator sent back to work.
    pub replayed: u64,
    pub sqlstates: BTreeMap<String, u64>,
    pub doubled: usize,
    pub lost: usize,
    pub invented: usize,
    pub over_authorized: usize,
    pub undecided: usize,
    pub stuck: usize,
    pub other: usize,
    pub breaches: Vec<Breach>,
    pub skipped: Vec<String>,
    pub notes: Vec<String>,
}

impl Report {
    /// Takes over what was judged.
    pub fn judged(&mut self, judgement: Judgement) {
        self.doubled = judgement.count(Sin::Doubled);
        self.lost = judgement.count(Sin::Lost);
        self.invented = judgement.count(Sin::Invented);
        self.over_authorized = judgement.count(Sin::OverAuthorized);
        self.undecided = judgement.count(Sin::Undecided);
        self.stuck = judgement.count(Sin::Stuck);
        let other = [Sin::Feed, Sin::Unrecorded, Sin::Secret, Sin::Miscounted, Sin::Panicked];
        self.other = other.into_iter().map(|sin| judgement.count(sin)).sum();
        self.intents = judgement.intents;
        self.captured = judgement.captured;
        self.ends = judgement.ends;
        self.attempts = judgement.attempts;
        self.posts = judgement.posts;
        self.posts_of_lost_histories = judgement.posts_of_lost_histories;
        self.counted = judgement.counted;
        self.captured_minor = judgement.captured_minor;
        self.events = judgement.events;
        self.breaches = judgement.breaches;
        self.breaches.sort_by_key(|breach| breach.sin);
        self.notes.extend(judgement.notes);
    }

    pub fn is_clean(&self) -> bool {
        self.breaches.is_empty()
    }

    /// The line that says it all.
    pub fn verdict(&self) -> String {
        let kinds = self.kinds.values().filter(|times| **times > 0).count();
        format!(
            "{}: {} intents, {} faults of {kinds} kinds (seed {}): {} doubled, {} lost, {} invented, {} over-authorised, \
             {} undecided, {} stuck, {} other",
            if self.is_clean() { "held" } else { "BROKEN" },
            self.intents,
            self.faults,
            self.seed,
            self.doubled,
            self.lost,
            self.invented,
            self.over_authorized,
            self.undecided,
            self.stuck,
            self.other
        )
    }

    pub fn for_people(&self) -> String {
        let mut lines = vec![String::new()];
        for kind in Kind::all() {
            let times = self.kinds.get(kind.name()).copied().unwrap_or(0);
            lines.push(format!("{times:>6}  {:<22} {}", kind.name(), kind.what()));
        }
        lines.push(String::new());
        for (end, count) in &self.ends {
            lines.push(format!("{count:>6}  {end}"));
        }
        lines.push(format!(
            "{} attempts, {} events, {} fail-overs, {} intents lost with a history and inserted again, {} replays",
            self.attempts, self.events, self.fail_overs, self.lost_with_history, self.replayed
        ));
        lines.push(format!(
            "{} capture POSTs on the wire, {} of them of a lost history and told of by no attempt",
            self.posts, self.posts_of_lost_histories
        ));
        let counted = self.counted;
        lines.push(format!(
            "{} worker processes were heard to count {} POSTs, {} answered as captured, and {} captured and recorded; the tables \
             hold {} attempts and {}",
            counted.processes,
            counted.attempts,
            counted.captured,
            counted.captured_minor,
            self.attempts,
            self.captured_minor
        ));
        lines.extend(self.skipped.iter().map(|skipped| format!("skipped: {skipped}")));
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        for breach in &self.breaches {
            lines.push(format!("{:?}: {}", breach.sin, breach.evidence));
        }
        lines.push(self.verdict());
        lines.join("\n")
    }
}

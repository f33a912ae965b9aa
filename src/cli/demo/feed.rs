//! Somebody who follows the event feed by its cursor, through every trouble, and keeps count. What it saw is compared
//! with the books in the end: a feed that misses or repeats an event is found out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::outbox::{Event, Outbox};

use super::event_lines::EventLines;
use super::story::{Story, Tone, amount, counted};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the last events may take to appear: a transaction that is still open hides them.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// An event that ends an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Captured { minor: i64 },
    Dead { reason: String },
    Cancelled,
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Intents that were asked for.
    pub(super) asked: usize,
    /// The ends of each; one each, if all is well.
    pub(super) ends: HashMap<Uuid, Vec<End>>,
    /// Outcomes that were unknown for a while.
    pub(super) unknown: usize,
    /// Of these, those of leases that lapsed.
    pub(super) leases_lost: usize,
    /// Results that came from workers whose lease was over.
    pub(super) late_results: usize,
    /// All events.
    pub(super) events: usize,
    /// Event ids that came twice.
    pub(super) repeated: usize,
    captured: BTreeMap<String, i64>,
}

/// The reader.
pub(super) struct Feed {
    pub(super) outbox: Outbox,
    pub(super) story: Story,
    /// How often the counts are told.
    pub(super) every: Duration,
    /// The expected length of the run, for the progress line.
    pub(super) length: Duration,
    /// No more counts are told from then on.
    pub(super) resting: CancellationToken,
}

impl Feed {
    /// Reads until `closing`, then until every one of `asked` intents has an end, or a few seconds more.
    pub(super) async fn follow(self, closing: CancellationToken) -> Seen {
        let mut seen = Seen::default();
        let mut ids = HashSet::new();
        let mut lines = EventLines::new(self.story.clone());
        let mut cursor: Option<String> = None;
        let mut next_count = self.story.elapsed() + self.every;
        let mut closing_since = None;
        loop {
            // While the database is away there is nothing to read; the cursor stays.
            let page = self.outbox.events_after(cursor.as_deref(), 1000).await.ok();
            let read = page.as_ref().map_or(0, |page| page.events.len());
            if let Some(page) = page {
                cursor = page.cursor;
                for event in &page.events {
                    seen.repeated += usize::from(!ids.insert(event.id));
                    seen.note(event);
                    lines.tell(event);
                }
            }
            self.show(&seen);
            if self.story.elapsed() >= next_count && seen.asked > 0 && !self.resting.is_cancelled() {
                next_count = self.story.elapsed() + self.every;
                self.story.tell(Tone::Quiet, seen.in_words());
            }
            if closing.is_cancelled() {
                let since = *closing_since.get_or_insert_with(|| self.story.elapsed());
                let late = self.story.elapsed().saturating_sub(since) > LAST_EVENTS;
                if read == 0 && (late || seen.ends.len() >= seen.asked) {
                    return seen;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = closing.cancelled(), if closing_since.is_none() => {}
            }
        }
    }

    fn show(&self, seen: &Seen) {
        let (done, of) = (self.story.elapsed(), self.length);
        self.story.progress(millis(done), millis(of), seen.in_words());
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Seen {
    fn note(&mut self, event: &Event) {
        self.events += 1;
        let text = |name: &str| event.data[name].as_str().unwrap_or_default();
        let end = match event.kind.strip_prefix("capture.").unwrap_or_default() {
            "enqueued" | "held" => {
                self.asked += 1;
                return;
            }
            "outcome_unknown" => {
                self.unknown += 1;
                self.leases_lost += usize::from(text("code") == "lease_lost");
                return;
            }
            "late_result" => {
                self.late_results += 1;
                return;
            }
            "captured" => {
                let minor = event.data["captured_minor"].as_i64().unwrap_or_default();
                *self.captured.entry(event.currency.clone()).or_default() += minor;
                End::Captured { minor }
            }
            "dead_lettered" => End::Dead {
                reason: text("reason").to_owned(),
            },
            "cancelled" => End::Cancelled,
            _ => return,
        };
        self.ends.entry(event.intent_id).or_default().push(end);
    }

    fn in_words(&self) -> String {
        let captured = self
            .ends
            .values()
            .flatten()
            .filter(|end| matches!(end, End::Captured { .. }))
            .count();
        let dead = self
            .ends
            .values()
            .flatten()
            .filter(|end| matches!(end, End::Dead { .. }))
            .count();
        let money: Vec<String> = self
            .captured
            .iter()
            .map(|(currency, minor)| amount(*minor, currency))
            .collect();
        format!(
            "{captured} captured ({}), {} under way, {}",
            if money.is_empty() {
                "no money yet".to_owned()
            } else {
                money.join(", ")
            },
            self.asked.saturating_sub(self.ends.len()),
            counted(dead, "dead letter"),
        )
    }
}

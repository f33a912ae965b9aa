//! Somebody who follows the event feed by its cursor, through every trouble, and keeps count. What it saw is compared
//! with the books in the end: a feed that misses or repeats an event is found out.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::outbox::{Event, Outbox};

use super::story::{Story, Tone, amount, counted};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// How many events of a kind are told one by one.
const TOLD_EACH: usize = 3;

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
        let mut ids = std::collections::HashSet::new();
        let mut unknown: HashMap<Uuid, String> = HashMap::new();
        let mut told: HashMap<&'static str, usize> = HashMap::new();
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
                    self.note(event, &mut seen, &mut unknown, &mut told);
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

    fn note(
        &self,
        event: &Event,
        seen: &mut Seen,
        unknown: &mut HashMap<Uuid, String>,
        told: &mut HashMap<&'static str, usize>,
    ) {
        seen.events += 1;
        let text = |name: &str| event.data[name].as_str().unwrap_or_default().to_owned();
        let order = || {
            format!(
                "order {} ({}, {})",
                event.order_id,
                event.provider,
                amount(event.amount_minor, &event.currency)
            )
        };
        let mut tell = |kind, tone, line: String| {
            let times = told.entry(kind).or_insert(0);
            *times += 1;
            if *times <= TOLD_EACH {
                self.story.tell(tone, line);
            }
        };
        match event.kind.strip_prefix("capture.").unwrap_or_default() {
            "enqueued" | "held" => seen.asked += 1,
            "outcome_unknown" => {
                seen.unknown += 1;
                let code = text("code");
                seen.leases_lost += usize::from(code == "lease_lost");
                let (kind, why) = match (code.as_str(), text("class").as_str()) {
                    ("lease_lost", _) => (
                        "lost",
                        "its worker's lease is over; did the money move? It is verified, not sent again".to_owned(),
                    ),
                    (code, "maybe_done") => (
                        "maybe",
                        format!("refused (`{code}`), as it would be if it had been captured before: it is looked up"),
                    ),
                    (code, _) => (
                        "unknown",
                        format!(
                            "no good answer (`{code}`); did the money move? It is verified, not sent again blindly"
                        ),
                    ),
                };
                tell(kind, Tone::Plain, format!("{}: {why}", order()));
                unknown.insert(event.intent_id, code);
            }
            "captured" => {
                let minor = event.data["captured_minor"].as_i64().unwrap_or_default();
                *seen.captured.entry(event.currency.clone()).or_default() += minor;
                seen.ends
                    .entry(event.intent_id)
                    .or_default()
                    .push(End::Captured { minor });
                if let Some(code) = unknown.remove(&event.intent_id) {
                    let kind = if code == "lease_lost" { "rescued" } else { "verified" };
                    tell(
                        kind,
                        Tone::Good,
                        format!("{}: verified ({}): captured, once", order(), text("proof")),
                    );
                }
            }
            "dead_lettered" => {
                let (reason, code) = (text("reason"), text("code"));
                let kind = match reason.as_str() {
                    "rejected" => "rejected",
                    "captured_elsewhere" => "captured_elsewhere",
                    "undecided" => "undecided",
                    _ => "dead",
                };
                tell(
                    kind,
                    Tone::Plain,
                    format!("{}: dead letter, {reason} (`{code}`)", order()),
                );
                seen.ends.entry(event.intent_id).or_default().push(End::Dead { reason });
            }
            "cancelled" => seen.ends.entry(event.intent_id).or_default().push(End::Cancelled),
            "late_result" => {
                seen.late_results += 1;
                tell(
                    "late",
                    Tone::Plain,
                    format!(
                        "{}: a worker whose lease was over brings a late result ({}); it is kept as evidence and changes nothing",
                        order(),
                        text("outcome")
                    ),
                );
            }
            _ => {}
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

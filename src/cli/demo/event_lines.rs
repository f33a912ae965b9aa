//! What an event says to somebody who reads along. The first few of a kind; the rest is in the numbers.

use std::collections::HashMap;

use uuid::Uuid;

use crate::intent::Lane;
use crate::outbox::Event;

use super::orders::Way;
use super::story::{Story, Tone, amount};

/// How many events of a kind are told one by one.
const TOLD_EACH: usize = 3;

/// Tells events.
pub(super) struct EventLines {
    story: Story,
    told: HashMap<&'static str, usize>,
    /// Intents whose outcome is unknown, and the code of why.
    unknown: HashMap<Uuid, String>,
}

impl EventLines {
    pub(super) fn new(story: Story) -> EventLines {
        EventLines {
            story,
            told: HashMap::new(),
            unknown: HashMap::new(),
        }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        let Some((kind, tone, says)) = self.line(event) else {
            return;
        };
        let times = self.told.entry(kind).or_insert(0);
        *times += 1;
        if *times <= TOLD_EACH {
            let way = Way::ALL.into_iter().find(|way| {
                way.lane()
                    == Lane {
                        provider: event.provider.clone(),
                        account: event.account.clone(),
                    }
            });
            let title = way.map_or(event.provider.as_str(), |way| way.title());
            let asked = amount(event.amount_minor, &event.currency);
            self.story
                .tell(tone, format!("order {} ({title}, {asked}): {says}", event.order_id));
        }
    }

    /// Its kind, and what is said.
    fn line(&mut self, event: &Event) -> Option<(&'static str, Tone, String)> {
        let text = |name: &str| event.data[name].as_str().unwrap_or_default();
        match event.kind.strip_prefix("capture.")? {
            "outcome_unknown" => {
                let (code, class) = (text("code"), text("class"));
                self.unknown.insert(event.intent_id, code.to_owned());
                Some(match (code, class) {
                    ("lease_lost", _) => (
                        "lease lost",
                        Tone::Plain,
                        "its worker's lease is over; did the money move? It is verified, not sent again blindly"
                            .to_owned(),
                    ),
                    (_, "maybe_done") => (
                        "refused",
                        Tone::Plain,
                        format!("refused (`{code}`), which an earlier capture would explain: it is looked up"),
                    ),
                    _ => (
                        "unknown",
                        Tone::Plain,
                        format!(
                            "no good answer (`{code}`); did the money move? It is verified, not sent again blindly"
                        ),
                    ),
                })
            }
            "captured" => {
                let code = self.unknown.remove(&event.intent_id)?;
                let kind = if code == "lease_lost" { "rescued" } else { "verified" };
                let how = match text("proof") {
                    "answer" => "the provider says so to a repeat of the same key",
                    "reference" => "our reference is in the provider's record",
                    "marker" => "our marker is on the captured charge",
                    "sole_writer" => "amount and time fit, and nobody else captures there",
                    other => other,
                };
                Some((kind, Tone::Good, format!("verified: captured, and once ({how})")))
            }
            "dead_lettered" => {
                let reason = text("reason");
                let (kind, says) = match reason {
                    "rejected" => ("rejected", "refused for good"),
                    "captured_elsewhere" => ("captured elsewhere", "somebody else captured it"),
                    "undecided" => ("undecided", "no proof either way, a person decides"),
                    "exhausted" => ("exhausted", "all attempts are spent, nothing was captured"),
                    _ => ("dead", "nothing more can be done"),
                };
                let code = text("code");
                let code = if code.is_empty() {
                    String::new()
                } else {
                    format!(", `{code}`")
                };
                Some((kind, Tone::Plain, format!("dead letter, {reason}: {says}{code}")))
            }
            "late_result" => {
                let alarm = text("alarm");
                if !alarm.is_empty() {
                    return Some(("alarm", Tone::Trouble, format!("ALARM of a late result: {alarm}")));
                }
                let outcome = text("outcome");
                let says =
                    format!("a worker whose lease is over brings a late result ({outcome}); it is kept as evidence");
                Some(("late", Tone::Plain, says))
            }
            _ => None,
        }
    }
}

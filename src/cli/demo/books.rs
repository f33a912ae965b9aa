//! The comparison: what the shop asked for, what the outbox and its events say, and what the providers' ledger says.
//!
//! Pure. Each intent is looked at from all sides; whatever does not fit is a [`Difference`] that names it.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use crate::filter::State;
use crate::intent::{IntentId, KeyGeneration};
use crate::outbox::CaptureRow;
use crate::simulator::{LedgerEntry, Writer};

use super::difference::{Difference, Sum};
use super::feed::{End, Seen};
use super::orders::{Order, Way};
use super::plan::Plan;
use super::shop::{Asked, Sales};

/// More key generations than any intent of a short run has.
const GENERATIONS: i16 = 16;

/// The result.
#[derive(Debug, Clone, Default)]
pub(super) struct Books {
    pub(super) asked: Sum,
    /// As the events say.
    pub(super) captured: Sum,
    /// Captures of ours, as the ledger says.
    pub(super) ledger: Sum,
    /// Captures by others, as the ledger says.
    pub(super) elsewhere: Sum,
    pub(super) cancelled: Sum,
    /// Dead letters by reason; each was looked up in the ledger, which has no capture of it.
    pub(super) dead: BTreeMap<String, Sum>,
    /// Dead letters `undecided`, and whether the ledger has a capture: for a person to settle.
    pub(super) left_to_a_person: Vec<(String, bool)>,
    pub(super) rolled_back: usize,
    /// What does not fit, and where.
    pub(super) differences: Vec<(Difference, String)>,
}

/// The sides.
pub(super) struct Sides<'a> {
    pub(super) plan: &'a Plan,
    pub(super) sales: &'a Sales,
    /// The shop's own orders.
    pub(super) orders: &'a [String],
    pub(super) rows: &'a [CaptureRow],
    pub(super) seen: &'a Seen,
    pub(super) ledger: &'a [LedgerEntry],
}

impl Books {
    /// Do all sides say the same?
    pub(super) fn agree(&self) -> bool {
        self.differences.is_empty()
    }

    pub(super) fn count(&self, what: Difference) -> usize {
        self.differences
            .iter()
            .filter(|(difference, _)| *difference == what)
            .count()
    }

    fn differ(&mut self, what: Difference, says: impl Into<String>) {
        self.differences.push((what, says.into()));
    }

    pub(super) fn compare(sides: &Sides<'_>) -> Books {
        let mut books = Books::default();
        let rows: HashMap<Uuid, &CaptureRow> = sides.rows.iter().map(|row| (row.id, row)).collect();
        let mut explained = HashSet::new();
        for asked in &sides.sales.asked {
            if let Some(order) = sides.plan.orders.get(asked.order) {
                let moved = of_intent(sides.ledger, order, asked);
                explained.extend(moved.iter().map(|entry| entry.capture_id.clone()));
                let ends = sides
                    .seen
                    .ends
                    .get(&asked.intent)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                books.intent(asked, order, rows.get(&asked.intent).copied(), ends, &moved);
            }
        }
        books.strangers(sides, &explained);
        books.rollbacks(sides);
        for broken in &sides.sales.broken {
            books.differ(Difference::Contract, broken);
        }
        if sides.seen.repeated > 0 {
            books.differ(Difference::Feed, format!("{} events came twice", sides.seen.repeated));
        }
        books.differences.sort();
        books
    }

    fn intent(&mut self, asked: &Asked, order: &Order, row: Option<&CaptureRow>, ends: &[End], moved: &[&LedgerEntry]) {
        let Some(amount) = order.captures.get(asked.capture) else {
            return;
        };
        let currency = amount.currency.code();
        let name = format!(
            "{} ({}, {amount}), intent {}",
            order.capture_ref(asked.capture),
            order.way.title(),
            asked.intent
        );
        self.asked.add(amount.minor, currency);
        if moved.len() > 1 {
            self.differ(
                Difference::Doubled,
                format!("{name}: the ledger has {} captures", moved.len()),
            );
        }
        let Some(row) = row else {
            return self.differ(
                Difference::Lost,
                format!("{name}: its transaction was committed, the outbox does not have it"),
            );
        };
        let expected = match State::from_name(&row.state) {
            Some(State::Captured) => {
                let minor = row.captured_minor.unwrap_or_default();
                self.captured.add(minor, &row.currency);
                if moved.is_empty() {
                    self.differ(
                        Difference::Invented,
                        format!("{name}: captured, and the ledger has nothing"),
                    );
                }
                for entry in moved
                    .iter()
                    .filter(|entry| entry.amount_minor != amount.minor || entry.currency != currency)
                {
                    let says = format!("{name}: the ledger has {} minor {}", entry.amount_minor, entry.currency);
                    self.differ(Difference::Amount, says);
                }
                if minor != amount.minor || row.currency != currency {
                    self.differ(
                        Difference::Amount,
                        format!("{name}: recorded as {minor} minor {}", row.currency),
                    );
                }
                Some(End::Captured { minor: amount.minor })
            }
            Some(State::Dead) => {
                let reason = row.dead_reason.clone().unwrap_or_default();
                if reason == "undecided" {
                    self.left_to_a_person.push((name.clone(), !moved.is_empty()));
                } else if !moved.is_empty() {
                    self.differ(
                        Difference::Lost,
                        format!("{name}: dead ({reason}), and the ledger has its capture"),
                    );
                }
                self.dead.entry(reason.clone()).or_default().add(amount.minor, currency);
                Some(End::Dead { reason })
            }
            Some(State::Cancelled) => {
                if !moved.is_empty() {
                    self.differ(
                        Difference::Lost,
                        format!("{name}: cancelled, and the ledger has its capture"),
                    );
                }
                self.cancelled.add(amount.minor, currency);
                Some(End::Cancelled)
            }
            _ => {
                let (class, code) = (
                    row.last_class.as_deref().unwrap_or("-"),
                    row.last_code.as_deref().unwrap_or("-"),
                );
                let says = format!(
                    "{name}: still {}, {} attempts, last {class} `{code}`",
                    row.state, row.attempts
                );
                self.differ(Difference::Open, says);
                None
            }
        };
        let same = match (&expected, ends) {
            (None, []) => true,
            (Some(expected), [told]) => expected == told,
            _ => false,
        };
        if !same {
            self.differ(
                Difference::Feed,
                format!("{name}: {}, and the feed told {ends:?}", row.state),
            );
        }
    }

    /// What nobody asked for: captures of ours without an intent, intents without an order.
    fn strangers(&mut self, sides: &Sides<'_>, explained: &HashSet<String>) {
        for entry in sides.ledger {
            match entry.writer {
                Writer::Foreign => self.elsewhere.add(entry.amount_minor, &entry.currency),
                Writer::Ours => {
                    self.ledger.add(entry.amount_minor, &entry.currency);
                    if !explained.contains(&entry.capture_id) {
                        let says = format!(
                            "the ledger has a capture on {} that no intent asked for",
                            entry.payment_id
                        );
                        self.differ(Difference::LeftBehind, says);
                    }
                }
            }
        }
        let known: HashSet<Uuid> = sides.sales.asked.iter().map(|asked| asked.intent).collect();
        for row in sides.rows.iter().filter(|row| !known.contains(&row.id)) {
            self.differ(
                Difference::LeftBehind,
                format!("intent {} of order {} was never committed", row.id, row.order_id),
            );
        }
    }

    fn rollbacks(&mut self, sides: &Sides<'_>) {
        self.rolled_back = sides.sales.rolled_back.len();
        let kept: HashSet<&str> = sides.orders.iter().map(String::as_str).collect();
        let rolled_back: HashSet<usize> = sides.sales.rolled_back.iter().copied().collect();
        let committed: HashSet<usize> = sides.sales.asked.iter().map(|asked| asked.order).collect();
        for (place, order) in sides.plan.orders.iter().enumerate() {
            let there = kept.contains(order.order_id.as_str());
            if rolled_back.contains(&place) && there {
                self.differ(
                    Difference::LeftBehind,
                    format!("order {} was rolled back, and is there", order.order_id),
                );
            }
            if committed.contains(&place) && !there {
                self.differ(
                    Difference::Lost,
                    format!("order {} was committed, and is not there", order.order_id),
                );
            }
        }
    }
}

/// The captures of an intent: by our reference or key; a charge of Resolve, which has neither, by the payment.
fn of_intent<'a>(ledger: &'a [LedgerEntry], order: &Order, asked: &Asked) -> Vec<&'a LedgerEntry> {
    let intent = IntentId(asked.intent);
    let reference = intent.reference();
    let keys: Vec<String> = (0..GENERATIONS)
        .map(|generation| intent.key(KeyGeneration(generation)).to_string())
        .collect();
    let ours = ledger
        .iter()
        .filter(|entry| entry.writer == Writer::Ours && entry.payment_id == order.payment_id);
    ours.filter(|entry| {
        let named = |name: &Option<String>| {
            name.as_ref()
                .is_some_and(|name| *name == reference || keys.contains(name))
        };
        order.way == Way::ResolveCharge || named(&entry.reference) || named(&entry.key)
    })
    .collect()
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;

//! What may not fit between the books, by name; and sums to compare.

use std::collections::BTreeMap;

/// A number of captures and their money by currency, in minor units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: usize,
    pub(super) minor: BTreeMap<String, i64>,
}

impl Sum {
    pub(super) fn add(&mut self, minor: i64, currency: &str) {
        self.count += 1;
        *self.minor.entry(currency.to_owned()).or_default() += minor;
    }
}

/// What does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    /// Money moved, or an intent was accepted, and the books do not show it.
    Lost,
    /// Money moved more than once.
    Doubled,
    /// The books show a capture that the provider does not know.
    Invented,
    /// Another amount.
    Amount,
    /// It has not ended.
    Open,
    /// A transaction was rolled back, and something of it is there.
    LeftBehind,
    /// The event feed says something else than the outbox.
    Feed,
    /// The SQL contract did something else than it promises.
    Contract,
}

impl Difference {
    pub(super) fn name(self) -> &'static str {
        match self {
            Difference::Lost => "lost",
            Difference::Doubled => "doubled",
            Difference::Invented => "invented",
            Difference::Amount => "amount_differs",
            Difference::Open => "still_open",
            Difference::LeftBehind => "left_by_rollback",
            Difference::Feed => "feed_differs",
            Difference::Contract => "contract_broken",
        }
    }
}

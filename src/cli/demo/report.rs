//! The end of the story: a table and a verdict for people, or one object for programs.

use serde_json::{Map, Value, json};

use crate::cli::output::{Cell, Column, Error, Format, Output};
use crate::simulator::Counts;

use super::books::Books;
use super::difference::{Difference, Sum};
use super::feed::Seen;
use super::shop::Sales;
use super::story::{amount, counted};
use super::troubles::Done;

/// What is promised, and no more.
pub(super) const PROMISE: &str =
    "The promise: every capture at least once, with at most one effect as far as the provider's key or lookup allows.";

/// Everything that the end tells of.
pub(super) struct Report<'a> {
    pub(super) seed: u64,
    pub(super) seconds: u64,
    pub(super) elapsed_ms: u64,
    pub(super) books: &'a Books,
    pub(super) sales: &'a Sales,
    pub(super) seen: &'a Seen,
    pub(super) done: Done,
    pub(super) counts: &'a Counts,
}

const DIFFERENCES: [Difference; 8] = [
    Difference::Lost,
    Difference::Doubled,
    Difference::Invented,
    Difference::Amount,
    Difference::Open,
    Difference::LeftBehind,
    Difference::Feed,
    Difference::Contract,
];

impl Report<'_> {
    /// On stdout.
    pub(super) fn print(&self, output: &Output) -> Result<(), Error> {
        match output.format {
            Format::Json | Format::Ndjson => println_whole(&self.document().to_string()),
            Format::Table | Format::Csv | Format::Id => {
                println_whole("")?;
                self.table(output)?;
                println_whole("")?;
                for (what, says) in &self.books.differences {
                    println_whole(&format!("{}: {says}", what.name()))?;
                }
                for (name, captured) in &self.books.left_to_a_person {
                    let ledger = if *captured {
                        "has its capture"
                    } else {
                        "has no capture of it"
                    };
                    println_whole(&format!("left to a person: {name}; the ledger {ledger}"))?;
                }
                println_whole(&self.verdict())?;
                println_whole(PROMISE)
            }
        }
    }

    /// How often a fault was played.
    fn faults(&self) -> u64 {
        self.counts.faults.values().sum()
    }

    pub(super) fn verdict(&self) -> String {
        let books = self.books;
        let dead: usize = books.dead.values().map(|sum| sum.count).sum();
        let count = |what| books.count(what);
        let opening = match books.agree() {
            true => format!(
                "books agree: {} captured, {} = ledger",
                books.captured.count,
                money(&books.captured)
            ),
            false => format!(
                "BOOKS DIFFER: {} captured, {}; ledger {}, {}",
                books.captured.count,
                money(&books.captured),
                books.ledger.count,
                money(&books.ledger)
            ),
        };
        let mut parts = vec![
            opening,
            format!("{dead} dead"),
            format!("{} cancelled", books.cancelled.count),
            format!("{} lost", count(Difference::Lost)),
            format!("{} doubled", count(Difference::Doubled)),
            format!("{} invented", count(Difference::Invented)),
        ];
        let others = [
            Difference::Open,
            Difference::Amount,
            Difference::LeftBehind,
            Difference::Feed,
            Difference::Contract,
        ];
        parts.extend(
            others
                .into_iter()
                .filter(|what| count(*what) > 0)
                .map(|what| format!("{} {}", count(what), what.name())),
        );
        if !books.left_to_a_person.is_empty() {
            parts.push(format!("{} left to a person", books.left_to_a_person.len()));
        }
        parts.push(format!(
            "{}, {} killed, {} frozen, {}, {} of Postgres; seed {}",
            counted(self.faults(), "fault"),
            counted(self.done.killed, "worker"),
            self.done.frozen,
            counted(self.done.outages, "outage"),
            match self.done.crashes {
                1 => "1 crash".to_owned(),
                many => format!("{many} crashes"),
            },
            self.seed
        ));
        parts.join("; ")
    }

    fn table(&self, output: &Output) -> Result<(), Error> {
        let books = self.books;
        let mut rows = output.rows(&[
            Column::text("what"),
            Column::number("captures"),
            Column::text("money"),
            Column::text("compared with the providers' ledger"),
        ])?;
        let mut row = |what: &str, sum: &Sum, compared: &str| {
            rows.row(&[
                what.into(),
                Cell::Number(i64::try_from(sum.count).unwrap_or(i64::MAX)),
                money(sum).into(),
                compared.into(),
            ])
        };
        row("asked for", &books.asked, "")?;
        let ledger = format!("{} captures, {}", books.ledger.count, money(&books.ledger));
        row("captured", &books.captured, &ledger)?;
        for (reason, sum) in &books.dead {
            let moved = books.left_to_a_person.iter().filter(|(_, captured)| *captured).count();
            let compared = match reason.as_str() {
                "undecided" => format!("{moved} of them captured: a person looks and settles them"),
                "captured_elsewhere" => format!(
                    "none captured by us; {} by others, {}",
                    books.elsewhere.count,
                    money(&books.elsewhere)
                ),
                _ => "none captured".to_owned(),
            };
            row(&format!("dead: {reason}"), sum, &compared)?;
        }
        row("cancelled", &books.cancelled, "none captured")?;
        let nothing = |count: usize| Sum {
            count,
            ..Sum::default()
        };
        row(
            "rolled back by the shop",
            &nothing(books.rolled_back),
            "no order, no intent, no capture is left",
        )?;
        row("still open", &nothing(books.count(Difference::Open)), "")?;
        row("lost", &nothing(books.count(Difference::Lost)), "")?;
        row("doubled", &nothing(books.count(Difference::Doubled)), "")?;
        row("invented", &nothing(books.count(Difference::Invented)), "")?;
        rows.finish()?;
        Ok(())
    }

    fn document(&self) -> Value {
        let books = self.books;
        let dead: Map<String, Value> = books
            .dead
            .iter()
            .map(|(reason, sum)| (reason.clone(), document_of(sum)))
            .collect();
        let mut document = json!({
            "seed": self.seed,
            "seconds": self.seconds,
            "elapsed_ms": self.elapsed_ms,
            "books_agree": books.agree(),
            "verdict": self.verdict(),
            "asked": document_of(&books.asked),
            "captured": document_of(&books.captured),
            "ledger": document_of(&books.ledger),
            "captured_by_others": document_of(&books.elsewhere),
            "cancelled": document_of(&books.cancelled),
            "dead": dead,
            "left_to_a_person": books.left_to_a_person.iter()
                .map(|(name, captured)| json!({ "capture": name, "in_ledger": captured })).collect::<Vec<_>>(),
            "rolled_back_orders": books.rolled_back,
            "repeated_inserts": self.sales.repeated,
            "transactions_run_again": self.sales.run_again,
            "differences": books.differences.iter()
                .map(|(what, says)| json!({ "kind": what.name(), "says": says })).collect::<Vec<_>>(),
            "events_read": self.seen.events,
            "outcomes_unknown_for_a_while": self.seen.unknown,
            "leases_lost": self.seen.leases_lost,
            "late_results": self.seen.late_results,
            "faults": self.faults(),
            "faults_by_name": self.counts.faults,
            "workers_killed": self.done.killed,
            "workers_frozen": self.done.frozen,
            "calls_cut": self.done.calls_cut,
            "outages": self.done.outages,
            "postgres_crashes": self.done.crashes,
            "promise": PROMISE,
        });
        if let Some(document) = document.as_object_mut() {
            for what in DIFFERENCES {
                document.insert(what.name().to_owned(), books.count(what).into());
            }
        }
        document
    }
}

fn document_of(sum: &Sum) -> Value {
    json!({ "count": sum.count, "minor": sum.minor })
}

/// `18,233.50 USD + 1,200.00 AUD`.
fn money(sum: &Sum) -> String {
    let amounts: Vec<String> = sum
        .minor
        .iter()
        .map(|(currency, minor)| amount(*minor, currency))
        .collect();
    amounts.join(" + ")
}

fn println_whole(line: &str) -> Result<(), Error> {
    use std::io::Write;
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

//! What was measured: aligned tables for people, one document for programs.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::figures::{Spread, spread};
use super::machine::Machine;
use super::scenario::Scenario;
use super::targets::target;

/// All that one scenario found.
#[derive(Debug)]
pub struct Chapter {
    pub scenario: Scenario,
    /// What was done, in one line, with its sizes.
    about: String,
    cases: Vec<Case>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Case {
    name: String,
    figures: Vec<Figure>,
}

#[derive(Debug)]
struct Figure {
    name: String,
    unit: &'static str,
    /// One per round.
    values: Vec<f64>,
}

impl Chapter {
    pub fn new(scenario: Scenario, about: String) -> Chapter {
        Chapter {
            scenario,
            about,
            cases: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds one round's value.
    pub fn add(&mut self, case: &str, figure: &str, unit: &'static str, value: f64) {
        let at = self.cases.iter().position(|known| known.name == case);
        let at = at.unwrap_or_else(|| {
            self.cases.push(Case {
                name: case.to_owned(),
                figures: Vec::new(),
            });
            self.cases.len() - 1
        });
        let Some(case) = self.cases.get_mut(at) else { return };
        match case.figures.iter_mut().find(|known| known.name == figure) {
            Some(known) => known.values.push(value),
            None => case.figures.push(Figure {
                name: figure.to_owned(),
                unit,
                values: vec![value],
            }),
        }
    }

    /// Something to know beside the figures; said once.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// A table, aligned.
    pub fn for_people(&self) -> String {
        let mut text = String::new();
        let mut lines: Vec<[String; 7]> =
            vec![["case", "figure", "unit", "min", "median", "max", "target"].map(str::to_owned)];
        for case in &self.cases {
            for (place, figure) in case.figures.iter().enumerate() {
                let shown = |of: fn(Spread) -> f64| spread(&figure.values).map_or("-".to_owned(), |s| short(of(s)));
                lines.push([
                    if place == 0 { case.name.clone() } else { String::new() },
                    figure.name.clone(),
                    figure.unit.to_owned(),
                    shown(|s| s.min),
                    shown(|s| s.median),
                    shown(|s| s.max),
                    self.verdict(case, figure),
                ]);
            }
        }
        let widths: Vec<usize> = (0..7)
            .map(|column| {
                lines
                    .iter()
                    .filter_map(|line| line.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let _ = writeln!(text, "{}  {}", self.scenario.name(), self.about);
        for line in &lines {
            let mut row = String::from("  ");
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                // Numbers to the right, words to the left.
                if (3..6).contains(&column) {
                    let _ = write!(row, "{cell:>width$}  ");
                } else {
                    let _ = write!(row, "{cell:<width$}  ");
                }
            }
            let _ = writeln!(text, "{}", row.trim_end());
        }
        for note in &self.notes {
            let _ = writeln!(text, "  - {note}");
        }
        text
    }

    fn verdict(&self, case: &Case, figure: &Figure) -> String {
        let median = spread(&figure.values).map(|spread| spread.median);
        match (target(self.scenario, &case.name, &figure.name), median) {
            (Some(target), Some(median)) if target.is_met(median) => format!("{target} met"),
            (Some(target), Some(_)) => format!("{target} MISSED"),
            (Some(target), None) => format!("{target}"),
            (None, _) => String::new(),
        }
    }

    fn document(&self) -> Value {
        let figure = |case: &Case, figure: &Figure| {
            let spread = spread(&figure.values);
            let target = target(self.scenario, &case.name, &figure.name);
            json!({
                "figure": figure.name, "unit": figure.unit, "values": figure.values, "spread": spread, "target": target,
                "met": target.and_then(|target| spread.map(|spread| target.is_met(spread.median))),
            })
        };
        let cases = self.cases.iter().map(|case| {
            let figures: Vec<Value> = case.figures.iter().map(|one| figure(case, one)).collect();
            json!({"case": case.name, "figures": figures})
        });
        json!({
            "scenario": self.scenario.name(), "about": self.about, "cases": cases.collect::<Vec<_>>(), "notes": self.notes,
        })
    }
}

/// Everything that one call of the program found.
#[derive(Debug)]
pub struct Report {
    pub machine: Machine,
    pub rounds: u32,
    pub quick: bool,
    pub chapters: Vec<Chapter>,
}

#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    machine: &'a Machine,
    rounds: u32,
    quick: bool,
    scenarios: Vec<Value>,
}

impl Report {
    /// Where and when, and how often.
    pub fn head(&self) -> String {
        let sizes = if self.quick {
            " (quick: sizes that prove that it runs, and nothing else)"
        } else {
            ""
        };
        format!("{}rounds: {}{sizes}\n", self.machine.for_people(), self.rounds)
    }

    pub fn document(&self) -> serde_json::Result<Value> {
        serde_json::to_value(Document {
            version: env!("CARGO_PKG_VERSION"),
            machine: &self.machine,
            rounds: self.rounds,
            quick: self.quick,
            scenarios: self.chapters.iter().map(Chapter::document).collect(),
        })
    }
}

/// Three digits that count, and thousands apart.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let decimals = match value.abs() {
        large if large >= 100.0 => 0,
        some if some >= 10.0 => 1,
        few if few >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.as_str()),
    };
    let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_their_thousands_apart() {
        let shown = [0.0123, 1.234, 12.34, 123.4, 1234.5, 1_234_567.0, -4321.0, f64::NAN].map(short);
        assert_eq!(
            shown,
            ["0.012", "1.23", "12.3", "123", "1,234", "1,234,567", "-4,321", "-"]
        );
    }

    #[test]
    fn a_table_tells_the_spread_of_all_rounds_and_whether_the_median_reaches_its_target() {
        let mut chapter = Chapter::new(Scenario::A, "a drain".to_owned());
        for (value, ratio) in [(100.0, 0.5), (300.0, 0.7), (200.0, 0.61)] {
            chapter.add("worker", "captures", "1/s", value);
            chapter.add("worker", "of the raw SQL", "", ratio);
        }
        chapter.note("said");
        chapter.note("said");
        assert_eq!(
            chapter.for_people(),
            "A  a drain\n\
             \x20 case    figure          unit    min  median    max  target\n\
             \x20 worker  captures        1/s     100     200    300\n\
             \x20         of the raw SQL        0.500   0.610  0.700  >= 0.6 met\n\
             \x20 - said\n"
        );
    }
}

//! `capture.toml`, read into a flat list of entries that know their line.
//!
//! The tree is parsed with spans and in the recovering mode of the parser, so that several syntax errors are told at
//! once and everything that could be read is checked as well. Numbers stay text: no float is ever made.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::faults::{Fault, Place};

/// The most bytes a settings file may have: 1 MiB. A real one has a few kilobytes; more is the wrong file.
pub(super) const LARGEST_FILE: u64 = 1024 * 1024;

/// A value as it stands in the file, or as text from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    /// Text of a variable or a flag: its kind is the setting's.
    Untyped(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer, in decimal.
    Integer(i128),
    /// A TOML float, as its digits.
    Decimal(String),
    /// A TOML boolean.
    Boolean(bool),
    /// Something that no setting is made of: the TOML name of it.
    Other(&'static str),
}

impl Raw {
    /// The value as a person would write it, cut at 60 characters, for a fault.
    pub(super) fn quoted(&self) -> String {
        match self {
            Raw::Untyped(text) | Raw::Text(text) if text.chars().count() > 60 => {
                format!("\"{}…\"", text.chars().take(60).collect::<String>().escape_debug())
            }
            Raw::Untyped(text) | Raw::Text(text) => format!("\"{}\"", text.escape_debug()),
            Raw::Integer(number) => number.to_string(),
            Raw::Decimal(digits) => digits.clone(),
            Raw::Boolean(value) => value.to_string(),
            Raw::Other(kind) => format!("a TOML {kind}"),
        }
    }
}

/// A value and its line.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Raw,
    pub(super) line: usize,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    /// As it was named; empty if there is none.
    pub(super) name: String,
    /// By path, such as `worker.lease` or `account.0.name`.
    pub(super) entries: BTreeMap<String, Entry>,
    /// The line of each `[[account]]`.
    pub(super) accounts: Vec<usize>,
    /// The line of each `[[shipment_source]]`.
    pub(super) shipment_sources: Vec<usize>,
    /// What the parser could not read.
    pub(super) syntax: Vec<Fault>,
}

impl File {
    /// Reads TOML; what cannot be read is in `syntax`.
    pub(super) fn parse(name: &str, text: &str) -> File {
        let mut file = File {
            name: name.to_owned(),
            ..File::default()
        };
        let lines = Lines::of(text);
        let (tree, errors) = DeTable::parse_recoverable(text);
        file.syntax = errors
            .iter()
            .map(|error| Fault {
                place: Place::File {
                    file: name.to_owned(),
                    line: error.span().map_or(0, |span| lines.at(span.start)),
                },
                key: String::new(),
                wrong: format!("not TOML: {}", error.message().replace('\n', ", ")),
                fix: "mend this line".to_owned(),
            })
            .collect();
        file.walk("", tree.get_ref(), &lines);
        // What the parser made up to go on after an error is nothing to check.
        let broken: BTreeSet<usize> = errors
            .iter()
            .filter_map(|error| Some(lines.at(error.span()?.start)))
            .collect();
        file.entries.retain(|_, entry| !broken.contains(&entry.line));
        file
    }

    fn walk(&mut self, prefix: &str, table: &DeTable<'_>, lines: &Lines) {
        for (key, value) in table {
            let path = match prefix {
                "" => key.get_ref().to_string(),
                _ => format!("{prefix}.{}", key.get_ref()),
            };
            let line = lines.at(key.span().start);
            match value.get_ref() {
                DeValue::Table(inner) if !inner.is_empty() => self.walk(&path, inner, lines),
                DeValue::Array(elements) if path == "account" => {
                    self.accounts = self.walk_tables(&path, elements.iter(), lines);
                }
                DeValue::Array(elements) if path == "shipment_source" => {
                    self.shipment_sources = self.walk_tables(&path, elements.iter(), lines);
                }
                _ => {
                    let value = raw(value);
                    self.entries.insert(path, Entry { value, line });
                }
            }
        }
    }

    /// Walks an array of tables; returns their lines.
    fn walk_tables<'v>(
        &mut self,
        name: &str,
        elements: impl Iterator<Item = &'v Spanned<DeValue<'v>>>,
        lines: &Lines,
    ) -> Vec<usize> {
        let mut starts = Vec::new();
        for (index, element) in elements.enumerate() {
            let line = lines.at(element.span().start);
            starts.push(line);
            match element.get_ref() {
                DeValue::Table(inner) => self.walk(&format!("{name}.{index}"), inner, lines),
                _ => {
                    let value = raw(element);
                    self.entries.insert(format!("{name}.{index}"), Entry { value, line });
                }
            }
        }
        starts
    }
}

fn raw(value: &Spanned<DeValue<'_>>) -> Raw {
    match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Integer(number),
            Err(_) => Raw::Other("integer beyond all bounds"),
        },
        DeValue::Float(number) => Raw::Decimal(number.as_str().to_owned()),
        DeValue::Boolean(value) => Raw::Boolean(*value),
        DeValue::Datetime(_) => Raw::Other("date"),
        DeValue::Array(_) => Raw::Other("array"),
        DeValue::Table(_) => Raw::Other("table"),
    }
}

/// Where each line starts.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        let after_each_break = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines(std::iter::once(0).chain(after_each_break).collect())
    }

    /// The line, from 1, that holds the byte at `offset`.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_knows_its_line() {
        let file = File::parse(
            "capture.toml",
            "schema = 'a'\n\n[worker]\n# why\nlease = '60s'\n[[account]]\nname = 'x'\n\n[[account]]\nname = 'y'\nretry = { max = 1 }\n",
        );
        let lines: Vec<_> = file.entries.iter().map(|(path, e)| (path.as_str(), e.line)).collect();
        assert_eq!(
            lines,
            [
                ("account.0.name", 7),
                ("account.1.name", 10),
                ("account.1.retry.max", 11),
                ("schema", 1),
                ("worker.lease", 5)
            ]
        );
        assert_eq!(file.accounts, [6, 9]);
        assert!(file.syntax.is_empty());
    }

    #[test]
    fn several_syntax_errors_are_told_at_once_and_the_rest_is_still_read() {
        let file = File::parse(
            "capture.toml",
            "schema = \n[worker]\nlease = '60s'\npoll_min = 5x\n[retry]\nmax = '1m'\nmax = '2m'\n",
        );
        let lines: Vec<_> = file.syntax.iter().map(|fault| fault.place.to_string()).collect();
        assert_eq!(lines, ["capture.toml:1", "capture.toml:4", "capture.toml:7"]);
        assert!(file.entries.contains_key("worker.lease"));
    }
}

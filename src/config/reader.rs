//! Reads one setting at a time from the layers, and remembers what was asked for.
//!
//! A setting is declared where it is read: its path, its default and its bounds stand in one line beside the field that
//! gets it. From the same reads follow the list that `capture config show` prints, and what is unknown: any key of the
//! file, and any `CAPTURE_` variable, that nobody asked for. A faulty value is recorded and the default goes on in its
//! place, so that every fault is found in one run.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::environment::{Environment, Variable};
use super::faults::{Fault, Place, Warning, meant};
use super::file::{File, Raw};
use super::values::{self, Refusal};
use super::{Flag, Setting};

/// Variables that begin with `CAPTURE_` and are read by name elsewhere, not as settings.
const NO_SETTINGS: [&str; 2] = ["CAPTURE_CONFIG", "CAPTURE_PG_BIN"];

/// Where a setting is looked for.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Its path in the file; `None` if it must not stand there.
    path: Option<String>,
    /// Its path as it is shown.
    pub(super) shown: String,
    /// Its environment variables, the strongest first.
    variables: Vec<String>,
}

impl Key {
    /// The setting at `path`, whose variable is `CAPTURE_` and the path in capitals.
    pub(super) fn of(path: &str) -> Key {
        Key {
            path: Some(path.to_owned()),
            shown: path.to_owned(),
            variables: vec![variable_name(path)],
        }
    }

    /// The same, also known by a variable that is not ours.
    pub(super) fn or_variable(mut self, name: &str) -> Key {
        self.variables.push(name.to_owned());
        self
    }

    /// The same, but not in the file.
    pub(super) fn outside_the_file(&self) -> Key {
        Key {
            path: None,
            ..self.clone()
        }
    }

    /// The same, but only in the file.
    pub(super) fn in_the_file_only(mut self) -> Key {
        self.variables.clear();
        self
    }

    /// The setting with that suffix on its last name: `database_url` → `database_url_file`.
    pub(super) fn with_suffix(&self, suffix: &str) -> Key {
        Key {
            path: self.path.as_ref().map(|path| format!("{path}{suffix}")),
            shown: format!("{}{suffix}", self.shown),
            variables: self
                .variables
                .iter()
                .filter(|name| name.starts_with("CAPTURE_"))
                .map(|name| format!("{name}{}", suffix.to_uppercase()))
                .collect(),
        }
    }
}

/// `CAPTURE_` and the path in capitals, everything but letters and digits as `_`.
pub(super) fn variable_name(path: &str) -> String {
    let capitals = path.chars().map(|c| match c.to_ascii_uppercase() {
        kept @ ('A'..='Z' | '0'..='9') => kept,
        _ => '_',
    });
    "CAPTURE_".chars().chain(capitals).collect()
}

/// The arrays of tables that a file may have.
const TABLES: [&str; 2] = ["account", "shipment_source"];

/// One table of such an array: what its keys are found and shown by.
#[derive(Debug, Clone)]
pub(super) struct TableScope {
    /// The array's name.
    pub(super) table: &'static str,
    /// Which of its tables, from 0.
    pub(super) index: usize,
    /// `afterpay/default`, or `#2` while the name is not known.
    pub(super) label: String,
    /// What its variables begin with (`CAPTURE_ACCOUNT_AFTERPAY_DEFAULT`); `None` while the name is not known.
    pub(super) variables: Option<String>,
}

impl TableScope {
    pub(super) fn key(&self, name: &str) -> Key {
        Key {
            path: Some(format!("{}.{}.{name}", self.table, self.index)),
            shown: format!("{}[{}].{name}", self.table, self.label),
            variables: self
                .variables
                .iter()
                .map(|prefix| format!("{prefix}_{}", name.to_uppercase()))
                .collect(),
        }
    }
}

/// A value that was found, and where.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) value: Raw,
    pub(super) place: Place,
}

pub(super) struct Reader<'a> {
    pub(super) file: &'a File,
    /// What relative paths of the file count from.
    pub(super) file_directory: &'a Path,
    pub(super) environment: &'a Environment,
    pub(super) flags: &'a [Flag],
    pub(super) settings: Vec<Setting>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Warning>,
    asked_paths: BTreeSet<String>,
    pub(super) asked_variables: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        file: &'a File,
        file_directory: &'a Path,
        environment: &'a Environment,
        flags: &'a [Flag],
    ) -> Reader<'a> {
        Reader {
            file,
            file_directory,
            environment,
            flags,
            settings: Vec::new(),
            faults: file.syntax.clone(),
            warnings: Vec::new(),
            asked_paths: BTreeSet::new(),
            asked_variables: BTreeSet::new(),
        }
    }

    pub(super) fn fault(&mut self, place: Place, key: &str, refusal: Refusal) {
        self.faults.push(Fault {
            place,
            key: key.to_owned(),
            wrong: refusal.wrong,
            fix: refusal.fix,
        });
    }

    pub(super) fn warn(&mut self, place: Place, key: &str, wrong: impl Into<String>, fix: impl Into<String>) {
        self.warnings.push(Warning(Fault {
            place,
            key: key.to_owned(),
            wrong: wrong.into(),
            fix: fix.into(),
        }));
    }

    /// Something that must be there is not. Not said of a file that could not be read whole: it may stand in the part
    /// that is broken.
    pub(super) fn missing(&mut self, place: Place, key: &str, wrong: impl Into<String>, fix: impl Into<String>) {
        if self.file.syntax.is_empty() {
            self.fault(place, key, Refusal::new(wrong, fix));
        }
    }

    /// A line of the file, as a place.
    pub(super) fn line(&self, line: usize) -> Place {
        Place::File {
            file: self.file.name.clone(),
            line,
        }
    }

    /// Where the first of these settings that is not a default was given.
    pub(super) fn place_of(&self, keys: &[&str]) -> Place {
        keys.iter()
            .filter_map(|key| self.settings.iter().find(|setting| setting.key == **key))
            .map(|setting| setting.source.clone())
            .find(|place| *place != Place::Default)
            .unwrap_or(Place::Default)
    }

    /// Could all these settings be read?
    pub(super) fn sound(&self, keys: &[&str]) -> bool {
        !self.faults.iter().any(|fault| keys.contains(&fault.key.as_str()))
    }

    /// The strongest layer's value. Notes that it was asked for; it appears in the list only once it is shown.
    pub(super) fn find(&mut self, key: &Key) -> Option<Found> {
        self.asked_paths.extend(key.path.clone());
        self.asked_variables.extend(key.variables.iter().cloned());
        if let Some(flag) = self.flags.iter().find(|flag| Some(flag.key) == key.path.as_deref()) {
            return Some(Found {
                value: Raw::Untyped(flag.value.clone()),
                place: Place::Flag(flag.flag.to_owned()),
            });
        }
        for name in &key.variables {
            match self.environment.variable(name) {
                Variable::Unset => {}
                Variable::Text(text) => {
                    return Some(Found {
                        value: Raw::Untyped(text.to_owned()),
                        place: Place::Variable(name.clone()),
                    });
                }
                Variable::NotUnicode => {
                    let refusal = Refusal::new("holds bytes that are not UTF-8", "set it to plain text");
                    self.fault(Place::Variable(name.clone()), &key.shown, refusal);
                    return None;
                }
            }
        }
        let entry = self.file.entries.get(key.path.as_ref()?)?;
        Some(Found {
            value: entry.value.clone(),
            place: self.line(entry.line),
        })
    }

    pub(super) fn show(&mut self, key: &str, value: Option<String>, source: Place) {
        self.settings.push(Setting {
            key: key.to_owned(),
            value,
            source,
        });
    }

    /// Reads a setting that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        key: &Key,
        parse: impl FnOnce(&Raw) -> Result<T, Refusal>,
        written: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let Some(found) = self.find(key) else {
            self.show(&key.shown, None, Place::Default);
            return None;
        };
        match parse(&found.value) {
            Ok(value) => {
                self.show(&key.shown, Some(written(&value)), found.place);
                Some(value)
            }
            Err(refusal) => {
                self.fault(found.place, &key.shown, refusal);
                None
            }
        }
    }

    /// Reads a setting that has a default.
    pub(super) fn defaulted<T>(
        &mut self,
        key: &Key,
        default: T,
        parse: impl FnOnce(&Raw) -> Result<T, Refusal>,
        written: impl Fn(&T) -> String,
    ) -> T {
        let Some(found) = self.find(key) else {
            self.show(&key.shown, Some(written(&default)), Place::Default);
            return default;
        };
        match parse(&found.value) {
            Ok(value) => {
                self.show(&key.shown, Some(written(&value)), found.place);
                value
            }
            Err(refusal) => {
                self.fault(found.place, &key.shown, refusal);
                default
            }
        }
    }

    pub(super) fn duration(&mut self, path: &str, default: Duration, bounds: RangeInclusive<Duration>) -> Duration {
        self.defaulted(
            &Key::of(path),
            default,
            |raw| values::duration(raw, &bounds),
            |value| values::written_duration(*value),
        )
    }

    pub(super) fn integer(&mut self, key: &Key, default: u32, bounds: RangeInclusive<u32>) -> u32 {
        self.defaulted(key, default, |raw| values::integer(raw, &bounds), u32::to_string)
    }

    pub(super) fn boolean(&mut self, key: &Key, default: bool) -> bool {
        self.defaulted(key, default, values::boolean, bool::to_string)
    }

    /// A number with up to three decimals, in thousandths.
    pub(super) fn thousandths(&mut self, path: &str, default: u32, bounds: RangeInclusive<u32>) -> u32 {
        let key = Key::of(path);
        self.defaulted(
            &key,
            default,
            |raw| values::thousandths(raw, &bounds),
            |value| values::written_thousandths(*value),
        )
    }

    pub(super) fn choice<T: Copy + PartialEq>(&mut self, key: &Key, default: T, choices: &[(&'static str, T)]) -> T {
        let name_of = |value: &T| {
            let of_value = choices.iter().find(|(_, choice)| choice == value);
            of_value.map_or_else(String::new, |(name, _)| (*name).to_owned())
        };
        self.defaulted(key, default, |raw| values::choice(raw, choices), name_of)
    }

    pub(super) fn text_or(
        &mut self,
        key: &Key,
        default: &str,
        check: impl FnOnce(&str) -> Result<(), Refusal>,
    ) -> String {
        self.defaulted(
            key,
            default.to_owned(),
            |raw| {
                let text = values::text(raw)?;
                check(&text).map(|()| text)
            },
            String::clone,
        )
    }

    /// Records every key of the file, and every `CAPTURE_` variable, that no read asked for.
    pub(super) fn unknown(&mut self) {
        let sections: BTreeSet<String> = self
            .asked_paths
            .iter()
            .filter_map(|path| Some(path.split_once('.')?.0.to_owned()))
            .collect();
        let mut faults = Vec::new();
        for (path, entry) in &self.file.entries {
            if self.asked_paths.contains(path) {
                continue;
            }
            let place = self.line(entry.line);
            if TABLES.contains(&path.as_str()) || sections.contains(path) {
                if entry.value == Raw::Other("table") {
                    continue;
                }
                let header = match TABLES.contains(&path.as_str()) {
                    true => format!("[[{path}]]"),
                    false => format!("[{path}]"),
                };
                faults.push(Fault {
                    place,
                    key: path.clone(),
                    wrong: "is a section, not a setting".to_owned(),
                    fix: format!("write a line {header} and its settings below"),
                });
                continue;
            }
            faults.push(self.unknown_key(path, place));
        }
        self.faults.extend(faults);
        self.unknown_variables();
    }

    fn unknown_key(&self, path: &str, place: Place) -> Fault {
        let of_table = |path: &str| TABLES.into_iter().find(|table| path.starts_with(&format!("{table}.")));
        let table = of_table(path);
        let in_table = table.and_then(|table| path.strip_prefix(table)?.strip_prefix('.')?.split_once('.'));
        let (scope, name) = match (table, in_table) {
            (Some(table), Some((index, name))) => (format!("{table}.{index}."), name),
            (_, _) => (String::new(), path),
        };
        let in_scope = self
            .asked_paths
            .iter()
            .filter(|known| scope.is_empty() != of_table(known).is_some())
            .filter_map(|known| known.strip_prefix(scope.as_str()));
        let known: Vec<&str> = in_scope.collect();
        let fix = if !scope.is_empty() && matches!(name, "secret" | "password" | "secret_key" | "key") {
            "a secret never stands in this file: name its variable in secret_env or its file in secret_file".to_owned()
        } else if let Some(meant) = meant(name, known.iter().copied()) {
            format!("did you mean {meant}?")
        } else if let Some(table) = table.filter(|_| !scope.is_empty()) {
            let article = if table == "account" { "an" } else { "a" };
            format!("{article} {table} has {}", known.join(", "))
        } else {
            "remove it; `capture config show` lists every setting".to_owned()
        };
        let shown = match table.filter(|_| !scope.is_empty()) {
            None => name.to_owned(),
            Some(table) => format!("{table}.{name}"),
        };
        Fault {
            place,
            key: shown,
            wrong: "is no setting".to_owned(),
            fix,
        }
    }

    fn unknown_variables(&mut self) {
        // Kubernetes gives every pod beside a service named `capture` variables that look like ours.
        let of_kubernetes = |name: &str| {
            name.starts_with("CAPTURE_SERVICE_") || name == "CAPTURE_PORT" || name.starts_with("CAPTURE_PORT_")
        };
        let unknown: Vec<String> = self
            .environment
            .names()
            .filter(|name| name.starts_with("CAPTURE_") && !of_kubernetes(name))
            .filter(|name| !self.asked_variables.contains(*name) && !NO_SETTINGS.contains(name))
            .map(str::to_owned)
            .collect();
        for name in unknown {
            let fix = match meant(&name, self.asked_variables.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "it changes nothing; unset it".to_owned(),
            };
            self.warn(Place::Variable(name), "", "is no setting", fix);
        }
    }
}

//! Reads one setting at a time from the layers, and remembers what was asked for.
//!
//! A setting is declared where it is read: its path, its default and its bounds stand in one line beside the field that
//! gets it. From the same reads follow the list that `capture config show` prints, and what is unknown: any key of the
//! file, and any `CAPTURE_` variable, that nobody asked for. A faulty value is recorded and the default goes on in its
//! place, so that every fault is found in one run.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::environment::{Environment, Variable};
use super::faults::{Fault, Place, Warning, meant};
use super::file::{File, Raw};
use super::{Flag, Setting};

/// The most bytes a file with a secret may have: 64 KiB. Far above any key; more is the wrong file.
const LARGEST_SECRET: u64 = 64 * 1024;

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
    fn outside_the_file(&self) -> Key {
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
    fn with_suffix(&self, suffix: &str) -> Key {
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

/// One account of the file: what its keys are found and shown by.
#[derive(Debug, Clone)]
pub(super) struct AccountScope {
    /// Which `[[account]]`, from 0.
    pub(super) index: usize,
    /// `afterpay/default`, or `#2` while the name is not known.
    pub(super) label: String,
    /// What its variables begin with (`CAPTURE_ACCOUNT_AFTERPAY_DEFAULT`); `None` while the name is not known.
    pub(super) variables: Option<String>,
}

impl AccountScope {
    pub(super) fn key(&self, name: &str) -> Key {
        Key {
            path: Some(format!("account.{}.{name}", self.index)),
            shown: format!("account[{}].{name}", self.label),
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

/// Why a value cannot be taken: what is wrong, and what to do.
pub(super) struct Refusal {
    pub(super) wrong: String,
    pub(super) fix: String,
}

impl Refusal {
    pub(super) fn new(wrong: impl Into<String>, fix: impl Into<String>) -> Refusal {
        Refusal {
            wrong: wrong.into(),
            fix: fix.into(),
        }
    }
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
    asked_variables: BTreeSet<String>,
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
            |raw| duration(raw, &bounds),
            |value| written_duration(*value),
        )
    }

    pub(super) fn integer(&mut self, key: &Key, default: u32, bounds: RangeInclusive<u32>) -> u32 {
        self.defaulted(key, default, |raw| integer(raw, &bounds), u32::to_string)
    }

    pub(super) fn boolean(&mut self, key: &Key, default: bool) -> bool {
        self.defaulted(key, default, boolean, bool::to_string)
    }

    /// A number with up to three decimals, in thousandths.
    pub(super) fn thousandths(&mut self, path: &str, default: u32, bounds: RangeInclusive<u32>) -> u32 {
        let key = Key::of(path);
        self.defaulted(
            &key,
            default,
            |raw| thousandths(raw, &bounds),
            |value| written_thousandths(*value),
        )
    }

    pub(super) fn choice<T: Copy + PartialEq>(&mut self, key: &Key, default: T, choices: &[(&'static str, T)]) -> T {
        let name_of = |value: &T| {
            let of_value = choices.iter().find(|(_, choice)| choice == value);
            of_value.map_or_else(String::new, |(name, _)| (*name).to_owned())
        };
        self.defaulted(key, default, |raw| choice(raw, choices), name_of)
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
                let text = text(raw)?;
                check(&text).map(|()| text)
            },
            String::clone,
        )
    }

    /// Reads a secret, given as itself (flag or variable), or as the path of a file that holds it. The strongest layer
    /// that has either wins; one layer that has both is a fault. `Ok(None)`: nowhere given. In the list as `***`.
    ///
    /// An account's secret never stands in the settings file itself: `named_by` is the key that names its variable there.
    /// Without `named_by` the file may hold `key`.
    pub(super) fn secret(&mut self, key: &Key, named_by: Option<&Key>) -> Result<Option<SecretString>, Fault> {
        match self.find_secret(key, named_by) {
            Ok(Some((secret, place))) => {
                self.show(&key.shown, Some("***".to_owned()), place);
                Ok(Some(secret))
            }
            Ok(None) => {
                self.show(&key.shown, None, Place::Default);
                Ok(None)
            }
            Err(fault) => {
                self.show(&key.shown, None, fault.place.clone());
                Err(fault)
            }
        }
    }

    fn find_secret(&mut self, key: &Key, named_by: Option<&Key>) -> Result<Option<(SecretString, Place)>, Fault> {
        let file_key = key.with_suffix("_file");
        let from_file = self.find(&file_key);
        let direct = match named_by {
            None => self.find(key),
            // The key itself must not stand in the file: it stays unasked there, and so unknown.
            Some(_) => self.find(&key.outside_the_file()),
        };
        let named = named_by.and_then(|named_by| self.find(named_by));
        let layer = |found: &Option<Found>| match found.as_ref().map(|found| &found.place) {
            None | Some(Place::Default) => 0,
            Some(Place::File { .. }) => 1,
            Some(Place::Variable(name)) if !name.starts_with("CAPTURE_") => 2,
            Some(Place::Variable(_)) => 3,
            Some(Place::Flag(_)) => 4,
        };
        let strongest = layer(&from_file).max(layer(&direct)).max(layer(&named));
        let at_strongest = |found: Option<Found>| if layer(&found) == strongest { found } else { None };
        let fault = |place: &Place, wrong: String, fix: &str| Fault {
            place: place.clone(),
            key: key.shown.clone(),
            wrong,
            fix: fix.to_owned(),
        };
        let given = [at_strongest(direct), at_strongest(named), at_strongest(from_file)];
        match given {
            [None, None, None] => Ok(None),
            [Some(direct), None, None] => match text(&direct.value) {
                Ok(text) => Ok(Some((SecretString::from(text), direct.place))),
                Err(_) => Err(fault(&direct.place, "is no text".to_owned(), "write it in quotes")),
            },
            [None, Some(named), None] => self.secret_of_variable(key, named).map(Some),
            [None, None, Some(path)] => self.secret_of_file(&file_key, path).map(Some),
            [first, second, third] => {
                let places: Vec<Place> = [first, second, third].into_iter().flatten().map(|f| f.place).collect();
                let place = places.last().cloned().unwrap_or(Place::Default);
                let others: Vec<String> = places.iter().map(Place::to_string).collect();
                Err(fault(
                    &place,
                    format!("is given twice ({})", others.join(" and ")),
                    "keep one of them",
                ))
            }
        }
    }

    /// The variable is only named in the message if it looks like a name: somebody may have put the secret itself there.
    fn secret_of_variable(&mut self, key: &Key, named: Found) -> Result<(SecretString, Place), Fault> {
        let fault = |wrong: String, fix: String| Fault {
            place: named.place.clone(),
            key: key.shown.clone() + "_env",
            wrong,
            fix,
        };
        let is_name =
            |name: &String| !name.is_empty() && name.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
        let Some(name) = text(&named.value).ok().filter(is_name) else {
            return Err(fault(
                "names no environment variable".to_owned(),
                "write the variable's name, in capitals; the secret itself never stands in this file".to_owned(),
            ));
        };
        self.asked_variables.insert(name.clone());
        match self.environment.variable(&name) {
            Variable::Text(secret) => Ok((SecretString::from(secret), Place::Variable(name))),
            Variable::Unset => Err(fault(
                format!("the environment variable {name} is not set"),
                format!("set {name}, or put the secret into a file and name that in secret_file"),
            )),
            Variable::NotUnicode => Err(fault(
                format!("the environment variable {name} holds bytes that are not UTF-8"),
                format!("set {name} to plain text"),
            )),
        }
    }

    fn secret_of_file(&mut self, key: &Key, found: Found) -> Result<(SecretString, Place), Fault> {
        let fault = |wrong: String, fix: &str| Fault {
            place: found.place.clone(),
            key: key.shown.clone(),
            wrong,
            fix: fix.to_owned(),
        };
        let named = text(&found.value).map_err(|refusal| fault(refusal.wrong, &refusal.fix))?;
        let path = match &found.place {
            Place::File { .. } => self.file_directory.join(&named),
            _ => PathBuf::from(&named),
        };
        let shown = path.display().to_string();
        let unreadable = |error: std::io::Error| {
            fault(
                format!("{shown} cannot be read: {error}"),
                "name a file that this process may read",
            )
        };
        let size = std::fs::metadata(&path).map_err(unreadable)?.len();
        if size > LARGEST_SECRET {
            return Err(fault(
                format!("{shown} has {size} bytes, more than any secret"),
                "name the file that holds the secret and nothing else",
            ));
        }
        let bytes = std::fs::read(&path).map_err(unreadable)?;
        let Ok(secret) = String::from_utf8(bytes) else {
            return Err(fault(
                format!("{shown} is not UTF-8"),
                "put the secret there as plain text",
            ));
        };
        // Editors and `echo` leave a line break at the end; no secret ends with one.
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(fault(format!("{shown} is empty"), "put the secret into it"));
        }
        Ok((
            SecretString::from(secret),
            Place::File {
                file: shown.clone(),
                line: 0,
            },
        ))
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
            if path == "account" || sections.contains(path) {
                if entry.value == Raw::Other("table") {
                    continue;
                }
                let header = if path == "account" {
                    "[[account]]"
                } else {
                    &format!("[{path}]")
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
        let (scope, name) = match path.strip_prefix("account.").and_then(|rest| rest.split_once('.')) {
            Some((index, name)) => (format!("account.{index}."), name),
            None => (String::new(), path),
        };
        let in_scope = self
            .asked_paths
            .iter()
            .filter(|known| scope.is_empty() != known.starts_with("account."))
            .filter_map(|known| known.strip_prefix(scope.as_str()));
        let known: Vec<&str> = in_scope.collect();
        let fix = if !scope.is_empty() && matches!(name, "secret" | "password" | "secret_key" | "key") {
            "a secret never stands in this file: name its variable in secret_env or its file in secret_file".to_owned()
        } else if let Some(meant) = meant(name, known.iter().copied()) {
            format!("did you mean {meant}?")
        } else if !scope.is_empty() {
            format!("an account has {}", known.join(", "))
        } else {
            "remove it; `capture config show` lists every setting".to_owned()
        };
        let shown = match scope.is_empty() {
            true => name.to_owned(),
            false => format!("account.{name}"),
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

/// A duration as one would write it: `2m`, `10ms`.
pub(super) fn written_duration(value: Duration) -> String {
    humantime::format_duration(value).to_string()
}

fn out_of_bounds(raw: &Raw, least: impl Display, most: impl Display) -> Refusal {
    Refusal::new(
        format!("{} is out of bounds", raw.quoted()),
        format!("choose between {least} and {most}"),
    )
}

fn duration(raw: &Raw, bounds: &RangeInclusive<Duration>) -> Result<Duration, Refusal> {
    let parsed = match raw {
        Raw::Untyped(text) | Raw::Text(text) => humantime::parse_duration(text.trim()).ok(),
        Raw::Integer(_) | Raw::Decimal(_) | Raw::Boolean(_) | Raw::Other(_) => None,
    };
    let Some(value) = parsed else {
        return Err(Refusal::new(
            format!("{} is no duration", raw.quoted()),
            "write a number and its unit in quotes, such as \"200ms\", \"15s\" or \"10m\"",
        ));
    };
    if bounds.contains(&value) {
        Ok(value)
    } else {
        let (least, most) = (written_duration(*bounds.start()), written_duration(*bounds.end()));
        Err(out_of_bounds(raw, least, most))
    }
}

pub(super) fn integer(raw: &Raw, bounds: &RangeInclusive<u32>) -> Result<u32, Refusal> {
    let parsed = match raw {
        Raw::Untyped(text) => text.trim().parse::<i128>().ok(),
        Raw::Integer(number) => Some(*number),
        Raw::Text(_) | Raw::Decimal(_) | Raw::Boolean(_) | Raw::Other(_) => None,
    };
    let Some(number) = parsed else {
        return Err(Refusal::new(
            format!("{} is no whole number", raw.quoted()),
            format!(
                "write one between {} and {}, without quotes",
                bounds.start(),
                bounds.end()
            ),
        ));
    };
    match u32::try_from(number) {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(out_of_bounds(raw, bounds.start(), bounds.end())),
    }
}

fn boolean(raw: &Raw) -> Result<bool, Refusal> {
    match raw {
        Raw::Boolean(value) => Ok(*value),
        Raw::Untyped(text) if text == "true" => Ok(true),
        Raw::Untyped(text) if text == "false" => Ok(false),
        Raw::Untyped(_) | Raw::Text(_) | Raw::Integer(_) | Raw::Decimal(_) | Raw::Other(_) => Err(Refusal::new(
            format!("{} is neither true nor false", raw.quoted()),
            "write true or false, without quotes",
        )),
    }
}

fn thousandths(raw: &Raw, bounds: &RangeInclusive<u32>) -> Result<u32, Refusal> {
    let digits = match raw {
        Raw::Untyped(text) => Some(text.trim().to_owned()),
        Raw::Integer(number) => Some(number.to_string()),
        Raw::Decimal(digits) => Some(digits.clone()),
        Raw::Text(_) | Raw::Boolean(_) | Raw::Other(_) => None,
    };
    let parsed = digits.as_deref().and_then(|digits| {
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let readable = !whole.is_empty() && plain(whole) && plain(decimals) && decimals.len() <= 3;
        readable.then(|| format!("{whole}{decimals:0<3}").parse::<u128>().ok())?
    });
    let Some(value) = parsed else {
        return Err(Refusal::new(
            format!("{} is no number with at most three decimals", raw.quoted()),
            "write one such as 2 or 1.5, without quotes",
        ));
    };
    match u32::try_from(value) {
        Ok(value) if bounds.contains(&value) => Ok(value),
        _ => Err(out_of_bounds(
            raw,
            written_thousandths(*bounds.start()),
            written_thousandths(*bounds.end()),
        )),
    }
}

fn written_thousandths(value: u32) -> String {
    let (whole, decimals) = (value / 1000, format!("{:03}", value % 1000));
    match decimals.trim_end_matches('0') {
        "" => whole.to_string(),
        decimals => format!("{whole}.{decimals}"),
    }
}

pub(super) fn choice<T: Copy>(raw: &Raw, choices: &[(&'static str, T)]) -> Result<T, Refusal> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let chosen = match raw {
        Raw::Untyped(text) | Raw::Text(text) => choices.iter().find(|(name, _)| name == text),
        Raw::Integer(_) | Raw::Decimal(_) | Raw::Boolean(_) | Raw::Other(_) => None,
    };
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        Refusal::new(
            format!("{} is none of the choices", raw.quoted()),
            format!("write one of {}", names.join(", ")),
        )
    })
}

pub(super) fn text(raw: &Raw) -> Result<String, Refusal> {
    match raw {
        Raw::Untyped(text) | Raw::Text(text) if text.trim().is_empty() => {
            Err(Refusal::new("is empty", "write it or leave the line out"))
        }
        Raw::Untyped(text) | Raw::Text(text) if text.contains(char::is_control) => Err(Refusal::new(
            "holds a control character",
            "write plain text in one line",
        )),
        Raw::Untyped(text) | Raw::Text(text) => Ok(text.clone()),
        Raw::Integer(_) | Raw::Decimal(_) | Raw::Boolean(_) | Raw::Other(_) => Err(Refusal::new(
            format!("{} is no text", raw.quoted()),
            "write it in quotes",
        )),
    }
}

/// An address that a provider is called at: https, or http to this very machine, where no credential can be overheard.
pub(super) fn provider_url(raw: &Raw) -> Result<Url, Refusal> {
    let text = text(raw)?;
    let no_address = |why: String| Refusal::new(why, "write it like \"https://host/path\"");
    let url = Url::parse(&text).map_err(|error| no_address(format!("{} is no address: {error}", raw.quoted())))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(no_address("holds a user or a password".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(no_address(format!("{} has a query or a fragment", raw.quoted())));
    }
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if loopback => Ok(url),
        "http" => Err(Refusal::new(
            format!("{} would send the credentials unencrypted", raw.quoted()),
            "write https; http is taken for a loopback address only",
        )),
        _ => Err(no_address(format!("{} is neither https nor http", raw.quoted()))),
    }
}

/// An address to listen on.
pub(super) fn listen_address(raw: &Raw) -> Result<std::net::SocketAddr, Refusal> {
    text(raw)?.parse().map_err(|_| {
        Refusal::new(
            format!("{} is no address to listen on", raw.quoted()),
            "write address and port, such as \"127.0.0.1:9464\"; port 0 takes a free one",
        )
    })
}

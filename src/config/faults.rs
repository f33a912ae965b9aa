//! What is wrong with the settings, said all at once.

use std::fmt;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A line of a file.
    File {
        /// The file as it was named.
        file: String,
        /// Counted from 1; 0 if it is about the file as a whole.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A command line flag.
    Flag(String),
    /// Nowhere: the default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line: 0 } => f.write_str(file),
            Place::File { file, line } => write!(f, "{file}:{line}"),
            Place::Variable(name) => write!(f, "env {name}"),
            Place::Flag(flag) => f.write_str(flag),
            Place::Default => f.write_str("default"),
        }
    }
}

/// One fault: where, which setting, what is wrong, and what to do. Never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where it was given.
    pub place: Place,
    /// The setting's path, such as `worker.lease` or `account[afterpay/default].base_url`; empty if it is about no one setting.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What to do.
    pub fix: String,
}

impl Fault {
    /// Place, setting and what is wrong, without what to do.
    pub fn wrong_at(&self) -> String {
        let place = (self.place != Place::Default).then(|| self.place.to_string());
        let key = (!self.key.is_empty()).then(|| self.key.clone());
        let parts: Vec<String> = place.into_iter().chain(key).chain([self.wrong.clone()]).collect();
        parts.join(": ")
    }
}

/// One line.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wrong_at())?;
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Something that does not stop the start but should be looked at. Same form as a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub Fault);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All faults of the settings: at least one, those of the file first, by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults {
    faults: Vec<Fault>,
    warnings: Vec<Warning>,
}

impl ConfigFaults {
    /// Sorted, without repetitions; `None` if there are no faults.
    pub(super) fn from_list(mut faults: Vec<Fault>, warnings: Vec<Warning>) -> Option<ConfigFaults> {
        faults.sort();
        faults.dedup();
        (!faults.is_empty()).then_some(ConfigFaults { faults, warnings })
    }

    /// The faults.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// What was also seen, and would not have stopped the start.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl From<Fault> for ConfigFaults {
    fn from(fault: Fault) -> ConfigFaults {
        ConfigFaults {
            faults: vec![fault],
            warnings: Vec::new(),
        }
    }
}

/// One line for a single fault, else a headline and one indented line each.
impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.faults.as_slice() {
            return only.fmt(f);
        }
        write!(f, "the settings have {} faults:", self.faults.len())?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}

/// The name in `known` that `given` was probably meant to be.
///
/// First a key of the same last name elsewhere (`retry.lease` for `worker.lease`), then the nearest by edit distance,
/// if at most a third of the letters differ.
pub(super) fn meant<'k>(given: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let mut nearest: Option<(usize, &'k str)> = None;
    for name in known {
        let distance = if last(name) == last(given) {
            0
        } else {
            strsim::damerau_levenshtein(given, name)
        };
        if distance <= given.len().max(3) / 3 && nearest.is_none_or(|(least, _)| distance < least) {
            nearest = Some((distance, name));
        }
    }
    nearest.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_or_misplaced_key_is_recognised_and_nonsense_is_not() {
        let known = ["worker.lease", "worker.poll_min", "retry.max", "schema"];
        let meant = |given| meant(given, known.into_iter());
        assert_eq!(meant("worker.leese"), Some("worker.lease"));
        assert_eq!(meant("retry.lease"), Some("worker.lease"));
        assert_eq!(meant("workers.poll_min"), Some("worker.poll_min"));
        assert_eq!(meant("shcema"), Some("schema"));
        assert_eq!(meant("colour.of.the.sky"), None);
    }
}

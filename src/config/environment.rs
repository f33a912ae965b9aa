//! The process environment, looked at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

/// The environment variables of the process, as they were when it started.
///
/// Taken once in `main` with [`Environment::from_process`] and handed to whoever needs it, so that nothing else reads
/// the environment and a test brings its own. `Debug` shows names only: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, OsString>);

/// What a variable holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable<'a> {
    /// Not set, or set to nothing: `X= capture work` and a blank line in a compose file mean "not set".
    Unset,
    /// Text.
    Text(&'a str),
    /// Bytes that are not UTF-8.
    NotUnicode,
}

impl Environment {
    /// What the process was started with. Variables whose *names* are not UTF-8 are left out: no setting has such a name.
    pub fn from_process() -> Environment {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect()
    }

    /// What `name` holds.
    pub fn variable(&self, name: &str) -> Variable<'_> {
        match self.0.get(name).map(|value| value.to_str()) {
            None | Some(Some("")) => Variable::Unset,
            Some(Some(text)) => Variable::Text(text),
            Some(None) => Variable::NotUnicode,
        }
    }

    /// The text of `name`; `None` if it is unset, empty or not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.variable(name) {
            Variable::Text(text) => Some(text),
            Variable::Unset | Variable::NotUnicode => None,
        }
    }

    /// The names of all variables, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<K: Into<String>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Environment {
        Environment(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl<K: Into<String>, V: Into<OsString>, const N: usize> From<[(K, V); N]> for Environment {
    fn from(pairs: [(K, V); N]) -> Environment {
        pairs.into_iter().collect()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_an_environment_never_prints_a_value() {
        let environment = Environment::from([("AFTERPAY_SECRET", "hunter2")]);
        let printed = format!("{environment:?}");
        assert!(printed.contains("AFTERPAY_SECRET") && !printed.contains("hunter2"));
    }

    #[test]
    fn a_variable_set_to_nothing_counts_as_unset() {
        let environment = Environment::from([("CAPTURE_SCHEMA", "")]);
        assert_eq!(environment.variable("CAPTURE_SCHEMA"), Variable::Unset);
        assert_eq!(environment.get("CAPTURE_SCHEMA"), None);
    }
}

//! The filter of a list: in the address, in a form, and as a line for the command line, under the same names.

use chrono::{DateTime, SecondsFormat, Utc};

use super::shown::{query, shell_word};
use crate::filter::{Filter, FilterFault, State};
use crate::http::query::Parameters;
use crate::outcome::Class;

/// What a field shows where nothing is written.
const HINTS: [(&str, &str, &str); 12] = [
    ("order", "Order", "order-1001"),
    ("payment", "Payment", "400101010"),
    ("state", "State", "any"),
    ("class", "Class", "any"),
    ("code", "Code", "insufficient_funds"),
    ("provider", "Provider", "afterpay"),
    ("account", "Account", "default"),
    ("amount", "Amount", ">=100.00 USD"),
    ("since", "Since", "2026-01-31 or 24h"),
    ("until", "Until", "2026-02-01 or 1h"),
    ("expires-within", "Expires within", "24h"),
    ("limit", "At most", "rows"),
];

/// One condition in the form.
pub struct Field {
    /// Its name in the address.
    pub name: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// What it might look like.
    pub hint: &'static str,
    /// What was written.
    pub value: String,
    /// What can be chosen; none: it is written.
    pub options: Vec<String>,
    /// What is wrong with it, and what would be right.
    pub wrong: Option<String>,
}

/// A filter as it was asked for.
pub struct Asked {
    /// The conditions, as they stood in the address.
    pairs: Vec<(String, String)>,
    faults: Vec<FilterFault>,
    /// What they mean, if all could be read.
    pub filter: Option<Filter>,
    dead: bool,
}

impl Asked {
    /// Reads it. `dead`: on the page of dead letters, whose state is given.
    pub fn read(parameters: Parameters, dead: bool, now: DateTime<Utc>) -> Asked {
        let pairs: Vec<(String, String)> = parameters.pairs().to_vec();
        let mut texts: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        if dead {
            texts.push(("state", State::Dead.name()));
        }
        let (filter, faults) = match Filter::from_pairs(texts, now) {
            Ok(filter) => (Some(filter), Vec::new()),
            Err(faults) => (None, faults),
        };
        Asked {
            pairs,
            faults,
            filter,
            dead,
        }
    }

    fn written(&self) -> Vec<(&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect()
    }

    /// The conditions of the address.
    pub fn query(&self) -> String {
        query(&self.written())
    }

    /// The conditions of the address, and more.
    pub fn query_and(&self, more: &[(&str, &str)]) -> String {
        query(&[self.written().as_slice(), more].concat())
    }

    /// The conditions that choose captures for an act.
    pub fn chosen(&self) -> String {
        let state = [("state", State::Dead.name())];
        let more: &[(&str, &str)] = if self.dead { &state } else { &[] };
        query(&[self.written().as_slice(), more].concat())
    }

    /// `class=rejected order=o-1`; empty: none.
    pub fn in_words(&self) -> String {
        let words: Vec<String> = self.pairs.iter().map(|(name, text)| format!("{name}={text}")).collect();
        words.join(" ")
    }

    /// The same for a terminal.
    pub fn command(&self) -> String {
        let state = self.dead.then(|| ("state", State::Dead.name()));
        let conditions: String = state
            .into_iter()
            .chain(self.written())
            .filter(|(name, _)| Filter::NAMES.contains(name))
            .map(|(name, text)| format!(" --{name} {}", shell_word(text)))
            .collect();
        format!("capture list{conditions}")
    }

    /// Is something wrong?
    pub fn is_wrong(&self) -> bool {
        !self.faults.is_empty()
    }

    /// What is wrong and belongs to no field.
    pub fn loose_faults(&self) -> Vec<String> {
        let known = |name: &str| HINTS.iter().any(|(field, _, _)| *field == name);
        let loose = self.faults.iter().filter(|fault| !known(&fault.name));
        loose.map(|fault| format!("{fault}; {}", fault.right)).collect()
    }

    /// The form's fields.
    pub fn fields(&self) -> Vec<Field> {
        let fields = HINTS.iter().filter(|(name, _, _)| !(self.dead && *name == "state"));
        fields
            .map(|(name, label, hint)| {
                // Several of one name: what came in is shown, and told to be twice.
                let texts: Vec<&str> = self
                    .written()
                    .into_iter()
                    .filter(|(other, _)| other == name)
                    .map(|(_, text)| text)
                    .collect();
                let value = texts.join(",");
                let fault = self.faults.iter().find(|fault| fault.name == *name);
                let mut options: Vec<String> = match *name {
                    "state" => State::ALL.map(|state| state.name().to_owned()).to_vec(),
                    "class" => Class::ALL.map(|class| class.name().to_owned()).to_vec(),
                    _ => Vec::new(),
                };
                if !options.is_empty() && !value.is_empty() && !options.contains(&value) {
                    options.push(value.clone());
                }
                Field {
                    name,
                    label,
                    hint,
                    value,
                    options,
                    wrong: fault.map(|fault| format!("{}; {}", fault.wrong, fault.right)),
                }
            })
            .collect()
    }
}

/// A form sends its empty fields too; an address has none. `Some`: the address without them.
pub fn without_empty(parameters: &Parameters, path: &str) -> Option<String> {
    let all = parameters.pairs();
    let full: Vec<(&str, &str)> = all
        .iter()
        .map(|(name, text)| (name.as_str(), text.trim()))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    (full.len() < all.len()).then(|| super::shown::address(path, &full))
}

/// The conditions of a form as they will still mean the same later: times that count back from now are written out.
pub fn frozen(text: &str, now: DateTime<Utc>) -> Result<(Filter, String), Vec<FilterFault>> {
    let not_readable = || {
        vec![FilterFault {
            name: "filter".to_owned(),
            wrong: "cannot be read".to_owned(),
            right: "choose again from the list".to_owned(),
        }]
    };
    let parameters = Parameters::read(text).map_err(|_| not_readable())?;
    let pairs = parameters.pairs();
    let filter = Filter::from_pairs(pairs.iter().map(|(name, text)| (name.as_str(), text.as_str())), now)?;
    let time = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    let (since, until) = (time(filter.since), time(filter.until));
    let written: Vec<(&str, &str)> = pairs
        .iter()
        .map(|(name, text)| match name.as_str() {
            "since" => (name.as_str(), since.as_deref().unwrap_or(text)),
            "until" => (name.as_str(), until.as_deref().unwrap_or(text)),
            _ => (name.as_str(), text.as_str()),
        })
        .collect();
    let written = query(&written);
    Ok((filter, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str, dead: bool) -> Asked {
        let now = "2026-11-22T00:00:00Z".parse().unwrap();
        Asked::read(Parameters::read(query).unwrap(), dead, now)
    }

    #[test]
    fn every_condition_has_a_field_and_no_other_has() {
        let mut fields: Vec<&str> = HINTS.iter().map(|(name, _, _)| *name).collect();
        let mut names = Filter::NAMES.to_vec();
        fields.sort_unstable();
        names.sort_unstable();
        assert_eq!(fields, names);
    }

    #[test]
    fn a_filter_is_told_as_the_command_line_takes_it() {
        let asked = asked("class=rejected&amount=%3E%3D100.00+USD&order=o'1", true);
        assert_eq!(
            asked.command(),
            r"capture list --state dead --class rejected --amount '>=100.00 USD' --order 'o'\''1'"
        );
        assert_eq!(
            asked.chosen(),
            "class=rejected&amount=%3E%3D100.00%20USD&order=o%271&state=dead"
        );
    }

    #[test]
    fn what_is_wrong_stands_at_its_field_and_nothing_is_lost() {
        let asked = asked("class=rejcted&order=o1&since=yesterday&nonsense=1", false);
        assert!(asked.filter.is_none());
        let fields = asked.fields();
        let of = |name: &str| fields.iter().find(|field| field.name == name).unwrap();
        assert!(of("class").wrong.as_ref().unwrap().contains("did you mean rejected?"));
        assert!(of("class").options.contains(&"rejcted".to_owned()) && of("class").value == "rejcted");
        assert!(of("since").wrong.is_some() && of("order").wrong.is_none() && of("order").value == "o1");
        assert!(asked.loose_faults()[0].starts_with("nonsense: is no filter"));
    }

    #[test]
    fn a_time_that_counts_back_is_written_out_for_later() {
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        let (filter, written) = frozen("since=24h&state=dead", now).unwrap();
        assert_eq!(written, "since=2026-11-21T10%3A00%3A00Z&state=dead");
        assert_eq!(filter.states, [State::Dead]);
        assert!(frozen("since=tomorrow", now).is_err() && frozen("%ff", now).is_err());
    }
}

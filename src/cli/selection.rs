//! The captures that an act is for: by their ids, by ids on stdin, or by a filter; and not without a yes if nobody named
//! them one by one.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};

use uuid::Uuid;

use crate::filter::Filter;
use crate::intent::{Currency, Money};
use crate::operations::{Act, Choice, Preview, Sum};

use super::context::Context;
use super::filter::FilterArgs;
use super::intent_id::intent_id;
use super::output::{Error, Exit};

/// Ids, or a filter.
#[derive(Debug, Clone, clap::Args)]
pub struct SelectionArgs {
    /// The intents; - reads them from stdin, one a line; or give a filter
    #[arg(value_name = "ID", value_parser = named)]
    ids: Vec<Named>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All that there are, where no filter narrows them
    #[arg(long)]
    all: bool,
    /// Do not ask, however many they are
    #[arg(short = 'y', long)]
    yes: bool,
}

/// One word that names captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Id(Uuid),
    Stdin,
}

fn named(text: &str) -> Result<Named, String> {
    match text {
        "-" => Ok(Named::Stdin),
        _ => intent_id(text).map(Named::Id),
    }
}

/// What was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// Which captures.
    pub choice: Choice,
    /// A filter that means everything is meant so.
    pub all: bool,
    /// Was each one typed by hand?
    pub one_by_one: bool,
}

impl Chosen {
    /// The only id, if one was typed and nothing else.
    pub fn only(&self) -> Option<Uuid> {
        match &self.choice {
            Choice::Ids(ids) => match ids.as_slice() {
                [only] if self.one_by_one => Some(*only),
                _ => None,
            },
            Choice::Filter(_) => None,
        }
    }
}

impl SelectionArgs {
    /// Are they in order for this act? Asks neither the database nor stdin.
    pub fn check(&self, act: &Act) -> Result<(), Error> {
        let filter = self.filter.filter(chrono::Utc::now())?;
        if !self.ids.is_empty() {
            return match filter == Filter::default() && !self.all {
                true => Ok(()),
                false => Err(Error::usage("there are ids and a filter").hint("give one of them")),
            };
        }
        let states: Vec<&str> = act.states().iter().map(|state| state.name()).collect();
        if filter.means_everything() && !self.all {
            return Err(Error::usage(format!("{} what?", act.name())).hint(format!(
                "give ids, or a filter such as --provider or --class; --all or --state {} means all of them",
                states.join(",")
            )));
        }
        if let Some(other) = filter.states.iter().find(|state| !act.states().contains(state)) {
            return Err(
                Error::usage(format!("--state: {} does nothing to what is {other}", act.name()))
                    .hint(format!("it acts on {}", states.join(", "))),
            );
        }
        Ok(())
    }

    /// What they choose, once they were checked. Relative times count back from `now`.
    pub async fn chosen(&self, now: chrono::DateTime<chrono::Utc>) -> Result<Chosen, Error> {
        if !self.ids.is_empty() {
            return self.named().await;
        }
        Ok(Chosen {
            choice: Choice::Filter(self.filter.filter(now)?),
            all: self.all,
            one_by_one: false,
        })
    }

    async fn named(&self) -> Result<Chosen, Error> {
        let piped = self.ids.contains(&Named::Stdin);
        let mut ids: Vec<Uuid> = Vec::new();
        for named in &self.ids {
            match named {
                Named::Id(id) => ids.push(*id),
                Named::Stdin => {
                    let read = tokio::task::spawn_blocking(|| ids_of(std::io::stdin().lock())).await;
                    ids.extend(read.map_err(|error| Error::failed(error.to_string()))??);
                }
            }
        }
        if ids.is_empty() {
            return Err(Error::usage("stdin has no ids")
                .hint("capture list -o id prints some, and capture dead -o id dead ones"));
        }
        Ok(Chosen {
            choice: Choice::Ids(ids),
            all: false,
            one_by_one: !piped,
        })
    }

    /// Did somebody say yes before anything was shown?
    pub fn yes(&self) -> bool {
        self.yes
    }

    /// Asks before an act on more than one capture that nobody named one by one.
    pub async fn confirm(&self, act: &Act, chosen: &Chosen, preview: &Preview, context: &Context) -> Result<(), Error> {
        if self.yes || chosen.one_by_one || preview.will_act < 2 {
            return Ok(());
        }
        let what = format!("{} {}", act.name(), in_words(preview.will_act, &preview.sums));
        if !std::io::stdin().is_terminal() {
            return Err(
                Error::usage(format!("{what}: nobody is there to say yes")).hint("look with -n first, then add --yes")
            );
        }
        let answer = tokio::task::spawn_blocking(move || {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "{what}? [y/N] ");
            let _ = stderr.flush();
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer).map(|_| answer)
        });
        let answer = tokio::select! {
            answer = answer => answer.map_err(|error| Error::failed(error.to_string()))??,
            () = context.interrupted.cancelled() => return Err(Error::new(Exit::Interrupted, "nothing was done")),
        };
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Error::failed("nothing was done")),
        }
    }
}

/// One id a line; blank lines are passed over.
fn ids_of(lines: impl BufRead) -> Result<Vec<Uuid>, Error> {
    let mut ids = Vec::new();
    for (place, line) in lines.lines().enumerate() {
        let line = line?;
        let text = line.trim();
        if !text.is_empty() {
            let id = intent_id(text);
            ids.push(id.map_err(|hint| {
                Error::usage(format!(
                    "line {} of stdin is no id: '{:.60}'",
                    place + 1,
                    text.escape_debug()
                ))
                .hint(hint)
            })?);
        }
    }
    Ok(ids)
}

/// `3 captures: 10.00 EUR + 25.50 USD`.
pub fn in_words(captures: u64, sums: &[Sum]) -> String {
    let amounts: Vec<String> = sums
        .iter()
        .map(|sum| match Currency::from_code(&sum.currency) {
            Some(currency) => Money::new(sum.amount_minor, currency).to_string(),
            None => format!("{} minor units of {}", sum.amount_minor, sum.currency),
        })
        .collect();
    let noun = if captures == 1 { "capture" } else { "captures" };
    match amounts.is_empty() {
        true => format!("{captures} {noun}"),
        false => format!("{captures} {noun}: {}", amounts.join(" + ")),
    }
}

/// What became of an act on many, by the word that is told of each.
#[derive(Debug, Default)]
pub struct Tally {
    /// Done, as was asked.
    pub done: usize,
    /// Begun, and not known to be done.
    pub open: usize,
    /// Not there.
    pub missing: usize,
    /// Not possible as it stands.
    pub forbidden: usize,
    /// Each word, and how often it was told.
    pub words: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// All done: 0. None: why. Some: 6.
    pub fn exit(&self) -> Exit {
        match (self.done, self.open, self.missing, self.forbidden) {
            (_, 0, 0, 0) => Exit::Done,
            (0, 0, _, 0) => Exit::NotFound,
            (0, 0, 0, _) => Exit::StateForbids,
            _ => Exit::PartlyDone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whether_all_none_or_some_was_done() {
        let exit = |done, open, missing, forbidden| {
            let tally = Tally {
                done,
                open,
                missing,
                forbidden,
                ..Tally::default()
            };
            tally.exit()
        };
        assert_eq!(exit(3, 0, 0, 0), Exit::Done);
        assert_eq!(exit(0, 0, 0, 0), Exit::Done);
        assert_eq!(exit(0, 0, 2, 0), Exit::NotFound);
        assert_eq!(exit(0, 0, 0, 2), Exit::StateForbids);
        assert_eq!(exit(0, 0, 1, 1), Exit::PartlyDone);
        assert_eq!(exit(1, 0, 0, 1), Exit::PartlyDone);
        assert_eq!(exit(0, 1, 0, 0), Exit::PartlyDone);
    }

    #[test]
    fn ids_are_read_a_line_each_and_a_wrong_line_is_named() {
        let id = Uuid::new_v4();
        assert_eq!(ids_of(format!("\n {id} \r\n").as_bytes()).unwrap(), [id]);
        let error = ids_of(format!("{id}\nnot \u{1b}[31man id\n").as_bytes()).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(
            error.message.starts_with("line 2 of stdin is no id: 'not \\u{1b}"),
            "{error}"
        );
    }

    #[test]
    fn sums_are_told_by_currency() {
        let sum = |amount_minor, currency: &str| Sum {
            amount_minor,
            currency: currency.to_owned(),
        };
        assert_eq!(
            in_words(3, &[sum(1000, "EUR"), sum(2550, "USD")]),
            "3 captures: 10.00 EUR + 25.50 USD"
        );
        assert_eq!(in_words(1, &[sum(7, "JPY")]), "1 capture: 7 JPY");
        assert_eq!(in_words(0, &[]), "0 captures");
    }
}

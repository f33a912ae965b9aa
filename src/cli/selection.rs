//! The captures that an act is for: by their ids, or by a filter, and then not without a yes.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};

use uuid::Uuid;

use crate::filter::{Filter, MOST_ROWS, State};
use crate::intent::{Currency, Money};
use crate::outbox::{CaptureRow, Outbox};

use super::context::Context;
use super::filter::FilterArgs;
use super::intent_id::intent_id;
use super::output::{Error, Exit};

/// Ids, or a filter.
#[derive(Debug, Clone, clap::Args)]
pub struct SelectionArgs {
    /// The intents; or give a filter
    #[arg(value_name = "ID", value_parser = intent_id)]
    ids: Vec<Uuid>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Do not ask, however many a filter chooses
    #[arg(short = 'y', long)]
    yes: bool,
}

/// What was chosen.
#[derive(Debug)]
pub struct Selected {
    /// Captures that there are.
    pub rows: Vec<CaptureRow>,
    /// Ids of none.
    pub missing: Vec<Uuid>,
    /// Was nobody named one by one?
    pub by_filter: bool,
}

/// Which captures a verb can act on.
pub struct Acting {
    /// Of the verb, as typed.
    pub verb: &'static str,
    /// A filter without states means these.
    pub states: &'static [State],
}

impl SelectionArgs {
    /// Looks them up. What is wrong with the arguments is told before the database is asked.
    pub async fn select(&self, acting: &Acting, context: &Context) -> Result<(Outbox, Selected), Error> {
        let named = self.filter.filter(chrono::Utc::now())?;
        if !self.ids.is_empty() && named != Filter::default() {
            return Err(Error::usage("there are ids and a filter").hint("give one of them"));
        }
        if self.ids.is_empty() && named.means_everything() {
            let all: Vec<&str> = acting.states.iter().map(|state| state.name()).collect();
            return Err(Error::usage(format!("{} what?", acting.verb)).hint(format!(
                "give ids, or a filter such as --provider or --class; --state {} means all of them",
                all.join(",")
            )));
        }
        if let Some(other) = named.states.iter().find(|state| !acting.states.contains(state)) {
            let names: Vec<&str> = acting.states.iter().map(|state| state.name()).collect();
            return Err(
                Error::usage(format!("--state: {} does nothing to what is {other}", acting.verb))
                    .hint(format!("it acts on {}", names.join(", "))),
            );
        }
        let outbox = context.outbox().await?;
        let mut selected = Selected {
            rows: Vec::new(),
            missing: Vec::new(),
            by_filter: self.ids.is_empty(),
        };
        if selected.by_filter {
            let mut filter = self.filter.filter(outbox.now().await?)?;
            if filter.states.is_empty() {
                filter.states = acting.states.to_vec();
            }
            selected.rows = outbox.list(&filter, MOST_ROWS).await?;
        } else {
            let mut ids = self.ids.clone();
            let mut seen = std::collections::BTreeSet::new();
            ids.retain(|id| seen.insert(*id));
            for id in ids {
                match outbox.capture(id).await? {
                    Some(row) => selected.rows.push(row),
                    None => selected.missing.push(id),
                }
            }
        }
        Ok((outbox, selected))
    }

    /// Asks before an act on more than one capture that nobody named one by one.
    pub async fn confirm(&self, acting: &Acting, selected: &Selected, context: &Context) -> Result<(), Error> {
        if self.yes || !selected.by_filter || selected.rows.len() < 2 {
            return Ok(());
        }
        let what = format!("{} {}", acting.verb, sums(&selected.rows));
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

/// `3 captures: 10.00 EUR + 25.50 USD`.
pub fn sums<'a>(rows: impl IntoIterator<Item = &'a CaptureRow>) -> String {
    let mut count = 0u64;
    let mut by_currency: BTreeMap<&str, i64> = BTreeMap::new();
    for row in rows {
        count += 1;
        let sum = by_currency.entry(&row.currency).or_default();
        *sum = sum.saturating_add(row.amount_minor);
    }
    let amounts: Vec<String> = by_currency
        .into_iter()
        .map(|(code, minor)| match Currency::from_code(code) {
            Some(currency) => Money::new(minor, currency).to_string(),
            None => format!("{minor} minor units of {code}"),
        })
        .collect();
    let captures = if count == 1 { "capture" } else { "captures" };
    match amounts.is_empty() {
        true => "0 captures".to_owned(),
        false => format!("{count} {captures}: {}", amounts.join(" + ")),
    }
}

/// What became of an act on many.
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
}

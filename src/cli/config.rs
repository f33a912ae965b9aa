//! `config`: which settings are in force and where they were given, and whether they are in order.

use std::io::Write;

use clap::Subcommand;

use crate::config::{Config, Fault, Need, Sources, Warning};

use super::accounts;
use super::output::{Cell, Column, Error, Exit, Format, Output, say, warn};

/// What to do with the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigVerb {
    /// Show every setting, its value and where it was given; secrets as ***
    Show,
    /// Check all settings as a worker needs them, secrets included, and tell every fault; exit code 7 if there is one
    Check,
}

/// Runs it.
pub fn run(verb: ConfigVerb, sources: &Sources, output: &Output) -> Result<Exit, Error> {
    match verb {
        ConfigVerb::Show => show(sources, output),
        ConfigVerb::Check => check(sources, output),
    }
}

fn show(sources: &Sources, output: &Output) -> Result<Exit, Error> {
    let sources = Sources {
        need: Need::DatabaseOnly,
        ..sources.clone()
    };
    let (config, warnings) = Config::load(&sources)?;
    warnings.iter().for_each(warn);
    let mut rows = output.rows(&[
        Column::id("key"),
        Column::text("value").wraps(2, 20),
        Column::text("source").wraps(1, 20),
    ])?;
    for setting in config.settings() {
        let source = setting.source.to_string();
        rows.row(&[setting.key.as_str().into(), setting.value.clone().into(), source.into()])?;
    }
    rows.finish()?;
    Ok(Exit::Done)
}

fn check(sources: &Sources, output: &Output) -> Result<Exit, Error> {
    let sources = Sources {
        need: Need::Everything,
        ..sources.clone()
    };
    let (faults, warnings, accounts) = match Config::load(&sources) {
        Ok((config, warnings)) if config.accounts.is_empty() => (vec![accounts::none_configured()], warnings, 0),
        Ok((config, warnings)) => (Vec::new(), warnings, config.accounts.len()),
        Err(found) => (found.faults().to_vec(), found.warnings().to_vec(), 0),
    };
    let found = faults.iter().map(|fault| ("fault", fault));
    let also = warnings.iter().map(|Warning(warning)| ("warning", warning));
    write(found.chain(also), output)?;
    if faults.is_empty() {
        say(&format!("the settings are in order ({})", accounts::in_words(accounts)));
        Ok(Exit::Done)
    } else {
        Ok(Exit::CheckTripped)
    }
}

/// For people what is wrong on a line and what to do on the next, because beside each other neither can be read.
fn write<'a>(found: impl Iterator<Item = (&'a str, &'a Fault)>, output: &Output) -> Result<(), Error> {
    if output.format == Format::Table {
        let mut stdout = std::io::stdout().lock();
        for (level, fault) in found {
            // A file's own words may stand in it.
            let wrong = Cell::from(fault.wrong_at()).for_people();
            writeln!(stdout, "{level:7}  {wrong}")?;
            if !fault.fix.is_empty() {
                writeln!(stdout, "{:9}→ {}", "", fault.fix)?;
            }
        }
        return Ok(());
    }
    let mut rows = output.rows(&[
        Column::text("level"),
        Column::text("place"),
        Column::id("key"),
        Column::text("wrong"),
        Column::text("fix"),
    ])?;
    for (level, fault) in found {
        rows.row(&row(level, fault))?;
    }
    rows.finish().map(drop)
}

fn row(level: &str, fault: &Fault) -> [Cell; 5] {
    [
        level.into(),
        fault.place.to_string().into(),
        fault.key.as_str().into(),
        fault.wrong.as_str().into(),
        fault.fix.as_str().into(),
    ]
}

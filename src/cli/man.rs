//! `man`: manual pages.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Command;

use super::CommandLine;
use super::output::{Error, Exit, say};

/// Writes manual pages: one to stdout, or all into a directory.
///
/// To read one: capture man replay | man -l -. To install: capture man --dir /usr/local/share/man/man1
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The verb, with its own verb if it has some, such as lane pause; without it the page of capture
    #[arg(value_name = "VERB", num_args = 0..=2, conflicts_with = "dir")]
    verb: Vec<String>,
    /// Write every page into this directory
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<Exit, Error> {
    let mut definition = CommandLine::definition();
    definition.build();
    match &args.dir {
        Some(directory) => {
            std::fs::create_dir_all(directory)?;
            let pages = write_all(&definition, "capture", directory)?;
            say(&format!("{pages} pages in {}", directory.display()));
        }
        None => {
            let mut name = "capture".to_owned();
            let mut command = &definition;
            for verb in &args.verb {
                command = command.find_subcommand(verb).ok_or_else(|| {
                    Error::usage(format!("there is no '{name} {verb}'")).hint("capture --help shows the verbs")
                })?;
                name = format!("{name}-{}", command.get_name());
            }
            std::io::stdout().lock().write_all(&page(command, &name)?)?;
        }
    }
    Ok(Exit::Done)
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>, Error> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .render(&mut page)?;
    Ok(page)
}

fn write_all(command: &Command, name: &str, directory: &Path) -> Result<usize, Error> {
    std::fs::write(directory.join(format!("{name}.1")), page(command, name)?)?;
    let mut pages = 1;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        pages += write_all(verb, &format!("{name}-{}", verb.get_name()), directory)?;
    }
    Ok(pages)
}

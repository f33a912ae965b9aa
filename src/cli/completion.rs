//! `completion`: what a shell needs to complete this command line.

use std::io::Write;

use clap_complete::Shell;

use super::CommandLine;
use super::output::{Error, Exit};

/// Writes a completion script to stdout.
///
/// bash: capture completion bash > /etc/bash_completion.d/capture · zsh: capture completion zsh > "${fpath[1]}/_capture" ·
/// fish: capture completion fish > ~/.config/fish/completions/capture.fish
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs it.
pub fn run(args: &Args) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::definition(), "capture", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}

//! `dev`: something to develop against. (In the making.)

use super::context::Context;
use super::output::{Error, Exit};

/// A private Postgres, the three providers and a worker, until Ctrl-C
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub async fn run(_: Args, _: &Context) -> Result<Exit, Error> {
    Ok(Exit::Done)
}

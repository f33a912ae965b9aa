//! `--watch`: the same page drawn anew until Ctrl-C.

use std::io::{BufWriter, Write};
use std::time::Duration;

use super::context::Context;
use super::output::{Error, Exit, Format};

/// Moves the cursor home and clears the screen behind it.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// `--watch`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WatchArgs {
    /// Draw anew every 2 s, or so often, on a terminal, until Ctrl-C
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = every)]
    watch: Option<Duration>,
}

/// How often: from half a second to an hour.
pub fn every(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).ok();
    span.filter(|span| (Duration::from_millis(500)..=Duration::from_secs(3600)).contains(span))
        .ok_or_else(|| "write how often, from 500ms to 1h, such as 2s".to_owned())
}

impl WatchArgs {
    /// Refuses to watch where nobody looks; asked first, before the database is.
    pub fn check(&self, context: &Context) -> Result<(), Error> {
        match self.watch.is_some() && !(context.output.terminal && context.output.format == Format::Table) {
            true => Err(Error::usage("--watch needs a terminal and the form table")
                .hint("for programs, ask again and again, or scrape /metrics of a worker")),
            false => Ok(()),
        }
    }

    /// Is it drawn again and again?
    pub fn is_on(&self) -> bool {
        self.watch.is_some()
    }

    /// Draws once, or again and again. A drawing must not be half on the screen when it fails, so it is written whole.
    pub async fn run(
        &self,
        context: &Context,
        mut draw: impl AsyncFnMut(&mut Vec<u8>) -> Result<Exit, Error>,
    ) -> Result<Exit, Error> {
        let Some(every) = self.watch else {
            let mut page = Vec::new();
            let drawn = draw(&mut page).await;
            let mut stdout = BufWriter::new(std::io::stdout().lock());
            stdout.write_all(&page)?;
            stdout.flush()?;
            return drawn;
        };
        self.check(context)?;
        loop {
            let mut page = Vec::new();
            match draw(&mut page).await {
                Ok(_) => {}
                // A watch outlives a fail-over; it says so instead of the last numbers.
                Err(error) if error.exit == Exit::Unreachable => {
                    page.clear();
                    writeln!(page, "{error}")?;
                }
                Err(error) => return Err(error),
            }
            {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(CLEAR.as_bytes())?;
                stdout.write_all(&page)?;
                stdout.flush()?;
            }
            tokio::time::sleep(every).await;
        }
    }
}

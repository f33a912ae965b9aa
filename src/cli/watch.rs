//! `--watch`: the same page drawn anew until Ctrl-C; for programs one JSON document a line.

use std::io::{BufWriter, Write};
use std::time::Duration;

use super::context::Context;
use super::output::{Error, Exit, Format, say};

/// Moves the cursor home and clears the screen behind it.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// `--watch`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WatchArgs {
    /// Draw anew every 2 s, or so often, on a terminal, until Ctrl-C; with -o json write a document a line
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
        let looked_at = match context.output.format {
            Format::Table => context.output.terminal,
            Format::Json => true,
            // Their pages have no end that a reader could tell.
            Format::Ndjson | Format::Csv | Format::Id => false,
        };
        match self.watch.is_some() && !looked_at {
            true => Err(Error::usage("--watch needs a terminal and the form table, or -o json")
                .hint("for programs -o json writes one document a line")),
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
                Ok(_) => write(page, context.output.format)?,
                // A watch outlives a fail-over; it says so instead of the last numbers.
                Err(error) if error.exit == Exit::Unreachable => match context.output.format {
                    Format::Table => write(format!("{error}\n").into_bytes(), Format::Table)?,
                    Format::Json | Format::Ndjson | Format::Csv | Format::Id => say(&error.to_string()),
                },
                Err(error) => return Err(error),
            }
            tokio::time::sleep(every).await;
        }
    }
}

/// One page, whole.
fn write(mut page: Vec<u8>, format: Format) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    match format {
        Format::Json => {
            // Between its tokens only: within a text JSON has no bare line break.
            page.retain(|byte| *byte != b'\n');
            page.push(b'\n');
        }
        Format::Table | Format::Ndjson | Format::Csv | Format::Id => stdout.write_all(CLEAR.as_bytes())?,
    }
    stdout.write_all(&page)?;
    stdout.flush()?;
    Ok(())
}

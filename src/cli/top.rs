//! `top`: lanes, money at risk, workers and operations, alive on the terminal.

mod frame;
mod screen;

use std::io::Write;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::context::Context;
use super::output::{Error, Exit, Format};
use super::watch::every;

use frame::{Figures, lines};
use screen::Screen;

/// A live view of lanes, money at risk, workers and operations; q or Ctrl-C ends it.
///
/// Where stdout is no terminal one frame is written. Rates are what was captured in the last minute.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often it is read anew
    #[arg(long, value_name = "SPAN", default_value = "2s", value_parser = every)]
    every: Duration,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    if context.output.format != Format::Table {
        return Err(Error::usage("top is for people").hint("capture status -o json has the same figures for programs"));
    }
    let outbox = context.outbox().await?;
    if !context.output.terminal {
        let frame = lines(&Figures::read(&outbox).await?, &outbox, &context.output)?;
        let mut stdout = std::io::stdout().lock();
        for line in frame {
            writeln!(stdout, "{line}")?;
        }
        return Ok(Exit::Done);
    }
    let watch = |kind| signal(kind).map_err(|error| Error::failed(format!("signals cannot be listened to: {error}")));
    let (mut resized, mut terminated) = (watch(SignalKind::window_change())?, watch(SignalKind::terminate())?);
    let screen = Screen::open()?;
    let mut known: Option<Figures> = None;
    loop {
        let next = tokio::select! {
            read = Figures::read(&outbox) => read,
            () = screen.left() => return Ok(Exit::Done),
            () = context.interrupted.cancelled() => return Ok(Exit::Interrupted),
            _ = terminated.recv() => return Ok(Exit::Interrupted),
        };
        let trouble = match next {
            Ok(figures) => {
                known = Some(figures);
                None
            }
            // It outlives a fail-over: the last figures stay, and it says that they are old.
            Err(error) if error.exit == Exit::Unreachable => Some(error.message),
            Err(error) => return Err(error),
        };
        let again = tokio::time::sleep(args.every);
        tokio::pin!(again);
        loop {
            let output = screen.output(&context.output);
            let mut frame = match &known {
                Some(figures) => lines(figures, &outbox, &output)?,
                None => Vec::new(),
            };
            if let Some(trouble) = &trouble {
                frame.insert(0, format!("these figures are old: {trouble}"));
            }
            screen.draw(&frame)?;
            tokio::select! {
                () = &mut again => break,
                _ = resized.recv() => {}
                () = screen.left() => return Ok(Exit::Done),
                () = context.interrupted.cancelled() => return Ok(Exit::Interrupted),
                _ = terminated.recv() => return Ok(Exit::Interrupted),
            }
        }
    }
}

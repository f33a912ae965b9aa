//! Telling what happens, line by line, as it happens.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::cli::output::may_colour;
use crate::config::Environment;
use crate::intent::{Currency, Money};

/// What a line is about; decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Something goes wrong, on purpose.
    Trouble,
    /// Something was mended.
    Good,
    /// Numbers.
    Quiet,
}

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    Stdout,
    /// Stdout is for the data.
    Stderr,
}

/// The story. Cheap to clone.
#[derive(Clone)]
pub(super) struct Story(Arc<Told>);

struct Told {
    began: Instant,
    place: Where,
    colour: bool,
    progress: ProgressBar,
    /// Lines are whole, and in the order of their times.
    turn: Mutex<()>,
    /// Nobody reads any more.
    unheard: CancellationToken,
}

impl Story {
    /// Times count from now.
    pub(super) fn begin(place: Where, environment: &Environment) -> Story {
        let colour = match place {
            Where::Stdout => may_colour(&io::stdout(), environment),
            Where::Stderr => may_colour(&io::stderr(), environment),
        };
        let progress = ProgressBar::hidden();
        if io::stderr().is_terminal() && environment.get("TERM") != Some("dumb") {
            progress.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        }
        if let Ok(style) = ProgressStyle::with_template("  {bar:20} {wide_msg}") {
            progress.set_style(style);
        }
        Story(Arc::new(Told {
            began: Instant::now(),
            place,
            colour,
            progress,
            turn: Mutex::new(()),
            unheard: CancellationToken::new(),
        }))
    }

    /// Since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Resolves when the reader of the story has gone.
    pub(super) async fn unheard(&self) {
        self.0.unheard.cancelled().await;
    }

    pub(super) fn tell(&self, tone: Tone, line: impl AsRef<str>) {
        let turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{:>6}  {}", seconds(self.elapsed()), line.as_ref());
        let line = match (self.0.colour, tone) {
            (false, _) | (true, Tone::Plain) => line,
            (true, Tone::Trouble) => format!("\u{1b}[33m{line}\u{1b}[0m"),
            (true, Tone::Good) => format!("\u{1b}[32m{line}\u{1b}[0m"),
            (true, Tone::Quiet) => format!("\u{1b}[2m{line}\u{1b}[0m"),
        };
        let written = self.0.progress.suspend(|| match self.0.place {
            Where::Stdout => writeln!(io::stdout().lock(), "{line}"),
            Where::Stderr => writeln!(io::stderr().lock(), "{line}"),
        });
        drop(turn);
        if written.is_err() && self.0.place == Where::Stdout {
            self.0.unheard.cancel();
        }
    }

    /// The line that is written over and over, on a terminal.
    pub(super) fn progress(&self, done: u64, of: u64, says: String) {
        self.0.progress.set_length(of);
        self.0.progress.set_position(done.min(of));
        self.0.progress.set_message(says);
    }

    /// No more of that line.
    pub(super) fn end_progress(&self) {
        self.0.progress.finish_and_clear();
    }
}

/// `12.4s`.
pub(super) fn seconds(span: Duration) -> String {
    format!("{}.{}s", span.as_secs(), span.subsec_millis() / 100)
}

/// `1 call`, `3 calls`.
pub(super) fn counted(count: impl TryInto<u64>, what: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    }
}

/// `18,233.50 USD`.
pub(super) fn amount(minor: i64, currency: &str) -> String {
    let Some(currency) = Currency::from_code(currency) else {
        return format!("{minor} {currency}");
    };
    let decimal = Money::new(minor, currency).decimal();
    let (whole, rest) = decimal.split_at(decimal.find('.').unwrap_or(decimal.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest} {}", currency.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_decimals_with_their_currency_and_thousands_apart() {
        assert_eq!(amount(1_823_350, "USD"), "18,233.50 USD");
        assert_eq!(amount(5, "USD"), "0.05 USD");
        assert_eq!(amount(123_456_789, "JPY"), "123,456,789 JPY");
        assert_eq!(amount(-100_000, "AUD"), "-1,000.00 AUD");
        assert_eq!(amount(99_999, "USD"), "999.99 USD");
    }

    #[test]
    fn times_and_counts_read_well() {
        assert_eq!(seconds(Duration::from_millis(12_449)), "12.4s");
        assert_eq!(counted(1_u32, "call"), "1 call");
        assert_eq!(counted(0_u32, "call"), "0 calls");
    }
}

//! How far a run is, for whoever watches it.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One line that moves, on a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(seconds: u64) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(seconds);
        if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} {bar:20} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress(bar)
    }

    pub fn trouble(&self, elapsed: Duration, inserted: u64, orders: u64, faults: u64) {
        self.0.set_position(elapsed.as_secs());
        self.0
            .set_message(format!("{inserted} of {orders} orders, {faults} faults"));
    }

    pub fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

//! How far a run is, for whoever watches it.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::stage::locked;

/// Where there is no terminal, a line comes this often.
const EVERY: Duration = Duration::from_secs(10);

/// One line that moves, on a terminal; elsewhere a line now and then.
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    /// When the last line came, where lines come.
    told: Mutex<Option<Instant>>,
}

impl Progress {
    pub fn new(seconds: u64) -> Progress {
        let progress = |bar| Progress {
            bar,
            began: Instant::now(),
            told: Mutex::default(),
        };
        if !std::io::stderr().is_terminal() {
            return progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(seconds);
        if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} {bar:20} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        progress(bar)
    }

    pub fn trouble(&self, elapsed: Duration, inserted: u64, orders: u64, faults: u64) {
        self.bar.set_position(elapsed.as_secs());
        self.say(&format!("{inserted} of {orders} orders, {faults} faults"));
    }

    pub fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        let mut told = locked(&self.told);
        if self.bar.is_hidden() && told.is_none_or(|told| told.elapsed() >= EVERY) {
            *told = Some(Instant::now());
            eprintln!("{:>5} s  {what}", self.began.elapsed().as_secs());
        }
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

//! `[worker]`: how a worker claims, sends and drains.

use std::time::Duration;

use super::reader::{Key, Reader};

/// `[worker]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerConfig {
    /// How long a claim may keep its intents before others verify them. Default 120 s: the longest call (10 s + 70 s), 5 s
    /// of margin, and 35 s in which a claimed intent may wait for its turn. Longer: after a crash money of unknown outcome
    /// is looked at later. Shorter than the longest call and 5 s is refused. 1 s to 1 h.
    pub lease: Duration,
    /// How long a connection to a provider may take to stand. Default 10 s: what Afterpay documents; nothing has been sent
    /// before it stands, so waiting longer buys nothing. 10 ms to 1 min.
    pub connect_timeout: Duration,
    /// How long an answer may take after the send. Default 70 s: what Afterpay documents. A shorter one turns slow
    /// successes into unknown outcomes. 10 ms to 5 min.
    pub read_timeout: Duration,
    /// How long a stopping worker waits for its calls. Default 90 s: the longest call (80 s), 5 s of margin, and time to
    /// settle. Give the process at least as long before it is killed. 0 s to 1 h.
    pub drain_timeout: Duration,
    /// How long results are gathered before they are settled in one commit, where 32 intents or more of their lanes are in
    /// hand (with fewer those that came while the last commit was on its way). Default 10 ms: one fsync for many results at
    /// a delay that nobody sees beside a call of half a second. 0 (settle each at once) to 1 s.
    pub settle_window: Duration,
    /// The pause between two looks for work that found none, of a worker that was just busy (an eighth of it at first, then
    /// growing up to it) or that cannot be notified (from it, growing to 250 ms). One that lies down is notified at once.
    /// Default 10 ms: claims of a busy worker take a few intents at once, and none waits for long. 1 ms to 10 s.
    pub poll_min: Duration,
    /// The longest pause between two looks. Default 5 s: the back-stop for a wake-up that was lost. 10 ms to 1 min.
    pub poll_max: Duration,
    /// The most intents that one claim takes. Default 500: beyond it a claim's cost per intent hardly falls, and its lease
    /// row grows. 1 to 1000.
    pub batch: u32,
    /// How long before an authorisation's deadline the last send may start. Default 15 min: a call, a settle and a
    /// verification fit in it many times over, so that the outcome is known before the money is gone. 0 s to 24 h.
    pub deadline_margin: Duration,
    /// Start although the server runs with `fsync`, `full_page_writes` or `synchronous_commit` off. Default false: such a
    /// server may forget a claim that was already sent, and the money moves twice. Only for tests.
    pub allow_lost_commits: bool,
}

impl WorkerConfig {
    /// What a call may take in all: connect, read, and 5 s for everything around them.
    pub fn longest_call(&self) -> Duration {
        self.connect_timeout
            .saturating_add(self.read_timeout)
            .saturating_add(CALL_MARGIN)
    }
}

/// What a call takes beside connecting and reading: building, sending, pauses of the scheduler.
const CALL_MARGIN: Duration = Duration::from_secs(5);

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>) -> WorkerConfig {
    let (ms, s, h) = (Duration::from_millis, Duration::from_secs, |hours: u64| {
        Duration::from_secs(hours * 3600)
    });
    WorkerConfig {
        lease: reader.duration("worker.lease", s(120), s(1)..=h(1)),
        connect_timeout: reader.duration("worker.connect_timeout", s(10), ms(10)..=s(60)),
        read_timeout: reader.duration("worker.read_timeout", s(70), ms(10)..=s(300)),
        drain_timeout: reader.duration("worker.drain_timeout", s(90), s(0)..=h(1)),
        settle_window: reader.duration("worker.settle_window", ms(10), s(0)..=s(1)),
        poll_min: reader.duration("worker.poll_min", ms(10), ms(1)..=s(10)),
        poll_max: reader.duration("worker.poll_max", s(5), ms(10)..=s(60)),
        batch: reader.integer(&Key::of("worker.batch"), 500, 1..=1000),
        deadline_margin: reader.duration("worker.deadline_margin", s(15 * 60), s(0)..=h(24)),
        allow_lost_commits: reader.boolean(&Key::of("worker.allow_lost_commits"), false),
    }
}

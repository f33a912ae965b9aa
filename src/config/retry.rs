//! `[retry]`: when what failed is tried again.

use std::time::Duration;

use super::reader::{Key, Reader};

/// `[retry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryConfig {
    /// The pause after the first failure. Default 2 s: longer than a blip, shorter than anybody waits. 10 ms to 1 h.
    pub initial: Duration,
    /// By how much each pause is longer than the one before, in thousandths. Default 2000 (in the file `2`): doubling. From
    /// 1000 (`1`: always the same pause) to 10000.
    pub multiplier_thousandths: u32,
    /// The longest pause, also between two looks at a capture that a provider took and has not settled. Default 15 min: an
    /// outage that ends is noticed soon, and 12 attempts reach over an hour. 10 ms to 24 h.
    pub max: Duration,
    /// How many captures are sent for one intent before a person decides. Default 12: with the pauses above somewhat
    /// over an hour of trouble. Waits that the provider asks for do not count. 1 to 1000.
    pub attempts: u32,
    /// The least time between two reads that must both show nothing before "not captured" is believed. Default 10 min:
    /// providers' reads may lag behind a capture, by an unknown time. Above 0, at most 24 h; under 1 min is warned of.
    pub verify_quiet: Duration,
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>) -> RetryConfig {
    let (ms, s, h) = (Duration::from_millis, Duration::from_secs, |hours: u64| {
        Duration::from_secs(hours * 3600)
    });
    RetryConfig {
        initial: reader.duration("retry.initial", s(2), ms(10)..=h(1)),
        multiplier_thousandths: reader.thousandths("retry.multiplier", 2000, 1000..=10_000),
        max: reader.duration("retry.max", s(15 * 60), ms(10)..=h(24)),
        attempts: reader.integer(&Key::of("retry.attempts"), 12, 1..=1000),
        verify_quiet: reader.duration("retry.verify_quiet", s(600), ms(1)..=h(24)),
    }
}

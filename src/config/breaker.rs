//! `[breaker]`: when a lane stops sending because the provider does not answer.

use std::time::Duration;

use super::reader::{Key, Reader};

/// `[breaker]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerConfig {
    /// How many calls in a row without an answer of the provider open the breaker. Default 20: fewer happen by chance with
    /// 32 calls in flight. A refusal is an answer. 1 to 10000.
    pub failures: u32,
    /// How long it stays open before one call is tried. Default 5 s. 10 ms to 1 h.
    pub open: Duration,
    /// The longest it stays open, after failed trials. Default 60 s: a provider that is back is noticed within a minute.
    /// 10 ms to 24 h.
    pub open_max: Duration,
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>) -> BreakerConfig {
    let (ms, s, h) = (Duration::from_millis, Duration::from_secs, |hours: u64| {
        Duration::from_secs(hours * 3600)
    });
    BreakerConfig {
        failures: reader.integer(&Key::of("breaker.failures"), 20, 1..=10_000),
        open: reader.duration("breaker.open", s(5), ms(10)..=h(1)),
        open_max: reader.duration("breaker.open_max", s(60), ms(10)..=h(24)),
    }
}

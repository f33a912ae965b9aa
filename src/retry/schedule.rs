//! How long to wait: the settings, the ceilings that grow with the attempts, and the jitter below them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Situation;

/// The settings of retry and verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Ceiling of the first delay. Default 2 s: most brown-outs are shorter.
    pub initial: Duration,
    /// By how much the ceiling grows with each attempt, in thousandths. Default 2000 (doubles).
    pub multiplier_thousandths: u32,
    /// The largest ceiling. Default 15 min: several tries fit in the shortest authorisation seen (36 h).
    pub max: Duration,
    /// Capture POSTs that may be spent. Default 12.
    pub attempts: i16,
    /// Least time between two quiet reads. Default 10 min: reads may come from a search index that lags.
    pub verify_quiet: Duration,
    /// How long before the authorisation ends we stop sending. Default 15 min.
    pub deadline_margin: Duration,
    /// What one call may take in all. Default 85 s (connect 10, read 70, and 5 around them). A request whose answer we did
    /// not get, however early the connection broke, may be executed until then.
    pub longest_call: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            initial: Duration::from_secs(2),
            multiplier_thousandths: 2000,
            max: Duration::from_secs(15 * 60),
            attempts: 12,
            verify_quiet: Duration::from_secs(10 * 60),
            deadline_margin: Duration::from_secs(15 * 60),
            longest_call: Duration::from_secs(85),
        }
    }
}

/// The bounds put on what a provider asks us to wait.
pub const RETRY_AFTER_LEAST: Duration = Duration::from_secs(1);
/// See [`RETRY_AFTER_LEAST`].
pub const RETRY_AFTER_MOST: Duration = Duration::from_secs(3600);
/// What we wait when a provider says 429 and not for how long.
pub const RATE_LIMITED_DEFAULT: Duration = Duration::from_secs(30);

/// A delay: exact, or drawn with full jitter from nothing up to a ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Not at all.
    None,
    /// Just so long.
    Exactly(Duration),
    /// Full jitter: anything up to this, so that many that failed together do not come back together.
    UpTo(Duration),
}

impl Wait {
    /// The delay to use now. Randomness lives here and nowhere else in this module.
    pub fn draw(self) -> Duration {
        match self {
            Wait::None => Duration::ZERO,
            Wait::Exactly(delay) => delay,
            Wait::UpTo(ceiling) => full_jitter(ceiling),
        }
    }
}

/// Uniform in [0, ceiling]. The crate draws from `interval ± factor × interval`: half the ceiling, and a factor of one.
fn full_jitter(ceiling: Duration) -> Duration {
    #[cfg(feature = "proof")]
    if let Some(simulated) = crate::simulated::up_to(ceiling) {
        return simulated;
    }
    use backoff::backoff::Backoff;
    let half = ceiling / 2;
    let mut schedule = backoff::ExponentialBackoff {
        current_interval: half,
        initial_interval: half,
        randomization_factor: 1.0,
        multiplier: 1.0,
        max_interval: half,
        // The crate gives up after 15 minutes by default; giving up is decided here, by attempts and deadline.
        max_elapsed_time: None,
        ..backoff::ExponentialBackoff::default()
    };
    schedule.next_backoff().unwrap_or(ceiling).min(ceiling)
}

/// A duration on the wall clock, saturating.
pub fn delta(span: Duration) -> TimeDelta {
    TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX)
}

/// That long after an instant, or the end of time.
pub fn later(at: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    at.checked_add_signed(delta(span)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The ceiling of the delay before the attempt after `attempts` failed ones. Never nothing, and never less than before.
pub fn ceiling(policy: &Policy, attempts: i16) -> Duration {
    let mut ms = policy.initial.as_millis().max(1);
    let most = policy.max.as_millis().max(1);
    for _ in 1..attempts.clamp(1, 64) {
        ms = ms.saturating_mul(u128::from(policy.multiplier_thousandths.max(1000))) / 1000;
        if ms >= most {
            break;
        }
    }
    Duration::from_millis(u64::try_from(ms.min(most)).unwrap_or(u64::MAX))
}

/// A wait that would sleep past the last send is cut to half of what is left, so that one more try fits; but
/// not to less than a second, or the last tries would fall over each other.
pub(crate) fn before_deadline(wait: Wait, situation: &Situation<'_>) -> Wait {
    let Some(last) = situation.last_send() else { return wait };
    let left = (last - situation.now).to_std().unwrap_or_default() / 2;
    let left = left.max(Duration::from_secs(1));
    match wait {
        Wait::None => Wait::None,
        Wait::Exactly(delay) => Wait::Exactly(delay.min(left)),
        Wait::UpTo(ceiling) => Wait::UpTo(ceiling.min(left)),
    }
}

/// What a provider asked us to wait, within [`RETRY_AFTER_LEAST`] and [`RETRY_AFTER_MOST`].
pub fn clamp_retry_after(asked: Option<Duration>) -> Duration {
    asked
        .unwrap_or(RATE_LIMITED_DEFAULT)
        .clamp(RETRY_AFTER_LEAST, RETRY_AFTER_MOST)
}

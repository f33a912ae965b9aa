//! What follows from an attempt: pure, but for the draw of the jitter.

use std::time::Duration;

use crate::outbox::DeliveryResult;
use crate::retry::{Policy, Wait, ceiling, clamp_retry_after};

use super::Settings;

/// What an attempt told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// An answer came.
    Status {
        /// Its status.
        status: u16,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// No answer came in time.
    Timeout,
    /// No connection, or it broke.
    Unreachable,
    /// The URL, or what its name stands for, is nothing we send to.
    Forbidden,
    /// It was given up for others: too many messages wait for slow answers.
    Crowded,
    /// There is no event any more.
    Pruned,
    /// It could not be written, or no secret is there to sign it.
    Unsendable,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// With the delivery.
    pub result: DeliveryResult,
    /// In a word of a closed set: what is counted, and shown.
    pub code: &'static str,
    /// Until the next try of this delivery.
    pub wait: Wait,
    /// Until anything goes to this endpoint; `None`: nothing is in the way.
    pub endpoint_wait: Option<Wait>,
    /// Did the endpoint fail to do its duty? What is our own doing is not its fault.
    pub failure: bool,
}

/// So many failures in a row, and an endpoint is left in peace for a while.
const CIRCUIT: i32 = 5;
/// For how long at first, and at most: one that is back is noticed within minutes.
const PEACE: Duration = Duration::from_secs(5);
const PEACE_MOST: Duration = Duration::from_secs(300);

fn ceiling_of(initial: Duration, max: Duration, attempts: i32) -> Duration {
    let policy = Policy {
        initial,
        max,
        ..Policy::default()
    };
    ceiling(&policy, i16::try_from(attempts).unwrap_or(i16::MAX))
}

/// Judges an attempt. `attempts`: of this delivery, before it; `failures`: of this endpoint, in a row, before it.
pub fn judge(answer: Answer, attempts: i32, failures: i32, settings: &Settings) -> Verdict {
    let later = Wait::UpTo(ceiling_of(
        settings.retry_initial,
        settings.retry_max,
        attempts.saturating_add(1),
    ));
    let failures = failures.saturating_add(1);
    let peace = (failures >= CIRCUIT).then(|| {
        let ceiling = ceiling_of(PEACE, PEACE_MOST, failures.saturating_sub(CIRCUIT).saturating_add(1));
        Wait::UpTo(ceiling)
    });
    let failed = |code| Verdict {
        result: DeliveryResult::Retry,
        code,
        wait: later,
        endpoint_wait: peace,
        failure: true,
    };
    match answer {
        Answer::Status { status: 200..=299, .. } => Verdict {
            result: DeliveryResult::Delivered,
            code: "delivered",
            wait: Wait::None,
            endpoint_wait: None,
            failure: false,
        },
        Answer::Status { status: 410, .. } => Verdict {
            result: DeliveryResult::Gone,
            ..failed("gone")
        },
        Answer::Status {
            status: 429 | 503,
            retry_after,
        } => {
            // It says when: then nothing else goes there before, whatever our schedule says.
            let code = "asked_to_wait";
            match retry_after {
                None => failed(code),
                asked => {
                    let wait = Wait::Exactly(clamp_retry_after(asked));
                    Verdict {
                        wait,
                        endpoint_wait: Some(wait),
                        ..failed(code)
                    }
                }
            }
        }
        Answer::Status { status: 300..=399, .. } => failed("redirect"),
        Answer::Status { .. } => failed("refused"),
        Answer::Timeout => failed("timeout"),
        Answer::Unreachable => failed("unreachable"),
        Answer::Forbidden => failed("forbidden_address"),
        Answer::Crowded => Verdict {
            endpoint_wait: None,
            failure: false,
            ..failed("crowded")
        },
        Answer::Unsendable => Verdict {
            endpoint_wait: None,
            failure: false,
            ..failed("unsendable")
        },
        Answer::Pruned => Verdict {
            result: DeliveryResult::Dropped,
            code: "event_pruned",
            wait: Wait::None,
            endpoint_wait: None,
            failure: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(answer: Answer, attempts: i32, failures: i32) -> Verdict {
        judge(answer, attempts, failures, &Settings::default())
    }

    fn status(status: u16, retry_after: Option<u64>) -> Answer {
        Answer::Status {
            status,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn only_two_hundreds_are_done_and_only_410_is_gone() {
        for code in 100..=599 {
            let verdict = judged(status(code, None), 0, 0);
            let expected = match code {
                200..=299 => DeliveryResult::Delivered,
                410 => DeliveryResult::Gone,
                _ => DeliveryResult::Retry,
            };
            assert_eq!(verdict.result, expected, "{code}");
            assert_eq!(verdict.failure, expected != DeliveryResult::Delivered, "{code}");
        }
    }

    #[test]
    fn the_schedule_doubles_to_its_ceiling_and_spans_days() {
        let settings = Settings::default();
        let ceilings: Vec<u64> = (0..40)
            .map(|attempts| match judged(Answer::Timeout, attempts, 0).wait {
                Wait::UpTo(ceiling) => ceiling.as_secs(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ceilings[..5], [5, 10, 20, 40, 80]);
        assert!(ceilings.iter().all(|ceiling| *ceiling <= settings.retry_max.as_secs()));
        // On average half of each ceiling passes: so many attempts fit in the time before a delivery is given up.
        let mut passed = 0;
        let attempts = ceilings.iter().take_while(|ceiling| {
            passed += **ceiling / 2;
            passed < settings.give_up_after.as_secs()
        });
        assert!(attempts.count() > 20, "{ceilings:?}");
    }

    #[test]
    fn what_an_endpoint_asks_for_is_kept_to_within_bounds_and_by_everything_that_goes_there() {
        for (asked, given) in [(0, 1), (7, 7), (100_000, 3600)] {
            for code in [429, 503] {
                let verdict = judged(status(code, Some(asked)), 0, 0);
                let wait = Wait::Exactly(Duration::from_secs(given));
                assert_eq!((verdict.wait, verdict.endpoint_wait), (wait, Some(wait)));
            }
        }
        // Others may not ask.
        assert_eq!(judged(status(500, Some(7)), 0, 0).endpoint_wait, None);
    }

    #[test]
    fn an_endpoint_that_fails_again_and_again_is_left_in_peace_longer_and_longer() {
        let peace = |failures| judged(Answer::Timeout, 0, failures).endpoint_wait;
        assert_eq!(peace(3), None);
        assert_eq!(peace(4), Some(Wait::UpTo(Duration::from_secs(5))));
        assert_eq!(peace(5), Some(Wait::UpTo(Duration::from_secs(10))));
        assert_eq!(peace(1000), Some(Wait::UpTo(Duration::from_secs(300))));
    }

    #[test]
    fn what_is_our_own_doing_is_not_the_endpoints_fault() {
        for answer in [Answer::Crowded, Answer::Unsendable, Answer::Pruned] {
            let verdict = judged(answer, 0, 100);
            assert!(!verdict.failure && verdict.endpoint_wait.is_none(), "{answer:?}");
        }
    }
}

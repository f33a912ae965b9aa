//! Asking providers what they know, for people who look at the console. Only reads.
//!
//! A provider may hang, and its rate is meant for captures: so few are asked at once, few in a minute, and a page waits for
//! all of them together no longer than a person would. While it waits it holds no connection to the database.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::intent::Lane;
use crate::operations::{self, ProvidersByLane, Told};
use crate::outbox::{CaptureRow, Outbox, OutboxError};

/// Captures of one page that are asked about.
const MOST_CAPTURES: usize = 20;
/// How long a page waits for the answers, all in all.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// Pages that ask at once.
const MOST_AT_ONCE: usize = 4;
/// Captures of one account that are asked about in a minute: beside a limit of 100 calls a minute, few.
const PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();

/// What asks.
pub struct Inquiry {
    providers: ProvidersByLane,
    turns: Semaphore,
    limiter: DefaultKeyedRateLimiter<Lane>,
}

/// Not the providers: they hold credentials.
impl fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inquiry").finish_non_exhaustive()
    }
}

/// What was told.
#[derive(Debug, Default)]
pub struct Answers {
    /// By capture.
    pub told: BTreeMap<Uuid, Told>,
    /// Why not all were asked, or none.
    pub banner: Option<String>,
}

impl Answers {
    fn nothing(banner: impl Into<String>) -> Answers {
        Answers {
            told: BTreeMap::new(),
            banner: Some(banner.into()),
        }
    }
}

impl Inquiry {
    /// Of these providers.
    pub fn new(providers: ProvidersByLane) -> Inquiry {
        Inquiry {
            providers,
            turns: Semaphore::new(MOST_AT_ONCE),
            limiter: RateLimiter::keyed(Quota::per_minute(PER_MINUTE)),
        }
    }

    /// Can the provider of this account be asked?
    pub fn knows(&self, provider: &str, account: &str) -> bool {
        self.providers.contains_key(&Lane {
            provider: provider.to_owned(),
            account: account.to_owned(),
        })
    }

    /// Asks about these captures, one after the other.
    pub async fn about(&self, outbox: &Outbox, captures: &[&CaptureRow]) -> Result<Answers, OutboxError> {
        let known = |capture: &&&CaptureRow| self.knows(&capture.provider, &capture.account);
        let known: Vec<&CaptureRow> = captures.iter().filter(known).copied().collect();
        if known.is_empty() {
            return Ok(Answers::nothing(NO_CREDENTIALS));
        }
        let Ok(_turn) = self.turns.try_acquire() else {
            return Ok(Answers::nothing(
                "others ask their providers just now; ask again in a moment",
            ));
        };
        let until = Instant::now() + LONGEST_WAIT;
        let mut answers = Answers::default();
        for capture in known.iter().take(MOST_CAPTURES) {
            let lane = Lane {
                provider: capture.provider.clone(),
                account: capture.account.clone(),
            };
            if self.limiter.check_key(&lane).is_err() {
                answers.banner = Some(format!(
                    "{lane} was asked about {PER_MINUTE} captures within a minute, which is enough; ask again in a minute"
                ));
                break;
            }
            match timeout_at(until, operations::ask(outbox, &self.providers, capture)).await {
                Ok(told) => {
                    answers.told.insert(capture.id, told?);
                }
                Err(_) => {
                    let seconds = LONGEST_WAIT.as_secs();
                    answers.banner = Some(format!(
                        "{lane} did not answer within {seconds} s; that says nothing about the money"
                    ));
                    break;
                }
            }
        }
        if answers.banner.is_none() && known.len() < captures.len() {
            answers.banner = Some(format!("of some accounts {NO_CREDENTIALS}"));
        } else if answers.banner.is_none() && known.len() > MOST_CAPTURES {
            answers.banner = Some(format!(
                "only the first {MOST_CAPTURES} captures were asked about; capture order ORDER --ask asks about more"
            ));
        }
        Ok(answers)
    }
}

/// What a server says that cannot ask.
pub const NO_CREDENTIALS: &str =
    "this server has no provider credentials; where they are, run: capture order ORDER --ask";

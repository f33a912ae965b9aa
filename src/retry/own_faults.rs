//! Failures that are ours to fix, not the intent's fault: they spend no attempt, but they do not go on for ever either.

use std::time::Duration;

use super::{Policy, Wait, ceiling};
use crate::outcome::{Class, Failure};
use crate::progress::Progress;

/// After how many TLS failures (or firewall pages) in a row the lane is ours to fix.
pub const OWN_FAULTS_MOST: i16 = 3;

/// After how many tokens that were not taken: more than worker processes that may each hold an old one.
const TOKENS_MOST: i16 = 20;

/// Whether a failure is ours to fix, and what then.
pub(crate) enum Fault {
    /// No.
    NotOurs,
    /// Yes, but it may pass: again after the wait.
    Patience(Wait),
    /// Yes, and it did not pass: the lane stops.
    Pause,
}

/// Counts the failures in a row that are ours to fix. `progress.last_code` is still the one of the failure before.
pub(crate) fn own_fault(failure: &Failure, progress: &mut Progress, policy: &Policy) -> Fault {
    let code = failure.code.as_str();
    let may_pass = match failure.class {
        Class::Transient => matches!(code, "token_expired" | "token_not_taken" | "tls"),
        // A firewall's page may be a passing mood of the firewall.
        Class::Misconfigured if code != "firewall" => return Fault::Pause,
        Class::Misconfigured => true,
        Class::RateLimited | Class::InProgress | Class::Ambiguous | Class::MaybeDone | Class::Rejected => false,
    };
    if !may_pass {
        progress.own_faults = 0;
        return Fault::NotOurs;
    }
    // A new token that is refused, and then another one, will be refused for ever. An old one says nothing of the kind.
    let in_vain = code == "token_not_taken" && progress.own_faults > 0 && progress.last_code.as_deref() == Some(code);
    progress.own_faults = progress.own_faults.saturating_add(1);
    let most = match code {
        "token_expired" | "token_not_taken" => TOKENS_MOST,
        _ => OWN_FAULTS_MOST,
    };
    if in_vain || progress.own_faults > most {
        return Fault::Pause;
    }
    let ceiling = ceiling(policy, progress.own_faults);
    Fault::Patience(match code {
        // A new token is minted at the next attempt: at once.
        "token_expired" | "token_not_taken" if progress.own_faults <= OWN_FAULTS_MOST => Wait::None,
        "firewall" => Wait::UpTo(ceiling.max(Duration::from_secs(30))),
        _ => Wait::UpTo(ceiling),
    })
}

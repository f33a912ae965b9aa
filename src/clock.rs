//! Time.
//!
//! Two clocks, never mixed. *When something is due* is decided by the database's `now()` alone: a worker whose wall clock
//! is wrong claims no earlier and no later than the others. *How long something took* is measured on [`Boottime`], the
//! machine's monotonic clock that goes on counting while the machine sleeps, so that a worker that was frozen or
//! suspended beyond its lease finds out before it sends.

use std::time::Duration;

/// An instant of the machine's monotonic clock that counts suspend (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boottime(Duration);

impl Boottime {
    /// The present instant.
    pub fn now() -> Boottime {
        #[cfg(feature = "proof")]
        if let Some(simulated) = crate::simulated::now() {
            return simulated;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let id = rustix::time::ClockId::Boottime;
        // Elsewhere the monotonic clock is the best there is; macOS stops it in sleep, so production is Linux.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let id = rustix::time::ClockId::Monotonic;
        let t = rustix::time::clock_gettime(id);
        let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(t.tv_nsec).unwrap_or(0);
        Boottime(Duration::new(seconds, nanos))
    }

    /// That long after the clock's origin.
    #[cfg(feature = "proof")]
    pub fn at(since_origin: Duration) -> Boottime {
        Boottime(since_origin)
    }

    /// This instant and `span` more, saturating.
    pub fn plus(self, span: Duration) -> Boottime {
        Boottime(self.0.saturating_add(span))
    }

    /// How long from `earlier` to this instant; zero if `earlier` is later.
    pub fn since(self, earlier: Boottime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Says until when a capture may be put on the wire.
///
/// A claim gives a lease of known length. The lease is counted here from an instant taken *before* the claim was sent to
/// the database, so this worker's idea of its end is never later than the database's. A capture POST may start only
/// while the rest of the lease is longer than the whole call may take; otherwise another worker could be verifying this
/// very intent while our request is still on its way.
#[derive(Debug, Clone, Copy)]
pub struct SendGuard {
    not_after: Boottime,
}

impl SendGuard {
    /// `claimed_from`: taken before the claim was sent. `lease`: what the claim asked for. `longest_call`: connect, read
    /// and margin together.
    pub fn new(claimed_from: Boottime, lease: Duration, longest_call: Duration) -> SendGuard {
        SendGuard {
            not_after: claimed_from.plus(lease.saturating_sub(longest_call)),
        }
    }

    /// The same, but not after that instant either.
    pub fn and_not_after(self, at: Boottime) -> SendGuard {
        SendGuard {
            not_after: self.not_after.min(at),
        }
    }

    /// May a capture still be sent at that moment?
    pub fn allows(&self, at: Boottime) -> bool {
        at < self.not_after || planted!(no_send_guard)
    }

    /// May a capture still be sent at this very moment?
    pub fn may_send(&self) -> bool {
        self.allows(Boottime::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_forbids_the_send_once_the_rest_of_the_lease_is_shorter_than_the_call() {
        let start = Boottime::now();
        let long = SendGuard::new(start, Duration::from_secs(120), Duration::from_secs(85));
        assert!(long.may_send());
        let over = SendGuard::new(start, Duration::from_secs(85), Duration::from_secs(85));
        assert!(!over.may_send());
        assert!(!long.and_not_after(start).may_send());
        assert!(long.and_not_after(start.plus(Duration::from_secs(60))).may_send());
        let shorter_than_the_call = SendGuard::new(start, Duration::from_secs(10), Duration::from_secs(85));
        assert!(!shorter_than_the_call.may_send());
    }
}

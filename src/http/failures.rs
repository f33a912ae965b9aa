//! How often somebody may show a key that opens nothing, before we no longer look.
//!
//! Counted by the address that it comes from, and in all, so that neither one that guesses nor many together make work of
//! the database. Who has shown a good key before is not held up by what others at the same address do: behind a proxy all
//! have one. What is remembered is bounded, and spares nobody the look at the database.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use super::problem::Problem;
use crate::api_key::KeyDigest;

/// From one address: so many at once, then one in so long.
const OF_ADDRESS: Allowance = Allowance {
    at_once: 20,
    every: Duration::from_secs(6),
};
/// From all of them.
const OF_ALL: Allowance = Allowance {
    at_once: 200,
    every: Duration::from_millis(200),
};

/// Addresses that are counted each; others only together with all.
const MOST_ADDRESSES: usize = 4_096;
/// Good keys that are remembered; then they are forgotten, and remembered anew as they come.
const MOST_KEYS: usize = 4_096;

#[derive(Debug, Clone, Copy)]
struct Allowance {
    at_once: u32,
    every: Duration,
}

/// A leaky bucket: until when what was used is made up for.
#[derive(Debug, Clone, Copy)]
struct Used(Instant);

impl Used {
    fn none(now: Instant) -> Used {
        Used(now)
    }

    /// How long it takes until one more is allowed; `None`: it is now.
    fn wait(self, allowance: Allowance, now: Instant) -> Option<Duration> {
        let owed = self.0.saturating_duration_since(now) + allowance.every;
        owed.checked_sub(allowance.every * allowance.at_once)
            .filter(|wait| !wait.is_zero())
    }

    fn one_more(&mut self, allowance: Allowance, now: Instant) {
        self.0 = self.0.max(now) + allowance.every;
    }
}

/// The attempts that failed of late.
#[derive(Debug)]
pub struct Failures(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    addresses: HashMap<IpAddr, Used>,
    all: Used,
    known: HashSet<[u8; 32]>,
}

impl Failures {
    /// None yet.
    pub fn new() -> Failures {
        Failures(Mutex::new(Counted {
            addresses: HashMap::new(),
            all: Used::none(Instant::now()),
            known: HashSet::new(),
        }))
    }

    /// Refuses an address that failed too often, unless this very key was good when it was shown last.
    pub fn check(&self, from: Option<IpAddr>, key: Option<&KeyDigest>) -> Result<(), Problem> {
        self.check_at(from, key, Instant::now())
    }

    fn check_at(&self, from: Option<IpAddr>, key: Option<&KeyDigest>, now: Instant) -> Result<(), Problem> {
        let counted = self.counted();
        if key.is_some_and(|key| counted.known.contains(&key.0)) {
            return Ok(());
        }
        let used = from.and_then(|from| counted.addresses.get(&network(from)).copied());
        let of_address = used.and_then(|used| used.wait(OF_ADDRESS, now));
        match of_address.or_else(|| counted.all.wait(OF_ALL, now)) {
            None => Ok(()),
            Some(wait) => Err(too_many(wait)),
        }
    }

    /// A key opened nothing.
    pub fn note(&self, from: Option<IpAddr>, key: Option<&KeyDigest>) {
        self.note_at(from, key, Instant::now());
    }

    fn note_at(&self, from: Option<IpAddr>, key: Option<&KeyDigest>, now: Instant) {
        let mut counted = self.counted();
        if let Some(key) = key {
            counted.known.remove(&key.0);
        }
        counted.all.one_more(OF_ALL, now);
        let Some(network) = from.map(network) else { return };
        if counted.addresses.len() >= MOST_ADDRESSES && !counted.addresses.contains_key(&network) {
            // Seldom, and seldom in vain: in all there are few failures a second.
            counted.addresses.retain(|_, used| used.0 > now);
            if counted.addresses.len() >= MOST_ADDRESSES {
                return;
            }
        }
        let used = counted.addresses.entry(network).or_insert(Used::none(now));
        used.one_more(OF_ADDRESS, now);
    }

    /// A key was good.
    pub fn forgive(&self, key: &KeyDigest) {
        let mut counted = self.counted();
        if counted.known.len() >= MOST_KEYS && !counted.known.contains(&key.0) {
            counted.known.clear();
        }
        counted.known.insert(key.0);
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        // Numbers and sets, each change of which is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever has one address of IPv6 has the 64 bits behind it too.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

fn too_many(wait: Duration) -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_failed_attempts",
        "too many keys that open nothing were shown of late, so this one was not looked at",
    )
    .hint("wait, and then show a key that is live: capture key list")
    .again_after(wait.as_secs().saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Option<IpAddr> = Some(IpAddr::V6(Ipv6Addr::LOCALHOST));

    fn key(n: u32) -> KeyDigest {
        KeyDigest::of(&n.to_string())
    }

    fn address(n: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(n.into()))
    }

    #[test]
    fn an_address_that_fails_too_often_waits_and_others_do_not() {
        let (failures, now) = (Failures::new(), Instant::now());
        for n in 0..OF_ADDRESS.at_once {
            assert!(failures.check_at(HOME, Some(&key(n)), now).is_ok(), "{n}");
            failures.note_at(HOME, Some(&key(n)), now);
        }
        let told = failures.check_at(HOME, Some(&key(99)), now).unwrap_err();
        assert_eq!((told.status(), told.code()), (429, "too_many_failed_attempts"));
        assert!(failures.check_at(address(1), Some(&key(99)), now).is_ok());
        // One more is looked at when its time has come, and no more than one.
        let then = now + OF_ADDRESS.every;
        assert!(failures.check_at(HOME, None, then).is_ok());
        failures.note_at(HOME, None, then);
        assert!(failures.check_at(HOME, None, then).is_err());
        assert!(failures.check_at(HOME, None, now + OF_ADDRESS.every * 40).is_ok());
    }

    #[test]
    fn many_addresses_together_have_one_allowance_and_what_is_kept_of_them_is_bounded() {
        let (failures, now) = (Failures::new(), Instant::now());
        for n in 0..10_000 {
            failures.note_at(address(n), Some(&key(n)), now);
        }
        assert!(failures.check_at(address(20_000), None, now).is_err());
        assert_eq!(failures.counted().addresses.len(), MOST_ADDRESSES);
        // Those whose time is over make room.
        failures.note_at(address(30_000), None, now + OF_ADDRESS.every * 2);
        assert_eq!(failures.counted().addresses.len(), 1);
    }

    #[test]
    fn who_showed_a_good_key_is_not_held_up_until_it_opens_nothing() {
        let (failures, now) = (Failures::new(), Instant::now());
        failures.forgive(&key(1));
        for n in 100..200 {
            failures.note_at(HOME, Some(&key(n)), now);
        }
        assert!(failures.check_at(HOME, Some(&key(1)), now).is_ok());
        assert!(failures.check_at(HOME, Some(&key(2)), now).is_err());
        failures.note_at(HOME, Some(&key(1)), now);
        assert!(failures.check_at(HOME, Some(&key(1)), now).is_err());
        for n in 0..10_000 {
            failures.forgive(&key(n));
        }
        assert!(failures.counted().known.len() <= MOST_KEYS);
    }

    #[test]
    fn neighbours_in_ipv6_are_one_and_an_address_is_the_same_however_it_is_written() {
        let read = |text: &str| network(text.parse().unwrap());
        assert_eq!(read("2001:db8:1:2::1"), read("2001:db8:1:2:ffff::9"));
        assert_ne!(read("2001:db8:1:2::1"), read("2001:db8:1:3::1"));
        assert_eq!(read("::ffff:10.0.0.1"), read("10.0.0.1"));
    }
}

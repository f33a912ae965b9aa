//! The keys of the HTTP API: their form, what they are recognised by, and what they may do.
//!
//! `cap_` + a prefix of 8 hexadecimal digits (found by it, shown in lists and logs) + `_` + a secret of 32 random bytes, 64
//! digits. Of the secret only the SHA-256 is kept. Nothing slower is needed: unlike a password it cannot be guessed.

use std::fmt;

use rand::TryRngCore;
use rand::rngs::OsRng;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// One kind of act that a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Ask for captures.
    Enqueue,
    /// Let held captures go.
    Release,
    /// Take captures back.
    Cancel,
    /// Replay and resolve dead letters; begin, pause, resume and cancel operations.
    Operate,
    /// Pause and resume lanes.
    Lanes,
    /// Tell of shipments, which may let held captures go.
    Ship,
    /// Make, change and remove endpoints of webhooks; have events told once more.
    Webhooks,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 8] = [
        Scope::Read,
        Scope::Enqueue,
        Scope::Release,
        Scope::Cancel,
        Scope::Operate,
        Scope::Lanes,
        Scope::Ship,
        Scope::Webhooks,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Enqueue => "enqueue",
            Scope::Release => "release",
            Scope::Cancel => "cancel",
            Scope::Operate => "operate",
            Scope::Lanes => "lanes",
            Scope::Ship => "ship",
            Scope::Webhooks => "webhooks",
        }
    }

    /// The scope of that name.
    pub fn from_name(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// What a key allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Is it among them?
    pub fn has(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// Their names, each once, in one order.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|scope| scope.name()).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Scopes {
        let mut scopes: Vec<Scope> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        Scopes(scopes)
    }
}

/// What is kept of a secret.
#[derive(Clone, Copy)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// Of a secret.
    pub fn of(secret: &str) -> KeyDigest {
        KeyDigest(Sha256::digest(secret.as_bytes()).into())
    }

    /// Are they equal? Takes as long for any two, so that nobody can feel their way.
    pub fn equals(&self, other: &KeyDigest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Not the digest: nobody needs it in a log.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest")
    }
}

/// A key that was just made.
#[derive(Debug)]
pub struct FreshKey {
    /// By which it is found.
    pub prefix: String,
    /// What is kept of it.
    pub digest: KeyDigest,
    /// The whole key, to be shown once.
    pub whole: SecretString,
}

impl FreshKey {
    /// From the system's randomness.
    pub fn make() -> Result<FreshKey, String> {
        let mut bytes = [0u8; 36];
        OsRng
            .try_fill_bytes(&mut bytes)
            .map_err(|error| format!("the system gives no random numbers: {error}"))?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (prefix, secret) = digits.split_at(8);
        Ok(FreshKey {
            prefix: prefix.to_owned(),
            digest: KeyDigest::of(secret),
            whole: SecretString::from(format!("cap_{prefix}_{secret}")),
        })
    }
}

/// A key as somebody shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownKey {
    /// By which it is found.
    pub prefix: String,
    digest: [u8; 32],
}

impl ShownKey {
    /// Reads it; `None` if it has not the form of a key.
    pub fn parse(text: &str) -> Option<ShownKey> {
        let (prefix, secret) = text.strip_prefix("cap_")?.split_once('_')?;
        let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let well_formed = prefix.len() == 8 && secret.len() == 64 && hex(prefix) && hex(secret);
        well_formed.then(|| ShownKey {
            prefix: prefix.to_owned(),
            digest: KeyDigest::of(secret).0,
        })
    }

    /// What would be kept of it.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_fresh_key_is_recognised_by_its_digest_and_no_other_is() {
        let (one, other) = (FreshKey::make().unwrap(), FreshKey::make().unwrap());
        let shown = ShownKey::parse(one.whole.expose_secret()).unwrap();
        assert_eq!(shown.prefix, one.prefix);
        assert!(shown.digest().equals(&one.digest) && !shown.digest().equals(&other.digest));
        assert!(!format!("{one:?} {shown:?}").contains(&one.whole.expose_secret()[13..]));
    }

    #[test]
    fn what_has_not_the_form_of_a_key_is_none() {
        let whole = FreshKey::make().unwrap().whole.expose_secret().to_owned();
        for wrong in [
            "",
            "cap_",
            "cap_1_2",
            &whole[1..],
            &whole[..76],
            &whole.to_uppercase(),
            &format!("{whole}0"),
        ] {
            assert_eq!(ShownKey::parse(wrong), None, "{wrong}");
        }
    }
}

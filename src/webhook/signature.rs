//! Signatures as in Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`, in base64 behind `v1,`; several with spaces
//! between while a secret is rotated.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use ring::hmac;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

/// The id of the message: that of the event. A repeat carries the same.
pub const ID: &str = "webhook-id";
/// When this attempt was signed, in unix seconds.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The signatures.
pub const SIGNATURE: &str = "webhook-signature";

/// How old, or how far ahead, a message may be for a receiver: 5 minutes, as the standard's libraries have it.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// What a written secret begins with.
const PREFIX: &str = "whsec_";

/// A secret: 24 to 64 bytes.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// 32 bytes of the system's randomness.
    pub fn make() -> Result<Secret, String> {
        let mut bytes = [0u8; 32];
        OsRng
            .try_fill_bytes(&mut bytes)
            .map_err(|error| format!("the system gives no random numbers: {error}"))?;
        Ok(Secret(SecretSlice::from(bytes.to_vec())))
    }

    /// Reads `whsec_` and base64; the text is not repeated when it is refused.
    pub fn parse(text: &str) -> Result<Secret, String> {
        let text = text.trim();
        let encoded = text
            .strip_prefix(PREFIX)
            .ok_or_else(|| format!("a secret begins with {PREFIX}"))?;
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| format!("behind {PREFIX} stands no base64"))?;
        match bytes.len() {
            24..=64 => Ok(Secret(SecretSlice::from(bytes))),
            length => Err(format!("a secret has 24 to 64 bytes, this has {length}")),
        }
    }

    /// The bytes, to be kept or to sign with.
    pub fn bytes(&self) -> &SecretSlice<u8> {
        &self.0
    }

    /// As it is shown, once, to who verifies with it.
    pub fn written(&self) -> SecretString {
        SecretString::from(format!("{PREFIX}{}", STANDARD.encode(self.0.expose_secret())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

fn content(id: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    let mut content = format!("{id}.{timestamp}.").into_bytes();
    content.extend_from_slice(body);
    content
}

/// The value of the header: one signature for each secret.
pub fn sign(secrets: &[SecretSlice<u8>], id: &str, timestamp: i64, body: &[u8]) -> String {
    let content = content(id, timestamp, body);
    let signed = secrets.iter().map(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret());
        format!("v1,{}", STANDARD.encode(hmac::sign(&key, &content)))
    });
    signed.collect::<Vec<_>>().join(" ")
}

/// Why a message is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// A header is missing.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// The time is no number.
    #[error("{TIMESTAMP} is no number of seconds")]
    Timestamp,
    /// It was signed too long ago: perhaps somebody plays it once more.
    #[error("it was signed {0} seconds ago, and more than 300 are not believed")]
    TooOld(i64),
    /// It was signed in the future.
    #[error("it was signed {0} seconds in the future: one of the two clocks is wrong")]
    TooNew(i64),
    /// No signature fits.
    #[error(
        "no signature fits: another secret, or another body (verify the bytes as they came, before any JSON is read)"
    )]
    NoMatch,
}

/// Looks whether one of the signatures is that of one of the secrets, as a receiver does. `header` gives a header's value.
pub fn verify<'h>(
    secrets: &[Secret],
    header: impl Fn(&'static str) -> Option<&'h str>,
    body: &[u8],
    now: i64,
) -> Result<(), SignatureFault> {
    let given = |name| header(name).ok_or(SignatureFault::Missing(name));
    let (id, timestamp, signatures) = (given(ID)?, given(TIMESTAMP)?, given(SIGNATURE)?);
    let timestamp: i64 = timestamp.trim().parse().map_err(|_| SignatureFault::Timestamp)?;
    let tolerance = i64::try_from(TOLERANCE.as_secs()).unwrap_or(i64::MAX);
    match now.saturating_sub(timestamp) {
        age if age > tolerance => return Err(SignatureFault::TooOld(age)),
        age if age < -tolerance => return Err(SignatureFault::TooNew(age.saturating_neg())),
        _in_time => {}
    }
    let content = content(id, timestamp, body);
    let fits = signatures.split_ascii_whitespace().any(|signature| {
        let Some(Ok(bytes)) = signature.strip_prefix("v1,").map(|encoded| STANDARD.decode(encoded)) else {
            return false;
        };
        secrets.iter().any(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.0.expose_secret());
            // Takes as long for any two.
            hmac::verify(&key, &content, &bytes).is_ok()
        })
    });
    match fits {
        true => Ok(()),
        false => Err(SignatureFault::NoMatch),
    }
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;

//! Who said it: HMAC-SHA256 over the bytes as they came, compared in constant time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::source::{Incoming, SecretBytes};

/// Why a request is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignatureFault {
    /// A header that belongs to it is not there, or cannot be read.
    Missing,
    /// It was made with another secret, or of other bytes.
    Wrong,
    /// It is too old, or from too far in the future: perhaps somebody plays back what he overheard.
    Stale,
}

impl SignatureFault {
    /// Every one.
    pub const ALL: [SignatureFault; 3] = [SignatureFault::Missing, SignatureFault::Wrong, SignatureFault::Stale];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            SignatureFault::Missing => "signature_missing",
            SignatureFault::Wrong => "signature_wrong",
            SignatureFault::Stale => "signature_stale",
        }
    }

    /// In words.
    pub fn says(self) -> &'static str {
        match self {
            SignatureFault::Missing => "the request is not signed, or a header of its signature cannot be read",
            SignatureFault::Wrong => "the signature fits none of this source's secrets",
            SignatureFault::Stale => "the signature is too old, or from too far in the future",
        }
    }
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Hexadecimal digits, of either case.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}

impl Encoding {
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Encoding::Base64 => STANDARD.decode(text).ok(),
            Encoding::Hex => {
                let digits: Option<Vec<u8>> = text
                    .chars()
                    .map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()))
                    .collect();
                let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
                Some(
                    digits
                        .chunks_exact(2)
                        .map(|pair| pair.iter().fold(0, |byte, digit| (byte << 4) | digit))
                        .collect(),
                )
            }
        }
    }
}

/// The bytes of a secret of Standard Webhooks: `whsec_` and base64.
pub fn standard_secret(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let bytes = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok()?;
    // The specification asks for 24 to 64 bytes; fewer can be guessed.
    (bytes.len() >= 16).then_some(bytes)
}

/// Does one of the secrets make one of these signatures of those parts?
fn fits(secrets: &[SecretBytes], parts: &[&[u8]], signatures: &[Vec<u8>]) -> bool {
    secrets.iter().any(|secret| {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose()) else {
            return false;
        };
        parts.iter().for_each(|part| mac.update(part));
        signatures
            .iter()
            .any(|signature| mac.clone().verify_slice(signature).is_ok())
    })
}

/// Seconds since 1970 as a header has them, if that is no further from now than the tolerance.
fn fresh(text: &str, now_s: i64, tolerance_s: i64) -> Result<(), SignatureFault> {
    let at: i64 = text.trim().parse().map_err(|_| SignatureFault::Missing)?;
    match now_s.checked_sub(at) {
        Some(age) if age.unsigned_abs() <= tolerance_s.unsigned_abs() => Ok(()),
        _ => Err(SignatureFault::Stale),
    }
}

/// How old a signature of Standard Webhooks may be: 5 minutes, as its libraries have it.
const STANDARD_TOLERANCE_S: i64 = 300;

/// Checks a request as Standard Webhooks has it; returns its id, which is part of what is signed.
pub(super) fn standard(request: &Incoming<'_>, secrets: &[SecretBytes]) -> Result<String, SignatureFault> {
    let header = |name: &str| (request.header)(name).ok_or(SignatureFault::Missing);
    let (id, at, signatures) = (
        header("webhook-id")?,
        header("webhook-timestamp")?,
        header("webhook-signature")?,
    );
    // A dot would let two different requests be signed alike.
    if id.is_empty() || id.len() > 255 || id.contains('.') {
        return Err(SignatureFault::Missing);
    }
    // Several with blanks between: other versions, and old secrets beside new ones. More than a few is an attack on our time.
    let signatures: Vec<Vec<u8>> = signatures
        .split(' ')
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .filter_map(|text| STANDARD.decode(text).ok())
        .take(10)
        .collect();
    if signatures.is_empty() {
        return Err(SignatureFault::Missing);
    }
    // The signature first: a stranger is not told what the time is here.
    let signed: [&[u8]; 5] = [id.as_bytes(), b".", at.as_bytes(), b".", request.body];
    match fits(secrets, &signed, &signatures) {
        true => fresh(&at, request.now_s, STANDARD_TOLERANCE_S).map(|()| id),
        false => Err(SignatureFault::Wrong),
    }
}

/// How somebody else signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HmacScheme {
    /// The header that has the signature.
    pub header: String,
    /// The header is a list such as `t=1,v1=abc`, and this is the name of the signature in it.
    pub signature_field: Option<String>,
    /// And this that of the time.
    pub timestamp_field: Option<String>,
    /// Stands before the signature.
    pub prefix: String,
    /// How it is written.
    pub encoding: Encoding,
    /// A header that has the time.
    pub timestamp_header: Option<String>,
    /// A header that has the event's id.
    pub id_header: Option<String>,
    /// What is signed, with `{timestamp}`, `{id}` and `{body}` in it.
    pub signed: String,
    /// How old a signature may be, if it tells its time.
    pub tolerance_s: i64,
}

impl HmacScheme {
    /// Of the body alone, in that header.
    pub fn of_body(header: &str, encoding: Encoding) -> HmacScheme {
        HmacScheme {
            header: header.to_owned(),
            signature_field: None,
            timestamp_field: None,
            prefix: String::new(),
            encoding,
            timestamp_header: None,
            id_header: None,
            signed: "{body}".to_owned(),
            tolerance_s: 300,
        }
    }

    /// Is the event's id part of what is signed? Then nobody who overheard a request can send it again under another.
    pub fn signs_id(&self) -> bool {
        self.id_header.is_some() && self.signed.contains("{id}")
    }

    /// Checks a request; returns the id that its header has.
    pub(super) fn check(
        &self,
        request: &Incoming<'_>,
        secrets: &[SecretBytes],
    ) -> Result<Option<String>, SignatureFault> {
        let given = (request.header)(&self.header).ok_or(SignatureFault::Missing)?;
        let field = |name: &str| {
            let mut fields = given.split(',').filter_map(|field| field.trim().split_once('='));
            fields
                .find(|(field, _)| *field == name)
                .map(|(_, value)| value.to_owned())
        };
        let written = match &self.signature_field {
            Some(name) => field(name),
            None => Some(given.trim().to_owned()),
        };
        let written = written.ok_or(SignatureFault::Missing)?;
        let signature = written
            .strip_prefix(&self.prefix)
            .and_then(|text| self.encoding.decode(text))
            .ok_or(SignatureFault::Missing)?;
        let at = match (&self.timestamp_field, &self.timestamp_header) {
            (Some(name), _) => Some(field(name).ok_or(SignatureFault::Missing)?),
            (None, Some(name)) => Some((request.header)(name).ok_or(SignatureFault::Missing)?),
            (None, None) => None,
        };
        let id = self.id_header.as_ref().and_then(|name| (request.header)(name));
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut rest = self.signed.as_str();
        while !rest.is_empty() {
            let known: [(&str, Option<&[u8]>); 3] = [
                ("{body}", Some(request.body)),
                ("{timestamp}", at.as_deref().map(str::as_bytes)),
                ("{id}", id.as_deref().map(str::as_bytes)),
            ];
            rest = match known
                .iter()
                .find_map(|(name, value)| Some((rest.strip_prefix(name)?, value)))
            {
                Some((after, value)) => {
                    parts.push(value.ok_or(SignatureFault::Missing)?);
                    after
                }
                None => {
                    let next = rest
                        .char_indices()
                        .skip(1)
                        .find(|(_, c)| *c == '{')
                        .map_or(rest.len(), |(at, _)| at);
                    let (literal, after) = rest.split_at(next);
                    parts.push(literal.as_bytes());
                    after
                }
            };
        }
        if !fits(secrets, &parts, &[signature]) {
            return Err(SignatureFault::Wrong);
        }
        if let Some(at) = at {
            fresh(&at, request.now_s, self.tolerance_s)?;
        }
        Ok(id.filter(|id| !id.trim().is_empty() && id.len() <= 255))
    }
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;

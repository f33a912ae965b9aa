//! A source of shipments as the settings have it: who signs, how, and in what words it speaks.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::mapping::{Mapping, Pointer};
use super::signature::{self, HmacScheme, SignatureFault};
use super::{DocumentFault, Shipment, shopify};

/// A secret's bytes. Not shown by `Debug`, and wiped when dropped.
#[derive(Clone)]
pub struct SecretBytes(SecretSlice<u8>);

impl SecretBytes {
    /// These.
    pub fn new(bytes: Vec<u8>) -> SecretBytes {
        SecretBytes(SecretSlice::from(bytes))
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes")
    }
}

/// A request as it came.
pub struct Incoming<'r> {
    /// The value of a header, by its name in lower case.
    pub header: &'r dyn Fn(&str) -> Option<String>,
    /// The bytes of the body.
    pub body: &'r [u8],
    /// Seconds since 1970, by this machine's clock.
    pub now_s: i64,
}

/// How a source signs, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// Standard Webhooks, and our own document.
    Standard,
    /// Shopify's webhooks; where in a fulfilment the merchant's order stands.
    Shopify(Pointer),
    /// An HMAC of somebody else, and documents of his.
    Hmac {
        /// How it is signed.
        scheme: HmacScheme,
        /// Where in the document the event's id stands, if no header has it.
        id: Option<Pointer>,
        /// What it says.
        mapping: Mapping,
    },
    /// Not signed at all: whoever reaches the address may release captures.
    Unsigned {
        /// Where in the document the event's id stands.
        id: Option<Pointer>,
        /// What it says.
        mapping: Mapping,
    },
}

/// A source of shipments.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name: the last part of its address, and `shipment_events.source`.
    pub name: String,
    /// Of which provider its payments are, where its documents do not say.
    pub provider: Option<String>,
    /// And of which account.
    pub account: Option<String>,
    /// How it signs and speaks.
    pub kind: SourceKind,
    /// Any of these: the present one, and while it is exchanged the one before.
    pub secrets: Vec<SecretBytes>,
}

/// Who sent a request is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The event's id, if a header has it.
    pub event_id: Option<String>,
    /// Was the id signed as well?
    pub id_is_signed: bool,
}

impl Verified {
    /// What makes a request the same as one before: its bytes, and its id where that was signed. An id that was not is no
    /// proof of anything new.
    pub fn digest(&self, body: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        if let (true, Some(id)) = (self.id_is_signed, &self.event_id) {
            digest.update(id.as_bytes());
            digest.update([0]);
        }
        digest.update(body);
        digest.finalize().into()
    }
}

impl Source {
    /// Is it really this source?
    pub fn verify(&self, request: &Incoming<'_>) -> Result<Verified, SignatureFault> {
        match &self.kind {
            SourceKind::Standard => Ok(Verified {
                event_id: Some(signature::standard(request, &self.secrets)?),
                id_is_signed: true,
            }),
            SourceKind::Shopify(_) => {
                let scheme = HmacScheme {
                    id_header: Some("x-shopify-webhook-id".to_owned()),
                    ..HmacScheme::of_body("x-shopify-hmac-sha256", signature::Encoding::Base64)
                };
                Ok(Verified {
                    event_id: scheme.check(request, &self.secrets)?,
                    id_is_signed: false,
                })
            }
            SourceKind::Hmac { scheme, .. } => Ok(Verified {
                event_id: scheme.check(request, &self.secrets)?,
                id_is_signed: scheme.signs_id(),
            }),
            SourceKind::Unsigned { .. } => Ok(Verified {
                event_id: None,
                id_is_signed: false,
            }),
        }
    }

    /// What the document of somebody else says. (Ours is read where all documents of the API are.)
    pub fn read(&self, request: &Incoming<'_>, document: &Value) -> Result<Shipment, DocumentFault> {
        let said = match &self.kind {
            SourceKind::Standard => return Err(DocumentFault::new("this is our own document", "", "read it as such")),
            SourceKind::Shopify(order) => {
                let topic = (request.header)("x-shopify-topic").unwrap_or_default();
                shopify::read(&topic, document, order)?
            }
            SourceKind::Hmac { mapping, .. } | SourceKind::Unsigned { mapping, .. } => mapping.read(document)?,
        };
        Ok(Shipment {
            provider: said.provider.or_else(|| self.provider.clone()),
            account: said.account.or_else(|| self.account.clone()),
            ..said
        })
    }

    /// The event's id: as a header has it, or the document, or else made from the bytes.
    pub fn event_id(&self, verified: &Verified, document: &Value, digest: [u8; 32]) -> Result<String, DocumentFault> {
        let pointer = match &self.kind {
            SourceKind::Hmac { id, .. } | SourceKind::Unsigned { id, .. } => id.as_ref(),
            SourceKind::Standard | SourceKind::Shopify(_) => None,
        };
        let told = match (&verified.event_id, pointer) {
            (Some(id), _) => Some(id.clone()),
            (None, Some(pointer)) => pointer.text(document)?,
            (None, None) => None,
        };
        Ok(told.unwrap_or_else(|| {
            let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{digits}")
        }))
    }
}

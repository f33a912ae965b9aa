//! A list of captures in a few letters: by it an operation knows whether its list is the one that a person has looked at.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

/// How many captures, and a hash of their ids. Made by a preview; what somebody else wrote equals none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct ListDigest(String);

impl ListDigest {
    /// Of these ids, in whatever order they stand.
    pub fn of(ids: &[Uuid]) -> ListDigest {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut hash = Sha256::new();
        for id in &ids {
            hash.update(id.as_bytes());
        }
        // 128 bits: nobody comes by two lists of one digest.
        let hash = hash.finalize();
        let letters: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        ListDigest(format!("{}-{letters}", ids.len()))
    }

    /// As it came back from somebody.
    pub fn given(text: impl Into<String>) -> ListDigest {
        ListDigest(text.into())
    }

    /// As it is handed out.
    pub fn text(&self) -> &str {
        &self.0
    }
}

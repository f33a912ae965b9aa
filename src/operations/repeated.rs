//! Who asks again under the same key means the operation that was begun, not a second one.

use uuid::Uuid;

use super::{OperationError, Request};
use crate::outbox::{Outbox, OutboxError};

/// A request that can be known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// What its author calls it; other authors may use the same.
    pub key: String,
    /// A hash of what was asked for.
    pub hash: Vec<u8>,
}

/// The operation that this request has begun before.
pub(super) async fn begun_before(outbox: &Outbox, request: &Request) -> Result<Option<Uuid>, OperationError> {
    let Some(RequestKey { key, hash }) = &request.key else {
        return Ok(None);
    };
    let found = outbox.operation_of_request(&request.stamp.actor, key).await?;
    match found {
        None => Ok(None),
        Some(found) if found.hash == *hash => Ok(Some(found.id)),
        Some(found) => Err(OperationError::KeyTaken { by: found.id }),
    }
}

/// Did another request under this key come first, at the same moment?
pub(super) fn lost_the_race(error: &OutboxError) -> bool {
    let constraint = error.refusal().and_then(|refusal| refusal.constraint);
    constraint.as_deref() == Some("operations_request_once")
}

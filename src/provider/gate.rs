//! The last door before a capture leaves this machine.
//!
//! A lease is checked before anything is done, and once more at the last moment that exists: when the connection stands
//! and the HTTP client asks for the first byte of the body. If the lease has become too short by then, the door stays
//! shut and the request dies without a body. The door opens once in its life. Therefore what has been on the wire is
//! known, not guessed: a call that broke while its door was shut has sent nothing, and the door can be locked for good
//! before that is said aloud. And since a body behind a door cannot be copied, nothing below can send it a second time.
//!
//! A body also holds its [`Place`] among those that wait for a connection: until the connection asks for it, or it is
//! thrown away.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::clock::SendGuard;

/// What the door has let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// Nothing yet.
    NotYet,
    /// The body, handed to the connection at this instant: it may be on the wire.
    Body(Instant),
    /// Nothing ever: the lease was too short when the connection asked for the body.
    LeaseLapsed,
    /// Nothing ever: the call ended before the connection asked.
    Withdrawn,
}

/// The body asked to leave after its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the capture was held back: its time to be sent was over")]
pub(super) struct HeldBack;

/// One door for one request.
#[derive(Debug)]
pub(super) struct Gate {
    guard: SendGuard,
    passed: Mutex<Passed>,
}

impl Gate {
    pub(super) fn new(guard: SendGuard) -> Arc<Gate> {
        Arc::new(Gate {
            guard,
            passed: Mutex::new(Passed::NotYet),
        })
    }

    /// What went through until now.
    pub(super) fn passed(&self) -> Passed {
        *self.state()
    }

    /// Locks the door if it is still shut and says what went through. After it, a body that has not left never will.
    pub(super) fn lock(&self) -> Passed {
        let mut passed = self.state();
        if *passed == Passed::NotYet {
            *passed = Passed::Withdrawn;
        }
        *passed
    }

    fn open(&self) -> Result<(), HeldBack> {
        let mut passed = self.state();
        if *passed != Passed::NotYet {
            return Err(HeldBack);
        }
        let may_send = self.guard.may_send();
        *passed = if may_send {
            Passed::Body(Instant::now())
        } else {
            Passed::LeaseLapsed
        };
        if may_send { Ok(()) } else { Err(HeldBack) }
    }

    fn state(&self) -> MutexGuard<'_, Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those of an account that wait for a connection, if they are counted. Free when it is dropped.
pub(super) type Place = Option<OwnedSemaphorePermit>;

/// A body behind its door.
#[derive(Debug)]
pub(super) struct GatedBody {
    bytes: Option<Bytes>,
    gate: Arc<Gate>,
    place: Place,
}

impl GatedBody {
    pub(super) fn new(bytes: Bytes, gate: Arc<Gate>, place: Place) -> GatedBody {
        GatedBody {
            bytes: Some(bytes),
            gate,
            place,
        }
    }
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = HeldBack;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HeldBack>>> {
        self.place = None;
        let Some(bytes) = self.bytes.take() else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(self.gate.open().map(|()| Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.bytes.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Boottime;

    fn guard(lease: Duration) -> SendGuard {
        SendGuard::new(Boottime::now(), lease, Duration::ZERO)
    }

    fn first_poll(gate: &Arc<Gate>) -> Option<Result<(), HeldBack>> {
        let mut body = GatedBody::new(Bytes::from_static(b"{}"), gate.clone(), None);
        assert_eq!(
            body.size_hint().exact(),
            Some(2),
            "the length is known before the body leaves"
        );
        match Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(frame) => frame.map(|frame| frame.map(|_| ())),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_body_leaves_while_the_lease_is_long_enough_and_only_once() {
        let gate = Gate::new(guard(Duration::from_secs(60)));
        assert_eq!(first_poll(&gate), Some(Ok(())));
        assert!(
            matches!(gate.lock(), Passed::Body(_)),
            "locking later does not unsay what left"
        );
        assert_eq!(first_poll(&gate), Some(Err(HeldBack)), "a second copy stays");
    }

    #[test]
    fn a_body_stays_when_the_lease_lapsed_before_it_was_asked_for() {
        let gate = Gate::new(guard(Duration::ZERO));
        assert_eq!(first_poll(&gate), Some(Err(HeldBack)));
        assert_eq!(gate.lock(), Passed::LeaseLapsed);
    }

    #[test]
    fn a_body_stays_for_good_once_its_door_is_locked() {
        let gate = Gate::new(guard(Duration::from_secs(60)));
        assert_eq!(gate.lock(), Passed::Withdrawn);
        assert_eq!(first_poll(&gate), Some(Err(HeldBack)));
    }
}

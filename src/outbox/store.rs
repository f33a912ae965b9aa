//! What a worker needs of its outbox, as a trait, so that the very same worker can be run over one that is simulated.
//!
//! [`Outbox`] is the real one, and the only one that a released program has. Nobody but the worker goes this way: the
//! command line and the servers talk to [`Outbox`] itself.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    CaptureFacts, Chores, ClaimRequest, Claimed, ClaimedNotice, DueOperation, LaneId, LaneNews, Moved, NoticeEnd,
    OpenItem, Outbox, OutboxError, PlannedItem, Settled, Settlement, Sleep, Stepped, ToldDeadline,
};
use crate::intent::Lane;
use crate::shipment::Fulfilment;

/// An outbox, as a worker sees it. Each method is one statement, and may fail with its effect unknown
/// ([`OutboxError::is_connection_lost`]).
#[async_trait]
pub trait Store: Send + Sync {
    /// Where it is, for messages.
    fn address(&self) -> &str;

    /// See [`Outbox::register_lane`].
    async fn register_lane(&self, lane: &Lane, rate_per_minute: u32) -> Result<LaneId, OutboxError>;

    /// See [`Outbox::set_fulfilment`]. An outbox that is simulated has no shipments.
    async fn set_fulfilment(&self, _lane: &Lane, _fulfilment: Fulfilment) -> Result<(), OutboxError> {
        Ok(())
    }

    /// See [`Outbox::set_authorization_lifetime`]. An outbox that is simulated assumes nothing.
    async fn set_authorization_lifetime(&self, _lane: &Lane, _lifetime: Option<Duration>) -> Result<(), OutboxError> {
        Ok(())
    }

    /// See [`Outbox::claim`].
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed, OutboxError>;

    /// See [`Outbox::give_back`].
    async fn give_back(&self, lease: Uuid) -> Result<i32, OutboxError>;

    /// See [`Outbox::settle`].
    async fn settle(&self, settlements: &[Settlement], lanes: &[LaneNews]) -> Result<Vec<Settled>, OutboxError>;

    /// See [`Outbox::move_due`].
    async fn move_due(&self, limit: i32) -> Result<Moved, OutboxError>;

    /// See [`Outbox::rescue`].
    async fn rescue(&self, limit: i32) -> Result<i32, OutboxError>;

    /// See [`Outbox::chores`].
    async fn chores(&self, lanes: &[LaneId]) -> Result<Chores, OutboxError>;

    /// See [`Outbox::take_shipments`].
    async fn take_shipments(&self, limit: i32) -> Result<i32, OutboxError>;

    /// See [`Outbox::match_releases`].
    async fn match_releases(&self, limit: i32) -> Result<i32, OutboxError>;

    /// See [`Outbox::watch_shipments`]. An outbox that is simulated has no shipments.
    async fn watch_shipments(&self, _after: Duration, _keep: Duration, _limit: i32) -> Result<i32, OutboxError> {
        Ok(0)
    }

    /// See [`Outbox::claim_shipping_notice`]. An outbox that is simulated has no shipments.
    async fn claim_shipping_notice(
        &self,
        _lane: LaneId,
        _calls: u32,
        _lease: Duration,
    ) -> Result<Option<ClaimedNotice>, OutboxError> {
        Ok(None)
    }

    /// See [`Outbox::settle_shipping_notice`].
    async fn settle_shipping_notice(&self, _intent: Uuid, _tries: i16, _end: &NoticeEnd) -> Result<bool, OutboxError> {
        Ok(false)
    }

    /// See [`Outbox::watch_deadlines`].
    async fn watch_deadlines(&self, margin: Duration, limit: i32) -> Result<i32, OutboxError>;

    /// See [`Outbox::tell_deadlines`]. An outbox that is simulated knows what producers said.
    async fn tell_deadlines(&self, _told: &[ToldDeadline]) -> Result<i32, OutboxError> {
        Ok(0)
    }

    /// See [`Outbox::assume_deadlines`]. An outbox that is simulated assumes nothing.
    async fn assume_deadlines(&self, _after: Option<Uuid>, _limit: i32) -> Result<Option<Uuid>, OutboxError> {
        Ok(None)
    }

    /// See [`Outbox::heartbeat`].
    async fn heartbeat(
        &self,
        worker: Uuid,
        listen: Option<&str>,
        lanes: &[LaneId],
        lease: Duration,
    ) -> Result<(), OutboxError>;

    /// See [`Outbox::depart`].
    async fn depart(&self, worker: Uuid) -> Result<(), OutboxError>;

    /// See [`Outbox::sweep_waiters`].
    async fn sweep_waiters(&self) -> Result<(), OutboxError>;

    /// See [`Outbox::listen`].
    async fn listen(&self) -> Result<Box<dyn Listener>, OutboxError>;

    /// See [`Outbox::lie_down`].
    async fn lie_down(&self, worker: Uuid) -> Result<(), OutboxError>;

    /// See [`Outbox::get_up`].
    async fn get_up(&self, worker: Uuid) -> Result<(), OutboxError>;

    /// See [`Outbox::hint_events`]. Nobody listens to an outbox that is simulated.
    async fn hint_events(&self) -> Result<(), OutboxError> {
        Ok(())
    }

    /// See [`Outbox::running_operations`]. An outbox that is simulated has none.
    async fn running_operations(&self) -> Result<Vec<DueOperation>, OutboxError> {
        Ok(Vec::new())
    }

    /// See [`Outbox::open_items`].
    async fn open_items(
        &self,
        _operation: Uuid,
        _limit: i64,
        _lanes: Option<&[Lane]>,
    ) -> Result<Vec<OpenItem>, OutboxError> {
        Ok(Vec::new())
    }

    /// See [`Outbox::capture_facts`].
    async fn capture_facts(&self, _ids: &[Uuid]) -> Result<Vec<CaptureFacts>, OutboxError> {
        Ok(Vec::new())
    }

    /// See [`Outbox::put_off_item`].
    async fn put_off_item(&self, _operation: Uuid, _n: i64, _says: &str) -> Result<(), OutboxError> {
        Ok(())
    }

    /// See [`Outbox::watch_replayed`].
    async fn watch_replayed(&self) -> Result<i32, OutboxError> {
        Ok(0)
    }

    /// See [`Outbox::operation_step`].
    async fn operation_step(&self, _operation: Uuid, _items: &[PlannedItem]) -> Result<Stepped, OutboxError> {
        Ok(Stepped {
            state: "done".to_owned(),
            acted: 0,
            written: 0,
        })
    }
}

/// Something to sleep on until an insert notifies.
#[async_trait]
pub trait Listener: Send + Sync {
    /// See [`Sleep::wait`].
    async fn wait(&mut self, at_most: Duration) -> Result<bool, OutboxError>;

    /// See [`Sleep::drain`].
    fn drain(&mut self) {}
}

#[async_trait]
impl Listener for Sleep {
    async fn wait(&mut self, at_most: Duration) -> Result<bool, OutboxError> {
        Sleep::wait(self, at_most).await
    }

    fn drain(&mut self) {
        Sleep::drain(self);
    }
}

#[async_trait]
impl Store for Outbox {
    fn address(&self) -> &str {
        Outbox::address(self)
    }

    async fn register_lane(&self, lane: &Lane, rate_per_minute: u32) -> Result<LaneId, OutboxError> {
        Outbox::register_lane(self, lane, rate_per_minute).await
    }

    async fn set_fulfilment(&self, lane: &Lane, fulfilment: Fulfilment) -> Result<(), OutboxError> {
        Outbox::set_fulfilment(self, lane, fulfilment).await
    }

    async fn set_authorization_lifetime(&self, lane: &Lane, lifetime: Option<Duration>) -> Result<(), OutboxError> {
        Outbox::set_authorization_lifetime(self, lane, lifetime).await
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed, OutboxError> {
        Outbox::claim(self, request).await
    }

    async fn give_back(&self, lease: Uuid) -> Result<i32, OutboxError> {
        Outbox::give_back(self, lease).await
    }

    async fn settle(&self, settlements: &[Settlement], lanes: &[LaneNews]) -> Result<Vec<Settled>, OutboxError> {
        Outbox::settle(self, settlements, lanes).await
    }

    async fn move_due(&self, limit: i32) -> Result<Moved, OutboxError> {
        Outbox::move_due(self, limit).await
    }

    async fn rescue(&self, limit: i32) -> Result<i32, OutboxError> {
        Outbox::rescue(self, limit).await
    }

    async fn chores(&self, lanes: &[LaneId]) -> Result<Chores, OutboxError> {
        Outbox::chores(self, lanes).await
    }

    async fn take_shipments(&self, limit: i32) -> Result<i32, OutboxError> {
        Outbox::take_shipments(self, limit).await
    }

    async fn match_releases(&self, limit: i32) -> Result<i32, OutboxError> {
        Outbox::match_releases(self, limit).await
    }

    async fn watch_shipments(&self, after: Duration, keep: Duration, limit: i32) -> Result<i32, OutboxError> {
        Outbox::watch_shipments(self, after, keep, limit).await
    }

    async fn claim_shipping_notice(
        &self,
        lane: LaneId,
        calls: u32,
        lease: Duration,
    ) -> Result<Option<ClaimedNotice>, OutboxError> {
        Outbox::claim_shipping_notice(self, lane, calls, lease).await
    }

    async fn settle_shipping_notice(&self, intent: Uuid, tries: i16, end: &NoticeEnd) -> Result<bool, OutboxError> {
        Outbox::settle_shipping_notice(self, intent, tries, end).await
    }

    async fn watch_deadlines(&self, margin: Duration, limit: i32) -> Result<i32, OutboxError> {
        // Dead letters are only told of, nothing moves: the outbox in memory does without them.
        let open = Outbox::watch_deadlines(self, margin, limit).await?;
        Ok(open + Outbox::watch_dead_letters(self, limit).await?)
    }

    async fn tell_deadlines(&self, told: &[ToldDeadline]) -> Result<i32, OutboxError> {
        Outbox::tell_deadlines(self, told).await
    }

    async fn assume_deadlines(&self, after: Option<Uuid>, limit: i32) -> Result<Option<Uuid>, OutboxError> {
        Outbox::assume_deadlines(self, after, limit).await
    }

    async fn heartbeat(
        &self,
        worker: Uuid,
        listen: Option<&str>,
        lanes: &[LaneId],
        lease: Duration,
    ) -> Result<(), OutboxError> {
        Outbox::heartbeat(self, worker, listen, lanes, lease).await
    }

    async fn depart(&self, worker: Uuid) -> Result<(), OutboxError> {
        Outbox::depart(self, worker).await
    }

    async fn sweep_waiters(&self) -> Result<(), OutboxError> {
        Outbox::sweep_waiters(self).await
    }

    async fn listen(&self) -> Result<Box<dyn Listener>, OutboxError> {
        Ok(Box::new(Outbox::listen(self).await?))
    }

    async fn lie_down(&self, worker: Uuid) -> Result<(), OutboxError> {
        Outbox::lie_down(self, worker).await
    }

    async fn get_up(&self, worker: Uuid) -> Result<(), OutboxError> {
        Outbox::get_up(self, worker).await
    }

    async fn hint_events(&self) -> Result<(), OutboxError> {
        Outbox::hint_events(self).await
    }

    async fn running_operations(&self) -> Result<Vec<DueOperation>, OutboxError> {
        Outbox::running_operations(self).await
    }

    async fn open_items(
        &self,
        operation: Uuid,
        limit: i64,
        lanes: Option<&[Lane]>,
    ) -> Result<Vec<OpenItem>, OutboxError> {
        Outbox::open_items(self, operation, limit, lanes).await
    }

    async fn capture_facts(&self, ids: &[Uuid]) -> Result<Vec<CaptureFacts>, OutboxError> {
        Outbox::capture_facts(self, ids).await
    }

    async fn put_off_item(&self, operation: Uuid, n: i64, says: &str) -> Result<(), OutboxError> {
        Outbox::put_off_item(self, operation, n, says).await
    }

    async fn watch_replayed(&self) -> Result<i32, OutboxError> {
        Outbox::watch_replayed(self).await
    }

    async fn operation_step(&self, operation: Uuid, items: &[PlannedItem]) -> Result<Stepped, OutboxError> {
        Outbox::operation_step(self, operation, items).await
    }
}

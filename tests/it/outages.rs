//! Statements whose connection breaks: before they took effect, or after it and before their answer came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use capture::intent::Lane;
use capture::outbox::{
    Chores, ClaimRequest, Claimed, LaneId, LaneNews, Listener, Moved, Outbox, OutboxError, Settled, Settlement, Store,
};
use capture::worker::Worker;
use uuid::Uuid;

use crate::by_hand::LEASE;
use crate::kind::Kind;
use crate::world::World;

/// When the connection breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Broken {
    BeforeIt,
    AfterIt,
}

/// The outbox behind a connection that breaks as told: the next claims, and the next settles.
#[derive(Clone)]
struct Shaky {
    outbox: Outbox,
    claims: Arc<Mutex<VecDeque<Broken>>>,
    settles: Arc<Mutex<VecDeque<Broken>>>,
}

impl Shaky {
    fn new(outbox: &Outbox, claims: &[Broken], settles: &[Broken]) -> Shaky {
        let told = |broken: &[Broken]| Arc::new(Mutex::new(broken.iter().copied().collect()));
        Shaky {
            outbox: outbox.clone(),
            claims: told(claims),
            settles: told(settles),
        }
    }
}

fn reset<T>() -> Result<T, OutboxError> {
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    Err(OutboxError::Sql(sqlx::Error::Io(reset)))
}

async fn over<T>(
    broken: &Mutex<VecDeque<Broken>>,
    statement: impl Future<Output = Result<T, OutboxError>>,
) -> Result<T, OutboxError> {
    let next = broken.lock().unwrap().pop_front();
    match next {
        None => statement.await,
        Some(Broken::BeforeIt) => reset(),
        Some(Broken::AfterIt) => {
            statement.await?;
            reset()
        }
    }
}

#[async_trait]
impl Store for Shaky {
    fn address(&self) -> &str {
        self.outbox.address()
    }
    async fn register_lane(&self, lane: &Lane, rate_per_minute: u32) -> Result<LaneId, OutboxError> {
        self.outbox.register_lane(lane, rate_per_minute).await
    }
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed, OutboxError> {
        over(&self.claims, self.outbox.claim(request)).await
    }
    async fn give_back(&self, lease: Uuid) -> Result<i32, OutboxError> {
        self.outbox.give_back(lease).await
    }
    async fn settle(&self, settlements: &[Settlement], lanes: &[LaneNews]) -> Result<Vec<Settled>, OutboxError> {
        over(&self.settles, self.outbox.settle(settlements, lanes)).await
    }
    async fn move_due(&self, limit: i32) -> Result<Moved, OutboxError> {
        self.outbox.move_due(limit).await
    }
    async fn rescue(&self, limit: i32) -> Result<i32, OutboxError> {
        self.outbox.rescue(limit).await
    }
    async fn chores(&self, lanes: &[LaneId]) -> Result<Chores, OutboxError> {
        self.outbox.chores(lanes).await
    }
    async fn take_shipments(&self, limit: i32) -> Result<i32, OutboxError> {
        self.outbox.take_shipments(limit).await
    }
    async fn match_releases(&self, limit: i32) -> Result<i32, OutboxError> {
        self.outbox.match_releases(limit).await
    }
    async fn watch_deadlines(&self, margin: Duration, limit: i32) -> Result<i32, OutboxError> {
        self.outbox.watch_deadlines(margin, limit).await
    }
    async fn heartbeat(
        &self,
        worker: Uuid,
        listen: Option<&str>,
        lanes: &[LaneId],
        lease: Duration,
    ) -> Result<(), OutboxError> {
        self.outbox.heartbeat(worker, listen, lanes, lease).await
    }
    async fn depart(&self, worker: Uuid) -> Result<(), OutboxError> {
        self.outbox.depart(worker).await
    }
    async fn sweep_waiters(&self) -> Result<(), OutboxError> {
        self.outbox.sweep_waiters().await
    }
    async fn listen(&self) -> Result<Box<dyn Listener>, OutboxError> {
        Store::listen(&self.outbox).await
    }
    async fn lie_down(&self, worker: Uuid) -> Result<(), OutboxError> {
        self.outbox.lie_down(worker).await
    }
    async fn get_up(&self, worker: Uuid) -> Result<(), OutboxError> {
        self.outbox.get_up(worker).await
    }
}

impl World {
    async fn shaky_worker(&self, claims: &[Broken], settles: &[Broken]) -> Worker {
        Worker::new(
            Shaky::new(&self.outbox, claims, settles),
            self.plan.lanes(&self.simulator),
            self.plan.settings.clone(),
        )
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn a_result_is_recorded_once_however_often_the_connection_breaks_around_it() {
    for broken in [
        vec![Broken::BeforeIt],
        vec![Broken::AfterIt],
        vec![Broken::BeforeIt, Broken::AfterIt, Broken::BeforeIt],
    ] {
        let mut world = World::new().await;
        let intent = world.capture(Kind::Afterpay, 1, 1234).await;
        let worker = world.shaky_worker(&[], &broken).await;
        worker.drain().await.unwrap();
        assert_eq!(world.story(intent).await, ["enqueued", "captured"], "{broken:?}");
        assert_eq!(world.attempts(intent).await, ["send captured"], "{broken:?}");
        assert_eq!(world.sends(&Kind::Afterpay.payment(1)), 1, "{broken:?}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_claim_without_an_answer_is_given_back_unsent_and_nothing_is_unknown() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let worker = world.shaky_worker(&[Broken::AfterIt], &[]).await;
    world
        .while_this_runs(worker, async |world| {
            // Long before the lease would end.
            let captured = world.until_sql("select count(*) = 1 from capture.outcomes where state = 'captured'");
            tokio::time::timeout(LEASE / 4, captured)
                .await
                .expect("it is not given back");
        })
        .await;
    assert_eq!(world.story(intent).await, ["enqueued", "captured"]);
    // The fence of the claim that nobody worked on is passed over, not used again.
    let fences: Vec<i32> = world.db.column("select fence from capture.attempts").await;
    assert_eq!(fences, [2]);
    assert_eq!(world.sends(&Kind::Afterpay.payment(1)), 1);
}

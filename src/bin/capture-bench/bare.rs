//! The floor: the product's own `claim` and `settle` and the product's HTTP client, driven by a bare loop. What any worker must
//! spend that leaves behind what a capture leaves, and nothing else: no errands, no decisions, no metrics, no log, no lease
//! that is kept alive, and of each answer only its status is looked at.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use reqwest::Client;
use sqlx::PgConnection;
use sqlx::postgres::PgListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use super::ceiling::{call, client};
use super::child::{Done, Given, micros, ready};
use super::raw::{self, Claimed};

/// For so long results are gathered where nobody waits for them: as large a batch as the calls in flight give.
const GATHERED: Duration = Duration::from_millis(20);

/// A capture that the provider has answered.
struct Called {
    lease: Uuid,
    slot: i32,
    intent: Uuid,
    fence: i32,
}

/// Calls, so many at once, and who is told of their answers.
struct Calls {
    client: Client,
    provider: String,
    slots: Arc<Semaphore>,
    /// A place for each row that may be claimed ahead; a call that ends gives one back.
    ahead: Arc<Semaphore>,
    answered: mpsc::UnboundedSender<anyhow::Result<Called>>,
}

impl Calls {
    /// Begins those that were claimed.
    fn begin(self: &Arc<Self>, claimed: &Claimed) {
        let rows = claimed
            .lease
            .iter()
            .zip(&claimed.slot)
            .zip(&claimed.intent)
            .zip(&claimed.fence);
        for (((lease, slot), intent), fence) in rows {
            let called = Called {
                lease: *lease,
                slot: *slot,
                intent: *intent,
                fence: *fence,
            };
            let calls = Arc::clone(self);
            tokio::spawn(async move {
                let _slot = calls.slots.acquire().await;
                let ended = call(&calls.client, &calls.provider, called.intent).await;
                calls.ahead.add_permits(1);
                // Nobody hears it where the child has failed already.
                let _heard = calls.answered.send(ended.map(|()| called));
            });
        }
    }
}

/// What both need: two sessions, the lane, and calls.
struct Loop {
    claiming: PgConnection,
    settling: PgConnection,
    lane: i32,
    calls: Arc<Calls>,
    answers: mpsc::UnboundedReceiver<anyhow::Result<Called>>,
}

impl Loop {
    async fn open(given: &Given) -> anyhow::Result<Loop> {
        let mut claiming = raw::open(&given.url).await?;
        let lane = raw::lane(&mut claiming).await?;
        let slots = usize::try_from(given.concurrency)?;
        let (answered, answers) = mpsc::unbounded_channel();
        Ok(Loop {
            claiming,
            settling: raw::open(&given.url).await?,
            lane,
            calls: Arc::new(Calls {
                client: client()?,
                provider: given.provider.clone().context("no provider")?,
                slots: Arc::new(Semaphore::new(slots)),
                // Half of them begin to be called while the next are claimed.
                ahead: Arc::new(Semaphore::new(slots * 5 / 2)),
                answered,
            }),
            answers,
        })
    }
}

/// Many that are there: claims as many as can be called at once, ahead of the calls.
pub async fn drain(given: Given) -> anyhow::Result<Done> {
    let Loop {
        mut claiming,
        settling,
        lane,
        calls,
        answers,
    } = Loop::open(&given).await?;
    ready().await?;

    let started = micros();
    let (jobs, at_once) = (given.jobs, given.concurrency);
    let claims = tokio::spawn(async move {
        let mut count = 0;
        while count < jobs {
            calls.ahead.acquire_many(at_once).await?.forget();
            let claimed = raw::claim(&mut claiming, lane, i32::try_from(at_once)?).await?;
            if claimed.intent.is_empty() {
                anyhow::bail!("nothing is left to claim after {count} of {jobs}");
            }
            // Fewer than were asked for: their places are free again.
            let had = u32::try_from(claimed.intent.len())?;
            calls.ahead.add_permits(usize::try_from(at_once.saturating_sub(had))?);
            count += u64::from(had);
            calls.begin(&claimed);
        }
        anyhow::Ok(())
    });
    let settled = settle(settling, lane, answers, jobs, GATHERED).await;
    // First why nothing is claimed any more: then nothing comes to be settled either.
    claims.await??;
    settled?;
    Ok(Done {
        started,
        finished: micros(),
        jobs,
    })
}

/// A stream: claims as soon as it is told of an insert, and settles as soon as there is an answer.
pub async fn stream(given: Given) -> anyhow::Result<Done> {
    let Loop {
        mut claiming,
        settling,
        lane,
        calls,
        answers,
    } = Loop::open(&given).await?;
    let mut listener = PgListener::connect(&given.url).await?;
    listener.listen("capture.ready").await?;
    sqlx::query("insert into waiters (worker, since) values ($1, clock_now())")
        .bind(Uuid::nil())
        .execute(&mut claiming)
        .await?;
    ready().await?;

    let started = micros();
    let at_once = i32::try_from(given.concurrency)?;
    let claims = tokio::spawn(async move {
        loop {
            listener.recv().await?;
            // Those that were told of by now are seen by one claim.
            while listener.recv().now_or_never().is_some() {}
            while {
                let claimed = raw::claim(&mut claiming, lane, at_once).await?;
                calls.begin(&claimed);
                claimed.intent.len() == usize::try_from(at_once)?
            } {}
        }
        #[expect(unreachable_code, reason = "says what the task's errors are")]
        anyhow::Ok(())
    });
    let settled = settle(settling, lane, answers, given.jobs, Duration::ZERO);
    tokio::select! {
        settled = settled => settled?,
        failed = claims => failed??,
    }
    Ok(Done {
        started,
        finished: micros(),
        jobs: given.jobs,
    })
}

/// Records so many: what has come while the last were recorded, and within that time after these began to be.
async fn settle(
    mut session: PgConnection,
    lane: i32,
    mut answers: mpsc::UnboundedReceiver<anyhow::Result<Called>>,
    jobs: u64,
    gathered: Duration,
) -> anyhow::Result<()> {
    let most = usize::try_from(raw::BATCH)?;
    let (mut count, mut next) = (0, Instant::now());
    let mut came = Vec::with_capacity(most);
    while count < jobs {
        if answers.recv_many(&mut came, 1).await == 0 {
            anyhow::bail!("nobody calls any more after {count} of {jobs}");
        }
        tokio::time::sleep_until(next).await;
        next = Instant::now() + gathered;
        while came.len() < most
            && let Ok(called) = answers.try_recv()
        {
            came.push(called);
        }
        let mut batch = Claimed::default();
        for called in came.drain(..) {
            let called = called?;
            batch.lease.push(called.lease);
            batch.slot.push(called.slot);
            batch.intent.push(called.intent);
            batch.fence.push(called.fence);
        }
        raw::settle(&mut session, &batch, lane).await?;
        count += u64::try_from(batch.intent.len())?;
    }
    Ok(())
}

//! The deliverer: fan-out, sending and settling, until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::Utc;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::clock::Boottime;
use crate::outbox::{ClaimedDelivery, DeliveryRecord, DeliveryRequest, Outbox, OutboxError};

use super::address::Names;
use super::attempt::{Answer, judge};
use super::in_flight::InFlight;
use super::message::message;
use super::sender::{Sender, SenderError};
use super::{Settings, SystemNames};

/// Events that one step of the fan-out reads, at most.
const EVENTS: i32 = 1000;
/// Deliveries of one claim, at most.
const CLAIM: usize = 100;
/// Records of one settle, at most, and how long they are gathered.
const BATCH: usize = 200;
const WINDOW: Duration = Duration::from_millis(20);
/// How much longer than `poll` is slept where nothing will be due but what is tried again: what is new wakes the claim.
const BETWEEN_TRIES: u32 = 4;
/// And while there is no endpoint at all: most outboxes never have one, and an idle worker should cost them nothing. Nothing is
/// claimed then; the reading of the feed finds the first one.
const NOBODY: u32 = 30;
/// A message that is not answered by then is a slow one.
const SOON: Duration = Duration::from_secs(1);
/// What a lease has beside the longest attempt: to be recorded in, also while the database is away for a moment.
const MARGIN: Duration = Duration::from_secs(30);
/// How often ended deliveries are pruned, and how many at once.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
const PRUNE: i32 = 2000;
/// So often a settle is tried; after that its messages are told once more.
const TRIES: u32 = 10;

/// Tells endpoints of events.
#[derive(Clone)]
pub struct Deliverer {
    outbox: Outbox,
    sender: Sender,
    settings: Arc<Settings>,
    soon: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    in_flight: InFlight,
    /// There is something to claim, or a slot is free.
    poke: Arc<Notify>,
    /// There is an endpoint, as far as is known.
    anybody: Arc<AtomicBool>,
}

impl Deliverer {
    /// Over that outbox, which should have connections of its own: two are enough.
    pub fn new(outbox: Outbox, settings: Settings) -> Result<Deliverer, SenderError> {
        Deliverer::with_names(outbox, settings, Arc::new(SystemNames))
    }

    /// With other names than the system's: for tests.
    pub fn with_names(outbox: Outbox, settings: Settings, names: Arc<dyn Names>) -> Result<Deliverer, SenderError> {
        Ok(Deliverer {
            outbox,
            sender: Sender::new(&settings, names)?,
            soon: Arc::new(Semaphore::new(settings.concurrency as usize)),
            slow: Arc::new(Semaphore::new(settings.slow_concurrency as usize)),
            in_flight: InFlight::default(),
            poke: Arc::new(Notify::new()),
            anybody: Arc::new(AtomicBool::new(true)),
            settings: Arc::new(settings),
        })
    }

    /// Delivers until `shutdown`; then claims no more and lets what is in flight end, which takes `timeout` at most.
    pub async fn run(&self, shutdown: CancellationToken) {
        let (finished, queue) = mpsc::unbounded_channel();
        let settling = tokio::spawn(self.clone().settle_all(queue));
        let reading = tokio::spawn(self.clone().fan_out_until(shutdown.clone()));
        let attempts = TaskTracker::new();
        self.send_until(&shutdown, &attempts, &finished).await;
        attempts.close();
        attempts.wait().await;
        drop(finished);
        let _ = settling.await;
        let _ = reading.await;
    }

    /// Delivers until nothing is due and nothing is in flight: for tests, which set the clock. Returns how many attempts
    /// were made.
    pub async fn drain(&self) -> Result<usize, OutboxError> {
        let mut made = 0;
        loop {
            while self.outbox.fan_out_webhooks(EVENTS).await?.events > 0 {}
            let (finished, queue) = mpsc::unbounded_channel();
            let settling = tokio::spawn(self.clone().settle_all(queue));
            let attempts = TaskTracker::new();
            let mut after = Uuid::nil();
            let claimed = self.claim(&mut after, &attempts, &finished).await?;
            attempts.close();
            attempts.wait().await;
            drop(finished);
            let _ = settling.await;
            made += claimed;
            if claimed == 0 {
                return Ok(made);
            }
        }
    }

    async fn fan_out_until(self, shutdown: CancellationToken) {
        let mut quiet = true;
        let mut pruned_at = Boottime::now();
        loop {
            let more = match self.fan_out(&mut pruned_at).await {
                Ok(more) => {
                    quiet = true;
                    more
                }
                Err(error) => {
                    crate::metrics::database_error("webhook fan-out");
                    if quiet {
                        tracing::warn!(error = %error, "events cannot be read for webhooks; trying again");
                    }
                    quiet = false;
                    false
                }
            };
            let pause = if more { Duration::ZERO } else { self.rest(1) };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// So many times `poll`, or longer while there is nobody to tell.
    fn rest(&self, times: u32) -> Duration {
        let anybody = self.anybody.load(Ordering::Relaxed);
        self.settings.poll.saturating_mul(if anybody { times } else { NOBODY })
    }

    /// One step. True: there may be more.
    async fn fan_out(&self, pruned_at: &mut Boottime) -> Result<bool, OutboxError> {
        let done = self.outbox.fan_out_webhooks(EVENTS).await?;
        let anybody = done.endpoints > 0;
        let was_anybody = self.anybody.swap(anybody, Ordering::Relaxed);
        if done.deliveries > 0 || (anybody && !was_anybody) {
            self.poke.notify_one();
        }
        if Boottime::now().since(*pruned_at) >= PRUNE_EVERY {
            *pruned_at = Boottime::now();
            self.outbox.prune_webhook_deliveries(self.settings.keep, PRUNE).await?;
        }
        Ok(done.events > 0)
    }

    async fn send_until(
        &self,
        shutdown: &CancellationToken,
        attempts: &TaskTracker,
        finished: &mpsc::UnboundedSender<DeliveryRecord>,
    ) {
        let mut after = Uuid::nil();
        let mut quiet = true;
        while !shutdown.is_cancelled() {
            let claimed = match self.claim_if_anybody(&mut after, attempts, finished).await {
                Ok(claimed) => {
                    quiet = true;
                    claimed
                }
                Err(error) => {
                    crate::metrics::database_error("webhook claim");
                    if quiet {
                        tracing::warn!(error = %error, "deliveries cannot be claimed; trying again");
                    }
                    quiet = false;
                    0
                }
            };
            if claimed > 0 && self.soon.available_permits() > 0 {
                continue;
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(self.rest(BETWEEN_TRIES)) => {}
                // Slots come free one by one: a claim for each would be many small ones.
                () = self.poke.notified(), if quiet => tokio::time::sleep(WINDOW).await,
            }
        }
    }

    async fn claim_if_anybody(
        &self,
        after: &mut Uuid,
        attempts: &TaskTracker,
        finished: &mpsc::UnboundedSender<DeliveryRecord>,
    ) -> Result<usize, OutboxError> {
        match self.anybody.load(Ordering::Relaxed) {
            true => self.claim(after, attempts, finished).await,
            false => Ok(0),
        }
    }

    /// Claims as much as there are slots, and begins an attempt for each.
    async fn claim(
        &self,
        after: &mut Uuid,
        attempts: &TaskTracker,
        finished: &mpsc::UnboundedSender<DeliveryRecord>,
    ) -> Result<usize, OutboxError> {
        let mut slots = Vec::new();
        while slots.len() < CLAIM
            && let Ok(slot) = Arc::clone(&self.soon).try_acquire_owned()
        {
            slots.push(slot);
        }
        if slots.is_empty() {
            return Ok(0);
        }
        let request = DeliveryRequest {
            lease: self.settings.timeout.saturating_add(MARGIN),
            limit: i32::try_from(slots.len()).unwrap_or(i32::MAX),
            each: i32::try_from(self.settings.per_endpoint).unwrap_or(i32::MAX),
            after: *after,
            in_flight: self.in_flight.counts(),
        };
        let claimed = self.outbox.claim_webhook_deliveries(&request).await?;
        let count = claimed.len();
        // They come in the order of their endpoints, and the ring began behind `after`: the last served is the largest that
        // is not larger than it, or if none is, the largest.
        let served = || claimed.iter().map(|delivery| delivery.endpoint);
        let wrapped = served().filter(|endpoint| *endpoint <= *after).max();
        *after = wrapped.or(served().max()).unwrap_or(Uuid::nil());
        for (delivery, slot) in claimed.into_iter().zip(slots) {
            let counted = self.in_flight.count(delivery.endpoint);
            let (this, finished) = (self.clone(), finished.clone());
            attempts.spawn(async move {
                let record = this.attempt(delivery, slot).await;
                drop(counted);
                let _ = finished.send(record);
                this.poke.notify_one();
            });
        }
        Ok(count)
    }

    async fn attempt(&self, claimed: ClaimedDelivery, slot: OwnedSemaphorePermit) -> DeliveryRecord {
        let began = Boottime::now();
        let answer = self.answer(&claimed, slot).await;
        let took = Boottime::now().since(began);
        let verdict = judge(answer, claimed.attempts, claimed.failures, &self.settings);
        crate::metrics::webhook_attempt(verdict.code, took);
        let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        if verdict.failure {
            tracing::debug!(
                endpoint = %claimed.endpoint, delivery = claimed.delivery, code = verdict.code, attempts = claimed.attempts + 1,
                "a webhook did not arrive"
            );
        }
        DeliveryRecord {
            delivery: claimed.delivery,
            fence: claimed.fence,
            result: verdict.result,
            code: verdict.code,
            status: match answer {
                Answer::Status { status, .. } => Some(status),
                Answer::Timeout
                | Answer::Unreachable
                | Answer::Forbidden
                | Answer::Crowded
                | Answer::Pruned
                | Answer::Unsendable => None,
            },
            ms: i32::try_from(took.as_millis()).unwrap_or(i32::MAX),
            wait_ms: ms(verdict.wait.draw()),
            endpoint_wait_ms: verdict.endpoint_wait.map(|wait| ms(wait.draw())),
            failure: verdict.failure,
        }
    }

    async fn answer(&self, claimed: &ClaimedDelivery, slot: OwnedSemaphorePermit) -> Answer {
        let Some(event) = &claimed.event else {
            return Answer::Pruned;
        };
        if claimed.secrets.is_empty() {
            return Answer::Unsendable;
        }
        let Ok(message) = message(event, &self.settings.source, &claimed.secrets, Utc::now()) else {
            return Answer::Unsendable;
        };
        let sending = self.sender.send(&claimed.url, message);
        tokio::pin!(sending);
        if let Ok(answer) = tokio::time::timeout(SOON, &mut sending).await {
            return answer;
        }
        // From here on it takes nobody's place but that of another slow one.
        let Ok(_among_the_slow) = Arc::clone(&self.slow).try_acquire_owned() else {
            return Answer::Crowded;
        };
        drop(slot);
        self.poke.notify_one();
        sending.await
    }

    /// Records what comes until all senders are gone.
    async fn settle_all(self, mut queue: mpsc::UnboundedReceiver<DeliveryRecord>) {
        while let Some(first) = queue.recv().await {
            let mut batch = vec![first];
            let window = tokio::time::sleep(WINDOW);
            tokio::pin!(window);
            while batch.len() < BATCH {
                tokio::select! {
                    biased;
                    next = queue.recv() => match next {
                        Some(record) => batch.push(record),
                        None => break,
                    },
                    () = &mut window => break,
                }
            }
            self.settle(&batch).await;
        }
    }

    async fn settle(&self, batch: &[DeliveryRecord]) {
        for tried in 1..=TRIES {
            let settled =
                self.outbox
                    .settle_webhook_deliveries(batch, self.settings.give_up_after, self.settings.disable_after);
            match settled.await {
                Ok(recorded) => {
                    let failed = recorded.iter().filter(|(_, state)| state == "failed").count();
                    if failed > 0 {
                        crate::metrics::webhooks_given_up(u64::try_from(failed).unwrap_or(u64::MAX));
                        tracing::warn!(
                            failed,
                            "webhooks were given up; capture webhook delivery redeliver tells them once more"
                        );
                    }
                    return;
                }
                Err(error) => {
                    crate::metrics::database_error("webhook settle");
                    tracing::warn!(error = %error, tried, results = batch.len(), "what came of webhooks cannot be recorded");
                    tokio::time::sleep(Duration::from_millis(100) * 2u32.saturating_pow(tried.min(5))).await;
                }
            }
        }
        tracing::error!(
            results = batch.len(),
            "what came of webhooks was not recorded: they are told once more, with the same ids"
        );
    }
}

//! What a job does, and how many have been done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, bail};
use reqwest::{Client, StatusCode, redirect, retry};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(600);
/// How long a queue is left alone between two questions whether it has recorded its last jobs.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Microseconds since 1970.
pub struct Times {
    pub started: u64,
    pub finished: u64,
}

#[derive(Clone, Debug)]
pub struct Work {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    jobs: u64,
    done: AtomicU64,
    provider: Option<Provider>,
    /// How it ended, once it has: no queue is waited for that tries a failed job again later.
    ended: watch::Sender<Option<Result<(), String>>>,
}

#[derive(Debug)]
struct Provider {
    client: Client,
    url: String,
}

impl Work {
    pub fn new(jobs: u64, mode: &str) -> anyhow::Result<Work> {
        let provider = match mode {
            "noop" => None,
            base => Some(Provider::new(base)?),
        };
        Ok(Work {
            state: Arc::new(State {
                jobs,
                done: AtomicU64::new(0),
                provider,
                ended: watch::Sender::new(None),
            }),
        })
    }

    pub fn jobs(&self) -> u64 {
        self.state.jobs
    }

    /// One job.
    pub async fn perform(&self) -> Result<(), String> {
        let state = &self.state;
        if let Some(provider) = &state.provider
            && let Err(error) = provider.capture().await
        {
            let _nobody_waits_any_more = state.ended.send(Some(Err(error.clone())));
            return Err(error);
        }
        if state.done.fetch_add(1, Ordering::Relaxed) + 1 == state.jobs {
            let _nobody_waits_any_more = state.ended.send(Some(Ok(())));
        }
        Ok(())
    }

    /// Waits until every job has run, and then until `left` says that the queue has recorded that.
    pub async fn done(&self, left: impl AsyncFn() -> anyhow::Result<i64>) -> anyhow::Result<()> {
        let mut ended = self.state.ended.subscribe();
        let waited = timeout(PATIENCE, ended.wait_for(Option::is_some)).await;
        let Ok(ended) = waited else {
            let done = self.state.done.load(Ordering::Relaxed);
            bail!("{done} of {} jobs were done after {PATIENCE:?}", self.state.jobs);
        };
        if let Some(Err(error)) = &*ended? {
            return Err(anyhow!(error.clone()));
        }
        let recorded = async {
            while left().await? > 0 {
                sleep(LOOK_AGAIN).await;
            }
            Ok(())
        };
        timeout(PATIENCE, recorded).await?
    }
}

impl Provider {
    /// The client is the product's, as far as it is built from the same settings.
    fn new(base: &str) -> anyhow::Result<Provider> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .pool_idle_timeout(Duration::from_secs(4))
            .pool_max_idle_per_host(usize::MAX)
            .build()?;
        Ok(Provider {
            client,
            url: format!("{base}/v2/payments/100000001/capture"),
        })
    }

    async fn capture(&self) -> Result<(), String> {
        let reference = Uuid::new_v4();
        let body = json!({
            "requestId": reference,
            "amount": { "amount": "10.00", "currency": "USD" },
            "paymentEventMerchantReference": reference,
        });
        let answered = self.client.post(&self.url).json(&body).send().await;
        let answer = answered.map_err(|error| format!("the provider did not answer: {error:?}"))?;
        let status = answer.status();
        // Read to its end, or the connection is not kept.
        let body = answer.bytes().await;
        body.map_err(|error| format!("the provider's answer broke off: {error:?}"))?;
        match status {
            StatusCode::CREATED => Ok(()),
            other => Err(format!("the provider answered {other}")),
        }
    }
}

pub fn micros() -> anyhow::Result<u64> {
    Ok(u64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros(),
    )?)
}

/// How the jobs are cut into statements when they are enqueued.
pub fn batches(jobs: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..jobs)
        .step_by(5_000)
        .map(move |first| first..jobs.min(first + 5_000))
}

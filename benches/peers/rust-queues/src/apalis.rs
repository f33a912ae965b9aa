//! apalis on its Postgres backend: <https://docs.rs/apalis-postgres>.

use std::time::Duration;

use apalis::layers::WorkerBuilderExt;
use apalis::prelude::{BackendExt, BoxDynError, Data, TaskSink, WorkerBuilder};
use apalis_postgres::{Config, PostgresStorage};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use crate::work::{Times, Work, batches, micros};

const QUEUE: &str = "capture";
/// A worker asks for jobs, runs them and records them in turns, so more than one keep both processors busy.
const WORKERS: usize = 4;
/// How long a worker that found no job rests. Without it nothing wakes one for what ran while it was asking: that was recorded
/// with its next heartbeat, after 30 seconds. A worker that finds jobs does not rest.
const REST: Duration = Duration::from_millis(10);

#[derive(Deserialize, Serialize)]
struct Capture {
    n: u64,
}

async fn connect(url: &str) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(20).connect(url).await?)
}

pub async fn enqueue(url: &str, jobs: u64) -> anyhow::Result<()> {
    let pool = connect(url).await?;
    PostgresStorage::setup(&pool).await?;
    let mut storage = PostgresStorage::new(&pool).with_config(Config::default().queue(QUEUE));
    for batch in batches(jobs) {
        storage.push_bulk(batch.map(|n| Capture { n }).collect()).await?;
    }
    Ok(())
}

async fn capture(_: Capture, work: Data<Work>) -> Result<(), BoxDynError> {
    Ok(work.perform().await?)
}

/// Of its storages the plain one, which asks for the next batch as soon as it has run out: the others (`with_pubsub`, the
/// factory's shared one) wait for the notification of a new job, and here every job is there before.
pub async fn work(url: &str, work: Work, concurrency: usize) -> anyhow::Result<Times> {
    let pool = connect(url).await?;
    let each = (concurrency / WORKERS).max(1);
    // The larger a batch, the more jobs are recorded at once: a worker does so when it has run out of them.
    // Asking for a batch already claims its jobs for this worker. Locking marks them `Running` beside, one update more per job.
    let config = Config::default().queue(QUEUE).batch_size(concurrency).lock_tasks(false);
    let left = async || {
        let left = sqlx::query_scalar("select count(*) from apalis.jobs where status <> 'Done'");
        Ok(left.fetch_one(&pool).await?)
    };
    let mut workers = JoinSet::new();
    let started = micros()?;
    for n in 0..WORKERS {
        let worker = WorkerBuilder::new(format!("worker-{n}"))
            .backend(
                PostgresStorage::<Capture>::new(&pool)
                    .with_config(config.clone())
                    .poll_with_interval(REST),
            )
            .data(work.clone())
            .concurrency(each)
            .build(capture);
        workers.spawn(worker.run());
    }
    let finished = tokio::select! {
        Some(ended) = workers.join_next() => { ended??; anyhow::bail!("a worker ended by itself") }
        done = work.done(left) => { done?; micros()? }
    };
    Ok(Times { started, finished })
}

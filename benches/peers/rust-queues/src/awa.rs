//! awa: <https://docs.rs/awa>.

use std::time::Duration;

use awa::{Client, InsertOpts, JobArgs, JobError, JobResult, QueueConfig, QueueStorage, QueueStorageConfig};
use serde::{Deserialize, Serialize};
use sqlx_08::PgPool;
use sqlx_08::postgres::PgPoolOptions;

use crate::work::{Times, Work, batches, micros};

const QUEUE: &str = "capture";
/// It has one claimer and one shard, unless told otherwise, and then it is the claims that jobs wait for: more of both are its
/// documents' advice for a hot queue. Four claimers were no faster than two on two cores, and took more of the database.
const CLAIMERS: u16 = 2;
const SHARDS: i16 = 4;

/// How many jobs are recorded as done: most of them are in batches, a few each in a row of their own, and old ones are only
/// counted. Its own exact count (`queue_counts`) takes a second and more of the database's time for 5,000.
const RECORDED: &str = "select (coalesce((select sum(completed_count) from awa.receipt_completion_batches), 0)
    + (select count(*) from awa.done_entries)
    + coalesce((select sum(pruned_completed_count) from awa.queue_terminal_rollups), 0))::int8";

#[derive(Deserialize, JobArgs, Serialize)]
struct Capture {
    n: u64,
}

async fn connect(url: &str) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(20).connect(url).await?)
}

pub async fn enqueue(url: &str, jobs: u64) -> anyhow::Result<()> {
    let pool = connect(url).await?;
    awa::migrations::run(&pool).await?;
    let storage = QueueStorage::new(QueueStorageConfig::default())?;
    storage.install(&pool).await?;
    sqlx_08::query("insert into awa.queue_meta (queue, enqueue_shards) values ($1, $2)")
        .bind(QUEUE)
        .bind(SHARDS)
        .execute(&pool)
        .await?;
    for batch in batches(jobs) {
        let options = InsertOpts {
            queue: QUEUE.to_owned(),
            ..InsertOpts::default()
        };
        let params = batch
            .map(|n| awa::insert::params_with(&Capture { n }, options.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        storage.enqueue_params_copy(&pool, &params).await?;
    }
    Ok(())
}

/// Its storage engine of 0.6 with its own sizes: claims of up to 512 jobs, and from 512 workers on four flushers of completions.
pub async fn work(url: &str, work: Work, concurrency: usize) -> anyhow::Result<Times> {
    let pool = connect(url).await?;
    let config = QueueConfig {
        max_workers: u32::try_from(concurrency)?,
        // It is slept through before the first look.
        poll_interval: Duration::from_millis(10),
        // Without a deadline of its own a job takes the short path of its storage engine.
        deadline_duration: Duration::ZERO,
        claimers: CLAIMERS,
        ..QueueConfig::default()
    };
    let each = work.clone();
    let client = Client::builder(pool.clone())
        .queue(QUEUE, config)
        .register::<Capture, _, _>(move |_, _| {
            let work = each.clone();
            async move {
                match work.perform().await {
                    Ok(()) => Ok(JobResult::Completed),
                    Err(error) => Err(JobError::Terminal(error)),
                }
            }
        })
        .build()?;
    let jobs = i64::try_from(work.jobs())?;
    let left = async || Ok(jobs - sqlx_08::query_scalar::<_, i64>(RECORDED).fetch_one(&pool).await?);
    let started = micros()?;
    client.start().await?;
    work.done(left).await?;
    let finished = micros()?;
    client.shutdown(Duration::from_secs(5)).await;
    Ok(Times { started, finished })
}

//! graphile_worker: <https://docs.rs/graphile_worker>.

use std::time::Duration;

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
    WorkerUtils,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::work::{Times, Work, batches, micros};

#[derive(Deserialize, Serialize)]
struct Capture {
    n: u64,
}

impl TaskHandler for Capture {
    const IDENTIFIER: &'static str = "capture";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        match context.get_ext::<Work>() {
            Some(work) => work.perform().await,
            None => Err("the worker was built without its work".to_owned()),
        }
    }
}

async fn connect(url: &str) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(20).connect(url).await?)
}

pub async fn enqueue(url: &str, jobs: u64) -> anyhow::Result<()> {
    let utils = WorkerUtils::new(connect(url).await?, "graphile_worker");
    utils.migrate().await?;
    for batch in batches(jobs) {
        let specs: Vec<RawJobSpec> = batch
            .map(|n| RawJobSpec {
                identifier: Capture::IDENTIFIER.to_owned(),
                payload: json!({ "n": n }),
                spec: JobSpec::default(),
            })
            .collect();
        utils.add_raw_jobs(&specs).await?;
    }
    Ok(())
}

/// As its documents advise a "throughput-oriented worker": a local queue, and completions in batches. The sizes are those of
/// its own benchmark (`benches/perf_test.rs`).
pub async fn work(url: &str, work: Work, concurrency: usize) -> anyhow::Result<Times> {
    let pool = connect(url).await?;
    let worker = WorkerOptions::default()
        .pg_pool(pool.clone())
        .concurrency(concurrency)
        .poll_interval(Duration::from_millis(5))
        .complete_job_batch_delay(Duration::from_millis(5))
        .fail_job_batch_delay(Duration::from_millis(5))
        .local_queue(LocalQueueConfig::default().with_size(5_000))
        .add_extension(work.clone())
        .define_job::<Capture>()
        .init()
        .await?;
    let left = async || {
        // A job that was done is deleted.
        let left = sqlx::query_scalar("select count(*) from graphile_worker._private_jobs");
        Ok(left.fetch_one(&pool).await?)
    };
    let started = micros()?;
    let finished = tokio::select! {
        ran = worker.run() => { ran?; anyhow::bail!("the worker ended by itself") }
        done = work.done(left) => { done?; micros()? }
    };
    Ok(Times { started, finished })
}

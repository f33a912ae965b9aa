//! B: a provider that takes 20 ms, with 64 and with 512 calls in flight, beside the HTTP client alone, and beside the same
//! SQL and the same client in a bare loop.

use std::time::Duration;

use crate::child::{Child, Given, Part};
use crate::figures::{number, ratio};
use crate::load::{self, Backlog};
use crate::processes;
use crate::report::Chapter;
use crate::scenario::Scenario;
use crate::server::{Database, Server, Spent};
use crate::stage::Stage;
use crate::stub::Stub;
use crate::worker::{Account, WorkerProcess};

const DELAY: Duration = Duration::from_millis(20);
/// Longer than the longest run.
const PATIENCE: Duration = Duration::from_secs(900);

pub async fn run(stage: &Stage) -> anyhow::Result<Chapter> {
    // About ten seconds each.
    let sizes = [(64, stage.size(30_000, 600)), (512, stage.size(60_000, 1_200))];
    let mut chapter = Chapter::new(
        Scenario::B,
        format!(
            "a provider that takes {} ms: {} captures at 64, {} at 512 in flight",
            DELAY.as_millis(),
            sizes[0].1,
            sizes[1].1
        ),
    );
    let mut server = Server::start(&[]).await?;
    for _ in stage.rounds("B") {
        for (concurrency, jobs) in sizes {
            let client = client(&mut chapter, concurrency, jobs).await?;
            let bare = bare(stage, &mut server, &mut chapter, concurrency, jobs).await?;
            let worker = worker(stage, &mut server, &mut chapter, concurrency, jobs).await?;
            for (of, ceiling) in [("of the HTTP client", client), ("of the bare loop", bare)] {
                chapter.add(&name("worker", concurrency), of, "", ratio(worker, ceiling));
            }
        }
    }
    server.stop().await?;
    chapter.note("from the first request to the last answer, by the provider's clock; the stub runs on the same cores");
    Ok(chapter)
}

fn name(who: &str, concurrency: u32) -> String {
    format!("{who}, {concurrency} in flight")
}

/// The HTTP client alone; calls a second.
async fn client(chapter: &mut Chapter, concurrency: u32, jobs: u64) -> anyhow::Result<f64> {
    let case = name("HTTP client", concurrency);
    let stub = Stub::start().await?;
    let given = Given {
        url: stub.url(DELAY),
        provider: None,
        jobs,
        concurrency,
    };
    let mut child = Child::start(Part::Http, &given).await?;
    let cpu = processes::cpu_ms(child.pid);
    child.go().await?;
    let cpu = number(processes::cpu_ms(child.pid).saturating_sub(cpu));
    let peak = number(processes::peak_rss_kib(child.pid)) / 1024.0;
    child.end().await?;
    let rate = rate(&stub, jobs);
    chapter.add(&case, "captures", "1/s", rate);
    chapter.add(&case, "CPU of workers", "ms/1,000", ratio(cpu, number(jobs) / 1000.0));
    chapter.add(&case, "peak RSS", "MiB", peak);
    Ok(rate)
}

/// The same SQL and the same client without the product; captures a second.
async fn bare(
    stage: &Stage,
    server: &mut Server,
    chapter: &mut Chapter,
    concurrency: u32,
    jobs: u64,
) -> anyhow::Result<f64> {
    let with = Prepared::new(server, name("bare loop", concurrency), jobs).await?;
    let given = Given {
        url: with.database.url.clone(),
        provider: Some(with.stub.url(DELAY)),
        jobs,
        concurrency,
    };
    let mut child = Child::start(Part::Bare, &given).await?;
    let before = server.mark(&with.database, &[child.pid]).await?;
    child.go().await?;
    let after = server.mark(&with.database, &[child.pid]).await?;
    let peak = number(processes::peak_rss_kib(child.pid)) / 1024.0;
    child.end().await?;
    let spent = Spent::between(&before, &after);
    with.tell(stage, server, chapter, spent, peak).await
}

/// The product; captures a second.
async fn worker(
    stage: &Stage,
    server: &mut Server,
    chapter: &mut Chapter,
    concurrency: u32,
    jobs: u64,
) -> anyhow::Result<f64> {
    let mut with = Prepared::new(server, name("worker", concurrency), jobs).await?;
    let account = Account {
        name: "default",
        base_url: with.stub.url(DELAY),
        concurrency: Some(concurrency),
    };
    let before = server.mark(&with.database, &[]).await?;
    let mut worker = WorkerProcess::start(&stage.binary, &stage.directory, &with.database.url, &[account]).await?;
    until_drained(&mut worker, &with.stub, &mut with.database, jobs).await?;
    let after = server.mark(&with.database, &[worker.pid]).await?;
    let peak = number(processes::peak_rss_kib(worker.pid)) / 1024.0;
    worker.drain().await?;
    let spent = Spent::between(&before, &after);
    with.tell(stage, server, chapter, spent, peak).await
}

/// What a case is measured with: a database with so many captures, and a provider.
struct Prepared {
    case: String,
    jobs: u64,
    database: Database,
    stub: Stub,
}

impl Prepared {
    async fn new(server: &mut Server, case: String, jobs: u64) -> anyhow::Result<Prepared> {
        let mut database = server.database().await?;
        server.checkpoint().await?;
        load::insert(&mut database, "default", Backlog::of(jobs)).await?;
        Ok(Prepared {
            case,
            jobs,
            database,
            stub: Stub::start().await?,
        })
    }

    /// Tells what it came to, the peak RSS in MiB; all must be captured. Returns how many a second.
    async fn tell(
        mut self,
        stage: &Stage,
        server: &mut Server,
        chapter: &mut Chapter,
        spent: Spent,
        peak: f64,
    ) -> anyhow::Result<f64> {
        let (case, jobs) = (&self.case, self.jobs);
        let rate = rate(&self.stub, jobs);
        chapter.add(case, "captures", "1/s", rate);
        spent.tell(chapter, case, number(jobs));
        stage.tell_statements(case, &server.dearest_statements(&self.database).await?);
        chapter.add(case, "peak RSS", "MiB", peak);
        let captured = self
            .database
            .count("select count(*) from capture.outcomes where state = 'captured'")
            .await?;
        anyhow::ensure!(
            captured == i64::try_from(jobs)?,
            "{case}: {captured} of {jobs} are captured"
        );
        server.drop(self.database).await?;
        Ok(rate)
    }
}

/// Until the provider was asked so often and every answer is recorded.
pub async fn until_drained(
    worker: &mut WorkerProcess,
    stub: &Stub,
    database: &mut Database,
    jobs: u64,
) -> anyhow::Result<()> {
    let began = tokio::time::Instant::now();
    while stub.requests() < jobs {
        worker.must_run()?;
        anyhow::ensure!(
            began.elapsed() < PATIENCE,
            "the provider saw {} of {jobs} captures",
            stub.requests()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let open =
        "select (not exists (select from capture.leases) and not exists (select from capture.ready))::integer::bigint";
    database
        .until("captures that are recorded", open, 1, Duration::from_secs(60))
        .await
}

fn rate(stub: &Stub, jobs: u64) -> f64 {
    let (first, last) = stub.span();
    ratio(number(jobs) * 1_000_000.0, number(last - first))
}

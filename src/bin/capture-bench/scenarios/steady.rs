//! C: a steady stream of inserts, and how soon each is at the provider and recorded, by default settings, beside the same SQL and
//! the same client in a bare loop.

use std::time::Duration;

use crate::child::{Child, Given, Part};
use crate::figures::number;
use crate::latency::{COMMIT_TIMES, Latencies};
use crate::load::{self, Stream};
use crate::processes;
use crate::report::Chapter;
use crate::scenario::Scenario;
use crate::server::{Database, Server, Spent};
use crate::stage::Stage;
use crate::stub::Stub;
use crate::worker::{Account, WorkerProcess};

pub const DELAY: Duration = Duration::from_millis(20);

pub async fn run(stage: &Stage) -> anyhow::Result<Chapter> {
    let lasts = Duration::from_secs(stage.size(30, 2));
    let rates = if stage.quick { [50, 100] } else { [200, 1000] };
    let mut chapter = Chapter::new(
        Scenario::C,
        format!(
            "a steady stream for {} s, one worker with default settings (32 in flight), a provider that takes {} ms",
            lasts.as_secs(),
            DELAY.as_millis()
        ),
    );
    let mut server = Server::start(&[COMMIT_TIMES]).await?;
    for round in stage.rounds("C") {
        for rate in rates {
            // First in every other round, so that what is warm by then favours neither.
            if round % 2 == 0 {
                bare(stage, &mut server, &mut chapter, Stream { rate, lasts, from: 0 }).await?;
            }
            let mut database = server.database().await?;
            let stub = Stub::start().await?;
            let worker = idle_worker(stage, &stub, &mut database).await?;
            measure(
                &mut server,
                &mut chapter,
                &format!("{rate}/s"),
                Running {
                    stage,
                    database: &mut database,
                    stub: &stub,
                    worker: worker.pid,
                },
                Stream { rate, lasts, from: 0 },
            )
            .await?;
            worker.drain().await?;
            server.drop(database).await?;
            if round % 2 == 1 {
                bare(stage, &mut server, &mut chapter, Stream { rate, lasts, from: 0 }).await?;
            }
        }
    }
    server.stop().await?;
    Ok(chapter)
}

/// The same stream through the same SQL and the same client without the product.
async fn bare(stage: &Stage, server: &mut Server, chapter: &mut Chapter, stream: Stream) -> anyhow::Result<()> {
    let mut database = server.database().await?;
    let stub = Stub::start().await?;
    let given = Given {
        url: database.url.clone(),
        provider: Some(stub.url(DELAY)),
        jobs: stream.rate * stream.lasts.as_secs().max(1),
        concurrency: 32,
    };
    let mut child = Child::start(Part::BareStream, &given).await?;
    let running = Running {
        stage,
        database: &mut database,
        stub: &stub,
        worker: child.pid,
    };
    let case = format!("bare loop, {}/s", stream.rate);
    tokio::try_join!(child.go(), measure(server, chapter, &case, running, stream))?;
    child.end().await?;
    server.drop(database).await
}

/// A worker with default settings that has nothing to do yet.
pub async fn idle_worker(stage: &Stage, stub: &Stub, database: &mut Database) -> anyhow::Result<WorkerProcess> {
    let account = Account {
        name: "default",
        base_url: stub.url(DELAY),
        concurrency: None,
    };
    let worker = WorkerProcess::start(&stage.binary, &stage.directory, &database.url, &[account]).await?;
    let present = "select count(*) from capture.workers";
    database
        .until("workers that are there", present, 1, Duration::from_secs(60))
        .await?;
    Ok(worker)
}

/// A worker that runs, and what stands around it.
pub struct Running<'a> {
    pub stage: &'a Stage,
    pub database: &'a mut Database,
    pub stub: &'a Stub,
    /// The worker's process id.
    pub worker: u32,
}

/// Sends a stream through a worker that runs, and tells what became of it.
pub async fn measure(
    server: &mut Server,
    chapter: &mut Chapter,
    case: &str,
    running: Running<'_>,
    stream: Stream,
) -> anyhow::Result<Latencies> {
    let Running {
        stage,
        database,
        stub,
        worker,
    } = running;
    let _before = stub.take_visits();
    let captured = "select count(*) from capture.outcomes";
    let already = database.count(captured).await?;
    let before = server.mark(database, &[worker]).await?;
    let inserted = load::stream(&database.url, "default", stream).await?;
    let after = server.mark(database, &[worker]).await?;
    stage.tell_statements(case, &server.dearest_statements(database).await?);
    let all = already + i64::try_from(inserted.len())?;
    database
        .until("captures that are recorded", captured, all, Duration::from_secs(120))
        .await?;

    // Two seconds until everybody is warm, and statements are planned.
    let warm_up = usize::try_from(stream.rate * 2)?.min(inserted.len() / 4);
    let latencies = Latencies::of(&inserted, warm_up, &stub.take_visits(), database).await?;
    latencies.tell(chapter, case);
    let lasted = inserted
        .last()
        .zip(inserted.first())
        .map_or(f64::NAN, |(last, first)| number(last.sent - first.sent) / 1_000_000.0);
    chapter.add(case, "inserts", "1/s", number(i64::try_from(inserted.len())?) / lasted);
    // Producers' statements, log and commits included: of one capture from insert to event.
    Spent::between(&before, &after).tell(chapter, case, number(i64::try_from(inserted.len())?));
    chapter.add(
        case,
        "peak RSS",
        "MiB",
        number(processes::peak_rss_kib(worker)) / 1024.0,
    );
    chapter.note("CPU, log, commits and statements of a stream include its inserts");
    Ok(latencies)
}

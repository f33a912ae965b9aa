//! G: two accounts in one worker. One's provider hangs with all its slots taken; how does the other fare?

use std::time::Duration;

use crate::figures::ratio;
use crate::latency::{COMMIT_TIMES, ms};
use crate::load::{self, Backlog, Stream};
use crate::report::Chapter;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::stage::Stage;
use crate::stub::Stub;
use crate::worker::{Account, WorkerProcess};

use super::steady::{DELAY, Running, measure};

/// As long as Afterpay may take by its own documents.
const HANGS: Duration = Duration::from_secs(70);
/// The default.
const SLOTS: u64 = 32;

pub async fn run(stage: &Stage) -> anyhow::Result<Chapter> {
    let lasts = Duration::from_secs(stage.size(30, 2));
    let rate = stage.size(200, 50);
    let mut chapter = Chapter::new(
        Scenario::G,
        format!(
            "{rate}/s to a healthy account for {} s; beside it one with a backlog whose provider takes {} s",
            lasts.as_secs(),
            HANGS.as_secs()
        ),
    );
    let mut server = Server::start(&[COMMIT_TIMES]).await?;
    for _ in stage.rounds("G") {
        let mut medians = Vec::new();
        for (case, hanging) in [("alone", 0), ("beside", 1_000)] {
            let mut database = server.database().await?;
            let (healthy, hangs) = (Stub::start().await?, Stub::start().await?);
            let backlog = Backlog {
                from: 5_000_000,
                ..Backlog::of(hanging)
            };
            load::insert(&mut database, "hangs", backlog).await?;
            let accounts = [
                Account {
                    name: "default",
                    base_url: healthy.url(DELAY),
                    concurrency: None,
                },
                Account {
                    name: "hangs",
                    base_url: hangs.url(HANGS),
                    concurrency: None,
                },
            ];
            let mut worker = WorkerProcess::start(&stage.binary, &stage.directory, &database.url, &accounts).await?;
            database
                .until(
                    "workers that are there",
                    "select count(*) from capture.workers",
                    1,
                    Duration::from_secs(60),
                )
                .await?;
            while hangs.requests() < SLOTS.min(hanging) {
                worker.must_run()?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let stream = Stream { rate, lasts, from: 0 };
            let latencies = measure(
                &mut server,
                &mut chapter,
                case,
                Running {
                    stage,
                    database: &mut database,
                    stub: &healthy,
                    worker: worker.pid,
                },
                stream,
            )
            .await?;
            medians.push(ms(&latencies.sent_to_provider, 990));
            worker.abandon().await?;
            server.drop(database).await?;
        }
        if let [alone, beside] = medians.as_slice() {
            chapter.add("beside", "p99, of alone", "sent to provider", ratio(*beside, *alone));
        }
    }
    server.stop().await?;
    Ok(chapter)
}

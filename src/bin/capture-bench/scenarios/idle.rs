//! F: what three workers cost that have nothing to do.

use std::time::Duration;

use crate::figures::{number, ratio};
use crate::processes;
use crate::report::Chapter;
use crate::scenario::Scenario;
use crate::server::{Server, Spent};
use crate::stage::Stage;
use crate::stub::Stub;
use crate::worker::{Account, WorkerProcess};

const CASE: &str = "3 workers";

pub async fn run(stage: &Stage) -> anyhow::Result<Chapter> {
    // The longest period of upkeep is 5 s; the longest poll too.
    let calm = Duration::from_secs(stage.size(12, 2));
    let watched = Duration::from_secs(stage.size(60, 3));
    let mut chapter = Chapter::new(
        Scenario::F,
        format!(
            "three idle workers, default settings, watched for {} s",
            watched.as_secs()
        ),
    );
    let mut server = Server::start(&[]).await?;
    for _ in stage.rounds("F") {
        let mut database = server.database().await?;
        let stub = Stub::start().await?;
        let mut workers = Vec::new();
        for _ in 0..3 {
            let account = Account {
                name: "default",
                base_url: stub.url(Duration::from_millis(20)),
                concurrency: None,
            };
            workers.push(WorkerProcess::start(&stage.binary, &stage.directory, &database.url, &[account]).await?);
        }
        let present = "select count(*) from capture.workers";
        database
            .until("workers that are there", present, 3, Duration::from_secs(60))
            .await?;
        tokio::time::sleep(calm).await;

        let pids: Vec<u32> = workers.iter().map(|worker| worker.pid).collect();
        let transactions =
            "select (xact_commit + xact_rollback)::bigint from pg_stat_database where datname = current_database()";
        let transactions_before = database.count(transactions).await?;
        let before = server.mark(&database, &pids).await?;
        tokio::time::sleep(watched).await;
        let after = server.mark(&database, &pids).await?;
        let transactions_after = database.count(transactions).await?;
        for worker in &mut workers {
            worker.must_run()?;
        }

        let spent = Spent::between(&before, &after);
        spent.tell_statements(&mut chapter, CASE);
        chapter.add(
            CASE,
            "transactions",
            "1/s",
            ratio(number(transactions_after - transactions_before), spent.seconds),
        );
        chapter.add(CASE, "commits that wrote", "1/s", spent.commits_a_second());
        chapter.add(
            CASE,
            "CPU of all three",
            "% of a core",
            ratio(spent.workers_ms, spent.seconds * 10.0),
        );
        chapter.add(
            CASE,
            "CPU of Postgres",
            "% of a core",
            ratio(spent.postgres_ms, spent.seconds * 10.0),
        );
        let most = |of: fn(u32) -> u64| number(pids.iter().copied().map(of).max().unwrap_or(0)) / 1024.0;
        chapter.add(CASE, "peak RSS, the largest", "MiB", most(processes::peak_rss_kib));
        chapter.add(CASE, "RSS, the largest", "MiB", most(processes::rss_kib));
        stage.tell_statements(CASE, &server.dearest_statements(&database).await?);
        for worker in workers {
            worker.drain().await?;
        }
        server.drop(database).await?;
    }
    server.stop().await?;
    Ok(chapter)
}

//! A: how fast a backlog is captured if the provider costs nothing, beside the same SQL without the worker.

use crate::child::{Child, Done, Given, Part};
use crate::figures::{number, ratio};
use crate::load::{self, Backlog};
use crate::processes;
use crate::report::Chapter;
use crate::scenario::Scenario;
use crate::server::{Database, Server, Spent};
use crate::stage::Stage;

/// The most that `capture.toml` takes.
pub const CONCURRENCY: u32 = 1024;

pub async fn run(stage: &Stage) -> anyhow::Result<Chapter> {
    let jobs = stage.long_drain();
    let mut chapter = Chapter::new(
        Scenario::A,
        format!("drain of {jobs} captures, provider in process, {CONCURRENCY} in flight at most"),
    );
    let mut server = Server::start(&[]).await?;
    for _ in stage.rounds("A") {
        let raw = drain(stage, &mut server, &mut chapter, "raw SQL", Part::Raw, jobs).await?;
        let worker = drain(stage, &mut server, &mut chapter, "worker", Part::Worker, jobs).await?;
        chapter.add("worker", "of the raw SQL", "", ratio(worker, raw));
    }
    server.stop().await?;
    chapter.note("log, commits and CPU are those of claim and settle; the insert is done before");
    Ok(chapter)
}

/// Drains a new backlog, in a new database; captures a second.
async fn drain(
    stage: &Stage,
    server: &mut Server,
    chapter: &mut Chapter,
    case: &str,
    part: Part,
    jobs: u64,
) -> anyhow::Result<f64> {
    let mut database = server.database().await?;
    // Before the insert and not behind it: a backlog this young has been written since the last checkpoint in real life too.
    server.checkpoint().await?;
    load::insert(&mut database, "default", Backlog::of(jobs)).await?;
    let (rate, dearest) = drain_what_is_there(server, chapter, case, part, jobs, &mut database).await?;
    stage.tell_statements(case, &dearest);
    let captured = database
        .count("select count(*) from capture.outcomes where state = 'captured'")
        .await?;
    anyhow::ensure!(
        captured == i64::try_from(jobs)?,
        "{case}: {captured} of {jobs} are captured"
    );
    server.drop(database).await?;
    Ok(rate)
}

/// Drains so many of the captures that are in a database; captures a second, and the server's dearest statements.
pub async fn drain_what_is_there(
    server: &mut Server,
    chapter: &mut Chapter,
    case: &str,
    part: Part,
    jobs: u64,
    database: &mut Database,
) -> anyhow::Result<(f64, Vec<String>)> {
    let given = Given {
        url: database.url.clone(),
        provider: None,
        jobs,
        concurrency: CONCURRENCY,
    };
    let mut child = Child::start(part, &given).await?;
    let before = server.mark(database, &[child.pid]).await?;
    let done: Done = child.go().await?;
    let after = server.mark(database, &[child.pid]).await?;
    let peak = number(processes::peak_rss_kib(child.pid)) / 1024.0;
    child.end().await?;
    let dearest = server.dearest_statements(database).await?;

    let captures = number(done.jobs);
    let rate = ratio(captures, done.seconds());
    chapter.add(case, "captures", "1/s", rate);
    Spent::between(&before, &after).tell(chapter, case, captures);
    chapter.add(case, "peak RSS", "MiB", peak);
    Ok((rate, dearest))
}

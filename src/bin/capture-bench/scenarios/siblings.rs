//! H: two captures of each payment, which must not be in flight at once, beside as many single ones.

use crate::child::Part;
use crate::figures::ratio;
use crate::load::{self, Backlog};
use crate::report::Chapter;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::stage::Stage;

use super::noop::drain_what_is_there;

pub async fn run(stage: &Stage) -> anyhow::Result<Chapter> {
    let jobs = stage.long_drain() / 4;
    let mut chapter = Chapter::new(Scenario::H, format!("drain of {jobs} captures, provider in process"));
    let mut server = Server::start(&[]).await?;
    for _ in stage.rounds("H") {
        let single = drain(stage, &mut server, &mut chapter, "one per payment", jobs, 1).await?;
        let pairs = drain(stage, &mut server, &mut chapter, "two per payment", jobs, 2).await?;
        chapter.add("two per payment", "of one per payment", "", ratio(pairs, single));
    }
    server.stop().await?;
    Ok(chapter)
}

async fn drain(
    stage: &Stage,
    server: &mut Server,
    chapter: &mut Chapter,
    case: &str,
    jobs: u64,
    per_payment: u64,
) -> anyhow::Result<f64> {
    let mut database = server.database().await?;
    server.checkpoint().await?;
    let backlog = Backlog {
        per_payment,
        ..Backlog::of(jobs)
    };
    load::insert(&mut database, "default", backlog).await?;
    let (rate, dearest) = drain_what_is_there(server, chapter, case, Part::Worker, jobs, &mut database).await?;
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

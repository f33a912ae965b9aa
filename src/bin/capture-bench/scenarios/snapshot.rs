//! E: somebody holds an old snapshot open (a report, a dump, a forgotten session): nothing deleted since can be vacuumed.
//! A long drain under it, and then a steady stream over the drain's dead rows.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::child::Part;
use crate::figures::ratio;
use crate::latency::COMMIT_TIMES;
use crate::load::{self, Backlog, Stream};
use crate::report::Chapter;
use crate::scenario::Scenario;
use crate::server::{Server, run as sql};
use crate::stage::Stage;
use crate::stub::Stub;

use super::noop::drain_what_is_there;
use super::steady::{Running, idle_worker, measure};

pub async fn run(stage: &Stage) -> anyhow::Result<Chapter> {
    let jobs = stage.long_drain();
    let rate = stage.size(200, 50);
    let lasts = Duration::from_secs(stage.size(20, 2));
    let mut chapter = Chapter::new(
        Scenario::E,
        format!(
            "drain of {jobs} captures, provider in process; then {rate}/s for {} s through capture work",
            lasts.as_secs()
        ),
    );
    let mut server = Server::start(&[COMMIT_TIMES]).await?;
    for _ in stage.rounds("E") {
        let mut rates = Vec::new();
        for (name, held) in [("no snapshot", false), ("old snapshot", true)] {
            let mut database = server.database().await?;
            server.checkpoint().await?;
            let mut holder = PgConnection::connect(&database.url).await?;
            if held {
                sql(
                    &mut holder,
                    "begin isolation level repeatable read; select count(*) from capture.ready",
                )
                .await?;
            }
            load::insert(&mut database, "default", Backlog::of(jobs)).await?;
            let drain = format!("drain, {name}");
            let (drained, _) =
                drain_what_is_there(&mut server, &mut chapter, &drain, Part::Worker, jobs, &mut database).await?;
            rates.push(drained);

            let stub = Stub::start().await?;
            let worker = idle_worker(stage, &stub, &mut database).await?;
            let stream = Stream {
                rate,
                lasts,
                from: 5_000_000,
            };
            let case = format!("{rate}/s, {name}");
            measure(
                &mut server,
                &mut chapter,
                &case,
                Running {
                    stage,
                    database: &mut database,
                    stub: &stub,
                    worker: worker.pid,
                },
                stream,
            )
            .await?;
            worker.drain().await?;
            holder.close().await?;
            server.drop(database).await?;
        }
        if let [free, held] = rates.as_slice() {
            chapter.add("drain, old snapshot", "of no snapshot", "", ratio(*held, *free));
        }
    }
    server.stop().await?;
    Ok(chapter)
}

//! D: does a claim care how much lies about? A small backlog in an empty database, and as many captures from a huge one
//! beside scheduled, held and finished ones.

use crate::child::Part;
use crate::crowd::Crowd;
use crate::figures::ratio;
use crate::load::{self, Backlog};
use crate::report::Chapter;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::stage::Stage;

use super::noop::drain_what_is_there;

pub async fn run(stage: &Stage) -> anyhow::Result<Chapter> {
    let jobs = stage.size(10_000, 1_000);
    let crowd = Crowd {
        ready: stage.size(1_000_000, 10_000),
        scheduled: stage.size(1_000_000, 10_000),
        held: stage.size(1_000_000, 10_000),
        finished: if stage.quick { 10_000 } else { stage.finished },
    };
    let mut chapter = Chapter::new(
        Scenario::D,
        format!(
            "{jobs} captures, provider in process: all there is, or of {} ready, {} scheduled, {} held, {} finished",
            crowd.ready, crowd.scheduled, crowd.held, crowd.finished
        ),
    );
    let mut server = Server::start(&[]).await?;
    let mut small = server.database().await?;
    let mut huge = server.database().await?;
    eprintln!("D: filling the huge database");
    crowd.fill(&mut huge).await?;
    // A short drain comes first in each, uncounted: pages are read for the first time, statements planned.
    let mut unheard = Chapter::new(Scenario::D, String::new());
    let warm_up = jobs / 10;
    for _ in stage.rounds("D") {
        let mut rates = Vec::new();
        for (case, all, database) in [("small backlog", true, &mut small), ("crowd", false, &mut huge)] {
            if all {
                let backlog = Backlog {
                    from: stage.fresh_payments(),
                    ..Backlog::of(jobs + warm_up)
                };
                load::insert(database, "default", backlog).await?;
            }
            server.checkpoint().await?;
            drain_what_is_there(&mut server, &mut unheard, case, Part::Worker, warm_up, database).await?;
            // It took some more than it was told: what was in flight.
            let left = database
                .count("select count(*) from (select from capture.ready limit 1000000) r")
                .await?;
            let jobs = if all { u64::try_from(left)? } else { jobs };
            let (rate, _) = drain_what_is_there(&mut server, &mut chapter, case, Part::Worker, jobs, database).await?;
            rates.push(rate);
        }
        if let [small, crowd] = rates.as_slice() {
            chapter.add("crowd", "of the small backlog", "", ratio(*crowd, *small));
        }
    }
    server.stop().await?;
    Ok(chapter)
}

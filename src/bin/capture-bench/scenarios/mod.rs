//! One file per question. Each runs its cases in turn, round after round, so that whatever the machine does meanwhile
//! happens to all of them.

mod backlog;
mod hanging;
mod http;
mod idle;
mod noop;
mod peers;
mod producers;
mod siblings;
mod snapshot;
mod steady;

use super::report::Chapter;
use super::scenario::Scenario;
use super::stage::Stage;

pub async fn run(scenario: Scenario, stage: &Stage) -> anyhow::Result<Chapter> {
    match scenario {
        Scenario::A => noop::run(stage).await,
        Scenario::B => http::run(stage).await,
        Scenario::C => steady::run(stage).await,
        Scenario::D => backlog::run(stage).await,
        Scenario::E => snapshot::run(stage).await,
        Scenario::F => idle::run(stage).await,
        Scenario::G => hanging::run(stage).await,
        Scenario::H => siblings::run(stage).await,
        Scenario::I => producers::run(stage).await,
        Scenario::Peers => peers::run(stage).await,
    }
}

//! Making trouble, in the order of the plan, and healing it in the end.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::cli::output::Error;
use crate::simulator::ProviderName;

use super::plan::{At, Loss, Plan, Trouble};
use super::stage::{LEASE, Stage};
use super::story::{Story, Tone, counted, seconds};

/// How long a worker in mid-call is looked for.
const LOOK: Duration = Duration::from_secs(5);

/// Of a thousand calls, so many suffer something, all the time.
const LOSSY_PER_MILLE: u16 = 50;
const READS_PER_MILLE: u16 = 200;

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) killed: u32,
    pub(super) frozen: u32,
    pub(super) crashes: u32,
    pub(super) outages: u32,
    /// Calls in flight when their worker was killed or frozen.
    pub(super) calls_cut: u64,
}

/// Faults by chance, from the seed.
pub(super) async fn begin(stage: &Stage, seed: u64, story: &Story) -> Result<(), Error> {
    let chance = json!({
        "seed": seed,
        "random": [
            { "per_mille": LOSSY_PER_MILLE, "set": "lossy" },
            // Not at Optty, nor at Resolve: a capture that was taken and could not be read is looked at again after 30 s.
            { "per_mille": READS_PER_MILLE, "set": "reads", "provider": "afterpay" },
        ],
    });
    stage.control.post("faults", chance).await?;
    story.tell(
        Tone::Trouble,
        format!(
            "from now on {LOSSY_PER_MILLE} of 1000 calls go wrong by chance: cut connections, lost, late, broken or missing answers, before or after the money moves",
        ),
    );
    Ok(())
}

/// Makes all troubles of the plan, each in its time.
pub(super) async fn make(stage: &mut Stage, plan: &Plan, start: Instant, story: &Story) -> Result<Done, Error> {
    let mut done = Done::default();
    for At { at, what } in &plan.troubles {
        while Instant::now() < start + *at {
            stage.look_after()?;
            tokio::time::sleep_until((start + *at).min(Instant::now() + Duration::from_millis(500))).await;
        }
        one(stage, *what, &mut done, story).await?;
    }
    tokio::time::sleep_until(start + plan.length).await;
    Ok(done)
}

/// No more faults; everybody is up.
pub(super) async fn heal(stage: &Stage, story: &Story) -> Result<(), Error> {
    stage.control.post("faults", json!({ "clear": true })).await?;
    for provider in ProviderName::ALL {
        stage.control.post("faults", json!({ "up": provider })).await?;
    }
    // What a provider was still about to do, it does now.
    stage.control.post("hurry", json!({})).await?;
    story.tell(
        Tone::Good,
        "all is healed: no more faults, all providers and workers are up",
    );
    Ok(())
}

async fn one(stage: &mut Stage, trouble: Trouble, done: &mut Done, story: &Story) -> Result<(), Error> {
    let tell = |line: String| story.tell(Tone::Trouble, line);
    match trouble {
        Trouble::LoseAnswers(provider, loss, times) => {
            let (fault, how) = match loss {
                Loss::Reset => ("reset-after", "resets the connection instead of answering"),
                Loss::BadGateway => ("html-502-after", "answers with a proxy's page, 502"),
                Loss::Silence => ("silence-after", "says nothing"),
            };
            stage.control.script(provider, fault, times).await?;
            tell(format!(
                "{} takes the money, then {how}: the next {times} captures",
                title(provider)
            ));
        }
        Trouble::KillWorker => {
            if let Some((place, calls)) = catch_in_mid_call(stage).await?
                && let Some(worker) = stage.workers.get_mut(place)
                && let Some(mut process) = worker.process.take()
            {
                process.kill().await;
                done.killed += 1;
                done.calls_cut += calls;
                tell(format!(
                    "{} is killed with SIGKILL with {} in flight",
                    worker.name(),
                    counted(calls, "call")
                ));
            }
        }
        Trouble::StartWorker => {
            let places: Vec<usize> = (0..stage.workers.len()).collect();
            for place in places {
                if stage.workers.get(place).is_some_and(|worker| worker.process.is_none()) {
                    let pid = stage.start_worker(place)?;
                    story.tell(
                        Tone::Good,
                        format!(
                            "worker {} is started again (process {pid}); to the others it is a new worker",
                            place + 1
                        ),
                    );
                }
            }
        }
        Trouble::Down(provider) => {
            stage
                .control
                .post("faults", json!({ "down": { "provider": provider } }))
                .await?;
            done.outages += 1;
            tell(format!("{} is down: its port refuses connections", title(provider)));
        }
        Trouble::Up(provider) => {
            let broken = breakers(stage, provider).await;
            stage.control.post("faults", json!({ "up": provider })).await?;
            story.tell(Tone::Good, format!("{} is up again{broken}", title(provider)));
        }
        Trouble::FreezeWorker => {
            if let Some((place, calls)) = catch_in_mid_call(stage).await?
                && let Some(worker) = stage.workers.get_mut(place)
                && let Some(process) = &worker.process
            {
                process.freeze();
                worker.frozen = true;
                done.frozen += 1;
                done.calls_cut += calls;
                tell(format!(
                    "{} is frozen with SIGSTOP with {} in flight; it will sleep through its lease of {} s",
                    worker.name(),
                    counted(calls, "call"),
                    LEASE.as_secs()
                ));
            }
        }
        Trouble::ThawWorker => {
            for worker in &mut stage.workers {
                if let Some(process) = worker.process.as_ref().filter(|_| worker.frozen) {
                    process.thaw();
                    worker.frozen = false;
                    story.tell(Tone::Good, format!("{} wakes up (SIGCONT): it does not know that its lease is over; others have verified what it held", worker.name()));
                }
            }
        }
        Trouble::VoidTokens => {
            stage.control.post("token-expiry", json!({})).await?;
            tell("Optty and Resolve no longer take the tokens they gave".to_owned());
        }
        Trouble::LimitRate(times) => {
            stage
                .control
                .script(ProviderName::Resolve, "rate-limited", times)
                .await?;
            tell(format!(
                "Resolve answers 429 (too many requests) to the next {times} captures"
            ));
        }
        Trouble::CrashPostgres => {
            tell("Postgres crashes: stopped at once, no checkpoint, every connection cut".to_owned());
            let began = Instant::now();
            stage
                .postgres
                .crash_and_restart()
                .await
                .map_err(|error| Error::failed(error.to_string()))?;
            done.crashes += 1;
            story.tell(
                Tone::Good,
                format!(
                    "Postgres is back after {}, recovered from its log",
                    seconds(began.elapsed())
                ),
            );
        }
    }
    Ok(())
}

/// Makes the providers slow for a few calls, and finds the worker that has the most of them in flight.
async fn catch_in_mid_call(stage: &mut Stage) -> Result<Option<(usize, u64)>, Error> {
    for provider in ProviderName::ALL {
        stage.control.script(provider, "slow", 3).await?;
    }
    Ok(stage.busiest_worker(LOOK).await)
}

/// What the outage did to the provider's lanes.
async fn breakers(stage: &Stage, provider: ProviderName) -> String {
    let lanes = stage.outbox.lanes().await.unwrap_or_default();
    let mut of_provider = lanes.iter().filter(|lane| lane.lane.provider == provider.to_string());
    match of_provider.any(|lane| lane.open_until.is_some()) {
        true => "; the breaker had stopped calling it, all but a trial now and then".to_owned(),
        false => String::new(),
    }
}

fn title(provider: ProviderName) -> &'static str {
    match provider {
        ProviderName::Afterpay => "Afterpay",
        ProviderName::Optty => "Optty",
        ProviderName::Resolve => "Resolve",
    }
}

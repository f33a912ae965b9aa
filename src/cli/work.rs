//! `work`: claims intents and captures them, until it is told to stop.

use std::io::IsTerminal;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Flag, Need, Sources};
use crate::http::TelemetryServer;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::retry::Policy;
use crate::telemetry::{self, LogGuard, Logs};
use crate::worker::{ServedLane, Settings, Worker};

use super::accounts::{self, Adapter};
use super::context::{Context, connect};
use super::output::{Error, Exit, may_colour};
use super::probe::WorkerProbe;
use super::signals;
use super::webhooks;

/// Connections of a worker: a claim, a settle, upkeep, a heartbeat and a probe at once. It needs no more, because claims
/// and settles carry hundreds of intents; the one that it sleeps on comes on top.
const CONNECTIONS: u32 = 5;

/// Claims intents of the accounts in capture.toml and captures them.
///
/// SIGTERM or SIGINT drains: nothing more is claimed, calls in flight go on for worker.drain_timeout at most, and the
/// process ends with 0. A second signal ends it at once (130 or 143); what is open is then verified by others.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Serve /metrics and /health here; else telemetry.listen. Port 0 takes a free one and logs it
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// End at once when stdin ends: for a process that must not outlive the one that started it
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    if args.until_stdin_closes {
        signals::end_with_stdin();
    }
    let mut sources = Sources {
        need: Need::Everything,
        ..context.sources.clone()
    };
    sources.flags.extend(args.listen.map(|value| Flag {
        flag: "--listen",
        key: "telemetry.listen",
        value,
    }));
    let (config, warnings) = Config::load(&sources)?;
    // Kept to the end: dropping it writes the last lines.
    let _logs = start_logs(&config, context)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let adapters = accounts::adapters(&config)?;
    if adapters.is_empty() {
        return Err(accounts::none_configured().into());
    }
    let shutdown = signals::shutdown()?;
    // Until the worker runs there is nothing to drain: a signal ends the start.
    let started = tokio::select! {
        started = start(&config, adapters, &shutdown) => started?,
        () = shutdown.cancelled() => return Ok(Exit::Interrupted),
    };
    tracing::info!(worker = %started.worker.id(), "working");
    let delivering = webhooks::deliver_in_a_thread(&config, shutdown.clone())?;
    let worker = started.worker;
    // As a task, so that claims are made on the threads that watch the connections: on this one, which waits for the runtime's
    // end, each answer of the database would be heard by one thread and taken up by another.
    let working = tokio::spawn(async move { worker.run(shutdown).await });
    if let Err(error) = working.await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
    if let Some(delivering) = delivering {
        // It ends within one attempt's time; what is in flight longer is told once more by another worker.
        let _ = tokio::task::spawn_blocking(move || delivering.join()).await;
    }
    started.served.cancel();
    if let Some(server) = started.server {
        let _ = server.await;
    }
    started.outbox.close().await;
    tracing::info!("drained: this worker has stopped");
    Ok(Exit::Done)
}

/// A worker that is about to run.
struct Started {
    worker: Worker,
    outbox: Outbox,
    /// Serves metrics until `served` is cancelled: after the drain, because then they are wanted most.
    server: Option<JoinHandle<()>>,
    served: CancellationToken,
}

async fn start(config: &Config, adapters: Vec<Adapter>, shutdown: &CancellationToken) -> Result<Started, Error> {
    // Only what is served is counted: samples pile up until they are read, or swept by the server that shows them.
    let telemetry = match config.telemetry.listen {
        Some(listen) => Some((
            listen,
            Metrics::install().map_err(|error| Error::failed(error.to_string()))?,
        )),
        None => None,
    };
    let outbox = connect(config, CONNECTIONS).await?;
    outbox.check_pooling().await?;
    outbox.check_schema().await?;
    if !config.worker.allow_lost_commits {
        outbox.check_durability().await?;
    }
    let telemetry = match telemetry {
        Some((listen, metrics)) => {
            let server = TelemetryServer::bind(listen).await.map_err(|error| {
                Error::failed(format!("cannot serve metrics on {listen}: {error}"))
                    .hint("choose another telemetry.listen; port 0 takes a free one")
            })?;
            Some((server, metrics))
        }
        None => None,
    };
    let listen = telemetry.as_ref().map(|(server, _)| server.address().to_string());
    let lanes = served_lanes(config, adapters);
    for lane in &lanes {
        tracing::info!(provider = lane.lane.provider, account = lane.lane.account, "serving");
    }
    let names = lanes.iter().map(|lane| lane.lane.clone()).collect::<Vec<_>>();
    let worker = Worker::new(outbox.clone(), lanes, settings(config, listen)).await?;
    for unserved in outbox.backlog().await?.lanes {
        let rows = unserved.ready + unserved.waiting + unserved.held + unserved.unknown + unserved.leased;
        if rows > 0 && !names.contains(&unserved.lane) {
            tracing::warn!(
                provider = unserved.lane.provider,
                account = unserved.lane.account,
                count = rows,
                "the outbox has captures of an account that is not in this configuration: this worker leaves them alone"
            );
        }
    }
    let served = CancellationToken::new();
    let server = telemetry.map(|(server, metrics)| {
        tracing::info!(address = %server.address(), "serving /metrics and /health");
        let probe = Arc::new(WorkerProbe::new(outbox.clone(), shutdown.clone()));
        let served = served.clone();
        tokio::spawn(async move {
            if let Err(error) = server.run(metrics, probe, served).await {
                tracing::error!(error = %error, "metrics and health are no longer served");
            }
        })
    });
    Ok(Started {
        worker,
        outbox,
        server,
        served,
    })
}

/// The accounts as lanes: `adapters` are in the order of the accounts.
pub fn served_lanes(config: &Config, adapters: Vec<Adapter>) -> Vec<ServedLane> {
    let with_account = adapters.into_iter().zip(&config.accounts);
    with_account
        .map(|((lane, provider), account)| ServedLane {
            lane,
            provider,
            concurrency: account.concurrency,
            rate_per_minute: account.rate_per_minute.unwrap_or(0),
            fulfilment: account.fulfilment,
            authorization_lifetime: account.authorization_lifetime,
        })
        .collect()
}

/// The worker's settings from the configuration's.
pub fn settings(config: &Config, listen: Option<String>) -> Settings {
    let worker = &config.worker;
    Settings {
        lease: worker.lease,
        drain_timeout: worker.drain_timeout,
        settle_window: worker.settle_window,
        poll_min: worker.poll_min,
        poll_max: worker.poll_max,
        batch: worker.batch,
        policy: Policy {
            initial: config.retry.initial,
            multiplier_thousandths: config.retry.multiplier_thousandths,
            max: config.retry.max,
            attempts: i16::try_from(config.retry.attempts).unwrap_or(i16::MAX),
            verify_quiet: config.retry.verify_quiet,
            deadline_margin: worker.deadline_margin,
            longest_call: worker.longest_call(),
        },
        breaker_failures: config.breaker.failures,
        breaker_open: config.breaker.open,
        breaker_open_max: config.breaker.open_max,
        listen,
    }
}

/// Starts the log as the settings say.
pub fn start_logs(config: &Config, context: &Context) -> Result<LogGuard, Error> {
    let stderr = std::io::stderr();
    let logs = Logs {
        format: config.telemetry.format,
        filter: &config.telemetry.filter,
        terminal: stderr.is_terminal(),
        colour: may_colour(&stderr, &context.sources.environment),
    };
    telemetry::start(&logs).map_err(|error| Error::failed(error.to_string()))
}

//! The product's own worker over a provider in process, as a child: it drains what is there, and ends.

use std::time::Duration;

use capture::intent::Lane;
use capture::metrics::Metrics;
use capture::outbox::{ConnectSettings, Outbox};
use capture::shipment::Fulfilment;
use capture::telemetry::{self, Format, Logs};
use capture::worker::{ServedLane, Settings, Worker};
use tokio_util::sync::CancellationToken;

use super::child::{Done, Given, micros, ready};
use super::noop::Noop;

/// As `capture work` has.
const CONNECTIONS: u32 = 5;
const SWEPT_EVERY: Duration = Duration::from_secs(10);

pub async fn play(given: Given) -> anyhow::Result<Done> {
    // Metrics and a line of log per capture are part of what a capture costs. Nobody keeps the lines.
    let metrics = Metrics::install()?;
    tokio::spawn(async move {
        // As the server that shows them does: samples are kept until somebody reads or sweeps them.
        let mut tick = tokio::time::interval(SWEPT_EVERY);
        loop {
            tick.tick().await;
            metrics.upkeep();
        }
    });
    let _logs = telemetry::start(&Logs {
        format: Format::Auto,
        filter: "info",
        terminal: false,
        colour: false,
    })?;
    let outbox = Outbox::connect(&ConnectSettings {
        max_connections: CONNECTIONS,
        ..ConnectSettings::new(given.url)
    })
    .await?;
    outbox.check_schema().await?;
    outbox.check_durability().await?;
    let provider = Noop::new(given.jobs);
    let lane = ServedLane {
        lane: Lane {
            provider: "afterpay".to_owned(),
            account: "default".to_owned(),
        },
        provider: provider.clone(),
        concurrency: given.concurrency,
        rate_per_minute: 0,
        fulfilment: Fulfilment::default(),
        authorization_lifetime: None,
    };
    let worker = Worker::new(outbox.clone(), vec![lane], Settings::default()).await?;
    ready().await?;

    let started = micros();
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
    let counted = provider.clone();
    tokio::spawn(async move {
        counted.enough().await;
        told.cancel();
    });
    // It claims no more, and returns when what is in flight is recorded.
    // As a task, as `capture work` does.
    tokio::spawn(async move { worker.run(shutdown).await }).await?;
    let finished = micros();
    outbox.close().await;
    Ok(Done {
        started,
        finished,
        jobs: provider.captured(),
    })
}

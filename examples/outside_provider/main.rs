//! A worker that serves a provider of your own: [`acme`], 120 lines of code. It is a worker like the others beside it, with the
//! same lanes, leases and events; `capture` itself looks after it (`status`, `dead`, `replay`, `serve`).
//!
//! ```sh
//! capture migrate up
//! psql -c "insert into capture.providers (name, most_decimals) values ('acme', 2)"   # once, as the owner of the schema
//! DATABASE_URL=postgres://… ACME_TOKEN=… cargo run --example outside_provider -- https://api.acme.example
//! ```

mod acme;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use capture::intent::Lane;
use capture::outbox::{ConnectSettings, Outbox};
use capture::shipment::Fulfilment;
use capture::worker::{ServedLane, Settings, Worker};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let base = std::env::args().nth(1).ok_or("where is acme? give its address")?;
    let token = std::env::var("ACME_TOKEN")?;
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .timeout(Duration::from_secs(70))
        .build()?;
    let outbox = Outbox::connect(&ConnectSettings::new(std::env::var("DATABASE_URL")?)).await?;
    outbox.check_schema().await?;
    outbox.check_durability().await?;
    let acme = ServedLane {
        lane: Lane {
            provider: "acme".to_owned(),
            account: "default".to_owned(),
        },
        provider: Arc::new(acme::Acme { http, base, token }),
        concurrency: 32,
        rate_per_minute: 0,
        fulfilment: Fulfilment::default(),
        authorization_lifetime: None,
    };
    let worker = Worker::new(outbox, vec![acme], Settings::default()).await?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    // Until Ctrl-C; then what is in flight is ended and recorded.
    worker.run(shutdown).await;
    Ok(())
}

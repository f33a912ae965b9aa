//! `serve`: the HTTP API.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Flag, Sources};
use crate::http::{ApiServer, Office, OfficeSettings, PATIENCE, ProxySettings};
use crate::outbox::ConnectSettings;

use super::accounts;
use super::context::{Context, connect};
use super::output::{Error, Exit};
use super::signals;
use super::work::start_logs;

/// Serves the HTTP API (/v1), its documentation (/docs) and the console.
///
/// Every request needs a key: capture key create makes the first one, with access to the database. While there is no live
/// key it listens on a loopback address only, unless --allow-open says otherwise. Put a proxy that speaks TLS in front of it.
///
/// SIGTERM or SIGINT drains: requests in flight are finished, for 35 s at most, and the process ends with 0. A second
/// signal ends it at once (130 or 143).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Listen here; else http.listen (127.0.0.1:8080). Port 0 takes a free one and logs it
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Listen to other machines even while there is no key (http.allow_open)
    #[arg(long)]
    allow_open: bool,
    /// End at once when stdin ends: for a process that must not outlive the one that started it
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    if args.until_stdin_closes {
        signals::end_with_stdin();
    }
    let mut sources: Sources = context.sources.clone();
    sources.flags.extend(args.listen.map(|value| Flag {
        flag: "--listen",
        key: "http.listen",
        value,
    }));
    if args.allow_open {
        sources.flags.push(Flag {
            flag: "--allow-open",
            key: "http.allow_open",
            value: "true".to_owned(),
        });
    }
    let (config, warnings) = Config::load(&sources)?;
    // Kept to the end: dropping it writes the last lines.
    let _logs = start_logs(&config, context)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let shutdown = signals::shutdown()?;
    // Until it serves there is nothing to drain: a signal ends the start.
    let (server, office) = tokio::select! {
        started = start(&config, &shutdown) => started?,
        () = shutdown.cancelled() => return Ok(Exit::Interrupted),
    };
    tracing::info!(address = %server.address(), "serving the API on /v1, its documentation on /docs, the console on /");
    server.run(office).await;
    tracing::info!("drained: this server has stopped");
    Ok(Exit::Done)
}

async fn start(config: &Config, shutdown: &CancellationToken) -> Result<(ApiServer, Arc<Office>), Error> {
    if let Some(fault) = config.missing_source_secrets.first() {
        return Err(fault.clone().into());
    }
    // Alone, and closed again: a start that cannot work says so at once. What comes later is waited out.
    let outbox = connect(config, 1).await?;
    outbox.check_schema().await?;
    let has_key = outbox.has_live_key().await?;
    outbox.close().await;
    if !has_key {
        may_listen_without_keys(config.http.listen, config.http.allow_open)?;
        tracing::warn!(
            "there is no live key, so every request is refused; make one: capture key create NAME --scope read"
        );
    }
    let (providers, without) = accounts::with_credentials(config)?;
    if !without.is_empty() {
        let names: Vec<String> = without.iter().map(ToString::to_string).collect();
        tracing::info!(
            accounts = names.join(", "),
            "without the credentials of these accounts the console cannot ask their providers"
        );
    }
    let settings = OfficeSettings {
        connect: ConnectSettings {
            schema: config.schema.clone(),
            ..ConnectSettings::new(config.database_url()?.expose_secret())
        },
        abilities: accounts::abilities(config)?,
        providers,
        proxy: ProxySettings {
            addresses: config.http.proxy_addresses.clone(),
            user_header: config.http.proxy_user_header.clone(),
            roles_header: config.http.proxy_roles_header.clone(),
        },
        networks: super::webhooks::networks(config),
        rate_per_second: NonZeroU32::new(config.http.rate_per_second).unwrap_or(NonZeroU32::MIN),
        patience: PATIENCE,
        shipment_sources: config.shipment_sources.clone(),
    };
    let office = Arc::new(Office::open(&settings, shutdown.clone())?);
    let listen = config.http.listen;
    let server = ApiServer::bind(listen).await.map_err(|error| {
        Error::failed(format!("cannot listen on {listen}: {error}"))
            .hint("choose another http.listen; port 0 takes a free one")
    })?;
    Ok((server, office))
}

fn may_listen_without_keys(listen: SocketAddr, allow_open: bool) -> Result<(), Error> {
    if listen.ip().is_loopback() || allow_open {
        return Ok(());
    }
    Err(Error::not_allowed(format!(
        "{listen} can be reached by other machines, and there is no live key"
    ))
    .hint("make one first: capture key create NAME --scope read; or listen on 127.0.0.1; or say --allow-open"))
}

//! The deliverer of webhooks beside a worker.

use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::outbox::{ConnectSettings, Outbox};
use crate::webhook::{Deliverer, Networks, Settings};

use super::output::Error;
use secrecy::ExposeSecret;

/// Connections of a deliverer: one reads the feed or claims while another settles.
const CONNECTIONS: u32 = 2;

/// Threads that look names up. A resolver that hangs takes these and not those of the captures.
const LOOKUPS: usize = 64;

/// The deliverer's settings from the configuration's.
pub fn settings(config: &Config) -> Settings {
    let webhooks = &config.webhooks;
    Settings {
        concurrency: webhooks.concurrency,
        slow_concurrency: webhooks.slow_concurrency,
        per_endpoint: webhooks.per_endpoint,
        timeout: webhooks.timeout,
        connect_timeout: webhooks.connect_timeout,
        retry_initial: webhooks.retry_initial,
        retry_max: webhooks.retry_max,
        give_up_after: webhooks.give_up_after,
        disable_after: webhooks.disable_after,
        keep: webhooks.keep,
        source: webhooks.source.clone(),
        networks: networks(config),
        ..Settings::default()
    }
}

/// Networks to which webhooks may go although they are not public.
pub fn networks(config: &Config) -> Networks {
    Networks(config.webhooks.allow_networks.clone())
}

/// Delivers webhooks until `shutdown`, on a thread, a runtime and connections of its own: whatever endpoints, their names and
/// their certificates do, the captures' threads and connections are not there to be taken. `None`: not on this worker.
pub fn deliver_in_a_thread(config: &Config, shutdown: CancellationToken) -> Result<Option<JoinHandle<()>>, Error> {
    if !config.webhooks.deliver {
        return Ok(None);
    }
    let connect = ConnectSettings {
        schema: config.schema.clone(),
        max_connections: CONNECTIONS,
        ..ConnectSettings::new(config.database_url()?.expose_secret())
    };
    let settings = settings(config);
    let cannot = |error: std::io::Error| Error::failed(format!("webhooks cannot be delivered: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS)
        .build()
        .map_err(cannot)?;
    let delivering = std::thread::Builder::new().name("webhooks".to_owned()).spawn(move || {
        runtime.block_on(async {
            let opened = Outbox::connect_lazily(&connect);
            match opened.map(|outbox| (outbox.clone(), Deliverer::new(outbox, settings))) {
                Ok((outbox, Ok(deliverer))) => {
                    deliverer.run(shutdown).await;
                    outbox.close().await;
                }
                Ok((_, Err(error))) => tracing::error!(error = %error, "webhooks are not delivered by this worker"),
                Err(error) => tracing::error!(error = %error, "webhooks are not delivered by this worker"),
            }
        });
        // A lookup that still hangs keeps nobody from ending.
        runtime.shutdown_background();
    });
    delivering.map(Some).map_err(cannot)
}

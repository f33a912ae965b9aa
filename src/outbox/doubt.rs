//! Commits that are not known to be durable.
//!
//! With synchronous replication, a commit whose wait for the standby is cancelled still answers "COMMIT", with a warning:
//! the row may be gone after a fail-over although the client was told that it is there. sqlx hands warnings to `tracing`
//! and to nobody else, so this layer counts them; a claim during which the count rose is given back and never sent. Any
//! warning counts: the text is translated by the server's language, and a needless second claim costs a millisecond.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter};

const TARGET: &str = "sqlx::postgres::notice";

static WARNINGS: AtomicU64 = AtomicU64::new(0);

/// Counts the server's warnings. Must be part of the subscriber of every process that claims.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommitDoubts;

impl CommitDoubts {
    /// Lets the warnings through whatever the log filter says.
    pub fn filter<S>() -> impl Filter<S> {
        Targets::new().with_target(TARGET, LevelFilter::WARN)
    }
}

impl<S: Subscriber> Layer<S> for CommitDoubts {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == TARGET && *event.metadata().level() == Level::WARN {
            WARNINGS.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// How many warnings this process has had from its servers.
pub(super) fn warnings() -> u64 {
    WARNINGS.load(Ordering::SeqCst)
}

//! Hints: tells who listens on `<schema>.events` that something was settled, so that a reader of the feed need not poll often.
//! Behind the commit and a few times a second at most: a notification in the settle would have every settle of the cluster
//! wait for every other. One that is lost is no harm; readers look now and then anyway.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::outbox::Store;

/// Between two hints.
const PAUSE: Duration = Duration::from_millis(250);

/// Until nothing more can be recorded.
pub(super) async fn give(outbox: Arc<dyn Store>, mut recorded: watch::Receiver<usize>) {
    while recorded.changed().await.is_ok() {
        if let Err(error) = outbox.hint_events().await {
            tracing::debug!(error = %error, "listeners of the feed were not told; they look now and then anyway");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

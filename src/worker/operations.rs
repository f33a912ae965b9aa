//! Operations: this worker's share of carrying them out. Beside upkeep and not in it, so that a long one keeps no lapsed
//! lease and no heartbeat waiting; upkeep says when there is one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::operations::{AbilitiesByLane, run_due};
use crate::outbox::Store;

/// Between two tries while the database refuses.
const ROUND: Duration = Duration::from_secs(1);

pub(super) async fn carry_on(
    outbox: Arc<dyn Store>,
    abilities: AbilitiesByLane,
    due: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut quiet = true;
    let mut pause = None;
    loop {
        let again = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => due.notified().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = again => {}
        }
        pause = match run_due(outbox.as_ref(), &abilities).await {
            Ok(ran) => {
                if ran.acted > 0 {
                    tracing::debug!(acted = ran.acted, running = ran.running, "operations went on");
                }
                quiet = true;
                ran.again_in
            }
            Err(error) => {
                // Said once, not every second.
                if quiet {
                    tracing::warn!(error = %error, "operations cannot go on; trying again every second");
                }
                quiet = false;
                Some(ROUND)
            }
        };
    }
}

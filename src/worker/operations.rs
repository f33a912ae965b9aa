//! Operations: this worker's share of carrying them out. Beside upkeep and not in it, so that a long one keeps no lapsed
//! lease and no heartbeat waiting.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::operations::{AbilitiesByLane, run_due};
use crate::outbox::Store;

/// Between two looks while none runs.
const ROUND: Duration = Duration::from_secs(1);

pub(super) async fn carry_on(outbox: Arc<dyn Store>, abilities: AbilitiesByLane, shutdown: CancellationToken) {
    let mut quiet = true;
    loop {
        let pause = match run_due(outbox.as_ref(), &abilities).await {
            Ok(ran) => {
                if ran.acted > 0 {
                    tracing::debug!(acted = ran.acted, running = ran.running, "operations went on");
                }
                quiet = true;
                ran.again_in.unwrap_or(ROUND)
            }
            Err(error) => {
                // Said once, not every second.
                if quiet {
                    tracing::warn!(error = %error, "operations cannot go on; trying again every second");
                }
                quiet = false;
                ROUND
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

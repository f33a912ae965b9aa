//! Outgoing webhooks: events go out to whoever asked to be told.
//!
//! A **deliverer** runs inside `capture work`, on a thread, a runtime and database connections of its own, so that neither a
//! thousand hanging endpoints nor their names and certificates ever stand before a claim or a settle. (A process of its own
//! would give little more, and would be one more thing to run; who wants that sets `webhooks.deliver = false` on the workers
//! that capture.) It does three things side by side:
//!
//! - **fan-out** (`fan_out`): reads the feed behind a cursor and writes deliveries, the two in one transaction;
//! - **sending** (`send_until`): claims what is due, as much as it has slots, and makes each attempt once;
//! - **settling** (`settle_all`): records attempts in batches, each under its fence.
//!
//! How a slow endpoint is kept from delaying others: of each endpoint only `per_endpoint` messages are in flight, one if it
//! failed last, none for a while after five failures; and a message that has not been answered within a second gives its
//! slot back and waits on among the slow ones, of which there are `slow_concurrency`. The claim goes round the endpoints.
//!
//! A message is told at least once: who dies between the answer and the record leaves a delivery that is due again.

mod address;
mod attempt;
mod deliverer;
mod in_flight;
mod message;
mod sender;
pub mod signature;

use std::time::Duration;

pub use address::{AddressFault, Names, Networks, SystemNames};
pub use attempt::{Answer, Verdict, judge};
pub use deliverer::Deliverer;
pub use message::{Message, message, sequence};
pub use sender::{Sender, SenderError};

/// The settings of a deliverer. Defaults are those of `capture.toml`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Messages in flight that may be answered soon. Default 64.
    pub concurrency: u32,
    /// Messages in flight that were not answered within a second. Default 256.
    pub slow_concurrency: u32,
    /// Messages in flight for one endpoint. Default 4.
    pub per_endpoint: u32,
    /// From the first byte of the lookup to the last of the answer. Default 15 s, as the standard advises.
    pub timeout: Duration,
    /// Until a connection stands. Default 5 s.
    pub connect_timeout: Duration,
    /// Ceiling of the first delay. Default 5 s.
    pub retry_initial: Duration,
    /// The largest ceiling. Default 6 h.
    pub retry_max: Duration,
    /// When a delivery is given up. Default 3 days.
    pub give_up_after: Duration,
    /// When an endpoint is disabled, at which nothing arrives. Default 5 days.
    pub disable_after: Duration,
    /// How long ended deliveries are kept. Default 30 days.
    pub keep: Duration,
    /// `ce-source`: which outbox this is.
    pub source: String,
    /// Networks that are not public and allowed nevertheless. Default none.
    pub networks: Networks,
    /// How long is slept when there is nothing to do. Default 500 ms.
    pub poll: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        let day = Duration::from_secs(24 * 3600);
        Settings {
            concurrency: 64,
            slow_concurrency: 256,
            per_endpoint: 4,
            timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            retry_initial: Duration::from_secs(5),
            retry_max: day / 4,
            give_up_after: day * 3,
            disable_after: day * 5,
            keep: day * 30,
            source: "urn:capture:capture".to_owned(),
            networks: Networks::default(),
            poll: Duration::from_millis(500),
        }
    }
}

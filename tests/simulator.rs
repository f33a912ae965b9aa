//! The simulator, seen by a plain HTTP client that knows nothing of the adapters.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

#[path = "simulator/client.rs"]
mod client;

#[path = "simulator/business.rs"]
mod business;
#[path = "simulator/control.rs"]
mod control;
#[path = "simulator/faults.rs"]
mod faults;
#[path = "simulator/killed.rs"]
mod killed;
#[path = "simulator/ledger.rs"]
mod ledger;
#[path = "simulator/rate.rs"]
mod rate;

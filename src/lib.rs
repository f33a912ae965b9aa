//! `capture`: a durable worker on Postgres that captures authorised payments.
#![forbid(unsafe_code)]

#[cfg(feature = "proof")]
#[macro_use]
pub mod planted;
/// Nothing is planted in a released program.
#[cfg(not(feature = "proof"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub mod api_key;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod filter;
pub mod http;
pub mod intent;
pub mod local_postgres;
pub mod metrics;
pub mod operations;
pub mod outbox;
pub mod outcome;
pub mod progress;
pub mod provider;
pub mod retry;
pub mod shipment;
#[cfg(feature = "proof")]
pub mod simulated;
pub mod simulator;
pub mod telemetry;
pub mod verify;
pub mod way;
pub mod webhook;
pub mod worker;

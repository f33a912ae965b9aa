//! `capture`: a durable worker on Postgres that captures authorised payments.
#![forbid(unsafe_code)]

pub mod clock;
pub mod intent;
pub mod local_postgres;
pub mod outcome;
pub mod provider;
pub mod simulator;

//! `capture`: a durable worker on Postgres that captures authorised payments.
#![forbid(unsafe_code)]

pub mod local_postgres;
pub mod simulator;

//! Proofs: the real decisions, and the real worker, through orders of events that no real machine would ever show.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets something unexpected should fail loudly"
)]

mod bank;
mod designs;
mod model;
mod simulation;

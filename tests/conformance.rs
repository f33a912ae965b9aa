//! The outbox in memory is equal to the one in Postgres: the same operations on both, and all tables compared after each.
//!
//! `sequences`: random operations, one after another. The seed of a failure is printed; `CAPTURE_CONFORMANCE_SEED=n` repeats
//! just that case; `CAPTURE_CONFORMANCE_FIRST=n CAPTURE_CONFORMANCE_CASES=m` looks at others. `sessions`: each operation while another one's
//! transaction is held open; the end must be that of one order or the other.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets something unexpected should fail loudly"
)]

#[path = "it/database.rs"]
#[allow(dead_code, reason = "the stories use more of it")]
mod database;

#[path = "conformance/draw.rs"]
mod draw;
#[path = "conformance/lines.rs"]
mod lines;
#[path = "conformance/operation.rs"]
mod operation;
#[path = "conformance/sequences.rs"]
mod sequences;
#[path = "conformance/sessions.rs"]
mod sessions;
#[path = "conformance/stages.rs"]
mod stages;
#[path = "conformance/twins.rs"]
mod twins;

//! What every adapter must hold, seen from the wire.
//!
//! Each test runs for all four models against a raw TCP server that does exactly what its script says and remembers
//! every byte that it was sent. Nothing here knows how an adapter works inside.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should stop where it is, in its helpers too"
)]

#[path = "provider/models.rs"]
mod models;
#[path = "provider/wire.rs"]
mod wire;

#[path = "provider/answers.rs"]
mod answers;
#[path = "provider/faults.rs"]
mod faults;
#[path = "provider/once.rs"]
mod once;
#[path = "provider/requests.rs"]
mod requests;
#[path = "provider/secrets.rs"]
mod secrets;
#[path = "provider/time.rs"]
mod time;
#[path = "provider/tokens.rs"]
mod tokens;

//! The HTTP API as a client sees it: the real server over real HTTP, on a real Postgres.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets something unexpected should fail loudly"
)]

#[path = "it/database.rs"]
#[allow(dead_code, reason = "the stories use more of it")]
mod database;

#[path = "api/world.rs"]
mod world;

#[path = "api/captures.rs"]
mod captures;
#[path = "api/document.rs"]
mod document;
#[path = "api/events.rs"]
mod events;
#[path = "api/keys.rs"]
mod keys;
#[path = "api/lanes.rs"]
mod lanes;
#[path = "api/matrix.rs"]
mod matrix;
#[path = "api/operations.rs"]
mod operations;
#[path = "api/process.rs"]
mod process;
#[path = "api/refusals.rs"]
mod refusals;
#[path = "api/server.rs"]
mod server;
#[path = "api/shipments.rs"]
mod shipments;
#[path = "api/views.rs"]
mod views;
#[path = "api/webhooks.rs"]
mod webhooks;

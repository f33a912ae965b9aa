//! What an enemy would try: rights that nobody granted, names that stand in for ours, secrets that come out, answers that
//! are bombs, redirects and certificates that lead elsewhere.
//!
//! The processes are the real ones, the wire is a raw one, and what the database allows is asked of its catalogue.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets something unexpected should fail loudly"
)]

#[path = "it/database.rs"]
#[allow(dead_code, reason = "the stories use more of it")]
mod database;
#[expect(dead_code, reason = "shared with the tests of the adapters, which use all of it")]
#[path = "provider/models.rs"]
mod models;
#[expect(dead_code, reason = "shared with the tests of the adapters, which use all of it")]
#[path = "provider/wire.rs"]
mod wire;

#[path = "security/ground.rs"]
mod ground;
#[path = "security/leaks.rs"]
mod leaks;
#[path = "security/merchant.rs"]
mod merchant;

#[path = "security/bombs.rs"]
mod bombs;
#[path = "security/canaries.rs"]
mod canaries;
#[path = "security/hijack.rs"]
mod hijack;
#[path = "security/http2.rs"]
mod http2;
#[path = "security/matrix.rs"]
mod matrix;
#[path = "security/once.rs"]
mod once;
#[path = "security/redirects.rs"]
mod redirects;
#[path = "security/tls.rs"]
mod tls;

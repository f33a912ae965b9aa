//! The command line, as a shell sees it: the built binary, its output and its exit codes.
#![expect(
    clippy::unwrap_used,
    reason = "a test that meets something unexpected should fail loudly"
)]

#[path = "it/pooler.rs"]
mod pgbouncer;
#[path = "cli/place.rs"]
mod place;

#[path = "cli/acts.rs"]
mod acts;
#[path = "cli/dev.rs"]
mod dev;
#[path = "cli/guide.rs"]
mod guide;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/intake.rs"]
mod intake;
#[path = "cli/look.rs"]
mod look;
#[path = "cli/operations.rs"]
mod operations;
#[path = "cli/pooler.rs"]
mod pooler;
#[path = "cli/resolved.rs"]
mod resolved;
#[path = "cli/schema.rs"]
mod schema;
#[path = "cli/settings.rs"]
mod settings;
#[path = "cli/shipments.rs"]
mod shipments;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/top.rs"]
mod top;
#[path = "cli/views.rs"]
mod views;
#[path = "cli/watch.rs"]
mod watch;
#[path = "cli/webhooks.rs"]
mod webhooks;
#[path = "cli/worker.rs"]
mod worker;

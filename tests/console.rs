//! The console: its pages as HTTP gives them, and in a real browser.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets something unexpected should fail loudly"
)]

#[path = "it/database.rs"]
#[allow(dead_code, reason = "the stories use more of it")]
mod database;
#[path = "it/kind.rs"]
#[allow(dead_code, reason = "the stories use more of it")]
mod kind;
#[path = "it/world.rs"]
#[allow(dead_code, reason = "the stories use more of it")]
mod world;

#[path = "console/stand.rs"]
mod stand;

#[path = "console/asked.rs"]
mod asked;
#[path = "console/chromium.rs"]
mod chromium;
#[path = "console/contrast.rs"]
mod contrast;
#[path = "console/hostile.rs"]
mod hostile;
#[path = "console/live.rs"]
mod live;
#[path = "console/pages.rs"]
mod pages;
#[path = "console/rights.rs"]
mod rights;
#[path = "console/seen.rs"]
mod seen;
#[path = "console/story.rs"]
mod story;

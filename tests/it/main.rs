//! The integration tests: one binary, one private Postgres, a database and a simulator of its own for each test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets something unexpected should fail loudly"
)]

mod answers;
mod audit;
mod authorisations;
mod by_hand;
mod crowd;
mod database;
mod epochs;
mod faults;
mod feed;
mod fences;
mod intake;
mod kind;
mod lanes;
mod late_reads;
mod losses;
mod money_path;
mod operations;
mod operators;
mod outages;
mod pages;
mod plans;
mod poison;
mod releases;
mod replays;
mod review;
mod roles;
mod rooms;
mod running;
mod schema;
mod shipment_rules;
mod shipment_story;
mod shipments;
mod views;
mod world;

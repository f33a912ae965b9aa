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
mod beside;
mod by_hand;
mod checks;
mod client;
mod contract;
mod crowd;
mod database;
mod deadlines;
mod decoding;
mod epochs;
mod faults;
mod feed;
mod fences;
mod fronts;
mod intake;
mod kind;
mod lanes;
mod late_reads;
mod losses;
mod money_path;
mod operations;
mod operators;
mod outages;
mod outside_provider;
mod pages;
mod plain_rows;
mod plans;
mod poison;
mod prunes;
mod receiver;
mod releases;
mod replays;
mod review;
mod roles;
mod rooms;
mod running;
mod schema;
mod shipment_prunes;
mod shipment_rules;
mod shipment_story;
mod shipment_sums;
mod shipments;
mod shipping_notices;
mod split_cancels;
mod views;
mod webhook_guards;
mod webhook_stories;
mod webhooks;
mod world;

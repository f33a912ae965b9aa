//! What can be measured.

use clap::ValueEnum;
use serde::Serialize;

/// One question, with everything that it is compared with in the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[value(rename_all = "UPPER")]
pub enum Scenario {
    /// A backlog of captures whose provider answers in process, beside the raw SQL
    A,
    /// A provider that takes 20 ms over HTTP, beside the bare HTTP client
    B,
    /// A steady stream: how long until the provider sees a capture, and until it is recorded
    C,
    /// A small backlog beside a huge one
    D,
    /// An old snapshot held open
    E,
    /// Three workers with nothing to do
    F,
    /// A lane that hangs beside a healthy one
    G,
    /// Two captures per payment
    H,
    /// Producers' commits, beside a bare table
    I,
    /// Other Postgres queues (benches/peers)
    Peers,
}

impl Scenario {
    /// As it is typed and told.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::A => "A",
            Scenario::B => "B",
            Scenario::C => "C",
            Scenario::D => "D",
            Scenario::E => "E",
            Scenario::F => "F",
            Scenario::G => "G",
            Scenario::H => "H",
            Scenario::I => "I",
            Scenario::Peers => "PEERS",
        }
    }
}

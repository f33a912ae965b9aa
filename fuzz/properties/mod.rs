//! What must hold of everything that comes in, whatever it is. Each property takes bytes and panics if it does not hold.
//!
//! Used twice: by the fuzzers in `fuzz_targets/`, and by `tests/fuzz_corpus.rs`, which plays the corpus and changed copies
//! of it in plain `cargo test`.
#![allow(dead_code, reason = "each target uses one of them")]

pub mod answers;
pub mod oracle;
pub mod settings;

/// A property of bytes.
pub type Property = fn(&[u8]);

/// Every target: its name, which is also its directory in `corpus/`, and what must hold.
pub const TARGETS: [(&str, Property); 12] = [
    ("capture_afterpay", answers::capture_afterpay),
    ("capture_optty", answers::capture_optty),
    ("capture_resolve_charge", answers::capture_resolve_charge),
    ("capture_resolve_order", answers::capture_resolve_order),
    ("read_afterpay", answers::read_afterpay),
    ("read_optty", answers::read_optty),
    ("read_resolve_charge", answers::read_resolve_charge),
    ("read_resolve_order", answers::read_resolve_order),
    ("token", answers::token),
    ("settings_file", settings::settings_file),
    ("filter", settings::filter),
    ("stored", settings::stored),
];

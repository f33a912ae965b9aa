//! Planted bugs: mistakes that a tired engineer might make, each behind a name, so that it can be shown that the tests
//! catch every one of them (feature `proof` only: a released program has neither this module nor the mistakes).
//!
//! `CAPTURE_BUG=taint_forgotten cargo test …` plants one. `.ci/teeth` plants all, one after another. Those of the SQL
//! functions are planted by `tests/it/planted.rs`.

use std::sync::OnceLock;

static PLANTED: OnceLock<Option<String>> = OnceLock::new();

/// Is this one planted in this process?
pub fn is(bug: &str) -> bool {
    let planted = PLANTED.get_or_init(|| std::env::var("CAPTURE_BUG").ok());
    planted.as_deref() == Some(bug)
}

/// True if the bug of that name is planted; in a released program the constant false.
macro_rules! planted {
    ($bug:ident) => {
        crate::planted::is(stringify!($bug))
    };
}

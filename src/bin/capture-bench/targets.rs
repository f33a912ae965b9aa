//! What the figures are to reach. Of medians, on a quiet machine; `docs/performance.md` says what was measured when.

use serde::Serialize;

use super::scenario::Scenario;

/// A bound for the median of one figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    /// Does that median reach it?
    pub fn is_met(self, median: f64) -> bool {
        match self {
            Target::AtLeast(least) => median >= least,
            Target::AtMost(most) => median <= most,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::AtLeast(least) => write!(f, ">= {least}"),
            Target::AtMost(most) => write!(f, "<= {most}"),
        }
    }
}

/// Scenario, start of the case's name, figure.
const TARGETS: &[(Scenario, &str, &str, Target)] = &[
    (Scenario::A, "worker", "of the raw SQL", Target::AtLeast(0.6)),
    (Scenario::A, "worker", "CPU in all", Target::AtMost(16.0)),
    (Scenario::A, "worker", "log", Target::AtMost(1229.0)),
    (Scenario::A, "worker", "commits", Target::AtMost(0.02)),
    (Scenario::B, "worker, 64", "of the HTTP client", Target::AtLeast(0.97)),
    (Scenario::B, "worker, 512", "of the HTTP client", Target::AtLeast(0.85)),
    (Scenario::B, "worker, 512", "peak RSS", Target::AtMost(48.0)),
    (Scenario::C, "200/s", "committed to provider, p50", Target::AtMost(1.2)),
    (Scenario::C, "200/s", "committed to provider, p99", Target::AtMost(4.0)),
    (Scenario::C, "200/s", "of that ours, p99", Target::AtMost(5.0)),
    (Scenario::C, "1000/s", "committed to provider, p99", Target::AtMost(8.0)),
    (Scenario::D, "crowd", "of the small backlog", Target::AtLeast(0.8)),
    (
        Scenario::E,
        "drain, old snapshot",
        "of no snapshot",
        Target::AtLeast(0.85),
    ),
    (Scenario::F, "3 workers", "CPU of all three", Target::AtMost(0.5)),
    (Scenario::F, "3 workers", "statements", Target::AtMost(3.0)),
    (Scenario::F, "3 workers", "peak RSS, the largest", Target::AtMost(20.0)),
    (Scenario::G, "beside", "p99, of alone", Target::AtMost(1.25)),
    (Scenario::I, "outbox", "of the bare table", Target::AtLeast(0.6)),
    (Scenario::I, "outbox, 32", "of no wake-up", Target::AtLeast(0.85)),
];

/// The target of a figure, if it has one.
pub fn target(scenario: Scenario, case: &str, figure: &str) -> Option<Target> {
    TARGETS
        .iter()
        .find(|(of, start, name, _)| *of == scenario && case.starts_with(start) && *name == figure)
        .map(|(_, _, _, target)| *target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_by_its_own_bound() {
        assert!(Target::AtLeast(0.6).is_met(0.6) && !Target::AtLeast(0.6).is_met(0.59));
        assert!(Target::AtMost(16.0).is_met(16.0) && !Target::AtMost(16.0).is_met(16.1));
    }

    #[test]
    fn cases_of_512_do_not_take_the_target_of_64() {
        let of = |case| target(Scenario::B, case, "of the HTTP client");
        assert_eq!(of("worker, 64 in flight"), Some(Target::AtLeast(0.97)));
        assert_eq!(of("worker, 512 in flight"), Some(Target::AtLeast(0.85)));
        assert_eq!(of("HTTP client, 512 in flight"), None);
    }
}

//! That the bench runs, with sizes that take seconds: `cargo test --features bench --test bench`. Its figures are worth
//! something only from a release build on a quiet machine: `docs/performance.md`.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_quick_measurement_tells_figures_of_every_case() {
    let run = Command::new(env!("CARGO_BIN_EXE_capture-bench"))
        .args([
            "--bin",
            env!("CARGO_BIN_EXE_capture"),
            "--quick",
            "A",
            "B",
            "C",
            "F",
            "-o",
            "json",
        ])
        .output()
        .unwrap();
    let (told, talk) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{told}\n{talk}");
    let report: Value = serde_json::from_str(&told).unwrap();
    let figure = |scenario: usize, case: &str, figure: &str| -> f64 {
        let cases = report["scenarios"][scenario]["cases"].as_array().unwrap();
        let case = cases.iter().find(|one| one["case"] == case).unwrap();
        let figures = case["figures"].as_array().unwrap();
        let found = figures.iter().find(|one| one["figure"] == figure);
        found.unwrap_or_else(|| panic!("no {figure} in {case}"))["spread"]["median"]
            .as_f64()
            .unwrap()
    };
    assert!(figure(0, "raw SQL", "captures") > 0.0 && figure(0, "worker", "captures") > 0.0);
    assert!(figure(0, "worker", "of the raw SQL") > 0.0);
    // One commit for many, and a log that is written at all.
    assert!(figure(0, "worker", "commits") < 0.5 && figure(0, "worker", "log") > 100.0);
    // The same SQL and the same client without the product: a drain, and a stream.
    assert!(
        figure(1, "bare loop, 64 in flight", "captures") > 0.0
            && figure(1, "worker, 512 in flight", "of the bare loop") > 0.0
    );
    assert!(figure(2, "bare loop, 50/s", "committed to provider, p50") > 0.0);
    assert!(figure(3, "3 workers", "peak RSS, the largest") > 1.0);
}

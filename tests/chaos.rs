//! A short run of the black box checker, with trouble of every track: `cargo test --features chaos --test chaos`.
//!
//! Its seed is fixed, so its schedule is; a longer run, or another seed, is `capture-chaos` itself.

use std::process::Command;

#[test]
fn a_few_seconds_of_chaos_double_lose_and_invent_nothing() {
    let run = Command::new(env!("CARGO_BIN_EXE_capture-chaos"))
        .args(["--bin", env!("CARGO_BIN_EXE_capture")])
        .args(["--seconds", "12", "--seed", "1", "-o", "json"])
        .output()
        .unwrap();
    let (told, talk) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{told}\n{talk}");
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    let count = |name: &str| report.get(name).and_then(serde_json::Value::as_u64).unwrap();
    assert!(count("captured") > 50 && count("faults") > 10, "{told}");
}

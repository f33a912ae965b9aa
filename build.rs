//! Tells cargo that the migrations are part of the binary, and the binary which compiler made it.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(rustc).arg("--version").output().ok();
    let rustc = told
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_default();
    println!("cargo:rustc-env=CAPTURE_RUSTC={}", rustc.trim());
    println!(
        "cargo:rustc-env=CAPTURE_TARGET={}",
        env::var("TARGET").unwrap_or_default()
    );
}

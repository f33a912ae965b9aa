//! The command line: one file per verb.
//!
//! stdout carries data, stderr talk. A verb returns how it ended ([`output::Exit`]) or an [`output::Error`]; `main` turns
//! either into the exit code.

pub mod accounts;
pub mod config;
pub mod filter;
pub mod output;

//! `capture`: parses the command line, runs the verb, and ends with the exit code that scripts build on.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use capture::cli::{self, CommandLine};
use capture::config::Environment;

fn main() -> ExitCode {
    let environment = Environment::from_process();
    // TLS asks the process for its cryptography; an error means that somebody has chosen it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let command = CommandLine::from_arguments();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::Error::failed(format!("no threads to work with: {error}")).report(&environment),
    };
    let ended = runtime.block_on(cli::run(command, &environment));
    // A thread that still waits for a line of stdin must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => error.report(&environment),
    }
}

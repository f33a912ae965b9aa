//! `webhook verify`: one message against a secret.

use std::io::Read;
use std::path::{Path, PathBuf};

use chrono::Utc;

use crate::cli::context::Context;
use crate::cli::output::{Error, Exit, say};
use crate::webhook::signature::{self, SignatureFault};

use super::SecretArgs;

/// Verifies one message as a receiver does, for who writes one.
///
/// Give the body's bytes as they came, before anything has read or rewritten its JSON, and the three headers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file that holds the body; - reads stdin
    #[arg(value_name = "BODY")]
    body: PathBuf,
    /// The header webhook-id
    #[arg(long, value_name = "ID")]
    id: String,
    /// The header webhook-timestamp
    #[arg(long, value_name = "SECONDS")]
    timestamp: String,
    /// The header webhook-signature
    #[arg(long, value_name = "V1,…")]
    signature: String,
    /// Also an old message, as from a recording
    #[arg(long)]
    any_time: bool,
    #[command(flatten)]
    secret: SecretArgs,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<Exit, Error> {
    let from_stdin = |path: &Path| path == Path::new("-");
    if from_stdin(&args.body) && args.secret.secret_file.as_deref().is_some_and(from_stdin) {
        return Err(Error::usage("both the body and the secret are to be read from stdin"));
    }
    let secrets = args.secret.secrets(context)?;
    if secrets.is_empty() {
        return Err(Error::usage("no secret is named").hint("give --secret-file or --secret-env"));
    }
    let body = match from_stdin(&args.body) {
        true => {
            let mut body = Vec::new();
            std::io::stdin().lock().read_to_end(&mut body)?;
            body
        }
        false => std::fs::read(&args.body)
            .map_err(|error| Error::usage(format!("{} cannot be read: {error}", args.body.display())))?,
    };
    let header = |name: &'static str| match name {
        signature::ID => Some(args.id.as_str()),
        signature::TIMESTAMP => Some(args.timestamp.as_str()),
        signature::SIGNATURE => Some(args.signature.as_str()),
        _ => None,
    };
    let now = match args.any_time {
        true => args.timestamp.trim().parse().unwrap_or(0),
        false => Utc::now().timestamp(),
    };
    match signature::verify(&secrets, header, &body, now) {
        Ok(()) => {
            say("genuine");
            Ok(Exit::Done)
        }
        Err(fault) => {
            say(&format!("not genuine: {fault}"));
            match fault {
                SignatureFault::TooOld(_) => say("hint: --any-time looks at the signature alone"),
                SignatureFault::Missing(_)
                | SignatureFault::Timestamp
                | SignatureFault::TooNew(_)
                | SignatureFault::NoMatch => {}
            }
            Ok(Exit::CheckTripped)
        }
    }
}

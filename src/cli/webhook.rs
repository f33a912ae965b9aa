//! `webhook`: endpoints and deliveries, and tools for who receives.

mod delivery;
mod endpoint;
mod listen;
mod verify;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::webhook::signature::Secret;

use super::context::Context;
use super::output::{Error, Exit};

/// What to do with webhooks.
#[derive(Debug, Subcommand)]
pub enum WebhookVerb {
    /// Who is told of events: make, look at, change, rotate, disable and remove endpoints
    #[command(subcommand)]
    Endpoint(endpoint::EndpointVerb),
    /// What was told to whom, and once more if need be
    #[command(subcommand)]
    Delivery(delivery::DeliveryVerb),
    // Not doc comments, which would take the place of what `--help` says beyond this line.
    #[command(about = "Receive webhooks here, verify and print them: for developers")]
    Listen(listen::Args),
    #[command(about = "Verify one message against a secret: 0 if it is genuine, 7 if not")]
    Verify(verify::Args),
}

impl WebhookVerb {
    /// Does it look after Ctrl-C itself?
    pub fn minds_interrupts(&self) -> bool {
        match self {
            WebhookVerb::Listen(_) => true,
            WebhookVerb::Endpoint(_) | WebhookVerb::Delivery(_) | WebhookVerb::Verify(_) => false,
        }
    }

    /// Does it change something that must be told by the exit code, whoever reads its stdout?
    pub fn acts(&self) -> bool {
        use delivery::DeliveryVerb;
        use endpoint::EndpointVerb;
        match self {
            WebhookVerb::Endpoint(
                EndpointVerb::Add(_)
                | EndpointVerb::Set(_)
                | EndpointVerb::Rotate(_)
                | EndpointVerb::Disable(_)
                | EndpointVerb::Enable(_)
                | EndpointVerb::Remove(_),
            )
            | WebhookVerb::Delivery(DeliveryVerb::Redeliver(_)) => true,
            WebhookVerb::Endpoint(EndpointVerb::List | EndpointVerb::Get(_))
            | WebhookVerb::Delivery(DeliveryVerb::List(_) | DeliveryVerb::Get(_))
            | WebhookVerb::Listen(_)
            | WebhookVerb::Verify(_) => false,
        }
    }
}

/// Runs it.
pub async fn run(verb: WebhookVerb, context: &Context) -> Result<Exit, Error> {
    match verb {
        WebhookVerb::Endpoint(verb) => endpoint::run(verb, context).await,
        WebhookVerb::Delivery(verb) => delivery::run(verb, context).await,
        WebhookVerb::Listen(args) => listen::run(args, context).await,
        WebhookVerb::Verify(args) => verify::run(&args, context),
    }
}

/// Where the secret stands. Not on the command line, which others can read.
#[derive(Debug, clap::Args)]
struct SecretArgs {
    /// A file with the secret in it (whsec_…), several one a line while they are rotated; - reads stdin
    #[arg(long, value_name = "FILE", conflicts_with = "secret_env")]
    secret_file: Option<PathBuf>,
    /// The environment variable that holds it
    #[arg(long, value_name = "NAME")]
    secret_env: Option<String>,
}

impl SecretArgs {
    /// The secrets; none if none are named.
    fn secrets(&self, context: &Context) -> Result<Vec<Secret>, Error> {
        let text = match (&self.secret_file, &self.secret_env) {
            (None, None) => return Ok(Vec::new()),
            (Some(path), _) if path == Path::new("-") => {
                let mut text = String::new();
                std::io::stdin().lock().read_to_string(&mut text)?;
                text
            }
            (Some(path), _) => std::fs::read_to_string(path)
                .map_err(|error| Error::usage(format!("--secret-file: {} cannot be read: {error}", path.display())))?,
            (None, Some(name)) => context
                .sources
                .environment
                .get(name)
                .ok_or_else(|| Error::usage(format!("--secret-env: {name} is not set")))?
                .to_owned(),
        };
        let lines = text.split_ascii_whitespace().map(Secret::parse);
        let secrets: Vec<Secret> = lines
            .collect::<Result<_, _>>()
            .map_err(|wrong| Error::usage(wrong).hint("capture webhook endpoint add and rotate show it, once"))?;
        match secrets.is_empty() {
            true => Err(Error::usage("there is no secret in it")),
            false => Ok(secrets),
        }
    }
}

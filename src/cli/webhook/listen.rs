//! `webhook listen`: a receiver, for developers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use chrono::Utc;
use tokio::net::TcpListener;

use crate::cli::context::Context;
use crate::cli::output::{Cell, Column, Error, Exit, Format, say};
use crate::webhook::signature::{self, Secret};

use super::SecretArgs;

/// Receives webhooks here, verifies and prints them, until Ctrl-C.
///
/// The worker must be allowed to reach it: webhooks.allow_networks = "127.0.0.0/8" opens this machine. Then, for a local trial:
/// capture webhook endpoint add http://127.0.0.1:8099/ --reason trial. A message that is not genuine is answered with 401.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes a free one and says it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8099")]
    listen: SocketAddr,
    /// What to answer to genuine messages, to see what becomes of them
    #[arg(long, value_name = "STATUS", default_value_t = 204, value_parser = clap::value_parser!(u16).range(200..=599))]
    answer: u16,
    #[command(flatten)]
    secret: SecretArgs,
}

struct Receiver {
    secrets: Vec<Secret>,
    answer: StatusCode,
    context: crate::cli::output::Output,
    /// One line at a time.
    printing: Mutex<()>,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let secrets = args.secret.secrets(context)?;
    if secrets.is_empty() {
        say("no secret is named: signatures are not looked at (--secret-file, --secret-env)");
    }
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Error::failed(format!("{} cannot be listened to: {error}", args.listen)))?;
    say(&format!("listening at http://{}/", listener.local_addr()?));
    let receiver = Receiver {
        secrets,
        answer: StatusCode::from_u16(args.answer).map_err(|error| Error::usage(error.to_string()))?,
        context: context.output,
        printing: Mutex::new(()),
    };
    let routes = Router::new().fallback(post(receive)).with_state(Arc::new(receiver));
    tokio::select! {
        served = async { axum::serve(listener, routes).await } => served?,
        () = context.interrupted.cancelled() => {}
    }
    Ok(Exit::Interrupted)
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &'static str| headers.get(name).and_then(|value| value.to_str().ok());
    let verified = match receiver.secrets.is_empty() {
        true => Ok(()),
        false => signature::verify(&receiver.secrets, header, &body, Utc::now().timestamp()),
    };
    let genuine = match (&verified, receiver.secrets.is_empty()) {
        (Ok(()), true) => "not looked at".to_owned(),
        (Ok(()), false) => "genuine".to_owned(),
        (Err(fault), _) => format!("not genuine: {fault}"),
    };
    let line = receiver.print(&genuine, &header, &body);
    match (verified, line) {
        (Err(_), _) => StatusCode::UNAUTHORIZED,
        (Ok(()), Err(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        (Ok(()), Ok(())) => receiver.answer,
    }
}

const COLUMNS: [Column; 6] = [
    Column::id("id"),
    Column::text("type"),
    Column::text("time"),
    Column::text("sequence"),
    Column::text("signature"),
    Column::text("body"),
];

impl Receiver {
    fn print<'h>(
        &self,
        genuine: &str,
        header: &impl Fn(&'static str) -> Option<&'h str>,
        body: &[u8],
    ) -> Result<(), Error> {
        let body = match serde_json::from_slice::<serde_json::Value>(body) {
            Ok(value) => value.into(),
            Err(_) => Cell::from(String::from_utf8_lossy(body).into_owned()),
        };
        let cells = [
            header(signature::ID).into(),
            header("ce-type").into(),
            header("ce-time").into(),
            header("ce-sequence").into(),
            genuine.into(),
            body,
        ];
        let _alone = self.printing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.context.format {
            // A table would wait for its last row.
            Format::Table => {
                let texts = cells.each_ref().map(Cell::for_people);
                println!("{}", texts.join("  "));
                Ok(())
            }
            Format::Json | Format::Ndjson | Format::Csv | Format::Id => self.context.record(&COLUMNS, &cells),
        }
    }
}

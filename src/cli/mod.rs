//! The command line: one file per verb, and what they share.
//!
//! A verb loads the settings (`context`), does its work through the other rooms, writes data to stdout ([`output`]) and
//! talk to stderr, and ends with one of the exit codes. What a database refuses becomes an exit code and a hint in
//! `refusal`, and nowhere else. Ctrl-C ends a verb that only looks at once; a verb that acts on many rows ends between
//! two steps, and says how far it came and who goes on.

pub mod accounts;
pub mod config;
pub mod exit;
pub mod explanations;
pub mod filter;
pub mod output;

mod act;
mod acting;
mod audit;
mod cancel;
mod capture_rows;
mod codes;
mod completion;
mod context;
mod dead;
mod demo;
mod dev;
mod doctor;
mod enqueue;
mod events;
mod export;
mod get;
mod health;
mod help;
mod intent_id;
mod key;
mod lane;
mod lane_acts;
mod list;
mod man;
mod migrate;
mod operations;
mod order;
mod probe;
mod prune;
mod refusal;
mod release;
mod replay;
mod resolve;
mod risk;
mod selection;
mod serve;
mod shipment;
mod signals;
mod simulate;
mod status;
mod timeline;
mod top;
mod version;
mod watch;
mod webhook;
mod webhooks;
mod work;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Environment;

use context::{Context, GlobalArgs};
use key::KeyVerb;
use lane::LaneVerb;
use operations::OperationsVerb;
use output::Exit;
use shipment::ShipmentVerb;

pub use output::Error;

/// A durable worker on Postgres that captures authorised payments
#[derive(Debug, Parser)]
#[command(name = "capture", version, arg_required_else_help = true, propagate_version = false)]
pub struct CommandLine {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

// `about` and not a doc comment where the verb has arguments of its own: a doc comment here would take the place of
// theirs, and with it of what `--help` says beyond this line.
#[derive(Debug, Subcommand)]
enum Verb {
    #[command(about = "A minute of captures with everything going wrong, and then the books")]
    Demo(demo::Args),
    #[command(about = "A private Postgres, the three providers and a worker, to develop against")]
    Dev(dev::Args),
    #[command(about = "Claim intents and capture them, until it is told to stop; then drain")]
    Work(work::Args),
    #[command(about = "Serve the HTTP API, its documentation and the console")]
    Serve(serve::Args),
    #[command(about = "Play the three providers over HTTP, with faults and a ledger of what was truly captured")]
    Simulate(simulate::Args),
    /// The schema of the outbox: apply it, look at it, check it
    #[command(subcommand)]
    Migrate(migrate::MigrateVerb),
    /// Is this server, schema, role and configuration fit for money? Exit code 7 if not
    Doctor,
    #[command(about = "Lanes, workers and counts at a glance")]
    Status(status::Args),
    #[command(about = "A live view of lanes, money at risk and workers")]
    Top(top::Args),
    #[command(about = "Captures, the newest first")]
    List(Box<list::Args>),
    #[command(about = "One capture, whole")]
    Get(get::Args),
    #[command(about = "What happened to one capture, in order")]
    Timeline(timeline::Args),
    #[command(about = "Dead letters: counted, listed, explained")]
    Dead(Box<dead::Args>),
    #[command(about = "Money that is authorised and not captured, by how soon that ends")]
    Risk(risk::Args),
    #[command(about = "The ledger of an order; with --ask beside the provider's word")]
    Order(order::Args),
    /// The feed of events
    #[command(subcommand)]
    Events(events::EventsVerb),
    /// Captures, events or the audit trail, of any size, as JSON lines or CSV
    #[command(subcommand)]
    Export(export::ExportVerb),
    #[command(about = "Ask for a capture")]
    Enqueue(Box<enqueue::Args>),
    #[command(about = "Let a held capture go")]
    Release(release::Args),
    /// Shipments: what was told, what came of it, and whose it is
    #[command(subcommand)]
    Shipment(ShipmentVerb),
    #[command(about = "Take back what was not sent")]
    Cancel(Box<cancel::Args>),
    #[command(about = "Send dead letters back to work, reads first")]
    Replay(Box<replay::Args>),
    #[command(about = "Settle dead letters by evidence from outside")]
    Resolve(Box<resolve::Args>),
    /// Acts on many captures: look at them, pause, resume and cancel them
    #[command(subcommand)]
    Operations(operations::OperationsVerb),
    /// What operators did, and whether that record is whole
    #[command(subcommand)]
    Audit(audit::AuditVerb),
    #[command(about = "Remove attempts and events of captures that ended long ago")]
    Prune(prune::Args),
    /// Lanes: look at them, pause, resume, limit and test them
    #[command(subcommand)]
    Lane(lane::LaneVerb),
    /// Keys of the HTTP API: make, list, rotate and revoke them
    #[command(subcommand)]
    Key(key::KeyVerb),
    /// Webhooks: who is told of events over HTTP, what arrived, and tools for receivers
    #[command(subcommand)]
    Webhook(webhook::WebhookVerb),
    /// The settings: which are in force, and whether they are in order
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Ask a running worker whether it is live, or ready
    #[command(subcommand)]
    Health(health::HealthVerb),
    #[command(about = "What a shell needs to complete this command line")]
    Completion(completion::Args),
    #[command(about = "Manual pages")]
    Man(man::Args),
    /// What this binary is
    Version,
}

impl CommandLine {
    /// Reads the arguments of the process. Help and version end it with 0, a wrong line with 2.
    pub fn from_arguments() -> CommandLine {
        let matches = CommandLine::definition().get_matches();
        CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The whole command line, as help, completion and manual pages need it.
    pub fn definition() -> clap::Command {
        help::grouped(CommandLine::command())
    }
}

impl Verb {
    /// Does this verb look after Ctrl-C itself, because it must not be dropped half-way?
    fn minds_interrupts(&self) -> bool {
        match self {
            Verb::Demo(_)
            | Verb::Dev(_)
            | Verb::Work(_)
            | Verb::Serve(_)
            | Verb::Simulate(_)
            | Verb::Enqueue(_)
            | Verb::Cancel(_)
            | Verb::Replay(_)
            | Verb::Resolve(_)
            | Verb::Operations(_)
            | Verb::Events(_)
            | Verb::Export(_)
            | Verb::Prune(_)
            | Verb::Top(_) => true,
            Verb::Webhook(verb) => verb.minds_interrupts(),
            Verb::Migrate(_)
            | Verb::Doctor
            | Verb::Status(_)
            | Verb::List(_)
            | Verb::Get(_)
            | Verb::Timeline(_)
            | Verb::Dead(_)
            | Verb::Risk(_)
            | Verb::Order(_)
            | Verb::Completion(_)
            | Verb::Man(_)
            | Verb::Release(_)
            | Verb::Shipment(_)
            | Verb::Audit(_)
            | Verb::Lane(_)
            | Verb::Key(_)
            | Verb::Config(_)
            | Verb::Health(_)
            | Verb::Version => false,
        }
    }
}

impl Verb {
    /// Does this verb change something that must not be left half done, or unreported by the exit code, because nobody
    /// reads its stdout any more?
    fn acts(&self) -> bool {
        match self {
            Verb::Enqueue(_)
            | Verb::Release(_)
            | Verb::Cancel(_)
            | Verb::Replay(_)
            | Verb::Resolve(_)
            | Verb::Prune(_)
            | Verb::Migrate(_)
            | Verb::Operations(
                OperationsVerb::Watch(_)
                | OperationsVerb::Pause(_)
                | OperationsVerb::Resume(_)
                | OperationsVerb::Cancel(_),
            )
            | Verb::Lane(LaneVerb::Pause(_) | LaneVerb::Resume(_) | LaneVerb::Limit(_) | LaneVerb::Probe(_))
            | Verb::Shipment(ShipmentVerb::Match(_))
            | Verb::Key(KeyVerb::Create(_) | KeyVerb::Rotate(_) | KeyVerb::Revoke(_)) => true,
            Verb::Webhook(verb) => verb.acts(),
            Verb::Operations(OperationsVerb::List(_) | OperationsVerb::Get(_))
            | Verb::Lane(LaneVerb::List(_))
            | Verb::Shipment(ShipmentVerb::List(_))
            | Verb::Key(KeyVerb::List(_))
            | Verb::Demo(_)
            | Verb::Dev(_)
            | Verb::Work(_)
            | Verb::Serve(_)
            | Verb::Simulate(_)
            | Verb::Doctor
            | Verb::Status(_)
            | Verb::Top(_)
            | Verb::List(_)
            | Verb::Get(_)
            | Verb::Timeline(_)
            | Verb::Dead(_)
            | Verb::Risk(_)
            | Verb::Order(_)
            | Verb::Events(_)
            | Verb::Export(_)
            | Verb::Audit(_)
            | Verb::Completion(_)
            | Verb::Man(_)
            | Verb::Config(_)
            | Verb::Health(_)
            | Verb::Version => false,
        }
    }
}

/// Runs the verb.
pub async fn run(command: CommandLine, environment: &Environment) -> Result<Exit, Error> {
    let mut context = Context::new(command.global, environment);
    context.output.outlives_reader = command.verb.acts();
    let minds_interrupts = command.verb.minds_interrupts();
    if !matches!(command.verb, Verb::Work(_) | Verb::Serve(_) | Verb::Simulate(_)) {
        signals::note_interrupts(context.interrupted.clone())?;
    }
    tokio::select! {
        ended = dispatch(command.verb, &context) => ended,
        () = context.interrupted.cancelled(), if !minds_interrupts => Ok(Exit::Interrupted),
    }
}

async fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Error> {
    match verb {
        Verb::Demo(args) => demo::run(args, context).await,
        Verb::Dev(args) => dev::run(args, context).await,
        Verb::Work(args) => work::run(args, context).await,
        Verb::Serve(args) => serve::run(args, context).await,
        Verb::Key(verb) => key::run(verb, context).await,
        Verb::Simulate(args) => simulate::run(args, context).await,
        Verb::Migrate(verb) => migrate::run(verb, context).await,
        Verb::Status(args) => status::run(args, context).await,
        Verb::List(args) => list::run(*args, context).await,
        Verb::Get(args) => get::run(args, context).await,
        Verb::Timeline(args) => timeline::run(args, context).await,
        Verb::Enqueue(args) => enqueue::run(*args, context).await,
        Verb::Doctor => doctor::run(context).await,
        Verb::Dead(args) => dead::run(*args, context).await,
        Verb::Events(verb) => events::run(verb, context).await,
        Verb::Release(args) => release::run(args, context).await,
        Verb::Shipment(verb) => shipment::run(verb, context).await,
        Verb::Cancel(args) => cancel::run(*args, context).await,
        Verb::Replay(args) => replay::run(*args, context).await,
        Verb::Resolve(args) => resolve::run(*args, context).await,
        Verb::Operations(verb) => operations::run(verb, context).await,
        Verb::Audit(verb) => audit::run(verb, context).await,
        Verb::Lane(verb) => lane::run(verb, context).await,
        Verb::Health(verb) => health::run(verb, context).await,
        Verb::Version => version::run(context),
        Verb::Top(args) => top::run(args, context).await,
        Verb::Risk(args) => risk::run(args, context).await,
        Verb::Order(args) => order::run(args, context).await,
        Verb::Export(verb) => export::run(verb, context).await,
        Verb::Prune(args) => prune::run(args, context).await,
        Verb::Webhook(verb) => webhook::run(verb, context).await,
        Verb::Completion(args) => completion::run(&args),
        Verb::Man(args) => man::run(&args),
        Verb::Config(verb) => config::run(verb, &context.sources, &context.output),
    }
}

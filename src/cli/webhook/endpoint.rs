//! `webhook endpoint`: who is told of events.

use std::time::Duration;

use clap::Subcommand;
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::cli::act::ActArgs;
use crate::cli::context::Context;
use crate::cli::events::event_types;
use crate::cli::output::{Cell, Column, Error, Exit, Format, say};
use crate::cli::webhooks::networks;
use crate::outbox::{EndpointActed, EndpointChange, Outbox, WebhookEndpoint};
use crate::webhook::signature::Secret;

/// What to do with endpoints.
#[derive(Debug, Subcommand)]
pub enum EndpointVerb {
    // Not doc comments, which would take the place of what `--help` says beyond this line.
    #[command(about = "Make an endpoint, and show its secret, once")]
    Add(Add),
    /// Every endpoint: where it is, what it is told, and how it stands
    List,
    /// One endpoint, whole
    Get(One),
    #[command(about = "Change where it is, what it is told, or its description")]
    Set(Set),
    #[command(about = "Give it a second secret, and show that, once; the first ends after the grace")]
    Rotate(Rotate),
    #[command(about = "Tell it nothing until it is enabled")]
    Disable(Act),
    /// Tell it of what happens from now on, and of what was still pending
    Enable(Act),
    /// Remove it, with its secrets and its deliveries
    Remove(Act),
}

/// Makes an endpoint and shows its secret, once.
///
/// It is told of what happens from now on; webhook delivery redeliver tells it of a span of time before. The secret signs every
/// message (Standard Webhooks); webhook verify and webhook listen show how one is checked.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Where events are sent: https, at a public address unless webhooks.allow_networks opens others
    #[arg(value_name = "URL")]
    url: String,
    /// Only of these types, such as captured or dead_lettered; several times, or with commas. Else of all
    #[arg(long = "type", value_name = "TYPE,…", value_delimiter = ',')]
    types: Vec<String>,
    /// For people: whose it is
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    #[command(flatten)]
    act: ActArgs,
}

/// Which one.
#[derive(Debug, clap::Args)]
pub struct One {
    /// The endpoint
    #[arg(value_name = "ENDPOINT")]
    id: Uuid,
}

/// Changes an endpoint. What is not given stays as it is.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// The endpoint
    #[arg(value_name = "ENDPOINT")]
    id: Uuid,
    /// Where events are sent
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Only of these types
    #[arg(
        long = "type",
        value_name = "TYPE,…",
        value_delimiter = ',',
        conflicts_with = "all_types"
    )]
    types: Option<Vec<String>>,
    /// Of all types
    #[arg(long)]
    all_types: bool,
    /// For people: whose it is
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    act: ActArgs,
}

/// Gives it a second secret and shows that, once.
///
/// Until the grace is over messages are signed with both, so the receiver can change its secret at any moment in between.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// The endpoint
    #[arg(value_name = "ENDPOINT")]
    id: Uuid,
    /// How long the old one goes on; 0s ends it at once
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = grace)]
    grace: Duration,
    #[command(flatten)]
    act: ActArgs,
}

/// Which one, who and why.
///
/// What happens while an endpoint is disabled is not kept for it: webhook delivery redeliver --since tells it afterwards.
#[derive(Debug, clap::Args)]
pub struct Act {
    /// The endpoint
    #[arg(value_name = "ENDPOINT")]
    id: Uuid,
    #[command(flatten)]
    act: ActArgs,
}

fn grace(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(366 * 24 * 3600);
    let span = humantime::parse_duration(text).ok().filter(|span| *span <= most);
    span.ok_or_else(|| "write a number and its unit, such as 24h or 7d, at most a year".to_owned())
}

/// Runs it.
pub async fn run(verb: EndpointVerb, context: &Context) -> Result<Exit, Error> {
    match verb {
        EndpointVerb::Add(args) => add(args, context).await,
        EndpointVerb::List => list(context).await,
        EndpointVerb::Get(args) => get(args.id, context).await,
        EndpointVerb::Set(args) => set(args, context).await,
        EndpointVerb::Rotate(args) => rotate(&args, context).await,
        EndpointVerb::Disable(args) => state(&args, false, context).await,
        EndpointVerb::Enable(args) => state(&args, true, context).await,
        EndpointVerb::Remove(args) => remove(&args, context).await,
    }
}

fn checked_url(url: &str, context: &Context) -> Result<String, Error> {
    let checked = networks(&context.settings()?).check_url(url);
    let url = checked.map_err(|fault| Error::usage(format!("the URL {fault}")))?;
    Ok(url.to_string())
}

fn no_such(id: Uuid) -> Error {
    Error::not_found(format!("there is no endpoint {id}")).hint("capture webhook endpoint list shows every one")
}

async fn existing(outbox: &Outbox, id: Uuid) -> Result<WebhookEndpoint, Error> {
    outbox.webhook_endpoint(id).await?.ok_or_else(|| no_such(id))
}

fn show_secret(id: Uuid, secret: &Secret, context: &Context) -> Result<(), Error> {
    let columns = [Column::id("id"), Column::text("secret")];
    let written = secret.written();
    let cells = [id.to_string().into(), written.expose_secret().into()];
    context.output.record(&columns, &cells)?;
    say("keep the secret now: it is not shown again");
    Ok(())
}

async fn add(args: Add, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let url = checked_url(&args.url, context)?;
    let types = event_types(&args.types)?;
    let outbox = context.outbox().await?;
    if args.act.dry_run {
        say("an endpoint would be made; nothing was written");
        return Ok(Exit::Done);
    }
    let secret = Secret::make().map_err(Error::failed)?;
    let made = outbox.create_webhook_endpoint(&url, &types, &args.description, secret.bytes(), &stamp);
    let id = made.await?;
    show_secret(id, &secret, context)?;
    Ok(Exit::Done)
}

const SHORT: [Column; 8] = [
    Column::id("id").shortens(4, 13),
    Column::text("url").shortens(3, 30),
    Column::text("types").leaves(2),
    Column::text("state"),
    Column::number("pending"),
    Column::span("behind"),
    Column::number("failures"),
    Column::text("description").leaves(1),
];

const WHOLE: [Column; 16] = [
    Column::id("id"),
    Column::text("url"),
    Column::text("types"),
    Column::text("description"),
    Column::text("state"),
    Column::text("disabled_at"),
    Column::text("disabled_by"),
    Column::text("disabled_reason"),
    Column::number("pending"),
    Column::span("behind"),
    Column::number("failures"),
    Column::text("failing_since"),
    Column::text("wait_until"),
    Column::text("last_success_at"),
    Column::text("created_by"),
    Column::text("created_at"),
];

fn state_of(endpoint: &WebhookEndpoint) -> &'static str {
    match (endpoint.disabled_at, endpoint.failures) {
        (Some(_), _) => "disabled",
        (None, 0) => "enabled",
        (None, _) => "failing",
    }
}

fn types_of(endpoint: &WebhookEndpoint) -> String {
    match endpoint.types.is_empty() {
        true => "all".to_owned(),
        false => endpoint.types.join(",").replace("capture.", ""),
    }
}

fn behind_of(endpoint: &WebhookEndpoint) -> Cell {
    let seconds = u64::try_from(endpoint.behind_seconds).unwrap_or(0);
    Duration::from_secs(seconds).into()
}

fn short(endpoint: &WebhookEndpoint) -> Vec<Cell> {
    vec![
        endpoint.id.to_string().into(),
        endpoint.url.as_str().into(),
        types_of(endpoint).into(),
        state_of(endpoint).into(),
        endpoint.pending.into(),
        behind_of(endpoint),
        endpoint.failures.into(),
        endpoint.description.as_str().into(),
    ]
}

fn whole(endpoint: &WebhookEndpoint) -> Vec<Cell> {
    vec![
        endpoint.id.to_string().into(),
        endpoint.url.as_str().into(),
        types_of(endpoint).into(),
        endpoint.description.as_str().into(),
        state_of(endpoint).into(),
        endpoint.disabled_at.into(),
        endpoint.disabled_by.as_deref().into(),
        endpoint.disabled_reason.as_deref().into(),
        endpoint.pending.into(),
        behind_of(endpoint),
        endpoint.failures.into(),
        endpoint.failing_since.into(),
        endpoint.wait_until.into(),
        endpoint.last_success_at.into(),
        endpoint.created_by.as_str().into(),
        endpoint.created_at.into(),
    ]
}

async fn list(context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let people = context.output.format == Format::Table;
    let mut rows = context.output.rows(if people { &SHORT[..] } else { &WHOLE[..] })?;
    for endpoint in outbox.webhook_endpoints().await? {
        rows.row(&if people { short(&endpoint) } else { whole(&endpoint) })?;
    }
    if rows.finish()? == 0 {
        say("no endpoints: capture webhook endpoint add makes one");
    }
    Ok(Exit::Done)
}

async fn get(id: Uuid, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let endpoint = existing(&outbox, id).await?;
    context.output.record(&WHOLE, &whole(&endpoint))?;
    Ok(Exit::Done)
}

fn told(acted: EndpointActed, id: Uuid, done: &str, already: &str) -> Result<Exit, Error> {
    match acted {
        EndpointActed::Changed => say(done),
        EndpointActed::Unchanged => say(already),
        EndpointActed::NotFound => return Err(no_such(id)),
        EndpointActed::TwoSecretsLive => {
            return Err(Error::state_forbids("two secrets of this endpoint are live")
                .hint("wait until the older one ends, or end both now with --grace 0s"));
        }
    }
    Ok(Exit::Done)
}

async fn set(args: Set, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let change = EndpointChange {
        url: args.url.map(|url| checked_url(&url, context)).transpose()?,
        types: match args.all_types {
            true => Some(Vec::new()),
            false => args.types.map(|types| event_types(&types)).transpose()?,
        },
        description: args.description,
    };
    if change == EndpointChange::default() {
        return Err(Error::usage("nothing is to be changed").hint("give --url, --type, --all-types or --description"));
    }
    let outbox = context.outbox().await?;
    if args.act.dry_run {
        existing(&outbox, args.id).await?;
        say("it would be changed; nothing was written");
        return Ok(Exit::Done);
    }
    let acted = outbox.change_webhook_endpoint(args.id, &change, &stamp).await?;
    told(acted, args.id, "changed", "it was so before")
}

async fn rotate(args: &Rotate, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let outbox = context.outbox().await?;
    if args.act.dry_run {
        existing(&outbox, args.id).await?;
        say("a second secret would be made; nothing was written");
        return Ok(Exit::Done);
    }
    let secret = Secret::make().map_err(Error::failed)?;
    let acted = outbox
        .rotate_webhook_secret(args.id, secret.bytes(), args.grace, &stamp)
        .await?;
    let exit = told(acted, args.id, "rotated", "rotated")?;
    show_secret(args.id, &secret, context)?;
    Ok(exit)
}

async fn state(args: &Act, enabled: bool, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let outbox = context.outbox().await?;
    if args.act.dry_run {
        let endpoint = existing(&outbox, args.id).await?;
        let changes = endpoint.disabled_at.is_some() == enabled;
        say(if changes {
            "it would be changed; nothing was written"
        } else {
            "it is so already"
        });
        return Ok(Exit::Done);
    }
    let acted = outbox.set_webhook_endpoint_state(args.id, enabled, &stamp).await?;
    match enabled {
        true => told(acted, args.id, "enabled", "it was enabled before"),
        false => told(acted, args.id, "disabled", "it was disabled before"),
    }
}

async fn remove(args: &Act, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    let outbox = context.outbox().await?;
    if args.act.dry_run {
        let endpoint = existing(&outbox, args.id).await?;
        say(&format!(
            "it would be removed, with {} pending deliveries; nothing was written",
            endpoint.pending
        ));
        return Ok(Exit::Done);
    }
    let acted = outbox.remove_webhook_endpoint(args.id, &stamp).await?;
    told(acted, args.id, "removed", "removed")
}

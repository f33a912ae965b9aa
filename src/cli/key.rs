//! `key`: the keys of the HTTP API.

use std::time::Duration;

use clap::Subcommand;
use secrecy::ExposeSecret;

use crate::api_key::{FreshKey, Scope, Scopes};
use crate::outbox::{MadeKey, NewKey, Revoked};

use super::act::ActArgs;
use super::context::Context;
use super::output::{Cell, Column, Error, Exit, say};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Make a key and show it, once
    Create(CreateArgs),
    /// Every key: whose, for what, until when, last used when
    List(ListArgs),
    /// Make a second key of a name; the old one ends after the grace
    Rotate(RotateArgs),
    /// End a key at once
    Revoke(RevokeArgs),
}

/// Makes a key and shows it, once: only a digest of it is kept.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// Whose it is; acts are told by this name
    #[arg(value_name = "NAME")]
    name: String,
    /// What it allows: read, enqueue, release, cancel, operate, lanes, ship, webhooks; several times, or with commas
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',', value_parser = scope)]
    scopes: Vec<Scope>,
    /// How long it lives, such as 90d; or never
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = lifetime)]
    expires: Lifetime,
    #[command(flatten)]
    act: ActArgs,
}

/// Lists keys.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Those that have ended too
    #[arg(long)]
    all: bool,
}

/// Makes a second key with the same scopes; the old one ends after the grace. Two of a name live at most.
#[derive(Debug, clap::Args)]
pub struct RotateArgs {
    /// Whose key
    #[arg(value_name = "NAME")]
    name: String,
    /// How long the old one goes on; 0s ends it at once
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = span)]
    grace: Duration,
    /// How long the new one lives, such as 90d; or never
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = lifetime)]
    expires: Lifetime,
    #[command(flatten)]
    act: ActArgs,
}

/// Ends a key at once: the next request with it is refused.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// Its prefix, as key list shows it (the 8 digits after cap_)
    #[arg(value_name = "PREFIX")]
    prefix: String,
    #[command(flatten)]
    act: ActArgs,
}

/// How long a key lives; `None`: until it is revoked.
#[derive(Debug, Clone, Copy)]
struct Lifetime(Option<Duration>);

/// The longest lifetime that is written as a span: 10 years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

fn scope(text: &str) -> Result<Scope, String> {
    Scope::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = Scope::ALL.iter().map(|scope| scope.name()).collect();
        format!("there is no such scope; it is one of {}", names.join(", "))
    })
}

fn span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).ok().filter(|span| *span <= LONGEST);
    span.ok_or_else(|| "write a number and its unit, such as 24h or 90d, at most 10 years".to_owned())
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    match text {
        "never" => Ok(Lifetime(None)),
        text => match span(text)? {
            span if span.is_zero() => Err("a key that has ended opens nothing".to_owned()),
            span => Ok(Lifetime(Some(span))),
        },
    }
}

/// Runs it.
pub async fn run(verb: KeyVerb, context: &Context) -> Result<Exit, Error> {
    match verb {
        KeyVerb::Create(args) => {
            let new = NewKey::First(args.scopes.iter().copied().collect::<Scopes>());
            make(&args.name, &new, args.expires, &args.act, context).await
        }
        KeyVerb::Rotate(args) => {
            make(
                &args.name,
                &NewKey::InPlaceOf(args.grace),
                args.expires,
                &args.act,
                context,
            )
            .await
        }
        KeyVerb::List(args) => list(&args, context).await,
        KeyVerb::Revoke(args) => revoke(&args, context).await,
    }
}

async fn make(name: &str, new: &NewKey, expires: Lifetime, act: &ActArgs, context: &Context) -> Result<Exit, Error> {
    let stamp = act.stamp(context)?;
    let outbox = context.outbox().await?;
    if act.dry_run {
        say("a key would be made; nothing was written");
        return Ok(Exit::Done);
    }
    let fresh = FreshKey::make().map_err(Error::failed)?;
    let MadeKey { scopes, expires_at } = outbox.create_key(&fresh, name, new, expires.0, &stamp).await?;
    context.output.record(
        &[
            Column::id("prefix"),
            Column::text("name"),
            Column::text("scopes"),
            Column::text("expires_at"),
            Column::text("key"),
        ],
        &[
            fresh.prefix.as_str().into(),
            name.into(),
            scopes.join(",").into(),
            expires_at.into(),
            fresh.whole.expose_secret().into(),
        ],
    )?;
    say("keep the key now: it is not shown again");
    Ok(Exit::Done)
}

async fn list(args: &ListArgs, context: &Context) -> Result<Exit, Error> {
    let outbox = context.outbox().await?;
    let mut rows = context.output.rows(&[
        Column::id("prefix"),
        Column::text("name"),
        Column::text("scopes"),
        Column::text("state"),
        Column::text("expires_at"),
        Column::text("last_used_at"),
        Column::text("created_by"),
        Column::text("created_at"),
    ])?;
    for key in outbox.keys().await?.into_iter().filter(|key| args.all || key.live) {
        let state = match (key.live, key.revoked_at) {
            (true, _) => "live",
            (false, Some(_)) => "revoked",
            (false, None) => "over",
        };
        rows.row(&[
            Cell::from(key.prefix),
            key.name.into(),
            key.scopes.join(",").into(),
            state.into(),
            key.expires_at.into(),
            key.last_used_at.into(),
            key.created_by.into(),
            key.created_at.into(),
        ])?;
    }
    rows.finish()?;
    Ok(Exit::Done)
}

async fn revoke(args: &RevokeArgs, context: &Context) -> Result<Exit, Error> {
    let stamp = args.act.stamp(context)?;
    // Whoever pastes more than the prefix means that key too.
    let prefix = args.prefix.trim_start_matches("cap_");
    let prefix = prefix.split('_').next().unwrap_or(prefix);
    let outbox = context.outbox().await?;
    if args.act.dry_run {
        let keys = outbox.keys().await?;
        let live = keys.iter().any(|key| key.prefix == prefix && key.live);
        say(if live {
            "it would be revoked; nothing was written"
        } else {
            "no live key has that prefix"
        });
        return Ok(if live { Exit::Done } else { Exit::NotFound });
    }
    match outbox.revoke_key(prefix, &stamp).await? {
        Revoked::Revoked => {
            say("revoked: the next request with it is refused");
            Ok(Exit::Done)
        }
        Revoked::Ended => Err(Error::state_forbids("that key had ended before")),
        Revoked::NotFound => {
            Err(Error::not_found("no key has that prefix").hint("capture key list --all shows every key"))
        }
    }
}

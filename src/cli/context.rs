//! What every verb begins with: the settings, a way into the outbox, the form of the output, and who is asking.

use std::path::PathBuf;

use clap::Args;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigFile, Environment, Flag, Need, Sources, Warning};
use crate::outbox::{ConnectSettings, Outbox};

use super::output::{Error, Output, OutputArgs, warn};

/// The connections that a verb which looks or acts may open.
const FEW: u32 = 4;

/// Flags of every verb.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// The settings' file; else CAPTURE_CONFIG, else capture.toml in this directory
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database, postgres://user@host:5432/database; else DATABASE_URL. Others may see a password given here
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a verb works with.
#[derive(Debug)]
pub struct Context {
    /// Where settings come from.
    pub sources: Sources,
    /// Where data goes, and how.
    pub output: Output,
    /// Cancelled by Ctrl-C.
    pub interrupted: CancellationToken,
}

impl Context {
    /// From the flags and the environment.
    pub fn new(global: GlobalArgs, environment: &Environment) -> Context {
        let flags = global.database_url.map(|value| Flag {
            flag: "--database-url",
            key: "database_url",
            value,
        });
        Context {
            output: Output::new(global.output, environment),
            sources: Sources {
                file: global.config.map_or(ConfigFile::Found, ConfigFile::At),
                environment: environment.clone(),
                flags: flags.into_iter().collect(),
                need: Need::DatabaseOnly,
            },
            interrupted: CancellationToken::new(),
        }
    }

    /// The settings, as far as one needs them to look into the database. Of the warnings those are said that may concern
    /// this (a misspelt variable has no key); how a worker is set is said by `work` and `config check`.
    pub fn settings(&self) -> Result<Config, Error> {
        let (config, warnings) = Config::load(&self.sources)?;
        let of_names = warnings.iter().filter(|Warning(fault)| fault.key.is_empty());
        of_names.for_each(warn);
        Ok(config)
    }

    /// A way into the outbox, for a role that may look into it.
    pub async fn outbox(&self) -> Result<Outbox, Error> {
        let outbox = self.outbox_for_anybody().await?;
        outbox.check_access().await?;
        Ok(outbox)
    }

    /// A way into the outbox, whoever asks.
    pub async fn outbox_for_anybody(&self) -> Result<Outbox, Error> {
        connect(&self.settings()?, FEW).await
    }
}

/// Connects with these settings, or says which address does not answer.
pub async fn connect(config: &Config, max_connections: u32) -> Result<Outbox, Error> {
    let settings = ConnectSettings {
        schema: config.schema.clone(),
        max_connections,
        ..ConnectSettings::new(config.database_url()?.expose_secret())
    };
    Ok(Outbox::connect(&settings).await?)
}

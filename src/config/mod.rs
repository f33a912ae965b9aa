//! The settings, and the only room that reads the environment.
//!
//! Four layers, the later ones stronger: defaults, `capture.toml`, environment variables, flags. Every setting has one
//! path (`worker.lease`) and with it one variable (`CAPTURE_WORKER_LEASE`); secrets may also be given as the path of a
//! file that holds them (`database_url_file`, `CAPTURE_DATABASE_URL_FILE`). All faults are found in one run and told with
//! file, line and what to do. Unknown keys of the file are faults, because a setting that silently does nothing is worse
//! than a start that fails; unknown `CAPTURE_` variables are warnings, because the environment is shared with others.
//!
//! Only `cli` knows this room: it takes the plain fields and hands them on, so no other room depends on where a
//! setting came from. Durations are [`std::time::Duration`] here and `"15s"` in the file.

mod account;
mod breaker;
mod environment;
mod faults;
mod file;
mod http;
mod reader;
mod relations;
mod retry;
mod schema_name;
mod secrets;
mod shipment_source;
mod sources;
mod telemetry;
mod values;
mod webhooks;
mod worker;

use secrecy::SecretString;

pub use account::{AccountConfig, ProviderConfig, ResolveAccess};
pub use breaker::BreakerConfig;
pub use environment::{Environment, Variable};
pub use faults::{ConfigFaults, Fault, Place, Warning};
pub use http::HttpConfig;
pub use retry::RetryConfig;
pub use sources::{ConfigFile, Flag, Need, Sources};
pub use telemetry::TelemetryConfig;
pub use webhooks::WebhooksConfig;
pub use worker::WorkerConfig;

use crate::shipment::Source;

use reader::{Key, Reader};
use values::Refusal;

/// All settings of one process.
#[derive(Debug, Clone)]
pub struct Config {
    /// The schema that holds the outbox. Default `capture`; a plain lower-case SQL identifier, because statements do not
    /// quote it, of at most 63 bytes, because PostgreSQL cuts longer ones silently.
    pub schema: String,
    /// How a worker claims, sends and drains.
    pub worker: WorkerConfig,
    /// When what failed is tried again.
    pub retry: RetryConfig,
    /// When a lane stops sending because the provider does not answer.
    pub breaker: BreakerConfig,
    /// The HTTP API.
    pub http: HttpConfig,
    /// How events go out.
    pub webhooks: WebhooksConfig,
    /// Logs, metrics and health.
    pub telemetry: TelemetryConfig,
    /// The merchant accounts, in the order of the file.
    pub accounts: Vec<AccountConfig>,
    /// Who tells of shipments over HTTP, in the order of the file.
    pub shipment_sources: Vec<Source>,
    /// The secrets of sources that are not there: only `serve` needs them.
    pub missing_source_secrets: Vec<Fault>,
    database_url: Option<SecretString>,
    settings: Vec<Setting>,
}

/// One setting as it is in force, for `config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its path.
    pub key: String,
    /// Its value as one would write it; `***` for a secret; `None` if it has none.
    pub value: Option<String>,
    /// Where it was given.
    pub source: Place,
}

impl Config {
    /// Reads and checks everything. The error holds every fault there is.
    pub fn load(sources: &Sources) -> Result<(Config, Vec<Warning>), ConfigFaults> {
        let (file, directory) = sources::read_file(sources)?;
        let mut reader = Reader::new(&file, &directory, &sources.environment, &sources.flags);
        let database_url = read_database_url(&mut reader);
        let schema = reader.text_or(&Key::of("schema"), "capture", schema_name::check);
        let worker = worker::read(&mut reader);
        let retry = retry::read(&mut reader);
        let breaker = breaker::read(&mut reader);
        let http = http::read(&mut reader);
        let webhooks = webhooks::read(&mut reader, &schema);
        let telemetry = telemetry::read(&mut reader);
        let (accounts, without_secret) = account::read(&mut reader);
        let (shipment_sources, missing_source_secrets) = shipment_source::read(&mut reader);
        let config = Config {
            schema,
            worker,
            retry,
            breaker,
            http,
            webhooks,
            telemetry,
            accounts,
            shipment_sources,
            missing_source_secrets,
            database_url,
            settings: Vec::new(),
        };
        relations::check(&mut reader, &config);
        if sources.need == Need::Everything {
            reader.faults.extend(without_secret);
        }
        reader.unknown();
        let Reader {
            settings,
            faults,
            warnings,
            ..
        } = reader;
        match ConfigFaults::from_list(faults, warnings.clone()) {
            Some(faults) => Err(faults),
            None => Ok((Config { settings, ..config }, warnings)),
        }
    }

    /// The database's URL, or the fault that says how to give it.
    pub fn database_url(&self) -> Result<&SecretString, Fault> {
        self.database_url.as_ref().ok_or_else(|| Fault {
            place: Place::Default,
            key: "database_url".to_owned(),
            wrong: "no database is named".to_owned(),
            fix: "give --database-url or set DATABASE_URL, such as postgres://user@host/database".to_owned(),
        })
    }

    /// Every setting, its value and where it was given, in reading order.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }
}

fn read_database_url(reader: &mut Reader<'_>) -> Option<SecretString> {
    use secrecy::ExposeSecret;
    let key = Key::of("database_url").or_variable("DATABASE_URL");
    let url = match reader.secret(&key, None) {
        Ok(url) => url?,
        Err(fault) => {
            reader.faults.push(fault);
            return None;
        }
    };
    let known_scheme = ["postgres", "postgresql"];
    let readable = url::Url::parse(url.expose_secret()).is_ok_and(|url| known_scheme.contains(&url.scheme()));
    if readable {
        return Some(url);
    }
    // Never the text itself: it holds a password.
    let place = reader.place_of(&["database_url"]);
    let refusal = Refusal::new(
        "is no PostgreSQL URL",
        "write it like postgres://user@host:5432/database",
    );
    reader.fault(place, "database_url", refusal);
    None
}

#[cfg(test)]
mod tests;

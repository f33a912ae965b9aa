//! The settings, and the only room that reads the environment.
//!
//! Four layers, the later ones stronger: defaults, `capture.toml`, environment variables, flags. Every setting has one
//! path (`worker.lease`) and with it one variable (`CAPTURE_WORKER_LEASE`); secrets may also be given as the path of a
//! file that holds them (`database_url_file`, `CAPTURE_DATABASE_URL_FILE`). All faults are found in one run and told with
//! file, line and what to do. Unknown keys of the file are faults, because a setting that silently does nothing is worse
//! than a start that fails; unknown `CAPTURE_` variables are warnings, because the environment is shared with others.
//!
//! Only `cli` knows this room: it takes the plain fields and hands them on, so no other room depends on where a
//! setting came from. Durations are [`Duration`] here and `"15s"` in the file.

mod account;
mod environment;
mod faults;
mod file;
mod reader;
mod secrets;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::telemetry;

pub use account::{AccountConfig, ProviderConfig, ResolveAccess};
pub use environment::{Environment, Variable};
pub use faults::{ConfigFaults, Fault, Place, Warning};

use file::{File, LARGEST_FILE};
use reader::{Key, Reader};
use values::{Refusal, listen_address, written_duration};

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
    /// Logs, metrics and health.
    pub telemetry: TelemetryConfig,
    /// The merchant accounts, in the order of the file.
    pub accounts: Vec<AccountConfig>,
    database_url: Option<SecretString>,
    settings: Vec<Setting>,
}

/// `[worker]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerConfig {
    /// How long a claim may keep its intents before others verify them. Default 120 s: the longest call (10 s + 70 s), 5 s
    /// of margin, and 35 s in which a claimed intent may wait for its turn. Longer: after a crash money of unknown outcome
    /// is looked at later. Shorter than the longest call and 5 s is refused. 1 s to 1 h.
    pub lease: Duration,
    /// How long a connection to a provider may take to stand. Default 10 s: what Afterpay documents; nothing has been sent
    /// before it stands, so waiting longer buys nothing. 10 ms to 1 min.
    pub connect_timeout: Duration,
    /// How long an answer may take after the send. Default 70 s: what Afterpay documents. A shorter one turns slow
    /// successes into unknown outcomes. 10 ms to 5 min.
    pub read_timeout: Duration,
    /// How long a stopping worker waits for its calls. Default 90 s: the longest call (80 s), 5 s of margin, and time to
    /// settle. Give the process at least as long before it is killed. 0 s to 1 h.
    pub drain_timeout: Duration,
    /// How long results are gathered before they are settled in one commit. Default 10 ms: one fsync for many results at a
    /// delay that nobody sees beside a call of half a second. 0 (settle each at once) to 1 s.
    pub settle_window: Duration,
    /// The shortest pause between two looks for work that found none. Default 10 ms: the delay of the first capture after
    /// a lull. 1 ms to 10 s.
    pub poll_min: Duration,
    /// The longest pause between two looks. Default 5 s: the back-stop for a wake-up that was lost. 10 ms to 1 min.
    pub poll_max: Duration,
    /// The most intents that one claim takes. Default 500: beyond it a claim's cost per intent hardly falls, and its lease
    /// row grows. 1 to 1000.
    pub batch: u32,
    /// How long before an authorisation's deadline the last send may start. Default 15 min: a call, a settle and a
    /// verification fit in it many times over, so that the outcome is known before the money is gone. 0 s to 24 h.
    pub deadline_margin: Duration,
    /// Start although the server runs with `fsync`, `full_page_writes` or `synchronous_commit` off. Default false: such a
    /// server may forget a claim that was already sent, and the money moves twice. Only for tests.
    pub allow_lost_commits: bool,
}

impl WorkerConfig {
    /// What a call may take in all: connect, read, and 5 s for everything around them.
    pub fn longest_call(&self) -> Duration {
        self.connect_timeout
            .saturating_add(self.read_timeout)
            .saturating_add(CALL_MARGIN)
    }
}

/// What a call takes beside connecting and reading: building, sending, pauses of the scheduler.
const CALL_MARGIN: Duration = Duration::from_secs(5);

/// `[retry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryConfig {
    /// The pause after the first failure. Default 2 s: longer than a blip, shorter than anybody waits. 10 ms to 1 h.
    pub initial: Duration,
    /// By how much each pause is longer than the one before, in thousandths. Default 2000 (in the file `2`): doubling. From
    /// 1000 (`1`: always the same pause) to 10000.
    pub multiplier_thousandths: u32,
    /// The longest pause, also between two looks at a capture that a provider took and has not settled. Default 15 min: an
    /// outage that ends is noticed soon, and 12 attempts reach over an hour. 10 ms to 24 h.
    pub max: Duration,
    /// How many captures are sent for one intent before a person decides. Default 12: with the pauses above somewhat
    /// over an hour of trouble. Waits that the provider asks for do not count. 1 to 1000.
    pub attempts: u32,
    /// The least time between two reads that must both show nothing before "not captured" is believed. Default 10 min:
    /// providers' reads may lag behind a capture, by an unknown time. Above 0, at most 24 h; under 1 min is warned of.
    pub verify_quiet: Duration,
}

/// `[breaker]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerConfig {
    /// How many calls in a row without an answer of the provider open the breaker. Default 20: fewer happen by chance with
    /// 32 calls in flight. A refusal is an answer. 1 to 10000.
    pub failures: u32,
    /// How long it stays open before one call is tried. Default 5 s. 10 ms to 1 h.
    pub open: Duration,
    /// The longest it stays open, after failed trials. Default 60 s: a provider that is back is noticed within a minute.
    /// 10 ms to 24 h.
    pub open_max: Duration,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where `serve` listens. Default `127.0.0.1:8080`: this machine only, until somebody decides otherwise.
    pub listen: SocketAddr,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Where `/metrics` and `/health` are served. Default none: not at all. Port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// How log lines look: `json`, `text`, or `auto`, the default: text on a terminal, JSON elsewhere.
    pub format: telemetry::Format,
    /// Which log lines are written, as in `RUST_LOG`, which gives it. Default `info`.
    pub filter: String,
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

/// A setting given by a flag of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The flag as typed, such as `--database-url`.
    pub flag: &'static str,
    /// The path of its setting, such as `database_url`.
    pub key: &'static str,
    /// Its text.
    pub value: String,
}

/// Which file is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ConfigFile {
    /// The one that `CAPTURE_CONFIG` names, else `capture.toml` in the working directory if it is there.
    #[default]
    Found,
    /// This one (`--config`); it must be there.
    At(PathBuf),
    /// This text, under this name.
    Given {
        /// What faults call it.
        name: String,
        /// TOML.
        text: String,
    },
    /// None, whatever lies around.
    Nothing,
}

/// What the caller is going to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Need {
    /// Call providers: every account's secret must be there.
    #[default]
    Everything,
    /// Look into the database only: a missing account secret is no fault, so that one can look from a machine that
    /// has no business with the providers' credentials.
    DatabaseOnly,
}

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file.
    pub file: ConfigFile,
    /// The environment.
    pub environment: Environment,
    /// The flags.
    pub flags: Vec<Flag>,
    /// What must be there.
    pub need: Need,
}

impl Config {
    /// Reads and checks everything. The error holds every fault there is.
    pub fn load(sources: &Sources) -> Result<(Config, Vec<Warning>), ConfigFaults> {
        let (file, directory) = read_file(sources)?;
        let mut reader = Reader::new(&file, &directory, &sources.environment, &sources.flags);
        let database_url = read_database_url(&mut reader);
        let schema = reader.text_or(&Key::of("schema"), "capture", check_schema);
        let worker = read_worker(&mut reader);
        let retry = read_retry(&mut reader);
        let breaker = read_breaker(&mut reader);
        let http = read_http(&mut reader);
        let telemetry = read_telemetry(&mut reader);
        let (accounts, without_secret) = account::read(&mut reader);
        let config = Config {
            schema,
            worker,
            retry,
            breaker,
            http,
            telemetry,
            accounts,
            database_url,
            settings: Vec::new(),
        };
        check_relations(&mut reader, &config);
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

/// The file, and the directory that its relative paths count from.
fn read_file(sources: &Sources) -> Result<(File, PathBuf), ConfigFaults> {
    let (path, must_exist) = match &sources.file {
        ConfigFile::Nothing => return Ok((File::default(), PathBuf::new())),
        ConfigFile::Given { name, text } => return Ok((File::parse(name, text), PathBuf::new())),
        ConfigFile::At(path) => (path.clone(), true),
        ConfigFile::Found => match sources.environment.get("CAPTURE_CONFIG") {
            Some(path) => (PathBuf::from(path), true),
            None => (PathBuf::from("capture.toml"), false),
        },
    };
    let name = path.display().to_string();
    let unreadable = |wrong: String| {
        ConfigFaults::from(Fault {
            place: Place::File {
                file: name.clone(),
                line: 0,
            },
            key: String::new(),
            wrong,
            fix: "name a TOML file that this process may read, with --config or CAPTURE_CONFIG".to_owned(),
        })
    };
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
            return Ok((File::default(), PathBuf::new()));
        }
        Err(error) => return Err(unreadable(format!("cannot be read: {error}"))),
        Ok(metadata) if metadata.len() > LARGEST_FILE => {
            return Err(unreadable(format!(
                "has {} bytes, more than any settings",
                metadata.len()
            )));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(&path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable("is not UTF-8".to_owned()))?;
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok((File::parse(&name, &text), directory))
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

fn read_worker(reader: &mut Reader<'_>) -> WorkerConfig {
    let (ms, s, h) = (Duration::from_millis, Duration::from_secs, |hours: u64| {
        Duration::from_secs(hours * 3600)
    });
    WorkerConfig {
        lease: reader.duration("worker.lease", s(120), s(1)..=h(1)),
        connect_timeout: reader.duration("worker.connect_timeout", s(10), ms(10)..=s(60)),
        read_timeout: reader.duration("worker.read_timeout", s(70), ms(10)..=s(300)),
        drain_timeout: reader.duration("worker.drain_timeout", s(90), s(0)..=h(1)),
        settle_window: reader.duration("worker.settle_window", ms(10), s(0)..=s(1)),
        poll_min: reader.duration("worker.poll_min", ms(10), ms(1)..=s(10)),
        poll_max: reader.duration("worker.poll_max", s(5), ms(10)..=s(60)),
        batch: reader.integer(&Key::of("worker.batch"), 500, 1..=1000),
        deadline_margin: reader.duration("worker.deadline_margin", s(15 * 60), s(0)..=h(24)),
        allow_lost_commits: reader.boolean(&Key::of("worker.allow_lost_commits"), false),
    }
}

fn read_retry(reader: &mut Reader<'_>) -> RetryConfig {
    let (ms, s, h) = (Duration::from_millis, Duration::from_secs, |hours: u64| {
        Duration::from_secs(hours * 3600)
    });
    RetryConfig {
        initial: reader.duration("retry.initial", s(2), ms(10)..=h(1)),
        multiplier_thousandths: reader.thousandths("retry.multiplier", 2000, 1000..=10_000),
        max: reader.duration("retry.max", s(15 * 60), ms(10)..=h(24)),
        attempts: reader.integer(&Key::of("retry.attempts"), 12, 1..=1000),
        verify_quiet: reader.duration("retry.verify_quiet", s(600), ms(1)..=h(24)),
    }
}

fn read_breaker(reader: &mut Reader<'_>) -> BreakerConfig {
    let (ms, s, h) = (Duration::from_millis, Duration::from_secs, |hours: u64| {
        Duration::from_secs(hours * 3600)
    });
    BreakerConfig {
        failures: reader.integer(&Key::of("breaker.failures"), 20, 1..=10_000),
        open: reader.duration("breaker.open", s(5), ms(10)..=h(1)),
        open_max: reader.duration("breaker.open_max", s(60), ms(10)..=h(24)),
    }
}

fn read_http(reader: &mut Reader<'_>) -> HttpConfig {
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    HttpConfig {
        listen: reader.defaulted(&Key::of("http.listen"), default, listen_address, SocketAddr::to_string),
    }
}

fn read_telemetry(reader: &mut Reader<'_>) -> TelemetryConfig {
    let formats = [
        ("auto", telemetry::Format::Auto),
        ("json", telemetry::Format::Json),
        ("text", telemetry::Format::Text),
    ];
    TelemetryConfig {
        listen: reader.optional(&Key::of("telemetry.listen"), listen_address, SocketAddr::to_string),
        format: reader.choice(&Key::of("telemetry.format"), telemetry::Format::Auto, &formats),
        filter: reader.text_or(
            &Key::of("telemetry.filter").or_variable("RUST_LOG"),
            "info",
            check_filter,
        ),
    }
}

/// What must hold between settings. Not looked at where one of them could not be read.
fn check_relations(reader: &mut Reader<'_>, config: &Config) {
    let worker = &config.worker;
    let call = written_duration(worker.longest_call());
    let call_keys = ["worker.connect_timeout", "worker.read_timeout"];
    let with_call = |key: &'static str| [key, call_keys[0], call_keys[1]];

    let keys = with_call("worker.lease");
    if reader.sound(&keys) && worker.lease < worker.longest_call() {
        let wrong = format!(
            "{} is shorter than a call may take ({call}: connect_timeout + read_timeout + 5s)",
            written_duration(worker.lease)
        );
        let fix = format!("set lease to {call} or more, or the time-outs lower");
        reader.fault(reader.place_of(&keys), keys[0], Refusal::new(wrong, fix));
    }
    for (low, low_value, high, high_value) in [
        ("worker.poll_min", worker.poll_min, "worker.poll_max", worker.poll_max),
        ("retry.initial", config.retry.initial, "retry.max", config.retry.max),
        (
            "breaker.open",
            config.breaker.open,
            "breaker.open_max",
            config.breaker.open_max,
        ),
    ] {
        if reader.sound(&[low, high]) && low_value > high_value {
            let wrong = format!(
                "{} is more than {high} ({})",
                written_duration(low_value),
                written_duration(high_value)
            );
            let place = reader.place_of(&[low, high]);
            reader.fault(place, low, Refusal::new(wrong, format!("set it to at most {high}")));
        }
    }

    // A shorter drain is allowed, because not everybody may choose how long a stopping process lives.
    let keys = with_call("worker.drain_timeout");
    if reader.sound(&keys) && worker.drain_timeout < worker.longest_call() {
        let wrong = format!(
            "{} is shorter than a call may take ({call}): a stop may leave captures of unknown outcome behind",
            written_duration(worker.drain_timeout)
        );
        reader.warn(
            reader.place_of(&keys),
            keys[0],
            wrong,
            format!("set it to {call} or more if you can"),
        );
    }
    let keys = with_call("worker.deadline_margin");
    if reader.sound(&keys) && worker.deadline_margin < worker.longest_call() {
        let wrong = format!(
            "{} is shorter than a call may take ({call}): an answer may come after the authorisation has ended",
            written_duration(worker.deadline_margin)
        );
        reader.warn(
            reader.place_of(&keys),
            keys[0],
            wrong,
            format!("set it to {call} or more"),
        );
    }
    let keys = ["retry.verify_quiet"];
    if reader.sound(&keys) && config.retry.verify_quiet < Duration::from_secs(60) {
        let wrong = format!(
            "{} is short: a provider's reads may lag, and \"not captured\" would be believed too soon",
            written_duration(config.retry.verify_quiet)
        );
        reader.warn(
            reader.place_of(&keys),
            keys[0],
            wrong,
            "set it to 1m or more outside of tests",
        );
    }
    if worker.allow_lost_commits {
        let keys = ["worker.allow_lost_commits"];
        let wrong = "true: after a crash of the server a capture may be sent twice";
        reader.warn(reader.place_of(&keys), keys[0], wrong, "only for tests");
    }
}

fn check_schema(name: &str) -> Result<(), Refusal> {
    let first_is_letter = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !first_is_letter || !plain || name.len() > 63 {
        return Err(Refusal::new(
            "is no plain schema name",
            "use at most 63 lower-case letters, digits and '_', not beginning with a digit",
        ));
    }
    if name.starts_with("pg_") || name == "information_schema" {
        return Err(Refusal::new("is a schema of PostgreSQL itself", "choose another name"));
    }
    if RESERVED_WORDS.contains(&name) {
        return Err(Refusal::new("is a reserved word of SQL", "choose another name"));
    }
    Ok(())
}

/// What PostgreSQL 15 to 18 do not take as a name without quotes.
const RESERVED_WORDS: [&str; 101] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

fn check_filter(filter: &str) -> Result<(), Refusal> {
    let parsed = filter.parse::<tracing_subscriber::EnvFilter>();
    parsed.map(|_| ()).map_err(|error| {
        Refusal::new(
            format!("is no log filter: {error}"),
            "write it like info, or warn,capture=debug",
        )
    })
}

#[cfg(test)]
mod tests;

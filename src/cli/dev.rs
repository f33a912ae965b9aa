//! `dev`: something to develop an order system against. A private Postgres whose data stays, the three providers, and a
//! worker; what to paste to try it; and then every event as it happens, until Ctrl-C.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Local;

use crate::intent::{Currency, Money};
use crate::local_postgres::{DataDir, Listen, LocalPostgres, Settings, StartError};
use crate::outbox::{ConnectSettings, Event, Outbox, OutboxError, SchemaFault};

use super::context::Context;
use super::demo::control::Control;
use super::demo::orders::Way;
use super::demo::processes::{Launch, Process};
use super::demo::simulated;
use super::output::{Error, Exit, Format, say};

mod logins;

/// Between two looks at the feed: what is captured shows at once.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the worker may take from its start to its first heartbeat.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// Runs a private Postgres, the three providers and a worker, and tells every event, until Ctrl-C
///
/// The database stays in its directory, and so does the providers' ledger: the next start goes on with both. Any payment
/// is authorised when it is first captured; nothing moves money.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the database, the ledger, the settings and the logs are
    #[arg(long, value_name = "DIR", default_value = ".dev")]
    dir: PathBuf,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let events_only = match context.output.format {
        Format::Table => false,
        Format::Json | Format::Ndjson => true,
        Format::Csv | Format::Id => {
            return Err(Error::usage("dev tells events as lines or as JSON").hint("choose -o table or ndjson"));
        }
    };
    let mut bench = tokio::select! {
        bench = Bench::set_up(&args.dir) => bench?,
        () = context.interrupted.cancelled() => return Ok(Exit::Interrupted),
    };
    let page = bench.front_page().await?;
    if events_only {
        say(&page);
    } else {
        writeln!(std::io::stdout().lock(), "{page}")?;
    }
    let followed = tokio::select! {
        followed = bench.follow(events_only) => followed,
        () = context.interrupted.cancelled() => Ok(()),
    };
    say("stopping: the worker finishes what it holds");
    bench.stop().await?;
    followed.map(|()| Exit::Done)
}

/// Everything that runs.
struct Bench {
    // Dropped in this order: those who use the database first.
    worker: Process,
    simulator: Process,
    control: Control,
    outbox: Outbox,
    postgres: LocalPostgres,
    logins: Vec<logins::Login>,
    home: PathBuf,
}

impl Bench {
    async fn set_up(directory: &Path) -> Result<Bench, Error> {
        let unusable = |error: std::io::Error| Error::failed(format!("{}: {error}", directory.display()));
        let home = std::path::absolute(directory).map_err(unusable)?;
        let postgres = start_postgres(&home.join("postgres")).await?;
        // Only now, because what Postgres needs to reach must be made by it.
        std::fs::create_dir_all(&home).map_err(unusable)?;
        std::fs::write(home.join(".gitignore"), "*\n").map_err(unusable)?;
        let url = postgres.url("postgres");
        let outbox = Outbox::connect(&ConnectSettings::new(&url)).await?;
        if let Err(error) = outbox.migrate().await {
            return Err(not_migrated(error, &home));
        }
        let logins = logins::provide(&url).await?;
        let (simulator, control) = simulated::start(
            &home,
            ["--auto-authorize", "--limits", "resolve=none"].map(str::to_owned),
        )
        .await?;
        let config = home.join("capture.toml");
        std::fs::write(&config, settings(&control).await?).map_err(unusable)?;
        let environment = [
            ("DATABASE_URL", simulated::with_role(&url, "capture_worker")),
            simulated::secret(),
        ];
        let worker = Process::start(Launch {
            name: "the worker".to_owned(),
            arguments: vec!["work".into(), "--config".into(), config.into()],
            environment: &environment,
            log: home.join("worker.log"),
            heard: false,
        })?;
        Ok(Bench {
            worker,
            simulator,
            control,
            outbox,
            postgres,
            logins,
            home,
        })
    }

    /// What there is, and what to paste.
    async fn front_page(&mut self) -> Result<String, Error> {
        let metrics = self.metrics_address().await?;
        let url = self.postgres.url("postgres");
        let mut page = format!("database   {url}\n           {}\n", self.postgres.psql_line("postgres"));
        for login in &self.logins {
            page.push_str(&format!("{:<9}  {}  ({})\n", login.name, login.url, login.role));
        }
        page.push_str(&format!("simulator  {}\n", self.control.url()));
        for way in [Way::Afterpay, Way::Optty, Way::ResolveCharge] {
            page.push_str(&format!(
                "           {}\n",
                self.control.base_url(way.provider()).await?
            ));
        }
        page.push_str(&format!(
            "worker     http://{metrics}/metrics\nfiles      {}\n",
            self.home.display()
        ));
        page.push_str("\nTo try it, in psql (the same capture_ref again changes nothing):\n\n");
        let number = rand::random_range(10_000..100_000);
        for way in Way::ALL {
            page.push_str(&format!("-- {}\n{}\n", way.title(), example(way, number)));
        }
        page.push_str("select order_id, state, captured_minor, dead_reason from capture.status;\n\n");
        page.push_str("Held until the goods leave, and released:\n\n");
        page.push_str(&example(Way::Afterpay, number + 1).replace(");", ", hold => 'shipment');"));
        page.push_str(&format!(
            "\nselect * from capture.release(provider => 'afterpay', payment_id => '{}', shipment_ref => 'parcel-{}');\n\n",
            payment_id(Way::Afterpay, number + 1),
            number + 1
        ));
        page.push_str(&format!(
            "Let the next answer of Afterpay be lost after the money moved:\n\n\
             curl -d '{{\"script\":{{\"provider\":\"afterpay\",\"faults\":[\"reset-after\"]}}}}' {}/faults\n\n\
             The other verbs, in another shell:\n\nexport DATABASE_URL='{url}'\n{program} list\n\n\
             Every event, as it happens; Ctrl-C stops all of it:\n",
            self.control.url(),
            // Whoever came by `cargo run` has no `capture` on the PATH.
            program = std::env::current_exe()?.display()
        ));
        Ok(page)
    }

    async fn metrics_address(&mut self) -> Result<String, Error> {
        let deadline = tokio::time::Instant::now() + START_PATIENCE;
        loop {
            self.look_after()?;
            let workers = self.outbox.workers().await?;
            let ours = workers.into_iter().find(|row| row.pid == self.worker.pid());
            if let Some(listen) = ours.and_then(|row| row.listen) {
                return Ok(listen);
            }
            if tokio::time::Instant::now() > deadline {
                return Err(self.worker.why_failed("gave no sign of life"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn look_after(&mut self) -> Result<(), Error> {
        for process in [&mut self.worker, &mut self.simulator] {
            if let Some(status) = process.ended() {
                return Err(process.why_failed(&format!("ended by itself ({status})")));
            }
        }
        Ok(())
    }

    /// Tells what is new in the feed, until something ends that should not.
    async fn follow(&mut self, as_json: bool) -> Result<(), Error> {
        let mut cursor = Some(self.outbox.events_end().await?);
        loop {
            self.look_after()?;
            let page = self.outbox.events_after(cursor.as_deref(), 1000).await?;
            cursor = page.cursor;
            for event in &page.events {
                let line = match as_json {
                    true => serde_json::to_string(event).unwrap_or_default(),
                    false => line(event),
                };
                writeln!(std::io::stdout().lock(), "{line}")?;
            }
            if page.events.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn stop(mut self) -> Result<(), Error> {
        self.worker.stop().await;
        self.simulator.stop().await;
        self.outbox.close().await;
        self.postgres
            .stop()
            .await
            .map_err(|error| Error::failed(error.to_string()))
    }
}

async fn start_postgres(directory: &Path) -> Result<LocalPostgres, Error> {
    let settings = Settings {
        data: DataDir::Persistent(directory.to_path_buf()),
        // Not every driver knows Unix sockets.
        listen: Listen::Loopback,
        ..Settings::default()
    };
    LocalPostgres::start(settings).await.map_err(|error| {
        let failed = Error::failed(error.to_string());
        match error {
            StartError::NotReachable { .. } => failed.hint("capture dev --dir /var/lib/capture/dev"),
            StartError::InUse { .. } => failed.hint("another capture dev may be running here"),
            _ => failed,
        }
    })
}

/// A directory that outlived its program: the migrations of a version under development may change.
fn not_migrated(error: OutboxError, home: &Path) -> Error {
    let OutboxError::Schema(SchemaFault::Altered { number, .. } | SchemaFault::Dirty { number, .. }) = error else {
        return error.into();
    };
    let home = home.display();
    Error::state_forbids(format!(
        "the database in {home} was made by another version of capture: its migration {number} is not the one of this"
    ))
    .hint(format!(
        "it holds nothing but development data: remove it and start again (rm -r '{home}'), or choose another --dir"
    ))
}

/// The worker's settings: short waits, because somebody is looking.
async fn settings(control: &Control) -> Result<String, Error> {
    let mut text = "# Written by `capture dev` at each start. Short times, because somebody is looking.\n\
        [worker]\nlease = \"30s\"\nconnect_timeout = \"2s\"\nread_timeout = \"10s\"\ndrain_timeout = \"9s\"\n\
        deadline_margin = \"1m\"\n\n\
        [retry]\ninitial = \"500ms\"\nmax = \"10s\"\nverify_quiet = \"5s\"\n\n\
        [telemetry]\nlisten = \"127.0.0.1:0\"\n"
        .to_owned();
    for way in Way::ALL {
        text.push_str(&simulated::account(control, way).await?);
    }
    Ok(text)
}

fn payment_id(way: Way, number: u32) -> String {
    match way {
        Way::Afterpay => format!("1000{number}"),
        Way::Optty => format!("optty-{number}"),
        Way::ResolveCharge => format!("charge-{number}"),
        Way::ResolveOrder => format!("order-{number}"),
    }
}

fn example(way: Way, number: u32) -> String {
    let lane = way.lane();
    let account = match lane.account.as_str() {
        "default" => String::new(),
        account => format!(", account => '{account}'"),
    };
    format!(
        "select * from capture.enqueue(provider => '{}'{account}, order_id => 'A-{number}', payment_id => '{}',\n    \
         capture_ref => 'A-{number}', amount_minor => 1234, currency => 'USD');",
        lane.provider,
        payment_id(way, number)
    )
}

/// `12:01:02.123  captured          afterpay/default  A-1  12.34 USD  proof answer`
fn line(event: &Event) -> String {
    let amount = match Currency::from_code(&event.currency) {
        Some(currency) => Money::new(event.amount_minor, currency).to_string(),
        None => format!("{} {}", event.amount_minor, event.currency),
    };
    let more: Vec<String> = ["reason", "class", "code", "proof", "provider_capture_id", "in_ms"]
        .into_iter()
        .filter_map(|name| match event.data.get(name)? {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(format!("{name} {text}")),
            other => Some(format!("{name} {other}")),
        })
        .collect();
    format!(
        "{}  {:<15}  {:<17}  {}  {amount}  {}",
        event.occurred_at.with_timezone(&Local).format("%H:%M:%S%.3f"),
        event.kind.strip_prefix("capture.").unwrap_or(&event.kind),
        format!("{}/{}", event.provider, event.account),
        event.order_id,
        more.join(", ")
    )
    .trim_end()
    .to_owned()
}

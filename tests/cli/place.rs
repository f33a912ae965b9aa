//! A place to run the binary in: a directory, an environment and, where wanted, a database, a simulator and settings.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use capture::local_postgres::{DataDir, Durability, Listen, LocalPostgres, Settings as PostgresSettings};
use capture::simulator::{self, Simulator};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::pgbouncer::{Mode, Pooler};

static SERVER: OnceCell<LocalPostgres> = OnceCell::const_new();
/// Before the server with `CAPTURE_TEST_PGBOUNCER=1`.
static POOLER: OnceCell<Option<Pooler>> = OnceCell::const_new();

/// One server for the whole binary; it goes when this process does.
pub async fn server() -> &'static LocalPostgres {
    SERVER
        .get_or_init(|| async {
            LocalPostgres::start(PostgresSettings {
                data: DataDir::Temporary,
                durability: Durability::ForTests,
                listen: Listen::SocketOnly,
                max_connections: 200,
                ..PostgresSettings::default()
            })
            .await
            .unwrap()
        })
        .await
}

async fn pooler() -> Option<&'static Pooler> {
    let server = server().await;
    let asked_for = || std::env::var_os("CAPTURE_TEST_PGBOUNCER").is_some_and(|asked| asked == "1");
    let pooler = POOLER.get_or_init(|| async { asked_for().then(|| Pooler::start(server, Mode::Session, 60)) });
    pooler.await.as_ref()
}

/// A place with a bare database on a server of its own.
pub async fn own_server(database: &str) -> (LocalPostgres, Place) {
    let server = LocalPostgres::start(PostgresSettings {
        data: DataDir::Temporary,
        durability: Durability::ForTests,
        listen: Listen::SocketOnly,
        ..PostgresSettings::default()
    })
    .await
    .unwrap();
    let mut place = Place::empty();
    place.set("DATABASE_URL", &server.url("postgres"));
    place.run_sql(&format!("create database {database}")).await;
    place.set("DATABASE_URL", &server.url(database));
    (server, place)
}

/// What a run said and how it ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Asserts how it ended, and gives it back for more.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// What it wrote as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// Where the binary runs.
pub struct Place {
    directory: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Place {
    /// An empty directory, and an environment with nothing in it but a user.
    pub fn empty() -> Place {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut environment = vec![("USER", "tess".to_owned())];
        environment.extend(std::env::var("CAPTURE_BUG").ok().map(|bug| ("CAPTURE_BUG", bug)));
        Place { directory, environment }
    }

    /// As [`Place::with_bare_database`], for a schema of another name: straight to the server, for no pooler passes that on.
    pub async fn with_bare_database_for_any_schema() -> Place {
        Place::with_database(None).await
    }

    /// With a database that nothing was done to.
    pub async fn with_bare_database() -> Place {
        Place::with_database(pooler().await).await
    }

    async fn with_database(pooler: Option<&Pooler>) -> Place {
        let name = format!("cli{}", Uuid::new_v4().simple());
        let mut place = Place::empty();
        place.set("DATABASE_URL", &server().await.url("postgres"));
        place.run_sql(&format!("create database {name}")).await;
        let direct = server().await.url(&name);
        match pooler {
            None => place.set("DATABASE_URL", &direct),
            Some(pooler) => {
                // It passes no `options` on, and with them no `search_path`.
                let settings = format!("alter database {name} set search_path = capture, pg_temp");
                place.run_sql(&settings).await;
                place.set("DATABASE_URL", &pooler.url(&direct));
            }
        }
        place
    }

    /// With an outbox.
    pub async fn with_outbox() -> Place {
        let place = Place::with_bare_database().await;
        place.run(&["migrate", "up"]).await.ends_with(0);
        place
    }

    /// With an outbox, a simulator that authorises whatever is asked, and settings for both.
    pub async fn with_simulator(change: impl FnOnce(&mut simulator::Settings)) -> (Place, Simulator) {
        let mut settings = simulator::Settings {
            auto_authorize: true,
            ..simulator::Settings::default()
        };
        change(&mut settings);
        let simulator = Simulator::start(settings).await.unwrap();
        let mut place = Place::with_outbox().await;
        place.set("SECRET", "s");
        place.write(
            "capture.toml",
            &format!(
                r#"
                [worker]
                allow_lost_commits = true
                [telemetry]
                listen = "127.0.0.1:0"
                [[account]]
                provider = "afterpay"
                base_url = "{}"
                merchant_id = "400101010"
                platform_url = "https://shop.example"
                secret_env = "SECRET"
                "#,
                simulator.base_url("afterpay")
            ),
        );
        (place, simulator)
    }

    pub fn set(&mut self, name: &'static str, value: &str) {
        self.environment.retain(|(other, _)| *other != name);
        self.environment.push((name, value.to_owned()));
    }

    pub fn unset(&mut self, name: &str) {
        self.environment.retain(|(other, _)| *other != name);
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.join(name), text).unwrap();
    }

    fn database_url(&self) -> &str {
        let mut variables = self.environment.iter();
        &variables.find(|(name, _)| *name == "DATABASE_URL").unwrap().1
    }

    /// A connection of its own, as whoever the place works as: at first the database's owner.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(self.database_url()).await.unwrap()
    }

    /// Runs statements, as whoever the place works as.
    pub async fn run_sql(&self, sql: &str) {
        let mut connection = self.connection().await;
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }

    /// Runs all that follows with a new login of these attributes, such as `in role capture_readonly`; gives its name.
    pub async fn log_in_as(&mut self, attributes: &str) -> String {
        let login = format!("login_{}", Uuid::new_v4().simple());
        let mut connection = self.connection().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create role {login} login {attributes}")))
            .execute(&mut connection)
            .await
            .unwrap();
        let mut url = url::Url::parse(self.database_url()).unwrap();
        let query: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| name != "user")
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .chain([("user".to_owned(), login.clone())])
            .collect();
        url.query_pairs_mut().clear().extend_pairs(query);
        self.set("DATABASE_URL", url.as_str());
        login
    }

    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capture"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, arguments: &[&str]) -> Run {
        ended(self.command(arguments).output().await.unwrap())
    }

    /// Runs it with this on its stdin.
    pub async fn run_with(&self, arguments: &[&str], stdin: &str) -> Run {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(stdin.as_bytes()).await.unwrap();
        drop(pipe);
        ended(child.wait_with_output().await.unwrap())
    }

    /// Lets it run.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self.command(arguments).spawn().unwrap();
        Running {
            stdout: BufReader::new(child.stdout.take().unwrap()).lines(),
            stderr: BufReader::new(child.stderr.take().unwrap()).lines(),
            child,
        }
    }

    /// Waits until so many events of this type are in the feed.
    pub async fn wait_for_events(&self, kind: &str, count: usize) {
        let mut tail = self.start(&[
            "events", "tail", "--follow", "--after", "0-0", "--type", kind, "-o", "id",
        ]);
        for _ in 0..count {
            tail.stdout.next_line().await.unwrap().unwrap();
        }
        tail.signal(Signal::INT);
        assert_eq!(tail.ended().await, Some(130));
    }

    /// Enqueues an Afterpay capture of so many cents and gives its id.
    pub async fn enqueue(&self, payment: &str, minor: u32) -> String {
        let document = format!(
            r#"{{"provider":"afterpay","order_id":"o-{payment}","payment_id":"{payment}","capture_ref":"r","amount_minor":{minor},"currency":"USD"}}"#
        );
        let run = self.run(&["enqueue", &document, "-o", "id"]).await.ends_with(0);
        run.stdout.trim().to_owned()
    }

    /// Works until so many captures have come to such an end, then drains.
    pub async fn work_until(&self, kind: &str, count: usize) {
        let worker = self.start(&["work"]);
        self.wait_for_events(kind, count).await;
        worker.signal(Signal::TERM);
        assert_eq!(worker.ended().await, Some(0));
    }
}

fn ended(output: std::process::Output) -> Run {
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process that runs.
pub struct Running {
    pub stdout: Lines<BufReader<ChildStdout>>,
    pub stderr: Lines<BufReader<ChildStderr>>,
    child: Child,
}

impl Running {
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).unwrap()));
        kill_process(pid.unwrap(), signal).unwrap();
    }

    /// Reads log lines up to the first with this message.
    pub async fn logged(&mut self, message: &str) -> Value {
        loop {
            let line = self.stderr.next_line().await.unwrap().unwrap();
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if line["message"].as_str().is_some_and(|said| said.starts_with(message)) {
                return line;
            }
        }
    }

    /// Closes the reading end of its stdout, does something that it would write about, and gives its exit code.
    pub async fn closed_by_reader<F: Future>(mut self, then: impl Fn() -> F) -> Option<i32> {
        drop(self.stdout);
        loop {
            then().await;
            let ended = tokio::time::timeout(std::time::Duration::from_millis(700), self.child.wait()).await;
            if let Ok(status) = ended {
                return status.unwrap().code();
            }
        }
    }

    /// Its exit code; what it still says is read and thrown away, so that no pipe fills up.
    pub async fn ended(mut self) -> Option<i32> {
        let (mut stdout, mut stderr) = (self.stdout, self.stderr);
        let out = tokio::spawn(async move { while let Ok(Some(_)) = stdout.next_line().await {} });
        let err = tokio::spawn(async move { while let Ok(Some(_)) = stderr.next_line().await {} });
        let status = self.child.wait().await.unwrap();
        out.await.unwrap();
        err.await.unwrap();
        status.code()
    }
}

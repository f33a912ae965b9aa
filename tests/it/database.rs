//! Databases for tests: one private server for the whole binary, a database of its own for each test.
//!
//! With `CAPTURE_TEST_PGBOUNCER=1` a PgBouncer in session mode stands before that server.

#[path = "planted.rs"]
mod planted;
#[path = "pooler.rs"]
mod pooler;

use capture::local_postgres::{DataDir, Durability, Listen, LocalPostgres, Settings};
use capture::outbox::{ConnectSettings, Outbox};
use sqlx::postgres::{PgDatabaseError, PgRow};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use uuid::Uuid;

use pooler::{Mode, Pooler};

/// One server for the whole binary. Its leash stops it and removes its directory when this process ends, however it does.
static SERVER: OnceCell<LocalPostgres> = OnceCell::const_new();
/// Before the server, if that is asked for.
static POOLER: OnceCell<Option<Pooler>> = OnceCell::const_new();
/// A database that is migrated and empty: copying it is cheaper than migrating anew.
static TEMPLATE: OnceCell<()> = OnceCell::const_new();

async fn server() -> &'static LocalPostgres {
    SERVER
        .get_or_init(|| async {
            let _ = rustls::crypto::ring::default_provider().install_default();
            LocalPostgres::start(Settings {
                data: DataDir::Temporary,
                durability: Durability::ForTests,
                listen: Listen::SocketOnly,
                max_connections: 400,
                ..Settings::default()
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

/// Creates a database and gives the URL that goes straight to it.
async fn create(name: &str, template: &str) -> String {
    let server = server().await;
    let mut admin = Session::open(&server.url("postgres")).await;
    admin
        .run(&format!(
            "create database {name} template {template} strategy file_copy"
        ))
        .await;
    if pooler().await.is_some() {
        // It passes no `options` on, and with them no `search_path`.
        admin
            .run(&format!("alter database {name} set search_path = capture, pg_temp"))
            .await;
    }
    server.url(name)
}

/// The URL that the tests and what they test get of it.
async fn reached(direct: String) -> String {
    match pooler().await {
        Some(pooler) => pooler.url(&direct),
        None => direct,
    }
}

/// A new database with nothing in it; returns its URL.
pub async fn new_database() -> String {
    reached(create(&format!("t{}", Uuid::new_v4().simple()), "template0").await).await
}

/// As [`new_database`], for connections that ask for a schema of their own, which no pooler passes on: straight to the server.
pub async fn new_database_for_any_schema() -> String {
    create(&format!("t{}", Uuid::new_v4().simple()), "template0").await
}

/// A new database with the schema `capture` in it; returns its URL.
pub async fn migrated_database() -> String {
    TEMPLATE
        .get_or_init(|| async {
            let url = create("migrated", "template0").await;
            let outbox = connect(&url).await;
            outbox.migrate().await.unwrap();
            outbox.close().await;
            planted::plant(&mut Session::open(&url).await).await;
        })
        .await;
    reached(create(&format!("t{}", Uuid::new_v4().simple()), "migrated").await).await
}

/// A small way into the outbox of that database.
pub async fn connect(url: &str) -> Outbox {
    Outbox::connect(&ConnectSettings {
        max_connections: 3,
        ..ConnectSettings::new(url)
    })
    .await
    .unwrap()
}

/// The same URL for a new login that has that role and nothing else.
pub async fn log_in(url: &str, role: &str) -> String {
    let login = format!("login_{}", Uuid::new_v4().simple());
    let mut admin = Session::open(url).await;
    admin.run(&format!("create role {login} login in role {role}")).await;
    url.replace("user=postgres", &format!("user={login}"))
}

/// A refusal by the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub sqlstate: String,
    pub constraint: String,
    pub column: String,
    pub message: String,
    pub hint: String,
}

/// A connection that speaks plain SQL.
pub struct Session {
    connection: PgConnection,
}

impl Session {
    pub async fn open(url: &str) -> Session {
        Session {
            connection: PgConnection::connect(url).await.unwrap(),
        }
    }

    /// Runs statements; what the database refuses is returned.
    pub async fn try_run(&mut self, sql: &str) -> Result<u64, Refused> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.connection)
            .await
            .map(|done| done.rows_affected())
            .map_err(refused)
    }

    /// Runs statements.
    pub async fn run(&mut self, sql: &str) -> u64 {
        match self.try_run(sql).await {
            Ok(rows) => rows,
            Err(refused) => panic!("{refused:?}\n{sql}"),
        }
    }

    pub async fn rows(&mut self, sql: &str) -> Vec<PgRow> {
        self.try_rows(sql).await.unwrap()
    }

    pub async fn try_rows(&mut self, sql: &str) -> Result<Vec<PgRow>, Refused> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut self.connection)
            .await
            .map_err(refused)
    }

    /// The first column of all rows.
    pub async fn column<T>(&mut self, sql: &str) -> Vec<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        self.rows(sql).await.iter().map(|row| row.get(0)).collect()
    }

    /// The first column of the only row.
    pub async fn scalar<T>(&mut self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let mut column = self.column(sql).await;
        assert_eq!(column.len(), 1, "not one row: {sql}");
        column.remove(0)
    }

    /// Does somebody wait in this database for a lock that another session holds?
    pub async fn somebody_is_blocked(&mut self) -> bool {
        self.scalar(
            "select exists (select from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0)",
        )
        .await
    }

    /// Until what that task does in this database is blocked.
    pub async fn until_blocked<T>(&mut self, task: &JoinHandle<T>) {
        while !self.somebody_is_blocked().await {
            assert!(!task.is_finished(), "it ended, and was blocked by nobody");
        }
    }
}

fn refused(error: sqlx::Error) -> Refused {
    let sqlx::Error::Database(error) = error else {
        panic!("not refused but broken: {error}");
    };
    let error = error.downcast::<PgDatabaseError>();
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    Refused {
        sqlstate: error.code().to_owned(),
        constraint: text(error.constraint()),
        column: text(error.column()),
        message: error.message().to_owned(),
        hint: text(error.hint()),
    }
}

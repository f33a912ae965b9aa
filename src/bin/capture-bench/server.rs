//! The private Postgres that everything is measured on: durable as in production, a new database for every case and round.

use std::time::{Duration, Instant};

use anyhow::Context;
use capture::local_postgres::{DataDir, Durability, Listen, LocalPostgres, Settings};
use capture::outbox::{ConnectSettings, Outbox};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::figures::{number, ratio};
use super::processes;
use super::report::Chapter;

const TEMPLATE: &str = "migrated";

pub struct Server {
    postgres: LocalPostgres,
    /// In a database of its own, so that what it asks is counted to nobody.
    admin: PgConnection,
    counts_statements: bool,
    databases: u32,
}

/// A state of all counters.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    at: Instant,
    postgres_ms: u64,
    workers_ms: u64,
    /// Position in the log, in bytes.
    log: i64,
    /// Transactions that wrote, so far: each is one commit (but for the few that autovacuum needs).
    commits: i64,
    /// `None`: this server has no `pg_stat_statements`.
    statements: Option<i64>,
}

impl Server {
    /// Starts one. `more`: settings beside the default ones.
    pub async fn start(more: &[(&str, &str)]) -> anyhow::Result<Server> {
        let settings = |counting: bool| {
            let mut extra: Vec<(String, String)> = vec![
                // No checkpoint in the middle of a measurement: where one falls would decide which case pays for it.
                ("max_wal_size".to_owned(), "16GB".to_owned()),
                ("checkpoint_timeout".to_owned(), "1h".to_owned()),
            ];
            extra.extend(
                more.iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            );
            if counting {
                extra.push(("shared_preload_libraries".to_owned(), "pg_stat_statements".to_owned()));
            }
            Settings {
                data: DataDir::Temporary,
                durability: Durability::Durable,
                listen: Listen::SocketOnly,
                max_connections: 100,
                extra,
                ..Settings::default()
            }
        };
        // Not every installation comes with the library, and a server does not start without what it is to preload.
        let (postgres, counts_statements) = match LocalPostgres::start(settings(true)).await {
            Ok(postgres) => (postgres, true),
            Err(_) => (LocalPostgres::start(settings(false)).await?, false),
        };
        let mut admin = PgConnection::connect(&postgres.url("postgres")).await?;
        if counts_statements {
            run(&mut admin, "create extension pg_stat_statements").await?;
        }
        run(&mut admin, &format!("create database {TEMPLATE}")).await?;
        let outbox = Outbox::connect(&ConnectSettings {
            max_connections: 2,
            ..ConnectSettings::new(postgres.url(TEMPLATE))
        })
        .await?;
        outbox.migrate().await?;
        outbox.close().await;
        Ok(Server {
            postgres,
            admin,
            counts_statements,
            databases: 0,
        })
    }

    pub fn version(&self) -> &str {
        self.postgres.server_version()
    }

    /// A new database with the schema `capture` in it and nothing else.
    pub async fn database(&mut self) -> anyhow::Result<Database> {
        self.new_database(TEMPLATE).await
    }

    /// A new database with nothing in it at all, for others' queues.
    pub async fn empty_database(&mut self) -> anyhow::Result<Database> {
        self.new_database("template0").await
    }

    async fn new_database(&mut self, template: &str) -> anyhow::Result<Database> {
        self.databases += 1;
        let name = format!("bench_{}", self.databases);
        let create = format!("create database {name} template {template} strategy file_copy");
        if run(&mut self.admin, &create).await.is_err() {
            // Before 15 there is no strategy, and a copy of files is all there is.
            run(&mut self.admin, &format!("create database {name} template {template}")).await?;
        }
        let url = self.postgres.url(&name);
        Ok(Database {
            session: PgConnection::connect(&url).await?,
            url,
            name,
        })
    }

    pub async fn drop(&mut self, database: Database) -> anyhow::Result<()> {
        let _closed = database.session.close().await;
        run(
            &mut self.admin,
            &format!("drop database {} with (force)", database.name),
        )
        .await
    }

    pub async fn checkpoint(&mut self) -> anyhow::Result<()> {
        run(&mut self.admin, "checkpoint").await
    }

    /// All counters now. `workers`: the processes whose work it is.
    pub async fn mark(&mut self, database: &Database, workers: &[u32]) -> anyhow::Result<Mark> {
        let statements = if self.counts_statements {
            let counted: Option<i64> = sqlx::query_scalar(
                "select sum(s.calls)::bigint from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = $1",
            )
            .bind(&database.name)
            .fetch_one(&mut self.admin)
            .await?;
            Some(counted.unwrap_or(0))
        } else {
            None
        };
        let row = sqlx::query(
            "select (pg_current_wal_insert_lsn() - '0/0')::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
        )
        .fetch_one(&mut self.admin)
        .await?;
        Ok(Mark {
            at: Instant::now(),
            postgres_ms: processes::server_cpu_ms(self.postgres.postmaster_pid()),
            workers_ms: workers.iter().copied().map(processes::cpu_ms).sum(),
            log: row.get(0),
            commits: row.get(1),
            statements,
        })
    }

    /// What a commit takes here that writes one row and nothing else: the median of some, in milliseconds.
    pub async fn bare_commit_ms(&mut self) -> anyhow::Result<f64> {
        run(&mut self.admin, "create table bare_commits (n integer)").await?;
        let mut took = Vec::new();
        for n in 0..200_i32 {
            let began = Instant::now();
            let insert = sqlx::query("insert into bare_commits values ($1)").bind(n);
            insert.execute(&mut self.admin).await?;
            took.push(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX));
        }
        took.sort_unstable();
        run(&mut self.admin, "drop table bare_commits").await?;
        Ok(number(super::figures::percentile(&took, 500).unwrap_or(0)) / 1000.0)
    }

    /// The statements that took most of the server's time in a database, for people: calls, milliseconds, rows, text.
    pub async fn dearest_statements(&mut self, database: &Database) -> anyhow::Result<Vec<String>> {
        if !self.counts_statements {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "select s.calls, s.total_exec_time, s.rows, s.wal_bytes::bigint, left(regexp_replace(s.query, '\\s+', ' ', 'g'), 60)
             from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = $1
             order by s.total_exec_time desc limit 4",
        )
        .bind(&database.name)
        .fetch_all(&mut self.admin)
        .await?;
        Ok(rows
            .iter()
            .map(|row| {
                let (calls, ms, rows, log): (i64, f64, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
                let text: String = row.get(4);
                format!("{calls} calls, {ms:.0} ms, {rows} rows, {log} bytes of log: {text}")
            })
            .collect())
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        let _closed = self.admin.close().await;
        self.postgres
            .stop()
            .await
            .context("the private Postgres cannot be stopped")
    }
}

/// One database of the server, and a session in it.
pub struct Database {
    pub url: String,
    pub name: String,
    pub session: PgConnection,
}

impl Database {
    pub async fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        run(&mut self.session, sql).await
    }

    pub async fn count(&mut self, sql: &str) -> anyhow::Result<i64> {
        let counted = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.session)
            .await?;
        Ok(counted.get(0))
    }

    /// Waits until a count is at least that.
    pub async fn until(&mut self, what: &str, sql: &str, least: i64, within: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let counted = self.count(sql).await?;
            if counted >= least {
                return Ok(());
            }
            if began.elapsed() > within {
                anyhow::bail!("{what}: {counted} of {least} after {within:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub async fn run(session: &mut PgConnection, sql: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(session)
        .await
        .with_context(|| {
            format!(
                "the private Postgres refused: {}",
                sql.chars().take(200).collect::<String>()
            )
        })?;
    Ok(())
}

/// What was done between two marks.
pub struct Spent {
    pub seconds: f64,
    pub postgres_ms: f64,
    pub workers_ms: f64,
    log: f64,
    commits: f64,
    pub statements: Option<f64>,
}

impl Spent {
    pub fn between(before: &Mark, after: &Mark) -> Spent {
        let statements = after.statements.zip(before.statements);
        Spent {
            seconds: (after.at - before.at).as_secs_f64(),
            postgres_ms: number(after.postgres_ms.saturating_sub(before.postgres_ms)),
            workers_ms: number(after.workers_ms.saturating_sub(before.workers_ms)),
            log: number(after.log - before.log),
            commits: number(after.commits - before.commits),
            statements: statements.map(|(after, before)| number(after - before)),
        }
    }

    /// Tells it per capture.
    pub fn tell(&self, chapter: &mut Chapter, case: &str, captures: f64) {
        let thousands = captures / 1000.0;
        if self.workers_ms > 0.0 {
            chapter.add(case, "CPU of workers", "ms/1,000", ratio(self.workers_ms, thousands));
        }
        chapter.add(case, "CPU of Postgres", "ms/1,000", ratio(self.postgres_ms, thousands));
        chapter.add(
            case,
            "CPU in all",
            "ms/1,000",
            ratio(self.workers_ms + self.postgres_ms, thousands),
        );
        chapter.add(case, "log", "bytes", ratio(self.log, captures));
        chapter.add(case, "commits", "per capture", ratio(self.commits, captures));
        self.tell_statements(chapter, case);
    }

    pub fn tell_statements(&self, chapter: &mut Chapter, case: &str) {
        match self.statements {
            Some(statements) => chapter.add(case, "statements", "1/s", ratio(statements, self.seconds)),
            None => chapter.note("no statements are counted: this Postgres has no pg_stat_statements"),
        }
    }

    /// Commits that wrote, a second.
    pub fn commits_a_second(&self) -> f64 {
        ratio(self.commits, self.seconds)
    }
}

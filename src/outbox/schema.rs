//! The schema: numbered migrations, embedded in the binary.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, Row};

use super::{Outbox, OutboxError};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Why a worker does not start on this schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFault {
    /// Nothing is there yet.
    #[error("schema \"{schema}\" is not set up; run `capture migrate up`")]
    Missing {
        /// Its name.
        schema: String,
    },
    /// The role of this connection may not look into the schema.
    #[error("role \"{role}\" has no right to look into schema \"{schema}\"")]
    NotGranted {
        /// Its name.
        schema: String,
        /// Who asks.
        role: String,
    },
    /// The statements of this connection would go to another schema, which may be somebody else's.
    #[error(
        "statements of this connection find schema \"{instead}\", not \"{schema}\": if a pooler drops the search_path, connect to PostgreSQL itself, or run ALTER ROLE … SET search_path = {schema}, pg_temp"
    )]
    Elsewhere {
        /// The one that was meant.
        schema: String,
        /// The one that is found.
        instead: String,
    },
    /// This binary needs migrations that were not applied.
    #[error("schema \"{schema}\" lacks {} that this version needs; run `capture migrate up`", list(.missing))]
    Behind {
        /// Its name.
        schema: String,
        /// The migrations' numbers and names.
        missing: Vec<String>,
    },
    /// The schema says that workers of this version are too old for it.
    #[error("schema \"{schema}\" needs workers of version {least} or later; this is {ours}: install a newer one")]
    WorkerTooOld {
        /// Its name.
        schema: String,
        /// What it needs.
        least: String,
        /// What this is.
        ours: String,
    },
    /// An applied migration is not the one that this binary holds under its number.
    #[error(
        "migration {number} of schema \"{schema}\" is not the one in this binary (checksums differ): find out who changed it"
    )]
    Altered {
        /// Its name.
        schema: String,
        /// Which.
        number: i64,
    },
    /// A migration stopped halfway. Ours run in transactions, so somebody else's hand is in this.
    #[error("migration {number} of schema \"{schema}\" was begun and not finished")]
    Dirty {
        /// Its name.
        schema: String,
        /// Which.
        number: i64,
    },
    /// Other sessions held locks for too long.
    #[error(
        "migrating schema \"{schema}\" waited too long for a lock, {tries} times: a long transaction holds one of its tables"
    )]
    Locked {
        /// Its name.
        schema: String,
        /// How often it was tried.
        tries: u32,
    },
    /// Statements of this connection do not see what was committed while they waited.
    #[error(
        "transactions of this connection are {isolation}, and a pooler drops our setting: run ALTER ROLE … SET default_transaction_isolation = 'read committed'"
    )]
    Isolated {
        /// Its isolation level.
        isolation: String,
    },
    /// A setting that loses acknowledged commits is on.
    #[error(
        "the server runs with {setting} = {value}: a commit that was acknowledged may be lost, and with it the proof that a capture was sent; turn it on, or set worker.allow_lost_commits for a test"
    )]
    LosesCommits {
        /// Which setting.
        setting: String,
        /// Its value.
        value: String,
    },
}

fn list(missing: &[String]) -> Cow<'static, str> {
    match missing {
        [one] => Cow::Owned(format!("migration {one}")),
        many => Cow::Owned(format!("migrations {}", many.join(", "))),
    }
}

/// One migration and whether it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationState {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub name: String,
    /// Is it applied?
    pub applied: bool,
}

/// How often `migrate up` tries when a lock is not to be had.
const TRIES: u32 = 10;

impl Outbox {
    /// Creates the schema if needed and applies what is missing, each migration in a transaction, all under a lock, so that
    /// two at once do not meet. Waits at most 2 s for a table's lock and then begins anew: a migration that queues for a
    /// lock would make every claim behind it wait. Returns the numbers that this call applied; twice in a row, or two at
    /// once, the second list is empty.
    pub async fn migrate(&self) -> Result<Vec<i64>, OutboxError> {
        let mut applied = Vec::new();
        for tried in 1..=TRIES {
            match self.migrate_once(&mut applied).await {
                Err(OutboxError::Sql(error)) if is_lock_timeout(&error) => {
                    tracing::info!(tried, "a lock was not to be had within 2 s; trying again");
                    tokio::time::sleep(Duration::from_millis(u64::from(tried) * 200)).await;
                }
                done => return done.map(|()| applied),
            }
        }
        Err(SchemaFault::Locked {
            schema: self.schema.clone(),
            tries: TRIES,
        }
        .into())
    }

    /// One try. What it applied is added to `applied`, also if it then fails: the next try begins behind it.
    async fn migrate_once(&self, applied: &mut Vec<i64>) -> Result<(), OutboxError> {
        let mut connection = self.connect_alone().await?;
        sqlx::raw_sql("set lock_timeout = '2s'")
            .execute(&mut connection)
            .await?;
        // Before the first look: the schema is created once, and what somebody else applies meanwhile is not taken for
        // ours. The lock ends with the connection.
        connection.lock().await.map_err(|error| self.migration_error(error))?;
        let quoted = format!("create schema if not exists \"{}\"", self.schema.replace('"', "\"\""));
        // `if not exists` still asks for the right to create; who only applies migrations need not have it.
        let exists: bool = sqlx::query("select exists (select from pg_namespace where nspname = $1)")
            .bind(&self.schema)
            .fetch_one(&mut connection)
            .await?
            .get(0);
        if !exists {
            sqlx::raw_sql(sqlx::AssertSqlSafe(quoted))
                .execute(&mut connection)
                .await?;
        }
        let before = self.applied(&mut connection).await?;
        // A newer version's migrations may be there already: an old worker goes on beside a newer schema.
        let outcome = Migrator {
            ignore_missing: true,
            locking: false,
            ..embedded()
        }
        .run(&mut connection)
        .await
        .map_err(|error| self.migration_error(error));
        let after = self.applied(&mut connection).await;
        let closed = connection.close().await;
        if let Ok(after) = &after {
            applied.extend(after.iter().filter(|number| !before.contains(number)));
        }
        // Why it failed comes first: what broke behind it is a consequence.
        outcome?;
        after?;
        Ok(closed?)
    }

    fn migration_error(&self, error: MigrateError) -> OutboxError {
        let schema = self.schema.clone();
        match error {
            MigrateError::VersionMismatch(number) => SchemaFault::Altered { schema, number }.into(),
            MigrateError::Dirty(number) => SchemaFault::Dirty { schema, number }.into(),
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => OutboxError::Sql(error),
            other => OutboxError::Sql(sqlx::Error::Migrate(Box::new(other))),
        }
    }

    /// A connection outside the pool.
    pub(super) async fn connect_alone(&self) -> Result<PgConnection, OutboxError> {
        self.options.connect().await.map_err(|source| OutboxError::Unreachable {
            address: self.address.clone(),
            source,
        })
    }

    async fn applied(&self, connection: &mut PgConnection) -> Result<Vec<i64>, OutboxError> {
        // From the catalogue, which tells everybody what is there: a table that one may not see has no name.
        let found = sqlx::query(
            "select current_user::text as role, coalesce(current_schema()::text, 'none') as instead,
                    has_schema_privilege(n.oid, 'usage') and coalesce(has_table_privilege(c.oid, 'select'), true) as may_look,
                    c.oid is not null as is_recorded
             from pg_namespace n left join pg_class c on c.relnamespace = n.oid and c.relname = '_sqlx_migrations'
             where n.nspname = $1",
        )
        .bind(&self.schema)
        .fetch_optional(&mut *connection)
        .await?;
        let Some(found) = found else {
            return Ok(Vec::new());
        };
        if !found.get::<bool, _>("may_look") {
            return Err(self.not_granted(found.get("role")));
        }
        let instead: String = found.get("instead");
        if instead != self.schema {
            let schema = self.schema.clone();
            return Err(SchemaFault::Elsewhere { schema, instead }.into());
        }
        if !found.get::<bool, _>("is_recorded") {
            return Ok(Vec::new());
        }
        let rows = sqlx::query("select version from _sqlx_migrations where success order by version")
            .fetch_all(&mut *connection)
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// What this binary holds, and what of it is applied.
    pub async fn migrations(&self) -> Result<Vec<MigrationState>, OutboxError> {
        let mut connection = self.connect_alone().await?;
        let applied = self.applied(&mut connection).await?;
        connection.close().await?;
        Ok(MIGRATIONS
            .iter()
            .map(|migration| MigrationState {
                number: migration.version,
                name: migration.description.to_string(),
                applied: applied.contains(&migration.version),
            })
            .collect())
    }

    /// Compares what is applied with what this binary holds, by checksum.
    pub async fn verify_schema(&self) -> Result<(), OutboxError> {
        let mut connection = self.connect_alone().await?;
        if self.applied(&mut connection).await?.is_empty() {
            return Err(SchemaFault::Missing {
                schema: self.schema.clone(),
            }
            .into());
        }
        let applied = connection
            .list_applied_migrations("_sqlx_migrations")
            .await
            .map_err(|error| self.migration_error(error))?;
        connection.close().await?;
        for migration in MIGRATIONS.iter() {
            if applied
                .iter()
                .any(|a| a.version == migration.version && a.checksum != migration.checksum)
            {
                return Err(SchemaFault::Altered {
                    schema: self.schema.clone(),
                    number: migration.version,
                }
                .into());
            }
        }
        self.check_schema().await
    }

    /// The migrations after that number as one SQL script, for who applies schemas by other means. It is one transaction,
    /// and records what it applied as [`Outbox::migrate`] does, so that a worker takes the schema for what it is.
    pub fn migration_sql(schema: &str, after: i64) -> String {
        let mut script = format!(
            "begin;\ncreate schema if not exists \"{0}\";\nset local search_path to \"{0}\", pg_temp;\n\
             create table if not exists _sqlx_migrations (\n    version bigint primary key,\n    description text not null,\n    \
             installed_on timestamptz not null default now(),\n    success boolean not null,\n    checksum bytea not null,\n    \
             execution_time bigint not null\n);\n",
            schema.replace('"', "\"\"")
        );
        for migration in MIGRATIONS.iter().filter(|migration| migration.version > after) {
            let (number, name) = (migration.version, migration.description.replace('\'', "''"));
            let checksum: String = migration.checksum.iter().map(|byte| format!("{byte:02x}")).collect();
            script.push_str(&format!("\n-- {number} {name}\n{}\n", migration.sql.as_str()));
            script.push_str(&format!(
                "insert into _sqlx_migrations (version, description, success, checksum, execution_time)\n    \
                 values ({number}, '{name}', true, '\\x{checksum}', -1);\n"
            ));
        }
        script.push_str("\ncommit;\n");
        script
    }

    /// Numbers and names of the migrations in this binary.
    pub fn embedded_migrations() -> Vec<(i64, String)> {
        MIGRATIONS
            .iter()
            .map(|migration| (migration.version, migration.description.to_string()))
            .collect()
    }

    /// Refuses to start on a schema that lacks what this version needs, or that needs a newer version than this.
    pub async fn check_schema(&self) -> Result<(), OutboxError> {
        let mut connection = self.connect_alone().await?;
        let applied = self.applied(&mut connection).await?;
        if applied.is_empty() {
            return Err(SchemaFault::Missing {
                schema: self.schema.clone(),
            }
            .into());
        }
        let missing: Vec<String> = MIGRATIONS
            .iter()
            .filter(|migration| !applied.contains(&migration.version))
            .map(|migration| format!("{:04} ({})", migration.version, migration.description))
            .collect();
        if !missing.is_empty() {
            return Err(SchemaFault::Behind {
                schema: self.schema.clone(),
                missing,
            }
            .into());
        }
        let least: String = sqlx::query("select least_worker_version from requirements")
            .fetch_one(&mut connection)
            .await?
            .get(0);
        let isolation: String = sqlx::query("select current_setting('transaction_isolation')")
            .fetch_one(&mut connection)
            .await?
            .get(0);
        if isolation != "read committed" {
            return Err(SchemaFault::Isolated { isolation }.into());
        }
        connection.close().await?;
        let ours = env!("CARGO_PKG_VERSION");
        if version_numbers(&least) > version_numbers(ours) {
            return Err(SchemaFault::WorkerTooOld {
                schema: self.schema.clone(),
                least,
                ours: ours.to_owned(),
            }
            .into());
        }
        Ok(())
    }

    /// Refuses a server whose acknowledged commits may be lost.
    pub async fn check_durability(&self) -> Result<(), OutboxError> {
        let rows = sqlx::query!(
            r#"select name as "name!", setting as "setting!" from pg_settings where name in ('fsync', 'full_page_writes', 'synchronous_commit') order by name"#
        )
        .fetch_all(&self.pool)
        .await?;
        for row in rows {
            // `local` and `remote_write` keep a commit through a crash of this server; what a fail-over loses, the epoch
            // makes verified first.
            if row.setting == "off" {
                return Err(SchemaFault::LosesCommits {
                    setting: row.name,
                    value: row.setting,
                }
                .into());
            }
        }
        Ok(())
    }
}

/// The embedded migrations as an owned value, so that its settings can differ from use to use.
fn embedded() -> Migrator {
    Migrator {
        migrations: Cow::Borrowed(&MIGRATIONS.migrations),
        ..Migrator::DEFAULT
    }
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|database| database.code())
        .is_some_and(|code| code == "55P03")
}

fn version_numbers(version: &str) -> Vec<u64> {
    version
        .split(['.', '-', '+'])
        .take(3)
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

//! The outbox: the only room that speaks SQL.
//!
//! The protocol, in the order an intent meets it:
//!
//! 1. A producer's INSERT; a trigger puts the intent into `ready` or `waiting` in the same transaction.
//! 2. [`Outbox::claim`]: rows leave `ready`, their fence rises, and one lease row says that these attempts are open. Only
//!    when that has been committed may a worker send anything.
//! 3. [`Outbox::settle`]: what the calls told is recorded under the lease, and each intent moves on, or ends. Whoever lost
//!    its lease is told so, and its result is kept as a late result.
//! 4. [`Outbox::rescue`]: leases that lapsed become verifications. [`Outbox::move_due`]: what waited long enough is ready.
//!
//! An intent that has not ended is in exactly one of `ready`, `waiting` and `leases`. Time is the database's. No
//! transaction of ours spans a round trip that a frozen process could hold open: each step is one statement (a function
//! where it needs two snapshots; see `migrations/`), and whole statements are repeated on 40001 and 40P01.

mod audit;
mod candidates;
mod captures;
mod checks;
mod claim;
mod codes;
mod dead_letters;
mod deadlines;
mod deliveries;
mod doubt;
mod events;
mod export;
mod forecast;
mod health;
mod keys;
mod lanes;
#[cfg(feature = "proof")]
pub mod memory;
mod operations;
mod orders;
mod pages;
mod prune;
mod questions;
mod repeat;
mod risk;
mod roles;
mod schema;
mod seat;
mod sessions;
mod settle;
mod shipments;
mod shipping_notices;
mod store;
mod tally;
mod upkeep;
mod webhooks;
mod workers;

use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

pub use audit::{AuditFault, AuditRow, AuditStamp, AuditVerdict};
pub use candidates::{Candidates, CaptureFacts, Resolution, Rest};
pub use captures::{AttemptRow, CaptureRow, Enqueued, HeldRelease, TimelineEntry};
pub use checks::{AtRisk, Check};
pub use claim::{Claim, ClaimRequest, Claimed, LaneRequest, Purpose, Ticket, Unreadable};
pub use codes::CodeRow;
pub use dead_letters::{DeadGroup, DeadLetter, GroupBy, RESOLVED_NOT_CAPTURED, Replayed, Resolved};
pub use deadlines::ToldDeadline;
pub use deliveries::{
    ClaimedDelivery, Delivery, DeliveryFilter, DeliveryRecord, DeliveryRequest, DeliveryResult, FannedOut, Redelivery,
};
pub use doubt::CommitDoubts;
pub use events::{Event, EventPage};
pub use export::AuditLine;
pub use forecast::{Forecast, ForecastRow, LaneRate};
pub use health::{Backlog, DoctorFacts, LaneBacklog, OldestUnknown, Pooling, RoleFacts};
pub use keys::{FoundKey, KeyRow, MadeKey, NewKey, Revoked};
pub use lanes::{LaneId, LaneRow, LaneTest};
pub use operations::{
    Changed, DueOperation, NewOperation, OfRequest, OpenItem, OperationItem, OperationRow, PlannedItem, Stepped,
};
pub use orders::{OrderLedger, PaymentLedger};
pub use pages::{Cursor, CursorFault, Page};
pub use prune::{PrunePlace, Pruned, ShipmentPart, WouldPrune};
pub use questions::Question;
#[cfg(feature = "proof")]
pub use repeat::repeating;
pub use risk::{Hours, Risk, RiskRow};
pub use roles::UnusableRoles;
pub use schema::{MigrationState, SchemaFault};
pub use sessions::FoundSession;
pub use settle::{AttemptRecord, LaneNews, Settled, Settlement};
pub use shipments::{Matched, ShipmentMatch, ShipmentRequest, ShipmentRow, Unmatched};
pub use shipping_notices::{ClaimedNotice, NoticeEnd, ShippingNotice};
pub use store::{Listener, Store};
pub use tally::{OpenOperation, StateCount, Tally};
pub use upkeep::{Chores, Moved};
pub use webhooks::{EndpointActed, EndpointChange, WebhookEndpoint, WebhookTally};
pub use workers::{Sleep, WorkerRow};

use repeat::Tries;
#[cfg(not(feature = "proof"))]
use repeat::repeating;
use seat::Seat;

/// Which layout of requests this version writes (table `leases`, column `request_format`).
pub const REQUEST_FORMAT: i16 = 1;

/// What every connection asks for, beside its schema.
const SESSION: [(&str, &str); 4] = [
    // Our functions look once more after they have locked, which needs a snapshot for each statement, whatever the database
    // or the role is set to.
    ("default_transaction_isolation", "read committed"),
    // Nothing of ours holds a transaction open across a round trip; if it ever did, the server ends it.
    ("idle_in_transaction_session_timeout", "30s"),
    ("lock_timeout", "10s"),
    // Compiling a plan takes longer than any of our statements runs.
    ("jit", "off"),
];

/// A connection that was used so lately is taken for one that is there.
const USED_LATELY: Duration = Duration::from_secs(1);

/// Why the outbox could not do something.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The URL makes no sense.
    #[error("the database URL is not valid: {0}")]
    Url(String),
    /// Nobody answers there.
    #[error("the database at {address} cannot be reached: {source}")]
    Unreachable {
        /// Host and port, or socket.
        address: String,
        /// What happened.
        source: sqlx::Error,
    },
    /// The schema is not what this version needs.
    #[error(transparent)]
    Schema(#[from] SchemaFault),
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// A commit was answered with a warning: it is not known to survive a fail-over.
    #[error("a claim was committed with a warning (a cancelled wait for the standby?): it is not known to be durable")]
    NotDurable,
    /// A pooler in transaction mode, whose sessions mix up prepared statements.
    #[error("a pooler in transaction mode stands between: statements are prepared in one session and meant in another")]
    MixedSessions,
    /// What came back makes no sense to this version.
    #[error("the database gave {what}, which this version does not understand")]
    NotUnderstood {
        /// What.
        what: String,
    },
}

impl OutboxError {
    /// Was the connection lost (or the commit doubtful), so that nobody knows whether the statement took effect?
    pub fn is_connection_lost(&self) -> bool {
        match self {
            OutboxError::Unreachable { .. } | OutboxError::NotDurable => true,
            OutboxError::Sql(error) => is_connection_error(error),
            OutboxError::Url(_)
            | OutboxError::Schema(_)
            | OutboxError::MixedSessions
            | OutboxError::NotUnderstood { .. } => false,
        }
    }

    /// The SQLSTATE, constraint, column and hint of a refusal by the database, if it was one.
    pub fn refusal(&self) -> Option<Refusal> {
        let OutboxError::Sql(sqlx::Error::Database(error)) = self else {
            return None;
        };
        let error = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()?;
        Some(Refusal {
            sqlstate: error.code().to_owned(),
            message: error.message().to_owned(),
            constraint: error.constraint().map(str::to_owned),
            column: error.column().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
        })
    }
}

/// A refusal by the database, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE.
    pub sqlstate: String,
    /// What was wrong.
    pub message: String,
    /// The constraint's name: the error catalogue for SQL, HTTP and CLI alike.
    pub constraint: Option<String>,
    /// Where.
    pub column: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// A statement that was prepared for somebody else is there (42P05), or one of ours is not (26000): this connection's
    /// session changed under it.
    pub fn mixes_sessions(&self) -> bool {
        matches!(self.sqlstate.as_str(), "42P05" | "26000")
    }
}

pub(crate) fn is_connection_error(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Protocol(_) => true,
        // 57P01 and so on: the server ends our session. 08: connection exceptions. 53300: no connection is free.
        // 25006: a standby, which is no place to work on.
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            code.starts_with("57P") || code.starts_with("08") || code == "53300" || code == "25006"
        }),
        _ => false,
    }
}

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct ConnectSettings {
    /// A `postgres://` URL.
    pub url: String,
    /// The schema, `capture` unless said otherwise.
    pub schema: String,
    /// Connections at most. Workers need few: claims and settles are batched.
    pub max_connections: u32,
    /// How long to wait for a connection.
    pub acquire_timeout: Duration,
    /// The server ends a statement that takes longer. `None`: it may take as long as it takes.
    pub statement_timeout: Option<Duration>,
}

impl ConnectSettings {
    /// The defaults for that URL: schema `capture`, 4 connections, 10 s.
    pub fn new(url: impl Into<String>) -> ConnectSettings {
        ConnectSettings {
            url: url.into(),
            schema: "capture".to_owned(),
            max_connections: 4,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: None,
        }
    }
}

/// A way into one outbox: one database, one schema.
#[derive(Debug, Clone)]
pub struct Outbox {
    pool: PgPool,
    claims: Seat,
    settles: Seat,
    options: PgConnectOptions,
    schema: String,
    address: String,
}

impl Outbox {
    /// Connects. Fails with [`OutboxError::Unreachable`] if nobody answers.
    pub async fn connect(settings: &ConnectSettings) -> Result<Outbox, OutboxError> {
        let outbox = Outbox::connect_lazily(settings)?;
        // Not through the pool: it takes a refused connection for a server that is just starting, tries again until its
        // time is up, and then tells of the time and not of the cause.
        let alone = tokio::time::timeout(settings.acquire_timeout, outbox.connect_alone());
        let connection = alone.await.unwrap_or_else(|_| {
            Err(OutboxError::Unreachable {
                address: outbox.address.clone(),
                source: sqlx::Error::PoolTimedOut,
            })
        })?;
        connection.close().await?;
        Ok(outbox)
    }

    /// As [`Outbox::connect`], but connects at the first statement.
    pub fn connect_lazily(settings: &ConnectSettings) -> Result<Outbox, OutboxError> {
        let options = PgConnectOptions::from_str(&settings.url)
            .map_err(|error| OutboxError::Url(error.to_string()))?
            .application_name("capture")
            .options([
                // `pg_temp` last: nobody's temporary table may stand in for one of ours.
                ("search_path", format!("{},pg_temp", settings.schema)),
                // A half-open connection is found out within a minute or so.
                ("tcp_keepalives_idle", "20".to_owned()),
                ("tcp_keepalives_interval", "10".to_owned()),
                ("tcp_keepalives_count", "3".to_owned()),
            ])
            .options(SESSION);
        let options = match settings.statement_timeout {
            Some(most) => options.options([("statement_timeout", format!("{}ms", most.as_millis()))]),
            None => options,
        };
        let address = match options.get_socket() {
            Some(socket) => format!("{} (port {})", socket.display(), options.get_port()),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.acquire_timeout)
            // Left to itself the pool asks the server before each statement whether it is there: as long a way as the statement's
            // own, and on the way of each lone capture. What was used lately is there; and whoever finds out by a
            // statement that it is not, repeats it or gives it back, as where a connection is lost in the middle.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > USED_LATELY {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options.clone());
        Ok(Outbox {
            pool,
            claims: Seat::default(),
            settles: Seat::default(),
            options,
            schema: settings.schema.clone(),
            address,
        })
    }

    /// Host and port, or socket: for messages.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The schema's name.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Closes all connections, after their statements have ended.
    pub async fn close(&self) {
        // Closed from here on, so that nobody who comes late takes a seat that is not left again.
        let closed = self.pool.close();
        self.claims.leave().await;
        self.settles.leave().await;
        closed.await;
    }

    /// The database's clock.
    pub async fn now(&self) -> Result<chrono::DateTime<chrono::Utc>, OutboxError> {
        Ok(sqlx::query_scalar!(r#"select clock_now() as "now!""#)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Sets the database's clock ahead, for every connection. Tests only.
    pub async fn set_clock_ahead(&self, by: Duration) -> Result<(), OutboxError> {
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        sqlx::query!("update clock set ahead = $1::bigint * interval '1 millisecond'", ms)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn interval(span: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(span.as_micros()).unwrap_or(i64::MAX),
    }
}

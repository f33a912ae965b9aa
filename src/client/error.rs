//! Why a capture was not asked for.

use sqlx::postgres::PgDatabaseError;

/// Why nothing was asked for. Whatever it is, the transaction is over: a commit of it is a rollback.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The row is not good, or its `capture_ref` is taken by another one (23505). The same again is refused again.
    #[error("{message} ({constraint}): {hint}")]
    Refused {
        /// SQLSTATE: 23514, or 23505.
        sqlstate: String,
        /// The rule's name, the same in SQL, HTTP and on the command line: `intents_amount_whole`.
        constraint: String,
        /// Which column, if it is one.
        column: Option<String>,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Another transaction was faster (40001, 40P01).
    #[error("another transaction was faster: run the whole transaction again")]
    RunAgain(#[source] sqlx::Error),
    /// Anything else that a database says, or does not say.
    #[error(transparent)]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for EnqueueError {
    fn from(error: sqlx::Error) -> EnqueueError {
        let Some(said) = error
            .as_database_error()
            .and_then(|said| said.try_downcast_ref::<PgDatabaseError>())
        else {
            return EnqueueError::Database(error);
        };
        match (said.code(), said.constraint()) {
            ("40001" | "40P01", _) => EnqueueError::RunAgain(error),
            // Of our table only: the caller's own rules are the caller's.
            (sqlstate @ ("23514" | "23505"), Some(constraint)) if said.table() == Some("intents") => {
                EnqueueError::Refused {
                    sqlstate: sqlstate.to_owned(),
                    constraint: constraint.to_owned(),
                    column: said.column().map(str::to_owned),
                    message: said.message().to_owned(),
                    hint: said.hint().unwrap_or_default().to_owned(),
                }
            }
            _ => EnqueueError::Database(error),
        }
    }
}

//! From what the outbox could not do to an exit code, a message and a hint.

use crate::outbox::{OutboxError, Refusal, SchemaFault};

use super::output::{Error, Exit};

/// What to do about a pooler in transaction mode.
pub const POOLED_BY_TRANSACTION: &str = "connect workers to PostgreSQL itself (5 connections each), or use the pooler's session mode; through transaction \
mode workers are never notified and poll instead, and the schema must be set by ALTER ROLE … SET search_path = capture, pg_temp";

impl From<OutboxError> for Error {
    fn from(error: OutboxError) -> Error {
        match &error {
            OutboxError::Url(_) => {
                Error::usage(error.to_string()).hint("write it like postgres://user@host:5432/database")
            }
            OutboxError::Unreachable { address, source } => unreachable(address, source),
            OutboxError::Schema(fault) => match fault {
                SchemaFault::NotGranted { role, .. } => not_granted(fault, role),
                SchemaFault::Missing { .. }
                | SchemaFault::Elsewhere { .. }
                | SchemaFault::Behind { .. }
                | SchemaFault::WorkerTooOld { .. }
                | SchemaFault::Altered { .. }
                | SchemaFault::Dirty { .. }
                | SchemaFault::Locked { .. }
                | SchemaFault::Isolated { .. }
                | SchemaFault::LosesCommits { .. } => Error::state_forbids(fault.to_string()),
            },
            OutboxError::MixedSessions => Error::state_forbids(error.to_string()).hint(POOLED_BY_TRANSACTION),
            OutboxError::NotDurable => Error::failed(error.to_string()),
            OutboxError::NotUnderstood { .. } => {
                Error::failed(error.to_string()).hint("a newer version may have written it; see capture version")
            }
            OutboxError::Sql(_) => match error.refusal() {
                Some(refusal) if refusal.mixes_sessions() => Error::state_forbids(format!(
                    "{}\nSQLSTATE {}: {}",
                    OutboxError::MixedSessions,
                    refusal.sqlstate,
                    refusal.message
                ))
                .hint(POOLED_BY_TRANSACTION),
                Some(refusal) => refused(&refusal),
                None if error.is_connection_lost() => Error::unreachable(format!("the database went away: {error}")),
                None => Error::failed(error.to_string()),
            },
        }
    }
}

/// Which role is needed is a matter of who asks, which only they know.
fn not_granted(fault: &SchemaFault, role: &str) -> Error {
    let role = role.replace('"', "\"\"");
    Error::not_allowed(fault.to_string()).hint(format!(
        "let an administrator run: GRANT capture_readonly TO \"{role}\"\nthat is the role of those who look; of those who \
         act: capture_operator, of order systems: capture_producer, of `capture work` and nobody else: capture_worker; \
         only the owner migrates"
    ))
}

/// No connection: nobody answers, or whoever answers does not let us in.
fn unreachable(address: &str, source: &sqlx::Error) -> Error {
    let Some(refused) = source.as_database_error() else {
        let cause = match source {
            sqlx::Error::Io(error) => error.to_string(),
            sqlx::Error::PoolTimedOut => "nobody answered in time".to_owned(),
            other => other.to_string(),
        };
        return Error::unreachable(format!("the database at {address} cannot be reached: {cause}"));
    };
    let code = refused.code().unwrap_or_default();
    let said = format!(
        "the database at {address} refuses the connection: {}",
        refused.message()
    );
    match code.as_ref() {
        // 28: invalid authorisation. 42501: not allowed to connect.
        "28000" | "28P01" | "42501" => Error::not_allowed(said).hint("look at the user and the password of the URL"),
        "08P01" if refused.message().contains("startup parameter") => Error::unreachable(said).hint(
            "a pooler stands between: connect to PostgreSQL itself, or let the pooler pass the parameter (PgBouncer: \
             ignore_startup_parameters = extra_float_digits, options) and give the role its schema: ALTER ROLE … SET search_path = capture, pg_temp",
        ),
        _ => Error::unreachable(said),
    }
}

/// A statement was refused; the database's own words, and the constraint's name, which is the one catalogue of errors.
fn refused(refusal: &Refusal) -> Error {
    let mut message = refusal.message.clone();
    if let Some(constraint) = &refusal.constraint {
        message.push_str(&format!("\nconstraint {constraint}"));
        if let Some(column) = &refusal.column {
            message.push_str(&format!(", column {column}"));
        }
    }
    let (exit, hint) = match refusal.sqlstate.as_str() {
        // Bad input: refused by a rule of the table, by a bad value, or by a bad document.
        "23514" | "23502" | "22023" | "22P02" | "22003" | "22007" | "22008" | "22021" | "22P05" => (Exit::Usage, None),
        // It is there already, with other content; or it is there for good.
        "23505" | "55000" => (Exit::StateForbids, None),
        "P0002" => (Exit::NotFound, None),
        "42501" => (
            Exit::NotAllowed,
            Some(
                "connect with a login that has capture_readonly (to look) or capture_operator (to act); capture_producer may enqueue \
                 and follow the feed here, and cancel by SQL; capture doctor says what this login may do",
            ),
        ),
        "42P01" | "42883" | "42703" | "3F000" => (
            Exit::StateForbids,
            Some(
                "the schema is not set up, or older (capture migrate status), or this role has no right to it (capture doctor)",
            ),
        ),
        "25006" => (
            Exit::Unreachable,
            Some("this server is a standby: connect to the primary"),
        ),
        code if code.starts_with("57P") || code.starts_with("08") || code == "53300" => (Exit::Unreachable, None),
        _ => {
            message.push_str(&format!("\nSQLSTATE {}", refusal.sqlstate));
            (Exit::Failed, None)
        }
    };
    let error = Error::new(exit, message);
    // Ours first: the server's hint about a missing function is to cast its arguments.
    match hint.or(refusal.hint.as_deref()) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(sqlstate: &str) -> Exit {
        let refusal = Refusal {
            sqlstate: sqlstate.to_owned(),
            message: "amount_minor is 12.34".to_owned(),
            constraint: Some("intents_amount_whole".to_owned()),
            column: Some("amount_minor".to_owned()),
            hint: Some("pass 1234".to_owned()),
        };
        let error = refused(&refusal);
        assert!(
            error
                .message
                .contains("constraint intents_amount_whole, column amount_minor")
        );
        // The hint of a missing right is ours: what the server says helps nobody at night.
        let own = sqlstate == "42501";
        assert_eq!(error.hint.as_deref() == Some("pass 1234"), !own, "{sqlstate}");
        error.exit
    }

    #[test]
    fn a_refusal_keeps_the_words_of_the_database_and_gets_an_exit_code() {
        for (sqlstate, code) in [
            ("23514", Exit::Usage),
            ("23505", Exit::StateForbids),
            ("42501", Exit::NotAllowed),
            ("P0002", Exit::NotFound),
            ("57P01", Exit::Unreachable),
            ("XX000", Exit::Failed),
        ] {
            assert_eq!(exit(sqlstate), code, "{sqlstate}");
        }
    }
}

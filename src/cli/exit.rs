//! How a verb ends: one set of exit codes, and errors that say what to do.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::{ConfigFaults, Environment, Fault};

use super::output::may_colour;

/// How a run ended. Scripts build on these numbers; they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed for a reason that no other code names.
    Failed,
    /// 2: the command line or the settings are wrong.
    Usage,
    /// 3: what was named does not exist.
    NotFound,
    /// 4: not allowed.
    NotAllowed,
    /// 5: the state of the intent, lane or operation forbids it.
    StateForbids,
    /// 6: done for some, not for all.
    PartlyDone,
    /// 7: a check found something.
    CheckTripped,
    /// 8: the database or the API cannot be reached.
    Unreachable,
    /// 130: interrupted by the user.
    Interrupted,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::NotAllowed => 4,
            Exit::StateForbids => 5,
            Exit::PartlyDone => 6,
            Exit::CheckTripped => 7,
            Exit::Unreachable => 8,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a verb did not do what it was asked: an exit code, a message, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// How the run ends.
    pub exit: Exit,
    /// What is wrong; may have several lines. Empty: nothing is said.
    pub message: String,
    /// What to do; may have several lines.
    pub hint: Option<String>,
}

impl Error {
    /// An error that ends with that code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Error {
        Error {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    /// Exit code 1.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(Exit::Failed, message)
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(Exit::Usage, message)
    }

    /// Exit code 3.
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(Exit::NotFound, message)
    }

    /// Exit code 4.
    pub fn not_allowed(message: impl Into<String>) -> Error {
        Error::new(Exit::NotAllowed, message)
    }

    /// Exit code 5.
    pub fn state_forbids(message: impl Into<String>) -> Error {
        Error::new(Exit::StateForbids, message)
    }

    /// Exit code 8.
    pub fn unreachable(message: impl Into<String>) -> Error {
        Error::new(Exit::Unreachable, message)
    }

    /// The same, and what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Says it on stderr, if there is something to say, and gives the exit code.
    pub fn report(&self, environment: &Environment) -> ExitCode {
        if !self.message.is_empty() {
            let mut said = self.to_string();
            if may_colour(&io::stderr(), environment) {
                said = said.replacen("error:", "\u{1b}[1;31merror:\u{1b}[0m", 1);
                said = said.replacen("\nhint:", "\n\u{1b}[1;36mhint:\u{1b}[0m", 1);
            }
            say(&said);
        }
        self.exit.into()
    }
}

/// `error: …`, continued lines indented, then `hint: …` alike.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message.replace('\n', "\n       "))?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {}", hint.replace('\n', "\n      "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<ConfigFaults> for Error {
    fn from(faults: ConfigFaults) -> Error {
        Error::usage(faults.to_string())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::usage(fault.wrong_at()).hint(fault.fix)
    }
}

/// A reader of stdout that has gone away (`capture list | head`) has all it wanted: that ends a verb that looks quietly and
/// well. A verb that acts never gets here for it: its stdout swallows this (`output::Stdout`).
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Error::new(Exit::Done, ""),
            _ => Error::failed(error.to_string()),
        }
    }
}

/// An `Error` inside keeps its code; anything else is a plain failure with its whole chain of causes.
impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(other) => Error::failed(format!("{other:#}")),
        }
    }
}

/// A line of talk on stderr. A stderr that nobody reads stops nothing.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// `warning: …` on stderr.
pub fn warn(what: impl fmt::Display) {
    say(&format!("warning: {what}"));
}

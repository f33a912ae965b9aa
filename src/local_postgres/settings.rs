//! What a caller may choose.

use std::path::PathBuf;

/// How the server is to be. The default is a temporary, durable one that listens on a socket only.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the data is. Default: [`DataDir::Temporary`].
    pub data: DataDir,
    /// What survives a loss of power. Default: [`Durability::Durable`].
    pub durability: Durability,
    /// Who can reach it. Default: [`Listen::SocketOnly`].
    pub listen: Listen,
    /// Connections at once, three of them kept for superusers. Default: 100.
    pub max_connections: u16,
    /// Further settings as in `postgresql.conf`, name and value; they win over ours. Default: none.
    pub extra: Vec<(String, String)>,
    /// Whether to say on stderr what is fetched. Default: true.
    pub talk: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            data: DataDir::Temporary,
            durability: Durability::Durable,
            listen: Listen::SocketOnly,
            max_connections: 100,
            extra: Vec::new(),
            talk: true,
        }
    }
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataDir {
    /// In a fresh directory that goes when the server stops.
    Temporary,
    /// Here, and it stays. Made if it is missing or empty; refused if it holds something else than a database.
    Persistent(PathBuf),
}

/// What survives a loss of power. A crash of the server alone loses nothing either way, but for the last moments
/// of `ForTests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync` on and data checksums: as in production.
    Durable,
    /// `fsync`, `full_page_writes` and `synchronous_commit` off: fast, and worth nothing after a loss of power.
    ForTests,
}

/// Who can reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Whoever may enter the socket's directory: this user and root. No password.
    SocketOnly,
    /// Also 127.0.0.1, on a free port, with a password that [`super::LocalPostgres::url`] holds.
    Loopback,
}

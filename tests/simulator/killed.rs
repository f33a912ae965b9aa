use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use capture::simulator::{Settings, Simulator, read_ledger};
use serde_json::{Value, json};

use crate::{client::*, ledger::Scratch};

const LEDGER: &str = "SIMULATOR_TEST_LEDGER";

#[tokio::test]
#[ignore = "is the process that another test kills"]
async fn a_simulator_that_waits_to_be_killed() {
    let Ok(path) = std::env::var(LEDGER) else { return };
    let settings = Settings {
        ledger: Some(path.into()),
        ..Settings::default()
    };
    let simulator = Simulator::start(settings).await.unwrap();
    println!("\nlistening {}", simulator.addr());
    std::future::pending::<()>().await;
}

struct Process(Child, String);

impl Process {
    fn start(scratch: &Scratch) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "killed::a_simulator_that_waits_to_be_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(LEDGER, &scratch.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.strip_prefix("listening ")?.to_owned()));
        Self(child, address.unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_simulator_has_every_capture_that_it_answered_and_doubles_none_afterwards() {
    const PAYMENTS: usize = 300;
    let scratch = Scratch::new("killed");
    let mut process = Process::start(&scratch);
    let base = format!("http://{}", process.1);
    let authorizations: Vec<Value> = (0..PAYMENTS)
        .map(
            |id| json!({ "provider": "afterpay", "payment_id": id.to_string(), "amount": "100.00", "currency": "USD" }),
        )
        .collect();
    let authorized = http()
        .post(format!("{base}/_simulator/authorizations"))
        .json(&authorizations);
    assert_eq!(sent(authorized).await.0, 201);

    let answered = Mutex::new(HashSet::new());
    let kill = tokio::sync::Notify::new();
    let capture = async |base: &str, id: &str| {
        let body = afterpay_body(&format!("k{id}"), "10.00");
        let answer = afterpay_at(&format!("{base}/afterpay"), id, &body).send().await;
        answer.is_ok_and(|answer| answer.status() == 201)
    };
    let calls = (0..10).map(|start| {
        let (answered, kill, base, capture) = (&answered, &kill, &base, &capture);
        async move {
            for id in (start..PAYMENTS).step_by(10) {
                let id = id.to_string();
                if !capture(base, &id).await {
                    return;
                }
                let mut answered = answered.lock().unwrap();
                answered.insert(id);
                if answered.len() == PAYMENTS / 3 {
                    kill.notify_one();
                }
            }
        }
    });
    let killer = async {
        kill.notified().await;
        process.0.kill().unwrap();
        process.0.wait().unwrap();
    };
    tokio::join!(futures_util::future::join_all(calls), killer);

    let answered = answered.into_inner().unwrap();
    let on_disk: HashSet<String> = read_ledger(&scratch.0)
        .unwrap()
        .into_iter()
        .map(|entry| entry.payment_id)
        .collect();
    assert!(
        answered.len() >= PAYMENTS / 3 && on_disk.len() < PAYMENTS,
        "{} on disk",
        on_disk.len()
    );
    assert!(answered.is_subset(&on_disk));

    let settings = Settings {
        ledger: Some(scratch.0.clone()),
        ..Settings::default()
    };
    let simulator = Simulator::start(settings).await.unwrap();
    let base = format!("http://{}", simulator.addr());
    for id in 0..PAYMENTS {
        assert!(capture(&base, &id.to_string()).await);
    }
    let counts = simulator.counts();
    assert_eq!((counts.doubles, counts.captures_ours), (0, PAYMENTS as u64));
    assert_eq!(counts.replays, on_disk.len() as u64);
}

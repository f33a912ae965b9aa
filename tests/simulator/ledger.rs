use std::{fs, path::PathBuf};

use capture::simulator::{Authorization, ProviderName, Settings, Simulator, StartError, read_ledger};

use crate::client::*;

pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("simulator-{}-{name}.jsonl", std::process::id()));
        let _ = fs::remove_file(&path);
        Self(path)
    }

    fn settings(&self) -> Settings {
        Settings {
            ledger: Some(self.0.clone()),
            ..Settings::default()
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_restarted_simulator_remembers_captures_keys_and_refusals() {
    let scratch = Scratch::new("restart");
    let simulator = Simulator::start(scratch.settings()).await.unwrap();
    simulator.create_authorization(Authorization::new(ProviderName::Afterpay, "7", 10_000, "USD"));
    let body = afterpay_body("k1", "60.00");
    let (_, first) = sent(afterpay(&simulator, "7", &body)).await;
    let (refused, _) = sent(afterpay(&simulator, "7", &afterpay_body("k2", "60.00"))).await;
    assert_eq!(refused, 422);
    let ledger = simulator.ledger();
    simulator.stop().await;

    assert_eq!(read_ledger(&scratch.0).unwrap(), ledger.captures);
    let simulator = Simulator::start(scratch.settings()).await.unwrap();
    assert_eq!(simulator.ledger(), ledger);
    let (_, again) = sent(afterpay(&simulator, "7", &body)).await;
    assert_eq!(again, first);
    simulator.create_authorization(Authorization::new(ProviderName::Afterpay, "7", 99_999, "USD"));
    let (refused, _) = sent(afterpay(&simulator, "7", &afterpay_body("k2", "60.00"))).await;
    assert_eq!(refused, 422);
    assert_eq!(simulator.counts().replays, 2);
    assert_eq!(simulator.ledger().captured_minor("7"), 6000);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_a_damaged_one_is_an_error() {
    let scratch = Scratch::new("torn");
    let simulator = Simulator::start(scratch.settings()).await.unwrap();
    simulator.create_authorization(Authorization::new(ProviderName::Afterpay, "7", 10_000, "USD"));
    sent(afterpay(&simulator, "7", &afterpay_body("k1", "10.00"))).await;
    simulator.stop().await;
    let whole = fs::read(&scratch.0).unwrap();

    let mut torn = whole.clone();
    torn.extend_from_slice(br#"{"kind":"capt"#);
    fs::write(&scratch.0, &torn).unwrap();
    assert_eq!(read_ledger(&scratch.0).unwrap().len(), 1);
    let simulator = Simulator::start(scratch.settings()).await.unwrap();
    sent(afterpay(&simulator, "7", &afterpay_body("k2", "10.00"))).await;
    simulator.stop().await;
    assert_eq!(read_ledger(&scratch.0).unwrap().len(), 2);

    torn.push(b'\n');
    fs::write(&scratch.0, &torn).unwrap();
    assert!(read_ledger(&scratch.0).is_err());
}

#[tokio::test]
async fn two_simulators_never_write_one_ledger() {
    let scratch = Scratch::new("lock");
    let _first = Simulator::start(scratch.settings()).await.unwrap();
    let second = Simulator::start(scratch.settings()).await;
    assert!(matches!(second.err(), Some(StartError::Ledger(_))));
}

#[tokio::test]
async fn the_line_is_on_disk_before_the_answer_arrives() {
    let scratch = Scratch::new("before");
    let simulator = Simulator::start(scratch.settings()).await.unwrap();
    for id in 0..20 {
        let id = id.to_string();
        simulator.create_authorization(Authorization::new(ProviderName::Afterpay, &id, 10_000, "USD"));
        let (status, _) = sent(afterpay(&simulator, &id, &afterpay_body("k", "10.00"))).await;
        assert_eq!(status, 201);
        let on_disk = read_ledger(&scratch.0).unwrap();
        assert!(on_disk.iter().any(|entry| entry.payment_id == id));
    }
}

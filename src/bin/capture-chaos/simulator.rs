//! The simulated providers, a process of their own with a ledger that is synced before anybody is answered.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

#[derive(Debug)]
pub struct Simulator {
    child: Child,
    control: String,
    pub address: SocketAddr,
    pub ledger: PathBuf,
}

impl Simulator {
    pub async fn start(binary: &Path, directory: &Path, seed: u64, per_mille: u16) -> anyhow::Result<Simulator> {
        let ledger = directory.join("ledger");
        let mut child = Command::new(binary)
            .args(["simulate", "-o", "json", "--auto-authorize", "--until-stdin-closes"])
            .args(["--limits", "resolve=none", "--seed", &seed.to_string(), "--ledger"])
            .arg(&ledger)
            .arg("--faults")
            .arg(format!(
                "lossy={per_mille}/1000,reads={per_mille}/1000,declines={}/1000,limits={}/1000",
                per_mille / 5,
                per_mille / 10
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(directory.join("simulator.log"))?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        let stdout = child.stdout.take().context("the simulator has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut text = String::new();
        let told: Value = loop {
            let Some(line) = lines.next_line().await? else {
                bail!("the simulator ended at its start; it said {text:?}");
            };
            text.push_str(&line);
            if let Ok(told) = serde_json::from_str(&text) {
                break told;
            }
        };
        let control = told
            .get("control")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let address = control
            .trim_start_matches("http://")
            .split('/')
            .next()
            .unwrap_or_default();
        let address = address
            .parse()
            .with_context(|| format!("the simulator is at {control:?}"))?;
        let simulator = Simulator {
            child,
            control,
            address,
            ledger,
        };
        // Silences outlast the worker's patience; what comes late comes within its longest call.
        let pace =
            r#"{"silence_ms":4000,"late_after_ms":3000,"running_for_ms":1500,"pending_for_ms":2000,"drip_ms":500}"#;
        simulator.tell("pace", pace.to_owned()).await?;
        Ok(simulator)
    }

    /// Sends a document to its control API.
    pub async fn tell(&self, what: &str, document: String) -> anyhow::Result<()> {
        let answer = reqwest::Client::new()
            .post(format!("{}/{what}", self.control))
            .body(document)
            .send()
            .await?;
        if !answer.status().is_success() {
            bail!(
                "the simulator refuses {what}: {}",
                answer.text().await.unwrap_or_default()
            );
        }
        Ok(())
    }

    /// Which faults it played by itself, and how often.
    pub async fn faults(&self) -> anyhow::Result<Value> {
        let counts: Value = reqwest::get(format!("{}/counts", self.control)).await?.json().await?;
        Ok(counts.get("faults").cloned().unwrap_or_default())
    }

    pub async fn stop(mut self) {
        let _gone = self.child.start_kill();
        let _gone = self.child.wait().await;
    }
}

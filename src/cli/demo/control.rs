//! The simulator's control API, and what workers tell of themselves: plain HTTP to our own processes on this machine.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::output::Error;
use crate::simulator::ProviderName;

/// Our own processes on this machine answer at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// A simulator in a process of its own.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Control {
    address: SocketAddr,
}

impl Control {
    /// Its common port.
    pub(in crate::cli) fn new(address: SocketAddr) -> Control {
        Control { address }
    }

    /// Where it is controlled.
    pub(in crate::cli) fn url(&self) -> String {
        format!("http://{}/_simulator", self.address)
    }

    /// Where a provider is called.
    pub(in crate::cli) async fn base_url(&self, provider: ProviderName) -> Result<String, Error> {
        let about = self.get("").await?;
        let url = about["base_urls"][provider.to_string()].as_str().map(str::to_owned);
        url.ok_or_else(|| Error::failed(format!("the simulator tells no address of {provider}")))
    }

    /// `GET /_simulator/…`.
    pub(in crate::cli) async fn get(&self, what: &str) -> Result<Value, Error> {
        understood(&ask(self.address, "GET", &format!("/_simulator/{what}"), "").await?)
    }

    /// `POST /_simulator/…`.
    pub(in crate::cli) async fn post(&self, what: &str, document: Value) -> Result<(), Error> {
        ask(
            self.address,
            "POST",
            &format!("/_simulator/{what}"),
            &document.to_string(),
        )
        .await?;
        Ok(())
    }

    /// The next captures at a provider go wrong in these ways.
    pub(in crate::cli) async fn script(&self, provider: ProviderName, fault: &str, times: usize) -> Result<(), Error> {
        let faults = vec![fault; times];
        self.post(
            "faults",
            json!({ "script": { "provider": provider, "faults": faults } }),
        )
        .await
    }
}

/// How many calls a worker has in flight, by its metrics; `None` if it does not answer.
pub(super) async fn calls_in_flight(metrics: SocketAddr) -> Option<u64> {
    let text = ask(metrics, "GET", "/metrics", "").await.ok()?;
    let gauges = text.lines().filter(|line| line.starts_with("capture_calls_in_flight{"));
    Some(
        gauges
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum(),
    )
}

fn understood(body: &str) -> Result<Value, Error> {
    serde_json::from_str(body).map_err(|error| Error::failed(format!("the simulator gave no JSON: {error}")))
}

/// One request, one connection. Returns the body of a 2xx.
async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<String, Error> {
    let told = |what: String| Error::failed(format!("{method} http://{address}{path}: {what}"));
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(Ok(answer)) => String::from_utf8_lossy(&answer).into_owned(),
        Ok(Err(error)) => return Err(told(error.to_string())),
        Err(_) => return Err(told("no answer".to_owned())),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    match status.starts_with('2') {
        true => Ok(body.to_owned()),
        false => Err(told(format!("{status} {body}"))),
    }
}

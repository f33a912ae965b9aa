//! `health`: asks a running worker over HTTP, for containers that have no other client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Subcommand;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::context::Context;
use super::output::{Column, Error, Exit};

/// How long an answer may take: longer than the worker's own check.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of an answer.
const MOST_BYTES: u64 = 64 << 10;

/// What to ask.
#[derive(Debug, Subcommand)]
pub enum HealthVerb {
    /// Does the process turn? 0 yes, 7 no, 8 nobody answers
    Live(Asked),
    /// May it be given work? 0 yes, 7 no, 8 nobody answers
    Ready(Asked),
}

/// Whom to ask.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// The worker's address, http://host:port; else telemetry.listen
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Runs it.
pub async fn run(verb: HealthVerb, context: &Context) -> Result<Exit, Error> {
    let (asked, what) = match &verb {
        HealthVerb::Live(asked) => (asked, "live"),
        HealthVerb::Ready(asked) => (asked, "ready"),
    };
    let authority = authority(asked, context)?;
    let path = format!("/health/{what}");
    let answer = tokio::time::timeout(PATIENCE, get(&authority, &path)).await;
    let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let (status, body) = answer.map_err(|error| Error::unreachable(format!("{authority} cannot be asked: {error}")))?;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    if body.get(what).is_none() {
        return Err(Error::failed(format!(
            "what answers at {authority} is no worker (status {status})"
        )));
    }
    let reason = body.get("reason").and_then(serde_json::Value::as_str);
    let well = status == 200;
    context.output.record(
        &[Column::text(what), Column::text("reason")],
        &[well.into(), reason.into()],
    )?;
    Ok(if well { Exit::Done } else { Exit::CheckTripped })
}

/// `host:port` of the worker.
fn authority(asked: &Asked, context: &Context) -> Result<String, Error> {
    if let Some(url) = &asked.url {
        let wrong = |what: &str| Error::usage(format!("--url: {what}")).hint("write it like http://127.0.0.1:9090");
        let url = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if url.scheme() != "http" {
            return Err(wrong("a worker speaks plain http"));
        }
        let host = url.host_str().ok_or_else(|| wrong("there is no host"))?;
        return Ok(format!("{host}:{}", url.port_or_known_default().unwrap_or(80)));
    }
    let listen = context.settings()?.telemetry.listen.ok_or_else(|| {
        Error::usage("no worker is named").hint("give --url, or the telemetry.listen of the worker's settings")
    })?;
    if listen.port() == 0 {
        return Err(
            Error::usage("telemetry.listen takes any free port").hint("give --url; the worker logs its address")
        );
    }
    Ok(reachable(listen).to_string())
}

/// Who listens on every address is asked on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// One GET; the connection is closed behind the answer.
async fn get(authority: &str, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(authority).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\naccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let unreadable = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer is no HTTP");
    match head.parse(&answer) {
        Ok(httparse::Status::Complete(length)) => {
            let status = head.code.ok_or_else(unreadable)?;
            Ok((status, answer.get(length..).unwrap_or_default().to_vec()))
        }
        _ => Err(unreadable()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_at_home() {
        let asked = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:9090"), "127.0.0.1:9090");
        assert_eq!(asked("[::]:9090"), "[::1]:9090");
        assert_eq!(asked("10.0.0.7:9090"), "10.0.0.7:9090");
    }
}

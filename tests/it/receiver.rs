//! A receiver of webhooks on a loopback port, that keeps what came and answers as it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What it does with a message, once it has it.
#[derive(Debug, Clone)]
pub enum Manner {
    /// Answers with this status.
    Status(u16),
    /// And with these lines of head.
    With(u16, &'static str),
    /// Never answers.
    Hang,
    /// Never answers what comes to a path below this one, and does not count it.
    HangBelow(&'static str),
    /// Takes it, and loses the connection before the answer, every so many times.
    Cut(usize),
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

#[derive(Clone)]
pub struct Receiver {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    manner: Arc<Mutex<Manner>>,
    count: watch::Sender<usize>,
}

impl Receiver {
    pub async fn start(manner: Manner) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Receiver {
            address: listener.local_addr().unwrap(),
            got: Arc::default(),
            manner: Arc::new(Mutex::new(manner)),
            count: watch::Sender::new(0),
        };
        let this = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move { this.serve(stream).await });
            }
        });
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn now(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Until so many messages have come.
    pub async fn until(&self, count: usize) {
        let mut counted = self.count.subscribe();
        counted.wait_for(|now| *now >= count).await.unwrap();
    }

    /// Answers requests of one connection, one after the other; `None`: it is over.
    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let head = loop {
                if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                    break end + 4;
                }
                read_more(&mut stream, &mut buffer).await?;
            };
            let text = String::from_utf8(buffer[..head].to_vec()).ok()?;
            let mut lines = text.lines();
            let path = lines.next()?.split(' ').nth(1)?.to_owned();
            let headers: BTreeMap<String, String> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let length: usize = headers.get("content-length")?.parse().ok()?;
            while buffer.len() < head + length {
                read_more(&mut stream, &mut buffer).await?;
            }
            let body = buffer[head..head + length].to_vec();
            buffer.drain(..head + length);
            let manner = self.manner.lock().unwrap().clone();
            if matches!(manner, Manner::HangBelow(place) if path.starts_with(place)) {
                let _ = stream.read(&mut [0; 1]).await;
                return None;
            }
            let count = {
                let mut got = self.got.lock().unwrap();
                got.push(Got { path, headers, body });
                got.len()
            };
            self.count.send_replace(count);
            let (status, more) = match manner {
                Manner::Status(status) => (status, ""),
                Manner::With(status, more) => (status, more),
                Manner::Hang => {
                    // Until the other side gives up.
                    let _ = stream.read(&mut [0; 1]).await;
                    return None;
                }
                Manner::Cut(every) if count.is_multiple_of(every) => return None,
                Manner::Cut(_) | Manner::HangBelow(_) => (204, ""),
            };
            let answer = format!("HTTP/1.1 {status} Told\r\n{more}content-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
    }
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}

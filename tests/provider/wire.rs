//! A raw TCP server that plays a script. It speaks just enough HTTP to know where a request ends.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to do with one request.
#[derive(Debug, Clone)]
pub enum Step {
    /// Answer whole, keep the connection.
    Answer(Vec<u8>),
    /// Answer these bytes, then end the connection like that.
    Then(Vec<u8>, End),
    /// Before the body is read: end the connection like that.
    AtHead(End),
    /// Answer whole, keep the connection, and end it while it idles.
    Idle(Vec<u8>, Duration, End),
    /// Answer these bytes at once, then the rest byte by byte.
    Drip(Vec<u8>, Vec<u8>, Duration),
    /// A head, then a body that never ends.
    Bomb,
    /// Wait, then answer whole.
    Late(Duration, Vec<u8>),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Close,
    Reset,
    /// Not at all: silence until the other side goes.
    Silence,
}

/// What a request is for, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Capture,
    Token,
    Other,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub kind: Kind,
    pub method: String,
    pub target: String,
    pub raw: Vec<u8>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn head(&self) -> String {
        let head = &self.raw[..self.raw.len() - self.body.len()];
        String::from_utf8_lossy(head).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let prefix = format!("{}:", name.to_ascii_lowercase());
        let head = self.head();
        let mut lines = head
            .lines()
            .filter(|line| line.to_ascii_lowercase().starts_with(&prefix));
        lines.next().map(|line| line[prefix.len()..].trim().to_owned())
    }
}

type Usual = dyn Fn(&Seen) -> Step + Send + Sync;

/// What the server does: a script for each kind of request, and what is usual when a script is at its end.
pub struct Script {
    pub captures: Vec<Step>,
    pub others: Vec<Step>,
    pub tokens: Vec<Step>,
    /// What happens to a new connection before a byte of it is read; `None` is usual.
    pub accepts: Vec<Option<End>>,
    pub usual: Box<Usual>,
}

struct Shared {
    captures: Mutex<VecDeque<Step>>,
    others: Mutex<VecDeque<Step>>,
    tokens: Mutex<VecDeque<Step>>,
    accepts: Mutex<VecDeque<Option<End>>>,
    usual: Box<Usual>,
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
    written: Mutex<usize>,
}

/// The server, until it is dropped.
pub struct Wire {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    pub async fn start(script: Script) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            captures: Mutex::new(script.captures.into()),
            others: Mutex::new(script.others.into()),
            tokens: Mutex::new(script.tokens.into()),
            accepts: Mutex::new(script.accepts.into()),
            usual: script.usual,
            seen: Mutex::default(),
            connections: Mutex::default(),
            written: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Wire { address, shared, task }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn captures(&self) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.kind == Kind::Capture)
            .collect()
    }

    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Bytes of endless bodies that the other side took.
    pub fn written(&self) -> usize {
        *self.shared.written.lock().unwrap()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        *shared.connections.lock().unwrap() += 1;
        let first = shared.accepts.lock().unwrap().pop_front().flatten();
        match first {
            Some(end) => {
                tokio::spawn(finish(stream, end));
            }
            None => {
                tokio::spawn(serve(stream, shared.clone()));
            }
        }
    }
}

async fn finish(mut stream: TcpStream, end: End) {
    match end {
        End::Close => drop(stream),
        End::Reset => {
            stream.set_zero_linger().unwrap();
            drop(stream);
        }
        End::Silence => {
            let mut sink = [0; 1024];
            while matches!(stream.read(&mut sink).await, Ok(read) if read > 0) {}
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    loop {
        let Some(head_end) = read_until_head(&mut stream, &mut buffer).await else {
            return;
        };
        let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
        let mut seen = parse(&head);
        let queue = match seen.kind {
            Kind::Capture => &shared.captures,
            Kind::Token => &shared.tokens,
            Kind::Other => &shared.others,
        };
        let scripted = queue.lock().unwrap().pop_front();
        if let Some(Step::AtHead(end)) = scripted {
            seen.raw = buffer.clone();
            shared.seen.lock().unwrap().push(seen);
            return finish(stream, end).await;
        }
        let length = head_end + content_length(&head);
        while buffer.len() < length {
            if read_some(&mut stream, &mut buffer).await.is_none() {
                seen.raw = buffer.clone();
                shared.seen.lock().unwrap().push(seen);
                return;
            }
        }
        seen.raw = buffer[..length].to_vec();
        seen.body = buffer[head_end..length].to_vec();
        buffer.drain(..length);
        shared.seen.lock().unwrap().push(seen.clone());
        let step = scripted.unwrap_or_else(|| (shared.usual)(&seen));
        match step {
            Step::Answer(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Late(wait, bytes) => {
                tokio::time::sleep(wait).await;
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Then(bytes, end) => {
                let _ = stream.write_all(&bytes).await;
                note_what_came(&stream, buffer, &shared);
                return finish(stream, end).await;
            }
            Step::Idle(bytes, wait, end) => {
                let _ = stream.write_all(&bytes).await;
                tokio::time::sleep(wait).await;
                note_what_came(&stream, buffer, &shared);
                return finish(stream, end).await;
            }
            Step::Drip(at_once, rest, pause) => {
                let _ = stream.write_all(&at_once).await;
                for byte in rest {
                    tokio::time::sleep(pause).await;
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                }
            }
            Step::Bomb => {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n")
                    .await;
                let spaces = [b' '; 16 * 1024];
                while stream.write_all(&spaces).await.is_ok() {
                    *shared.written.lock().unwrap() += spaces.len();
                }
                return;
            }
            Step::AtHead(_) => unreachable!("handled above"),
        }
    }
}

/// A request that came behind the answer, before the connection is ended: it is on the wire, though nobody answers it.
fn note_what_came(stream: &TcpStream, mut buffer: Vec<u8>, shared: &Shared) {
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stream.try_read(&mut chunk) {
        buffer.extend_from_slice(&chunk[..read]);
    }
    if let Some(head_end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
        let mut seen = parse(&String::from_utf8_lossy(&buffer[..head_end + 4]));
        seen.raw = buffer;
        shared.seen.lock().unwrap().push(seen);
    }
}

async fn read_some(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 4096];
    match stream.read(&mut chunk).await {
        Ok(0) => None,
        Ok(read) => {
            buffer.extend_from_slice(&chunk[..read]);
            Some(())
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Some(()),
        Err(_) => None,
    }
}

async fn read_until_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            return Some(at + 4);
        }
        read_some(stream, buffer).await?;
    }
}

fn content_length(head: &str) -> usize {
    let value = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length:")
            .map(str::to_owned)
    });
    value.map_or(0, |value| value.trim().parse().unwrap())
}

fn parse(head: &str) -> Seen {
    let mut words = head.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let kind = match () {
        () if method == "POST" && target.ends_with("/capture") => Kind::Capture,
        () if method == "POST" && target.ends_with("/token") => Kind::Token,
        () => Kind::Other,
    };
    Seen {
        kind,
        method,
        target,
        raw: Vec::new(),
        body: Vec::new(),
    }
}

/// A whole HTTP answer with a JSON body.
pub fn json(status: u16, body: &str) -> Vec<u8> {
    with(status, &[("content-type", "application/json")], body)
}

/// A whole HTTP answer.
pub fn with(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status} Something\r\n");
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    answer.into_bytes()
}

//! The proxy between one worker and the providers. It knows where a request ends and whether it moves money, and so can
//! lose, cut, delay or repeat it, or its answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::exchange::{AnswerHead, Errand, Found, Request, answer, request};
use super::kind::Kind;
use super::schedule::Step;
use super::stage::{Reach, Stage, may_pass};

/// How long a delivery goes on when nobody waits for its answer any more: longer than the provider's silences.
const DELIVERY: Duration = Duration::from_secs(30);

/// Takes connections of one worker, for ever.
pub async fn serve(listener: TcpListener, worker: usize, stage: Arc<Stage>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let stage = Arc::clone(&stage);
        tokio::spawn(async move {
            let _ = client.set_nodelay(true);
            let Some(reach) = stage.provider.get(worker).map(watch::Sender::subscribe) else {
                return;
            };
            let mut door = Door { worker, stage, reach };
            let _broken = door.pass(client).await;
        });
    }
}

struct Door {
    worker: usize,
    stage: Arc<Stage>,
    reach: watch::Receiver<Reach>,
}

enum Next {
    /// Another request may come on the same connection.
    Go,
    Reset,
    Close,
}

impl Door {
    async fn pass(&mut self, mut client: TcpStream) -> io::Result<()> {
        let mut upstream: Option<TcpStream> = None;
        let mut inbox = BytesMut::new();
        loop {
            let asked = match request(&inbox) {
                Found::Whole(asked) => asked,
                Found::Nonsense => return Ok(()),
                Found::Partial => {
                    if client.read_buf(&mut inbox).await? == 0 {
                        return Ok(());
                    }
                    continue;
                }
            };
            if matches!(asked.errand, Errand::Capture { .. }) {
                self.stage.posted(&asked.path, chrono::Utc::now());
            }
            if !may_pass(&mut self.reach).await {
                return client.set_zero_linger();
            }
            let bytes = inbox.split_to(asked.length).freeze();
            match self.one(&mut client, &mut upstream, &asked, bytes).await? {
                Next::Go => {}
                Next::Reset => return client.set_zero_linger(),
                Next::Close => return Ok(()),
            }
        }
    }

    async fn one(
        &mut self,
        client: &mut TcpStream,
        upstream: &mut Option<TcpStream>,
        asked: &Request,
        bytes: Bytes,
    ) -> io::Result<Next> {
        if let Some(step) = self.before(asked.errand) {
            match step.kind {
                Kind::PostDeliveredLate => {
                    // Whoever waits is left without a word; what it sent arrives all the same.
                    let delay = Duration::from_millis(step.for_ms);
                    self.deliver(bytes, delay, Some(step.kind));
                    let mut rest = [0; 1024];
                    while client.read(&mut rest).await? > 0 {}
                    return Ok(Next::Close);
                }
                Kind::PostDeliveredTwice => {
                    self.deliver(bytes.clone(), Duration::from_millis(step.for_ms), Some(step.kind));
                }
                Kind::PostCut => {
                    let end = cut_at(step, bytes.len());
                    if let Ok(mut provider) = TcpStream::connect(self.stage.simulator).await {
                        provider.write_all(bytes.get(..end).unwrap_or_default()).await?;
                        self.stage.bit(step.kind);
                    }
                    return Ok(Next::Reset);
                }
                _ => {
                    self.stage.bit(step.kind);
                    return Ok(Next::Reset);
                }
            }
        }
        let mut provider = match upstream.take() {
            Some(provider) => provider,
            None => match TcpStream::connect(self.stage.simulator).await {
                Ok(provider) => provider,
                Err(_) => return Ok(Next::Reset),
            },
        };
        let _ = provider.set_nodelay(true);
        provider.write_all(&bytes).await?;
        let after = match asked.errand {
            Errand::Capture { .. } => self.stage.springs(&[Kind::PostAnswerReset, Kind::KilledAfterPost]),
            Errand::Read | Errand::Other => None,
        };
        if let Some(step) = after {
            if step.kind != Kind::KilledAfterPost || self.stage.signal(self.worker, Signal::KILL) {
                self.stage.bit(step.kind);
            }
            tokio::spawn(drain(provider));
            return Ok(Next::Reset);
        }
        let next = self.answer(client, &mut provider, asked.errand).await?;
        if matches!(next, Next::Go) {
            *upstream = Some(provider);
        }
        Ok(next)
    }

    fn before(&self, errand: Errand) -> Option<Step> {
        use Kind::*;
        match errand {
            Errand::Capture { keyed: true } => {
                self.stage
                    .springs(&[PostReset, PostCut, PostDeliveredLate, PostDeliveredTwice])
            }
            // No network delivers one request twice; a box that repeats requests does. Where the provider knows no key
            // that is a second capture which no client can prevent, so it is played only where there is one.
            Errand::Capture { keyed: false } => self.stage.springs(&[PostReset, PostCut, PostDeliveredLate]),
            Errand::Read | Errand::Other => None,
        }
    }

    /// Delivers a request on a connection of its own, and listens to the answer, which nobody gets.
    fn deliver(&self, bytes: Bytes, after: Duration, kind: Option<Kind>) {
        let stage = Arc::clone(&self.stage);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let Ok(mut provider) = TcpStream::connect(stage.simulator).await else {
                return;
            };
            if provider.write_all(&bytes).await.is_ok() {
                if let Some(kind) = kind {
                    stage.bit(kind);
                }
                drain(provider).await;
            }
        });
    }

    /// Passes the answer on as it comes, unless something is to happen to it.
    async fn answer(&mut self, client: &mut TcpStream, provider: &mut TcpStream, errand: Errand) -> io::Result<Next> {
        use Kind::*;
        let kinds: &[Kind] = match errand {
            Errand::Capture { .. } => &[AnswerSwallowed, AnswerCut, AnswerStalled],
            Errand::Read => &[ReadSwallowed, FrozenAfterRead],
            Errand::Other => &[],
        };
        let struck = self.stage.springs(kinds);
        let mut told = BytesMut::new();
        let mut passed = 0;
        let mut head: Option<AnswerHead> = None;
        let mut probe = [0; 1];
        loop {
            tokio::select! {
                read = provider.read_buf(&mut told) => match read {
                    Ok(0) | Err(_) => {
                        if told.is_empty() {
                            self.stage.provider_resets.fetch_add(1, Ordering::Relaxed);
                        }
                        // What was kept back for a blow that cannot be struck now is passed on.
                        client.write_all(told.get(passed..).unwrap_or_default()).await?;
                        if let Some(step) = struck {
                            self.stage.back(step);
                        }
                        return Ok(if told.is_empty() { Next::Reset } else { Next::Close });
                    }
                    Ok(_) => {}
                },
                left = client.peek(&mut probe) => {
                    // Gone, or a second request before the first is answered, which no client of ours sends.
                    if let Some(step) = struck {
                        self.stage.back(step);
                    }
                    left?;
                    return Ok(Next::Close);
                }
            }
            if !may_pass(&mut self.reach).await {
                return Ok(Next::Reset);
            }
            if head.is_none() {
                match answer(&told) {
                    Found::Whole(found) => {
                        if found.status == 429 {
                            self.stage.limited.fetch_add(1, Ordering::Relaxed);
                        }
                        head = Some(found);
                    }
                    Found::Partial => {}
                    Found::Nonsense => {
                        head = Some(AnswerHead {
                            status: 0,
                            head: 0,
                            length: None,
                        });
                    }
                }
            }
            let length = head.and_then(|head| head.length);
            let whole = length.is_some_and(|length| told.len() >= length);
            match (struck, head) {
                (Some(step), Some(head)) if whole => return self.strike(step, head, &told, client).await,
                (Some(_), _) => {}
                (None, _) => {
                    client.write_all(told.get(passed..).unwrap_or_default()).await?;
                    passed = told.len();
                    if whole {
                        return Ok(Next::Go);
                    }
                }
            }
        }
    }

    async fn strike(&self, step: Step, head: AnswerHead, told: &[u8], client: &mut TcpStream) -> io::Result<Next> {
        match step.kind {
            Kind::AnswerCut => {
                self.stage.bit(step.kind);
                let end = cut_at(step, told.len());
                client.write_all(told.get(..end).unwrap_or_default()).await?;
                client.shutdown().await?;
                Ok(Next::Close)
            }
            Kind::AnswerStalled => {
                self.stage.bit(step.kind);
                client.write_all(told.get(..head.head).unwrap_or_default()).await?;
                let mut rest = [0; 1024];
                while client.read(&mut rest).await? > 0 {}
                Ok(Next::Close)
            }
            Kind::FrozenAfterRead => {
                match self.stage.freeze(self.worker, step.for_ms) {
                    true => self.stage.bit(step.kind),
                    false => self.stage.back(step),
                }
                client.write_all(told).await?;
                Ok(Next::Go)
            }
            _ => {
                self.stage.bit(step.kind);
                Ok(if step.draw.is_multiple_of(2) {
                    Next::Close
                } else {
                    Next::Reset
                })
            }
        }
    }
}

/// Where a message ends early: at least one byte short of the whole.
fn cut_at(step: Step, length: usize) -> usize {
    let length = u64::try_from(length.max(1)).unwrap_or(1);
    usize::try_from(step.draw % length).unwrap_or(0)
}

async fn drain(mut provider: TcpStream) {
    let mut rest = [0; 4096];
    let listening = async { while provider.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(DELIVERY, listening).await;
}

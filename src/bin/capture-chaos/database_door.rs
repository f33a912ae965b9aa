//! The proxy between one worker and the database. It frames the protocol's messages, knows which of them is a claim, a
//! settle or a claim given back, and so can strike at the commit: before it reaches the server, or just after it did.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use super::frames::{Class, Opening, Statements, message, opening, sqlstate};
use super::kind::Kind;
use super::schedule::Step;
use super::stage::{Primary, Reach, Stage, may_pass};
use rustix::process::Signal;

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
            let Some(reach) = stage.database.get(worker).map(watch::Sender::subscribe) else {
                return;
            };
            let primary = stage.primary.subscribe();
            let door = Door {
                worker,
                stage,
                reach,
                primary,
            };
            let _broken = door.pass(client).await;
        });
    }
}

struct Door {
    worker: usize,
    stage: Arc<Stage>,
    reach: watch::Receiver<Reach>,
    primary: watch::Receiver<Primary>,
}

/// A request whose answer has not come to its end.
struct Cycle {
    class: Class,
    rows: bool,
    failed: bool,
    /// Of what may be struck, the answer is kept back until it is whole.
    kept: BytesMut,
}

/// Whether a connection goes on.
enum Next {
    Go,
    Reset,
    Close,
}

impl Door {
    async fn pass(mut self, mut client: TcpStream) -> io::Result<()> {
        if !may_pass(&mut self.reach).await {
            return client.set_zero_linger();
        }
        let mut from_client = BytesMut::new();
        let startup = loop {
            match opening(&from_client) {
                Some((Opening::Encryption, length)) => {
                    from_client.advance(length);
                    client.write_all(b"N").await?;
                }
                Some((Opening::Cancel | Opening::Startup, length)) => break from_client.split_to(length).freeze(),
                None => {
                    if client.read_buf(&mut from_client).await? == 0 {
                        return Ok(());
                    }
                }
            }
        };
        let Some(socket) = self.primary.borrow_and_update().socket.clone() else {
            return client.set_zero_linger();
        };
        let Ok(mut server) = UnixStream::connect(&socket).await else {
            return client.set_zero_linger();
        };
        server.write_all(&startup).await?;
        match self.relay(&mut client, &mut server, from_client).await {
            Ok(Next::Reset) => client.set_zero_linger(),
            Ok(Next::Close | Next::Go) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn relay(
        &mut self,
        client: &mut TcpStream,
        server: &mut UnixStream,
        mut from_client: BytesMut,
    ) -> io::Result<Next> {
        let mut from_server = BytesMut::new();
        let mut asked = BytesMut::new();
        let mut class = Class::Nothing;
        let mut statements = Statements::default();
        let mut cycles: VecDeque<Cycle> = VecDeque::new();
        loop {
            tokio::select! {
                read = client.read_buf(&mut from_client) => {
                    if read? == 0 {
                        return Ok(Next::Close);
                    }
                }
                read = server.read_buf(&mut from_server) => {
                    if read? == 0 {
                        return Ok(Next::Close);
                    }
                }
                changed = self.primary.changed() => {
                    // Another server, or none: what the old one still says is not heard.
                    return Ok(if changed.is_ok() { Next::Reset } else { Next::Close });
                }
                _ = self.reach.changed() => {}
            }
            if !may_pass(&mut self.reach).await {
                return Ok(Next::Reset);
            }
            while let Some((kind, length)) = message(&from_client) {
                let whole = from_client.split_to(length);
                class = statements.runs(&whole).unwrap_or(class);
                asked.extend_from_slice(&whole);
                // Sync, query and function call end a cycle; a flush, a termination or a password is passed on at once.
                let ends = matches!(kind, b'S' | b'Q' | b'F');
                if ends || matches!(kind, b'H' | b'X' | b'p') {
                    let request = asked.split().freeze();
                    match self
                        .forward(request, if ends { class } else { Class::Nothing }, server)
                        .await?
                    {
                        Next::Go => {}
                        other => return Ok(other),
                    }
                }
                if ends {
                    cycles.push_back(Cycle {
                        class,
                        rows: false,
                        failed: false,
                        kept: BytesMut::new(),
                    });
                    class = Class::Nothing;
                }
            }
            while let Some((kind, length)) = message(&from_server) {
                let whole = from_server.split_to(length).freeze();
                match self.backward(kind, whole, &mut cycles, client).await? {
                    Next::Go => {}
                    other => return Ok(other),
                }
            }
        }
    }

    /// A whole request of the client, about to reach the server.
    async fn forward(&self, request: Bytes, class: Class, server: &mut UnixStream) -> io::Result<Next> {
        let kinds: &[Kind] = match class {
            Class::Claim => &[Kind::ClaimReset],
            Class::Settle => &[Kind::SettleReset, Kind::SettleStalled, Kind::KilledBeforeSettle],
            Class::Other => &[Kind::StatementReset],
            Class::GiveBack | Class::Nothing => &[],
        };
        if let Some(step) = self.stage.springs(kinds) {
            match step.kind {
                Kind::SettleStalled => {
                    self.stage.bit(step.kind);
                    tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
                }
                Kind::KilledBeforeSettle => {
                    self.kill(step);
                    return Ok(Next::Reset);
                }
                _ => {
                    self.stage.bit(step.kind);
                    return Ok(Next::Reset);
                }
            }
        }
        server.write_all(&request).await?;
        Ok(Next::Go)
    }

    /// A whole message of the server, about to reach the client.
    async fn backward(
        &self,
        kind: u8,
        whole: Bytes,
        cycles: &mut VecDeque<Cycle>,
        client: &mut TcpStream,
    ) -> io::Result<Next> {
        if let (b'E' | b'N', Some(code)) = (kind, sqlstate(&whole)) {
            self.stage.answered_with(&code);
        }
        let Some(cycle) = cycles.front_mut() else {
            // The greeting, or a notification.
            client.write_all(&whole).await?;
            return Ok(Next::Go);
        };
        cycle.rows |= kind == b'D';
        cycle.failed |= kind == b'E';
        cycle.kept.extend_from_slice(&whole);
        // "Ready" is the end of an answer: only then is a statement that stands alone committed.
        let ended = kind == b'Z';
        let struck = matches!(cycle.class, Class::Claim | Class::Settle | Class::GiveBack);
        if struck && !ended {
            return Ok(Next::Go);
        }
        let answer = cycle.kept.split().freeze();
        let took_effect = !cycle.failed && (cycle.class != Class::Claim || cycle.rows);
        let class = cycle.class;
        if ended {
            cycles.pop_front();
        }
        if struck && took_effect {
            return self.answer(class, answer, client).await;
        }
        client.write_all(&answer).await?;
        Ok(Next::Go)
    }

    /// The answer of something that was committed.
    async fn answer(&self, class: Class, answer: Bytes, client: &mut TcpStream) -> io::Result<Next> {
        use Kind::*;
        let kinds: &[Kind] = match class {
            Class::Claim => &[
                ClaimSwallowed,
                ClaimStalled,
                ClaimCut,
                KilledAfterClaim,
                FrozenAfterClaim,
            ],
            Class::Settle => &[SettleSwallowed, SettleCut, KilledAfterSettle],
            Class::GiveBack => &[GiveBackSwallowed],
            Class::Other | Class::Nothing => &[],
        };
        let Some(step) = self.stage.springs(kinds) else {
            client.write_all(&answer).await?;
            return Ok(Next::Go);
        };
        match step.kind {
            ClaimStalled => {
                self.stage.bit(step.kind);
                tokio::time::sleep(Duration::from_millis(step.for_ms)).await;
                client.write_all(&answer).await?;
                Ok(Next::Go)
            }
            ClaimCut | SettleCut => {
                self.stage.bit(step.kind);
                // At least one byte short.
                let end = usize::try_from(step.draw % u64::try_from(answer.len().max(1)).unwrap_or(1)).unwrap_or(0);
                client.write_all(answer.get(..end).unwrap_or_default()).await?;
                client.shutdown().await?;
                Ok(Next::Close)
            }
            KilledAfterClaim | KilledAfterSettle => {
                self.kill(step);
                Ok(Next::Reset)
            }
            FrozenAfterClaim => {
                match self.stage.freeze(self.worker, step.for_ms) {
                    true => self.stage.bit(step.kind),
                    false => self.stage.back(step),
                }
                client.write_all(&answer).await?;
                Ok(Next::Go)
            }
            _ => {
                self.stage.bit(step.kind);
                Ok(Next::Reset)
            }
        }
    }

    fn kill(&self, step: Step) {
        if self.stage.signal(self.worker, Signal::KILL) {
            self.stage.bit(step.kind);
        }
    }
}

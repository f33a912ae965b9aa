//! The life of one connection: requests in, answers out, and everything that breaks in between.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    answer::{Answer, Delivery},
    control,
    fault::Fault,
    model::ProviderName,
    record::RequestRecord,
    request::{Head, Inlet, NoRequest, Request},
    respond::{Arrived, respond},
    route::{Call, Route, route},
    simulation::Simulation,
};

const PROVIDER_BODY_MAX_BYTES: usize = 1024 * 1024;
const CONTROL_BODY_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Which port a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// All providers and the control API.
    Common,
    /// One provider.
    Own(ProviderName),
    /// Where redirects lead: whoever comes here has followed one.
    Elsewhere,
}

/// Whether the connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    KeepAlive,
    Close,
    Reset,
}

pub(super) async fn serve(simulation: Arc<Simulation>, mut stream: TcpStream, door: Door) {
    let number = simulation.connections.fetch_add(1, Ordering::Relaxed);
    let _ = stream.set_nodelay(true);
    if let Some(after) = at_accept(&simulation, door) {
        return end(stream, after);
    }
    let mut inlet = Inlet::new();
    loop {
        let head = tokio::select! {
            head = inlet.head(&mut stream) => head,
            () = went_down(&simulation, door) => return end(stream, After::Reset),
        };
        let after = match head {
            Ok(head) => one(&simulation, &mut inlet, &mut stream, door, number, head).await,
            Err(no_request) => Err(no_request),
        };
        match after {
            Ok(After::KeepAlive) => {}
            Ok(after) => return end(stream, after),
            Err(NoRequest::Gone { within }) => {
                simulation.books().counts.incomplete_requests += u64::from(within);
                return;
            }
            Err(NoRequest::Bad(status)) => {
                let _ = deliver(&simulation, &mut stream, &Answer::page(status), Delivery::Whole, false).await;
                return;
            }
        }
    }
}

fn at_accept(simulation: &Simulation, door: Door) -> Option<After> {
    let mut books = simulation.books();
    books.counts.connections += 1;
    let Door::Own(provider) = door else {
        return None;
    };
    let fault = books.script.take_at_accept(provider)?;
    books.counts.ended_at_accept += 1;
    *books.counts.faults.entry(fault.to_string()).or_default() += 1;
    Some(ending(fault))
}

fn ending(fault: Fault) -> After {
    match fault {
        Fault::ResetAtAccept => After::Reset,
        _ => After::Close,
    }
}

fn end(stream: TcpStream, after: After) {
    if after == After::Reset {
        let _ = stream.set_zero_linger();
    }
    drop(stream);
}

async fn went_down(simulation: &Simulation, door: Door) {
    let Door::Own(provider) = door else {
        return std::future::pending().await;
    };
    let mut down = simulation.ports.down.subscribe();
    let is_down = |down: &[bool; 3]| down.get(provider.place()).copied().unwrap_or(false);
    if down.wait_for(is_down).await.is_err() {
        std::future::pending().await
    }
}

async fn one(
    simulation: &Arc<Simulation>,
    inlet: &mut Inlet,
    stream: &mut TcpStream,
    door: Door,
    connection: u64,
    head: Head,
) -> Result<After, NoRequest> {
    let keeps_alive = head.keeps_alive();
    match (route(&head), door) {
        (_, Door::Elsewhere) => {
            inlet.body(stream, &head, PROVIDER_BODY_MAX_BYTES).await?;
            simulation.books().counts.redirects_followed += 1;
            let answer = Answer::json(200, "{}".to_owned());
            deliver(simulation, stream, &answer, Delivery::Whole, keeps_alive).await
        }
        (Route::Control(path), Door::Common) => {
            let body = inlet.body(stream, &head, CONTROL_BODY_MAX_BYTES).await?;
            let answer = control::answer(simulation, &path, &Request { head, body }).await;
            deliver(simulation, stream, &answer, Delivery::Whole, keeps_alive).await
        }
        (Route::Provider(call), _) if door == Door::Common || door == Door::Own(call.model.provider()) => {
            if simulation.ports.is_down(call.model.provider()) {
                return Ok(After::Reset);
            }
            let fault = simulation.books().choose_fault(&call).unwrap_or(Fault::None);
            if fault.at_accept() {
                record(simulation, &call, &head, fault, connection, "");
                return Ok(ending(fault));
            }
            let body = inlet.body(stream, &head, PROVIDER_BODY_MAX_BYTES).await?;
            let body_sha256 = Sha256::digest(&body)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>();
            let seq = record(simulation, &call, &head, fault, connection, &body_sha256);
            let arrived = Arrived {
                call,
                request: Request { head, body },
                fault,
                body_sha256,
                seq,
            };
            let (answer, delivery) = respond(simulation, &arrived).await;
            let answer_after = simulation.books().pace.answer_after;
            if !answer_after.is_zero() {
                tokio::time::sleep(answer_after).await;
            }
            if simulation.ports.is_down(arrived.call.model.provider()) {
                return Ok(After::Reset);
            }
            deliver(simulation, stream, &answer, delivery, keeps_alive).await
        }
        _ => {
            inlet.body(stream, &head, PROVIDER_BODY_MAX_BYTES).await?;
            let answer = Answer::page(404);
            deliver(simulation, stream, &answer, Delivery::Whole, keeps_alive).await
        }
    }
}

fn record(simulation: &Simulation, call: &Call, head: &Head, fault: Fault, connection: u64, body_sha256: &str) -> u64 {
    let record = RequestRecord {
        seq: 0,
        connection,
        provider: Some(call.model.provider()),
        model: Some(call.model),
        operation: call.operation,
        method: head.method.clone(),
        path: head.path().to_owned(),
        account: None,
        payment_id: call.payment_id.clone(),
        key: None,
        reference: None,
        body_sha256: body_sha256.to_owned(),
        arrived_at: simulation.clock.now(),
        fault: Some(fault).filter(|fault| *fault != Fault::None),
        status: None,
        money_moved: false,
        replayed: false,
    };
    let seq = simulation.books().record(record);
    simulation.changed();
    seq
}

/// Sends the answer in the way that the fault wants. A client that has gone is not an error.
async fn deliver(
    simulation: &Simulation,
    stream: &mut TcpStream,
    answer: &Answer,
    delivery: Delivery,
    keeps_alive: bool,
) -> Result<After, NoRequest> {
    let pace = simulation.books().pace;
    let body = answer.body.as_slice();
    let half = body.get(..body.len() / 2).unwrap_or_default();
    let framed = |framing: String, body: &[u8]| {
        let mut bytes = answer.head(simulation.clock.now(), &framing, keeps_alive);
        bytes.extend_from_slice(body);
        bytes
    };
    let sized = |length: usize, body: &[u8]| framed(format!("Content-Length: {length}"), body);
    match delivery {
        Delivery::Whole | Delivery::WholeThenClose => {
            stream.write_all(&sized(body.len(), body)).await?;
            let stays = keeps_alive && delivery == Delivery::Whole;
            Ok(if stays { After::KeepAlive } else { After::Close })
        }
        Delivery::Reset => Ok(After::Reset),
        Delivery::Close => Ok(After::Close),
        Delivery::Silence => Ok(until_gone(stream, pace.silence).await),
        Delivery::Stall => {
            stream.write_all(&sized(body.len(), b"")).await?;
            Ok(until_gone(stream, pace.silence).await)
        }
        Delivery::Drip => {
            for byte in sized(body.len(), body) {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(pace.drip).await;
            }
            Ok(After::Close)
        }
        Delivery::Truncated => {
            stream.write_all(&sized(body.len(), half)).await?;
            Ok(After::Close)
        }
        Delivery::WrongLength => {
            stream.write_all(&sized(body.len() + 100, body)).await?;
            Ok(After::Close)
        }
        Delivery::ChunkCut => {
            let framing = "Transfer-Encoding: chunked".to_owned();
            let mut bytes = framed(framing, format!("{:x}\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(half);
            stream.write_all(&bytes).await?;
            Ok(After::Close)
        }
        Delivery::CutAt(length) => {
            let bytes = sized(body.len(), body);
            let cut = bytes.len().min(length as usize);
            stream.write_all(bytes.get(..cut).unwrap_or_default()).await?;
            Ok(After::Close)
        }
        Delivery::Huge(length) => {
            let framing = "Transfer-Encoding: chunked".to_owned();
            stream.write_all(&framed(framing, b"7\r\n{\"id\":\"\r\n")).await?;
            let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
            for _ in 0..length / 0x10000 {
                stream.write_all(chunk.as_bytes()).await?;
            }
            stream.write_all(b"2\r\n\"}\r\n0\r\n\r\n").await?;
            Ok(After::Close)
        }
    }
}

/// Says nothing more, until the client leaves or the time is over.
async fn until_gone(stream: &mut TcpStream, most: Duration) -> After {
    let mut ignored = [0_u8; 1024];
    let gone = async { while stream.read(&mut ignored).await.is_ok_and(|length| length > 0) {} };
    let _ = timeout(most, gone).await;
    After::Close
}

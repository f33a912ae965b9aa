use std::time::Instant;

use capture::simulator::{Settings, Simulator};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{client::AGENT, ledger::Scratch};

const CONNECTIONS: usize = 64;
const EACH: usize = 500;

/// Client and simulator share one thread, so the simulator alone is faster than this.
#[tokio::test]
#[ignore = "measures; run it in release"]
async fn captures_a_second() {
    for (name, ledger) in [("memory", None), ("file, synced", Some(Scratch::new("rate")))] {
        let settings = Settings {
            auto_authorize: true,
            ledger: ledger.as_ref().map(|scratch| scratch.0.clone()),
            ..Settings::default()
        };
        let simulator = Simulator::start(settings).await.unwrap();
        let began = Instant::now();
        let connections = (0..CONNECTIONS).map(|number| capture_many(&simulator, number));
        futures_util::future::join_all(connections).await;
        let micros = began.elapsed().as_micros();
        let captures = simulator.ledger().captures.len() as u128;
        assert_eq!(captures, (CONNECTIONS * EACH) as u128);
        println!("{name}: {} captures a second", captures * 1_000_000 / micros);
    }
}

async fn capture_many(simulator: &Simulator, number: usize) {
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = Vec::new();
    for place in 0..EACH {
        let id = number * EACH + place;
        let body = format!(
            r#"{{"requestId":"k{id}","amount":{{"amount":"10.00","currency":"USD"}},"paymentEventMerchantReference":"r{id}"}}"#
        );
        let request = format!(
            "POST /afterpay/v2/payments/{id}/capture HTTP/1.1\r\nAuthorization: Basic NDAwMTAxMDEwOnNlY3JldA==\r\n\
             Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: {AGENT}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        answer.clear();
        while !answer.ends_with(b"}") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 201 "));
    }
}

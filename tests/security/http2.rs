//! HTTP/2 spoken by hand, so that every frame is counted: streams that are refused, cut or flooded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use capture::provider::Model;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use crate::ground::Ground;
use crate::merchant::Merchant;
use crate::tls::{Like, SECRET, SETTINGS, acceptor, account, authority, enqueue};
use crate::wire::Kind;

/// What a server does with a stream of HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Manner {
    /// Answers as documented.
    Answers,
    /// Refuses each stream as not processed.
    RefusesStream,
    /// Goes away before it has taken any stream.
    GoesAwayAtOnce,
    /// Goes away when it sees a stream, and says that it did not take it.
    GoesAwayBelowUs,
    /// Goes away when it has seen the whole request, and says nothing of it.
    GoesAwayAfterUs,
    /// Resets the stream after the whole request.
    Cancels,
    /// Ends the connection after the whole request.
    Closes,
    /// Begins an answer whose headers never end.
    EndlessHeaders,
    /// Says "continue" without an end.
    EndlessContinue,
    /// Begins an answer whose body never ends, as fast as it may.
    EndlessBody,
    /// Asks "are you there?" and changes its settings without an end.
    EndlessPings,
}

const MANNERS: [Manner; 11] = [
    Manner::Answers,
    Manner::RefusesStream,
    Manner::GoesAwayAtOnce,
    Manner::GoesAwayBelowUs,
    Manner::GoesAwayAfterUs,
    Manner::Cancels,
    Manner::Closes,
    Manner::EndlessHeaders,
    Manner::EndlessContinue,
    Manner::EndlessBody,
    Manner::EndlessPings,
];

/// What came over one server's connections.
#[derive(Debug, Default)]
struct Streams {
    begun: usize,
    bodies: Vec<Vec<u8>>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Speaks just enough HTTP/2 by hand to know where a request begins and ends.
async fn speak(mut stream: TlsStream<TcpStream>, manner: Manner, streams: Arc<Mutex<Streams>>) -> std::io::Result<()> {
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let goes_away = |last: u32| frame(7, 0, 0, &[last.to_be_bytes(), 0u32.to_be_bytes()].concat());
    stream.write_all(&frame(4, 0, 0, &[])).await?;
    if manner == Manner::GoesAwayAtOnce {
        stream.write_all(&goes_away(0)).await?;
    }
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        let last = flags & 1 != 0;
        match kind {
            1 => {
                streams.lock().unwrap().begun += 1;
                body.clear();
                match manner {
                    Manner::RefusesStream => stream.write_all(&frame(3, 0, id, &7u32.to_be_bytes())).await?,
                    Manner::GoesAwayBelowUs => stream.write_all(&goes_away(0)).await?,
                    _ => {}
                }
            }
            0 => body.extend_from_slice(&payload),
            4 if flags & 1 == 0 => stream.write_all(&frame(4, 1, 0, &[])).await?,
            _ => {}
        }
        if !(matches!(kind, 0 | 1) && last) {
            continue;
        }
        streams.lock().unwrap().bodies.push(body.clone());
        match manner {
            Manner::Answers => {
                let seen = crate::wire::Seen {
                    kind: Kind::Capture,
                    method: "POST".to_owned(),
                    target: "/v2/payments/1001/capture".to_owned(),
                    raw: vec![],
                    body: body.clone(),
                };
                let answer = Merchant::new(Model::Afterpay, serde_json::Value::Null).answer(&seen);
                let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                // `:status: 200` is the eighth entry of the static table.
                stream.write_all(&frame(1, 4, id, &[0x88])).await?;
                stream.write_all(&frame(0, 1, id, &answer[at..])).await?;
            }
            Manner::GoesAwayAfterUs => {
                stream.write_all(&goes_away(id)).await?;
                return stream.shutdown().await;
            }
            Manner::Cancels => stream.write_all(&frame(3, 0, id, &8u32.to_be_bytes())).await?,
            Manner::Closes => return stream.shutdown().await,
            Manner::EndlessHeaders | Manner::EndlessContinue | Manner::EndlessBody | Manner::EndlessPings => {
                return flood(stream, manner, id).await;
            }
            Manner::RefusesStream | Manner::GoesAwayAtOnce | Manner::GoesAwayBelowUs => {}
        }
    }
}

/// Frames without an end, until the other side goes; what it says meanwhile is read and thrown away.
async fn flood(stream: TlsStream<TcpStream>, manner: Manner, id: u32) -> std::io::Result<()> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let reader = tokio::spawn(async move { tokio::io::copy(&mut reading, &mut tokio::io::sink()).await });
    // A literal header that no table keeps: a name and a value of a few letters.
    let header = [&[0x00, 8][..], b"x-header", &[100], &[b'a'; 100]].concat();
    let (first, again) = match manner {
        Manner::EndlessHeaders => (frame(1, 0, id, &[0x88]), frame(9, 0, id, &header.repeat(100))),
        // `:status` with a value of its own: 100.
        Manner::EndlessContinue => (vec![], frame(1, 4, id, &[0x08, 3, b'1', b'0', b'0'])),
        Manner::EndlessBody => (frame(1, 4, id, &[0x88]), frame(0, 0, id, &[b' '; 16_000])),
        _ => (
            vec![],
            [frame(6, 0, 0, &[0; 8]), frame(4, 0, 0, &[0, 4, 0, 1, 0, 0])].concat(),
        ),
    };
    writing.write_all(&first).await?;
    while !reader.is_finished() {
        writing.write_all(&again).await?;
        writing.flush().await?;
        // Paced, for the same reason as over HTTP/1.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_what_was_refused_or_cut_is_never_sure_and_never_sent_twice() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (known, unknown) = (authority(), authority());
    let mut ground = Ground::new().await;
    let roots = ground.write("roots.pem", &known.pem);
    ground.set("SSL_CERT_FILE", &roots);
    ground.set("SECRET", SECRET);
    let mut settings = SETTINGS.replace("10ms", "1h").replace("20ms", "2h");
    let mut servers = BTreeMap::new();
    for manner in MANNERS {
        let acceptor = acceptor(Like::Valid, &known, &unknown, &["h2"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let streams = Arc::new(Mutex::new(Streams::default()));
        let kept = streams.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, kept) = (acceptor.clone(), kept.clone());
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let _ = speak(stream, manner, kept).await;
                });
            }
        });
        let name = format!("{manner:?}").to_ascii_lowercase();
        settings.push_str(&account(&name, "afterpay", "", port));
        servers.insert(name, (manner, streams));
    }
    ground.write("capture.toml", &settings);
    let worker = ground.work().await;
    let before = worker.memory_peak_kib();
    for name in servers.keys() {
        enqueue(&mut ground, "afterpay", name).await;
    }
    ground.until_sql("select count(*) = 11 from capture.attempts").await;
    let rows = ground
        .db
        .rows(
            "select i.account, a.outcome || coalesce(' ' || a.class, ''), a.sent, coalesce(a.code, '')
             from capture.attempts a join capture.intents i on i.id = a.intent order by 1",
        )
        .await;
    for row in &rows {
        let (account, told, sent, code): (String, String, bool, String) = (
            sqlx::Row::get(row, 0),
            sqlx::Row::get(row, 1),
            sqlx::Row::get(row, 2),
            sqlx::Row::get(row, 3),
        );
        let (manner, streams) = &servers[&account];
        let streams = streams.lock().unwrap();
        let whole = streams.bodies.iter().filter(|body| !body.is_empty()).count();
        eprintln!(
            "{manner:?}: {told} {code}, sent {sent}; {} streams, {whole} bodies",
            streams.begun
        );
        assert!(streams.begun <= 1, "{manner:?}: {streams:?}");
        let honest = match manner {
            Manner::Answers => told == "captured" && sent && whole == 1,
            Manner::GoesAwayAfterUs
            | Manner::Cancels
            | Manner::Closes
            | Manner::EndlessHeaders
            | Manner::EndlessContinue
            | Manner::EndlessBody
            | Manner::EndlessPings => told == "failed ambiguous" && sent && whole == 1,
            // The server says that it did nothing; to doubt that is slow, to be sure without reason would be wrong.
            Manner::RefusesStream | Manner::GoesAwayAtOnce | Manner::GoesAwayBelowUs => match told.as_str() {
                "failed ambiguous" => sent,
                "failed transient" => !sent && whole == 0,
                _ => false,
            },
        };
        assert!(honest, "{manner:?}: {told} {code}, sent {sent}: {streams:?}");
    }
    let grown = worker.memory_peak_kib() - before;
    assert!(grown < 64 * 1024, "the worker grew by {grown} KiB");
    let slow: i64 = ground
        .db
        .scalar("select count(*) from capture.attempts where duration_ms > 20000")
        .await;
    assert_eq!(slow, 0, "a call lasts ten seconds at most");
    let (_, code) = worker.stop().await;
    assert_eq!(code, Some(0));
}

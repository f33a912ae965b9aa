//! Answers that never end, or come byte by byte: a real worker reads a little of them, waits a little, and calls the outcome
//! unknown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::ground::Ground;
use crate::wire::json;

/// What is sent once, what is sent again and again, and the pause between.
struct Bomb {
    name: &'static str,
    once: String,
    again: Vec<u8>,
    pause: Duration,
}

fn bombs() -> Vec<Bomb> {
    let flood = |name, once: &str, again: Vec<u8>| Bomb {
        name,
        once: once.to_owned(),
        again,
        pause: Duration::ZERO,
    };
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
    // A block of deflate that stands for 258 zeros for each two bits: it grows a thousandfold where it is unpacked.
    let gzip = format!("{ok}content-encoding: gzip\r\ncontent-length: 10737418240\r\n\r\n\u{1f}");
    let trickle = |name, once: &str| Bomb {
        name,
        once: once.to_owned(),
        again: b"a".to_vec(),
        pause: Duration::from_millis(150),
    };
    vec![
        flood(
            "body",
            &format!("{ok}content-length: 10737418240\r\n\r\n"),
            vec![b' '; 0x4000],
        ),
        flood("unending", &format!("{ok}\r\n"), vec![b' '; 0x4000]),
        flood("chunked", &format!("{ok}transfer-encoding: chunked\r\n\r\n"), chunk),
        flood("gzip", &gzip, vec![0; 0x4000]),
        flood(
            "extension",
            &format!("{ok}transfer-encoding: chunked\r\n\r\n1;"),
            vec![b'a'; 0x4000],
        ),
        flood(
            "trailers",
            &format!("{ok}transfer-encoding: chunked\r\n\r\n0\r\n"),
            b"x-trailer: aaaaaaaa\r\n".repeat(400),
        ),
        flood("headers", ok, b"x-header: aaaaaaaa\r\n".repeat(400)),
        flood(
            "long-headers",
            ok,
            format!("x-header: {}\r\n", "a".repeat(8000)).into_bytes(),
        ),
        flood("header", &format!("{ok}x-header: "), vec![b'a'; 0x4000]),
        flood("status-line", "HTTP/1.1 200 ", vec![b'a'; 0x4000]),
        // Paced: at full speed the client of a debug build does nothing but read these, for longer than it should.
        Bomb {
            pause: Duration::from_millis(20),
            ..flood("continue", "", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(40))
        },
        Bomb {
            pause: Duration::from_millis(20),
            ..flood(
                "hints",
                "",
                b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n".repeat(40),
            )
        },
        trickle("slow-head", &format!("{ok}x-header: ")),
        trickle("slow-body", &format!("{ok}content-length: 1000\r\n\r\n")),
        trickle("slow-chunk", &format!("{ok}transfer-encoding: chunked\r\n\r\n4000\r\n")),
        Bomb {
            again: b"HTTP/1.1 102 Processing\r\n\r\n".to_vec(),
            ..trickle("slow-processing", "")
        },
    ]
}

/// Serves `/NAME/…`: captures are answered by the bomb of that name, everything else as documented.
async fn serve(mut stream: TcpStream, bombs: Arc<Vec<Bomb>>, taken: Arc<AtomicU64>) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let head = request.windows(4).position(|four| four == b"\r\n\r\n");
        let whole = head.and_then(|head| {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let end = head + 4 + length.unwrap_or(0);
            (request.len() >= end).then_some(end)
        });
        let Some(end) = whole else {
            match stream.read(&mut chunk).await {
                Ok(read @ 1..) => request.extend_from_slice(&chunk[..read]),
                Ok(_) | Err(_) => return,
            }
            continue;
        };
        let line = String::from_utf8_lossy(&request[..end])
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        request.drain(..end);
        let target = line.split(' ').nth(1).unwrap_or_default();
        let bomb = bombs.iter().find(|bomb| Some(bomb.name) == target.split('/').nth(1));
        match bomb {
            Some(bomb) if target.ends_with("/capture") => return explode(stream, bomb, &taken).await,
            _ if target.ends_with("/token") => {
                let _ = stream.write_all(&json(200, &crate::models::token("t", 86400))).await;
            }
            _ => {
                let id = target.rsplit('/').next().unwrap_or_default();
                let charge = format!(r#"{{"id":"{id}","amount":50.00,"captured":false,"canceled":false}}"#);
                let _ = stream.write_all(&json(200, &charge)).await;
            }
        }
    }
}

async fn explode(mut stream: TcpStream, bomb: &Bomb, taken: &AtomicU64) {
    let _ = stream.write_all(bomb.once.as_bytes()).await;
    while stream.write_all(&bomb.again).await.is_ok() {
        taken.fetch_add(u64::try_from(bomb.again.len()).unwrap(), Ordering::Relaxed);
        if bomb.pause > Duration::ZERO {
            tokio::time::sleep(bomb.pause).await;
        }
    }
}

fn account(provider: &str, model: &str, bomb: &str, address: &str) -> String {
    let name = format!("{bomb}-{}", if model.is_empty() { provider } else { model });
    let mut text = format!(
        "[[account]]\nprovider = \"{provider}\"\nname = \"{name}\"\nbase_url = \"http://{address}/{bomb}\"\n\
         merchant_id = \"m\"\nsecret_env = \"SECRET\"\nrate_per_minute = 0\nconcurrency = 4\n"
    );
    match provider {
        "optty" => text.push_str(&format!("auth_url = \"http://{address}/auth/token\"\n")),
        "resolve" => text.push_str(&format!("model = \"{model}\"\n")),
        _ => text.push_str("platform_url = \"https://shop.example\"\n"),
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_makes_a_worker_large_or_slow_or_sure() {
    let bombs = Arc::new(bombs());
    let taken = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (served, counted) = (bombs.clone(), taken.clone());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, served.clone(), counted.clone()));
        }
    });
    let mut ground = Ground::new().await;
    ground.set("SECRET", "s");
    let mut settings = String::from(
        "[worker]\nallow_lost_commits = true\nlease = \"60s\"\nconnect_timeout = \"1s\"\nread_timeout = \"1s\"\n\
         [retry]\ninitial = \"1h\"\nmax = \"2h\"\n[breaker]\nfailures = 10000\n[telemetry]\nlisten = \"127.0.0.1:0\"\nformat = \"json\"\n",
    );
    let models = [
        ("afterpay", ""),
        ("optty", ""),
        ("resolve", "charge"),
        ("resolve", "order"),
    ];
    for bomb in bombs.iter() {
        for (provider, model) in models {
            settings.push_str(&account(provider, model, bomb.name, &address));
        }
    }
    ground.write("capture.toml", &settings);
    let worker = ground.work().await;
    let before = worker.memory_peak_kib();
    for bomb in bombs.iter() {
        for (provider, model) in models {
            let name = format!("{}-{}", bomb.name, if model.is_empty() { provider } else { model });
            ground
                .db
                .run(&format!(
                    "select capture.enqueue(provider => '{provider}', account => '{name}', order_id => 'o', payment_id => (1000 + n)::text,
                         capture_ref => 'r', amount_minor => 1000, currency => 'USD') from generate_series(1, 2) n"
                ))
                .await;
        }
    }
    ground
        .until_sql("select not exists (select from capture.intents i where not exists (select from capture.attempts a where a.intent = i.id))")
        .await;
    let after = worker.memory_peak_kib();
    let grown = after - before;
    eprintln!(
        "memory: {before} KiB before, {after} KiB at its peak; {} MiB of bombs were taken by both kernels and the worker",
        taken.load(Ordering::Relaxed) >> 20
    );
    let wrong: Vec<String> = ground
        .db
        .column(
            "select distinct i.account || ' ' || a.outcome || ' ' || coalesce(a.class, '-') || ' ' || coalesce(a.code, '-')
                 || ' sent ' || coalesce(a.sent::text, '-') || ' in ' || coalesce(a.duration_ms::text, '-') || ' ms'
             from capture.attempts a join capture.intents i on i.id = a.intent
             where a.fence = 1 and (a.sent is distinct from true or a.class is distinct from 'ambiguous' or a.outcome <> 'failed' or a.duration_ms > 8000)",
        )
        .await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    let codes: Vec<String> = ground
        .db
        .column("select distinct split_part(i.account, '-', 1) || ' ' || a.code from capture.attempts a join capture.intents i on i.id = a.intent where a.fence = 1 order by 1")
        .await;
    eprintln!("{codes:?}");
    let ended: i64 = ground.db.scalar("select count(*) from capture.outcomes").await;
    assert_eq!(ended, 0, "nothing has ended: nobody knows what became of the money");
    assert!(grown < 96 * 1024, "the worker grew by {grown} KiB");
    let (said, code) = worker.stop().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    server.abort();
}

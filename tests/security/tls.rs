//! Certificates and old protocols, against a real worker that is given the roots of a local authority by
//! `SSL_CERT_FILE`, as its system's own are.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use capture::provider::Model;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::ground::Ground;
use crate::merchant::Merchant;
use crate::wire::{Kind, Script, Step, Wire, json};

pub const SECRET: &str = "SECRET-tls-do-not-send";
const MODELS: [(&str, Model, &str); 4] = [
    ("afterpay", Model::Afterpay, ""),
    ("optty", Model::Optty, ""),
    ("charge", Model::ResolveCharge, "model = \"charge\"\n"),
    ("order", Model::ResolveOrder, "model = \"order\"\n"),
];

/// What a server is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Like {
    Valid,
    Expired,
    NotYetValid,
    WrongName,
    SelfSigned,
    UnknownAuthority,
    /// Signed by a certificate that is no authority.
    SignedByALeaf,
    /// Answers every hello with one of this version, by hand.
    Tls11,
    Tls10,
    /// TLS 1.2 with a cipher that was not offered.
    UnofferedCipher,
    /// An alert instead of a hello.
    Alert,
}

const REFUSED: [Like; 10] = [
    Like::Expired,
    Like::NotYetValid,
    Like::WrongName,
    Like::SelfSigned,
    Like::UnknownAuthority,
    Like::SignedByALeaf,
    Like::Tls11,
    Like::Tls10,
    Like::UnofferedCipher,
    Like::Alert,
];

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

pub fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority {
        issuer: Issuer::new(params, key),
        pem,
    }
}

/// A chain and its key for a server like this.
fn certificate(like: Like, known: &Authority, unknown: &Authority) -> (Vec<CertificateDer<'static>>, KeyPair) {
    let name = if like == Like::WrongName {
        "elsewhere.example"
    } else {
        "localhost"
    };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    match like {
        Like::Expired => params.not_after = date_time_ymd(2021, 1, 1),
        Like::NotYetValid => params.not_before = date_time_ymd(2090, 1, 1),
        _ => {}
    }
    let key = KeyPair::generate().unwrap();
    let chain = match like {
        Like::SelfSigned => vec![params.self_signed(&key).unwrap()],
        Like::UnknownAuthority => vec![params.signed_by(&key, &unknown.issuer).unwrap()],
        Like::SignedByALeaf => {
            let between = CertificateParams::new(vec!["between.example".to_owned()]).unwrap();
            let between_key = KeyPair::generate().unwrap();
            let between_certificate = between.signed_by(&between_key, &known.issuer).unwrap();
            let leaf = params.signed_by(&key, &Issuer::new(between, between_key)).unwrap();
            vec![leaf, between_certificate]
        }
        _ => vec![params.signed_by(&key, &known.issuer).unwrap()],
    };
    (chain.iter().map(|certificate| certificate.der().clone()).collect(), key)
}

pub fn acceptor(like: Like, known: &Authority, unknown: &Authority, protocols: &[&str]) -> TlsAcceptor {
    let (chain, key) = certificate(like, known, unknown);
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A server hello of that version and cipher, or an alert.
fn hello(like: Like) -> Vec<u8> {
    let (version, cipher): ([u8; 2], [u8; 2]) = match like {
        Like::Tls10 => ([3, 1], [0xc0, 0x13]),
        Like::Tls11 => ([3, 2], [0xc0, 0x13]),
        Like::UnofferedCipher => ([3, 3], [0x00, 0x2f]),
        // protocol_version, fatal.
        _ => return vec![0x15, 3, 3, 0, 2, 2, 70],
    };
    let mut message = version.to_vec();
    message.extend([7; 32]);
    message.push(0);
    message.extend(cipher);
    message.push(0);
    let length = u8::try_from(message.len()).unwrap();
    let handshake = [[2, 0, 0, length].as_slice(), &message].concat();
    let length = u8::try_from(handshake.len()).unwrap();
    [[0x16, version[0], version[1], 0, length].as_slice(), &handshake].concat()
}

/// One server and what it has got.
struct Front {
    like: Like,
    port: u16,
    /// Bytes as they came, of servers that only pretend.
    raw: Arc<Mutex<Vec<u8>>>,
    connections: Arc<Mutex<usize>>,
    wire: Wire,
}

async fn front(like: Like, acceptor: TlsAcceptor) -> Front {
    let merchants = MODELS.map(|(name, model, _)| (name, Merchant::new(model, serde_json::Value::Null)));
    let wire = Wire::start(Script {
        captures: vec![],
        others: vec![],
        tokens: vec![],
        accepts: vec![],
        usual: Box::new(move |seen| {
            if seen.kind == Kind::Token {
                return Step::Answer(json(200, &crate::models::token("t", 86400)));
            }
            let name = seen.target.split('/').nth(1).unwrap_or_default();
            let merchant = merchants.iter().find(|(other, _)| *other == name);
            Step::Answer(merchant.map(|(_, merchant)| merchant.answer(seen)).unwrap_or_default())
        }),
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (raw, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let (behind, kept, counted) = (wire.address, raw.clone(), connections.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            *counted.lock().unwrap() += 1;
            let (acceptor, kept) = (acceptor.clone(), kept.clone());
            tokio::spawn(async move {
                if matches!(like, Like::Tls10 | Like::Tls11 | Like::UnofferedCipher | Like::Alert) {
                    return pretend(stream, like, kept).await;
                }
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut behind = TcpStream::connect(behind).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut behind).await;
                }
            });
        }
    });
    Front {
        like,
        port,
        raw,
        connections,
        wire,
    }
}

async fn pretend(mut stream: TcpStream, like: Like, kept: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = [0; 4096];
    let mut answered = false;
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        kept.lock().unwrap().extend_from_slice(&chunk[..read]);
        if !answered {
            answered = true;
            let _ = stream.write_all(&hello(like)).await;
        }
    }
}

pub const SETTINGS: &str = "[worker]\nallow_lost_commits = true\nlease = \"20s\"\nconnect_timeout = \"5s\"\nread_timeout = \"5s\"\npoll_max = \"100ms\"\n\
    [retry]\ninitial = \"10ms\"\nmax = \"20ms\"\n[breaker]\nfailures = 10000\n[telemetry]\nlisten = \"127.0.0.1:0\"\nformat = \"json\"\n";

pub fn account(name: &str, kind: &str, more: &str, port: u16) -> String {
    let provider = if matches!(kind, "charge" | "order") {
        "resolve"
    } else {
        kind
    };
    let mut text = format!(
        "[[account]]\nprovider = \"{provider}\"\nname = \"{name}\"\nbase_url = \"https://localhost:{port}/{kind}\"\n\
         merchant_id = \"merchant\"\nsecret_env = \"SECRET\"\nrate_per_minute = 0\nconcurrency = 2\n{more}"
    );
    match kind {
        "optty" => text.push_str(&format!("auth_url = \"https://localhost:{port}/token\"\n")),
        "afterpay" => text.push_str("platform_url = \"https://shop.example\"\n"),
        _ => {}
    }
    text
}

pub async fn enqueue(ground: &mut Ground, provider: &str, account: &str) {
    ground
        .db
        .run(&format!(
            "select capture.enqueue(provider => '{provider}', account => '{account}', order_id => 'o', payment_id => '1001',
                 capture_ref => 'r', amount_minor => 1000, currency => 'USD')"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_server_whose_certificate_is_good_gets_credentials_or_a_capture() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (known, unknown) = (authority(), authority());
    let mut ground = Ground::new().await;
    let roots = ground.write("roots.pem", &known.pem);
    ground.set("SSL_CERT_FILE", &roots);
    ground.set("SECRET", SECRET);
    let mut fronts = Vec::new();
    let mut settings = SETTINGS.to_owned();
    for like in [Like::Valid].into_iter().chain(REFUSED) {
        let front = front(like, acceptor(like, &known, &unknown, &[])).await;
        for (kind, _, more) in MODELS {
            settings.push_str(&account(
                &format!("{like:?}-{kind}").to_ascii_lowercase(),
                kind,
                more,
                front.port,
            ));
        }
        fronts.push(front);
    }
    ground.write("capture.toml", &settings);
    let worker = ground.work().await;
    for front in &fronts {
        for (kind, ..) in MODELS {
            let provider = if matches!(kind, "charge" | "order") {
                "resolve"
            } else {
                kind
            };
            let account = format!("{:?}-{kind}", front.like).to_ascii_lowercase();
            enqueue(&mut ground, provider, &account).await;
        }
    }
    ground
        .until_sql("select (select count(*) from capture.outcomes) = 4 and (select count(*) from capture.lanes where paused_at is not null) = 40")
        .await;
    let captured: Vec<String> = ground
        .db
        .column("select account || ' ' || state from capture.status where state not in ('ready', 'scheduled', 'verifying') order by 1")
        .await;
    assert_eq!(
        captured,
        [
            "valid-afterpay captured",
            "valid-charge captured",
            "valid-optty captured",
            "valid-order captured"
        ]
    );
    // Why: the handshake, a few times, and then it is ours to mend. Nothing is in doubt.
    let told: Vec<String> = ground
        .db
        .column(
            "select distinct a.outcome || ' ' || a.class || ' ' || a.code || ' sent ' || a.sent
             from capture.attempts a join capture.intents i on i.id = a.intent where i.account not like 'valid%' order by 1",
        )
        .await;
    eprintln!("{told:?}");
    assert!(told.iter().all(|told| told.ends_with(" tls sent false")), "{told:#?}");
    // A pause is followed by a read, because who knows which account comes next; but nothing is taken for sent.
    let left: Vec<String> = ground
        .db
        .column(
            "select distinct split_part(i.account, '-', 2) || ' ' || p.last_class || ' ' || p.last_code || ' tainted ' || p.tainted
             from capture.progress p join capture.intents i on i.id = p.intent order by 1",
        )
        .await;
    eprintln!("{left:?}");
    assert!(left.iter().all(|left| left.ends_with(" tls tainted false")), "{left:?}");
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("merchant:{SECRET}"));
    for front in &fronts {
        let connections = *front.connections.lock().unwrap();
        assert!(connections >= 4, "{:?}: {connections}", front.like);
        assert!(connections <= 40, "{:?}: it was tried {connections} times", front.like);
        if front.like == Like::Valid {
            assert_eq!(front.wire.captures().len(), 4);
            continue;
        }
        assert_eq!(front.wire.connections(), 0, "{:?}: no byte came through", front.like);
        let raw = String::from_utf8_lossy(&front.raw.lock().unwrap()).into_owned();
        for word in [SECRET, basic.as_str(), "capture", "amount", "1001"] {
            assert!(!raw.contains(word), "{:?}: {word} left in the clear", front.like);
        }
    }
    let (said, code) = worker.stop().await;
    assert_eq!(code, Some(0));
    assert!(!said.contains("panicked"), "{said}");
}

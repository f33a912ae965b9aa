//! At most one request on the wire, whatever becomes of the connection.

use std::time::Duration;

use capture::outcome::{Class, Observation, Outcome};
use capture::provider::{Model, TLS};

use crate::models::{
    Bench, MODELS, TOKEN, adapter, call, failure, good_answer, guard, intent, script, settings, token,
};
use crate::wire::{End, Step, Wire, json, with};

const ENDS: [End; 2] = [End::Close, End::Reset];

#[tokio::test]
async fn a_good_answer_is_a_capture_and_one_request() {
    for model in MODELS {
        let bench = Bench::new(model, vec![]).await;
        match bench.capture().await {
            Outcome::Captured(receipt) => assert_eq!(receipt.amount, bench.intent.amount),
            other => panic!("{model:?}: {other:?}"),
        }
        assert_eq!(bench.wire.captures().len(), 1, "{model:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_is_ambiguous_and_nothing_is_sent_again() {
    for model in MODELS {
        for end in ENDS {
            for sent in [
                &b""[..],
                b"HTTP/1.1",
                b"HTTP/1.1 200 OK\r\ncontent-",
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"\0\xff\xfe?",
            ] {
                let bench = Bench::new(model, vec![Step::Then(sent.to_vec(), end)]).await;
                let failure = failure(bench.capture().await);
                assert_eq!(failure.class, Class::Ambiguous, "{model:?} {end:?} {failure:?}");
                assert!(!failure.answered);
                assert_eq!(bench.wire.captures().len(), 1, "{model:?} {end:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_while_the_request_is_read_is_not_sent_again() {
    for model in MODELS {
        for end in ENDS {
            let bench = Bench::new(model, vec![Step::AtHead(end)]).await;
            let failure = failure(bench.capture().await);
            assert_eq!(failure.class, Class::Ambiguous, "{model:?} {end:?} {failure:?}");
            assert_eq!(bench.wire.captures().len(), 1, "{model:?} {end:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_unread_is_opened_once() {
    for model in MODELS {
        for end in ENDS {
            let mut script = script(model, vec![]);
            // Where a token is minted first, that connection is let through.
            script.accepts = vec![Some(end); 8];
            let tokens = model == Model::Optty;
            if tokens {
                script.accepts.insert(0, None);
                script.tokens = vec![Step::Then(close(&json(200, &token(TOKEN, 86400))), End::Close)];
            }
            let bench = Bench::of(model, script, |_| {}).await;
            let failure = failure(bench.capture().await);
            assert!(
                matches!(failure.class, Class::Ambiguous | Class::Transient),
                "{model:?} {failure:?}"
            );
            assert_eq!(bench.wire.captures().len(), 0);
            assert_eq!(bench.wire.connections(), 1 + usize::from(tokens), "{model:?} {end:?}");
        }
    }
}

fn close(answer: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    text.replacen("\r\n", "\r\nconnection: close\r\n", 1).into_bytes()
}

#[tokio::test]
async fn a_capture_on_a_connection_that_the_server_has_dropped_is_one_request() {
    for model in MODELS {
        for end in ENDS {
            for delay_us in [0, 1, 5, 20, 50, 100, 200, 500, 1000, 3000] {
                let idle = Step::Idle(good_answer(model), Duration::from_micros(delay_us), end);
                let bench = Bench::new(model, vec![idle]).await;
                // Where the details are read after it, that read may meet the end of the connection.
                let first = bench.capture().await;
                assert!(
                    matches!(first, Outcome::Captured(_) | Outcome::Accepted { .. }),
                    "{model:?} {first:?}"
                );
                tokio::time::sleep(Duration::from_micros(100)).await;
                let second = bench.capture().await;
                let captures = bench.wire.captures().len();
                match second {
                    Outcome::Captured(_) | Outcome::Accepted { .. } => {
                        assert_eq!(captures, 2, "{model:?} {end:?} {delay_us}")
                    }
                    Outcome::Failed(failure) if failure.class == Class::Transient => {
                        assert_eq!(
                            captures, 1,
                            "nothing was sent: {model:?} {end:?} {delay_us} {failure:?}"
                        );
                    }
                    Outcome::Failed(failure) if failure.class == Class::Ambiguous => {
                        assert!(captures <= 2, "{model:?} {end:?} {delay_us} {failure:?}");
                    }
                    other => panic!("{model:?} {other:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_used_connection_that_breaks_after_the_request_is_ambiguous_and_one_request() {
    for model in MODELS {
        for end in ENDS {
            let steps = vec![
                Step::Answer(good_answer(model)),
                Step::Then(vec![], end),
                Step::Answer(good_answer(model)),
            ];
            let bench = Bench::new(model, steps).await;
            assert!(matches!(bench.capture().await, Outcome::Captured(_)), "{model:?}");
            let failure = failure(bench.capture().await);
            assert_eq!(failure.class, Class::Ambiguous, "{model:?} {failure:?}");
            assert_eq!(bench.wire.captures().len(), 2, "{model:?} {end:?}");
        }
    }
}

#[tokio::test]
async fn only_the_keyless_model_opens_a_connection_for_each_call() {
    for model in MODELS {
        let bench = Bench::new(model, vec![]).await;
        for _ in 0..3 {
            assert!(matches!(bench.capture().await, Outcome::Captured(_)), "{model:?}");
        }
        let calls = bench.wire.seen().len();
        let expected = if model == Model::ResolveCharge { calls } else { 1 };
        assert_eq!(bench.wire.connections(), expected, "{model:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_is_ours_to_mend() {
    for model in MODELS {
        for status in [300, 301, 302, 303, 304, 305, 307, 308] {
            let elsewhere = Wire::start(script(model, vec![])).await;
            let location = format!("http://{}/base/capture", elsewhere.address);
            let redirect = with(status, &[("location", &location)], "");
            let bench = Bench::new(model, vec![Step::Answer(redirect)]).await;
            let failure = failure(bench.capture().await);
            assert_eq!(
                (failure.class, failure.code.as_str()),
                (Class::Misconfigured, "redirect"),
                "{model:?} {status}"
            );
            assert_eq!(elsewhere.connections(), 0, "{model:?} {status}");
            assert_eq!(bench.wire.captures().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_lapsed_lease_sends_nothing_at_all() {
    for model in MODELS {
        let bench = Bench::new(model, vec![]).await;
        let mut call = bench.call();
        call.guard = guard(Duration::ZERO);
        assert_eq!(bench.provider.capture(&call).await, Outcome::NotSent, "{model:?}");
        assert_eq!(bench.wire.connections(), 0, "{model:?}");
    }
}

#[tokio::test]
async fn a_lease_that_lapses_while_the_connection_is_made_sends_no_byte_of_the_body() {
    for model in MODELS {
        // A listener whose queue is full: the next connection stands only after the first is taken, a second later.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let filler = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut changed = settings(model, address);
        changed.connect_timeout = Duration::from_secs(10);
        changed.read_timeout = Duration::from_secs(10);
        let tokens = Wire::start(script(model, vec![])).await;
        changed.auth_url = Some(format!("http://{}/token", tokens.address));
        let provider = adapter(changed);
        let intent = intent(model);
        let mut call = call(&intent);
        call.guard = guard(Duration::from_millis(300));
        let server = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await;
            bytes
        };
        let (outcome, bytes) = tokio::join!(provider.capture(&call), server);
        drop(filler);
        assert_eq!(outcome, Outcome::NotSent, "{model:?}");
        assert!(!bytes.contains(&b'{'), "{model:?}: {}", String::from_utf8_lossy(&bytes));
    }
}

#[tokio::test]
async fn a_refused_connection_is_transient() {
    for model in MODELS {
        let mut gone = settings(model, "127.0.0.1:1".parse().unwrap());
        // Kept, so that nobody else listens there, and refused, because it does not listen.
        let deaf = tokio::net::TcpSocket::new_v4().unwrap();
        deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        gone.base_url = format!("http://{}", deaf.local_addr().unwrap());
        gone.auth_url = gone.auth_url.map(|_| format!("{}/token", gone.base_url));
        let provider = adapter(gone);
        let intent = intent(model);
        let failure = failure(provider.capture(&call(&intent)).await);
        assert_eq!(
            (failure.class, failure.code.as_str()),
            (Class::Transient, "connect_refused"),
            "{model:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_a_tls_failure_and_nothing_is_sent() {
    for model in MODELS {
        let plain = Wire::start(script(model, vec![])).await;
        let tokens = Wire::start(script(model, vec![])).await;
        let mut changed = settings(model, tokens.address);
        changed.base_url = format!("https://localhost:{}", plain.address.port());
        let provider = adapter(changed);
        let intent = intent(model);
        // The server waits for the end of a head that a TLS hello never has; it is closed from our side.
        let outcome = provider.capture(&call(&intent)).await;
        let failure = failure(outcome);
        assert_eq!(failure.class, Class::Transient, "{model:?}");
        assert!(plain.captures().is_empty(), "{model:?}");
        assert!(
            matches!(failure.code.as_str(), "tls" | "connect_timeout"),
            "{model:?} {failure:?}"
        );
    }
    let garbage = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = garbage.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = garbage.accept().await {
            let mut hello = [0; 64];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut hello).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let mut changed = settings(Model::Afterpay, address);
    changed.base_url = format!("https://localhost:{}", address.port());
    let intent = intent(Model::Afterpay);
    let failure = failure(adapter(changed).capture(&call(&intent)).await);
    assert_eq!((failure.class, failure.code.as_str()), (Class::Transient, TLS));
    server.abort();
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_transient() {
    let model = Model::Afterpay;
    let mut changed = settings(model, "127.0.0.1:1".parse().unwrap());
    changed.base_url = "https://does-not-exist.invalid".to_owned();
    changed.connect_timeout = Duration::from_secs(5);
    let intent = intent(model);
    let failure = failure(adapter(changed).capture(&call(&intent)).await);
    assert_eq!(failure.class, Class::Transient);
    assert!(
        matches!(failure.code.as_str(), "dns" | "connect_timeout"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn the_answers_of_this_suite_are_good_ones_so_that_spoiling_them_means_something() {
    for model in MODELS {
        let bench = Bench::new(model, vec![]).await;
        let observed = bench.provider.read(&bench.call()).await;
        assert!(matches!(observed, Observation::Captured(_)), "{model:?} {observed:?}");
    }
}

//! Time-outs: an answer that does not come, stalls or trickles ends the call by its deadline, with the outcome unknown.

use std::time::{Duration, Instant};

use capture::outcome::Class;
use capture::provider::Model;

use crate::models::{Bench, MODELS, failure, good_answer, script};
use crate::wire::{End, Step};

#[tokio::test]
async fn an_answer_that_stalls_anywhere_is_ambiguous() {
    for model in MODELS {
        let good = good_answer(model);
        for kept in [0, 10, good.len() / 2, good.len() - 1] {
            let steps = vec![Step::Then(good[..kept].to_vec(), End::Silence)];
            let bench = Bench::of(model, script(model, steps), |settings| {
                settings.read_timeout = Duration::from_millis(150);
            })
            .await;
            let began = Instant::now();
            let failure = failure(bench.capture().await);
            assert_eq!(
                (failure.class, failure.code.as_str()),
                (Class::Ambiguous, "timeout"),
                "{model:?} {kept}"
            );
            assert!(
                began.elapsed() < Duration::from_secs(2),
                "{model:?} {:?}",
                began.elapsed()
            );
            assert_eq!(bench.wire.captures().len(), 1);
        }
    }
}

#[tokio::test]
async fn an_answer_that_trickles_ends_with_the_deadline_of_the_whole_call() {
    for model in MODELS {
        let good = good_answer(model);
        let head = good.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        // From the first byte, and from the first byte of the body: each piece comes well within the read time-out.
        for at_once in [0, head] {
            let (at_once, rest) = good.split_at(at_once);
            let drip = Step::Drip(at_once.to_vec(), rest.to_vec(), Duration::from_millis(20));
            let bench = Bench::of(model, script(model, vec![drip]), |settings| {
                settings.connect_timeout = Duration::from_millis(200);
                settings.read_timeout = Duration::from_millis(200);
            })
            .await;
            let began = Instant::now();
            let failure = failure(bench.capture().await);
            assert_eq!(
                (failure.class, failure.code.as_str()),
                (Class::Ambiguous, "timeout"),
                "{model:?}"
            );
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{model:?} {:?}",
                began.elapsed()
            );
        }
    }
}

#[tokio::test]
async fn an_answer_just_within_the_time_out_is_believed() {
    for model in MODELS {
        let late = Step::Late(Duration::from_millis(300), good_answer(model));
        let bench = Bench::of(model, script(model, vec![late]), |settings| {
            settings.read_timeout = Duration::from_millis(600);
        })
        .await;
        let outcome = bench.capture().await;
        assert!(
            matches!(outcome, capture::outcome::Outcome::Captured(_)),
            "{model:?} {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_does_not_stand_in_time_is_transient() {
    for model in MODELS {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _filler = tokio::net::TcpStream::connect(address).await.unwrap();
        for (connect_ms, read_ms) in [(100, 5000), (100, 50)] {
            let mut settings = crate::models::settings(model, address);
            settings.connect_timeout = Duration::from_millis(connect_ms);
            settings.read_timeout = Duration::from_millis(read_ms);
            let intent = crate::models::intent(model);
            let provider = crate::models::adapter(settings);
            let failure = failure(provider.capture(&crate::models::call(&intent)).await);
            assert_eq!(
                (failure.class, failure.code.as_str()),
                (Class::Transient, "connect_timeout"),
                "{model:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_read_time_out_counts_from_the_sent_body_and_not_from_the_connection() {
    // A full queue delays the connection by a second; the answer then takes longer than what is left of one read time-out
    // counted from the start.
    let model = Model::Afterpay;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let filler = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut settings = crate::models::settings(model, address);
    settings.connect_timeout = Duration::from_secs(5);
    settings.read_timeout = Duration::from_millis(1500);
    let provider = crate::models::adapter(settings);
    let intent = crate::models::intent(model);
    let server = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(listener.accept().await.unwrap());
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 2048];
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await;
        tokio::time::sleep(Duration::from_millis(1000)).await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &good_answer(model)).await;
        stream
    };
    let call = crate::models::call(&intent);
    let (outcome, _) = tokio::join!(provider.capture(&call), server);
    drop(filler);
    assert!(matches!(outcome, capture::outcome::Outcome::Captured(_)), "{outcome:?}");
}

#[tokio::test]
async fn the_reads_after_a_capture_end_with_the_same_deadline() {
    for model in [Model::Optty, Model::ResolveCharge] {
        let mut script = script(model, vec![]);
        script.others = vec![Step::Then(vec![], End::Silence)];
        let bench = Bench::of(model, script, |settings| {
            settings.connect_timeout = Duration::from_millis(200);
            settings.read_timeout = Duration::from_millis(200);
        })
        .await;
        let began = Instant::now();
        let outcome = bench.capture().await;
        assert!(
            matches!(outcome, capture::outcome::Outcome::Accepted { .. }),
            "{model:?} {outcome:?}"
        );
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{model:?} {:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn captures_that_come_at_once_wait_for_no_more_than_sixty_four_connections() {
    let model = Model::Afterpay;
    // Takes connections, and says nothing of TLS: none of them ever stands.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = crate::models::settings(model, address);
    settings.base_url = format!("https://localhost:{}", address.port());
    settings.connect_timeout = Duration::from_secs(60);
    let provider = crate::models::adapter(settings);
    let intent = crate::models::intent(model);
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let captures = async {
        let each = async |_| {
            let failure = failure(provider.capture(&crate::models::call(&intent)).await);
            ended.send(failure.class).unwrap();
        };
        futures_util::future::join_all((0..100).map(each)).await
    };
    let server = async {
        let mut dialled = Vec::new();
        for _ in 0..64 {
            dialled.push(listener.accept().await.unwrap());
        }
        // Nothing more comes by itself; when one gives up, the next dials.
        let one_more = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(one_more.is_err() && ends.is_empty());
        for _ in 64..100 {
            dialled.remove(0);
            let (next, end) = tokio::join!(listener.accept(), ends.recv());
            dialled.push(next.unwrap());
            assert_eq!(end, Some(Class::Transient));
        }
        dialled.clear();
    };
    tokio::join!(captures, server);
}

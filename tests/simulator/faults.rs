use std::time::{Duration, Instant};

use capture::simulator::{
    Authorization, Fault, FaultPlan, FaultSet, Model, Moment, Operation, Pace, ProviderName, Settings, Simulator,
    Target,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::*;

/// Short where a client would wait, long where a test moves the clock itself.
fn brisk() -> Settings {
    Settings {
        pace: Pace {
            silence: Duration::from_millis(20),
            drip: Duration::ZERO,
            running_for: Duration::from_secs(3600),
            late_after: Duration::from_secs(3600),
            pending_for: Duration::from_secs(3600),
            ..Pace::default()
        },
        limits: capture::simulator::Limits {
            resolve_per_minute: None,
            ..Default::default()
        },
        huge_body_bytes: 1 << 20,
        ..Settings::default()
    }
}

async fn brisk_with(provider: ProviderName, payment_id: &str) -> Simulator {
    let simulator = Simulator::start(brisk()).await.unwrap();
    simulator.create_authorization(Authorization::new(provider, payment_id, 10_000, "USD"));
    simulator
}

/// A capture of 10.00 by each of the four models, as bytes.
fn raw_capture(model: Model, payment_id: &str, token: &str) -> Vec<u8> {
    let (path, authorization, body) = match model {
        Model::Afterpay => (
            format!("/afterpay/v2/payments/{payment_id}/capture"),
            "Basic NDAwMTAxMDEwOnNlY3JldA==".to_owned(),
            afterpay_body("k", "10.00").to_string(),
        ),
        Model::Optty => (
            format!("/optty/orders/{payment_id}/capture"),
            format!("Bearer {token}"),
            r#"{"captureReference":"c","amount":10.00}"#.to_owned(),
        ),
        Model::ResolveCharge => (
            format!("/resolve/charges/{payment_id}/capture"),
            "Basic cm0tMTpzZWNyZXQ=".to_owned(),
            r#"{"amount":10.00,"order_number":"so"}"#.to_owned(),
        ),
        Model::ResolveOrder => (
            format!("/resolve/orders/{payment_id}/capture"),
            "Basic cm0tMTpzZWNyZXQ=".to_owned(),
            r#"{"amount":10.00,"idempotency_key":"k"}"#.to_owned(),
        ),
    };
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nUser-Agent: {AGENT}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

const MODELS: [(Model, ProviderName); 4] = [
    (Model::Afterpay, ProviderName::Afterpay),
    (Model::Optty, ProviderName::Optty),
    (Model::ResolveCharge, ProviderName::Resolve),
    (Model::ResolveOrder, ProviderName::Resolve),
];

/// What arrives before the end, and whether the end was a reset.
async fn exchange(simulator: &Simulator, request: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let mut answer = Vec::new();
    if stream.write_all(request).await.is_err() {
        return (answer, true);
    }
    let mut part = [0; 65_536];
    loop {
        match stream.read(&mut part).await {
            Ok(0) => return (answer, false),
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(_) => return (answer, true),
        }
        if is_whole(&answer) {
            return (answer, false);
        }
    }
}

fn parts(answer: &[u8]) -> Option<(String, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&answer[..end]).into_owned(), &answer[end + 4..]))
}

fn header(head: &str, name: &str) -> Option<String> {
    let line = head
        .lines()
        .find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
    Some(line.split_once(": ")?.1.to_owned())
}

fn is_whole(answer: &[u8]) -> bool {
    let Some((head, body)) = parts(answer) else {
        return false;
    };
    match header(&head, "content-length") {
        Some(length) => body.len() >= length.parse::<usize>().unwrap(),
        None => body.ends_with(b"\r\n0\r\n\r\n"),
    }
}

#[tokio::test]
async fn every_fault_moves_the_money_when_its_name_says() {
    let simulator = Simulator::start(brisk()).await.unwrap();
    let token = optty_token(&simulator).await;
    for (model, provider) in MODELS {
        for (place, fault) in Fault::all().into_iter().enumerate() {
            let payment_id = format!("{}{place:03}", model as u8 + 1);
            simulator.create_authorization(Authorization::new(provider, &payment_id, 10_000, "USD"));
            simulator.script(payment_id.as_str(), [fault]);
            let request = raw_capture(model, &payment_id, &token);
            if fault == Fault::Slow {
                let arrives = simulator.wait_until(|simulator| {
                    simulator
                        .requests()
                        .iter()
                        .any(|record| record.reference.is_some() && record.payment_id.as_ref() == Some(&payment_id))
                });
                let hurried = async {
                    arrives.await;
                    assert_eq!(simulator.ledger().captured_minor(&payment_id), 0);
                    simulator.hurry().await;
                };
                tokio::join!(exchange(&simulator, &request), hurried);
            } else {
                exchange(&simulator, &request).await;
            }
            let record = simulator.requests().pop().unwrap();
            let played = record.fault == Some(fault);
            let captured = || {
                let ledger = simulator.ledger();
                ledger
                    .ours()
                    .iter()
                    .filter(|entry| entry.payment_id == payment_id)
                    .count()
            };
            let name = format!("{fault} on {model:?}, played {played}");
            let (at_once, in_the_end) = match (fault, played) {
                (Fault::Declined | Fault::DeclinedWith402, true) => (0, 0),
                (Fault::PendingThenSuccessful, true) => (0, 1),
                (Fault::PendingThenFailed, true) => (0, 0),
                (_, false) => (1, 1),
                (fault, true) => match fault.moment() {
                    Moment::Before => (0, 0),
                    Moment::After => (1, 1),
                    Moment::Late => (0, 1),
                },
            };
            assert_eq!(captured(), at_once, "{name}, at once");
            if at_once != in_the_end {
                simulator.hurry().await;
            }
            assert_eq!(captured(), in_the_end, "{name}, in the end");
            let record = simulator.requests().pop().unwrap();
            assert_eq!(record.money_moved, in_the_end == 1, "{name}, in its record");
        }
    }
    assert_eq!(simulator.counts().doubles, 0);
}

#[tokio::test]
async fn connections_end_in_the_way_that_the_fault_says() {
    for (fault, bytes, reset) in [
        (Fault::Reset(Moment::Before), 0, true),
        (Fault::Reset(Moment::After), 0, true),
        (Fault::Close(Moment::After), 0, false),
        (Fault::Silence(Moment::After), 0, false),
        (Fault::CutAt(1), 1, false),
        (Fault::CutAt(60), 60, false),
    ] {
        let simulator = brisk_with(ProviderName::Afterpay, "7").await;
        simulator.script("7", [fault]);
        let (answer, was_reset) = exchange(&simulator, &raw_capture(Model::Afterpay, "7", "")).await;
        assert_eq!((answer.len(), was_reset), (bytes, reset), "{fault}");
    }
}

#[tokio::test]
async fn a_good_answer_can_be_cut_at_every_byte_and_the_money_has_moved() {
    let simulator = Simulator::start(brisk()).await.unwrap();
    let new = |id: &str| simulator.create_authorization(Authorization::new(ProviderName::Resolve, id, 10_000, "USD"));
    new("1000");
    let (whole, _) = exchange(&simulator, &raw_capture(Model::ResolveOrder, "1000", "")).await;
    for cut in 0..whole.len() {
        let id = format!("{}", 1001 + cut);
        new(&id);
        simulator.script(id.as_str(), [Fault::CutAt(u32::try_from(cut).unwrap())]);
        let (answer, _) = exchange(&simulator, &raw_capture(Model::ResolveOrder, &id, "")).await;
        assert_eq!(answer.len(), cut);
        assert_eq!(simulator.ledger().captured_minor(&id), 1000);
    }
}

#[tokio::test]
async fn bodies_are_broken_in_the_way_that_the_fault_says() {
    let simulator = Simulator::start(brisk()).await.unwrap();
    let cases: [(Fault, u16, &[u8]); 8] = [
        (Fault::Nul, 201, b"\\u0000\""),
        (Fault::LoneSurrogate, 201, b"\\ud800\""),
        (Fault::InvalidUtf8, 201, b"\xff\xfe\""),
        (Fault::HugeNumber, 201, b":1e400000"),
        (Fault::OtherAmount, 201, b"\"10.01\""),
        (Fault::OtherCurrency, 201, b"\"NZD\""),
        (Fault::OtherReference, 201, b"somebody-elses"),
        (Fault::Html(200, Moment::After), 200, b"<html>"),
    ];
    for (place, (fault, status, wanted)) in cases.into_iter().enumerate() {
        let id = format!("{place}");
        simulator.create_authorization(Authorization::new(ProviderName::Afterpay, &id, 10_000, "USD"));
        simulator.script(id.as_str(), [fault]);
        let (answer, _) = exchange(&simulator, &raw_capture(Model::Afterpay, &id, "")).await;
        let (head, body) = parts(&answer).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{fault}: {head}");
        assert!(body.windows(wanted.len()).any(|window| window == wanted), "{fault}");
        let read = afterpay_read(&simulator, &id).await;
        assert_eq!(
            read["events"][1]["paymentEventMerchantReference"], "ref-k",
            "a later read is right"
        );
    }
}

#[tokio::test]
async fn lengths_chunks_and_encodings_lie() {
    for fault in [Fault::Truncated, Fault::WrongLength, Fault::ChunkCut] {
        let simulator = brisk_with(ProviderName::Afterpay, "7").await;
        simulator.script("7", [fault]);
        let answer = afterpay(&simulator, "7", &afterpay_body("k", "10.00"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
        assert!(answer.bytes().await.is_err(), "{fault}");
        assert_eq!(simulator.ledger().captured_minor("7"), 1000);
    }
    let simulator = brisk_with(ProviderName::Afterpay, "7").await;
    simulator.script("7", [Fault::Gzip, Fault::HugeBody]);
    let zipped = afterpay(&simulator, "7", &afterpay_body("k", "10.00"))
        .send()
        .await
        .unwrap();
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    assert!(zipped.bytes().await.unwrap().starts_with(&[0x1f, 0x8b]));
    let huge = afterpay(&simulator, "7", &afterpay_body("k", "10.00"))
        .send()
        .await
        .unwrap();
    assert!(huge.bytes().await.unwrap().len() > 1 << 20);
}

#[tokio::test]
async fn an_answer_can_drip_byte_by_byte() {
    let simulator = brisk_with(ProviderName::Afterpay, "7").await;
    simulator.set_pace(Pace {
        drip: Duration::from_millis(1),
        ..Pace::default()
    });
    simulator.script("7", [Fault::Drip]);
    let began = Instant::now();
    let (answer, _) = exchange(&simulator, &raw_capture(Model::Afterpay, "7", "")).await;
    assert!(began.elapsed() >= Duration::from_millis(answer.len() as u64 - 1));
    assert!(is_whole(&answer));
}

#[tokio::test]
async fn redirects_lead_to_a_place_that_counts_who_follows() {
    let simulator = brisk_with(ProviderName::Afterpay, "7").await;
    simulator.script("7", [301, 302, 307, 308].map(Fault::Redirect));
    for status in [301, 302, 307, 308] {
        let answer = afterpay(&simulator, "7", &afterpay_body("k", "10.00"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(simulator.counts().redirects_followed, u64::from(status == 308));
        if status == 307 {
            let place = answer.headers()["location"].to_str().unwrap().to_owned();
            http().post(place).body("{}").send().await.unwrap();
        }
    }
    assert_eq!(simulator.ledger().captures.len(), 0);
}

#[tokio::test]
async fn repeats_of_a_key_get_409_while_the_first_call_runs_and_its_answer_afterwards() {
    for fault in [
        Fault::InProgress,
        Fault::Html(504, Moment::Late),
        Fault::Close(Moment::Late),
    ] {
        let simulator = brisk_with(ProviderName::Afterpay, "7").await;
        simulator.script("7", [fault]);
        let body = afterpay_body("k", "10.00");
        let _ = afterpay(&simulator, "7", &body).send().await;
        assert_eq!(sent(afterpay(&simulator, "7", &body)).await.0, 409);
        assert_eq!(simulator.ledger().captures.len(), 0);
        simulator.advance(Duration::from_secs(3601)).await.unwrap();
        assert_eq!(simulator.ledger().captures.len(), 1);
        let (status, answer) = sent(afterpay(&simulator, "7", &body)).await;
        assert_eq!(
            (status.as_u16(), &answer["openToCaptureAmount"]["amount"]),
            (201, &json!("90.00"))
        );
        assert_eq!(simulator.ledger().captures.len(), 1);
    }
}

#[tokio::test]
async fn a_late_call_without_a_key_doubles_what_was_sent_again_meanwhile() {
    let simulator = brisk_with(ProviderName::Resolve, "1").await;
    simulator.script("1", [Fault::Status(504, Moment::Late)]);
    let capture = || resolve(&simulator, "POST", "charges/1/capture").body(r#"{"amount":10.00}"#);
    assert_eq!(sent(capture()).await.0, 504);
    assert_eq!(sent(capture()).await.0, 200);
    simulator.hurry().await;
    assert_eq!(simulator.ledger().captured_minor("1"), 2000);
    assert_eq!(simulator.counts().doubles, 1);
}

#[tokio::test]
async fn two_calls_with_one_key_at_once_capture_once() {
    let simulator = brisk_with(ProviderName::Afterpay, "7").await;
    let body = afterpay_body("k", "10.00");
    let calls = (0..16).map(|_| sent(afterpay(&simulator, "7", &body)));
    for (status, _) in futures_util::future::join_all(calls).await {
        assert!([201, 409].contains(&status.as_u16()), "{status}");
    }
    assert_eq!(simulator.ledger().captured_minor("7"), 1000);
}

#[tokio::test]
async fn reads_can_lag_behind() {
    let simulator = brisk_with(ProviderName::Afterpay, "7").await;
    simulator.script(Target::payment("7").on(Operation::Read), [Fault::LaggingRead]);
    sent(afterpay(&simulator, "7", &afterpay_body("k", "10.00"))).await;
    let state = async || afterpay_read(&simulator, "7").await["paymentState"].clone();
    assert_eq!(state().await, "AUTH_APPROVED");
    assert_eq!(state().await, "PARTIALLY_CAPTURED");
    simulator.set_pace(Pace {
        read_lag: Duration::from_secs(60),
        ..Pace::default()
    });
    assert_eq!(state().await, "AUTH_APPROVED");
    simulator.advance(Duration::from_secs(61)).await.unwrap();
    assert_eq!(state().await, "PARTIALLY_CAPTURED");
}

#[tokio::test]
async fn an_optty_capture_can_be_pending_and_end_either_way() {
    let simulator = brisk_with(ProviderName::Optty, "o").await;
    simulator.script("o", [Fault::PendingThenSuccessful, Fault::PendingThenFailed]);
    for reference in ["c1", "c2"] {
        let body = format!(r#"{{"captureReference":"{reference}","amount":10}}"#);
        assert_eq!(sent(optty(&simulator, "o", &body).await).await.0, 200);
    }
    let statuses = async || {
        let details = optty_details(&simulator, "o").await;
        [0, 1].map(|place| details["orderCaptures"][place]["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(statuses().await, ["PENDING", "PENDING"]);
    assert_eq!(simulator.ledger().captures.len(), 0);
    simulator.advance(Duration::from_secs(3601)).await.unwrap();
    assert_eq!(statuses().await, ["SUCCESSFUL", "FAILED"]);
    assert_eq!(simulator.ledger().captured_minor("o"), 1000);
}

#[tokio::test]
async fn afterpay_declines_with_201_or_402_and_a_whole_payment() {
    for (fault, status) in [(Fault::Declined, 201), (Fault::DeclinedWith402, 402)] {
        let simulator = brisk_with(ProviderName::Afterpay, "7").await;
        simulator.script("7", [fault]);
        for _ in 0..2 {
            let (got, answer) = sent(afterpay(&simulator, "7", &afterpay_body("k", "10.00"))).await;
            assert_eq!(got, status);
            assert_eq!(
                (&answer["status"], &answer["paymentState"]),
                (&json!("DECLINED"), &json!("CAPTURE_DECLINED"))
            );
            assert_eq!(answer["events"][1]["type"], "CAPTURE_DECLINED");
        }
        assert_eq!(simulator.ledger().captures.len(), 0);
    }
}

#[tokio::test]
async fn somebody_else_can_be_first() {
    let simulator = brisk_with(ProviderName::Afterpay, "7").await;
    simulator.script("7", [Fault::ForeignCaptureFirst]);
    let (status, answer) = sent(afterpay(&simulator, "7", &afterpay_body("k", "100.00"))).await;
    assert_eq!(
        (status.as_u16(), &answer["errorCode"]),
        (410, &json!("payment_captured"))
    );
    let read = afterpay_read(&simulator, "7").await;
    assert_eq!(read["events"][1]["type"], "CAPTURED");
    assert_eq!(
        read["events"][1]["paymentEventMerchantReference"],
        serde_json::Value::Null
    );
    assert_eq!(simulator.ledger().ours().len(), 0);
    assert_eq!(simulator.ledger().captured_minor("7"), 10_000);
}

#[tokio::test]
async fn rate_limits_say_when_or_do_not() {
    let simulator = brisk_with(ProviderName::Resolve, "1").await;
    simulator.script("1", [Fault::RateLimited, Fault::RateLimitedRetryAfter]);
    let capture = || {
        resolve(&simulator, "POST", "charges/1/capture")
            .body(r#"{"amount":10.00}"#)
            .send()
    };
    let plain = capture().await.unwrap();
    assert_eq!(plain.status(), 429);
    assert_eq!(plain.headers()["x-ratelimit-remaining"], "0");
    assert!(!plain.headers().contains_key("retry-after"));
    assert_eq!(capture().await.unwrap().headers()["retry-after"], "2");
}

#[tokio::test]
async fn what_is_refused_under_a_key_stays_refused_under_it_and_what_was_captured_stays_captured() {
    let simulator = brisk_with(ProviderName::Afterpay, "7").await;
    let capture = async |key: &str| sent(afterpay(&simulator, "7", &afterpay_body(key, "10.00"))).await.0;
    let refuse = || simulator.script("7", [Fault::Refuse(422, "invalid_amount")]);
    refuse();
    assert_eq!(capture("k").await, 422);
    assert_eq!(capture("k").await, 422, "a copy that comes later");
    assert_eq!(capture("k2").await, 201);
    refuse();
    assert_eq!(capture("k2").await, 422);
    assert_eq!(capture("k2").await, 201, "the key stands for the capture");
    assert_eq!(simulator.ledger().captures.len(), 1);
}

#[tokio::test]
async fn a_provider_that_is_down_refuses_connections_and_resets_those_that_are_open() {
    let simulator = brisk_with(ProviderName::Afterpay, "7").await;
    let url = simulator.base_url("afterpay");
    let address = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let mut open = TcpStream::connect(&address).await.unwrap();
    open.write_all(b"GET /afterpay/v2/payments/7 HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    assert!(open.read(&mut [0; 4096]).await.unwrap() > 0);

    simulator.set_down(ProviderName::Afterpay, true).unwrap();
    let refused = afterpay(&simulator, "7", &afterpay_body("k", "10.00"))
        .send()
        .await
        .unwrap_err();
    assert!(refused.is_connect());
    let reset = open.read(&mut [0; 4096]).await;
    assert!(reset.is_err() || reset.is_ok_and(|length| length == 0));
    let (answer, was_reset) = exchange(&simulator, &raw_capture(Model::Afterpay, "7", "")).await;
    assert!(answer.is_empty() && was_reset, "on the common port too");
    let others = resolve(&simulator, "GET", "charges/none");
    assert_eq!(sent(others).await.0, 404, "the others are up");

    simulator.set_down(ProviderName::Afterpay, false).unwrap();
    assert_eq!(simulator.base_url("afterpay"), url, "on the same port");
    assert_eq!(
        sent(afterpay(&simulator, "7", &afterpay_body("k", "10.00"))).await.0,
        201
    );
}

#[tokio::test]
async fn a_connection_can_end_before_its_request_is_read() {
    let simulator = brisk_with(ProviderName::Afterpay, "7").await;
    let address = simulator.base_url("afterpay");
    let address = address.trim_start_matches("http://").split('/').next().unwrap();
    simulator.script(ProviderName::Afterpay, [Fault::CloseAtAccept, Fault::ResetAtAccept]);
    for closed in [true, false] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let end = stream.read(&mut [0; 16]).await;
        assert_eq!(end.is_ok(), closed);
    }
    assert_eq!(simulator.counts().ended_at_accept, 2);
    assert_eq!(
        sent(afterpay(&simulator, "7", &afterpay_body("k", "10.00"))).await.0,
        201
    );
}

#[tokio::test]
async fn connections_are_kept_unless_the_fault_says_otherwise() {
    let simulator = brisk_with(ProviderName::Resolve, "1").await;
    simulator.script(
        Target::payment("1").on(Operation::Read),
        [Fault::None, Fault::None, Fault::CloseAfterAnswer],
    );
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let request = b"GET /resolve/charges/1 HTTP/1.1\r\nAuthorization: Basic cm0tMTpzZWNyZXQ=\r\n\r\n";
    for round in 0..3 {
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !is_whole(&answer) {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        let (head, _) = parts(&answer).unwrap();
        assert_eq!(header(&head, "connection"), None, "round {round}");
    }
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    let connections: Vec<u64> = simulator.requests().iter().map(|record| record.connection).collect();
    assert!(connections.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn chance_is_the_same_however_the_calls_are_mixed() {
    let mut seen = Vec::new();
    for concurrent in [false, true] {
        let settings = Settings {
            faults: FaultPlan::of(FaultSet::Lossy, 500),
            seed: 42,
            ..brisk()
        };
        let simulator = Simulator::start(settings).await.unwrap();
        let call = async |id: u32| {
            let id = id.to_string();
            simulator.create_authorization(Authorization::new(ProviderName::Resolve, &id, 10_000, "USD"));
            for _ in 0..3 {
                exchange(&simulator, &raw_capture(Model::ResolveCharge, &id, "")).await;
            }
        };
        let hurry = async {
            loop {
                tokio::task::yield_now().await;
                simulator.hurry().await;
            }
        };
        let all = async {
            if concurrent {
                futures_util::future::join_all((0..40).map(&call)).await;
            } else {
                for id in 0..40 {
                    call(id).await;
                }
            }
        };
        tokio::select! { () = all => {}, () = hurry => {} }
        let mut faults: Vec<(String, Option<Fault>)> = simulator
            .requests()
            .into_iter()
            .map(|record| (record.payment_id.unwrap(), record.fault))
            .collect();
        faults.sort_by(|one, other| one.0.cmp(&other.0));
        seen.push(faults);
    }
    assert_eq!(seen[0], seen[1]);
    let struck = seen[0].iter().filter(|(_, fault)| fault.is_some()).count();
    assert!((40..80).contains(&struck), "{struck} of 120");
}

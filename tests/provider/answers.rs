//! What is believed of an answer, and what is not.

use std::time::Duration;

use capture::outcome::{Class, Observation, Outcome};
use capture::provider::Model;

use crate::models::{Bench, MODELS, capture_of, details, failure, good_answer, invoice, payment_of, script};
use crate::wire::{End, Step, json, with};

#[tokio::test]
async fn another_amount_is_never_a_capture() {
    for model in MODELS {
        for amount in ["9.99", "10.01", "0.00", "1000", "100.0", "-10.00", "1e1"] {
            let intent = crate::models::intent(model);
            let mut script = script(
                model,
                vec![Step::Answer(json(201, &capture_of(&intent, model, amount)))],
            );
            script.others = match model {
                Model::ResolveCharge => vec![Step::Answer(json(200, &invoice(amount)))],
                Model::Optty | Model::Afterpay | Model::ResolveOrder => vec![],
            };
            let bench = Bench::of(model, script, |_| {}).await;
            match (model, bench.capture().await) {
                // A charge says "captured" without an amount: taken, never sent again, and not believed yet.
                (Model::ResolveCharge, Outcome::Accepted { .. }) => {}
                (_, Outcome::Failed(failure)) => assert_eq!(
                    (failure.class, failure.code.as_str()),
                    (Class::Ambiguous, "wrong_amount"),
                    "{model:?} {amount}"
                ),
                (_, other) => panic!("{model:?} {amount} {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn another_currency_reference_or_payment_is_never_a_capture() {
    for model in MODELS {
        let intent = crate::models::intent(model);
        let good = String::from_utf8(good_answer(model)).unwrap();
        let key = intent.id.key(capture::intent::KeyGeneration(0)).to_string();
        let mut changed = vec![("wrong_payment", good.replace(&intent.payment_id, "1"))];
        match model {
            Model::Afterpay => {
                changed.push(("wrong_currency", good.replace("USD", "AUD")));
                changed.push(("wrong_reference", good.replace(&intent.id.reference(), "somebody-else")));
            }
            Model::Optty => changed = vec![("wrong_reference", good.replace(&intent.id.reference(), "somebody-else"))],
            Model::ResolveCharge => {}
            Model::ResolveOrder => changed.push(("wrong_reference", good.replace(&key, "somebody-else"))),
        }
        for (code, answer) in changed {
            let body = answer.split_once("\r\n\r\n").unwrap().1;
            let bench = Bench::new(model, vec![Step::Answer(json(200, body))]).await;
            let failure = failure(bench.capture().await);
            assert_eq!(
                (failure.class, failure.code.as_str()),
                (Class::Ambiguous, code),
                "{model:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_good_answer_cut_at_any_byte_is_ambiguous() {
    for model in MODELS {
        let good = good_answer(model);
        let ends = |cut| if cut % 2 == 0 { End::Close } else { End::Reset };
        let steps = (0..good.len())
            .map(|cut| Step::Then(good[..cut].to_vec(), ends(cut)))
            .collect();
        let bench = Bench::new(model, steps).await;
        for cut in 0..good.len() {
            let failure = failure(bench.capture().await);
            assert_eq!(failure.class, Class::Ambiguous, "{model:?} cut at {cut}");
            assert_eq!(bench.wire.captures().len(), cut + 1);
        }
        assert!(
            matches!(bench.capture().await, Outcome::Captured(_)),
            "{model:?}: and whole it is believed"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_is_ambiguous() {
    for model in MODELS {
        let good = String::from_utf8(good_answer(model)).unwrap();
        let body = good.split_once("\r\n\r\n").unwrap().1.to_owned();
        let longer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len() + 1);
        let shorter = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len() - 1);
        let half = body.len() / 2;
        let chunk_cut = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
            body.len()
        );
        let chunk_short = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}",
            body.len(),
            &body[..half]
        );
        let unending = format!("HTTP/1.1 200 OK\r\n\r\n{}", &body[..half]);
        for answer in [longer, shorter, chunk_cut, chunk_short, unending] {
            let bench = Bench::new(model, vec![Step::Then(answer.clone().into_bytes(), End::Close)]).await;
            let failure = failure(bench.capture().await);
            assert_eq!(failure.class, Class::Ambiguous, "{model:?} {answer}");
        }
    }
}

#[tokio::test]
async fn a_2xx_that_is_not_the_documented_shape_is_ambiguous() {
    for model in MODELS {
        let good = good_answer(model);
        let page = with(200, &[("content-type", "text/html")], "<html>captured: true</html>");
        let mut utf8 = json(200, "{\"id\":\"__\"}");
        let at = utf8.iter().position(|byte| *byte == b'_').unwrap();
        utf8[at] = 0xff;
        let gzip = with(200, &[("content-encoding", "gzip")], "\u{1f}\u{8b}\u{8}");
        let bodies = [
            "",
            "null",
            "[]",
            "{}",
            "true",
            "\"captured\"",
            "{\"error\":{}}",
            "{\"status\":\"APPROVED\"}",
        ];
        let mut answers: Vec<Vec<u8>> = bodies.iter().map(|body| json(200, body)).collect();
        answers.extend([page, utf8, gzip]);
        // The right body under statuses that nobody documents for it.
        let body = String::from_utf8(good)
            .unwrap()
            .split_once("\r\n\r\n")
            .unwrap()
            .1
            .to_owned();
        answers.extend([202, 203, 206, 226, 299].map(|status| json(status, &body)));
        answers.push(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
        let bench = Bench::new(model, answers.iter().cloned().map(Step::Answer).collect()).await;
        for answer in answers {
            let failure = failure(bench.capture().await);
            let shown = String::from_utf8_lossy(&answer);
            assert_eq!(failure.class, Class::Ambiguous, "{model:?} {shown} {failure:?}");
        }
    }
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_the_limit_only() {
    for model in MODELS {
        let bench = Bench::new(model, vec![Step::Bomb]).await;
        let failure = failure(bench.capture().await);
        assert_eq!(
            (failure.class, failure.code.as_str()),
            (Class::Ambiguous, "body_too_large"),
            "{model:?}"
        );
        assert_eq!(failure.http_status, Some(200));
        tokio::time::sleep(Duration::from_millis(50)).await;
        // The limit, and what both kernels hold in their buffers.
        assert!(
            bench.wire.written() < 16 * 1024 * 1024,
            "{model:?} {}",
            bench.wire.written()
        );
    }
}

#[tokio::test]
async fn an_accepted_capture_that_is_not_final_is_never_a_failure() {
    let intent = crate::models::intent(Model::Optty);
    let unseen = details(&intent, "10", "SUCCESSFUL").replace(&intent.id.reference(), "another");
    for followed in [
        Step::Answer(json(200, &details(&intent, "10", "PENDING"))),
        Step::Answer(json(200, &details(&intent, "10", "FAILED"))),
        Step::Answer(json(200, &details(&intent, "9.99", "SUCCESSFUL"))),
        Step::Answer(json(200, &details(&intent, "10", "SUCCESSFUL").replace("USD", "AUD"))),
        Step::Answer(json(200, &unseen)),
        Step::Answer(json(404, r#"{"statusCode":404,"message":"none"}"#)),
        Step::Answer(json(401, r#"{"statusCode":401,"message":"expired"}"#)),
        Step::Answer(json(500, "")),
        Step::Then(vec![], End::Close),
        Step::Then(vec![], End::Silence),
    ] {
        let mut script = script(Model::Optty, vec![]);
        script.others = vec![followed.clone()];
        let bench = Bench::of(Model::Optty, script, |_| {}).await;
        let outcome = bench.capture().await;
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{followed:?} {outcome:?}");
        assert_eq!(bench.wire.captures().len(), 1);
    }
}

#[tokio::test]
async fn a_charge_whose_invoice_cannot_be_read_is_accepted_and_no_more() {
    for followed in [
        Step::Answer(json(404, r#"{"error":{"type":"not_found_error","message":"none"}}"#)),
        Step::Answer(json(200, r#"{"id":"inv-1"}"#)),
        Step::Answer(json(200, r#"{"id":"inv-2","amount_due":10.00}"#)),
        Step::Answer(json(200, r#"{"id":"inv-1","amount_due":1e400000}"#)),
        Step::Then(vec![], End::Reset),
    ] {
        let mut script = script(Model::ResolveCharge, vec![]);
        script.others = vec![followed.clone()];
        let bench = Bench::of(Model::ResolveCharge, script, |_| {}).await;
        let outcome = bench.capture().await;
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{followed:?} {outcome:?}");
    }
}

#[tokio::test]
async fn a_read_that_fails_says_nothing_about_the_money() {
    for model in MODELS {
        for step in [
            Step::Then(vec![], End::Close),
            Step::Then(vec![], End::Reset),
            Step::Then(vec![], End::Silence),
            Step::Answer(json(500, "")),
            Step::Answer(json(200, "{}")),
            Step::Answer(with(404, &[("content-type", "text/html")], "<html>no such page</html>")),
            Step::Answer(with(302, &[("location", "http://127.0.0.1:1/")], "")),
            Step::Bomb,
        ] {
            let mut script = script(model, vec![]);
            script.others = vec![step.clone()];
            let bench = Bench::of(model, script, |_| {}).await;
            match bench.provider.read(&bench.call()).await {
                Observation::Failed(failure) => {
                    assert!(
                        matches!(failure.class, Class::Transient | Class::Misconfigured),
                        "{model:?} {failure:?}"
                    );
                }
                other => panic!("{model:?} {step:?} {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_payment_that_the_provider_does_not_know_is_closed() {
    for model in MODELS {
        let body = match model {
            Model::Afterpay => r#"{"errorCode":"not_found","errorId":"e","message":"none","httpStatusCode":404}"#,
            Model::Optty => r#"{"statusCode":404,"message":"none"}"#,
            Model::ResolveCharge | Model::ResolveOrder => r#"{"error":{"type":"not_found_error","message":"none"}}"#,
        };
        let mut script = script(model, vec![]);
        script.others = vec![Step::Answer(json(404, body))];
        let bench = Bench::of(model, script, |_| {}).await;
        match bench.provider.read(&bench.call()).await {
            Observation::Closed { code, .. } => assert_eq!(code.as_str(), "not_found", "{model:?}"),
            other => panic!("{model:?} {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let reset = (chrono::Utc::now() + chrono::TimeDelta::seconds(30))
        .timestamp()
        .to_string();
    for model in MODELS {
        for (headers, least, most) in [
            (vec![("retry-after", "7")], 7, 7),
            (
                vec![
                    ("retry-after", "Wed, 21 Oct 2015 07:28:10 GMT"),
                    ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
                ],
                10,
                10,
            ),
            (vec![("x-ratelimit-reset", reset.as_str())], 25, 31),
            (
                vec![
                    ("x-ratelimit-reset", "1445412500"),
                    ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
                ],
                20,
                20,
            ),
        ] {
            let bench = Bench::new(model, vec![Step::Answer(with(429, &headers, ""))]).await;
            let failure = failure(bench.capture().await);
            assert_eq!(failure.class, Class::RateLimited, "{model:?}");
            let wait = failure.retry_after.unwrap().as_secs();
            assert!((least..=most).contains(&wait), "{model:?} {headers:?} {wait}");
        }
        let bench = Bench::new(model, vec![Step::Answer(json(429, ""))]).await;
        assert_eq!(failure(bench.capture().await).retry_after, None, "{model:?}");
    }
}

#[test]
fn the_fixture_of_another_currency_differs_only_there() {
    let intent = crate::models::intent(Model::Afterpay);
    assert!(payment_of(&intent, "10.00", "AUD").contains("AUD"));
}

//! What goes over the wire: the documented request, the same bytes each time, and ids that stay in their place.

use capture::intent::{Currency, Details, KeyGeneration, Money, Shipping};
use capture::outcome::{Class, Outcome};
use capture::provider::Model;

use crate::models::{Bench, MERCHANT, MODELS, call, failure, script};
use crate::wire::{Step, json};

#[tokio::test]
async fn a_repeat_is_the_same_to_the_byte() {
    for model in MODELS {
        let mut bench = Bench::new(model, vec![]).await;
        bench.intent.details = full_details();
        for _ in 0..3 {
            let _ = bench.capture().await;
        }
        let captures = bench.wire.captures();
        assert_eq!(captures.len(), 3, "{model:?}");
        assert!(captures.iter().all(|seen| seen.raw == captures[0].raw), "{model:?}");
    }
}

#[tokio::test]
async fn another_generation_is_another_key_and_nothing_else() {
    for model in [Model::Afterpay, Model::ResolveOrder] {
        let bench = Bench::new(model, vec![]).await;
        let mut bodies = Vec::new();
        for generation in [0, 1] {
            let mut call = bench.call();
            call.generation = KeyGeneration(generation);
            let _ = bench.provider.capture(&call).await;
            let body = String::from_utf8(bench.wire.captures()[bodies.len()].body.clone()).unwrap();
            let key = bench.intent.id.key(KeyGeneration(generation)).to_string();
            assert!(body.contains(&key), "{model:?} {body}");
            bodies.push(body.replace(&key, "KEY"));
        }
        assert_eq!(bodies[0], bodies[1], "{model:?}");
    }
}

fn full_details() -> Details {
    Details {
        description: Some("two boxes".to_owned()),
        shipping: Some(Shipping {
            company: "DHL".to_owned(),
            method: "Express".to_owned(),
            tracking_number: "JD0001".to_owned(),
        }),
        merchant_reference: Some("1001-A".to_owned()),
        order_number: Some("1001".to_owned()),
        po_number: Some("PO-7".to_owned()),
    }
}

#[tokio::test]
async fn the_body_is_the_documented_one() {
    for model in MODELS {
        for (details, minor) in [(Details::default(), 1000), (full_details(), 123_456_789_012)] {
            let mut bench = Bench::new(model, vec![]).await;
            bench.intent.details = details.clone();
            bench.intent.amount = Money::new(minor, Currency::from_code("USD").unwrap());
            let _ = bench.capture().await;
            let id = bench.intent.id.reference();
            let key = bench.intent.id.key(KeyGeneration(0));
            let full = details != Details::default();
            let digits = if full { "1234567890.12" } else { "10.00" };
            let optional = |text: &'static str| if full { text } else { "" };
            let expected = match model {
                Model::Afterpay => format!(
                    r#"{{"requestId":"{key}","amount":{{"amount":"{digits}","currency":"USD"}},{}"paymentEventMerchantReference":"{id}"}}"#,
                    optional(r#""merchantReference":"1001-A","#)
                ),
                Model::Optty => format!(
                    r#"{{"captureReference":"{id}","amount":{digits}{}}}"#,
                    optional(
                        r#","description":"two boxes","shippingInfo":{"shippingCompany":"DHL","shippingMethod":"Express","trackingNumber":"JD0001"}"#
                    )
                ),
                Model::ResolveCharge => {
                    format!(
                        r#"{{"amount":{digits}{}}}"#,
                        optional(r#","order_number":"1001","po_number":"PO-7""#)
                    )
                }
                Model::ResolveOrder => format!(r#"{{"amount":{digits},"idempotency_key":"{key}"}}"#),
            };
            let seen = &bench.wire.captures()[0];
            assert_eq!(String::from_utf8_lossy(&seen.body), expected, "{model:?}");
            assert_eq!(
                seen.header("content-length"),
                Some(expected.len().to_string()),
                "{model:?}"
            );
            assert_eq!(seen.header("transfer-encoding"), None, "{model:?}");
        }
    }
}

#[tokio::test]
async fn the_headers_are_the_documented_ones() {
    for model in MODELS {
        let bench = Bench::new(model, vec![]).await;
        let _ = bench.capture().await;
        let seen = &bench.wire.captures()[0];
        assert_eq!(
            seen.header("content-type").as_deref(),
            Some("application/json"),
            "{model:?}"
        );
        assert_eq!(seen.header("accept").as_deref(), Some("application/json"), "{model:?}");
        assert_eq!(seen.header("accept-encoding"), None, "{model:?}");
        assert_eq!(seen.header("idempotency-key"), None, "{model:?}");
        let agent = seen.header("user-agent").unwrap();
        let authorization = seen.header("authorization").unwrap();
        let version = seen.header("resolve-api-version");
        match model {
            Model::Afterpay => {
                assert!(agent.starts_with("capture/") && agent.contains("Rust/1."), "{agent}");
                assert!(
                    agent.ends_with(&format!("Merchant/{MERCHANT}) https://shop.example")),
                    "{agent}"
                );
                assert!(authorization.starts_with("Basic "));
                assert_eq!(version, None);
            }
            Model::Optty => assert!(authorization.starts_with("Bearer ") && version.is_none()),
            Model::ResolveCharge | Model::ResolveOrder => {
                assert!(authorization.starts_with("Basic "));
                assert_eq!(version.as_deref(), Some("2021-05-01"));
            }
        }
    }
}

#[tokio::test]
async fn an_id_stays_one_segment_of_its_path() {
    for model in [Model::Optty, Model::ResolveCharge, Model::ResolveOrder] {
        for (id, written) in [
            ("a/b", "a%2Fb"),
            ("../../admin", "..%2F..%2Fadmin"),
            ("%2e%2e", "%252e%252e"),
            ("a?amount=1#x", "a%3Famount%3D1%23x"),
            ("a b\\c", "a%20b%5Cc"),
            ("a\tb\nc", "a%09b%0Ac"),
            ("Größe-№1", "Gr%C3%B6%C3%9Fe-%E2%84%961"),
            ("x@y:80", "x%40y%3A80"),
            ("a.b_c~d-e", "a.b_c~d-e"),
        ] {
            let mut bench = Bench::new(model, vec![Step::Answer(json(404, ""))]).await;
            bench.intent.payment_id = id.to_owned();
            let _ = bench.capture().await;
            let _ = bench.provider.read(&bench.call()).await;
            let place = if model == Model::ResolveCharge {
                "charges"
            } else {
                "orders"
            };
            let seen = bench.wire.seen();
            assert_eq!(
                bench.wire.captures()[0].target,
                format!("/base/{place}/{written}/capture"),
                "{model:?}"
            );
            let read = &seen.last().unwrap().target;
            assert!(
                read.starts_with(&format!("/base/{place}/{written}")),
                "{model:?} {read}"
            );
        }
    }
}

#[tokio::test]
async fn an_id_that_cannot_be_a_segment_is_refused_and_never_sent() {
    for model in MODELS {
        for id in ["", ".", ".."] {
            let mut bench = Bench::new(model, vec![]).await;
            bench.intent.payment_id = id.to_owned();
            assert_eq!(
                bench.provider.check(&bench.intent).unwrap_err().class,
                Class::Rejected,
                "{model:?} {id}"
            );
            let failure = failure(bench.capture().await);
            assert_eq!(
                (failure.class, failure.code.as_str()),
                (Class::Rejected, "unbuildable"),
                "{model:?} {id}"
            );
            assert!(bench.wire.seen().is_empty(), "{model:?} {id}");
        }
    }
}

#[tokio::test]
async fn an_amount_of_nothing_is_never_sent() {
    for model in MODELS {
        for minor in [0, -1, i64::MIN] {
            let mut bench = Bench::new(model, vec![]).await;
            bench.intent.amount.minor = minor;
            assert!(bench.provider.check(&bench.intent).is_err(), "{model:?} {minor}");
            assert_eq!(
                failure(bench.capture().await).code.as_str(),
                "unbuildable",
                "{model:?} {minor}"
            );
            assert!(bench.wire.captures().is_empty());
        }
    }
}

#[tokio::test]
async fn a_marker_is_merged_into_the_metadata_and_touches_nothing_else() {
    let bench = Bench::of(Model::ResolveCharge, script(Model::ResolveCharge, vec![]), |settings| {
        settings.other_writers = true;
    })
    .await;
    bench.provider.mark(&bench.call()).await.unwrap();
    let seen = bench.wire.seen();
    assert_eq!(
        seen.iter().map(|seen| seen.method.as_str()).collect::<Vec<_>>(),
        ["GET", "PUT"]
    );
    let reference = bench.intent.id.reference();
    let expected = format!(r#"{{"metadata":{{"capture_intent":"{reference}","shop":{{"v":1.50}}}}}}"#);
    assert_eq!(
        String::from_utf8_lossy(&seen[1].body),
        expected,
        "what others keep there stays to the digit"
    );
}

#[tokio::test]
async fn a_marker_that_is_there_is_not_written_again() {
    let intent = crate::models::intent(Model::ResolveCharge);
    let marked = crate::models::charge(&intent.payment_id, false).replace(
        "\"shop\"",
        &format!("\"capture_intent\":\"{}\",\"shop\"", intent.id.reference()),
    );
    let mut script = script(Model::ResolveCharge, vec![]);
    script.others = vec![Step::Answer(json(200, &marked))];
    let bench = Bench::of(Model::ResolveCharge, script, |settings| settings.other_writers = true).await;
    bench.provider.mark(&bench.call()).await.unwrap();
    assert_eq!(bench.wire.seen().len(), 1);
}

#[tokio::test]
async fn the_calls_of_a_step_are_the_requests_that_it_makes() {
    for model in MODELS {
        for other_writers in [false, true] {
            let mut script = script(model, vec![]);
            if model == Model::ResolveCharge {
                let intent = crate::models::intent(model);
                let before = json(200, &crate::models::charge(&intent.payment_id, false));
                script.others = vec![Step::Answer(before.clone()); if other_writers { 2 } else { 1 }];
            }
            let bench = Bench::of(model, script, |settings| settings.other_writers = other_writers).await;
            let abilities = bench.provider.abilities();
            let count = || {
                bench
                    .wire
                    .seen()
                    .iter()
                    .filter(|seen| seen.kind != crate::wire::Kind::Token)
                    .count()
            };
            if abilities.read_before_send {
                let _ = bench.provider.read(&call(&bench.intent)).await;
                bench.provider.mark(&call(&bench.intent)).await.unwrap();
            }
            assert!(matches!(bench.capture().await, Outcome::Captured(_)));
            assert_eq!(count(), abilities.calls.send as usize, "{model:?} {other_writers}");
            let sent = count();
            let _ = bench.provider.read(&bench.call()).await;
            assert_eq!(
                count() - sent,
                abilities.calls.read as usize,
                "{model:?} {other_writers}"
            );
        }
    }
}

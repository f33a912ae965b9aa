use proptest::prelude::*;

use super::order::{Details, Told, observe, settled, told};
use crate::intent::{CaptureIntent, Currency, Money, Shipping};
use crate::outcome::{Class, Evidence, Observation, Outcome, Proof};
use crate::provider::answer::Answer;
use crate::provider::samples::{
    BEARER, Row, account, ago, answer, any_json, call, dollars, front_rows, hold, intent, name, others, spoil,
};
use crate::provider::{Call, Model, Siblings, build};

const ID: &str = "ORDER-1001";

fn reference() -> String {
    intent(ID).id.reference()
}

fn taken(reference: &str, amount: &str) -> String {
    format!(r#"{{"captureReference":"{reference}","captureId":"c-1","capturedAmount":{amount}}}"#)
}

fn capture(id: &str, amount: &str, status: &str, seconds_ago: i64) -> String {
    let created = ago(seconds_ago).to_rfc3339();
    format!(r#"{{"captureId":"{id}","amount":"{amount}","status":"{status}","createdAt":"{created}"}}"#)
}

fn order(amount: &str, captures: &[String]) -> String {
    format!(
        r#"{{"merchantReference":"{ID}","status":"SUCCESSFUL","amount":"{amount}","currency":"USD","orderCaptures":[{}]}}"#,
        captures.join(",")
    )
}

/// The whole call: the answer to the POST, then the details.
fn capture_told(posted: &Answer, read: &str) -> Outcome {
    let intent = intent(ID);
    let call = call(&intent);
    match told(&call, BEARER, posted) {
        Told::Failed(failure) => Outcome::Failed(failure),
        Told::Accepted { capture_id, evidence } => {
            let details = Details::of(&call, answer(200, read));
            settled(&call, capture_id, evidence, Ok(details))
        }
    }
}

fn classify(answer: &Answer) -> Outcome {
    capture_told(answer, &order("10", &[capture("c-1", "10", "SUCCESSFUL", 5)]))
}

fn error(status: u16) -> Answer {
    answer(
        status,
        &format!(r#"{{"statusCode":{status},"message":"any text at all"}}"#),
    )
}

fn is_captured(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Captured(receipt) => {
            assert_eq!((receipt.amount, receipt.proof), (dollars(1000), Proof::Answer));
            true
        }
        Outcome::Accepted { .. } | Outcome::Failed(_) | Outcome::NotSent => false,
    }
}

#[test]
fn every_refusal_has_its_class() {
    let rows: Vec<Row<'_>> = vec![
        (error(400), Class::MaybeDone, "http_400"),
        (error(409), Class::MaybeDone, "http_409"),
        (error(422), Class::MaybeDone, "http_422"),
        (error(401), Class::Transient, "token_expired"),
        (answer(401, ""), Class::Transient, "token_expired"),
        (error(403), Class::Misconfigured, "http_403"),
        (error(404), Class::Rejected, "not_found"),
        (error(405), Class::Rejected, "unclassified"),
        (error(418), Class::Rejected, "unclassified"),
        (error(429), Class::RateLimited, "http_429"),
        (error(500), Class::Ambiguous, "http_500"),
        (error(503), Class::Ambiguous, "http_503"),
        (answer(409, ""), Class::Ambiguous, "not_json"),
        (error(200), Class::Ambiguous, "unexpected_shape"),
        (
            answer(200, &taken(&reference(), "9.99")),
            Class::Ambiguous,
            "wrong_amount",
        ),
        (
            answer(200, &taken(&reference(), "1e400000")),
            Class::Ambiguous,
            "wrong_amount",
        ),
        (
            answer(200, &taken("other", "10.00")),
            Class::Ambiguous,
            "wrong_reference",
        ),
        (answer(202, &taken(&reference(), "10.00")), Class::Ambiguous, "http_202"),
        (answer(200, "{}"), Class::Ambiguous, "unexpected_shape"),
        (answer(200, "<html>"), Class::Ambiguous, "not_json"),
    ];
    hold(rows, classify);
    hold(front_rows(false), classify);
}

#[test]
fn an_accepted_capture_is_captured_once_the_details_say_successful() {
    let posted = answer(200, &taken(&reference(), "10"));
    let one = |id: &str, amount: &str, status: &str| order("10", &[capture(id, amount, status, 5)]);
    let twice = order(
        "20",
        &[
            capture("c-1", "10", "SUCCESSFUL", 5),
            capture(&reference(), "10", "SUCCESSFUL", 5),
        ],
    );
    for (read, captured) in [
        (one("c-1", "10", "SUCCESSFUL"), true),
        (one(&reference(), "10.00", "SUCCESSFUL"), true),
        (one("c-1", "10", "PENDING"), false),
        (one("c-1", "10", "INITIATED"), false),
        (one("c-1", "10", "FAILED"), false),
        (one("c-1", "10", "NEW_WORD"), false),
        (one("c-1", "10.01", "SUCCESSFUL"), false),
        (one("c-2", "10", "SUCCESSFUL"), false),
        (twice, false),
        (order("10", &[]), false),
        (one("c-1", "10", "SUCCESSFUL").replace("USD", "AUD"), false),
        (one("c-1", "10", "SUCCESSFUL").replace(ID, "other"), false),
        ("{}".to_owned(), false),
        ("<html>".to_owned(), false),
    ] {
        match (capture_told(&posted, &read), captured) {
            (Outcome::Captured(receipt), true) => assert_eq!(receipt.amount, dollars(1000)),
            (Outcome::Accepted { evidence, .. }, false) => assert!(!evidence.bytes().is_empty()),
            (other, _) => panic!("{read}: {other:?}"),
        }
    }
    let intent = intent(ID);
    let unread = Err(crate::outcome::Failure::new(Class::Transient, "timeout"));
    let outcome = settled(&call(&intent), "c-1".to_owned(), Evidence::default(), unread);
    assert!(matches!(outcome, Outcome::Accepted { .. }));
}

#[test]
fn a_read_knows_our_capture_by_the_id_that_its_answer_gave() {
    let intent = intent(ID);
    let taken_as = |accepted_id, body: &str| {
        let call = Call {
            accepted_id,
            ..call(&intent)
        };
        name(&observe(&call, BEARER, &Details::of(&call, answer(200, body))))
    };
    let one = |amount: &str, status: &str| order("10", &[capture("c-1", amount, status, 5)]);
    for (body, unknown, known) in [
        (one("10", "FAILED"), "not captured None", "declined failed"),
        (one("10", "CANCELED"), "not captured None", "declined canceled"),
        (one("10", "PENDING"), "pending", "pending"),
        (one("10", "SUCCESSFUL"), "captured sole_writer", "captured reference"),
        (one("9", "SUCCESSFUL"), "not captured None", "contradicts wrong_amount"),
        (order("10", &[]), "not captured None", "not captured None"),
    ] {
        assert_eq!(taken_as(None, &body), unknown, "{body}");
        assert_eq!(taken_as(Some("c-1"), &body), known, "{body}");
        assert_eq!(taken_as(Some("c-2"), &body), unknown, "{body}");
    }
    let posted = answer(200, &taken(&reference(), "10"));
    let inferred = |pending_id, body: &str| {
        let call = Call {
            pending_id,
            ..call(&intent)
        };
        match observe(&call, BEARER, &Details::of(&call, answer(200, body))) {
            Observation::Pending { inferred_id, .. } => format!("pending {inferred_id:?}"),
            Observation::Declined { code, proof, .. } => format!("declined {code} {}", proof.name()),
            seen => name(&seen),
        }
    };
    let two =
        |first: &str, second: &str| order("20", &[capture("c-1", "10", first, 5), capture("c-2", "10", second, 6)]);
    let own = one("10", "PENDING").replace("c-1", &reference());
    for (pending_id, body, says) in [
        (None, &one("10", "PENDING"), r#"pending Some("c-1")"#),
        (None, &own, "pending None"),
        (None, &two("PENDING", "PENDING"), "pending None"),
        (None, &two("PENDING", "FAILED"), r#"pending Some("c-1")"#),
        (Some("c-1"), &one("10", "FAILED"), "declined failed sole_writer"),
        (
            Some("c-1"),
            &own.replace("PENDING", "FAILED"),
            "declined failed reference",
        ),
        (Some("c-1"), &one("9", "FAILED"), "not captured None"),
        (Some("c-1"), &order("10", &[]), "not captured None"),
        // It may not have been ours after all.
        (Some("c-1"), &two("FAILED", "PENDING"), r#"pending Some("c-2")"#),
        (Some("c-1"), &two("FAILED", "SUCCESSFUL"), "captured sole_writer"),
        (
            Some("c-1"),
            &two("SUCCESSFUL", "SUCCESSFUL"),
            "contradicts no_reference",
        ),
        (None, &one("10", "PENDING").replace("c-1", ""), "pending None"),
    ] {
        assert_eq!(inferred(pending_id, body), says, "{pending_id:?} {body}");
    }
    match capture_told(&posted, &one("10", "PENDING")) {
        Outcome::Accepted { capture_id, .. } => assert_eq!(capture_id.as_deref(), Some("c-1")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_spoiled_answer_is_not_a_capture() {
    spoil(&taken(&reference(), "10"), &[], |answer| is_captured(&classify(answer)));
    let posted = answer(200, &taken(&reference(), "10"));
    let harmless = ["/status", "/amount", "/orderCaptures/0/createdAt"];
    let read = order("10", &[capture("c-1", "10", "SUCCESSFUL", 5)]);
    spoil(&read, &harmless, |read| {
        let intent = intent(ID);
        let call = call(&intent);
        let Told::Accepted { capture_id, evidence } = told(&call, BEARER, &posted) else {
            panic!("the POST was answered well")
        };
        is_captured(&settled(
            &call,
            capture_id,
            evidence,
            Ok(Details::of(&call, read.clone())),
        ))
    });
}

proptest! {
    #[test]
    fn no_json_of_another_shape_is_accepted(
        body in any_json(&["captureReference", "captureId", "capturedAmount", "10", "statusCode", "status"]),
        status in prop::sample::select(vec![200u16, 201, 202, 400, 404]),
    ) {
        prop_assert!(matches!(classify(&answer(status, &body)), Outcome::Failed(_)), "{}", body);
    }

    #[test]
    fn no_details_of_another_shape_prove_a_capture(
        body in any_json(&["merchantReference", ID, "orderCaptures", "captureId", "amount", "status", "SUCCESSFUL", "currency", "USD"]),
    ) {
        let told = read_as(&intent(ID), &answer(200, &body));
        prop_assert!(!told.starts_with("captured"), "{}", body);
    }
}

fn read_as(intent: &CaptureIntent, answer: &Answer) -> String {
    read_beside(&Siblings::default(), intent, answer)
}

fn read_beside(siblings: &Siblings, intent: &CaptureIntent, answer: &Answer) -> String {
    let call = Call {
        siblings,
        ..call(intent)
    };
    name(&observe(&call, BEARER, &Details::of(&call, answer.clone())))
}

#[test]
fn a_read_tells_what_it_shows() {
    let own = reference();
    let one = |id: &str, amount: &str, status: &str| order("10", &[capture(id, amount, status, 5)]);
    let with_reference = one("c-9", "10", "SUCCESSFUL").replace(
        r#""captureId":"c-9""#,
        &format!(r#""captureId":"c-9","captureReference":"{own}""#),
    );
    let of_another = with_reference.replace(&own, "other");
    let two = order(
        "20",
        &[capture(&own, "10", "SUCCESSFUL", 5), capture(&own, "10", "FAILED", 5)],
    );
    for (body, told) in [
        (one(&own, "10", "SUCCESSFUL"), "captured reference"),
        (with_reference, "captured reference"),
        (one(&own, "10", "PENDING"), "pending"),
        (one(&own, "10", "INITIATED"), "pending"),
        (one(&own, "10", "FAILED"), "declined failed"),
        (one(&own, "10", "DECLINED"), "declined declined"),
        (one(&own, "10", "CANCELED"), "declined canceled"),
        (one(&own, "10", "NEW_WORD"), "contradicts unknown_state"),
        (one(&own, "9.99", "SUCCESSFUL"), "contradicts wrong_amount"),
        (two, "contradicts several_captures"),
        (order("10", &[]), "not captured None"),
        (of_another, "not captured None"),
        (
            one(&own, "10", "SUCCESSFUL").replace("USD", "AUD"),
            "contradicts wrong_currency",
        ),
        (
            one(&own, "10", "SUCCESSFUL").replace(ID, "other"),
            "contradicts wrong_payment",
        ),
        (order("10", &[]).replace("SUCCESSFUL", "CANCELED"), "closed canceled"),
        (order("10", &[]).replace("SUCCESSFUL", "EXPIRED"), "closed expired"),
        (
            order("10", &[]).replace("merchantReference", "orderReference"),
            "not captured None",
        ),
        (r#"{"statusCode":200}"#.to_owned(), "failed transient unexpected_shape"),
        ("".to_owned(), "failed transient not_json"),
    ] {
        assert_eq!(read_as(&intent(ID), &answer(200, &body)), told, "{body}");
    }
    for (answer, told) in [
        (error(404), "closed not_found"),
        (answer(404, ""), "failed transient http_404"),
        (error(401), "failed transient token_expired"),
        (error(429), "failed rate_limited http_429"),
        (error(500), "failed transient http_500"),
    ] {
        assert_eq!(read_as(&intent(ID), &answer), told);
    }
}

/// Before our first send it is not ours, as far as this history of the database tells; but it is why we were refused.
#[test]
fn an_earlier_capture_of_our_amount_explains_a_refusal_and_is_not_passed_over() {
    let read = |refused, siblings: &[&str], body: &str| {
        let intent = intent(ID);
        let siblings = Siblings {
            capture_ids: siblings.iter().map(|id| (*id).to_owned()).collect(),
            undecided: false,
        };
        let call = Call {
            refused,
            siblings: &siblings,
            ..call(&intent)
        };
        name(&observe(&call, BEARER, &Details::of(&call, answer(200, body))))
    };
    let earlier = |amount, status| order("10", &[capture("c-9", amount, status, 600)]);
    assert_eq!(read(true, &[], &earlier("10", "SUCCESSFUL")), "foreign");
    assert_eq!(read(false, &[], &earlier("10", "SUCCESSFUL")), "not captured None");
    assert_eq!(read(true, &["c-9"], &earlier("10", "SUCCESSFUL")), "not captured None");
    assert_eq!(read(true, &[], &earlier("9.99", "SUCCESSFUL")), "not captured None");
    assert_eq!(read(true, &[], &earlier("10", "FAILED")), "not captured None");
}

#[test]
fn a_capture_without_our_reference_is_ours_if_it_is_no_siblings() {
    let body = order(
        "100",
        &[
            capture("c-8", "10", "SUCCESSFUL", 50),
            capture("c-9", "10", "SUCCESSFUL", 40),
        ],
    );
    let known = |ids: &[&str]| Siblings {
        capture_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        undecided: false,
    };
    for (siblings, told) in [
        (known(&[]), "contradicts no_reference"),
        (known(&["c-8"]), "captured sole_writer"),
        (known(&["c-8", "c-9"]), "not captured None"),
    ] {
        assert_eq!(
            read_beside(&siblings, &intent(ID), &answer(200, &body)),
            told,
            "{siblings:?}"
        );
    }
}

#[test]
fn beside_an_undecided_sibling_a_capture_without_reference_is_ours_only_if_two_would_not_fit() {
    let undecided = Siblings {
        capture_ids: Vec::new(),
        undecided: true,
    };
    let stranger = |seconds_ago, status: &str| capture("c-9", "10", status, seconds_ago);
    // Our first send was a minute ago.
    for (amount, captures, told) in [
        ("10", vec![stranger(50, "SUCCESSFUL")], "captured sole_writer"),
        ("10", vec![stranger(50, "PENDING")], "pending"),
        ("10", vec![stranger(50, "FAILED")], "not captured None"),
        ("10", vec![stranger(3600, "SUCCESSFUL")], "not captured None"),
        (
            "10",
            vec![capture("c-9", "9.99", "SUCCESSFUL", 50)],
            "not captured None",
        ),
        ("100", vec![stranger(50, "SUCCESSFUL")], "contradicts no_reference"),
        ("100", vec![stranger(50, "PENDING")], "pending"),
        ("100", vec![stranger(3600, "SUCCESSFUL")], "not captured None"),
        (
            "10",
            vec![stranger(50, "SUCCESSFUL"), stranger(40, "SUCCESSFUL")],
            "contradicts no_reference",
        ),
        (
            "10",
            vec![stranger(50, "SUCCESSFUL"), stranger(40, "FAILED")],
            "captured sole_writer",
        ),
    ] {
        assert_eq!(
            read_beside(&undecided, &intent(ID), &answer(200, &order(amount, &captures))),
            told,
            "{amount} {captures:?}"
        );
    }
    let mut known = intent(ID);
    known.authorized_minor = Some(1999);
    let body = order("100", &[stranger(50, "SUCCESSFUL")]);
    assert_eq!(
        read_beside(&undecided, &known, &answer(200, &body)),
        "captured sole_writer",
        "twice would not fit"
    );
    let with_surcharge = order("10", &[stranger(50, "SUCCESSFUL")]).replace(
        "\"amount\":\"10\",\"currency",
        "\"amount\":\"19\",\"surcharge\":\"0.99\",\"currency",
    );
    assert_eq!(
        read_beside(&undecided, &intent(ID), &answer(200, &with_surcharge)),
        "captured sole_writer"
    );
    let with_surcharge = with_surcharge.replace("0.99", "1");
    assert_eq!(
        read_beside(&undecided, &intent(ID), &answer(200, &with_surcharge)),
        "contradicts no_reference"
    );
    let intent = intent(ID);
    let mut never_sent = call(&intent);
    never_sent.first_sent_at = None;
    let details = Details::of(&never_sent, answer(200, &order("10", &[stranger(50, "SUCCESSFUL")])));
    assert_eq!(name(&observe(&never_sent, BEARER, &details)), "not captured None");
}

#[test]
fn an_intent_that_optty_cannot_take_is_refused_before_it_is_sent() {
    let mut settings = account(Model::Optty);
    let provider = build(settings.clone()).unwrap();
    settings.require_shipping = true;
    let with_shipping = build(settings).unwrap();
    let amount = |minor, code| {
        let mut intent = intent(ID);
        intent.amount = Money::new(minor, Currency::from_code(code).unwrap());
        intent
    };
    let shipped = |company: &str, method: &str, tracking_number: &str| {
        let mut intent = intent(ID);
        intent.details.shipping = Some(Shipping {
            company: company.to_owned(),
            method: method.to_owned(),
            tracking_number: tracking_number.to_owned(),
        });
        intent
    };
    for (intent, code) in [
        (amount(1000, "KWD"), "unsupported_currency"),
        (amount(0, "USD"), "invalid_amount"),
        (shipped("DHL", "Express", ""), "shipping_incomplete"),
        (shipped("DHL", " ", "1"), "shipping_incomplete"),
        (intent(".."), "invalid_payment_id"),
    ] {
        let refused = provider.check(&intent).unwrap_err();
        assert_eq!((refused.class, refused.code.as_str()), (Class::Rejected, code));
    }
    assert!(provider.check(&amount(1, "JPY")).is_ok());
    assert!(provider.check(&intent(ID)).is_ok());
    assert_eq!(
        with_shipping.check(&intent(ID)).unwrap_err().code.as_str(),
        "shipping_missing"
    );
    assert!(with_shipping.check(&shipped("DHL", "Express", "1")).is_ok());
}

#[test]
fn a_read_tells_what_others_captured() {
    let of = |captures: &[String]| {
        let intent = intent(ID);
        let call = Call {
            first_sent_at: None,
            ..call(&intent)
        };
        others(&observe(
            &call,
            BEARER,
            &Details::of(&call, answer(200, &order("100", captures))),
        ))
    };
    let taken = capture("c-8", "10", "SUCCESSFUL", 50);
    assert_eq!(of(&[]), Some(0));
    assert_eq!(
        of(&[
            taken.clone(),
            capture("c-9", "5", "PENDING", 40),
            capture("c-7", "7", "FAILED", 60)
        ]),
        Some(1500)
    );
    assert_eq!(
        of(&[taken.replace(r#""amount":"10""#, r#""amount":"1e400000""#)]),
        None,
        "unreadable is not nothing"
    );
}

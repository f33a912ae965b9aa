use std::slice;

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::courier;
use super::payment::{observe, outcome};
use crate::intent::{CaptureIntent, Currency, KeyGeneration, Money, Parcel};
use crate::outcome::{Class, Observation, Outcome, Proof};
use crate::provider::answer::Answer;
use crate::provider::samples::{
    KEYED, Row, account, ago, answer, any_json, call, dollars, front_rows, hold, intent, name, others, parcel, spoil,
};
use crate::provider::{Model, build};

const ID: &str = "100101782114";

fn money(amount: &str) -> String {
    format!(r#"{{"amount":"{amount}","currency":"USD"}}"#)
}

fn event(kind: &str, amount: &str, reference: &str) -> String {
    format!(
        r#"{{"id":"e-{kind}","created":"{}","type":"{kind}","amount":{},"paymentEventMerchantReference":"{reference}"}}"#,
        ago(10).to_rfc3339(),
        money(amount)
    )
}

fn payment(status: &str, state: &str, open: &str, events: &[String]) -> String {
    format!(
        r#"{{"id":"{ID}","status":"{status}","paymentState":"{state}","openToCaptureAmount":{},"events":[{}]}}"#,
        money(open),
        events.join(",")
    )
}

fn ours(kind: &str, amount: &str) -> String {
    event(kind, amount, &intent(ID).id.reference())
}

fn good() -> String {
    let events = [
        event("AUTH_APPROVED", "10.00", ""),
        ours("CAPTURED", "10.00"),
        event("CAPTURED", "5.00", "other"),
    ];
    payment("APPROVED", "CAPTURED", "0.00", &events)
}

fn classify(answer: &Answer) -> Outcome {
    outcome(&call(&intent(ID)), KEYED, answer)
}

fn error(status: u16, code: &str) -> Answer {
    let body = format!(r#"{{"errorCode":"{code}","errorId":"e1","message":"any","httpStatusCode":{status}}}"#);
    answer(status, &body)
}

fn is_captured(answer: &Answer) -> bool {
    match classify(answer) {
        Outcome::Captured(receipt) => {
            assert_eq!((receipt.amount, receipt.proof), (dollars(1000), Proof::Answer));
            true
        }
        Outcome::Accepted { .. } | Outcome::NotSent => panic!("an answer here is final"),
        Outcome::Failed(_) => false,
    }
}

#[test]
fn every_refusal_has_its_class() {
    let declined = payment(
        "DECLINED",
        "CAPTURE_DECLINED",
        "10.00",
        &[ours("CAPTURE_DECLINED", "10.00")],
    );
    let rows: Vec<Row<'_>> = vec![
        (error(409, "conflict"), Class::InProgress, "conflict"),
        (answer(409, ""), Class::InProgress, "http_409"),
        (error(429, "too_many_requests"), Class::RateLimited, "too_many_requests"),
        (error(500, "internal_error"), Class::Ambiguous, "internal_error"),
        (
            error(503, "service_unavailable"),
            Class::Transient,
            "service_unavailable",
        ),
        (error(410, "payment_captured"), Class::MaybeDone, "payment_captured"),
        (error(412, "payment_expired"), Class::Rejected, "payment_expired"),
        (error(412, "payment_voided"), Class::Rejected, "payment_voided"),
        (error(412, "invalid_state"), Class::Rejected, "invalid_state"),
        (error(412, "error"), Class::Rejected, "error"),
        (error(404, "not_found"), Class::Rejected, "not_found"),
        (error(422, "invalid_amount"), Class::Rejected, "invalid_amount"),
        (error(422, "invalid_object"), Class::Rejected, "invalid_object"),
        (
            error(422, "unsupported_currency"),
            Class::Rejected,
            "unsupported_currency",
        ),
        (
            error(422, "unsupported_payment_type"),
            Class::Rejected,
            "unsupported_payment_type",
        ),
        (
            error(402, "invalid_payment_state"),
            Class::Rejected,
            "invalid_payment_state",
        ),
        (answer(402, &declined), Class::Rejected, "declined"),
        (answer(402, &good()), Class::Ambiguous, "contradictory"),
        (answer(201, &declined), Class::Rejected, "declined"),
        (answer(200, &declined), Class::Rejected, "declined"),
        (error(401, "unauthorized"), Class::Misconfigured, "unauthorized"),
        (answer(401, ""), Class::Misconfigured, "http_401"),
        (error(403, "forbidden"), Class::Misconfigured, "forbidden"),
        (error(400, "bad_request"), Class::MaybeDone, "bad_request"),
        (error(405, "method_not_allowed"), Class::Rejected, "method_not_allowed"),
        (error(406, "not_acceptable"), Class::Rejected, "not_acceptable"),
        (
            error(415, "unsupported_media_type"),
            Class::Rejected,
            "unsupported_media_type",
        ),
        (error(410, "never_heard_of"), Class::Rejected, "unclassified"),
        (error(412, "never_heard_of"), Class::Rejected, "unclassified"),
        (error(418, "never_heard_of"), Class::Rejected, "unclassified"),
        (error(422, "never_heard_of"), Class::Rejected, "unclassified"),
        (error(201, "internal_error"), Class::Ambiguous, "unexpected_shape"),
        (answer(202, &good()), Class::Ambiguous, "http_202"),
        (answer(204, ""), Class::Ambiguous, "http_204"),
        (answer(201, "{}"), Class::Ambiguous, "unexpected_shape"),
        (answer(201, "<html>"), Class::Ambiguous, "not_json"),
    ];
    hold(rows, classify);
    hold(front_rows(true), classify);
}

#[test]
fn the_courier_is_as_documented_and_a_number_is_never_cut() {
    let mut told = parcel(ID);
    let body = |parcel: &Parcel| courier(parcel).map(|body| String::from_utf8(body).unwrap());
    assert_eq!(
        body(&told).unwrap(),
        r#"{"shippedAt":"2023-11-14T22:13:20Z","name":"UPS","tracking":"1Z999"}"#
    );
    told.shipping.company = "é".repeat(200);
    assert!(body(&told).unwrap().contains(&format!("\"{}\"", "é".repeat(128))));
    told.shipping.tracking_number = "1".repeat(129);
    assert_eq!(body(&told).unwrap_err().code.to_string(), "tracking_number_too_long");
}

#[test]
fn a_2xx_is_success_in_one_shape_only() {
    let one = ours("CAPTURED", "10.00");
    let odd = [
        (
            payment("DECLINED", "CAPTURE_DECLINED", "0.00", slice::from_ref(&one)),
            "contradictory",
        ),
        (
            payment("APPROVED", "AUTH_APPROVED", "10.00", slice::from_ref(&one)),
            "contradictory",
        ),
        (
            payment("APPROVED", "VOIDED", "0.00", slice::from_ref(&one)),
            "contradictory",
        ),
        (
            payment("APPROVED", "CAPTURED", "0.00", &[one.clone(), one.clone()]),
            "several_captures",
        ),
        (
            payment("APPROVED", "CAPTURED", "0.00", &[ours("CAPTURED", "9.99")]),
            "wrong_amount",
        ),
        (
            payment("APPROVED", "CAPTURED", "0.00", &[event("CAPTURED", "10.00", "other")]),
            "wrong_reference",
        ),
        (payment("APPROVED", "CAPTURED", "0.00", &[]), "wrong_reference"),
        (good().replace("USD", "AUD"), "wrong_currency"),
        (good().replace(ID, "1"), "wrong_payment"),
    ];
    hold(
        odd.iter()
            .map(|(body, code)| (answer(201, body), Class::Ambiguous, *code))
            .collect(),
        classify,
    );
    assert!(is_captured(&answer(
        201,
        &payment("APPROVED", "PARTIALLY_CAPTURED", "3.00", &[one])
    )));
}

#[test]
fn a_spoiled_answer_is_not_a_capture() {
    let harmless = [
        "/openToCaptureAmount",
        "/events/0",
        "/events/2",
        "/events/1/id",
        "/events/1/created",
        // CAPTURED and PARTIALLY_CAPTURED are both right; every other state is not, and is not in this list.
    ];
    spoil(&good(), &harmless, is_captured);
}

proptest! {
    #[test]
    fn no_json_of_another_shape_is_a_capture(
        body in any_json(&["id", "status", "APPROVED", "paymentState", "CAPTURED", "events", "type", "amount", "currency", "USD", ID, "paymentEventMerchantReference", "errorCode"]),
        status in prop::sample::select(vec![200u16, 201, 202, 402, 409, 410]),
    ) {
        prop_assert!(!is_captured(&answer(status, &body)), "{}", body);
        let _ = observe(&call(&intent(ID)), KEYED, &answer(status, &body));
    }
}

fn read_as(intent: &CaptureIntent, generation: i16, answer: &Answer) -> String {
    let mut call = call(intent);
    call.generation = KeyGeneration(generation);
    name(&observe(&call, KEYED, answer))
}

#[test]
fn a_read_tells_what_it_shows() {
    let declined = ours("CAPTURE_DECLINED", "10.00");
    let foreign = event("CAPTURED", "10.00", "other");
    let two = [ours("CAPTURED", "10.00"), ours("CAPTURED", "10.00")];
    let both = [declined.clone(), ours("CAPTURED", "10.00")];
    let one_declined = [declined.clone()];
    for (body, told) in [
        (good(), "captured reference"),
        (
            payment("DECLINED", "CAPTURE_DECLINED", "10.00", &both),
            "captured reference",
        ),
        (
            payment("APPROVED", "VOIDED", "0.00", &[ours("CAPTURED", "10.00")]),
            "captured reference",
        ),
        (
            payment("APPROVED", "CAPTURED", "0.00", &two),
            "contradicts several_captures",
        ),
        (
            payment("APPROVED", "CAPTURED", "0.00", &[ours("CAPTURED", "9.99")]),
            "contradicts wrong_amount",
        ),
        (good().replace("USD", "AUD"), "contradicts wrong_currency"),
        (good().replace(ID, "1"), "contradicts wrong_payment"),
        (
            payment("DECLINED", "CAPTURE_DECLINED", "10.00", &one_declined),
            "declined capture_declined",
        ),
        (
            payment("APPROVED", "AUTH_APPROVED", "10.00", &[]),
            "not captured Some(1000)",
        ),
        (
            payment("APPROVED", "PARTIALLY_CAPTURED", "10.00", slice::from_ref(&foreign)),
            "not captured Some(1000)",
        ),
        (
            payment("APPROVED", "PARTIALLY_CAPTURED", "9.99", slice::from_ref(&foreign)),
            "foreign",
        ),
        (payment("APPROVED", "CAPTURED", "0.00", &[foreign]), "foreign"),
        (
            payment("APPROVED", "AUTH_APPROVED", "9.99", &[]),
            "closed too_little_left",
        ),
        (payment("APPROVED", "VOIDED", "0.00", &[]), "closed voided"),
        (payment("APPROVED", "EXPIRED", "0.00", &[]), "closed expired"),
        (
            payment("DECLINED", "AUTH_DECLINED", "0.00", &[]),
            "closed auth_declined",
        ),
        (
            format!(r#"{{"id":"{ID}","status":"APPROVED","events":[]}}"#),
            "not captured None",
        ),
        ("{}".to_owned(), "failed transient unexpected_shape"),
        ("<html>".to_owned(), "failed transient not_json"),
    ] {
        assert_eq!(read_as(&intent(ID), 0, &answer(200, &body)), told, "{body}");
    }
    for (answer, told) in [
        (error(404, "not_found"), "closed not_found"),
        (answer(404, ""), "failed transient http_404"),
        (error(412, "error"), "failed transient http_412"),
        (error(401, "unauthorized"), "failed misconfigured http_401"),
        (error(403, "forbidden"), "failed misconfigured http_403"),
        (error(429, "too_many_requests"), "failed rate_limited http_429"),
        (answer(302, ""), "failed misconfigured redirect"),
        (error(500, "internal_error"), "failed transient http_500"),
    ] {
        assert_eq!(read_as(&intent(ID), 0, &answer), told);
    }
}

#[test]
fn the_refusal_of_an_earlier_key_is_not_that_of_this_one() {
    let once = payment(
        "DECLINED",
        "CAPTURE_DECLINED",
        "10.00",
        &[ours("CAPTURE_DECLINED", "10.00")],
    );
    assert_eq!(read_as(&intent(ID), 1, &answer(200, &once)), "not captured Some(1000)");
    let twice = [ours("CAPTURE_DECLINED", "10.00"), ours("CAPTURE_DECLINED", "10.00")];
    let twice = payment("DECLINED", "CAPTURE_DECLINED", "10.00", &twice);
    assert_eq!(
        read_as(&intent(ID), 1, &answer(200, &twice)),
        "declined capture_declined"
    );
}

#[test]
fn a_receipt_names_the_providers_event_and_time() {
    match observe(&call(&intent(ID)), KEYED, &answer(200, &good())) {
        Observation::Captured(receipt) => {
            assert_eq!(receipt.provider_capture_id, "e-CAPTURED");
            assert!(receipt.captured_at.is_some());
        }
        other => panic!("{other:?}"),
    }
    let nameless = good().replace(r#""id":"e-CAPTURED","#, "");
    match classify(&answer(201, &nameless)) {
        Outcome::Captured(receipt) => assert_eq!(receipt.provider_capture_id, intent(ID).id.reference()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_intent_that_afterpay_cannot_take_is_refused_before_it_is_sent() {
    let provider = build(account(Model::Afterpay)).unwrap();
    assert!(provider.check(&intent(ID)).is_ok());
    let mut long = intent(ID);
    long.details.merchant_reference = Some("x".repeat(129));
    let amount = |minor, code| {
        let mut intent = intent(ID);
        intent.amount = Money::new(minor, Currency::from_code(code).unwrap());
        intent
    };
    for (intent, code) in [
        (intent("12a"), "invalid_payment_id"),
        (intent("１２"), "invalid_payment_id"),
        (amount(1000, "JPY"), "unsupported_currency"),
        (amount(1000, "CHF"), "unsupported_currency"),
        (amount(99, "USD"), "invalid_amount"),
        (amount(-1000, "USD"), "invalid_amount"),
        (long, "invalid_object"),
    ] {
        let refused = provider.check(&intent).unwrap_err();
        assert_eq!((refused.class, refused.code.as_str()), (Class::Rejected, code));
    }
    for code in ["AUD", "NZD", "USD", "CAD", "GBP", "EUR"] {
        assert!(provider.check(&amount(100, code)).is_ok(), "{code}");
    }
}

#[test]
fn a_read_tells_what_others_captured() {
    let foreign = event("CAPTURED", "3.00", "other");
    let declined = event("CAPTURE_DECLINED", "10.00", "other");
    let both = [foreign.clone(), foreign.clone(), declined];
    let of = |events: &[String]| {
        let body = payment("APPROVED", "PARTIALLY_CAPTURED", "10.00", events);
        others(&observe(&call(&intent(ID)), KEYED, &answer(200, &body)))
    };
    assert_eq!(of(&[]), Some(0));
    assert_eq!(of(&both), Some(600));
    assert_eq!(of(&[foreign.replace("USD", "AUD")]), None, "unreadable is not nothing");
}

/// What an Afterpay payment tells of its authorisation: (reads, capture answer).
fn told(expires: &[&str]) -> [Option<DateTime<Utc>>; 2] {
    let approved = |expires: &&str| format!(r#"{{"id":"a","type":"AUTH_APPROVED","expires":{expires}}}"#);
    // The end of another event is not the authorisation's.
    let mut events = vec![r#"{"id":"r","type":"REFUNDED","expires":"2099-01-01T00:00:00Z"}"#.to_owned()];
    events.extend(expires.iter().map(approved));
    let open = payment("APPROVED", "AUTH_APPROVED", "30.00", &events);
    events.push(ours("CAPTURED", "10.00"));
    let captured = payment("APPROVED", "PARTIALLY_CAPTURED", "20.00", &events);
    let read = match observe(&call(&intent(ID)), KEYED, &answer(200, &open)) {
        Observation::NotCaptured {
            authorization_expires_at,
            ..
        } => authorization_expires_at,
        other => panic!("{other:?}"),
    };
    let sent = match classify(&answer(201, &captured)) {
        Outcome::Captured(receipt) => receipt.authorization_expires_at,
        other => panic!("{other:?}"),
    };
    [read, sent]
}

#[test]
fn an_answer_tells_when_the_authorisation_ends() {
    let at = |text: &str| [Some(text.parse().unwrap()); 2];
    assert_eq!(told(&[r#""2026-12-01T10:00:00.000Z""#]), at("2026-12-01T10:00:00Z"));
    assert_eq!(told(&[r#""2026-12-01T10:00:00+10:00""#]), at("2026-12-01T00:00:00Z"));
    // Renewed: the last one holds.
    let two = [r#""2026-12-09T10:00:00Z""#, r#""2026-12-01T10:00:00Z""#];
    assert_eq!(told(&two), at("2026-12-09T10:00:00Z"));
    // What is over is told as it is; whether the payment still takes a capture its state says.
    assert_eq!(told(&[r#""2001-01-01T00:00:00Z""#]), at("2001-01-01T00:00:00Z"));
}

#[test]
fn an_end_that_makes_no_sense_is_none_and_the_capture_counts_all_the_same() {
    assert_eq!(told(&[]), [None; 2]);
    for odd in [
        "null",
        "true",
        "0",
        "1765000000",
        "1e400",
        "-1",
        "[]",
        "{}",
        r#""""#,
        r#""never""#,
        r#""2026-12-01""#,
        r#""2026-12-01T10:00:00""#,
        r#""2026-13-45T99:99:99Z""#,
        r#""0000-00-00T00:00:00Z""#,
        r#""9999-12-31T23:59:59Z""#,
    ] {
        assert_eq!(told(&[odd]), [None; 2], "{odd}");
    }
}

proptest! {
    #[test]
    fn no_text_in_the_place_of_an_end_keeps_an_answer_from_being_read(text in ".{0,40}") {
        let [read, sent] = told(&[&serde_json::Value::String(text).to_string()]);
        prop_assert_eq!(read, sent);
    }
}

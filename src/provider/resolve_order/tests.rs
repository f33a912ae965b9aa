use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::order::{observe, outcome};
use crate::intent::{CaptureIntent, Currency, KeyGeneration, Money};
use crate::outcome::{Class, Observation, Outcome, Proof};
use crate::provider::answer::Answer;
use crate::provider::samples::{
    KEYED, Row, account, ago, answer, any_json, call, dollars, front_rows, hold, intent, name, others, spoil,
};
use crate::provider::{Model, build};

const ID: &str = "ORDlaE5wbg0";

fn key(generation: i16) -> String {
    intent(ID).id.key(KeyGeneration(generation)).to_string()
}

fn event(amount: &str, key: &str) -> String {
    let processed = ago(10).to_rfc3339();
    format!(
        r#"{{"amount":{amount},"idempotency_key":"{key}","processed_at":"{processed}","invoice_id":"inv-{amount}"}}"#
    )
}

fn order(status: &str, captured: &str, remaining: &str, events: &[String]) -> String {
    format!(
        r#"{{"id":"{ID}","status":"{status}","amount_captured":{captured},"amount_remaining":{remaining},"authorization_expires_at":"2099-01-01T00:00:00Z","capture_events":[{}]}}"#,
        events.join(",")
    )
}

fn good() -> String {
    order(
        "captured",
        "15.00",
        "0.00",
        &[event("5.00", "other"), event("10.00", &key(0))],
    )
}

fn classify(answer: &Answer) -> Outcome {
    outcome(&call(&intent(ID)), KEYED, answer)
}

fn error(status: u16, kind: &str) -> Answer {
    answer(status, &format!(r#"{{"error":{{"type":"{kind}","message":"any"}}}}"#))
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
    let rows: Vec<Row<'_>> = vec![
        (error(400, "validation_error"), Class::Rejected, "validation_error"),
        (error(400, "invalid_request"), Class::MaybeDone, "invalid_request"),
        (error(400, "never_heard_of"), Class::Rejected, "unclassified"),
        (
            error(401, "authentication_error"),
            Class::Misconfigured,
            "authentication_error",
        ),
        (error(403, "forbidden_error"), Class::Misconfigured, "forbidden_error"),
        (error(404, "not_found_error"), Class::Rejected, "not_found_error"),
        (error(409, "conflict_error"), Class::MaybeDone, "conflict_error"),
        (error(418, "never_heard_of"), Class::Rejected, "unclassified"),
        (
            error(422, "unprocessable_error"),
            Class::MaybeDone,
            "unprocessable_error",
        ),
        (error(429, "rate_limit_error"), Class::RateLimited, "rate_limit_error"),
        (error(500, "api_error"), Class::Ambiguous, "api_error"),
        (error(503, "api_error"), Class::Transient, "api_error"),
        (answer(409, ""), Class::Ambiguous, "not_json"),
        (
            answer(200, &good().replace("10.00", "9.99")),
            Class::Ambiguous,
            "wrong_amount",
        ),
        (
            answer(200, &good().replace(&key(0), "none")),
            Class::Ambiguous,
            "wrong_reference",
        ),
        (
            answer(200, &good().replace(ID, "other")),
            Class::Ambiguous,
            "wrong_payment",
        ),
        (
            answer(200, &good().replace("other", &key(0))),
            Class::Ambiguous,
            "several_captures",
        ),
        (answer(202, &good()), Class::Ambiguous, "http_202"),
        (answer(200, "{}"), Class::Ambiguous, "unexpected_shape"),
        (answer(200, ""), Class::Ambiguous, "not_json"),
    ];
    hold(rows, classify);
    hold(front_rows(true), classify);
}

#[test]
fn a_currency_that_is_shown_must_be_dollars() {
    let shown = |currency: &str| good().replacen('{', &format!(r#"{{"currency":"{currency}","#), 1);
    assert!(is_captured(&answer(200, &shown("USD"))));
    hold(
        vec![(answer(200, &shown("CAD")), Class::Ambiguous, "wrong_currency")],
        classify,
    );
}

#[test]
fn a_spoiled_answer_is_not_a_capture() {
    let harmless = [
        "/status",
        "/amount_captured",
        "/amount_remaining",
        "/authorization_expires_at",
        "/capture_events/0",
        "/capture_events/1/processed_at",
        "/capture_events/1/invoice_id",
    ];
    spoil(&good(), &harmless, is_captured);
}

proptest! {
    #[test]
    fn no_json_of_another_shape_is_a_capture(
        body in any_json(&["id", ID, "capture_events", "amount", "idempotency_key", "status", "error", "type"]),
        status in prop::sample::select(vec![200u16, 201, 400, 404, 409]),
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
    let foreign = [event("10.00", "other")];
    for (body, told) in [
        (good(), "captured reference"),
        (good().replace("10.00", "9.99"), "contradicts wrong_amount"),
        (good().replace("other", &key(0)), "contradicts several_captures"),
        (good().replace(ID, "other"), "contradicts wrong_payment"),
        (order("authorized", "0", "10.00", &[]), "not captured Some(1000)"),
        (
            order("partially_captured", "10.00", "10.00", &foreign),
            "not captured Some(1000)",
        ),
        (order("captured", "10.00", "0.00", &foreign), "foreign"),
        (order("partially_captured", "10.00", "9.99", &foreign), "foreign"),
        (order("authorized", "0", "9.99", &[]), "closed too_little_left"),
        (order("canceled", "0", "0", &[]), "closed canceled"),
        (
            order("authorized", "0", "10", &[]).replace("2099", "2019"),
            "closed expired",
        ),
        (format!(r#"{{"id":"{ID}"}}"#), "not captured None"),
        (order("authorized", "0", "1e400000", &[]), "not captured None"),
        ("{}".to_owned(), "failed transient unexpected_shape"),
    ] {
        assert_eq!(read_as(&intent(ID), 0, &answer(200, &body)), told, "{body}");
    }
    for (answer, told) in [
        (error(404, "not_found_error"), "closed not_found"),
        (answer(404, ""), "failed transient http_404"),
        (error(401, "authentication_error"), "failed misconfigured http_401"),
        (error(429, "rate_limit_error"), "failed rate_limited http_429"),
        (error(500, "api_error"), "failed transient http_500"),
    ] {
        assert_eq!(read_as(&intent(ID), 0, &answer), told);
    }
}

#[test]
fn a_capture_under_an_earlier_key_is_ours_too_and_two_of_them_are_one_too_many() {
    assert_eq!(read_as(&intent(ID), 1, &answer(200, &good())), "captured reference");
    let twice = good().replace("other", &key(1)).replace("5.00", "10.00");
    assert_eq!(
        read_as(&intent(ID), 1, &answer(200, &twice)),
        "contradicts several_captures"
    );
    let later = good().replace(&key(0), &key(1));
    assert_eq!(
        read_as(&intent(ID), 0, &answer(200, &later)),
        "foreign",
        "a key that was never minted is not ours"
    );
}

#[test]
fn an_intent_that_resolve_cannot_take_is_refused_before_it_is_sent() {
    for model in [Model::ResolveOrder, Model::ResolveCharge] {
        let provider = build(account(model)).unwrap();
        assert!(provider.check(&intent(ID)).is_ok());
        let amount = |minor, code| {
            let mut intent = intent(ID);
            intent.amount = Money::new(minor, Currency::from_code(code).unwrap());
            intent
        };
        for (intent, code) in [
            (amount(1000, "CAD"), "unsupported_currency"),
            (amount(1000, "JPY"), "unsupported_currency"),
            (amount(0, "USD"), "invalid_amount"),
            (intent(""), "invalid_payment_id"),
        ] {
            let refused = provider.check(&intent).unwrap_err();
            assert_eq!(
                (refused.class, refused.code.as_str()),
                (Class::Rejected, code),
                "{model:?}"
            );
        }
    }
}

#[test]
fn a_read_tells_what_others_captured() {
    let of = |captured: &str| {
        let body = order("partially_captured", captured, "10.00", &[event(captured, "other")]);
        others(&observe(&call(&intent(ID)), KEYED, &answer(200, &body)))
    };
    assert_eq!(of("3.00"), Some(300));
    assert_eq!(of("1e400000"), None, "unreadable is not nothing");
}

/// What an order tells of its authorisation: (read, capture answer).
fn told(expires: &str) -> [Option<DateTime<Utc>>; 2] {
    let with = |body: String| body.replace("\"2099-01-01T00:00:00Z\"", expires);
    let open = with(order("authorized", "0", "10.00", &[]));
    let read = match observe(&call(&intent(ID)), KEYED, &answer(200, &open)) {
        Observation::NotCaptured {
            authorization_expires_at,
            ..
        } => authorization_expires_at,
        other => panic!("{other:?}"),
    };
    let sent = match classify(&answer(200, &with(good()))) {
        Outcome::Captured(receipt) => receipt.authorization_expires_at,
        other => panic!("{other:?}"),
    };
    [read, sent]
}

#[test]
fn an_answer_tells_when_the_authorisation_ends() {
    assert_eq!(
        told(r#""2099-01-01T00:00:00Z""#),
        [Some("2099-01-01T00:00:00Z".parse().unwrap()); 2]
    );
    for odd in [
        "null",
        "17",
        "1e400",
        "[]",
        "{}",
        "true",
        r#""""#,
        r#""soon""#,
        r#""2099-01-01""#,
        r#""9999-01-01T00:00:00Z""#,
    ] {
        assert_eq!(told(odd), [None; 2], "{odd}");
    }
}

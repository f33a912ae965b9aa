use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::Writers;
use super::charge::{Charge, Invoice, Told, judge, outcome, told};
use crate::intent::CaptureIntent;
use crate::outcome::{Class, Outcome, Proof};
use crate::provider::answer::Answer;
use crate::provider::samples::{
    BEARER, Row, UNKEYED, ago, answer, any_json, call, dollars, front_rows, hold, intent, name, spoil,
};

const ID: &str = "czTrT9opfkBaYZNh";
const ALONE: Writers = Writers {
    adopt_equal: false,
    others: false,
};
const ADOPTING: Writers = Writers {
    adopt_equal: true,
    others: false,
};
const AMONG_OTHERS: Writers = Writers {
    adopt_equal: false,
    others: true,
};

fn charge(captured_at: Option<DateTime<Utc>>, metadata: &str) -> String {
    let captured = captured_at.is_some();
    let at = captured_at.map_or("null".to_owned(), |at| format!("\"{}\"", at.to_rfc3339()));
    format!(
        r#"{{"id":"{ID}","amount":10.00,"captured":{captured},"captured_at":{at},"canceled":false,"merchant_invoice_id":"inv-1","order_number":"1001","po_number":null,"metadata":{metadata}}}"#
    )
}

fn marked() -> String {
    format!(r#"{{"capture_intent":"{}"}}"#, intent(ID).id.reference())
}

fn invoice(amount: &str) -> String {
    format!(r#"{{"id":"inv-1","amount_due":{amount}}}"#)
}

fn classify(answer: &Answer) -> Outcome {
    capture_told(answer, &invoice("10.00"))
}

fn capture_told(posted: &Answer, invoice: &str) -> Outcome {
    let intent = intent(ID);
    match told(&call(&intent), UNKEYED, posted) {
        Told::Failed(failure) => Outcome::Failed(failure),
        Told::Captured(charge) => {
            let invoice = Invoice::of("inv-1", &answer(200, invoice));
            outcome(&call(&intent), posted, &charge, invoice.as_ref())
        }
    }
}

fn error(status: u16, kind: &str) -> Answer {
    answer(
        status,
        &format!(r#"{{"error":{{"type":"{kind}","message":"any","details":[]}}}}"#),
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
    let not_captured = charge(None, "{}");
    let canceled = charge(Some(ago(1)), "{}").replace("\"canceled\":false", "\"canceled\":true");
    let rows: Vec<Row<'_>> = vec![
        (answer(200, &not_captured), Class::Ambiguous, "not_captured"),
        (answer(200, &canceled), Class::Ambiguous, "contradictory"),
        (
            answer(200, &charge(Some(ago(1)), "{}").replace(ID, "other")),
            Class::Ambiguous,
            "wrong_payment",
        ),
        (
            answer(200, &format!(r#"{{"id":"{ID}"}}"#)),
            Class::Ambiguous,
            "unexpected_shape",
        ),
        (answer(200, "{}"), Class::Ambiguous, "unexpected_shape"),
        (answer(200, ""), Class::Ambiguous, "not_json"),
        (answer(202, &charge(Some(ago(1)), "{}")), Class::Ambiguous, "http_202"),
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
        (error(503, "api_error"), Class::Ambiguous, "api_error"),
        (answer(409, ""), Class::Ambiguous, "not_json"),
    ];
    hold(rows, classify);
    hold(front_rows(false), classify);
    let intent = intent(ID);
    match told(&call(&intent), BEARER, &error(401, "authentication_error")) {
        Told::Failed(failure) => {
            assert_eq!(
                (failure.class, failure.code.as_str()),
                (Class::Transient, "token_expired")
            );
        }
        Told::Captured(_) => panic!("a 401 captures nothing"),
    }
}

#[test]
fn a_charge_is_captured_only_with_our_amount_on_its_invoice() {
    let posted = answer(200, &charge(Some(ago(1)), "{}"));
    assert!(is_captured(&capture_told(&posted, &invoice("10"))));
    for other in ["9.99", "10.01", "1000", "0", "1e1", "1e400000", "null", "\"ten\""] {
        let outcome = capture_told(&posted, &invoice(other));
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{other} {outcome:?}");
    }
    let outcome = capture_told(&posted, &invoice("10.00").replace("inv-1", "inv-2"));
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
}

#[test]
fn a_spoiled_answer_is_not_a_capture() {
    let harmless = [
        "/amount",
        "/captured_at",
        "/canceled",
        "/merchant_invoice_id",
        "/order_number",
        "/po_number",
        "/metadata",
    ];
    let good = charge(Some(ago(1)), "{}");
    spoil(&good, &harmless, |answer| is_captured(&classify(answer)));
    let posted = answer(200, &good);
    for (path, body) in crate::provider::samples::spoiled(&invoice("10.00")) {
        assert!(!is_captured(&capture_told(&posted, &body)), "{path} {body}");
    }
}

proptest! {
    #[test]
    fn no_json_of_another_shape_is_a_capture(
        body in any_json(&["id", ID, "captured", "canceled", "merchant_invoice_id", "inv-1", "error", "type", "amount"]),
        status in prop::sample::select(vec![200u16, 201, 400, 404, 409]),
    ) {
        let is_shape = body.contains(&format!("\"id\":\"{ID}\"")) && body.contains("\"captured\":true");
        prop_assert!(is_shape || !is_captured(&classify(&answer(status, &body))), "{}", body);
    }
}

fn read_as(intent: &CaptureIntent, writers: Writers, body: &str, invoiced: Option<&str>, sent: bool) -> String {
    let mut call = call(intent);
    if !sent {
        call.first_sent_at = None;
    }
    let read = answer(200, body);
    match Charge::of(&call, UNKEYED, &read) {
        Err(observation) => name(&observation),
        Ok(charge) => {
            let invoice = invoiced.and_then(|amount| Invoice::of("inv-1", &answer(200, &invoice(amount))));
            name(&judge(&call, writers, &read, &charge, invoice.as_ref()))
        }
    }
}

#[test]
fn a_charge_that_is_not_captured_is_open_or_closed() {
    let open = charge(None, "{}");
    for (body, told) in [
        (open.clone(), "not captured Some(1000)"),
        (open.replace("10.00", "9.99"), "closed too_little_left"),
        (
            open.replace("\"canceled\":false", "\"canceled\":true"),
            "closed canceled",
        ),
        (open.replace(ID, "other"), "contradicts wrong_payment"),
        (
            open.replace("\"captured\":false", "\"captured\":null"),
            "failed transient unexpected_shape",
        ),
    ] {
        for sent in [false, true] {
            assert_eq!(read_as(&intent(ID), ALONE, &body, None, sent), told, "{body}");
        }
    }
}

#[test]
fn a_capture_from_before_our_first_send_is_not_ours_unless_it_is_adopted() {
    // Our first send was a minute ago.
    let before = charge(Some(ago(3600)), "{}");
    let within = charge(Some(ago(30)), "{}");
    for (body, sent) in [(&before, true), (&before, false), (&within, false)] {
        assert_eq!(read_as(&intent(ID), ALONE, body, Some("10"), sent), "foreign");
        assert_eq!(read_as(&intent(ID), AMONG_OTHERS, body, Some("10"), sent), "foreign");
        assert_eq!(
            read_as(&intent(ID), ADOPTING, body, Some("10"), sent),
            "captured sole_writer"
        );
        assert_eq!(read_as(&intent(ID), ADOPTING, body, Some("9.99"), sent), "foreign");
        assert_eq!(
            read_as(&intent(ID), ADOPTING, body, None, sent),
            "failed transient no_invoice"
        );
    }
}

#[test]
fn a_capture_after_our_first_send_is_ours_with_our_amount_when_nobody_else_writes() {
    let within = charge(Some(ago(30)), "{}");
    assert_eq!(
        read_as(&intent(ID), ALONE, &within, Some("10"), true),
        "captured sole_writer"
    );
    assert_eq!(
        read_as(&intent(ID), ALONE, &within, Some("9.99"), true),
        "contradicts wrong_amount"
    );
    assert_eq!(
        read_as(&intent(ID), ALONE, &within, None, true),
        "failed transient no_invoice"
    );
    let clock_behind = charge(Some(ago(60 + 299)), "{}");
    assert_eq!(
        read_as(&intent(ID), ALONE, &clock_behind, Some("10"), true),
        "captured sole_writer"
    );
    let clock_far_behind = charge(Some(ago(60 + 302)), "{}");
    assert_eq!(
        read_as(&intent(ID), ALONE, &clock_far_behind, Some("10"), true),
        "foreign"
    );
    let canceled = within.replace("\"canceled\":false", "\"canceled\":true");
    assert_eq!(
        read_as(&intent(ID), ALONE, &canceled, Some("10"), true),
        "contradicts contradictory"
    );
    let future = charge(Some(Utc::now() + TimeDelta::minutes(6)), "{}");
    assert_eq!(
        read_as(&intent(ID), ALONE, &future, Some("10"), true),
        "contradicts captured_in_the_future"
    );
    let timeless = within.replace("\"captured_at\":\"", "\"captured_at\":\"at ");
    assert_eq!(
        read_as(&intent(ID), ALONE, &timeless, Some("10"), true),
        "contradicts no_capture_time"
    );
}

#[test]
fn where_others_write_our_marker_or_our_number_must_be_there() {
    let unmarked = charge(Some(ago(30)), "{}");
    let ours = charge(Some(ago(30)), &marked());
    let theirs = charge(Some(ago(30)), r#"{"capture_intent":"another"}"#);
    assert_eq!(
        read_as(&intent(ID), AMONG_OTHERS, &unmarked, Some("10"), true),
        "contradicts no_marker"
    );
    assert_eq!(
        read_as(&intent(ID), AMONG_OTHERS, &ours, Some("10"), true),
        "captured marker"
    );
    assert_eq!(read_as(&intent(ID), ALONE, &ours, Some("10"), true), "captured marker");
    for writers in [ALONE, AMONG_OTHERS] {
        assert_eq!(
            read_as(&intent(ID), writers, &theirs, Some("10"), true),
            "contradicts marked_by_another"
        );
    }
    let mut numbered = intent(ID);
    numbered.details.order_number = Some("1001".to_owned());
    assert_eq!(
        read_as(&numbered, AMONG_OTHERS, &unmarked, Some("10"), true),
        "captured marker"
    );
    numbered.details.order_number = Some("1002".to_owned());
    assert_eq!(
        read_as(&numbered, AMONG_OTHERS, &unmarked, Some("10"), true),
        "contradicts no_marker"
    );
}

#[test]
fn an_answer_that_is_no_charge_fails_the_read() {
    let intent = intent(ID);
    for (answer, expected) in [
        (error(404, "not_found_error"), "closed not_found"),
        (answer(404, ""), "failed transient http_404"),
        (error(401, "authentication_error"), "failed misconfigured http_401"),
        (error(429, "rate_limit_error"), "failed rate_limited http_429"),
        (error(500, "api_error"), "failed transient http_500"),
        (answer(200, "{}"), "failed transient unexpected_shape"),
        (answer(200, "<html>"), "failed transient not_json"),
    ] {
        match Charge::of(&call(&intent), UNKEYED, &answer) {
            Err(observation) => assert_eq!(name(&observation), expected),
            Ok(charge) => panic!("{charge:?}"),
        }
    }
}

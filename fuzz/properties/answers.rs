//! Answers of providers: whatever they are, nothing panics, nothing takes long, and only the documented shape is a capture.
//!
//! An input is a line with the statuses of the answer and of the one to the read after it (`201 200`), then the body, then
//! `====` on a line, then the body of the second.

use std::time::{Duration, Instant};

use capture::clock::{Boottime, SendGuard};
use capture::intent::{CaptureIntent, Currency, Details, KeyGeneration, Lane, Money};
use capture::outcome::{Class, Evidence, Failure, Observation, Outcome, Receipt};
use capture::provider::bare::{self, Told};
use capture::provider::{Call, Model, Siblings};
use chrono::DateTime;

use super::oracle::{self, Ours, Seen};

/// The longest that any answer may take to be judged. Bodies have 256 KiB at most; a slow machine is not the point.
const PATIENCE: Duration = Duration::from_secs(2);
const BODY_LIMIT: usize = 256 * 1024;
const PAYMENT: &str = "100101782114";

pub fn capture_afterpay(data: &[u8]) {
    capture(Model::Afterpay, data);
}
pub fn capture_optty(data: &[u8]) {
    capture(Model::Optty, data);
}
pub fn capture_resolve_charge(data: &[u8]) {
    capture(Model::ResolveCharge, data);
}
pub fn capture_resolve_order(data: &[u8]) {
    capture(Model::ResolveOrder, data);
}
pub fn read_afterpay(data: &[u8]) {
    read(Model::Afterpay, data);
}
pub fn read_optty(data: &[u8]) {
    read(Model::Optty, data);
}
pub fn read_resolve_charge(data: &[u8]) {
    read(Model::ResolveCharge, data);
}
pub fn read_resolve_order(data: &[u8]) {
    read(Model::ResolveOrder, data);
}

/// Ten US dollars.
fn intent() -> CaptureIntent {
    CaptureIntent {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        lane: Lane {
            provider: "any".to_owned(),
            account: "default".to_owned(),
        },
        order_id: "1001".to_owned(),
        payment_id: PAYMENT.to_owned(),
        capture_ref: "first".to_owned(),
        amount: Money::new(1000, Currency::from_code("USD").unwrap()),
        authorized_minor: Some(1000),
        authorization_expires_at: None,
        details: Details::default(),
        traceparent: None,
        created_at: DateTime::UNIX_EPOCH,
    }
}

fn with_call<T>(of: impl FnOnce(&Call<'_>, &Ours<'_>) -> T) -> T {
    let intent = intent();
    let siblings = Siblings::default();
    let call = Call {
        intent: &intent,
        generation: KeyGeneration(0),
        first_sent_at: DateTime::from_timestamp(1_791_360_000, 0),
        refused: false,
        accepted_id: None,
        pending_id: None,
        siblings: &siblings,
        guard: SendGuard::new(Boottime::now(), Duration::from_secs(60), Duration::ZERO),
    };
    let (reference, key) = (intent.id.reference(), call.key().to_string());
    let ours = Ours {
        payment: PAYMENT,
        reference: &reference,
        key: &key,
    };
    of(&call, &ours)
}

/// The two answers that an input stands for.
fn answers(data: &[u8]) -> (Told, Told) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (head, rest) = data.split_at(end);
    let rest = rest.get(1..).unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let mut statuses = head.split(' ').map(|word| word.parse().unwrap_or(200));
    let mark = b"\n====\n";
    let cut = rest.windows(mark.len()).position(|window| window == mark);
    let (first, second) = match cut {
        Some(at) => (&rest[..at], &rest[at + mark.len()..]),
        None => (rest, &b""[..]),
    };
    let mut told = |body: &[u8]| Told {
        status: statuses.next().unwrap_or(200),
        content_type: None,
        body: body[..body.len().min(BODY_LIMIT)].to_vec(),
    };
    (told(first), told(second))
}

fn seen(told: &Told) -> Seen<'_> {
    Seen {
        status: told.status,
        body: &told.body,
    }
}

fn capture(model: Model, data: &[u8]) {
    let (posted, then) = answers(data);
    with_call(|call, ours| {
        let began = Instant::now();
        let outcome = bare::capture(model, call, &posted, &then);
        assert!(began.elapsed() < PATIENCE, "{model:?} took {:?}", began.elapsed());
        match &outcome {
            Outcome::Captured(receipt) => {
                is_ours(call, receipt);
                let may = match model {
                    Model::Afterpay => oracle::afterpay(ours, &seen(&posted), true),
                    Model::Optty => oracle::optty_taken(ours, &seen(&posted))
                        .is_some_and(|id| oracle::optty_details(ours, &seen(&then), &[ours.reference, &id])),
                    Model::ResolveCharge => oracle::resolve_charge(ours, &seen(&posted), &seen(&then)),
                    Model::ResolveOrder => oracle::resolve_order(ours, &seen(&posted)),
                };
                assert!(may, "{model:?} takes this for a capture: {posted:?} {then:?}");
            }
            Outcome::Accepted { evidence, .. } => {
                is_small(evidence);
                let may = match model {
                    Model::Optty => oracle::optty_taken(ours, &seen(&posted)).is_some(),
                    Model::ResolveCharge => oracle::resolve_charge_taken(ours, &seen(&posted)),
                    Model::Afterpay | Model::ResolveOrder => false,
                };
                assert!(may, "{model:?} takes this for accepted: {posted:?}");
            }
            Outcome::NotSent => panic!("an answer came, so something was sent"),
            Outcome::Failed(failure) => {
                is_small(&failure.evidence);
                is_honest(model, posted.status, failure);
            }
        }
    });
}

fn read(model: Model, data: &[u8]) {
    let (told, then) = answers(data);
    with_call(|call, ours| {
        let began = Instant::now();
        let observation = bare::read(model, call, &told, &then);
        assert!(began.elapsed() < PATIENCE, "{model:?} took {:?}", began.elapsed());
        match &observation {
            Observation::Captured(receipt) => {
                is_ours(call, receipt);
                let may = match model {
                    Model::Afterpay => oracle::afterpay(ours, &seen(&told), false),
                    Model::Optty => oracle::optty_details(ours, &seen(&told), &[]),
                    Model::ResolveCharge => oracle::resolve_charge(ours, &seen(&told), &seen(&then)),
                    Model::ResolveOrder => oracle::resolve_order(ours, &seen(&told)),
                };
                assert!(may, "{model:?} reads this as a capture: {told:?} {then:?}");
            }
            Observation::NotCaptured { evidence, .. }
            | Observation::Declined { evidence, .. }
            | Observation::Foreign { evidence } => {
                is_small(evidence);
                assert!(
                    matches!(told.status, 200 | 201),
                    "{model:?} believes a {}: {told:?}",
                    told.status
                );
            }
            Observation::Closed { evidence, .. }
            | Observation::Pending { evidence, .. }
            | Observation::Contradicts { evidence, .. } => is_small(evidence),
            // A read moves no money: it cannot fail in a way that leaves some in doubt.
            Observation::Failed(failure) => assert!(
                matches!(
                    failure.class,
                    Class::Transient | Class::RateLimited | Class::Misconfigured
                ),
                "{failure:?}"
            ),
        }
    });
}

/// A token is taken from 200 and 201 alone; whatever else is said puts no money in doubt and is not shown.
pub fn token(data: &[u8]) {
    let (told, _) = answers(data);
    match bare::token(&told) {
        Ok(()) => assert!(matches!(told.status, 200 | 201), "{told:?}"),
        Err(failure) => {
            assert!(
                matches!(
                    failure.class,
                    Class::Transient | Class::RateLimited | Class::Misconfigured
                ),
                "{failure:?}"
            );
            is_small(&failure.evidence);
        }
    }
}

/// The receipt of a capture says what was asked for and holds nothing that a database would refuse.
fn is_ours(call: &Call<'_>, receipt: &Receipt) {
    assert_eq!(receipt.amount, call.intent.amount);
    let id = &receipt.provider_capture_id;
    assert!(
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '),
        "{id:?}"
    );
    is_small(&receipt.evidence);
}

/// Whole JSON unless it was cut at its limit, and nothing in it that is not printable.
fn is_small(evidence: &Evidence) {
    let bytes = evidence.bytes();
    assert!(bytes.len() <= Evidence::LIMIT);
    let whole = bytes.is_empty() || serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
    assert!(whole || bytes.len() == Evidence::LIMIT, "{evidence:?}");
    assert!(bytes.iter().all(|byte| (b' '..=b'~').contains(byte)), "{evidence:?}");
}

/// What was answered with success, or with trouble of its own, is never "surely not processed".
fn is_honest(model: Model, status: u16, failure: &Failure) {
    let declined = model == Model::Afterpay && failure.code.as_str() == "declined";
    let keyed = matches!(model, Model::Afterpay | Model::ResolveOrder);
    let honest = match status {
        200..=299 => failure.class == Class::Ambiguous || (declined && failure.class == Class::Rejected),
        503 | 521 | 523 | 525 | 526 if keyed => failure.class == Class::Transient,
        0..=199 | 408 | 425 | 499 | 500.. => failure.class == Class::Ambiguous,
        300..=399 => failure.class == Class::Misconfigured,
        400..=498 => true,
    };
    assert!(honest, "{model:?} {status}: {failure:?}");
}

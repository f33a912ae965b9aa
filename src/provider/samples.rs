//! For the unit tests of the adapters: an intent, a call, answers, and ways to spoil them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::Value;

use super::account::{AccountSettings, Model};
use super::answer::{Answer, Headers, Manner};
use super::{Call, Siblings};
use crate::clock::{Boottime, SendGuard};
use crate::intent::{CaptureIntent, Currency, Details, KeyGeneration, Lane, Money, Parcel, Shipping};
use crate::outcome::{Class, Observation, Outcome};

pub(super) const KEYED: Manner = Manner {
    keyed: true,
    bearer: false,
};
pub(super) const UNKEYED: Manner = Manner {
    keyed: false,
    bearer: false,
};
pub(super) const BEARER: Manner = Manner {
    keyed: false,
    bearer: true,
};

/// Ten dollars.
pub(super) fn intent(payment_id: &str) -> CaptureIntent {
    CaptureIntent {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        lane: Lane {
            provider: "any".to_owned(),
            account: "default".to_owned(),
        },
        order_id: "1001".to_owned(),
        payment_id: payment_id.to_owned(),
        capture_ref: "first".to_owned(),
        amount: dollars(1000),
        authorized_minor: None,
        authorization_expires_at: None,
        details: Details::default(),
        traceparent: None,
        created_at: Utc::now(),
    }
}

/// Its goods.
pub(super) fn parcel(payment_id: &str) -> Parcel {
    Parcel {
        intent: intent(payment_id).id,
        payment_id: payment_id.to_owned(),
        provider_capture_id: "inv-1".to_owned(),
        shipping: Shipping {
            company: "UPS".to_owned(),
            method: "Ground".to_owned(),
            tracking_number: "1Z999".to_owned(),
        },
        shipped_at: DateTime::from_timestamp(1_700_000_000, 5).unwrap(),
    }
}

pub(super) fn dollars(minor: i64) -> Money {
    Money::new(minor, Currency::from_code("USD").unwrap())
}

/// An account that nobody answers.
pub(super) fn account(model: Model) -> AccountSettings {
    let second = Duration::from_secs(1);
    AccountSettings {
        lane: intent("any").lane,
        model,
        base_url: "http://127.0.0.1:1".to_owned(),
        auth_url: Some("http://127.0.0.1:1/token".to_owned()),
        merchant_id: "1".to_owned(),
        secret: "s".to_owned().into(),
        bearer: false,
        api_version: None,
        require_shipping: false,
        adopt_equal_captures: false,
        other_writers: false,
        platform_url: None,
        connect_timeout: second,
        read_timeout: second,
    }
}

/// The only intent of its payment.
static ALONE: Siblings = Siblings {
    capture_ids: Vec::new(),
    undecided: false,
};

/// First sent a minute ago.
pub(super) fn call(intent: &CaptureIntent) -> Call<'_> {
    Call {
        intent,
        generation: KeyGeneration(0),
        siblings: &ALONE,
        first_sent_at: Some(ago(60)),
        refused: false,
        accepted_id: None,
        pending_id: None,
        guard: SendGuard::new(Boottime::now(), Duration::from_secs(60), Duration::ZERO),
    }
}

pub(super) fn ago(seconds: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::seconds(seconds)
}

pub(super) fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status,
        headers: Headers::default(),
        body: body.as_bytes().to_vec(),
        new_token: false,
    }
}

/// A page of HTML, as something in front of the provider shows it.
pub(super) fn page(status: u16) -> Answer {
    let mut page = answer(status, "<html><body>Access denied</body></html>");
    page.headers.content_type = Some("text/html; charset=UTF-8".to_owned());
    page
}

/// One row of a class table.
pub(super) type Row<'a> = (Answer, Class, &'a str);

/// Holds every row of a table.
pub(super) fn hold(rows: Vec<Row<'_>>, classify: impl Fn(&Answer) -> Outcome) {
    for (answer, class, code) in rows {
        let shown = String::from_utf8_lossy(&answer.body).into_owned();
        match classify(&answer) {
            Outcome::Failed(failure) => {
                assert_eq!(
                    (failure.class, failure.code.as_str()),
                    (class, code),
                    "{} {shown}",
                    answer.status
                );
                assert_eq!(failure.http_status, Some(answer.status));
            }
            other => panic!("{} {shown}: {other:?}", answer.status),
        }
    }
}

/// What each status means by itself when nobody but a proxy or a firewall speaks.
pub(super) fn front_rows(keyed: bool) -> Vec<Row<'static>> {
    let unreached = if keyed { Class::Transient } else { Class::Ambiguous };
    let mut rows = vec![
        (page(403), Class::Misconfigured, "firewall"),
        (answer(403, ""), Class::Misconfigured, "http_403"),
        (answer(429, ""), Class::RateLimited, "http_429"),
        (page(429), Class::RateLimited, "http_429"),
        (answer(101, ""), Class::Ambiguous, "http_101"),
        (answer(600, ""), Class::Ambiguous, "http_600"),
        (answer(999, ""), Class::Ambiguous, "http_999"),
    ];
    let codes: [(&[u16], Class, [&str; 7]); 3] = [
        (
            &[408, 425, 499, 500, 501, 502, 504],
            Class::Ambiguous,
            [
                "http_408", "http_425", "http_499", "http_500", "http_501", "http_502", "http_504",
            ],
        ),
        (
            &[505, 507, 520, 522, 524, 529, 599],
            Class::Ambiguous,
            [
                "http_505", "http_507", "http_520", "http_522", "http_524", "http_529", "http_599",
            ],
        ),
        (
            &[503, 521, 523, 525, 526],
            unreached,
            ["http_503", "http_521", "http_523", "http_525", "http_526", "", ""],
        ),
    ];
    for (statuses, class, names) in codes {
        for (status, name) in statuses.iter().zip(names) {
            rows.push((page(*status), class, name));
            rows.push((answer(*status, ""), class, name));
        }
    }
    for status in [300, 301, 302, 303, 304, 307, 308] {
        rows.push((answer(status, ""), Class::Misconfigured, "redirect"));
    }
    // Only the provider's own form of an answer may end an intent.
    for status in [400, 402, 404, 405, 410, 412, 415, 418, 422, 451] {
        rows.push((page(status), Class::Ambiguous, "not_json"));
        rows.push((answer(status, ""), Class::Ambiguous, "not_json"));
        rows.push((answer(status, "{}"), Class::Ambiguous, "unexpected_shape"));
    }
    rows
}

/// Every way to spoil one place of a JSON document, with the path of the place.
pub(super) fn spoiled(good: &str) -> Vec<(String, String)> {
    let good: Value = serde_json::from_str(good).unwrap();
    let mut paths = Vec::new();
    collect(&good, String::new(), &mut paths);
    let mut all = Vec::new();
    for path in paths {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut without = good.clone();
        match without.pointer_mut(parent).unwrap() {
            Value::Object(members) => drop(members.remove(name)),
            Value::Array(items) => drop(items.remove(name.parse().unwrap())),
            _ => unreachable!("a path leads through objects and arrays"),
        }
        all.push((path.clone(), without.to_string()));
        let odd = [
            "null",
            "true",
            "false",
            "0",
            "-1",
            "1000",
            "\"\"",
            "\"0\"",
            "\"other\"",
            "[]",
            "{}",
            "1e400",
            "\"10.01\"",
        ];
        for value in odd {
            let mark = "@here@";
            let mut other = good.clone();
            *other.pointer_mut(&path).unwrap() = Value::String(mark.to_owned());
            all.push((path.clone(), other.to_string().replace(&format!("\"{mark}\""), value)));
        }
    }
    all
}

fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    let mut visit = |name: String, value: &Value| {
        let path = format!("{path}/{name}");
        paths.push(path.clone());
        collect(value, path, paths);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| visit(name.clone(), value)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(at, value)| visit(at.to_string(), value)),
        _ => {}
    }
}

/// Spoils a good answer everywhere: it must not be taken for success unless the place does not matter.
pub(super) fn spoil(good: &str, harmless: &[&str], is_success: impl Fn(&Answer) -> bool) {
    assert!(is_success(&answer(200, good)), "the good answer is one: {good}");
    let original: Value = serde_json::from_str(good).unwrap();
    for (path, body) in spoiled(good) {
        let unchanged = serde_json::from_str::<Value>(&body).is_ok_and(|body| body == original);
        if !unchanged && is_success(&answer(200, &body)) {
            assert!(
                harmless.iter().any(|prefix| path.starts_with(prefix)),
                "spoiled at {path}: {body}"
            );
        }
    }
    for cut in 0..good.len() {
        assert!(!is_success(&answer(200, &good[..cut])), "cut at {cut}");
    }
    for status in (100..1000).filter(|status| !matches!(status, 200 | 201)) {
        assert!(!is_success(&answer(status, good)), "{status}");
    }
}

/// JSON of any shape that uses the names and words that matter.
pub(super) fn any_json(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let word = prop::sample::select(words);
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i32>().prop_map(|n| n.to_string()),
        Just("10.00".to_owned()),
        Just("1e400".to_owned()),
        word.clone().prop_map(|word| format!("\"{word}\"")),
        ".{0,8}".prop_map(|text| Value::String(text).to_string()),
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        let member = (word.clone(), inner.clone()).prop_map(|(name, value)| format!("\"{name}\":{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// The name of an observation and its code, for tables of reads.
pub(super) fn name(observation: &Observation) -> String {
    match observation {
        Observation::Captured(receipt) => format!("captured {}", receipt.proof.name()),
        Observation::Pending { .. } => "pending".to_owned(),
        Observation::Declined { code, .. } => format!("declined {code}"),
        Observation::NotCaptured { open_minor, .. } => format!("not captured {open_minor:?}"),
        Observation::Closed { code, .. } => format!("closed {code}"),
        Observation::Foreign { .. } => "foreign".to_owned(),
        Observation::Contradicts { code, .. } => format!("contradicts {code}"),
        Observation::Failed(failure) => format!("failed {} {}", failure.class, failure.code),
    }
}

/// What others captured of a payment of which nothing of ours is.
pub(super) fn others(observation: &Observation) -> Option<i64> {
    match observation {
        Observation::NotCaptured { others_minor, .. } => *others_minor,
        other => panic!("{other:?}"),
    }
}

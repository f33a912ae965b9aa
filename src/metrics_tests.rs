use super::*;
use crate::intent::Currency;
use crate::outcome::{Evidence, Failure, Proof, Receipt};
use std::collections::{BTreeMap, BTreeSet};

fn lane(account: &str) -> Lane {
    Lane {
        provider: "afterpay".to_owned(),
        account: account.to_owned(),
    }
}

fn usd(minor: i64) -> Money {
    Money::new(minor, Currency::from_code("USD").unwrap())
}

fn everything_once() -> String {
    let (metrics, recorder) = Metrics::build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        describe();
        let receipt = Receipt {
            provider_capture_id: "c1".to_owned(),
            amount: usd(1000),
            captured_at: None,
            proof: Proof::Answer,
            authorization_expires_at: None,
            evidence: Evidence::default(),
        };
        attempt("afterpay", &Outcome::Captured(receipt.clone()));
        attempt("afterpay", &Outcome::Failed(Failure::new(Class::Ambiguous, "http_502")));
        attempt("afterpay", &Outcome::NotSent);
        observation("optty", &Observation::Captured(receipt));
        provider_latency("afterpay", Call::Capture, Duration::from_millis(420));
        provider_latency("afterpay", Call::Read, Duration::from_secs(80));
        provider_latency("resolve", Call::Mark, Duration::from_secs(1));
        captured("afterpay", usd(1000));
        captured("afterpay", usd(234));
        for purpose in [Purpose::Send, Purpose::Retry, Purpose::Verify] {
            claimed("afterpay", purpose, 7);
        }
        claim_latency(Duration::from_millis(3));
        settle_batch(12, Duration::from_millis(4));
        for result in [Settled::Recorded, Settled::AlreadyRecorded, Settled::LeaseLost] {
            settled("afterpay", result);
        }
        late_result("afterpay", &Outcome::NotSent);
        rescued(3);
        database_error("claim");
        let one = call_in_flight(&lane("default"));
        let two = call_in_flight(&lane("default"));
        drop(one);
        std::mem::forget(two);
        breaker(&lane("default"), true);
        webhook_attempt("delivered", Duration::from_millis(80));
        webhooks_given_up(4);
        log_lines_dropped(2);
        shipping_notice("given_up");
    });
    let mut of_lane = LaneGauges {
        oldest_ready: Some(Duration::from_secs(90)),
        paused: true,
        ..LaneGauges::default()
    };
    of_lane.intents.insert(BacklogState::Ready, 5);
    of_lane.dead_letters.insert("rejected", 2);
    of_lane.at_risk(Currency::from_code("USD").unwrap(), Within::Day, 100);
    of_lane.at_risk(Currency::from_code("USD").unwrap(), Within::Day, 23);
    let backlog = BacklogGauges {
        lanes: BTreeMap::from([(lane("a\"b"), of_lane)]),
        workers: 2,
        unmatched_shipments: 4,
        oldest_unmatched: std::time::Duration::from_secs(7200),
        shipment_requests: vec![("shopify".to_owned(), "accepted".to_owned(), 9)],
        webhook_endpoints: BTreeMap::from([("enabled", 3), ("behind", 1)]),
        webhook_pending: 7,
        webhook_oldest: Some(Duration::from_secs(60)),
    };
    metrics.upkeep();
    metrics.render(Some(&backlog))
}

#[test]
fn what_happens_is_told_under_the_names_of_the_table() {
    let text = everything_once();
    for line in [
        r#"capture_attempts_total{provider="afterpay",outcome="captured",class="none"} 1"#,
        r#"capture_attempts_total{provider="afterpay",outcome="failed",class="ambiguous"} 1"#,
        r#"capture_provider_latency_seconds_bucket{provider="afterpay",call="capture",le="0.35"} 0"#,
        r#"capture_provider_latency_seconds_bucket{provider="afterpay",call="capture",le="0.5"} 1"#,
        r#"capture_provider_latency_seconds_bucket{provider="afterpay",call="read",le="90"} 1"#,
        r#"capture_captured_minor_total{provider="afterpay",currency="USD"} 1234"#,
        r#"capture_calls_in_flight{provider="afterpay",account="default"} 1"#,
        r#"capture_breaker_open{provider="afterpay",account="default"} 1"#,
        r#"capture_lease_lost_total{provider="afterpay"} 1"#,
        "capture_log_lines_dropped_total 2",
        r#"capture_shipping_notices_total{result="given_up"} 1"#,
        "capture_database_up 1",
        r#"capture_intents{provider="afterpay",account="a\"b",state="ready"} 5"#,
        r#"capture_intents{provider="afterpay",account="a\"b",state="held"} 0"#,
        r#"capture_oldest_ready_age_seconds{provider="afterpay",account="a\"b"} 90"#,
        r#"capture_at_risk_minor{provider="afterpay",account="a\"b",currency="USD",within="24h"} 123"#,
        "capture_workers 2",
        r#"capture_webhook_attempts_total{outcome="delivered"} 1"#,
        "capture_webhook_latency_seconds_count 1",
        "capture_webhooks_given_up_total 4",
        r#"capture_webhook_endpoints{state="behind"} 1"#,
        "capture_webhook_pending 7",
        "capture_webhook_oldest_pending_age_seconds 60",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn every_metric_that_is_told_is_in_the_table_with_its_kind_and_labels_and_the_other_way_round() {
    let text = everything_once();
    let told: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ").map(str::to_owned))
        .collect();
    let table: BTreeSet<String> = METRICS
        .iter()
        .map(|metric| format!("{} {:?}", metric.name, metric.kind).to_lowercase())
        .collect();
    assert_eq!(told, table);
    for metric in METRICS {
        let sample = text
            .lines()
            .find(|line| line.starts_with(metric.name) && !line.starts_with(&format!("{}_count", metric.name)))
            .unwrap();
        let labels: Vec<&str> = match sample.split_once('{') {
            None => Vec::new(),
            Some((_, rest)) => rest
                .split("\",")
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, _)| name)
                .filter(|name| *name != "le")
                .collect(),
        };
        assert_eq!(labels, metric.labels, "{sample}");
        assert!(
            text.contains(&format!("# HELP {} {}", metric.name, metric.help)),
            "{}",
            metric.name
        );
    }
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for metric in METRICS {
        let name = metric.name;
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        assert!(name.starts_with("capture_") && !name.contains("_ms"), "{name}");
        assert_eq!(metric.unit == "seconds", name.ends_with("_seconds"), "{name}");
    }
}

#[test]
fn a_database_that_cannot_be_asked_leaves_no_stale_gauges() {
    let (metrics, _recorder) = Metrics::build().unwrap();
    let text = metrics.render(None);
    assert!(text.contains("\ncapture_database_up 0\n"), "{text}");
    assert!(!text.contains("capture_intents"), "{text}");
}

//! Events go out: signed, at least once, with one id, and one endpoint's trouble is no other's.

use std::collections::BTreeSet;
use std::time::Duration;

use capture::outbox::{AuditStamp, DeliveryFilter, EndpointActed, Outbox};
use capture::webhook::signature::{self, Secret};
use capture::webhook::{Deliverer, Networks, Settings};
use serde_json::Value;
use uuid::Uuid;

use crate::database::{Session, connect, migrated_database};
use crate::kind::Kind;
use crate::receiver::{Got, Manner, Receiver};
use crate::world::enqueue;

pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "tess".to_owned(),
        reason: "a test".to_owned(),
    }
}

pub fn settings() -> Settings {
    Settings {
        timeout: Duration::from_secs(3),
        networks: Networks(vec!["127.0.0.0/8".parse().unwrap()]),
        poll: Duration::from_millis(10),
        // A draw of full jitter may be anything; so high a ceiling makes one within a test's own time as good as never.
        retry_initial: 6 * HOUR,
        ..Settings::default()
    }
}

/// An outbox, and a deliverer over it.
pub struct Hooks {
    pub url: String,
    pub outbox: Outbox,
    pub db: Session,
    pub deliverer: Deliverer,
    ahead: Duration,
}

impl Hooks {
    pub async fn new() -> Hooks {
        Hooks::of(settings()).await
    }

    pub async fn of(settings: Settings) -> Hooks {
        let url = migrated_database().await;
        let outbox = connect(&url).await;
        Hooks {
            deliverer: Deliverer::new(connect(&url).await, settings).unwrap(),
            db: Session::open(&url).await,
            outbox,
            url,
            ahead: Duration::ZERO,
        }
    }

    pub async fn endpoint(&self, url: &str, types: &[&str]) -> (Uuid, Secret) {
        let secret = Secret::make().unwrap();
        let types: Vec<String> = types.iter().map(|name| format!("capture.{name}")).collect();
        let made = self
            .outbox
            .create_webhook_endpoint(url, &types, "", secret.bytes(), &stamp())
            .await;
        (made.unwrap(), secret)
    }

    /// Something happens: an event `capture.enqueued`.
    pub async fn happens(&mut self, n: u32) -> Uuid {
        let sql = enqueue(Kind::Afterpay, &format!("{n}"), "c1", 100, "");
        let intent: Uuid = self.db.scalar(&sql).await;
        intent
    }

    /// Until the cursor is behind the last event. (Any older transaction of the whole server that is open holds it back.)
    pub async fn fan_out(&mut self) {
        loop {
            while self.outbox.fan_out_webhooks(1000).await.unwrap().events > 0 {}
            let behind: bool = self
                .db
                .scalar(
                    "select exists (select from capture.events v, capture.webhook_cursor c
                     where (v.xid, v.seq) > (split_part(c.cursor, '-', 1)::xid8, split_part(c.cursor, '-', 2)::bigint))",
                )
                .await;
            if !behind {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Delivers what there is; returns how many attempts that took.
    pub async fn deliver(&mut self) -> usize {
        self.fan_out().await;
        self.deliverer.drain().await.unwrap()
    }

    pub async fn pass(&mut self, time: Duration) {
        self.ahead += time;
        self.outbox.set_clock_ahead(self.ahead).await.unwrap();
    }

    /// `delivered 1 delivered`: state, attempts, code of each delivery, the oldest first.
    pub async fn deliveries(&self) -> Vec<String> {
        let mut rows = self
            .outbox
            .webhook_deliveries(&DeliveryFilter::default(), 1000)
            .await
            .unwrap();
        rows.reverse();
        let told = rows.into_iter().map(|row| {
            let code = row.last_code.unwrap_or_default();
            format!("{} {} {code}", row.state, row.attempts).trim_end().to_owned()
        });
        told.collect()
    }

    pub async fn acts(&mut self) -> Vec<String> {
        self.db
            .column("select actor || ': ' || action || ': ' || reason from capture.audit order by id")
            .await
    }
}

pub fn genuine(got: &Got, secret: &Secret) -> Result<(), signature::SignatureFault> {
    let header = |name: &'static str| got.headers.get(name).map(String::as_str);
    signature::verify(
        std::slice::from_ref(secret),
        header,
        &got.body,
        chrono::Utc::now().timestamp(),
    )
}

#[tokio::test]
async fn an_event_arrives_once_signed_as_the_feed_writes_it_and_with_the_headers_of_both_standards() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(204)).await;
    let (_, secret) = hooks.endpoint(&format!("{}hook?key=1", receiver.url()), &[]).await;
    let intent = hooks.happens(1).await;
    assert_eq!(hooks.deliver().await, 1);
    assert_eq!(hooks.deliver().await, 0, "and not twice");
    let [got] = &receiver.got()[..] else {
        panic!("not one message")
    };
    assert_eq!(genuine(got, &secret), Ok(()));
    assert!(genuine(got, &Secret::make().unwrap()).is_err());
    let page = hooks.outbox.events_after(None, 10).await.unwrap();
    let event = serde_json::to_value(&page.events[0]).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&got.body).unwrap(), event);
    assert_eq!(got.path, "/hook?key=1");
    let [xid, seq, _] = page.events[0].cursor.split('-').collect::<Vec<_>>()[..] else {
        panic!("{}", page.events[0].cursor)
    };
    for (name, value) in [
        ("webhook-id", event["id"].as_str().unwrap()),
        ("ce-id", event["id"].as_str().unwrap()),
        ("ce-type", "capture.enqueued"),
        ("ce-specversion", "1.0"),
        ("ce-source", "urn:capture:capture"),
        ("ce-subject", &intent.to_string()),
        ("ce-sequence", &format!("{xid:0>20}-{seq:0>19}")),
        ("content-type", "application/json"),
    ] {
        assert_eq!(got.header(name), value, "{name}");
    }
    let time: chrono::DateTime<chrono::Utc> = got.header("ce-time").parse().unwrap();
    assert_eq!(time, page.events[0].occurred_at);
    assert_eq!(hooks.deliveries().await, ["delivered 1 delivered"]);
}

#[tokio::test]
async fn an_endpoint_is_told_of_what_happens_after_it_was_made_and_of_its_types_alone() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(200)).await;
    hooks.happens(1).await;
    // The feed's end is what everybody may read of it.
    while hooks.outbox.events_after(None, 10).await.unwrap().events.is_empty() {
        tokio::task::yield_now().await;
    }
    let other = Receiver::start(Manner::Status(200)).await;
    hooks.endpoint(&receiver.url(), &["enqueued", "captured"]).await;
    hooks.endpoint(&other.url(), &["captured", "cancelled"]).await;
    let intent = hooks.happens(2).await;
    hooks.outbox.cancel(intent, "why").await.unwrap();
    hooks.deliver().await;
    let types = |receiver: &Receiver| -> Vec<String> {
        let got = receiver.got();
        got.iter()
            .map(|got| format!("{} {}", got.header("ce-type"), got.header("ce-subject")))
            .collect()
    };
    assert_eq!(types(&receiver), [format!("capture.enqueued {intent}")]);
    assert_eq!(types(&other), [format!("capture.cancelled {intent}")]);
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_told_too() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(200)).await;
    hooks.endpoint(&receiver.url(), &[]).await;
    hooks.happens(1).await;
    let mut slow = Session::open(&hooks.url).await;
    slow.run("begin").await;
    slow.run(&enqueue(Kind::Afterpay, "2", "c1", 100, "")).await;
    hooks.happens(3).await;
    while hooks.outbox.fan_out_webhooks(100).await.unwrap().events > 0 {}
    slow.run("commit").await;
    hooks.deliver().await;
    let told: BTreeSet<String> = receiver.got().iter().map(|got| got.id().to_owned()).collect();
    let all: Vec<Uuid> = hooks.db.column("select id from capture.events").await;
    assert_eq!((told.len(), all.len()), (3, 3));
    assert_eq!(told, all.iter().map(Uuid::to_string).collect());
}

#[tokio::test]
async fn while_a_secret_is_rotated_both_sign_and_afterwards_the_new_one_alone() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(200)).await;
    let (id, old) = hooks.endpoint(&receiver.url(), &[]).await;
    let new = Secret::make().unwrap();
    let rotate = |secret: Secret, grace| {
        let outbox = hooks.outbox.clone();
        async move {
            outbox
                .rotate_webhook_secret(id, secret.bytes(), grace, &stamp())
                .await
                .unwrap()
        }
    };
    assert_eq!(rotate(new.clone(), DAY).await, EndpointActed::Changed);
    let third = rotate(Secret::make().unwrap(), DAY).await;
    assert_eq!(
        third,
        EndpointActed::TwoSecretsLive,
        "three at once would be no rotation"
    );
    hooks.happens(1).await;
    hooks.deliver().await;
    hooks.pass(DAY).await;
    hooks.happens(2).await;
    hooks.deliver().await;
    let got = receiver.got();
    assert_eq!(got[0].header("webhook-signature").split(' ').count(), 2);
    assert_eq!(genuine(&got[0], &old), Ok(()));
    assert_eq!(genuine(&got[0], &new), Ok(()));
    assert_eq!(got[1].header("webhook-signature").split(' ').count(), 1);
    assert!(genuine(&got[1], &old).is_err());
    assert_eq!(genuine(&got[1], &new), Ok(()));
    // A secret that leaked: at once.
    let last = Secret::make().unwrap();
    let outbox = hooks.outbox.clone();
    let acted = outbox
        .rotate_webhook_secret(id, last.bytes(), Duration::ZERO, &stamp())
        .await;
    assert_eq!(acted.unwrap(), EndpointActed::Changed);
    hooks.happens(3).await;
    hooks.deliver().await;
    let got = receiver.got();
    assert!(genuine(&got[2], &new).is_err());
    assert_eq!(genuine(&got[2], &last), Ok(()));
    let secrets: i64 = hooks.db.scalar("select count(*) from capture.webhook_secrets").await;
    assert_eq!(secrets, 1, "what is over is not kept");
}

#[tokio::test]
async fn what_is_not_taken_is_told_again_with_the_same_id_and_the_same_bytes() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(500)).await;
    hooks.endpoint(&receiver.url(), &[]).await;
    hooks.happens(1).await;
    assert_eq!(hooks.deliver().await, 1);
    for manner in [
        Manner::Status(404),
        Manner::With(302, "location: http://127.0.0.1:1/\r\n"),
        Manner::Cut(1),
        Manner::Status(200),
    ] {
        receiver.now(manner);
        hooks.pass(6 * HOUR).await;
        assert_eq!(hooks.deliver().await, 1);
    }
    let got = receiver.got();
    assert_eq!(got.len(), 5);
    for repeat in &got[1..] {
        assert_eq!((repeat.id(), &repeat.body), (got[0].id(), &got[0].body));
    }
    assert_eq!(hooks.deliveries().await, ["delivered 5 delivered"]);
    let endpoint = hooks.outbox.webhook_endpoints().await.unwrap().remove(0);
    assert_eq!(
        (endpoint.failures, endpoint.failing_since),
        (0, None),
        "a success ends the count"
    );
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_gone_is_disabled_and_told_the_rest_when_it_is_enabled() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(410)).await;
    let (id, _) = hooks.endpoint(&receiver.url(), &[]).await;
    hooks.happens(1).await;
    assert_eq!(hooks.deliver().await, 1);
    let endpoint = hooks.outbox.webhook_endpoint(id).await.unwrap().unwrap();
    assert_eq!(endpoint.disabled_by.as_deref(), Some("capture"));
    // What happens now is not kept for it.
    hooks.happens(2).await;
    hooks.pass(6 * HOUR).await;
    assert_eq!(hooks.deliver().await, 0);
    receiver.now(Manner::Status(200));
    let acted = hooks
        .outbox
        .set_webhook_endpoint_state(id, true, &stamp())
        .await
        .unwrap();
    assert_eq!(acted, EndpointActed::Changed);
    hooks.happens(3).await;
    assert_eq!(hooks.deliver().await, 2);
    assert_eq!(
        hooks.acts().await,
        [
            "tess: webhook endpoint add: a test",
            "capture: webhook endpoint disable: the endpoint answered 410 Gone",
            "tess: webhook endpoint enable: a test",
        ]
    );
    let tally = hooks.outbox.webhook_tally().await.unwrap();
    assert_eq!((tally.enabled, tally.disabled, tally.given_up), (1, 0, 0));
}

#[tokio::test]
async fn an_endpoint_that_asks_to_wait_is_left_alone_until_then_but_no_longer_than_an_hour() {
    for (asked, waits) in [("retry-after: 120\r\n", 120), ("retry-after: 86400\r\n", 3600)] {
        let mut hooks = Hooks::new().await;
        let receiver = Receiver::start(Manner::With(429, asked)).await;
        hooks.endpoint(&receiver.url(), &[]).await;
        hooks.happens(1).await;
        assert_eq!(hooks.deliver().await, 1);
        receiver.now(Manner::Status(200));
        hooks.happens(2).await;
        hooks.pass(Duration::from_secs(waits - 60)).await;
        assert_eq!(hooks.deliver().await, 0, "not even another event");
        hooks.pass(Duration::from_secs(60)).await;
        assert_eq!(hooks.deliver().await, 2);
    }
}

#[tokio::test]
async fn a_delivery_is_given_up_when_its_time_is_over_and_told_once_more_when_somebody_asks() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(500)).await;
    hooks.endpoint(&receiver.url(), &[]).await;
    hooks.happens(1).await;
    hooks.deliver().await;
    hooks.pass(DAY).await;
    hooks.deliver().await;
    assert_eq!(hooks.deliveries().await, ["pending 2 refused"]);
    hooks.pass(2 * DAY).await;
    hooks.deliver().await;
    assert_eq!(hooks.deliveries().await, ["failed 3 refused"]);
    hooks.pass(HOUR).await;
    assert_eq!(hooks.deliver().await, 0);
    receiver.now(Manner::Status(200));
    let id: i64 = hooks.db.scalar("select id from capture.webhook_deliveries").await;
    assert_eq!(hooks.outbox.redeliver_webhooks(&[id, -1], &stamp()).await.unwrap(), 1);
    hooks.deliver().await;
    assert_eq!(hooks.deliveries().await, ["delivered 1 delivered"]);
    let ids: BTreeSet<String> = receiver.got().iter().map(|got| got.id().to_owned()).collect();
    assert_eq!(ids.len(), 1, "it is the same message");
}

#[tokio::test]
async fn an_endpoint_at_which_nothing_arrives_for_days_is_disabled_and_says_since_when() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(500)).await;
    let (id, _) = hooks.endpoint(&receiver.url(), &[]).await;
    for day in 0..6 {
        hooks.happens(day).await;
        hooks.deliver().await;
        hooks.pass(DAY).await;
    }
    let endpoint = hooks.outbox.webhook_endpoint(id).await.unwrap().unwrap();
    let reason = endpoint.disabled_reason.unwrap();
    assert!(reason.starts_with("nothing arrived since "), "{reason}");
    let tally = hooks.outbox.webhook_tally().await.unwrap();
    assert_eq!((tally.enabled, tally.given_up, tally.pending), (0, 1, 0));
}

#[tokio::test]
async fn a_span_of_time_is_told_once_more_also_of_what_happened_while_nobody_was_told() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(200)).await;
    let (id, _) = hooks.endpoint(&receiver.url(), &["enqueued"]).await;
    hooks.happens(1).await;
    hooks.deliver().await;
    let since = hooks.outbox.now().await.unwrap();
    hooks
        .outbox
        .set_webhook_endpoint_state(id, false, &stamp())
        .await
        .unwrap();
    let missed = hooks.happens(2).await;
    hooks.outbox.cancel(missed, "of no type that it is told").await.unwrap();
    hooks.deliver().await;
    let until = hooks.outbox.now().await.unwrap();
    hooks
        .outbox
        .set_webhook_endpoint_state(id, true, &stamp())
        .await
        .unwrap();
    hooks.happens(3).await;
    hooks.deliver().await;
    let would = hooks.outbox.would_redeliver(id, since, Some(until)).await;
    assert_eq!(would.unwrap(), 1);
    let begun = hooks
        .outbox
        .begin_webhook_redelivery(id, since, Some(until), &stamp())
        .await
        .unwrap();
    // One event a step: it goes on behind each.
    let (mut left, mut count) = (begun, 0);
    while let Some(redelivery) = left {
        let (done, next) = hooks.outbox.redeliver_webhooks_step(redelivery, 1).await.unwrap();
        count += done;
        left = next;
    }
    assert_eq!(count, 1);
    hooks.deliver().await;
    let told: Vec<String> = receiver
        .got()
        .iter()
        .map(|got| got.header("ce-subject").to_owned())
        .collect();
    assert_eq!((told.len(), &told[2]), (3, &missed.to_string()));
    let nobody = hooks
        .outbox
        .begin_webhook_redelivery(Uuid::nil(), since, None, &stamp())
        .await;
    assert_eq!(nobody.unwrap(), None);
}

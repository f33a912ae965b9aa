//! What keeps webhooks in bounds: fences, shares, addresses, rights, and what is kept of it all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use capture::outbox::{
    ClaimedDelivery, DeliveryRecord, DeliveryRequest, DeliveryResult, EndpointActed, EndpointChange,
};
use capture::webhook::signature::Secret;
use capture::webhook::{Deliverer, Names, Networks, Settings};
use uuid::Uuid;

use crate::database::{Session, connect, log_in};
use crate::receiver::{Manner, Receiver};
use crate::webhooks::{DAY, HOUR, Hooks, settings, stamp};

fn request() -> DeliveryRequest {
    DeliveryRequest {
        lease: Duration::from_secs(30),
        limit: 10,
        each: 4,
        after: Uuid::nil(),
        in_flight: Vec::new(),
    }
}

fn record(delivery: i64, fence: i32, result: DeliveryResult) -> DeliveryRecord {
    DeliveryRecord {
        delivery,
        fence,
        result,
        code: "delivered",
        status: Some(200),
        ms: 1,
        wait_ms: 0,
        endpoint_wait_ms: None,
        failure: result == DeliveryResult::Retry,
    }
}

#[tokio::test]
async fn who_lost_its_lease_changes_nothing_and_the_message_is_told_by_the_next() {
    let mut hooks = Hooks::new().await;
    hooks.endpoint("http://127.0.0.1:9/", &[]).await;
    hooks.happens(1).await;
    hooks.fan_out().await;
    let first = hooks.outbox.claim_webhook_deliveries(&request()).await.unwrap();
    assert_eq!((first.len(), first[0].fence), (1, 1));
    let while_leased = hooks.outbox.claim_webhook_deliveries(&request()).await.unwrap();
    assert!(while_leased.is_empty());
    hooks.pass(Duration::from_secs(30)).await;
    let second = hooks.outbox.claim_webhook_deliveries(&request()).await.unwrap();
    assert_eq!((second.len(), second[0].fence), (1, 2));
    let settle = |fence, result| {
        let outbox = hooks.outbox.clone();
        let records = [record(first[0].delivery, fence, result)];
        async move { outbox.settle_webhook_deliveries(&records, DAY, DAY).await.unwrap() }
    };
    assert_eq!(settle(1, DeliveryResult::Retry).await, []);
    let id = first[0].delivery;
    assert_eq!(
        settle(2, DeliveryResult::Delivered).await,
        [(id, "delivered".to_owned())]
    );
    assert_eq!(settle(2, DeliveryResult::Retry).await, [], "an end stays");
}

#[tokio::test]
async fn of_one_endpoint_only_so_many_are_in_flight_one_if_it_failed_and_the_claim_goes_round() {
    let mut hooks = Hooks::new().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(hooks.endpoint(&format!("http://127.0.0.1:9/{n}"), &[]).await.0);
    }
    for n in 0..6 {
        hooks.happens(n).await;
    }
    hooks.fan_out().await;
    let of = |claimed: &[ClaimedDelivery]| -> BTreeMap<Uuid, usize> {
        let mut counts = BTreeMap::new();
        for delivery in claimed {
            *counts.entry(delivery.endpoint).or_default() += 1;
        }
        counts
    };
    // Behind the first one, as if that had been served last; it comes round last and gets what is left.
    let claimed = hooks
        .outbox
        .claim_webhook_deliveries(&DeliveryRequest {
            after: ids[0],
            ..request()
        })
        .await
        .unwrap();
    assert_eq!(of(&claimed), [(ids[0], 2), (ids[1], 4), (ids[2], 4)].into());
    // What is in flight is left out of the count.
    let busy = DeliveryRequest {
        in_flight: vec![(ids[0], 3), (ids[1], 4), (ids[2], 3)],
        ..request()
    };
    let more = hooks.outbox.claim_webhook_deliveries(&busy).await.unwrap();
    assert_eq!(of(&more), [(ids[0], 1), (ids[2], 1)].into());
    let failed = claimed.iter().find(|delivery| delivery.endpoint == ids[1]).unwrap();
    let records = [record(failed.delivery, failed.fence, DeliveryResult::Retry)];
    hooks
        .outbox
        .settle_webhook_deliveries(&records, DAY, DAY)
        .await
        .unwrap();
    let again = hooks.outbox.claim_webhook_deliveries(&request()).await.unwrap();
    assert_eq!(of(&again)[&ids[1]], 1);
}

struct Lying(Vec<IpAddr>);

#[async_trait::async_trait]
impl Names for Lying {
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        assert_eq!(name, "hooks.example");
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn a_name_that_stands_for_this_machine_is_not_connected_to_and_neither_is_a_redirect_followed() {
    let inside = Receiver::start(Manner::Status(200)).await;
    let mut hooks = Hooks::of(Settings {
        networks: Networks::default(),
        ..settings()
    })
    .await;
    hooks
        .endpoint(&format!("https://hooks.example:{}/", inside.address.port()), &[])
        .await;
    // It got into the table past every check: the sender looks for itself.
    hooks.endpoint(&inside.url(), &[]).await;
    let names = Arc::new(Lying(vec!["127.0.0.1".parse().unwrap()]));
    let closed = Settings {
        networks: Networks::default(),
        ..settings()
    };
    hooks.deliverer = Deliverer::with_names(hooks.outbox.clone(), closed, names).unwrap();
    hooks.happens(1).await;
    assert_eq!(hooks.deliver().await, 2);
    assert_eq!(hooks.deliveries().await, ["pending 1 forbidden_address"; 2]);
    assert_eq!(inside.got(), []);

    let mut hooks = Hooks::new().await;
    let location: &'static str = format!("location: {}\r\n", inside.url()).leak();
    for status in [301, 302, 303, 307, 308] {
        let outside = Receiver::start(Manner::With(status, location)).await;
        hooks.endpoint(&outside.url(), &[]).await;
    }
    hooks.happens(1).await;
    assert_eq!(hooks.deliver().await, 5);
    assert_eq!(hooks.deliveries().await, ["pending 1 redirect"; 5]);
    assert_eq!(inside.got(), []);
}

#[tokio::test]
async fn an_event_that_was_pruned_is_dropped_and_what_ended_long_ago_is_removed() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(200)).await;
    let (id, _) = hooks.endpoint(&receiver.url(), &["enqueued"]).await;
    let intent = hooks.happens(1).await;
    hooks.fan_out().await;
    hooks.outbox.cancel(intent, "so that it has ended").await.unwrap();
    hooks.pass(8 * DAY).await;
    let audit = hooks.outbox.begin_prune(7 * DAY, false, &stamp()).await.unwrap();
    hooks.outbox.prune_some(audit, None, 100).await.unwrap();
    assert_eq!(hooks.deliver().await, 1);
    assert_eq!(hooks.deliveries().await, ["dropped 1 event_pruned"]);
    assert_eq!(receiver.got(), []);
    assert_eq!(hooks.outbox.prune_webhook_deliveries(30 * DAY, 10).await.unwrap(), 0);
    hooks.pass(30 * DAY + HOUR).await;
    assert_eq!(hooks.outbox.prune_webhook_deliveries(30 * DAY, 10).await.unwrap(), 1);
    hooks.happens(2).await;
    hooks.fan_out().await;
    hooks.outbox.remove_webhook_endpoint(id, &stamp()).await.unwrap();
    assert_eq!(hooks.deliver().await, 0);
    assert_eq!(hooks.outbox.prune_webhook_deliveries(30 * DAY, 10).await.unwrap(), 1);
    assert_eq!(hooks.outbox.webhook_endpoints().await.unwrap(), []);
    let secrets: i64 = hooks.db.scalar("select count(*) from capture.webhook_secrets").await;
    assert_eq!(secrets, 0);
}

#[tokio::test]
async fn each_act_on_an_endpoint_leaves_who_and_why_and_no_secret() {
    let mut hooks = Hooks::new().await;
    let (id, secret) = hooks.endpoint("https://hooks.example/", &[]).await;
    let change = EndpointChange {
        types: Some(vec!["capture.captured".to_owned()]),
        ..EndpointChange::default()
    };
    let outbox = hooks.outbox.clone();
    assert_eq!(
        outbox.change_webhook_endpoint(id, &change, &stamp()).await.unwrap(),
        EndpointActed::Changed
    );
    assert_eq!(
        outbox.change_webhook_endpoint(id, &change, &stamp()).await.unwrap(),
        EndpointActed::Unchanged
    );
    outbox.set_webhook_endpoint_state(id, false, &stamp()).await.unwrap();
    outbox.set_webhook_endpoint_state(id, false, &stamp()).await.unwrap();
    outbox
        .rotate_webhook_secret(id, secret.bytes(), HOUR, &stamp())
        .await
        .unwrap();
    outbox.remove_webhook_endpoint(id, &stamp()).await.unwrap();
    for acted in [
        outbox.remove_webhook_endpoint(id, &stamp()).await.unwrap(),
        outbox.set_webhook_endpoint_state(id, true, &stamp()).await.unwrap(),
        outbox.change_webhook_endpoint(id, &change, &stamp()).await.unwrap(),
    ] {
        assert_eq!(acted, EndpointActed::NotFound, "a removed one is no more");
    }
    let verbs: Vec<String> = hooks.db.column("select action from capture.audit order by id").await;
    assert_eq!(
        verbs,
        ["add", "set", "disable", "rotate", "remove"].map(|verb| format!("webhook endpoint {verb}"))
    );
    let said: String = hooks
        .db
        .scalar("select string_agg(detail::text, ' ') from capture.audit")
        .await;
    assert!(!said.contains("whsec") && !said.contains("\\\\x"), "{said}");
    hooks.outbox.verify_audit(None).await.unwrap();
}

#[tokio::test]
async fn the_role_of_a_worker_delivers_and_no_role_reads_a_secret() {
    let mut hooks = Hooks::new().await;
    let receiver = Receiver::start(Manner::Status(200)).await;
    hooks.endpoint(&receiver.url(), &[]).await;
    hooks.happens(1).await;
    let worker = connect(&log_in(&hooks.url, "capture_worker").await).await;
    hooks.deliverer = Deliverer::new(worker.clone(), settings()).unwrap();
    assert_eq!(hooks.deliver().await, 1);
    worker.prune_webhook_deliveries(DAY, 10).await.unwrap();
    for role in [
        "capture_worker",
        "capture_operator",
        "capture_readonly",
        "capture_metrics",
    ] {
        let mut db = Session::open(&log_in(&hooks.url, role).await).await;
        let refused = db
            .try_run("select secret from capture.webhook_secrets")
            .await
            .unwrap_err();
        assert_eq!(refused.sqlstate, "42501", "{role}");
        db.run("select * from capture.webhook_state").await;
    }
    let operator = connect(&log_in(&hooks.url, "capture_operator").await).await;
    let secret = Secret::make().unwrap();
    operator
        .create_webhook_endpoint("https://a.example/", &[], "", secret.bytes(), &stamp())
        .await
        .unwrap();
}

//! Shipping data goes to the provider once its capture is on record: at least once, within bounds, and never to the cost of
//! the capture.

use std::time::Duration;

use capture::outbox::NoticeEnd;
use capture::shipment::Fulfilment;
use capture::simulator::{Fault, Moment, Operation, Target};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::kind::Kind;
use crate::releases::HELD;
use crate::world::{Plan, World};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const FIVE_HUNDRED: Fault = Fault::Status(500, Moment::Before);

fn telling() -> Plan {
    Plan {
        fulfilment: Fulfilment {
            tell: true,
            ..Fulfilment::default()
        },
        ..Plan::default()
    }
}

impl World {
    /// A capture whose goods have left, with a number; not told yet.
    async fn shipped(&mut self, kind: Kind, n: u32) -> Uuid {
        let intent = self.released(kind, n).await;
        self.drain().await;
        assert_eq!(self.state(intent).await, "captured");
        self.pass(MINUTE).await;
        intent
    }

    async fn released(&mut self, kind: Kind, n: u32) -> Uuid {
        let (payment, lane) = (kind.payment(n), kind.lane());
        self.authorize(kind, &payment, 5000);
        let intent = self.insert(kind, &payment, "c1", 1234, HELD).await;
        self.db
            .run(&format!(
                "select * from capture.release(provider => '{}', account => '{}', payment_id => '{payment}',
                     company => 'UPS', method => 'Ground', tracking_number => '1Z{n}')",
                lane.provider, lane.account
            ))
            .await;
        self.pass(Duration::from_secs(2)).await;
        assert_eq!(self.outbox.match_releases(10).await.unwrap(), 1);
        intent
    }

    /// State, tries and why of a notice.
    async fn notice(&self, intent: Uuid) -> String {
        let notice = self.outbox.shipping_notices(&[intent]).await.unwrap().remove(&intent);
        notice.map_or_else(
            || "none".to_owned(),
            |notice| format!("{} after {}", notice.words(), notice.tries),
        )
    }

    /// Courier and number of each parcel that the provider keeps.
    fn parcels(&self, kind: Kind, n: u32) -> Vec<String> {
        let parcels = self.simulator.parcels(kind.provider_name(), &kind.payment(n));
        let told = parcels
            .into_iter()
            .map(|parcel| format!("{} {}", parcel.courier, parcel.tracking));
        told.collect()
    }

    fn updates(&self) -> usize {
        let requests = self.simulator.requests();
        let updates = requests.iter().filter(|request| {
            request.operation == Operation::Update
                && (request.path.ends_with("/courier") || request.path.ends_with("/shipments"))
        });
        updates.count()
    }

    fn spoil(&self, kind: Kind, faults: impl IntoIterator<Item = Fault>) {
        let target = Target::provider(kind.provider_name()).on(Operation::Update);
        self.simulator.script(target, faults);
    }
}

#[tokio::test]
async fn what_is_captured_is_told_once_to_a_provider_that_takes_it_later() {
    let mut world = World::of(telling()).await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        intents.push(world.released(kind, 1).await);
    }
    assert_eq!(world.worker.tell().await.unwrap(), 0, "nothing is captured yet");
    world.drain().await;
    world.pass(MINUTE).await;
    assert_eq!(world.worker.tell().await.unwrap(), 3);
    for _ in 0..3 {
        world.pass(HOUR).await;
        assert_eq!(world.worker.tell().await.unwrap(), 0);
    }
    assert_eq!(world.parcels(Kind::Afterpay, 1), ["UPS 1Z1"]);
    assert_eq!(world.parcels(Kind::ResolveCharge, 1), ["ups 1Z1"]);
    assert_eq!(world.parcels(Kind::ResolveOrder, 1), ["ups 1Z1"]);
    assert_eq!(world.updates(), 3, "Optty has it from the capture");
    assert_eq!(world.notice(intents[0]).await, "told after 1");
    let parcel = &world
        .simulator
        .parcels(Kind::Afterpay.provider_name(), &Kind::Afterpay.payment(1))[0];
    let shipped_at = parcel.shipped_at.as_deref().unwrap();
    assert!(shipped_at.ends_with('Z') && shipped_at.len() == 20, "{shipped_at}");
    world.books_agree().await;
}

#[tokio::test]
async fn a_running_worker_tells_by_itself_and_its_role_is_enough() {
    let mut world = World::of(telling()).await;
    let intent = world.shipped(Kind::Afterpay, 1).await;
    let url = crate::database::log_in(&world.url, "capture_worker").await;
    let outbox = crate::database::connect(&url).await;
    let lanes = world.plan.lanes(&world.simulator);
    let worker = capture::worker::Worker::new(outbox, lanes, world.plan.settings.clone())
        .await
        .unwrap();
    let shutdown = CancellationToken::new();
    let stopping = shutdown.clone();
    let running = tokio::spawn(async move { worker.run(stopping).await });
    let told = |simulator: &capture::simulator::Simulator| {
        let parcels = simulator.parcels(Kind::Afterpay.provider_name(), &Kind::Afterpay.payment(1));
        !parcels.is_empty()
    };
    world.simulator.wait_until(told).await;
    while world.notice(intent).await != "told after 1" {
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    running.await.unwrap();
    assert_eq!(world.updates(), 1);
}

#[tokio::test]
async fn a_provider_that_fails_is_asked_again_later_and_the_capture_stays_as_it_is() {
    let mut world = World::of(telling()).await;
    let intent = world.shipped(Kind::Afterpay, 1).await;
    world.spoil(Kind::Afterpay, [FIVE_HUNDRED; 3]);
    for tries in 1..=3 {
        assert_eq!(world.worker.tell().await.unwrap(), 0);
        assert_eq!(world.worker.tell().await.unwrap(), 0, "not at once");
        assert_eq!(world.notice(intent).await, format!("not yet: http_500 after {tries}"));
        world.pass(20 * MINUTE).await;
    }
    assert_eq!(world.worker.tell().await.unwrap(), 1);
    assert_eq!(world.notice(intent).await, "told after 4");
    assert_eq!((world.updates(), world.parcels(Kind::Afterpay, 1).len()), (4, 1));
    assert_eq!(world.state(intent).await, "captured");
    assert_eq!(world.sends(&Kind::Afterpay.payment(1)), 1);
    world.books_agree().await;
}

#[tokio::test]
async fn one_that_fails_for_a_day_is_given_up_and_sooner_where_each_telling_adds_a_record() {
    for (kind, most) in [(Kind::Afterpay, 8), (Kind::ResolveOrder, 3)] {
        let mut world = World::of(telling()).await;
        let intent = world.shipped(kind, 1).await;
        world.spoil(kind, [FIVE_HUNDRED; 50]);
        for _ in 0..50 {
            world.worker.tell().await.unwrap();
            world.pass(HOUR).await;
        }
        assert_eq!(world.notice(intent).await, format!("given up: http_500 after {most}"));
        assert_eq!(world.updates(), most);
        assert_eq!(world.state(intent).await, "captured");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_refusal_is_the_end_of_the_notice_and_of_nothing_else() {
    for refusal in [
        Fault::Status(422, Moment::Before),
        Fault::Status(404, Moment::Before),
        Fault::Status(400, Moment::Before),
    ] {
        let mut world = World::of(telling()).await;
        let intent = world.shipped(Kind::Afterpay, 1).await;
        world.spoil(Kind::Afterpay, [refusal]);
        assert_eq!(world.worker.tell().await.unwrap(), 1);
        for _ in 0..3 {
            world.pass(12 * HOUR).await;
            assert_eq!(world.worker.tell().await.unwrap(), 0);
        }
        let notice = world.notice(intent).await;
        assert!(
            notice.starts_with("given up: http_4") && notice.ends_with("after 1"),
            "{notice}"
        );
        assert_eq!((world.updates(), world.state(intent).await.as_str()), (1, "captured"));
        world.books_agree().await;
    }
}

#[tokio::test]
async fn what_a_dead_worker_told_and_did_not_record_is_told_again_and_the_capture_is_untouched() {
    for (kind, kept) in [(Kind::Afterpay, 1), (Kind::ResolveCharge, 2)] {
        let mut world = World::of(telling()).await;
        let intent = world.shipped(kind, 1).await;
        let lanes = world.outbox.lanes().await.unwrap();
        let lane = lanes.iter().find(|row| row.lane == kind.lane());
        let lease = 5 * MINUTE;
        let lost = world
            .outbox
            .claim_shipping_notice(lane.unwrap().id, 1, lease)
            .await
            .unwrap()
            .unwrap();
        kind.adapter(&world.simulator)
            .tell_shipping(&lost.parcel)
            .await
            .unwrap();
        // And here it died.
        assert_eq!(world.worker.tell().await.unwrap(), 0, "it may be at it still");
        world.pass(lease + MINUTE).await;
        assert_eq!(world.worker.tell().await.unwrap(), 1);
        assert_eq!(world.notice(intent).await, "told after 2");
        assert_eq!((world.updates(), world.parcels(kind, 1).len()), (2, kept), "{kind:?}");
        // It was only slow: its result is not recorded over another's.
        let given_up = NoticeEnd::GivenUp {
            class: "rejected",
            code: "late".to_owned(),
        };
        let recorded = world.outbox.settle_shipping_notice(intent, lost.tries, &given_up).await;
        assert!(!recorded.unwrap());
        assert_eq!(world.notice(intent).await, "told after 2");
        assert_eq!(world.state(intent).await, "captured");
        assert_eq!(world.sends(&kind.payment(1)), 1);
        world.books_agree().await;
    }
}

#[tokio::test]
async fn an_account_that_does_not_say_so_tells_nobody_and_keeps_no_notice() {
    let mut world = World::new().await;
    let intent = world.shipped(Kind::Afterpay, 1).await;
    world.pass(HOUR).await;
    assert_eq!(world.worker.tell().await.unwrap(), 0);
    assert_eq!((world.updates(), world.notice(intent).await.as_str()), (0, "none"));
    // Nor does one that said so before and no longer does.
    let mut world = World::of(telling()).await;
    let intent = world.shipped(Kind::Afterpay, 1).await;
    world.plan.fulfilment.tell = false;
    let worker = world.another_worker().await;
    assert_eq!(worker.tell().await.unwrap(), 0);
    assert_eq!(
        world.worker.tell().await.unwrap(),
        0,
        "nor another worker of the account"
    );
    assert_eq!(
        (world.updates(), world.notice(intent).await.as_str()),
        (0, "not yet after 0")
    );
}

#[tokio::test]
async fn what_is_never_captured_is_never_told() {
    let mut world = World::of(telling()).await;
    let cancelled = world.released(Kind::Afterpay, 1).await;
    assert_eq!(world.cancel(cancelled).await, "cancelled");
    let dead = world.released(Kind::Afterpay, 2).await;
    world
        .simulator
        .script(Kind::Afterpay.payment(2).as_str(), [Fault::Declined]);
    world.drain().await;
    assert!(world.end(dead).await.starts_with("dead"));
    for _ in 0..9 {
        world.pass(24 * HOUR).await;
        assert_eq!(world.worker.tell().await.unwrap(), 0);
    }
    assert_eq!(world.updates(), 0);
    assert_eq!(world.notice(cancelled).await, "none", "forgotten after a week");
    assert_eq!(world.notice(dead).await, "none");
}

#[tokio::test]
async fn captures_go_first_and_a_lane_that_rests_is_left_alone() {
    let mut world = World::of(telling()).await;
    world.shipped(Kind::Afterpay, 1).await;
    world.shipped(Kind::Afterpay, 2).await;
    for rests in [
        "paused_at = now(), paused_by = 'a', pause_reason = 'b'",
        "paused_at = null, paused_by = null, pause_reason = null, limited_until = capture.clock_now() + interval '1 hour'",
        "limited_until = null, open_until = capture.clock_now() - interval '1 second'",
        // The budget is half spent.
        "open_until = null, rate_per_minute = 60, budget_spent_until = capture.clock_now() - interval '3 seconds'",
    ] {
        world.db.run(&format!("update capture.lanes set {rests}")).await;
        assert_eq!(world.worker.tell().await.unwrap(), 0, "{rests}");
    }
    world.pass(MINUTE).await;
    let capture = world.capture(Kind::Afterpay, 3, 1000).await;
    assert_eq!(world.worker.tell().await.unwrap(), 0, "a capture is ready");
    world.drain().await;
    assert_eq!(world.state(capture).await, "captured");
    world.pass(MINUTE).await;
    assert_eq!(world.worker.tell().await.unwrap(), 2);
    let spent: bool = world
        .db
        .scalar("select budget_spent_until > capture.clock_now() - interval '5 seconds' from capture.lanes where provider = 'afterpay'")
        .await;
    assert!(spent, "each was paid for out of the lane's budget");
    assert_eq!(world.updates(), 2);
}

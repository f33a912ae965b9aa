//! What must not stand still, and what must not be taken back: one bad row, one stale row, one paused lane, one worker
//! with other settings, one open transaction.

use std::time::Duration;

use capture::outbox::{AuditStamp, Replayed};
use capture::retry::{Disposition, Wait};
use capture::verify::ReplayPlan;
use uuid::Uuid;

use crate::by_hand::{Ask, captured, claim, settlement};
use crate::database::Session;
use crate::kind::Kind;
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Unpredictable text: an index cannot compress it.
fn noise(characters: usize) -> String {
    std::iter::repeat_with(|| Uuid::new_v4().simple().to_string())
        .flat_map(|text| text.chars().collect::<Vec<_>>())
        .take(characters)
        .collect()
}

async fn held(world: &mut World, n: u32) -> Uuid {
    let payment = Kind::Optty.payment(n);
    world.authorize(Kind::Optty, &payment, 5000);
    world
        .insert(Kind::Optty, &payment, "c1", 1000, ", hold => 'shipment'")
        .await
}

#[tokio::test]
async fn a_shipment_event_that_no_index_takes_keeps_no_other_from_being_read() {
    let mut world = World::new().await;
    let intent = held(&mut world, 1).await;
    for (n, column) in ["order_id", "payment_id", "capture_ref", "tracking_number"]
        .into_iter()
        .enumerate()
    {
        let payment = if column == "payment_id" {
            "order_id"
        } else {
            "payment_id"
        };
        let text = noise(9000);
        let columns = if payment == column {
            column.to_owned()
        } else {
            format!("{column}, {payment}")
        };
        world
            .db
            .run(&format!(
                "insert into capture.shipment_events (source, event_id, provider, {columns}) values ('w', '{n}', 'optty', '{text}', 'x')"
            ))
            .await;
    }
    world
        .db
        .run("insert into capture.shipment_events (source, event_id, provider, payment_id) values ('w', 'good', 'optty', 'order-ref-1')")
        .await;
    assert_eq!(world.outbox.take_shipments(100).await.unwrap(), 5);
    assert_eq!(world.outbox.match_releases(100).await.unwrap(), 1);
    world.drain().await;
    assert_eq!(world.end(intent).await, "captured");
    let ignored: i64 = world
        .db
        .scalar("select count(*) from capture.shipment_events where handling like 'ignored: its names%'")
        .await;
    assert_eq!(
        ignored, 3,
        "a long parcel number is no reason to keep goods that left unpaid"
    );
}

#[tokio::test]
async fn two_shipments_without_a_parcel_number_free_two_captures_even_if_it_is_written_as_an_empty_text() {
    let mut world = World::new().await;
    let payment = Kind::Optty.payment(1);
    world.authorize(Kind::Optty, &payment, 5000);
    let first = world
        .insert(Kind::Optty, &payment, "c1", 1000, ", hold => 'shipment'")
        .await;
    let second = world
        .insert(Kind::Optty, &payment, "c2", 2000, ", hold => 'shipment'")
        .await;
    for n in 1..=2 {
        world
            .db
            .run(&format!(
                "insert into capture.shipment_events (source, event_id, provider, payment_id, company, method, tracking_number)
                 values ('w', '{n}', 'optty', '{payment}', '', ' ', '')"
            ))
            .await;
    }
    world.outbox.take_shipments(100).await.unwrap();
    assert_eq!(world.outbox.match_releases(100).await.unwrap(), 2);
    let ends = world.until_all_ended(&[first, second], MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    world.books_agree().await;
}

#[tokio::test]
async fn a_new_release_is_matched_at_once_however_many_wait_that_match_nothing() {
    let mut world = World::new().await;
    world
        .db
        .run("select capture.release(provider => 'optty', payment_id => 'never-held-' || n) from generate_series(1, 500) n")
        .await;
    world.pass(HOUR).await;
    let intent = held(&mut world, 1).await;
    world
        .db
        .run("select capture.release(provider => 'optty', payment_id => 'order-ref-1')")
        .await;
    assert_eq!(world.outbox.match_releases(200).await.unwrap(), 1);
    world.drain().await;
    assert_eq!(world.end(intent).await, "captured");
}

#[tokio::test]
async fn a_step_of_the_upkeep_that_fails_keeps_no_other_from_being_done() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    drop(world.claim_one(Kind::Afterpay).await);
    world
        .db
        .run(
            "insert into capture.shipment_events (source, event_id) values ('w', '1');
             alter function capture.take_shipments(integer) rename to broken",
        )
        .await;
    world.pass(Duration::from_secs(121)).await;
    world
        .while_running(async |world| {
            world
                .until_sql(&format!(
                    "select exists (select from capture.outcomes where intent = '{intent}')"
                ))
                .await;
        })
        .await;
    assert_eq!(world.end(intent).await, "captured", "nobody rescued it");
}

#[tokio::test]
async fn what_has_a_late_receipt_is_not_cancelled() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let old = world.claim_one(Kind::Afterpay).await;
    let receipt = captured(world.send(Kind::Afterpay, &old).await);
    world.lose_lease().await;
    let verification = world.claim_one(Kind::Afterpay).await;
    world.settle(old, Disposition::Captured(receipt)).await;
    // A read that lagged: it looks as if nothing had been captured.
    world
        .settle(verification, Disposition::Retry(Wait::Exactly(HOUR)))
        .await;
    assert_eq!(
        world.outbox.cancel(intent, "changed their mind").await.unwrap(),
        "in_flight"
    );
    assert_eq!(world.until_ended(intent, HOUR).await, "captured");
    world.books_agree().await;
}

#[tokio::test]
async fn a_cancel_and_a_late_receipt_do_not_miss_each_other() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let old = world.claim_one(Kind::Afterpay).await;
    let receipt = captured(world.send(Kind::Afterpay, &old).await);
    world.lose_lease().await;
    let verification = world.claim_one(Kind::Afterpay).await;
    world
        .settle(verification, Disposition::Retry(Wait::Exactly(HOUR)))
        .await;
    let mut shop = Session::open(&world.url).await;
    let said: String = {
        shop.run("begin").await;
        shop.scalar(&format!(
            "select capture.cancel(intent_id => '{intent}', reason => 'too slow')"
        ))
        .await
    };
    assert_eq!(said, "cancelled");
    let outbox = world.outbox.clone();
    let late = [settlement(old, Disposition::Captured(receipt))];
    let settling = tokio::spawn(async move { outbox.settle(&late, &[]).await });
    world.db.until_blocked(&settling).await;
    shop.run("commit").await;
    settling.await.unwrap().unwrap();
    let story = world.story(intent).await;
    assert_eq!(
        story.last().unwrap(),
        "late_result captured_after_cancelled",
        "{story:?}"
    );
}

#[tokio::test]
async fn a_held_capture_that_nobody_released_is_never_sent_whatever_margin_its_worker_keeps() {
    let mut world = World::new().await;
    let payment = Kind::Afterpay.payment(1);
    world.authorize(Kind::Afterpay, &payment, 5000);
    let more = ", hold => 'shipment', authorization_expires_at => now() + interval '1 hour'";
    let intent = world.insert(Kind::Afterpay, &payment, "c1", 1000, more).await;
    // A worker that keeps two hours says that it is over; one that keeps a minute claims it.
    assert_eq!(world.outbox.watch_deadlines(2 * HOUR, 100).await.unwrap(), 1);
    world.drain().await;
    assert_eq!(world.sends(&payment), 0, "the goods have not left");
    assert!(world.end(intent).await.starts_with("dead: expired"));
}

#[tokio::test]
async fn a_row_to_be_claimed_alone_in_a_lane_that_stands_still_stops_no_other_lane() {
    let mut world = World::new().await;
    world.capture(Kind::Afterpay, 1, 1000).await;
    world.db.run("update capture.ready set alone = true").await;
    let lanes = world.outbox.lanes().await.unwrap();
    let lanes: Vec<_> = lanes.iter().map(|lane| lane.id).collect();
    assert!(world.outbox.chores(&lanes).await.unwrap().alone);
    for still in [
        "paused_at = now(), paused_by = 'a', pause_reason = 'b'",
        "paused_at = null, paused_by = null, pause_reason = null, limited_until = now() + interval '1 hour'",
        "limited_until = null, open_until = now() + interval '1 hour'",
    ] {
        world.db.run(&format!("update capture.lanes set {still}")).await;
        assert!(!world.outbox.chores(&lanes).await.unwrap().alone, "{still}");
    }
    world.db.run("update capture.lanes set open_until = null").await;
    assert!(world.outbox.chores(&lanes).await.unwrap().alone);
}

/// Watches, while somebody looks that it waits for nobody's lock.
async fn watch_unblocked(world: &mut World) -> i32 {
    let outbox = world.outbox.clone();
    let watch = tokio::spawn(async move { outbox.watch_deadlines(MINUTE, 100).await });
    while !watch.is_finished() {
        assert!(!world.db.somebody_is_blocked().await, "it waits for a lock");
    }
    watch.await.unwrap().unwrap()
}

#[tokio::test]
async fn the_watch_over_deadlines_waits_for_no_open_transaction_and_forgets_nothing_that_one_held() {
    let mut world = World::new().await;
    let expires =
        |hours: u32, hold: &str| format!(", authorization_expires_at => now() + interval '{hours} hours'{hold}");
    let ready = world
        .insert(Kind::Afterpay, "10010001", "c1", 1000, &expires(50, ""))
        .await;
    let held = world
        .insert(
            Kind::Afterpay,
            "10010002",
            "c1",
            1000,
            &expires(50, ", hold => 'shipment'"),
        )
        .await;
    let mut shop = Session::open(&world.url).await;
    shop.run(&format!(
        "begin; select from capture.ready where intent = '{ready}' for update; select from capture.waiting where intent = '{held}' for update"
    ))
    .await;
    world.pass(30 * HOUR).await;
    assert_eq!(watch_unblocked(&mut world).await, 2, "both are told of");
    world.pass(20 * HOUR).await;
    watch_unblocked(&mut world).await;
    shop.run("rollback").await;
    watch_unblocked(&mut world).await;
    world.drain().await;
    assert!(
        world.end(held).await.starts_with("dead: expired"),
        "{}",
        world.end(held).await
    );
    assert!(world.end(ready).await.starts_with("dead: expired"));
}

#[tokio::test]
async fn a_send_of_many_calls_gets_its_turn_beside_reads_that_cost_one() {
    let mut world = World::new().await;
    let sends = world.capture(Kind::ResolveCharge, 1, 1000).await;
    world.db.run("update capture.lanes set rate_per_minute = 60").await;
    let mut ask = Ask::of(Kind::ResolveCharge);
    ask.calls = (4, 1);
    // The budget is spent; a verification waits at each look.
    let spend = "update capture.lanes set budget_spent_until = capture.clock_now()";
    world.db.run(spend).await;
    for n in 2..30 {
        let intent = world.capture(Kind::ResolveCharge, n, 1000).await;
        world
            .db
            .run(&format!(
                "update capture.ready set purpose = 2 where intent = '{intent}'"
            ))
            .await;
    }
    let mut looks = 0;
    loop {
        let claims = claim(
            &world.outbox,
            &Ask {
                lease: Uuid::new_v4(),
                ..ask.clone()
            },
        )
        .await;
        if claims.iter().any(|claim| claim.ticket.intent().0 == sends) {
            break;
        }
        assert!(
            claims.is_empty(),
            "whose turn it is, that one saves; nothing cheaper passes it"
        );
        looks += 1;
        assert!(looks < 10);
        world.pass(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_replay_counts_what_its_siblings_captured_while_it_was_dead() {
    let mut world = World::new().await;
    let payment = Kind::Afterpay.payment(1);
    // The provider would let more pass than the order system says.
    world.authorize(Kind::Afterpay, &payment, 50_000);
    let first = world
        .insert(Kind::Afterpay, &payment, "c1", 6000, ", authorized_minor => 10000")
        .await;
    let claim = world.claim_one(Kind::Afterpay).await;
    let exhausted = Disposition::Dead(
        capture::retry::DeadReason::Exhausted,
        capture::outcome::Evidence::default(),
    );
    world.settle(claim, exhausted).await;
    world
        .db
        .run("update capture.progress set first_sent_at = capture.clock_now()")
        .await;
    let second = world
        .insert(Kind::Afterpay, &payment, "c2", 6000, ", authorized_minor => 10000")
        .await;
    world.drain().await;
    assert_eq!(world.end(second).await, "captured");
    let letter = world.outbox.dead_letter(first).await.unwrap().unwrap();
    let plan = ReplayPlan {
        fresh_key: false,
        next_generation: letter.progress.generation,
        says: String::new(),
    };
    let stamp = AuditStamp {
        actor: "ops".to_owned(),
        reason: "again".to_owned(),
    };
    let replayed = world.outbox.replay(&letter, &plan, &stamp).await.unwrap();
    assert_eq!(replayed, Replayed::Replayed);
    assert_eq!(
        world.until_ended(first, MINUTE).await,
        "dead: rejected (over_authorized)"
    );
    assert_eq!(world.sends(&payment), 1);
}

#[tokio::test]
async fn a_result_whose_statement_an_administrator_cancels_is_recorded_all_the_same() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    world
        .db
        .run(
            "create sequence capture.tries;
             create function capture.cancelled() returns trigger language plpgsql as $$ begin
                 if nextval('capture.tries') <= 3 then raise 'cancelled' using errcode = '57014'; end if;
                 return null;
             end $$;
             create trigger cancelled before insert on capture.attempts for each statement execute function capture.cancelled()",
        )
        .await;
    world.drain().await;
    assert_eq!(world.end(intent).await, "captured");
    assert_eq!(world.attempts(intent).await, ["send captured"]);
}

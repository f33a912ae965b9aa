//! After a fail-over or a restore the database may have forgotten what was sent: everything is verified first.

use std::time::Duration;

use capture::outbox::{Replayed, Settled};
use capture::outcome::Evidence;
use capture::retry::{DeadReason, Disposition, Wait};
use capture::simulator::{Fault, Operation, Target};
use uuid::Uuid;

use crate::by_hand::{Ask, LEASE, captured, claim, settlement};
use crate::database::{connect, log_in};
use crate::kind::Kind;
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

impl World {
    /// The server's history becomes another one.
    async fn change_history(&mut self) {
        self.db.run("update capture.epoch set timeline = 'FFFFFFFF'").await;
    }

    /// Captures the one thing that is ready in a history which is then lost: the provider remembers, the database has a
    /// row that was never claimed.
    async fn capture_and_forget(&mut self, kind: Kind) {
        let claim = self.claim_one(kind).await;
        let intent = claim.intent.id.0;
        let _ = self.send(kind, &claim).await;
        assert_eq!(
            self.settle(claim, Disposition::Retry(Wait::None)).await,
            Settled::Recorded
        );
        self.db
            .run(&format!(
                "delete from capture.progress where intent = '{intent}';
                 update capture.waiting set purpose = 0, cause = 'scheduled', due_at = capture.clock_now() + interval '1 minute'
                     where intent = '{intent}'"
            ))
            .await;
    }

    /// Loses the history in which everything was asked for, with all that came of it, and begins another one, in which the
    /// order system asks for the same again.
    async fn lose_and_ask_again(&mut self) {
        self.db
            .run(
                "create table public.lost as select * from capture.intents;
                 set session_replication_role = replica;
                 delete from capture.leases; delete from capture.ready; delete from capture.waiting; delete from capture.progress;
                 delete from capture.attempts_apart; delete from capture.events; delete from capture.outcomes; delete from capture.intents;
                 set session_replication_role = origin",
            )
            .await;
        self.change_history().await;
        self.outbox.rescue(1).await.unwrap();
        self.db
            .run(
                "insert into capture.intents (id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency)
                     select id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency from public.lost",
            )
            .await;
    }

    /// Lets what is ready wait for a minute.
    async fn put_off(&mut self, intent: Uuid) {
        self.db
            .run(&format!(
                "with gone as (delete from capture.ready where intent = '{intent}' returning *)
                 insert into capture.waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
                 select intent, lane, purpose, urgency, fence, epoch, 'scheduled', capture.clock_now() + interval '1 minute', since
                 from gone"
            ))
            .await;
    }
}

#[tokio::test]
async fn what_was_captured_in_a_lost_history_is_found_and_not_captured_again() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        intents.push(world.capture(kind, 1, 1234).await);
        world.capture_and_forget(kind).await;
    }
    world.change_history().await;
    world.pass(MINUTE).await;
    let ends = world.until_all_ended(&intents, MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    world.books_agree().await;
}

#[tokio::test]
async fn what_was_not_sent_in_a_lost_history_is_captured_once_after_a_look() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        intents.push(world.capture(kind, 1, 1234).await);
    }
    world.change_history().await;
    let ends = world.until_all_ended(&intents, MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    for kind in Kind::ALL {
        let wire = world.wire(&kind.payment(1));
        assert_eq!(wire[0], "read 200", "{kind:?}");
    }
    world.books_agree().await;
}

/// Its first key is not enough: in the part that is gone it was refused, replayed by a person, and captured under the next.
#[tokio::test]
async fn what_a_lost_history_captured_under_a_raised_key_is_not_captured_under_the_first() {
    let kind = Kind::Afterpay;
    let mut world = World::new().await;
    let intent = world.capture(kind, 1, 1234).await;
    world.simulator.script(kind.payment(1).as_str(), [Fault::Declined]);
    world.drain().await;
    assert_eq!(world.state(intent).await, "dead");
    assert_eq!(world.replay(kind, intent).await, Replayed::Replayed);
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    let sends = world.sends(&kind.payment(1));
    world
            .db
            .run(&format!(
                "set session_replication_role = replica;
                 insert into capture.ready (lane, purpose, urgency, intent, fence, epoch, since)
                     select lane, 0, 0, intent, 0, 1, capture.clock_now() from capture.outcomes where intent = '{intent}';
                 delete from capture.outcomes where intent = '{intent}';
                 delete from capture.progress where intent = '{intent}';
                 delete from capture.attempts_apart where intent = '{intent}';
                 set session_replication_role = origin"
            ))
            .await;
    world.change_history().await;
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured", "{kind:?}");
    assert_eq!(world.sends(&kind.payment(1)), sends, "{kind:?}: a read found it");
    world.books_agree().await;
}

/// And the request under the next key may still be on its way.
#[tokio::test]
async fn after_a_lost_history_a_key_is_repeated_only_once_nothing_can_be_on_its_way() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    let intent = world.capture(kind, 1, 1234).await;
    world.change_history().await;
    world.drain().await;
    assert_eq!(world.state(intent).await, "verifying");
    assert_eq!(world.wire(&kind.payment(1)), ["read 200"], "too early to say anything");
    world.pass(LEASE - Duration::from_secs(5)).await;
    world.drain().await;
    assert_eq!(world.sends(&kind.payment(1)), 0);
    world.pass(Duration::from_secs(10)).await;
    world.drain().await;
    assert_eq!(world.state(intent).await, "captured");
    assert_eq!(world.wire(&kind.payment(1)), ["read 200", "read 200", "capture 201!"]);
}

/// Somebody else rescued it in the part that is gone, and sent it again, and was paid.
#[tokio::test]
async fn a_refusal_under_a_lease_of_a_lost_history_ends_nothing_before_somebody_has_looked() {
    for kind in Kind::ALL {
        let mut world = World::new().await;
        let intent = world.capture(kind, 1, 1234).await;
        let claim = world.claim_one(kind).await;
        let _ = captured(world.send(kind, &claim).await);
        world.change_history().await;
        let refused = Disposition::Dead(DeadReason::Rejected, Evidence::default());
        assert_eq!(world.settle(claim, refused).await, Settled::Recorded);
        assert_eq!(world.state(intent).await, "verifying", "{kind:?}");
        assert_eq!(world.until_ended(intent, MINUTE).await, "captured", "{kind:?}");
        let told: Vec<String> = world
            .db
            .column(&format!(
                "select type from capture.events where intent_id = '{intent}' and type like '%dead%'"
            ))
            .await;
        assert!(told.is_empty(), "{kind:?}: {told:?}");
        world.books_agree().await;
    }
}

/// Whoever claimed it after the loss may die before looking.
#[tokio::test]
async fn a_row_of_a_lost_history_stays_one_until_a_claim_of_this_one_is_settled() {
    for kind in Kind::ALL {
        let mut world = World::new().await;
        let intent = world.capture(kind, 1, 1234).await;
        world.capture_and_forget(kind).await;
        world.change_history().await;
        world.pass(MINUTE).await;
        world.outbox.move_due(10).await.unwrap();
        assert!(world.claim_one(kind).await.history_changed);
        assert_eq!(world.lose_lease().await, 1);
        assert_eq!(world.until_ended(intent, MINUTE).await, "captured", "{kind:?}");
        assert_eq!(world.sends(&kind.payment(1)), 1, "{kind:?}");
        world.books_agree().await;
    }
}

/// A fence is given twice, once in either history, and both leases are lost: a receipt is not taken for what the other said.
#[tokio::test]
async fn a_late_receipt_is_kept_beside_a_late_result_of_the_same_fence_in_another_history() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let first = world.claim_one(Kind::Afterpay).await;
    let receipt = captured(world.send(Kind::Afterpay, &first).await);
    world
        .db
        .run("select capture.give_back(id) from capture.leases; update capture.ready set fence = 0")
        .await;
    world.change_history().await;
    let second = world.claim_one(Kind::Afterpay).await;
    assert_eq!(first.ticket.fence(), second.ticket.fence());
    assert_eq!(world.lose_lease().await, 1);
    let both = [
        settlement(second, Disposition::Retry(Wait::None)),
        settlement(first, Disposition::Captured(receipt)),
    ];
    assert_eq!(
        world.outbox.settle(&both, &[]).await.unwrap(),
        [Settled::LeaseLost, Settled::LeaseLost]
    );
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    assert_eq!(
        world.wire(&Kind::Afterpay.payment(1)),
        ["capture 201!"],
        "the receipt is enough: nobody asks again"
    );
}

#[tokio::test]
async fn rows_that_waited_in_a_lost_history_are_verified_first_when_they_are_due() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        for (n, more) in [
            (1, ", not_before => now() + interval '1 hour'"),
            (2, ", hold => 'shipment'"),
        ] {
            let payment = kind.payment(n);
            world.authorize(kind, &payment, 5000);
            intents.push(world.insert(kind, &payment, "c1", 1234, more).await);
        }
    }
    world.change_history().await;
    world.drain().await;
    for kind in Kind::ALL {
        let (lane, payment) = (kind.lane(), kind.payment(2));
        let sql = format!(
            "select capture.release(provider => '{}', account => '{}', payment_id => '{payment}')",
            lane.provider, lane.account
        );
        world.db.run(&sql).await;
    }
    assert_eq!(world.outbox.match_releases(10).await.unwrap(), 4);
    world.pass(61 * MINUTE).await;
    let ends = world.until_all_ended(&intents, MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    for kind in [Kind::Optty, Kind::ResolveCharge, Kind::ResolveOrder] {
        for n in [1, 2] {
            assert_eq!(world.wire(&kind.payment(n))[0], "read 200", "{kind:?} {n}");
        }
    }
    world.books_agree().await;
}

#[tokio::test]
async fn a_lease_of_a_lost_history_is_void_at_once_and_its_late_result_is_kept() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    let mut old = Vec::new();
    for kind in Kind::ALL {
        intents.push(world.capture(kind, 1, 1234).await);
        let claim = world.claim_one(kind).await;
        let receipt = captured(world.send(kind, &claim).await);
        old.push((claim, receipt));
    }
    world.change_history().await;
    assert_eq!(
        world.outbox.rescue(100).await.unwrap(),
        4,
        "without waiting for their end"
    );
    for (claim, receipt) in old {
        assert_eq!(
            world.settle(claim, Disposition::Captured(receipt)).await,
            Settled::LeaseLost
        );
    }
    let ends = world.until_all_ended(&intents, MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    world.books_agree().await;
}

#[tokio::test]
async fn what_is_asked_for_again_after_a_lost_history_is_not_captured_again() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        intents.push(world.capture(kind, 1, 1234).await);
        let claim = world.claim_one(kind).await;
        let _ = world.send(kind, &claim).await;
        let reads = Target::payment(kind.payment(1).as_str()).on(Operation::Read);
        world.simulator.script(reads, [Fault::LaggingRead]);
    }
    world.lose_and_ask_again().await;
    let ends = world.until_all_ended(&intents, MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    world.books_agree().await;
}

#[tokio::test]
async fn what_is_refused_when_it_is_asked_for_again_after_a_lost_history_may_have_been_captured_in_that() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let claim = world.claim_one(Kind::Afterpay).await;
    let _ = world.send(Kind::Afterpay, &claim).await;
    world.simulator.script(
        Target::payment(Kind::Afterpay.payment(1).as_str()).on(Operation::Capture),
        [Fault::Refuse(422, "invalid_amount")],
    );
    world.lose_and_ask_again().await;
    world.until_ended(intent, MINUTE).await;
    assert_eq!(world.end(intent).await, "captured");
    world.books_agree().await;
}

#[tokio::test]
async fn what_is_asked_for_again_after_a_lost_history_is_in_doubt_until_a_claim_of_it_is_settled() {
    let kind = Kind::Afterpay;
    let mut world = World::new().await;
    let intent = world.capture(kind, 1, 1234).await;
    world.simulator.script(kind.payment(1).as_str(), [Fault::Declined]);
    world.drain().await;
    assert_eq!(world.replay(kind, intent).await, Replayed::Replayed);
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    let sends = world.sends(&kind.payment(1));
    world.lose_and_ask_again().await;
    drop(world.claim_one(kind).await);
    assert_eq!(world.lose_lease().await, 1);
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    assert_eq!(
        world.sends(&kind.payment(1)),
        sends,
        "its first key says nothing of its second"
    );
    world.books_agree().await;
}

#[tokio::test]
async fn what_is_asked_for_long_after_a_lost_history_is_sent_at_once() {
    let mut world = World::new().await;
    world.change_history().await;
    world.outbox.rescue(1).await.unwrap();
    world.capture(Kind::Afterpay, 1, 1234).await;
    assert!(world.claim_one(Kind::Afterpay).await.history_changed);
    // Intents bear the time of their transaction, which is not the clock that tests set.
    let past = format!(
        "update capture.epoch set began_at = began_at - interval '{} s'",
        5 * LEASE.as_secs()
    );
    world.db.run(&past).await;
    world.capture(Kind::Afterpay, 2, 1234).await;
    assert!(!world.claim_one(Kind::Afterpay).await.history_changed);
}

#[tokio::test]
async fn the_history_of_a_row_is_not_forgotten_when_a_claim_is_given_back() {
    let mut world = World::new().await;
    world.capture(Kind::Afterpay, 1, 1234).await;
    world.change_history().await;
    for _ in 0..2 {
        let ask = Ask::of(Kind::Afterpay);
        let claims = claim(&world.outbox, &ask).await;
        assert!(claims[0].history_changed);
        assert_eq!(world.outbox.give_back(ask.lease).await.unwrap(), 1);
    }
    let known = world.claim_one(Kind::Afterpay).await;
    world.settle(known, Disposition::Verify(Wait::None)).await;
    let known = world.claim_one(Kind::Afterpay).await;
    assert!(!known.history_changed, "what is known now is of this history");
}

#[tokio::test]
async fn a_cancel_after_a_lost_history_cancels_only_what_a_read_does_not_find() {
    let mut world = World::new().await;
    let mut found = Vec::new();
    let mut not_found = Vec::new();
    for kind in Kind::ALL {
        found.push(world.capture(kind, 1, 1234).await);
        world.capture_and_forget(kind).await;
        not_found.push(world.capture(kind, 2, 1234).await);
    }
    world.change_history().await;
    world.pass(MINUTE).await;
    for intent in found.iter().chain(&not_found) {
        let said = world.outbox.cancel(*intent, "changed my mind").await.unwrap();
        assert_eq!(said, "in_flight");
    }
    // Afterpay's key may act for 23 hours: so long no read proves that it will not.
    let ends = world.until_all_ended(&not_found, 30 * MINUTE).await;
    assert!(ends.values().all(|end| end == "cancelled"), "{ends:?}");
    let ends = world.until_all_ended(&found, MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    for kind in Kind::ALL {
        assert_eq!(
            world.sends(&kind.payment(1)),
            1,
            "{kind:?}: only the one that was forgotten"
        );
        assert_eq!(
            world.sends(&kind.payment(2)),
            0,
            "{kind:?}: nothing is sent after a cancel"
        );
    }
    world.books_agree().await;
}

#[tokio::test]
async fn a_cancel_of_what_is_asked_for_again_after_a_lost_history_cancels_only_what_a_read_does_not_find() {
    let mut world = World::new().await;
    let mut found = Vec::new();
    let mut not_found = Vec::new();
    for kind in Kind::ALL {
        found.push(world.capture(kind, 1, 1234).await);
        let claim = world.claim_one(kind).await;
        let _ = world.send(kind, &claim).await;
        not_found.push(world.capture(kind, 2, 1234).await);
    }
    world.lose_and_ask_again().await;
    for intent in found.iter().chain(&not_found) {
        let said = world.outbox.cancel(*intent, "changed my mind").await.unwrap();
        assert_eq!(said, "in_flight");
    }
    world.until_all_ended(&found, MINUTE).await;
    world.until_all_ended(&not_found, 30 * MINUTE).await;
    for (captured, cancelled) in found.into_iter().zip(not_found) {
        assert_eq!(world.end(captured).await, "captured");
        assert_eq!(world.end(cancelled).await, "cancelled");
    }
    world.books_agree().await;
}

/// As long as the claim's own doubt, and no longer: who cancels and asks again in one transaction needs the room.
#[tokio::test]
async fn a_cancel_soon_after_a_lost_history_is_a_wish_for_five_leases_of_the_workers() {
    let mut world = World::new().await;
    world.change_history().await;
    world.outbox.rescue(1).await.unwrap();
    world.outbox.heartbeat(Uuid::new_v4(), None, &[], LEASE).await.unwrap();
    for (ago, said) in [(5 * LEASE - MINUTE, "in_flight"), (5 * LEASE + MINUTE, "cancelled")] {
        let began = format!(
            "update capture.epoch set began_at = now() - interval '{} s'",
            ago.as_secs()
        );
        world.db.run(&began).await;
        let intent = world
            .capture(Kind::Afterpay, 1 + u32::from(said == "cancelled"), 1234)
            .await;
        assert_eq!(
            world.outbox.cancel(intent, "changed my mind").await.unwrap(),
            said,
            "{ago:?}"
        );
    }
}

/// Held rows wait for no time, so nobody would look at the wish.
#[tokio::test]
async fn a_cancel_after_a_lost_history_ends_what_is_held_or_put_off_too() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        for (n, more) in [
            (1, ", not_before => now() + interval '90 days'"),
            (2, ", hold => 'shipment'"),
        ] {
            let payment = kind.payment(n);
            world.authorize(kind, &payment, 5000);
            intents.push(world.insert(kind, &payment, "c1", 1234, more).await);
        }
    }
    world.change_history().await;
    for intent in &intents {
        let said = world.outbox.cancel(*intent, "changed my mind").await.unwrap();
        assert_eq!(said, "in_flight");
    }
    let ends = world.until_all_ended(&intents, 30 * MINUTE).await;
    assert!(ends.values().all(|end| end == "cancelled"), "{ends:?}");
    for kind in Kind::ALL {
        assert_eq!(
            world.sends(&kind.payment(1)) + world.sends(&kind.payment(2)),
            0,
            "{kind:?}"
        );
    }
    world.books_agree().await;
}

/// Two captures of a payment over 50.00; the first `forgotten` of them are sent in a history that is then lost.
async fn siblings(world: &mut World, kind: Kind, n: u32, amounts: [i64; 2], forgotten: usize) -> [Uuid; 2] {
    let payment = kind.payment(n);
    world.authorize(kind, &payment, 5000);
    let mut intents = [Uuid::nil(); 2];
    for (place, minor) in amounts.into_iter().enumerate() {
        intents[place] = world.insert(kind, &payment, &format!("c{place}"), minor, "").await;
        if place < forgotten {
            world.capture_and_forget(kind).await;
        } else {
            // Out of the way of what is claimed by hand meanwhile.
            world.put_off(intents[place]).await;
        }
    }
    intents
}

#[tokio::test]
async fn siblings_of_a_lost_history_are_each_captured_once_where_a_read_tells_them_apart() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in [Kind::Afterpay, Kind::Optty, Kind::ResolveOrder] {
        for (n, amounts) in (0..).zip([[2000, 2000], [2000, 1500]]) {
            for forgotten in 0..=2u8 {
                let place = n * 10 + u32::from(forgotten);
                intents.extend(siblings(&mut world, kind, place, amounts, usize::from(forgotten)).await);
            }
        }
    }
    world.change_history().await;
    world.pass(2 * MINUTE).await;
    let ends = world.until_all_ended(&intents, 5 * MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    world.books_agree().await;
}

/// Each was taken in without sight of the other; the claim decides, in a new history too.
#[tokio::test]
async fn siblings_of_a_lost_history_do_not_together_get_more_than_was_authorised() {
    for kind in [Kind::Afterpay, Kind::Optty, Kind::ResolveOrder] {
        let mut world = World::new().await;
        let payment = kind.payment(1);
        world.authorize(kind, &payment, 50_000);
        let [first, second] = world.ask_for_too_much(kind, &payment).await;
        world.change_history().await;
        // Afterpay's key may act for 23 hours: so long no read proves that it will not.
        let ends = world.until_all_ended(&[first, second], 30 * MINUTE).await;
        let mut ends: Vec<_> = ends.into_values().collect();
        ends.sort();
        assert_eq!(ends, ["captured", "dead: rejected (over_authorized)"], "{kind:?}");
        assert_eq!(world.sends(&payment), 1, "{kind:?}");
        world.books_agree().await;
    }
}

/// Our books forgot the capture of one; the provider, which would give more than the order says, did not.
#[tokio::test]
async fn a_capture_that_was_forgotten_leaves_no_room_for_its_sibling_as_soon_as_a_read_shows_it() {
    for kind in [Kind::Afterpay, Kind::Optty, Kind::ResolveOrder] {
        let mut world = World::new().await;
        let payment = kind.payment(1);
        world.authorize(kind, &payment, 50_000);
        let [first, second] = world.ask_for_too_much(kind, &payment).await;
        world.put_off(second).await;
        world.capture_and_forget(kind).await;
        world.change_history().await;
        // The second is looked at before anybody looks at the first.
        let at_once = format!("update capture.waiting set due_at = capture.clock_now() where intent = '{second}'");
        world.db.run(&at_once).await;
        world.drain().await;
        assert_eq!(world.sends(&payment), 1, "{kind:?}");
        let ends = world.until_all_ended(&[first, second], 30 * MINUTE).await;
        assert_eq!(ends[&first], "captured", "{kind:?}");
        assert_eq!(ends[&second], "dead: rejected (over_authorized)", "{kind:?}");
        assert_eq!(world.sends(&payment), 1, "{kind:?}");
        world.books_agree().await;
    }
}

/// A charge is captured once, and nothing on it says by whom: one movement is one record, whoever asked for it.
#[tokio::test]
async fn siblings_of_a_lost_history_never_share_one_capture_of_a_charge() {
    let mut world = World::new().await;
    let mut cases = Vec::new();
    for (n, amounts, second) in [
        (0, [2000, 2000], "dead: captured_elsewhere"),
        (10, [2000, 1500], "dead: undecided"),
    ] {
        for forgotten in [0, 1] {
            let place = n + u32::from(forgotten == 1);
            let intents = siblings(&mut world, Kind::ResolveCharge, place, amounts, forgotten).await;
            cases.push((intents, second));
        }
    }
    world.change_history().await;
    world.pass(2 * MINUTE).await;
    let all: Vec<Uuid> = cases.iter().flat_map(|(intents, _)| *intents).collect();
    let ends = world.until_all_ended(&all, 5 * MINUTE).await;
    for (intents, second) in cases {
        let mut pair = intents.map(|intent| ends[&intent].clone());
        pair.sort();
        assert_eq!(pair[0], "captured", "{pair:?}");
        assert!(pair[1].starts_with(second), "{pair:?}");
    }
    world.books_agree().await;
}

/// The lost part of the history may hold a first replay, whose capture is still on its way.
#[tokio::test]
async fn a_letter_that_died_in_an_earlier_history_is_replayed_as_what_may_have_been_sent() {
    for kind in Kind::ALL {
        let mut world = World::new().await;
        let intent = world.capture(kind, 1, 1000).await;
        let claim = world.claim_one(kind).await;
        let dead = Disposition::Dead(DeadReason::Rejected, Evidence::default());
        assert_eq!(world.settle(claim, dead).await, Settled::Recorded);
        // Refused for good, and never in doubt.
        let sent = format!(
            "update capture.progress set attempts = 1, first_sent_at = created_at from capture.intents i where i.id = intent and intent = '{intent}'"
        );
        world.db.run(&sent).await;
        world.change_history().await;
        world.pass(MINUTE).await;
        // Somebody notices.
        world.outbox.rescue(1).await.unwrap();
        assert_eq!(world.replay(kind, intent).await, Replayed::Replayed);
        world.drain().await;
        let payment = kind.payment(1);
        match kind {
            // The next key answers for whoever raised the old one.
            Kind::Afterpay | Kind::ResolveOrder => assert_eq!(world.sends(&payment), 1, "{kind:?}"),
            Kind::Optty | Kind::ResolveCharge => {
                assert_eq!(world.sends(&payment), 0, "{kind:?}");
                let first: bool = world
                    .db
                    .scalar(&format!(
                        "select tainted and quiet_after > capture.clock_now() + interval '30 seconds' from capture.progress where intent = '{intent}'"
                    ))
                    .await;
                assert!(first, "{kind:?}: it waits as long as a lease of that history may last");
            }
        }
        assert_eq!(world.until_ended(intent, MINUTE).await, "captured", "{kind:?}");
        assert_eq!(world.sends(&payment), 1, "{kind:?}");
        world.books_agree().await;

        // What died in this history needs none of it.
        let later = world.capture(kind, 2, 1000).await;
        let claim = world.claim_one(kind).await;
        let dead = Disposition::Dead(DeadReason::Exhausted, Evidence::default());
        world.settle(claim, dead).await;
        world.replay(kind, later).await;
        world.drain().await;
        assert_eq!(world.state(later).await, "captured", "{kind:?}");
    }
}

/// A worker that has nothing to claim finds it out too: with no more rights than its role has.
#[tokio::test]
async fn a_workers_role_sees_a_restart_and_another_history_by_its_chores() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    world.claim_one(Kind::Afterpay).await;
    let outbox = connect(&log_in(&world.url, "capture_worker").await).await;
    let epoch = "select number || ' ' || (server_started_at = pg_postmaster_start_time()) from capture.epoch";

    world
        .db
        .run("update capture.epoch set server_started_at = '2000-01-01Z'")
        .await;
    assert!(
        !outbox.chores(&[]).await.unwrap().lapsed,
        "the same server, started again"
    );
    let told: String = world.db.scalar(epoch).await;
    assert_eq!(told, "1 true");

    // A copy of the database on another server, in a timeline of the same name.
    world
        .db
        .run("update capture.epoch set server_started_at = '2000-01-01Z', system_identifier = 'another'")
        .await;
    assert!(outbox.chores(&[]).await.unwrap().lapsed, "the lease is void");
    let told: String = world.db.scalar(epoch).await;
    assert_eq!(told, "2 true");
    assert_eq!(outbox.rescue(10).await.unwrap(), 1);
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    world.books_agree().await;
}

/// Claim and settle look for themselves, each first in its turn after a restart on another server.
#[tokio::test]
async fn a_claim_and_a_settle_begin_a_new_epoch_on_another_server() {
    let mut world = World::new().await;
    let copied = "update capture.epoch set server_started_at = '2000-01-01Z', system_identifier = 'another'";
    let number = "select number from capture.epoch";
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    world.db.run(copied).await;
    let one = world.claim_one(Kind::Afterpay).await;
    assert!(one.history_changed);
    assert_eq!(world.db.scalar::<i32>(number).await, 2);
    world.db.run(copied).await;
    // Nothing but a receipt counts of what a lost history has given out.
    assert_eq!(
        world.settle(one, Disposition::Retry(Wait::None)).await,
        Settled::Recorded
    );
    assert_eq!(world.db.scalar::<i32>(number).await, 3);
    let waits: String = world
        .db
        .scalar(&format!(
            "select cause || ' ' || epoch from capture.waiting where intent = '{intent}'"
        ))
        .await;
    assert_eq!(waits, "verify 2");
}

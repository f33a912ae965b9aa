//! One movement of money at a time per authorised payment, and never more than was authorised.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capture::outbox::{AuditStamp, Replayed, Resolved, Settled};
use capture::outcome::Evidence;
use capture::retry::{DeadReason, Disposition, Wait};
use capture::simulator::{Fault, Moment};
use capture::verify::plan_replay;
use uuid::Uuid;

use crate::by_hand::{Ask, claim, receipt, settlement};
use crate::database::{Session, connect};
use crate::kind::Kind;
use crate::world::{World, enqueue};

const MINUTE: Duration = Duration::from_secs(60);
/// Those that can capture one payment in parts.
const IN_PARTS: [Kind; 3] = [Kind::Afterpay, Kind::Optty, Kind::ResolveOrder];

fn undecided() -> Disposition {
    Disposition::Dead(DeadReason::Undecided, Evidence::default())
}

impl World {
    /// That many captures of 10.00 each of one payment over 50.00.
    async fn parts(&mut self, kind: Kind, count: usize) -> Vec<Uuid> {
        let payment = kind.payment(1);
        self.authorize(kind, &payment, 5000);
        let mut intents = Vec::new();
        for n in 0..count {
            intents.push(self.insert(kind, &payment, &format!("part {n}"), 1000, "").await);
        }
        intents
    }

    /// Two captures of 30.00 of a payment over 50.00, in transactions that do not see each other.
    pub async fn ask_for_too_much(&mut self, kind: Kind, payment: &str) -> [Uuid; 2] {
        let mut other = Session::open(&self.url).await;
        self.db.run("begin").await;
        other.run("begin").await;
        let more = ", authorized_minor => 5000";
        let first: Uuid = self.db.scalar(&enqueue(kind, payment, "a", 3000, more)).await;
        let second: Uuid = other.scalar(&enqueue(kind, payment, "b", 3000, more)).await;
        self.db.run("commit").await;
        other.run("commit").await;
        [first, second]
    }

    pub async fn replay(&self, kind: Kind, intent: Uuid) -> Replayed {
        let letter = self.outbox.dead_letter(intent).await.unwrap().unwrap();
        let abilities = kind.adapter(&self.simulator).abilities();
        let plan = plan_replay(letter.reason, &letter.progress, abilities, letter.now);
        self.outbox.replay(&letter, &plan, &stamp()).await.unwrap()
    }
}

fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "ada".to_owned(),
        reason: "the provider says so".to_owned(),
    }
}

#[tokio::test]
async fn of_the_captures_of_one_payment_one_is_claimed_and_the_others_wake_when_it_ends() {
    for disposition in [
        None,
        Some(Disposition::Dead(DeadReason::Rejected, Evidence::default())),
        Some(Disposition::Cancelled),
    ] {
        let mut world = World::new().await;
        let intents = world.parts(Kind::Afterpay, 4).await;
        let first = world.claim_one(Kind::Afterpay).await;
        assert_eq!(first.intent.id.0, intents[0], "in their order");
        assert_eq!(world.claim(Kind::Afterpay).await.len(), 0, "nor another worker");
        let mut sleep = world.outbox.listen().await.unwrap();
        world.outbox.lie_down(Uuid::new_v4()).await.unwrap();
        let told = format!("{disposition:?}");
        let disposition = disposition.unwrap_or_else(|| Disposition::Captured(receipt(&first)));
        assert_eq!(world.settle(first, disposition).await, Settled::Recorded);
        assert!(
            sleep.wait(MINUTE).await.unwrap(),
            "{told}: and a sleeping worker is told"
        );
        let second = world.claim_one(Kind::Afterpay).await;
        assert!(intents[1..].contains(&second.intent.id.0), "{told}");
        assert_eq!(world.claim(Kind::Afterpay).await.len(), 0);
    }
}

#[tokio::test]
async fn an_unknown_outcome_keeps_the_payment_until_it_is_known() {
    let mut world = World::new().await;
    let intents = world.parts(Kind::Optty, 2).await;
    let payment = Kind::Optty.payment(1);
    world.simulator.script(payment.as_str(), [Fault::Reset(Moment::Before)]);
    for _ in 0..8 {
        world.drain().await;
        world.pass(MINUTE).await;
    }
    assert_eq!(world.state(intents[0]).await, "verifying");
    assert_eq!(world.sends(&payment), 1, "the other waits");
    let ends = world.until_all_ended(&intents, MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    world.books_agree().await;
}

#[tokio::test]
async fn parts_are_captured_one_after_another_and_the_one_too_many_is_refused() {
    for kind in IN_PARTS {
        let mut world = World::new().await;
        let intents = world.parts(kind, 6).await;
        let ends = world.until_all_ended(&intents, MINUTE).await;
        let captured = ends.values().filter(|end| *end == "captured").count();
        assert_eq!(captured, 5, "{kind:?}: {ends:?}");
        world.books_agree().await;
    }
}

/// Many workers, many parts of few payments: whoever works on a payment is alone with it.
#[tokio::test]
async fn workers_that_race_for_one_payment_have_it_one_after_another() {
    let mut world = World::new().await;
    for n in 0..5 {
        let payment = Kind::Afterpay.payment(n);
        for part in 0..12 {
            world
                .insert(Kind::Afterpay, &payment, &format!("part {part}"), 100, "")
                .await;
        }
    }
    let held: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let ahead_s = Arc::new(AtomicU64::new(0));
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let outbox = connect(&world.url).await;
        let held = Arc::clone(&held);
        let ahead_s = Arc::clone(&ahead_s);
        racers.spawn(async move {
            let mut captured = 0;
            loop {
                outbox.move_due(100).await.unwrap();
                let claims = claim(&outbox, &Ask::of(Kind::Afterpay).free(3)).await;
                let mut settlements = Vec::new();
                for claim in &claims {
                    let payment = &claim.intent.payment_id;
                    assert!(held.lock().unwrap().insert(payment.clone()), "two have {payment}");
                }
                tokio::task::yield_now().await;
                for claim in claims {
                    held.lock().unwrap().remove(&claim.intent.payment_id);
                    let receipt = receipt(&claim);
                    settlements.push(settlement(claim, Disposition::Captured(receipt)));
                }
                captured += settlements.len();
                let said = outbox.settle(&settlements, &[]).await.unwrap();
                assert!(said.iter().all(|said| *said == Settled::Recorded), "{said:?}");
                if settlements.is_empty() {
                    if outbox.counts().await.unwrap() == [("captured".to_owned(), 60)] {
                        return captured;
                    }
                    // A row that was looked at while its sibling was in flight is looked at again after five seconds.
                    let ahead = Duration::from_secs(6 + ahead_s.fetch_add(6, Ordering::SeqCst));
                    outbox.set_clock_ahead(ahead).await.unwrap();
                }
            }
        });
    }
    let captured: Vec<usize> = racers.join_all().await;
    assert_eq!(captured.iter().sum::<usize>(), 60, "{captured:?}");
    assert_eq!(world.outbox.doctor_facts().await.unwrap().misplaced, 0);
}

/// Neither transaction sees the other, so each is taken in: the claim decides.
#[tokio::test]
async fn two_orders_that_ask_at_once_for_too_much_do_not_both_get_it() {
    for kind in IN_PARTS {
        let mut world = World::new().await;
        let payment = kind.payment(1);
        world.authorize(kind, &payment, 50_000);
        let [first, second] = world.ask_for_too_much(kind, &payment).await;
        let ends = world.until_all_ended(&[first, second], MINUTE).await;
        let mut ends: Vec<_> = ends.into_values().collect();
        ends.sort();
        assert_eq!(ends, ["captured", "dead: rejected (over_authorized)"], "{kind:?}");
        assert_eq!(world.sends(&payment), 1, "{kind:?}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn what_one_sibling_knows_to_be_authorised_binds_the_others() {
    let mut world = World::new().await;
    let payment = Kind::Afterpay.payment(1);
    world.authorize(Kind::Afterpay, &payment, 50_000);
    let mut other = Session::open(&world.url).await;
    world.db.run("begin").await;
    other.run("begin").await;
    let knows = enqueue(Kind::Afterpay, &payment, "a", 3000, ", authorized_minor => 5000");
    let first: Uuid = world.db.scalar(&knows).await;
    let second: Uuid = other.scalar(&enqueue(Kind::Afterpay, &payment, "b", 3000, "")).await;
    world.db.run("commit").await;
    other.run("commit").await;
    world.until_all_ended(&[first, second], MINUTE).await;
    assert_eq!(world.sends(&payment), 1);
}

#[tokio::test]
async fn what_is_undecided_keeps_its_amount_until_a_person_has_resolved_it() {
    let mut world = World::new().await;
    let payment = Kind::Afterpay.payment(1);
    world.authorize(Kind::Afterpay, &payment, 5000);
    let known = ", authorized_minor => 5000";
    let first = world.insert(Kind::Afterpay, &payment, "a", 3000, known).await;
    let claim = world.claim_one(Kind::Afterpay).await;
    world.settle(claim, undecided()).await;

    let too_much = enqueue(Kind::Afterpay, &payment, "b", 3000, known);
    let refused = world.db.try_rows(&too_much).await.unwrap_err();
    assert_eq!(refused.constraint, "intents_within_authorized");
    let fits = world.insert(Kind::Afterpay, &payment, "c", 2000, known).await;
    world.drain().await;
    assert_eq!(
        world.end(fits).await,
        "captured",
        "its reference tells it from the other"
    );

    let resolved = world
        .outbox
        .resolve(first, false, "the dashboard", &stamp())
        .await
        .unwrap();
    assert_eq!(resolved, Resolved::Resolved);
    let now = world.insert(Kind::Afterpay, &payment, "b", 3000, known).await;
    world.drain().await;
    assert_eq!(world.end(now).await, "captured");
    world.books_agree().await;
}

#[tokio::test]
async fn beside_an_undecided_capture_of_a_charge_nobody_can_tell_what_another_would_do() {
    let mut world = World::new().await;
    let payment = Kind::ResolveCharge.payment(1);
    world.authorize(Kind::ResolveCharge, &payment, 5000);
    world.insert(Kind::ResolveCharge, &payment, "a", 3000, "").await;
    let claim = world.claim_one(Kind::ResolveCharge).await;
    world.settle(claim, undecided()).await;
    let second = world.insert(Kind::ResolveCharge, &payment, "b", 1000, "").await;
    world.drain().await;
    assert_eq!(world.end(second).await, "dead: undecided (sibling_unknown)");
    assert_eq!(world.wire(&payment), [""; 0]);
}

/// Their evidence need not be the provider's id: the capture that they meant could be taken for ours.
#[tokio::test]
async fn beside_a_capture_by_a_persons_word_none_is_told_by_inference() {
    let mut world = World::new().await;
    let payment = Kind::ResolveCharge.payment(1);
    world.authorize(Kind::ResolveCharge, &payment, 5000);
    let first = world.insert(Kind::ResolveCharge, &payment, "a", 3000, "").await;
    let claim = world.claim_one(Kind::ResolveCharge).await;
    world.settle(claim, undecided()).await;
    let said = world
        .outbox
        .resolve(first, true, "statement 7", &stamp())
        .await
        .unwrap();
    assert_eq!(said, Resolved::Resolved);
    let second = world.insert(Kind::ResolveCharge, &payment, "b", 1000, "").await;
    world.drain().await;
    assert_eq!(world.end(second).await, "dead: undecided (sibling_unknown)");
    assert_eq!(world.wire(&payment), [""; 0]);
}

#[tokio::test]
async fn a_replayed_capture_waits_until_its_sibling_in_flight_has_ended() {
    for kind in IN_PARTS {
        let mut world = World::new().await;
        let intents = world.parts(kind, 2).await;
        let payment = kind.payment(1);
        // The first may be at the provider, and is left to a person; the second is on its way.
        let first = world.claim_one(kind).await;
        world.settle(first, Disposition::Verify(Wait::None)).await;
        let first = world.claim_one(kind).await;
        assert_eq!(first.intent.id.0, intents[0]);
        world.settle(first, undecided()).await;
        let second = world.claim_one(kind).await;
        assert_eq!(second.intent.id.0, intents[1]);

        assert_eq!(world.replay(kind, intents[0]).await, Replayed::Replayed);
        for _ in 0..4 {
            world.drain().await;
            world.pass(Duration::from_secs(20)).await;
        }
        assert_eq!(world.sends(&payment), 0, "{kind:?}: one movement at a time");
        assert_eq!(world.state(intents[0]).await, "verifying");

        // Nor while the second is unknown.
        assert_eq!(
            world
                .settle(second, Disposition::Verify(Wait::Exactly(2 * MINUTE)))
                .await,
            Settled::Recorded
        );
        world.drain().await;
        world.pass(MINUTE).await;
        world.drain().await;
        assert_eq!(world.sends(&payment), 0, "{kind:?}: one movement at a time");

        let ends = world.until_all_ended(&intents, MINUTE).await;
        assert!(ends.values().all(|end| end == "captured"), "{kind:?}: {ends:?}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn two_replayed_captures_of_one_payment_take_their_turns() {
    for kind in IN_PARTS {
        let mut world = World::new().await;
        let intents = world.parts(kind, 2).await;
        for _ in 0..2 {
            let claim = world.claim_one(kind).await;
            world.settle(claim, Disposition::Verify(Wait::None)).await;
            let claim = world.claim_one(kind).await;
            world.settle(claim, undecided()).await;
        }
        for intent in &intents {
            assert_eq!(world.replay(kind, *intent).await, Replayed::Replayed);
        }
        assert_eq!(world.claim(kind).await.len(), 1, "{kind:?}: one of them");
        world.lose_lease().await;
        let ends = world.until_all_ended(&intents, MINUTE).await;
        assert!(ends.values().all(|end| end == "captured"), "{kind:?}: {ends:?}");
        world.books_agree().await;
    }
}

/// Where reads can only infer, a sibling's capture of the same amount looks like our own.
#[tokio::test]
async fn a_siblings_capture_is_never_recorded_a_second_time_as_ours() {
    let mut world = World::new().await;
    let payment = Kind::ResolveCharge.payment(1);
    world.authorize(Kind::ResolveCharge, &payment, 5000);
    let doubted = world.insert(Kind::ResolveCharge, &payment, "a", 3000, "").await;
    // Sent at some time, with an unknown outcome; then a person said that it captured nothing.
    let claim = world.claim_one(Kind::ResolveCharge).await;
    world.settle(claim, Disposition::Verify(Wait::None)).await;
    let claim = world.claim_one(Kind::ResolveCharge).await;
    world.settle(claim, undecided()).await;
    let said = world.outbox.resolve(doubted, false, "the dashboard", &stamp()).await;
    assert_eq!(said.unwrap(), Resolved::Resolved);

    let sibling = world.insert(Kind::ResolveCharge, &payment, "b", 3000, "").await;
    world.drain().await;
    assert_eq!(world.end(sibling).await, "captured");
    assert_eq!(world.replay(Kind::ResolveCharge, doubted).await, Replayed::Replayed);
    let end = world.until_ended(doubted, MINUTE).await;
    assert!(end.starts_with("dead: captured_elsewhere"), "{end}");
    world.books_agree().await;
}

/// Three hundred siblings of one unknown outcome stand in line before somebody else's capture.
#[tokio::test]
async fn what_is_held_off_keeps_nobody_waiting_who_stands_behind_it() {
    let mut world = World::new().await;
    let parts = world.parts(Kind::Afterpay, 1).await;
    let unknown = world.claim_one(Kind::Afterpay).await;
    world.settle(unknown, Disposition::Verify(Wait::None)).await;
    let payment = Kind::Afterpay.payment(1);
    world
        .db
        .run(&format!(
            "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency, priority)
             select 'afterpay', 'o', '{payment}', 'many ' || n, 100, 'USD', -5 from generate_series(1, 300) n"
        ))
        .await;
    let other = world.capture(Kind::Afterpay, 2, 1000).await;
    let claimed = claim(&world.outbox, &Ask::of(Kind::Afterpay).free(4)).await;
    let ids: Vec<Uuid> = claimed.iter().map(|claim| claim.intent.id.0).collect();
    assert_eq!(ids, [other], "one look is enough");
    assert_eq!(world.state(parts[0]).await, "verifying");
}

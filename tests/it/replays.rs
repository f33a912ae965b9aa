//! A replay reads before it sends, and doubles nothing.

use std::time::Duration;

use capture::outbox::{AuditStamp, Replayed, Settled};
use capture::outcome::Evidence;
use capture::retry::{DeadReason, Disposition, Wait};
use capture::simulator::Fault;

use crate::by_hand::captured;
use crate::kind::Kind;
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn dead(reason: DeadReason) -> Disposition {
    Disposition::Dead(reason, Evidence::default())
}

/// How a letter is prepared: was something sent, was it in doubt, how much later is it replayed.
struct Letter {
    reason: DeadReason,
    sent: bool,
    in_doubt: bool,
    after: Duration,
    /// The key's generation under which it is captured in the end, for Afterpay.
    generation: i16,
}

const fn letter(reason: DeadReason, sent: bool, in_doubt: bool, after: Duration, generation: i16) -> Letter {
    Letter {
        reason,
        sent,
        in_doubt,
        after,
        generation,
    }
}

#[tokio::test]
async fn a_replay_reads_first_and_takes_a_new_key_only_after_a_definite_refusal_or_the_windows_end() {
    let letters = [
        // Refused for good, and never in doubt: a repeat of the key would repeat the refusal.
        letter(DeadReason::Rejected, true, false, HOUR, 1),
        // Surely not processed, and not refused: nothing is tied to its key.
        letter(DeadReason::Exhausted, true, false, HOUR, 0),
        letter(DeadReason::CapturedElsewhere, true, false, HOUR, 1),
        // Never sent: its key is as good as new.
        letter(DeadReason::Exhausted, false, false, HOUR, 0),
        letter(DeadReason::Expired, false, false, HOUR, 0),
        letter(DeadReason::Poison, false, false, HOUR, 0),
        letter(DeadReason::Rejected, false, false, HOUR, 0),
        // In doubt: the same key inside its window, a new one only after it.
        letter(DeadReason::Rejected, true, true, HOUR, 0),
        letter(DeadReason::Undecided, true, true, HOUR, 0),
        letter(DeadReason::Undecided, true, true, 24 * HOUR, 1),
        letter(DeadReason::Exhausted, true, true, 24 * HOUR, 1),
    ];
    for Letter {
        reason,
        sent,
        in_doubt,
        after,
        generation,
    } in letters
    {
        let mut world = World::new().await;
        let mut intents = Vec::new();
        for kind in Kind::ALL {
            let intent = world.capture(kind, 1, 1000).await;
            let claim = world.claim_one(kind).await;
            assert_eq!(world.settle(claim, dead(reason)).await, Settled::Recorded);
            let doubt = if in_doubt { "true" } else { "false" };
            let first = if sent { "capture.clock_now()" } else { "null" };
            let sql = format!(
                "update capture.progress set tainted = {doubt}, first_sent_at = {first} where intent = '{intent}'"
            );
            world.db.run(&sql).await;
            intents.push(intent);
        }
        world.pass(after).await;
        let told = format!("{reason:?}, sent: {sent}, in doubt: {in_doubt}, after {after:?}");
        for (kind, intent) in Kind::ALL.into_iter().zip(&intents) {
            assert_eq!(world.replay(kind, *intent).await, Replayed::Replayed, "{told}");
            assert_eq!(world.state(*intent).await, "verifying", "{told}");
        }
        let ends = world.until_all_ended(&intents, 5 * MINUTE).await;
        assert!(ends.values().all(|end| end == "captured"), "{told}: {ends:?}");
        for kind in Kind::ALL {
            let wire = world.wire(&kind.payment(1));
            assert_eq!(wire[0], "read 200", "{kind:?}, {told}: {wire:?}");
            assert_eq!(world.sends(&kind.payment(1)), 1, "{kind:?}, {told}: {wire:?}");
        }
        let used: i16 = world
            .db
            .scalar("select a.generation from capture.attempts a join capture.intents i on i.id = a.intent where i.provider = 'afterpay' and a.outcome = 'captured'")
            .await;
        assert_eq!(used, generation, "{told}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_replay_of_what_was_captured_after_all_finds_it_and_sends_nothing() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        intents.push(world.capture(kind, 1, 1000).await);
        let claim = world.claim_one(kind).await;
        captured(world.send(kind, &claim).await);
        world.settle(claim, Disposition::Verify(Wait::None)).await;
        let claim = world.claim_one(kind).await;
        world.settle(claim, dead(DeadReason::Undecided)).await;
    }
    world.pass(30 * HOUR).await;
    for (kind, intent) in Kind::ALL.into_iter().zip(&intents) {
        world.replay(kind, *intent).await;
    }
    let ends = world.until_all_ended(&intents, MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    for kind in Kind::ALL {
        assert_eq!(world.sends(&kind.payment(1)), 1, "{kind:?}");
    }
    world.books_agree().await;
}

#[tokio::test]
async fn a_replay_of_a_charge_does_not_take_its_siblings_capture_for_its_own() {
    let mut world = World::new().await;
    let kind = Kind::ResolveCharge;
    let payment = kind.payment(1);
    world.authorize(kind, &payment, 5000);
    let first = world.insert(kind, &payment, "a", 1000, "").await;
    let claim = world.claim_one(kind).await;
    world.settle(claim, Disposition::Verify(Wait::None)).await;
    let claim = world.claim_one(kind).await;
    world.settle(claim, dead(DeadReason::Undecided)).await;
    world
        .outbox
        .resolve(
            first,
            false,
            "the dashboard",
            &AuditStamp {
                actor: "ada".to_owned(),
                reason: "looked".to_owned(),
            },
        )
        .await
        .unwrap();
    let second = world.insert(kind, &payment, "b", 1000, "").await;
    assert_eq!(world.until_ended(second, MINUTE).await, "captured");
    world.replay(kind, first).await;
    world.until_ended(first, MINUTE).await;
    let end = world.end(first).await;
    assert!(end.starts_with("dead: captured_elsewhere"), "{end}");
    world.books_agree().await;
}

#[tokio::test]
async fn a_declined_payment_can_be_replayed_once_the_provider_takes_it() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1000).await;
    let payment = Kind::Afterpay.payment(1);
    world
        .simulator
        .script(payment.as_str(), [Fault::Refuse(412, "invalid_state")]);
    world.until_ended(intent, MINUTE).await;
    assert_eq!(world.end(intent).await, "dead: rejected (invalid_state)");
    world.replay(Kind::Afterpay, intent).await;
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    assert_eq!(
        world.story(intent).await,
        [
            "enqueued",
            "attempt_failed invalid_state",
            "dead_lettered rejected",
            "replayed the provider says so",
            "audit the provider says so",
            "retry_scheduled invalid_state",
            "captured"
        ]
    );
    world.books_agree().await;
}

/// The producer's transaction that cancels is still open when the intent dies: the wish comes too late to be applied, and
/// too early to be meant for what is replayed afterwards.
#[tokio::test]
async fn a_wish_to_cancel_that_crossed_the_dead_letter_does_not_cancel_its_replay() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let claim = world.claim_one(Kind::Afterpay).await;
    world
        .db
        .run(&format!("begin; select capture.cancel('{intent}', 'changed my mind')"))
        .await;
    assert_eq!(
        world.settle(claim, dead(DeadReason::Exhausted)).await,
        Settled::Recorded
    );
    world.db.run("commit").await;
    assert_eq!(world.replay(Kind::Afterpay, intent).await, Replayed::Replayed);
    let again = world.claim_one(Kind::Afterpay).await;
    assert!(!again.cancel_requested);
}

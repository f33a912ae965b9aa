//! What a prune takes, and what it must leave: whatever keeps money from moving twice.

use std::time::Duration;

use capture::operations;
use capture::outbox::{AuditStamp, Outbox, Replayed, Resolved, Settled};
use capture::outcome::Evidence;
use capture::retry::{DeadReason, Disposition, Wait};
use capture::simulator::Fault;
use uuid::Uuid;

use crate::by_hand::captured;
use crate::kind::Kind;
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The one model whose reads know our captures by the key that they were sent under.
const KIND: Kind = Kind::ResolveOrder;

fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "tess".to_owned(),
        reason: "the yearly clean-up".to_owned(),
    }
}

/// Prunes whatever is older, to the end; gives how many attempts and events went.
async fn prune(outbox: &Outbox, older: Duration) -> (i64, i64) {
    let audit = outbox.begin_prune(older, false, &stamp()).await.unwrap();
    let (mut attempts, mut events, mut place) = (0, 0, None);
    loop {
        let step = outbox.prune_some(audit, place, 100).await.unwrap();
        attempts += step.attempts;
        events += step.events;
        place = step.next;
        if place.is_none() {
            return (attempts, events);
        }
    }
}

impl World {
    /// A capture that was refused for good under its first key, and replayed: its next send has another one.
    async fn with_a_second_key(&mut self) -> Uuid {
        let intent = self.capture(KIND, 1, 1000).await;
        let refused = Fault::Refuse(422, "invalid_amount");
        self.simulator.script(KIND.payment(1).as_str(), [refused]);
        assert!(self.until_ended(intent, MINUTE).await.starts_with("dead: rejected"));
        assert_eq!(self.replay(KIND, intent).await, Replayed::Replayed);
        intent
    }

    /// Of the key that was used last.
    async fn generation(&mut self, intent: Uuid) -> i16 {
        self.db
            .scalar(&format!(
                "select generation from capture.progress where intent = '{intent}'"
            ))
            .await
    }
}

#[tokio::test]
async fn what_was_captured_under_a_second_key_is_known_as_ours_after_a_prune() {
    let mut world = World::new().await;
    let intent = world.with_a_second_key().await;
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    let used: i16 = world.db.scalar("select max(generation) from capture.attempts").await;
    assert_eq!(used, 1, "it was captured under its first key");
    world.pass(100 * DAY).await;
    let (attempts, events) = prune(&world.outbox, 90 * DAY).await;
    assert!(attempts >= 2 && events >= 3, "{attempts} {events}");
    assert!(world.outbox.attempts(intent).await.unwrap().is_empty());

    let adapter = KIND.adapter(&world.simulator);
    let said = operations::read_now(&world.outbox, adapter.as_ref(), intent)
        .await
        .unwrap()
        .unwrap();
    assert!(said.starts_with("a read shows it captured: 10.00 USD"), "{said}");
    assert!(
        world.outbox.dead_letter(intent).await.unwrap().is_none(),
        "nobody can replay it"
    );
    let resolved = world
        .outbox
        .resolve(intent, false, "the dashboard", &stamp())
        .await
        .unwrap();
    assert_eq!(resolved, Resolved::NotDead("captured".to_owned()));
    world.drain().await;
    assert_eq!(world.sends(&KIND.payment(1)), 2, "one refused, one captured");
    world.books_agree().await;
}

/// Money moved under the second key, nobody heard of it, a person said that it had not, and all that tells of the sends
/// is pruned: a replay still asks for what is under that key before it sends anything.
#[tokio::test]
async fn a_letter_whose_second_key_moved_money_unheard_is_found_and_not_sent_again_after_a_prune() {
    let mut world = World::new().await;
    let intent = world.with_a_second_key().await;
    world.lose_the_answer(intent, true).await;
    world.pass(100 * DAY).await;
    let (attempts, _) = prune(&world.outbox, 90 * DAY).await;
    assert!(attempts >= 2, "{attempts}");
    assert!(world.outbox.attempts(intent).await.unwrap().is_empty());
    assert_eq!(
        world.generation(intent).await,
        1,
        "a prune keeps which key was used last"
    );

    assert_eq!(world.replay(KIND, intent).await, Replayed::Replayed);
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    assert_eq!(
        world.sends(&KIND.payment(1)),
        2,
        "one refused, one captured: {:?}",
        world.wire(&KIND.payment(1))
    );
    world.books_agree().await;
}

/// The same, and no money moved: it goes under the key of the send that nobody heard of, so that a read which shows too little
/// could not double it either. A prune that forgot the generation would take the first key, which was refused.
#[tokio::test]
async fn a_letter_that_moved_nothing_goes_under_the_key_of_its_lost_send_after_a_prune() {
    let mut world = World::new().await;
    let intent = world.with_a_second_key().await;
    world.lose_the_answer(intent, false).await;
    world.pass(100 * DAY).await;
    prune(&world.outbox, 90 * DAY).await;
    assert_eq!(world.replay(KIND, intent).await, Replayed::Replayed);
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    let used: Vec<i16> = world
        .db
        .column("select generation from capture.attempts where outcome = 'captured'")
        .await;
    assert_eq!(used, [1]);
    world.books_agree().await;
}

impl World {
    /// The next send of this capture ends without an answer, it stays undecided, and a person resolves it as not captured.
    async fn lose_the_answer(&mut self, intent: Uuid, moved: bool) {
        // The replay's read.
        self.outbox.move_due(100).await.unwrap();
        let claim = self.claim_one(KIND).await;
        assert_eq!(claim.progress.generation.0, 0, "the generation rises at the send");
        let mut claim = claim;
        claim.progress.generation = claim.progress.generation.next();
        if moved {
            captured(self.send(KIND, &claim).await);
        }
        assert_eq!(
            self.settle(claim, Disposition::Verify(Wait::None)).await,
            Settled::Recorded
        );
        let claim = self.claim_one(KIND).await;
        assert_eq!(claim.progress.generation.0, 1);
        let undecided = Disposition::Dead(DeadReason::Undecided, Evidence::default());
        assert_eq!(self.settle(claim, undecided).await, Settled::Recorded);
        let resolved = self
            .outbox
            .resolve(intent, false, "a glance at the dashboard", &stamp())
            .await
            .unwrap();
        assert_eq!(resolved, Resolved::Resolved);
    }
}

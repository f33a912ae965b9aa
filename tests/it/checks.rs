//! What `status --check` trips over, and what it does not.

use std::time::Duration;

use capture::outbox::AuditStamp;
use capture::simulator::{Fault, Moment};

use crate::kind::Kind;
use crate::world::{Plan, World};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const NOTHING: [(&str, i64); 0] = [];

fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "tess".to_owned(),
        reason: "ticket 4711".to_owned(),
    }
}

impl World {
    /// The checks that trip, and how many captures each means. No worker of these worlds sends heartbeats.
    async fn tripped(&self) -> Vec<(&'static str, i64)> {
        let checks = self.outbox.checks().await.unwrap();
        let told = checks.iter().map(|check| (check.name, check.intents));
        told.filter(|(name, _)| *name != "lane_unserved").collect()
    }

    async fn expiring_events(&mut self) -> Vec<String> {
        self.db
            .column(
                "select (data ->> 'within_hours') || ' ' || (data ->> 'state') || ' ' || coalesce(data ->> 'reason', '-')
                 from capture.events where type = 'capture.auth_expiring' order by seq",
            )
            .await
    }
}

#[tokio::test]
async fn a_dead_letter_does_not_expire_unseen() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    // Not authorised: refused.
    let more = ", authorization_expires_at => now() + interval '60 hours'";
    let letter = world.insert(kind, &kind.payment(1), "c1", 1000, more).await;
    let unknown_end = world.insert(kind, &kind.payment(2), "c1", 2000, "").await;
    world.drain().await;
    assert_eq!(world.end(letter).await, world.end(unknown_end).await);
    assert_eq!(world.outbox.watch_dead_letters(100).await.unwrap(), 0);
    assert_eq!(world.tripped().await, NOTHING, "there is time");
    assert!(world.outbox.at_risk().await.unwrap().is_empty());

    world.pass(20 * HOUR).await;
    assert_eq!(world.outbox.watch_dead_letters(100).await.unwrap(), 1);
    assert_eq!(world.outbox.watch_dead_letters(100).await.unwrap(), 0, "told once");
    let risk = world.outbox.at_risk().await.unwrap();
    assert_eq!((risk[0].day_minor, risk[0].two_days_minor), (0, 1000));
    assert_eq!(world.tripped().await, NOTHING);

    world.pass(20 * HOUR).await;
    assert_eq!(world.outbox.watch_dead_letters(100).await.unwrap(), 1);
    let risk = world.outbox.at_risk().await.unwrap();
    assert_eq!((risk[0].day_minor, risk[0].two_days_minor), (1000, 1000));
    assert_eq!(world.tripped().await, [("deadline_near", 1), ("dead_letters", 1)]);

    // What is over cannot be saved any more: it is told, and trips nothing.
    world.pass(21 * HOUR).await;
    assert_eq!(world.outbox.watch_dead_letters(100).await.unwrap(), 1);
    assert_eq!(world.outbox.watch_dead_letters(100).await.unwrap(), 0);
    assert!(world.outbox.at_risk().await.unwrap().is_empty());
    assert_eq!(world.tripped().await, NOTHING);
    assert_eq!(
        world.expiring_events().await,
        ["48 dead rejected", "24 dead rejected", "0 dead rejected"]
    );
}

#[tokio::test]
async fn what_a_death_has_told_is_not_told_again_and_what_a_person_closed_is_nobodys_any_more() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    let more = ", authorization_expires_at => now() + interval '10 hours'";
    let closed = world.insert(kind, &kind.payment(1), "c1", 1000, more).await;
    let replayed = world.insert(kind, &kind.payment(2), "c1", 1000, more).await;
    world.drain().await;
    // `capture.dead_lettered` said when it ends.
    assert_eq!(world.outbox.watch_dead_letters(100).await.unwrap(), 0);
    assert_eq!(world.tripped().await, [("deadline_near", 2), ("dead_letters", 2)]);
    world.outbox.resolve(closed, false, "ticket", &stamp()).await.unwrap();
    assert_eq!(world.tripped().await, [("deadline_near", 1), ("dead_letters", 1)]);
    let letter = world.outbox.dead_letter(replayed).await.unwrap().unwrap();
    let plan = capture::verify::ReplayPlan {
        fresh_key: false,
        next_generation: letter.progress.generation,
        says: String::new(),
    };
    world.outbox.replay(&letter, &plan, &stamp()).await.unwrap();
    assert_eq!(world.tripped().await, [("deadline_near", 1)], "it is on its way again");
}

#[tokio::test]
async fn undecided_letters_and_late_receipts_trip_until_somebody_has_closed_them() {
    let mut world = World::new().await;
    let kind = Kind::Afterpay;
    let mut letters = Vec::new();
    for n in 1..4 {
        letters.push(world.insert(kind, &kind.payment(n), "c1", 1000, "").await);
    }
    world.drain().await;
    assert_eq!(
        world.tripped().await,
        NOTHING,
        "plain dead letters without an end can wait"
    );
    world
        .db
        .run(&format!(
            "update capture.outcomes set dead_reason = 'undecided' where intent = '{}'",
            letters[0]
        ))
        .await;
    for late in [letters[1], letters[2]] {
        world
            .db
            .run(&format!(
                "insert into capture.late_results (intent, fence, lease, worker, outcome, captured_minor, provider_capture_id, proof, recorded_at)
                 values ('{late}', 7, gen_random_uuid(), gen_random_uuid(), 'captured', 1000, 'p-1', 'answer', now())"
            ))
            .await;
    }
    world
        .db
        .run(&format!(
            "update capture.outcomes set state = 'cancelled', dead_reason = null where intent = '{}'",
            letters[2]
        ))
        .await;
    assert_eq!(world.tripped().await, [("undecided", 1), ("late_receipt", 2)]);
    for letter in [letters[0], letters[1]] {
        world.outbox.resolve(letter, true, "p-1", &stamp()).await.unwrap();
    }
    assert_eq!(world.tripped().await, [("late_receipt", 1)]);
    // The cancelled one nobody can close here.
    world.pass(8 * 24 * HOUR).await;
    assert_eq!(world.tripped().await, NOTHING);
}

#[tokio::test]
async fn a_lane_that_stands_still_and_an_outcome_unknown_for_long_trip() {
    let mut world = World::of(Plan {
        settings: capture::worker::Settings {
            breaker_failures: 1,
            ..Plan::default().settings
        },
        ..Plan::default()
    })
    .await;
    let kind = Kind::Afterpay;
    let intent = world.capture(kind, 1, 1000).await;
    world
        .simulator
        .script(kind.payment(1).as_str(), [Fault::Reset(Moment::After)]);
    world.drain().await;
    assert_eq!(world.state(intent).await, "verifying");
    assert_eq!(world.tripped().await, NOTHING, "nothing has lasted long");
    world.pass(11 * MINUTE).await;
    assert_eq!(world.tripped().await, [("breaker_open", 1)]);
    world.pass(HOUR).await;
    assert_eq!(world.tripped().await, [("breaker_open", 1), ("outcome_unknown", 1)]);
    let lane = world.outbox.lanes().await.unwrap()[0].id;
    world.outbox.set_lane_pause(lane, true, &stamp()).await.unwrap();
    assert_eq!(world.tripped().await, [("lane_paused", 1), ("outcome_unknown", 1)]);
    world.outbox.set_lane_pause(lane, false, &stamp()).await.unwrap();
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    assert_eq!(world.tripped().await, NOTHING);
}

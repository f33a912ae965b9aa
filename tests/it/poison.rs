//! Rows that nobody can read, and rows that kill workers: they end, and block nobody.

use capture::outbox::Settled;
use capture::retry::{Disposition, Wait};

use crate::by_hand::{Ask, LEASE, claim, receipt};
use crate::kind::Kind;
use crate::world::World;

/// Rows whose door stood open, and how they end.
const UNREADABLE: [(&str, &str, &str); 5] = [
    ("'USD'", "'{\"shipping\": 5}'", "dead: poison (unreadable_details)"),
    (
        "'USD'",
        "'{\"description\": {\"a\": [1]}}'",
        "dead: poison (unreadable_details)",
    ),
    ("'USD'", "'{\"unknown\": 5}'", "captured"),
    ("'XXX'", "'{}'", "dead: poison (unreadable_currency)"),
    ("'QQQ'", "'{}'", "dead: poison (unreadable_currency)"),
];

fn insert(payment: &str, currency: &str, columns: &str, values: &str) -> String {
    format!(
        "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency, {columns})
         values ('afterpay', 'o', '{payment}', 'c', 100, {currency}, {values}) returning id"
    )
}

#[tokio::test]
async fn rows_that_nobody_can_read_end_dead_and_block_nobody() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for (n, (currency, details, end)) in (0..).zip(UNREADABLE) {
        let payment = Kind::Afterpay.payment(n);
        world.authorize(Kind::Afterpay, &payment, 5000);
        let sql = insert(&payment, currency, "details", details);
        world
            .db
            .run("alter table capture.intents disable trigger refuse_bad_intent")
            .await;
        let bad = world.db.scalar(&sql).await;
        world
            .db
            .run("alter table capture.intents enable trigger refuse_bad_intent")
            .await;
        intents.push((bad, end, format!("{currency} {details}")));
        let good = world.capture(Kind::Afterpay, 100 + n, 100).await;
        intents.push((good, "captured", "good".to_owned()));
    }
    world.drain().await;
    for (intent, end, what) in intents {
        assert_eq!(world.end(intent).await, end, "{what}");
    }
    assert_eq!(world.outbox.doctor_facts().await.unwrap().misplaced, 0);
}

/// What would make a claim fail, and so every lane stand still, is refused even where the door is open.
#[tokio::test]
async fn no_row_can_make_a_claim_fail() {
    let mut world = World::new().await;
    world
        .db
        .run("alter table capture.intents disable trigger refuse_bad_intent")
        .await;
    for (column, value) in [
        ("authorized_minor", "1e30"),
        ("authorized_minor", "'NaN'"),
        ("authorized_minor", "'Infinity'"),
        ("authorization_expires_at", "'infinity'"),
        ("authorization_expires_at", "'-infinity'"),
        ("authorization_expires_at", "'270000-01-01Z'"),
        ("not_before", "'infinity'"),
        ("created_at", "'-infinity'"),
        ("created_at", "'0001-01-01Z'"),
        ("details", "'[]'"),
    ] {
        let told = world.db.try_run(&insert("1", "'USD'", column, value)).await;
        assert_eq!(told.expect_err(column).sqlstate, "23514", "{column} {value}");
    }
    let told = world.db.try_run(&insert("1", "'usd'", "account", "'x'")).await;
    assert_eq!(told.unwrap_err().constraint, "intents_currency_known");
}

#[tokio::test]
async fn a_row_whose_lease_was_lost_twice_is_claimed_alone_and_after_five_a_person_has_it() {
    let mut world = World::new().await;
    let killer = world.capture(Kind::Afterpay, 1, 100).await;
    let mut others = Vec::new();
    for lost in 1..=5 {
        others.push(world.capture(Kind::Afterpay, 10 + lost, 100).await);
        world.outbox.move_due(100).await.unwrap();
        let alone = lost > 2;
        let together = claim(&world.outbox, &Ask::of(Kind::Afterpay)).await;
        let had_it = together.iter().any(|claim| claim.intent.id.0 == killer);
        assert_eq!(had_it, !alone, "after {} lost leases", lost - 1);
        for claim in together {
            if claim.intent.id.0 != killer {
                let receipt = receipt(&claim);
                world.settle(claim, Disposition::Captured(receipt)).await;
            }
        }
        if alone {
            let not_alone = claim(&world.outbox, &Ask::of(Kind::Afterpay)).await;
            assert!(not_alone.is_empty(), "nor where nothing else is ready");
            let lanes = world.outbox.lanes().await.unwrap();
            let ids: Vec<_> = lanes.iter().map(|lane| lane.id).collect();
            assert!(world.outbox.chores(&ids).await.unwrap().alone);
            others.push(world.capture(Kind::Afterpay, 20 + lost, 100).await);
            let mut ask = Ask::of(Kind::Afterpay);
            ask.alone = true;
            let given_back = claim(&world.outbox, &ask).await;
            assert_eq!(given_back.len(), 1, "nothing else with it");
            world.outbox.give_back(ask.lease).await.unwrap();
            assert!(
                world.outbox.chores(&ids).await.unwrap().alone,
                "a claim given back stays alone"
            );
            ask.lease = uuid::Uuid::new_v4();
            let by_itself = claim(&world.outbox, &ask).await;
            assert_eq!(by_itself[0].intent.id.0, killer);
        }
        world.pass(LEASE + LEASE).await;
        assert_eq!(world.outbox.rescue(10).await.unwrap(), 1);
    }
    world.drain().await;
    assert_eq!(world.end(killer).await, "dead: undecided (lost_leases)");
    for other in others {
        assert_eq!(world.end(other).await, "captured");
    }
    assert_eq!(world.sends(&Kind::Afterpay.payment(1)), 0, "it is not tried again");
}

#[tokio::test]
async fn a_past_that_cannot_be_read_is_not_taken_for_none() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let first = world.claim_one(Kind::Afterpay).await;
    world.settle(first, Disposition::Retry(Wait::None)).await;
    world
        .db
        .run(
            "alter table capture.progress alter own_faults type bigint;
             update capture.progress set own_faults = 4000000000",
        )
        .await;
    world.drain().await;
    assert_eq!(world.end(intent).await, "dead: undecided (unreadable_progress)");
    let kept: String = world
        .db
        .scalar("select concat_ws(' ', tainted, read_first, unknown_since is not null, quiet_after > capture.clock_now()) from capture.progress")
        .await;
    assert_eq!(kept, "t t t t");
    assert_eq!(world.sends(&Kind::Afterpay.payment(1)), 0);
}

/// The receipt is money: whoever cannot read it must not read the provider anew, as if there were none.
#[tokio::test]
async fn a_late_receipt_that_cannot_be_read_is_not_taken_for_none() {
    let mut world = World::new().await;
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let old = world.claim_one(Kind::Afterpay).await;
    let receipt = receipt(&old);
    world.lose_lease().await;
    assert_eq!(
        world.settle(old, Disposition::Captured(receipt)).await,
        Settled::LeaseLost
    );
    // Further than our calendar goes, not further than the database's.
    world
        .db
        .run("update capture.late_results set captured_at = '270000-01-01Z'")
        .await;
    world.drain().await;
    let ended: String = world
        .db
        .scalar("select concat_ws(' ', state, captured_minor, provider_capture_id, last_code) from capture.outcomes")
        .await;
    assert_eq!(ended, "captured 1234 receipt-1 unreadable_late_receipt");
    assert_eq!(
        world.story(intent).await,
        ["enqueued", "outcome_unknown lease_lost", "late_result", "captured"]
    );
    assert!(world.wire(&Kind::Afterpay.payment(1)).is_empty(), "nobody asked anew");
}

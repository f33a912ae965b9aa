//! Answers that mean more than yes or no: still running, too many, not you, not yours, not yet.

use std::time::Duration;

use capture::outbox::AuditStamp;
use capture::simulator::{DuplicateReference, Fault, Moment, Operation, Pace, ProviderName, Recapture, Target};

use crate::kind::Kind;
use crate::world::{Plan, World};

const MINUTE: Duration = Duration::from_secs(60);

pub fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "ada".to_owned(),
        reason: "mended".to_owned(),
    }
}

#[tokio::test]
async fn still_running_is_asked_again_with_the_same_key_and_spends_no_attempt() {
    let mut world = World::new().await;
    world.simulator.set_pace(Pace {
        running_for: 5 * MINUTE,
        ..Pace::default()
    });
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let payment = Kind::Afterpay.payment(1);
    world.simulator.script(payment.as_str(), [Fault::InProgress]);
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    let wire = world.wire(&payment);
    assert!(wire.len() > 4, "{wire:?}");
    assert_eq!(wire.iter().filter(|line| *line == "capture 409!").count(), 1);
    assert_eq!(
        wire.last().unwrap(),
        "capture 201",
        "the answer of the first call, told again"
    );
    let row = world.outbox.capture(intent).await.unwrap().unwrap();
    assert_eq!(row.attempts, 1, "only the call that told");
    world.books_agree().await;
}

#[tokio::test]
async fn still_running_for_too_long_is_read() {
    let mut world = World::new().await;
    world.simulator.set_pace(Pace {
        running_for: 15 * MINUTE,
        ..Pace::default()
    });
    let intent = world.capture(Kind::Afterpay, 1, 1234).await;
    let payment = Kind::Afterpay.payment(1);
    world.simulator.script(payment.as_str(), [Fault::InProgress]);
    assert_eq!(world.until_ended(intent, MINUTE).await, "captured");
    let wire = world.wire(&payment);
    assert!(wire.iter().any(|line| line == "read 200"), "{wire:?}");
    world.books_agree().await;
}

#[tokio::test]
async fn too_many_requests_stop_the_whole_lane_for_as_long_as_asked_and_spend_no_attempt() {
    for kind in Kind::ALL {
        let mut world = World::new().await;
        world.simulator.set_pace(Pace {
            retry_after: Duration::from_secs(600),
            ..Pace::default()
        });
        let first = world.capture(kind, 1, 1234).await;
        world
            .simulator
            .script(kind.payment(1).as_str(), [Fault::RateLimitedRetryAfter]);
        world.drain().await;
        let second = world.capture(kind, 2, 1234).await;
        world.pass(9 * MINUTE).await;
        assert_eq!(world.drain().await, 0, "{kind:?}: the lane waits");
        assert_eq!(world.wire(&kind.payment(2)), [""; 0], "{kind:?}");
        let ends = world.until_all_ended(&[first, second], MINUTE).await;
        assert!(ends.values().all(|end| end == "captured"), "{kind:?}: {ends:?}");
        let row = world.outbox.capture(first).await.unwrap().unwrap();
        assert_eq!(row.attempts, 1, "{kind:?}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_token_that_ended_is_minted_anew_and_nothing_is_spent_or_told_as_a_failure_of_the_lane() {
    let mut world = World::new().await;
    let first = world.capture(Kind::Optty, 1, 1234).await;
    world.drain().await;
    world.simulator.expire_tokens();
    let second = world.capture(Kind::Optty, 2, 1234).await;
    world.drain().await;
    assert_eq!(world.end(first).await, "captured");
    assert_eq!(
        world.story(second).await,
        [
            "enqueued",
            "attempt_failed token_expired",
            "retry_scheduled token_expired",
            "captured"
        ]
    );
    assert_eq!(world.outbox.capture(second).await.unwrap().unwrap().attempts, 1);
    let tokens = world.simulator.counts().by_operation[&Operation::Token];
    assert_eq!(tokens, 2, "minted once, and once again");
    world.books_agree().await;
}

#[tokio::test]
async fn refused_credentials_pause_the_lane_and_end_nothing_and_a_resume_reads_first() {
    for kind in Kind::ALL {
        let mut world = World::of(Plan {
            concurrency: 3,
            ..Plan::default()
        })
        .await;
        let refused = match kind {
            // A bearer is refused twice: the second token was fresh.
            Kind::Optty => vec![Fault::TokenExpired; 20],
            _ => vec![Fault::TokenExpired; 3],
        };
        let target = Target::provider(kind.provider_name());
        world.simulator.script(target.clone(), refused.clone());
        if kind == Kind::ResolveCharge {
            world.simulator.script(target.on(Operation::Read), refused);
        }
        let mut intents = Vec::new();
        for n in 1..=10 {
            intents.push(world.capture(kind, n, 1234).await);
        }
        world.drain().await;
        world.pass(3 * 60 * MINUTE).await;
        assert_eq!(world.drain().await, 0, "{kind:?}: a paused lane yields nothing");
        let ended: i64 = world.db.scalar("select count(*) from capture.outcomes").await;
        assert_eq!(ended, 0, "{kind:?}: nothing is dead");
        let rows = world.outbox.lanes().await.unwrap();
        let lane = rows.iter().find(|row| row.lane == kind.lane()).unwrap();
        let (_, by, why) = lane.paused.clone().unwrap();
        assert!(by == "worker" && why.starts_with("ours to fix: "), "{by}: {why}");
        let spent: i64 = world
            .db
            .scalar("select coalesce(sum(attempts), 0)::bigint from capture.progress")
            .await;
        assert_eq!(spent, 0, "{kind:?}: no attempt is spent");

        let touched: Vec<String> = world
            .db
            .column(
                "select payment_id from capture.intents i
                 where exists (select from capture.progress p where p.intent = i.id and (p.read_first or p.last_class = 'misconfigured'))",
            )
            .await;
        assert!(!touched.is_empty(), "{kind:?}");

        world.simulator.heal();
        let seen = world.simulator.requests().len();
        assert!(world.outbox.set_lane_pause(lane.id, false, &stamp()).await.unwrap());
        let ends = world.until_all_ended(&intents, MINUTE).await;
        assert!(ends.values().all(|end| end == "captured"), "{kind:?}: {ends:?}");
        let after = world.simulator.requests();
        for payment in touched {
            let first = after[seen..]
                .iter()
                .find(|request| request.payment_id.as_ref() == Some(&payment))
                .unwrap();
            assert_eq!(first.operation, Operation::Read, "{kind:?}: a read goes first");
        }
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_declined_capture_is_dead_with_the_providers_word() {
    for (kind, end) in [
        (Kind::Afterpay, "dead: rejected (declined)"),
        (Kind::Optty, "dead: rejected (declined)"),
        (Kind::ResolveCharge, "dead: rejected (invalid_request)"),
        (Kind::ResolveOrder, "dead: rejected (invalid_request)"),
    ] {
        let mut world = World::new().await;
        let intent = world.capture(kind, 1, 1234).await;
        world.simulator.script(kind.payment(1).as_str(), [Fault::Declined]);
        world.until_ended(intent, MINUTE).await;
        assert_eq!(world.end(intent).await, end, "{kind:?}");
        assert_eq!(world.sends(&kind.payment(1)), 1);
        world.books_agree().await;
    }
}

#[tokio::test]
async fn what_somebody_else_captured_before_us_is_never_called_ours() {
    for kind in Kind::ALL {
        let mut world = World::new().await;
        let intent = world.capture(kind, 1, 5000).await;
        world.simulator.foreign_capture(&kind.payment(1), 5000).await.unwrap();
        world.until_ended(intent, MINUTE).await;
        let end = world.end(intent).await;
        assert!(end.starts_with("dead: captured_elsewhere"), "{kind:?}: {end}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn what_somebody_else_captured_just_before_our_refused_call_is_never_called_ours() {
    for kind in Kind::ALL {
        let mut plan = Plan {
            account: |account| account.other_writers = true,
            ..Plan::default()
        };
        plan.simulator.resolve_recapture = Recapture::Refuse400;
        let mut world = World::of(plan).await;
        let intent = world.capture(kind, 1, 5000).await;
        world
            .simulator
            .script(kind.payment(1).as_str(), [Fault::ForeignCaptureFirst]);
        world.until_ended(intent, MINUTE).await;
        let end = world.end(intent).await;
        assert!(end.starts_with("dead: captured_elsewhere"), "{kind:?}: {end}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_capture_that_is_pending_is_watched_until_the_provider_decides() {
    // Where the order shows no references, it is known by the id that the answer to our POST gave, or, where that is lost, by
    // the id of the one that fits.
    for (fault, end) in [
        (Fault::PendingThenSuccessful, "captured"),
        (Fault::PendingThenFailed, "dead: rejected (failed)"),
    ] {
        for (shows_references, answer_is_lost) in [(true, false), (false, false), (true, true), (false, true)] {
            let mut plan = Plan::default();
            plan.simulator.optty_shows_references = shows_references;
            let mut world = World::of(plan).await;
            world.simulator.set_pace(Pace {
                pending_for: 60 * MINUTE,
                ..Pace::default()
            });
            let intent = world.capture(Kind::Optty, 1, 1234).await;
            let payment = Kind::Optty.payment(1);
            world.simulator.script(payment.as_str(), [fault]);
            if answer_is_lost {
                let claim = world.claim_one(Kind::Optty).await;
                world.send(Kind::Optty, &claim).await;
                drop(claim);
                assert_eq!(world.lose_lease().await, 1);
            }
            world.drain().await;
            world.pass(30 * MINUTE).await;
            world.drain().await;
            assert_eq!(world.state(intent).await, "verifying", "pending is not captured");
            world.until_ended(intent, 5 * MINUTE).await;
            assert_eq!(world.end(intent).await, end, "{shows_references} {answer_is_lost}");
            assert_eq!(world.sends(&payment), 1, "what was taken is never sent again");
            world.books_agree().await;
        }
    }
}

#[tokio::test]
async fn a_read_that_lags_behind_the_capture_is_not_believed_at_once() {
    for kind in Kind::ALL {
        let mut world = World::new().await;
        let intent = world.capture(kind, 1, 1234).await;
        let payment = kind.payment(1);
        world.simulator.script(payment.as_str(), [Fault::Reset(Moment::After)]);
        let reads = Target::payment(payment.as_str()).on(Operation::Read);
        let before_the_send = if kind == Kind::ResolveCharge {
            vec![Fault::None]
        } else {
            vec![]
        };
        let lag = vec![Fault::LaggingRead; 2];
        world.simulator.script(reads, [before_the_send, lag].concat());
        assert_eq!(world.until_ended(intent, MINUTE).await, "captured", "{kind:?}");
        world.books_agree().await;
    }
}

#[tokio::test]
async fn a_reference_that_optty_has_seen_captures_once_whatever_it_answers() {
    for duplicate in [DuplicateReference::Refuse400, DuplicateReference::Replay] {
        let mut plan = Plan::default();
        plan.simulator.optty_duplicate = duplicate;
        let mut world = World::of(plan).await;
        // Reads lag by longer than we wait between two of them, so that it is sent again.
        world.simulator.set_pace(Pace {
            read_lag: 40 * MINUTE,
            ..Pace::default()
        });
        let intent = world.capture(Kind::Optty, 1, 1234).await;
        let payment = Kind::Optty.payment(1);
        world.simulator.script(payment.as_str(), [Fault::Reset(Moment::After)]);
        let end = world.until_ended(intent, 2 * MINUTE).await;
        assert!(world.sends(&payment) >= 2, "it was sent again");
        assert_eq!(world.simulator.ledger().ours().len(), 1, "and captured once");
        let told = (duplicate, end.as_str());
        assert!(
            matches!(
                told,
                (DuplicateReference::Replay, "captured") | (DuplicateReference::Refuse400, _)
            ),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn an_optty_order_that_shows_no_references_is_known_by_amount_and_time_if_no_sibling_can_be_meant() {
    for (minor, end) in [(5000, "captured"), (1234, "captured")] {
        let mut plan = Plan::default();
        plan.simulator.optty_shows_references = false;
        let mut world = World::of(plan).await;
        let intent = world.capture(Kind::Optty, 1, minor).await;
        world
            .simulator
            .script(Kind::Optty.payment(1).as_str(), [Fault::Reset(Moment::After)]);
        world.until_ended(intent, MINUTE).await;
        assert_eq!(world.end(intent).await, end);
        assert_eq!(world.sends(&Kind::Optty.payment(1)), 1);
    }
}

#[tokio::test]
async fn a_provider_that_is_down_costs_time_and_nothing_else() {
    let mut world = World::new().await;
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        intents.push(world.capture(kind, 1, 1234).await);
    }
    for provider in ProviderName::ALL {
        world.simulator.set_down(provider, true).unwrap();
    }
    for _ in 0..5 {
        world.drain().await;
        world.pass(MINUTE).await;
    }
    for provider in ProviderName::ALL {
        world.simulator.set_down(provider, false).unwrap();
    }
    let ends = world.until_all_ended(&intents, MINUTE).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    for intent in intents {
        let story = world.story(intent).await;
        assert!(
            !story.iter().any(|line| line.starts_with("outcome_unknown")),
            "{story:?}"
        );
    }
    world.books_agree().await;
}

#[tokio::test]
async fn a_connection_that_dies_before_it_is_read_is_no_capture() {
    for fault in [Fault::CloseAtAccept, Fault::ResetAtAccept] {
        for kind in Kind::ALL {
            let mut world = World::new().await;
            let intent = world.capture(kind, 1, 1234).await;
            world.simulator.script(kind.provider_name(), [fault]);
            assert_eq!(world.until_ended(intent, MINUTE).await, "captured", "{kind:?} {fault}");
            assert_eq!(world.sends(&kind.payment(1)), 1, "{kind:?} {fault}");
            world.books_agree().await;
        }
    }
}

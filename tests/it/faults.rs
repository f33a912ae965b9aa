//! Every way in which a call can go wrong, for every provider: each intent ends, and the books agree.

use std::time::Duration;

use capture::simulator::{Fault, Moment};

use crate::kind::Kind;
use crate::world::{Plan, World};

const MINUTE: Duration = Duration::from_secs(60);

/// How a capture must end whose first call plays this fault; `None`: not played here.
fn must_end(kind: Kind, fault: Fault) -> Option<&'static str> {
    use Moment::{After, Before, Late};
    const CAPTURED: Option<&str> = Some("captured");
    const REJECTED: Option<&str> = Some("dead: rejected");
    match fault {
        // A connection that dies before its request is read has no payment: a test of its own below.
        Fault::CloseAtAccept | Fault::ResetAtAccept => None,
        // These stop the lane: tests of their own.
        Fault::TokenExpired | Fault::Forbidden | Fault::Redirect(_) | Fault::Refuse(401 | 403, _) => None,
        // A refusal in the provider's own words that is not true: no protocol survives a provider that lies.
        Fault::Status(400 | 429, After | Late) | Fault::Empty(429, After | Late) => None,
        Fault::Html(403 | 429, After | Late) => None,
        // Only Afterpay's 409 says that an earlier call is still running.
        Fault::Status(409, Late) if kind != Kind::Afterpay => None,
        Fault::Status(409, Before) if kind != Kind::Afterpay => REJECTED,
        Fault::Status(400, Before) | Fault::Refuse(..) | Fault::Declined => REJECTED,
        Fault::DeclinedWith402 if kind == Kind::Afterpay => REJECTED,
        Fault::PendingThenFailed if kind == Kind::Optty => REJECTED,
        // Theirs came between our look and our call, and the charge took both: a person must look.
        Fault::ForeignCaptureFirst if kind == Kind::ResolveCharge => Some("dead: undecided"),
        _ => CAPTURED,
    }
}

async fn every_fault_ends_as_it_must(kind: Kind) {
    let mut plan = Plan {
        concurrency: 64,
        account: |account| account.read_timeout = Duration::from_millis(800),
        ..Plan::default()
    };
    plan.simulator.huge_body_bytes = 2_000_000;
    let mut world = World::of(plan).await;
    let mut played = Vec::new();
    for (fault, n) in Fault::all().into_iter().zip(1..) {
        let Some(end) = must_end(kind, fault) else { continue };
        let intent = world.capture(kind, n, 1234).await;
        world.simulator.script(kind.payment(n).as_str(), [fault]);
        played.push((fault, n, intent, end));
    }
    let intents: Vec<_> = played.iter().map(|(_, _, intent, _)| *intent).collect();
    let ends = world.until_all_ended(&intents, MINUTE).await;
    let ledger = world.simulator.ledger();
    let mut wrong = Vec::new();
    for (fault, n, intent, must) in played {
        let end = &ends[&intent];
        let payment = kind.payment(n);
        let ours = ledger.ours().iter().filter(|entry| entry.payment_id == payment).count();
        let moved = usize::from(must != "dead: rejected");
        if !end.starts_with(must) || ours != moved || world.sends(&payment) > 4 {
            wrong.push(format!(
                "{fault}: {end}, captured {ours} times; {:?}",
                world.story(intent).await
            ));
        }
    }
    assert!(wrong.is_empty(), "{kind:?}: {wrong:#?}");
    if kind != Kind::ResolveCharge {
        // (The charge that took two captures is left to a person, so the books cannot agree.)
        world.books_agree().await;
    }
}

#[tokio::test]
async fn every_fault_at_afterpay_ends_as_it_must() {
    every_fault_ends_as_it_must(Kind::Afterpay).await;
}

#[tokio::test]
async fn every_fault_at_optty_ends_as_it_must() {
    every_fault_ends_as_it_must(Kind::Optty).await;
}

#[tokio::test]
async fn every_fault_at_a_resolve_charge_ends_as_it_must() {
    every_fault_ends_as_it_must(Kind::ResolveCharge).await;
}

#[tokio::test]
async fn every_fault_at_a_resolve_order_ends_as_it_must() {
    every_fault_ends_as_it_must(Kind::ResolveOrder).await;
}

#[tokio::test]
async fn an_answer_cut_off_anywhere_is_no_answer_and_is_found_out() {
    for kind in Kind::ALL {
        let mut world = World::of(Plan {
            concurrency: 64,
            ..Plan::default()
        })
        .await;
        let mut intents = Vec::new();
        for n in 0..48 {
            intents.push(world.capture(kind, n, 1234).await);
            let cut = Fault::CutAt(1 + n * 13);
            world.simulator.script(kind.payment(n).as_str(), [cut]);
        }
        let ends = world.until_all_ended(&intents, MINUTE).await;
        assert!(ends.values().all(|end| end == "captured"), "{kind:?}: {ends:?}");
        world.books_agree().await;
    }
}

//! From an INSERT to an event, whatever dies in between.

use std::time::Duration;

use capture::simulator::{Fault, Moment};

use crate::kind::Kind;
use crate::world::{Plan, World};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn explore() {
    for kind in [Kind::Optty, Kind::ResolveCharge, Kind::ResolveOrder] {
        let mut plan = Plan::default();
        plan.simulator.huge_body_bytes = 2_000_000;
        plan.concurrency = 60;
        let mut world = World::of(plan).await;
        let mut intents = Vec::new();
        let mut faults = Vec::new();
        for (n, fault) in Fault::all().into_iter().enumerate() {
            if matches!(fault, Fault::CloseAtAccept | Fault::ResetAtAccept | Fault::TokenExpired | Fault::Forbidden | Fault::Redirect(_) | Fault::Refuse(401|403, _) | Fault::Status(400, Moment::After|Moment::Late)) { continue; }
            let n = u32::try_from(n).unwrap();
            world.simulator.script(kind.payment(n).as_str(), [fault]);
            intents.push(world.capture(kind, n, 1234).await);
            faults.push((n, fault));
        }
        let t = std::time::Instant::now();
        let mut steps = 0;
        for _ in 0..150 {
            world.drain().await;
            let open: i64 = world.db.scalar("select count(*) from capture.intents i where not exists (select from capture.outcomes o where o.intent=i.id)").await;
            if open == 0 { break; }
            steps += 1;
            world.outbox.rescue(100).await.unwrap();
            world.pass(MINUTE * (if steps > 60 { 60 } else { 1 })).await;
        }
        println!("== {kind:?} {steps} steps {:?}", t.elapsed());
        for (i, (n, fault)) in intents.iter().zip(&faults) {
            let story = world.story(*i).await;
            let shown = if story.len() > 9 { format!("{} events", story.len()) } else { format!("{story:?}") };
            let money = world.simulator.ledger().captured_minor(&kind.payment(*n));
            println!("{fault:<28} {:<34} money={money} sends={} {shown}", world.end(*i).await, world.sends(&kind.payment(*n)));
        }
        let ok = std::panic::AssertUnwindSafe(world.books_agree()); println!("books {:?}", futures_util::FutureExt::catch_unwind(ok).await.is_ok());
    }
}

//! Statements that lose against others: they did nothing, and are repeated whole.

use std::time::Duration;

use capture::outbox::{OutboxError, SchemaFault, Settled};
use capture::retry::{Disposition, Wait};

use crate::by_hand::{Ask, LEASE, captured, claim, receipt, settlement, try_claim};
use crate::database::{Session, connect, log_in};
use crate::kind::Kind;
use crate::world::World;

/// What an outbox tries before it gives up.
const TRIES: i64 = 9;

impl World {
    /// From now on whatever has done this loses, just before its end, until it has lost so often. A sequence counts: what
    /// lost is rolled back, and that is not.
    async fn loses_after(&mut self, doing: &str, sqlstate: &str) {
        self.db
            .run(&format!(
                "drop sequence if exists public.losses cascade; create sequence public.losses;
                 create or replace function public.lose() returns trigger language plpgsql security definer as $lose$ begin
                     if nextval('public.losses') <= 100 then raise 'lost' using errcode = '{sqlstate}'; end if;
                     return null;
                 end $lose$;
                 create or replace trigger lose after {doing} for each statement execute function public.lose()"
            ))
            .await;
    }

    /// The next two tries lose, and the third does not.
    async fn loses_twice_more(&mut self) {
        self.db.run("select setval('public.losses', 98)").await;
    }

    async fn never_loses(&mut self, doing: &str) {
        let table = doing.rsplit(' ').next().unwrap();
        self.db.run(&format!("drop trigger lose on {table}")).await;
    }

    async fn tries(&mut self) -> i64 {
        self.db.scalar("select last_value from public.losses").await
    }

    /// All rows that a worker could have changed.
    async fn rows(&mut self) -> Vec<String> {
        let tables = [
            "ready",
            "waiting",
            "leases",
            "progress",
            "attempts_apart",
            "outcomes",
            "events",
            "late_results",
            "lanes",
        ];
        let each = tables.map(|table| format!("select '{table} ' || t::text as line from capture.{table} t"));
        let all = each.join(" union all ");
        self.db
            .column(&format!("select line from ({all}) everything order by 1"))
            .await
    }

    /// It lost each time, said so, and nothing is changed.
    async fn lost_in_vain(&mut self, told: Option<OutboxError>, sqlstate: &str, before: &[String]) {
        let told = told.expect("it did not lose");
        assert_eq!(told.refusal().unwrap().sqlstate, sqlstate);
        assert!(!told.is_connection_lost(), "it is known to have done nothing");
        assert_eq!(self.tries().await, TRIES);
        assert_eq!(self.rows().await, before);
    }
}

#[tokio::test]
async fn what_loses_did_nothing_and_is_repeated_whole() {
    for sqlstate in ["40001", "40P01"] {
        let mut world = World::new().await;
        let intent = world.capture(Kind::Afterpay, 1, 1234).await;
        let late = world.capture(Kind::Optty, 2, 1234).await;

        let claims = "insert on capture.leases";
        let before = world.rows().await;
        world.loses_after(claims, sqlstate).await;
        let told = try_claim(&world.outbox, &Ask::of(Kind::Afterpay)).await.err();
        world.lost_in_vain(told, sqlstate, &before).await;
        world.loses_twice_more().await;
        let one = world.claim_one(Kind::Afterpay).await;
        assert_eq!(one.ticket.fence(), 1, "the tries that lost left no fence behind");
        world.never_loses(claims).await;

        let receipt = captured(world.send(Kind::Afterpay, &one).await);
        let settles = "insert on capture.outcomes";
        let before = world.rows().await;
        world.loses_after(settles, sqlstate).await;
        let result = [settlement(one, Disposition::Captured(receipt))];
        let told = world.outbox.settle(&result, &[]).await.err();
        world.lost_in_vain(told, sqlstate, &before).await;
        world.loses_twice_more().await;
        let settled = world.outbox.settle(&result, &[]).await.unwrap();
        assert_eq!(settled, [Settled::Recorded]);
        world.never_loses(settles).await;
        assert_eq!(world.attempts(intent).await, ["send captured"]);

        world.claim_one(Kind::Optty).await;
        world.pass(LEASE + Duration::from_secs(1)).await;
        let rescues = "delete on capture.leases";
        let before = world.rows().await;
        world.loses_after(rescues, sqlstate).await;
        let told = world.outbox.rescue(100).await.err();
        world.lost_in_vain(told, sqlstate, &before).await;
        world.loses_twice_more().await;
        assert_eq!(world.outbox.rescue(100).await.unwrap(), 1);
        world.never_loses(rescues).await;

        world.pass(LEASE).await;
        let moves = "delete on capture.waiting";
        let before = world.rows().await;
        world.loses_after(moves, sqlstate).await;
        let told = world.outbox.move_due(100).await.err();
        world.lost_in_vain(told, sqlstate, &before).await;
        world.loses_twice_more().await;
        assert_eq!(world.outbox.move_due(100).await.unwrap().moved, 1);
        world.never_loses(moves).await;
        assert_eq!(world.attempts(late).await, ["send lost lease_lost"]);
        world.books_agree().await;
    }
}

/// A claim locks its lanes, and looks for siblings after that: with one snapshot for both it would look into the past.
#[tokio::test]
async fn a_worker_sees_what_was_committed_while_it_waited_whatever_the_isolation_of_its_role() {
    let mut world = World::new().await;
    let payment = Kind::Afterpay.payment(1);
    world.authorize(Kind::Afterpay, &payment, 5000);
    world.insert(Kind::Afterpay, &payment, "c1", 1000, "").await;
    world.insert(Kind::Afterpay, &payment, "c2", 1000, "").await;
    let as_worker = log_in(&world.url, "capture_worker").await;
    let (_, login) = as_worker.split_once("user=").unwrap();
    let login = login.split('&').next().unwrap();
    world
        .db
        .run(&format!(
            "alter role {login} set default_transaction_isolation = 'repeatable read'"
        ))
        .await;
    let outbox = connect(&as_worker).await;
    if std::env::var_os("CAPTURE_TEST_PGBOUNCER").is_some_and(|asked| asked == "1") {
        // It drops our setting; then it is said, and nobody works.
        let isolation = "repeatable read".to_owned();
        let told = outbox.check_schema().await;
        assert!(
            matches!(told, Err(OutboxError::Schema(SchemaFault::Isolated { isolation: said })) if said == isolation)
        );
        return;
    }
    outbox.check_schema().await.unwrap();
    // Somebody claims one of the two, and has not committed yet.
    let mut other = Session::open(&world.url).await;
    other.run("begin; select from capture.lanes for no key update").await;
    let claiming = tokio::spawn({
        let outbox = outbox.clone();
        async move { claim(&outbox, &Ask::of(Kind::Afterpay).free(1)).await.len() }
    });
    world.db.until_blocked(&claiming).await;
    let lane: i32 = world
        .db
        .scalar("select id from capture.lanes where provider = 'afterpay'")
        .await;
    let taken: i64 = other
        .scalar(&format!(
            "select count(*) from capture.claim(gen_random_uuid(), gen_random_uuid(), 120000::bigint, 1::smallint, 1, false,
                 '[{{\"lane\": {lane}, \"free\": 1, \"sending\": 0, \"retrying\": 0, \"verifying\": 0, \"favour\": 0, \"send_calls\": 1, \"read_calls\": 1}}]')"
        ))
        .await;
    assert_eq!(taken, 1);
    other.run("commit").await;
    assert_eq!(claiming.await.unwrap(), 0, "two captures of one payment at once");
}

/// A settle waits for who cancels what it has a late result of. What that transaction wants next must not be with the settle
/// by then: each would wait for the other, and one of them would lose.
#[tokio::test]
async fn a_settle_that_waits_for_a_cancel_has_nothing_that_the_next_cancel_wants() {
    for is_receipt in [true, false] {
        let mut world = World::new().await;
        // A call that outlives its lease, and an intent that may be cancelled again by the time it comes back.
        let cancelled = world.capture(Kind::Optty, 2, 1234).await;
        let late = world.claim_one(Kind::Optty).await;
        world.lose_lease().await;
        let verification = world.claim_one(Kind::Optty).await;
        world.settle(verification, Disposition::Retry(Wait::None)).await;
        // A capture, and a sibling that its end wakes.
        let payment = Kind::Afterpay.payment(1);
        let first = world.insert(Kind::Afterpay, &payment, "c1", 1000, "").await;
        let sibling = world.insert(Kind::Afterpay, &payment, "c2", 1000, "").await;
        let claim = world.claim_one(Kind::Afterpay).await;
        assert_eq!(claim.intent.id.0, first);

        let mut producer = Session::open(&world.url).await;
        // It would find the deadlock, and lose.
        producer.run("set deadlock_timeout = '1ms'; begin").await;
        let cancel = |intent| format!("select capture.cancel('{intent}', 'out of stock')");
        assert_eq!(producer.scalar::<String>(&cancel(cancelled)).await, "cancelled");
        let ends = Disposition::Captured(receipt(&claim));
        let late_end = if is_receipt {
            Disposition::Captured(receipt(&late))
        } else {
            Disposition::Retry(Wait::None)
        };
        let batch = [settlement(claim, ends), settlement(late, late_end)];
        let outbox = world.outbox.clone();
        let settling = tokio::spawn(async move { outbox.settle(&batch, &[]).await });
        world.db.until_blocked(&settling).await;
        assert_eq!(producer.scalar::<String>(&cancel(sibling)).await, "cancelled");
        producer.run("commit").await;

        let settled = settling.await.unwrap().unwrap();
        assert_eq!(settled, [Settled::Recorded, Settled::LeaseLost]);
        assert_eq!(world.end(first).await, "captured");
        assert_eq!(world.end(sibling).await, "cancelled");
        let alarm = if is_receipt {
            "late_result captured_after_cancelled"
        } else {
            "late_result by_hand"
        };
        assert_eq!(world.story(cancelled).await.last().unwrap(), alarm);
    }
}

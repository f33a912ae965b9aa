//! What the hot statements read does not grow with what lies about: scheduled, held and finished captures.

use capture::progress::Progress;
use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use crate::database::Session;
use crate::kind::Kind;
use crate::world::{World, enqueue};

const SCHEDULED: u32 = 100_000;
const HELD: u32 = 100_000;
const FINISHED: u32 = 1_000_000;

/// Of two held captures.
const HELD_PAYMENT: u32 = (FINISHED + SCHEDULED + 1000) / 2;
const HELD_ORDER: u32 = FINISHED + SCHEDULED + 5000;

/// The hot tables: none of them may be read from end to end by a worker.
const HOT: &str = "'ready', 'waiting', 'intents', 'outcomes', 'leases', 'progress', 'deadlines', 'late_results', 'releases', 'attempts',
    'cancel_requests', 'events'";

/// Fills the tables behind the product's back, as years of work would have.
async fn crowd(db: &mut Session) {
    let all = SCHEDULED + HELD + FINISHED;
    db.run(&format!(
        "set session_replication_role = replica;
         set maintenance_work_mem = '256MB';
         alter table capture.intents set unlogged;
         alter table capture.outcomes set unlogged;
         alter table capture.waiting set unlogged;
         alter table capture.intents drop constraint intents_capture_ref_unique;
         alter table capture.intents drop constraint intents_pkey;
         alter table capture.outcomes drop constraint outcomes_pkey;
         create function pg_temp.id(n integer) returns uuid language sql immutable
             as $$ select ('01890000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;
         insert into capture.intents (id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, hold, created_at)
             select pg_temp.id(n), 'afterpay', 'default', n::text, (n / 2)::text, 'c' || n, 1000, 'USD',
                    case when n > {FINISHED} + {SCHEDULED} then 'shipment' end, now() - interval '1 day'
             from generate_series(1, {all}) n;
         insert into capture.outcomes (intent, lane, state, fence, attempts, ended_at, captured_minor, provider_capture_id, captured_at, proof,
                                       lease, worker, purpose, generation, request_format, sent, attempt_outcome)
             select pg_temp.id(n), l.id, 'captured', 1, 1, now(), 1000, n::text, now(), 'answer', pg_temp.id(n), pg_temp.id(n), 0, 0, 1, true, 'captured'
             from capture.lanes l, generate_series(1, {FINISHED}) n where l.provider = 'afterpay';
         insert into capture.waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
             select pg_temp.id({FINISHED} + n), l.id, 0, 0, 0, 1, 'scheduled', now() + interval '1 day' + n * interval '1 minute', now()
             from capture.lanes l, generate_series(1, {SCHEDULED}) n where l.provider = 'afterpay'
             union all
             select pg_temp.id({FINISHED} + {SCHEDULED} + n), l.id, 0, 0, 0, 1, 'held', null, now()
             from capture.lanes l, generate_series(1, {HELD}) n where l.provider = 'afterpay';
         insert into capture.progress (intent) select pg_temp.id(n) from generate_series({FINISHED}, {all}, 4) n;
         insert into capture.deadlines (intent, expires_at)
             select pg_temp.id(n), now() + interval '100 days' from generate_series({FINISHED}, {all}, 4) n;
         insert into capture.releases (provider, account, order_id, released_by, created_at, next_try_at)
             select 'afterpay', 'default', 'nobody''s ' || n, 'x', now(), now() + interval '1 day' from generate_series(1, 50000) n;
         insert into capture.cancel_requests (intent, reason, requested_by, requested_at)
             select pg_temp.id(n), 'x', 'x', now() from generate_series(1, 20000) n;
         insert into capture.late_results (intent, fence, lease, worker, outcome, recorded_at)
             select pg_temp.id(n), 1, pg_temp.id(n), pg_temp.id(n), 'failed', now() from generate_series(1, 20000) n;
         insert into capture.attempts_apart (intent, fence, lease, worker, purpose, generation, request_format, sent, outcome, ended_at)
             select pg_temp.id(n), 1, pg_temp.id(n), pg_temp.id(n), 0, 0, 1, true, 'failed', now() from generate_series(1, 100000) n;
         alter table capture.intents add constraint intents_pkey primary key (id);
         alter table capture.intents add constraint intents_capture_ref_unique unique (provider, account, payment_id, capture_ref);
         alter table capture.outcomes add constraint outcomes_pkey primary key (intent);
         set session_replication_role = default"
    ))
    .await;
}

/// What one statement read, and which hot tables it read from end to end.
#[derive(Debug)]
struct Read {
    rows: i64,
    pages: i64,
    scanned: Vec<String>,
}

/// Runs a statement in a transaction of its own and tells what it read; its effect stays.
async fn read(db: &mut Session, sql: &str) -> Read {
    db.run("begin").await;
    let plan = db
        .rows(&format!("explain (analyze, buffers, timing off, format json) {sql}"))
        .await;
    let plan: Value = plan[0].get(0);
    let node = &plan[0]["Plan"];
    let number = |name: &str| node[name].as_i64().unwrap_or(0);
    let scanned = db
        .column(&format!(
            "select relname::text || ' ' || seq_scan from pg_stat_xact_user_tables
             where schemaname = 'capture' and seq_scan > 0 and relname in ({HOT})"
        ))
        .await;
    db.run("commit").await;
    Read {
        rows: number("Actual Rows"),
        pages: number("Shared Hit Blocks") + number("Shared Read Blocks"),
        scanned,
    }
}

/// The statements of a worker, on one connection that keeps its plans.
struct Hot {
    db: Session,
    aside: Session,
    lanes: String,
}

impl Hot {
    async fn claim_once(&mut self, lease: u32, alone: bool) -> Read {
        let sql = format!(
            "select * from capture.claim('{}', '{}', 120000, 1::smallint, 500, {alone}, '{}')",
            lease_id(lease),
            lease_id(0),
            self.lanes
        );
        read(&mut self.db, &sql).await
    }

    async fn claim(&mut self, lease: u32, alone: bool) -> Read {
        let mut least = self.claim_once(lease, alone).await;
        // Other tests make the catalogs of this server move, and a plan that must be made anew reads them. A look that
        // finds nothing can be repeated.
        for _ in 0..2 {
            if least.rows == 0 {
                let again = self.claim_once(lease, alone).await;
                least = if again.pages < least.pages { again } else { least };
            }
        }
        least
    }

    async fn settle(&mut self, lease: u32, to: &str) -> Read {
        let leased = format!(
            "select l.id as lease, s.intent, s.fence, s.n
             from capture.leases l, unnest(l.intents, l.fences) with ordinality as s(intent, fence, n) where l.id = '{}'",
            lease_id(lease)
        );
        self.settle_those(&leased, to).await
    }

    /// The results of a lease that was lost.
    async fn late(&mut self, lease: u32) -> Read {
        let lost = format!(
            "select a.lease, a.intent, a.fence, row_number() over () as n from capture.attempts a where a.lease = '{}'",
            lease_id(lease)
        );
        self.settle_those(&lost, "waiting").await
    }

    async fn settle_those(&mut self, those: &str, to: &str) -> Read {
        let progress = serde_json::to_string(&Progress::default()).unwrap();
        let results: String = self
            .aside
            .scalar(&format!(
                "select coalesce(jsonb_agg(jsonb_build_object('n', s.n - 1, 'lease', s.lease, 'slot', s.n - 1, 'intent', s.intent,
                     'fence', s.fence, 'to', '{to}', 'purpose', 1, 'cause', 'backoff', 'delay_ms', 0,
                     'attempt', jsonb_build_object('worker', s.lease, 'sent', true, 'outcome', 'captured', 'generation', 0, 'began_ms_ago', 1, 'duration_ms', 1),
                     'progress', '{progress}'::jsonb,
                     'receipt', case when '{to}' = 'captured' then
                         jsonb_build_object('captured_minor', 1, 'provider_capture_id', 'x', 'proof', 'answer') end,
                     'dead_reason', case when '{to}' = 'dead' then 'rejected' end,
                     'events', jsonb_build_array(jsonb_build_object('type', 'capture.captured')))), '[]')::text
                 from ({those}) s"
            ))
            .await;
        read(
            &mut self.db,
            &format!("select * from capture.settle_each('{results}', '[]')"),
        )
        .await
    }

    async fn call(&mut self, function: &str) -> Read {
        read(&mut self.db, &format!("select * from capture.{function}")).await
    }
}

fn lease_id(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}
/// A look that finds nothing.
const LOOK: i64 = 40;
/// What one row may cost that has two siblings: its intent and theirs, what may lie about each, and its moves, every one a
/// few pages deep. (Alone on its payment it is 22.)
const ROW: i64 = 60;

impl Read {
    fn is_at_most(&self, pages: i64, what: &str) {
        assert!(self.pages <= pages, "{what}: more than {pages} pages: {self:?}");
        assert!(self.scanned.is_empty(), "{what}: read from end to end: {self:?}");
    }
}

impl Hot {
    async fn of(world: &World) -> Hot {
        let lanes = world.outbox.lanes().await.unwrap();
        let lanes: Vec<Value> = lanes
            .iter()
            .map(|lane| {
                serde_json::json!({"lane": lane.id, "free": 100, "sending": 0, "retrying": 0, "verifying": 0,
                                   "favour": 0, "send_calls": 1, "read_calls": 1})
            })
            .collect();
        Hot {
            db: Session::open(&world.url).await,
            aside: Session::open(&world.url).await,
            lanes: Value::Array(lanes).to_string(),
        }
    }

    /// So many captures: a third of payments that nobody else has, a third beside what is finished, a third beside what waits.
    async fn enqueue(&mut self, step: u32, count: u32) {
        self.aside
            .run(&format!(
                "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
                 select 'afterpay', 'o', (case n % 3 when 0 then 900000000 when 1 then 1000 else {FINISHED} / 2 + 1000 end
                                          + {step} * 1000 + n)::text, 'more', 1000, 'USD'
                 from generate_series(1, {count}) n"
            ))
            .await;
    }

    /// Every statement, so often that its plan is kept.
    async fn warm_up(&mut self, lease: u32) {
        for n in lease..lease + 7 {
            self.claim(n, false).await;
            self.claim(n, true).await;
            self.settle(n, "captured").await;
            for function in UPKEEP {
                self.call(function).await;
            }
            self.call(WALK).await;
            self.call("tell_deadlines('[]')").await;
            self.db.run("select capture.give_back(gen_random_uuid())").await;
        }
    }

    /// Claims a hundred rows that wait; `what` is said if it reads too much.
    async fn claim_a_hundred(&mut self, lease: u32, what: &str) {
        let mut claimed = self.claim(lease, false).await;
        // As a look that finds nothing, it can be repeated if its plan had to be made anew: what it took is given back.
        for _ in 0..2 {
            if claimed.pages > 100 * ROW {
                let back = format!("select capture.give_back('{}')", lease_id(lease));
                assert_eq!(self.aside.scalar::<i32>(&back).await, 100, "{what}");
                claimed = self.claim(lease, false).await;
            }
        }
        assert_eq!(claimed.rows, 100, "{what}");
        claimed.is_at_most(100 * ROW, what);
    }
}

/// Looks at two hundred captures that have not ended, and at what their payments are.
const WALK: &str = "assume_deadlines(null, 200)";

const UPKEEP: [&str; 5] = [
    "move_due(1000)",
    "rescue(200)",
    "watch_deadlines(900000, 200)",
    "watch_dead_letters(200)",
    "match_releases(200)",
];

#[tokio::test]
async fn what_a_worker_reads_does_not_grow_with_what_lies_about() {
    let mut world = World::new().await;
    let mut hot = Hot::of(&world).await;
    world
        .db
        .run("update capture.lanes set authorization_lifetime = interval '200 days'")
        .await;
    // Plans are made, and kept, while every table is empty and known to be: the worst moment to learn from.
    world.db.run("vacuum analyze").await;
    hot.warm_up(1000).await;
    crowd(&mut world.db).await;
    for (round, when) in (0..).zip(["plans of empty tables", "plans of full tables"]) {
        hot.claim(1, false).await;
        hot.claim(1, false).await.is_at_most(LOOK, when);
        hot.claim(1, true).await.is_at_most(LOOK, when);
        for function in UPKEEP {
            hot.call(function).await;
            hot.call(function)
                .await
                .is_at_most(LOOK, &format!("{function}, {when}"));
        }
        hot.call(WALK)
            .await
            .is_at_most(200 * ROW, &format!("a first walk, {when}"));
        hot.call(WALK)
            .await
            .is_at_most(200 * ROW / 2, &format!("a second walk, {when}"));
        let held = Uuid::from_u128(
            0x0189_0000_0000_7000_8000_0000_0000_0000 + u128::from(FINISHED + SCHEDULED + 1000 + round),
        );
        let told = format!(r#"tell_deadlines('[{{"intent": "{held}", "expires_at": "2190-01-01T00:00:00Z"}}]')"#);
        hot.call(&told).await.is_at_most(2 * ROW, &format!("told, {when}"));
        for (step, to) in (0..).zip(["captured", "waiting", "dead"]) {
            let lease = 100 + 10 * round + step;
            hot.enqueue(10 * round + step, 100).await;
            hot.claim_a_hundred(lease, when).await;
            hot.settle(lease, to)
                .await
                .is_at_most(100 * ROW, &format!("settled as {to}, {when}"));
        }
        hot.call("move_due(1000)")
            .await
            .is_at_most(100 * ROW, &format!("move_due, {when}"));
        let lease = 200 + round;
        hot.claim_a_hundred(lease, "what came back").await;
        world
            .db
            .run("update capture.leases set claimed_at = now() - interval '2 hours', until = now() - interval '1 hour'")
            .await;
        hot.call("rescue(200)")
            .await
            .is_at_most(100 * ROW, &format!("rescue, {when}"));
        let late = hot.late(lease).await;
        assert_eq!(late.rows, 100);
        late.is_at_most(100 * ROW, &format!("late results, {when}"));
        hot.call("move_due(1000)")
            .await
            .is_at_most(100 * ROW, &format!("move_due, {when}"));
        let lease = 300 + round;
        hot.claim_a_hundred(lease, "what was rescued").await;
        hot.settle(lease, "captured").await.is_at_most(100 * ROW, when);

        // A row that must be claimed alone is found behind a long queue, and a queue is not read for its head.
        hot.enqueue(100 + 50 * round, 20_000).await;
        hot.claim(2, true).await.is_at_most(LOOK, &format!("alone, {when}"));
        let lease = 400 + round;
        hot.claim_a_hundred(lease, "the head of a long queue").await;
        hot.settle(lease, "captured").await;
        // (a retry behind it has the slots shared, which is another pick)
        hot.aside
            .run("update capture.ready set purpose = 1 where seq = (select max(seq) from capture.ready)")
            .await;
        hot.claim_a_hundred(lease + 1, "the head of a long queue, and a retry")
            .await;
        hot.settle(lease + 1, "captured").await;
        world.db.run("delete from capture.ready").await;
        world.db.run("vacuum analyze").await;
        hot.warm_up(2000).await;
    }

    // What a release does is planned when the first one does it.
    let other = HELD_ORDER + 1;
    let release = format!("select * from capture.release(provider => 'afterpay', order_id => '{other}')");
    hot.db.run(&release).await;
    hot.call("match_releases(200)").await;

    // The order system's statements and the operator's, on connections that are kept as well.
    for (place, what) in (0..).zip(["cancel", "release", "enqueue", "enqueue beside another"]) {
        let id: Uuid = world
            .insert(Kind::Afterpay, &format!("60000000{place}"), "c1", 1000, "")
            .await;
        let sql = match what {
            "cancel" => format!("select * from capture.cancel('{id}', 'why')"),
            "release" => format!(
                "select * from capture.release(provider => 'afterpay', payment_id => '{}')",
                HELD_PAYMENT
            ),
            "enqueue" => enqueue(Kind::Afterpay, "610000000", "c", 1000, ""),
            _ => enqueue(Kind::Afterpay, &format!("60000000{place}"), "c2", 1000, ""),
        };
        read(&mut hot.db, &sql).await.is_at_most(16 * LOOK, what);
    }
    let order = format!("select * from capture.release(provider => 'afterpay', order_id => '{HELD_ORDER}')");
    hot.db.run(&order).await;
    let matched = hot.call("match_releases(200)").await;
    matched.is_at_most(2 * ROW + LOOK, "match_releases of a payment and of an order");
    let freed: i64 = hot
        .db
        .scalar("select count(*) from capture.releases where intent is not null")
        .await;
    assert_eq!(freed, 3);
    let feed = read(&mut hot.db, "select * from capture.events_after(null, 10)").await;
    feed.is_at_most(10 * LOOK, "events_after");
}

/// A payment is judged once and not once for each of its captures: four hundred would read each other, in one claim.
#[tokio::test]
async fn what_a_claim_reads_of_one_payment_grows_with_its_captures_and_not_with_their_square() {
    let mut world = World::new().await;
    let mut hot = Hot::of(&world).await;
    world.db.run("vacuum analyze").await;
    hot.warm_up(1000).await;
    for (lease, payment, captures) in [(1, "700000000", 200), (11, "710000000", 400)] {
        // In the order of the index it comes last: who looks for it reads all the others first.
        let holder = world.insert(Kind::Afterpay, payment, "z", 1000, "").await;
        assert_eq!(hot.claim_once(lease, false).await.rows, 1);
        hot.aside
            .run(&format!(
                "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
                 select 'afterpay', 'o', '{payment}', 'c' || n, 1000, 'USD' from generate_series(1, {captures}) n"
            ))
            .await;
        let most = captures * ROW;

        let held_off = hot.claim_once(lease + 1, false).await;
        held_off.is_at_most(most, &format!("{captures} behind a holder"));
        assert_eq!(held_off.rows, 0);
        let left: i64 = hot.aside.scalar("select count(*) from capture.ready").await;
        assert_eq!(left, 0, "all of them were looked at, in rounds");

        let woken = hot.settle(lease, "captured").await;
        woken.is_at_most(most, &format!("the end of {holder}, which wakes {captures}"));
        hot.call("move_due(1000)").await;
        let first = hot.claim_once(lease + 2, false).await;
        first.is_at_most(most, &format!("{captures} that nobody holds"));
        assert_eq!(first.rows, 1, "one movement at a time");
        let rest: i64 = hot
            .aside
            .scalar("select count(*) from capture.waiting where cause = 'sibling'")
            .await;
        assert_eq!(rest, 99, "of a hundred");
        // (by another session than that whose reads are counted)
        hot.aside
            .run("delete from capture.ready; delete from capture.waiting")
            .await;
    }
}

/// What passed through while somebody held an old snapshot is stepped over, at little cost for each row.
#[tokio::test]
async fn beside_an_old_snapshot_a_claim_goes_on() {
    let world = World::new().await;
    let mut hot = Hot::of(&world).await;
    let mut old = Session::open(&world.url).await;
    old.run("begin isolation level repeatable read; select count(*) from capture.lanes")
        .await;
    hot.enqueue(1, 5000).await;
    let mut claims = Vec::new();
    for lease in 0..50 {
        let claimed = hot.claim(lease, false).await;
        assert_eq!(claimed.rows, 100);
        claims.push(claimed);
        hot.settle(lease, "captured").await;
    }
    // The middle one of fifty: a claim now and then has its plan made anew, because other tests move the catalogs, and the
    // later ones step over what the old snapshot keeps, which is what the looks below are about.
    claims.sort_by_key(|claim| claim.pages);
    claims[claims.len() / 2].is_at_most(100 * 25, "rows that are alone on their payments");
    // As if fifty thousand more had come and gone.
    hot.aside
        .run(
            "insert into capture.ready (lane, purpose, urgency, intent, fence, epoch, since)
             select l.id, 0, 0, gen_random_uuid(), 0, 1, now() from capture.lanes l, generate_series(1, 50000) where l.provider = 'afterpay';
             delete from capture.ready",
        )
        .await;
    // Claims that step over many let the fronts follow, once all is over that ran when they did (other tests, too).
    // That may take many claims: of payments that nothing else here is about.
    let mut step = 1_000_000;
    while hot
        .aside
        .scalar::<i64>("select coalesce(max(seq), 0) from capture.fronts")
        .await
        < 50_000
    {
        step += 1;
        assert!(step < 1_005_000, "the fronts do not follow");
        hot.enqueue(step, 1).await;
        assert_eq!(hot.claim_once(step, false).await.rows, 1);
        hot.settle(step, "captured").await;
    }
    // Fewer than two thousand they step over, at some forty to a page of the table and more to one of the index. Of five the least:
    // each may have its plan made anew.
    const FEW: i64 = 2000 / 40 + 2000 / 100;
    let (mut looks, mut claims, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    for step in 100..105 {
        hot.enqueue(step, 1).await;
        looks.push(hot.call("move_due(1000)").await);
        claims.push(hot.claim_once(step, false).await);
        hot.settle(step, "captured").await;
        nothing.push(hot.claim_once(50, false).await);
    }
    assert!(claims.iter().all(|claim| claim.rows == 1));
    for (mut reads, most, what) in [
        (looks, LOOK, "what is due beside an old snapshot"),
        (claims, LOOK + ROW + FEW, "one is claimed beside an old snapshot"),
        (nothing, LOOK + FEW, "nothing is claimed beside an old snapshot"),
    ] {
        reads.sort_by_key(|read| read.pages);
        reads[0].is_at_most(most, what);
    }
}

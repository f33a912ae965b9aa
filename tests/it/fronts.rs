//! Claims that have to step over much let the fronts of `ready` follow, and pass over nothing by that.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::database::{Session, migrated_database};
use crate::kind::Kind;
use crate::world::enqueue;

/// A session that claims. Each of its claims takes a step with the fronts, however little it had to step over.
struct Claimer {
    db: Session,
    lanes: Vec<i32>,
}

impl Claimer {
    async fn new(url: &str) -> Claimer {
        let mut db = Session::open(url).await;
        let source: String = db
            .scalar("select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'capture'::regnamespace and p.proname = 'claim'")
            .await;
        let many = "> 2000 + 2 * cardinality(v_rows)";
        assert_eq!(source.matches(many).count(), 1);
        db.run(&source.replace(many, ">= 0")).await;
        for kind in [Kind::Afterpay, Kind::Optty] {
            db.run(&insert(kind, "first", 0, "")).await;
        }
        let lanes = db.column("select id from capture.lanes order by id").await;
        let mut claimer = Claimer { db, lanes };
        assert_eq!(claimer.claim(10).await, ["first", "first"]);
        claimer
    }

    /// The references of what is claimed now, at most so many of a lane.
    async fn claim(&mut self, limit: u32) -> Vec<String> {
        let lanes: Vec<Value> = self
            .lanes
            .iter()
            .map(|lane| {
                json!({"lane": lane, "free": limit, "sending": 0, "retrying": 0, "verifying": 0,
                       "favour": 0, "send_calls": 1, "read_calls": 1})
            })
            .collect();
        self.db
            .column(&format!(
                "select capture_ref from capture.claim(gen_random_uuid(), '{}', 120000, 1::smallint, 500, false, '{}') order by slot",
                uuid::Uuid::nil(),
                Value::Array(lanes)
            ))
            .await
    }

    /// The seq at which the class of this urgency begins.
    async fn front(&mut self, urgency: i16) -> i64 {
        self.db
            .scalar(&format!(
                "select coalesce(max(seq), 0) from capture.fronts where urgency = {urgency}"
            ))
            .await
    }

    /// Inserts and claims until the class begins behind that seq. (Any older transaction of the whole server holds it back.)
    async fn until_the_front_is_behind(&mut self, seq: i64, other: &mut Session) {
        while self.front(0).await <= seq {
            other.run(&insert(Kind::Afterpay, "filler", 0, "")).await;
            assert_eq!(self.claim(500).await, ["filler"]);
        }
    }
}

/// An intent of a payment of its own.
fn insert(kind: Kind, reference: &str, priority: i16, more: &str) -> String {
    let payment = rand::random_range(1..u64::MAX).to_string();
    enqueue(
        kind,
        &payment,
        reference,
        1000,
        &format!(", priority => {priority} {more}"),
    )
}

#[tokio::test]
async fn an_insert_that_commits_late_is_claimed_by_who_has_gone_on_meanwhile() {
    let url = migrated_database().await;
    let mut claimer = Claimer::new(&url).await;
    let (mut slow, mut quick) = (Session::open(&url).await, Session::open(&url).await);
    slow.run("begin").await;
    slow.run(&insert(Kind::Afterpay, "slow", 0, "")).await;
    for _ in 0..10 {
        quick.run(&insert(Kind::Afterpay, "quick", 0, "")).await;
        assert_eq!(claimer.claim(500).await, ["quick"]);
    }
    slow.run("commit").await;
    assert_eq!(claimer.claim(500).await, ["slow"]);
    let drawn = quick.scalar("select last_value from capture.ready_seq_seq").await;
    claimer.until_the_front_is_behind(drawn, &mut quick).await;
}

#[tokio::test]
async fn what_becomes_urgent_later_has_its_place_among_the_urgent() {
    let url = migrated_database().await;
    let mut claimer = Claimer::new(&url).await;
    let mut db = Session::open(&url).await;
    db.run(&insert(
        Kind::Afterpay,
        "old",
        5,
        ", authorization_expires_at => capture.clock_now() + interval '30 hours'",
    ))
    .await;
    let drawn = db.scalar("select last_value from capture.ready_seq_seq").await;
    while claimer.front(-32768).await <= drawn {
        db.run(&insert(
            Kind::Afterpay,
            "urgent",
            0,
            ", authorization_expires_at => capture.clock_now() + interval '10 hours'",
        ))
        .await;
        assert_eq!(claimer.claim(1).await, ["urgent"]);
    }
    db.run("update capture.clock set ahead = interval '8 hours'").await;
    // (the fronts hold on, or it would not show what they hide)
    db.run("update capture.fronts set begun_at = capture.clock_now()").await;
    db.run("select capture.watch_deadlines(900000, 1000000)").await;
    db.run(&insert(Kind::Afterpay, "new", -5, "")).await;
    assert_eq!(claimer.claim(1).await, ["old"]);
    assert_eq!(claimer.claim(1).await, ["new"]);
}

/// Not that anybody should; but a restore that forgets the sequence must not hide what is asked for afterwards.
#[tokio::test]
async fn a_sequence_that_was_set_back_hides_nothing_or_not_for_long() {
    let url = migrated_database().await;
    let mut claimer = Claimer::new(&url).await;
    let mut db = Session::open(&url).await;
    claimer.until_the_front_is_behind(10, &mut db).await;
    // What is drawn next comes before the front: it is seen at once that the front is none.
    db.run("alter sequence capture.ready_seq_seq restart with 2").await;
    db.run(&insert(Kind::Afterpay, "before", 0, "")).await;
    assert_eq!(claimer.claim(500).await, ["before"]);
    // The sequence has passed the front before anybody looked: that is over with the front, ten minutes after it began.
    claimer.until_the_front_is_behind(12, &mut db).await;
    db.run("alter sequence capture.ready_seq_seq restart with 2").await;
    db.run(&insert(Kind::Afterpay, "passed over", 0, "")).await;
    db.run("alter sequence capture.ready_seq_seq restart with 1000").await;
    db.run(&insert(Kind::Afterpay, "after", 0, "")).await;
    assert_eq!(claimer.claim(500).await, ["after"]);
    assert_eq!(claimer.claim(500).await, [""; 0]);
    db.run("update capture.clock set ahead = interval '11 minutes'").await;
    assert_eq!(claimer.claim(500).await, ["passed over"]);
}

/// Under a transaction that writes for long, claims take their steps once and leave the rows of fronts alone.
#[tokio::test]
async fn fronts_that_cannot_move_are_not_written() {
    let url = migrated_database().await;
    let mut claimer = Claimer::new(&url).await;
    let (mut slow, mut quick) = (Session::open(&url).await, Session::open(&url).await);
    slow.run("begin").await;
    slow.run(&insert(Kind::Afterpay, "slow", 0, "")).await;
    let mut versions = Vec::new();
    for _ in 0..10 {
        quick.run(&insert(Kind::Afterpay, "quick", 0, "")).await;
        assert_eq!(claimer.claim(500).await, ["quick"]);
        let version: String = quick
            .scalar("select string_agg(xmin::text || ctid::text, ' ' order by lane, urgency) from capture.fronts")
            .await;
        versions.push(version);
    }
    // Noted, bound, and perhaps moved once, to what was drawn before.
    assert_eq!(
        versions[4..].iter().filter(|version| **version == versions[9]).count(),
        6,
        "{versions:?}"
    );
}

/// Who draws from a cache draws in its next transaction what was drawn long before.
#[tokio::test]
async fn no_front_follows_a_sequence_that_sessions_keep_a_stock_of() {
    let url = migrated_database().await;
    let mut claimer = Claimer::new(&url).await;
    let (mut stocked, mut quick) = (Session::open(&url).await, Session::open(&url).await);
    quick.run("alter sequence capture.ready_seq_seq cache 20").await;
    stocked.run(&insert(Kind::Afterpay, "stocked", 0, "")).await;
    quick.run("delete from capture.fronts").await;
    for _ in 0..10 {
        quick.run(&insert(Kind::Afterpay, "quick", 0, "")).await;
        assert!(!claimer.claim(500).await.is_empty());
        let noted: i64 = quick.scalar("select count(*) from capture.fronts").await;
        assert_eq!(noted, 0);
    }
    stocked.run(&insert(Kind::Afterpay, "stocked", 0, "")).await;
    assert_eq!(claimer.claim(500).await, ["stocked"]);
}

/// What is noted as drawn may belong to a transaction that is younger than the claim that notes it. (Often, because a transaction of
/// another test that ends in between would hide what this looks for.)
#[tokio::test]
async fn the_bound_of_a_front_is_greater_than_the_id_of_whoever_has_drawn() {
    let url = migrated_database().await;
    let mut claimer = Claimer::new(&url).await;
    let (mut slow, mut quick) = (Session::open(&url).await, Session::open(&url).await);
    for _ in 0..30 {
        quick.run("delete from capture.fronts").await;
        for _ in 0..2 {
            quick.run(&insert(Kind::Afterpay, "quick", 0, "")).await;
        }
        claimer.db.run("begin; select pg_current_xact_id()").await;
        slow.run("begin").await;
        slow.run(&insert(Kind::Afterpay, "slow", 0, "")).await;
        assert_eq!(claimer.claim(1).await, ["quick"]);
        claimer.db.run("commit").await;
        assert_eq!(claimer.claim(1).await, ["quick"]);
        let id: String = slow.scalar("select pg_current_xact_id()::text").await;
        let bounds: Vec<Option<bool>> = quick
            .column(&format!("select bound > '{id}' from capture.fronts"))
            .await;
        assert_eq!(bounds, [Some(true)]);
        slow.run("rollback").await;
    }
}

/// A claim within a transaction that has an id already knows nothing of who drew since; its steps move no front.
#[tokio::test]
async fn claims_of_one_transaction_move_no_front() {
    let url = migrated_database().await;
    let mut claimer = Claimer::new(&url).await;
    let (mut slow, mut quick) = (Session::open(&url).await, Session::open(&url).await);
    claimer.until_the_front_is_behind(10, &mut quick).await;
    let front = claimer.front(0).await;
    claimer.db.run("begin; select pg_current_xact_id()").await;
    // No older transaction runs in the whole server, so that it would move at once if it moved.
    while claimer
        .db
        .scalar("select pg_snapshot_xmin(pg_current_snapshot()) < pg_current_xact_id()")
        .await
    {
        tokio::task::yield_now().await;
    }
    slow.run("begin").await;
    slow.run(&insert(Kind::Afterpay, "slow", 0, "")).await;
    for _ in 0..5 {
        quick.run(&insert(Kind::Afterpay, "quick", 0, "")).await;
        assert_eq!(claimer.claim(500).await, ["quick"]);
    }
    claimer.db.run("commit").await;
    assert!(claimer.front(0).await <= front + 1, "it may stand where it was found");
    slow.run("commit").await;
    assert_eq!(claimer.claim(500).await, ["slow"]);
}

/// Producers whose transactions overlap and roll back, claims that are given back: whatever is there is not before its front.
#[tokio::test]
async fn nothing_that_is_ready_is_ever_before_its_front() {
    for seed in 0..4 {
        let url = migrated_database().await;
        let mut claimer = Claimer::new(&url).await;
        let mut random = StdRng::seed_from_u64(seed);
        let mut observer = Session::open(&url).await;
        let mut producers = Vec::new();
        for _ in 0..4 {
            producers.push((Session::open(&url).await, false));
        }
        let mut claimed = 0;
        for step in 0..250 {
            let which = random.random_range(0..producers.len());
            let (producer, open) = &mut producers[which];
            match random.random_range(0..12) {
                0..4 => {
                    if !*open && random.random_bool(0.7) {
                        producer.run("begin").await;
                        *open = true;
                    }
                    if *open && random.random_bool(0.3) {
                        producer.run("savepoint s").await;
                    }
                    let kind = if random.random_bool(0.5) {
                        Kind::Afterpay
                    } else {
                        Kind::Optty
                    };
                    let priority = [-5, 0, 0, 7][random.random_range(0..4)];
                    // Some come to `ready` by way of `waiting`.
                    let more = match random.random_bool(0.2) {
                        true => ", not_before => capture.clock_now() + interval '1 millisecond'",
                        false => "",
                    };
                    producer.run(&insert(kind, "r", priority, more)).await;
                }
                4..6 if *open => {
                    producer
                        .run(if random.random_bool(0.7) { "commit" } else { "rollback" })
                        .await;
                    *open = false;
                }
                6 => {
                    observer
                        .run("select capture.give_back(id) from capture.leases order by claimed_at desc limit 1")
                        .await;
                }
                7 => {
                    producer.run("select capture.move_due(2)").await;
                }
                _ => claimed += claimer.claim(random.random_range(1..4)).await.len(),
            }
            let passed_over: Vec<String> = observer
                .column(
                    "select f::text || r::text from capture.ready r
                     join capture.fronts f on f.lane = r.lane and f.purpose = r.purpose and f.urgency = r.urgency and r.seq < f.seq
                     where not r.alone",
                )
                .await;
            assert_eq!(passed_over, [""; 0], "seed {seed}, step {step}");
        }
        for (mut producer, open) in producers {
            if open {
                producer.run("commit").await;
            }
        }
        observer
            .run("update capture.clock set ahead = interval '1 second'; select capture.move_due(1000)")
            .await;
        let ready: i64 = observer.scalar("select count(*) from capture.ready").await;
        let mut left = 0;
        loop {
            match claimer.claim(500).await.len() {
                0 => break,
                more => left += more,
            }
        }
        assert!(claimed > 20, "seed {seed}: {claimed}");
        assert_eq!(i64::try_from(left).unwrap(), ready, "seed {seed}");
        // And they move on, or all this was about nothing.
        claimer.until_the_front_is_behind(ready, &mut observer).await;
    }
}

/// Workers and producers at once, whose transactions overlap as they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_overlap_move_the_fronts_and_leave_nothing_behind() {
    const EACH: usize = 60;
    let url = migrated_database().await;
    let mut first = Claimer::new(&url).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..3 {
        let (mut producer, lanes) = (Session::open(&url).await, first.lanes.clone());
        tasks.spawn(async move {
            for step in 0..EACH {
                producer.run("begin").await;
                let kind = if (n + step) % 2 == 0 {
                    Kind::Afterpay
                } else {
                    Kind::Optty
                };
                producer.run(&insert(kind, "r", 0, "")).await;
                for _ in 0..(n * 7 + step) % 5 {
                    producer.run("select 1").await;
                }
                producer.run(if step % 6 == 5 { "rollback" } else { "commit" }).await;
            }
        });
        let mut claimer = Claimer {
            db: Session::open(&url).await,
            lanes,
        };
        tasks.spawn(async move {
            for _ in 0..EACH {
                claimer.claim(2).await;
            }
        });
    }
    tasks.join_all().await;
    let mut observer = Session::open(&url).await;
    let moved = first.front(0).await;
    let ready: i64 = observer.scalar("select count(*) from capture.ready").await;
    let mut left = 0;
    loop {
        match first.claim(500).await.len() {
            0 => break,
            more => left += more,
        }
    }
    assert_eq!(i64::try_from(left).unwrap(), ready, "fronts stood at {moved}");
    first
        .until_the_front_is_behind(i64::try_from(EACH).unwrap(), &mut observer)
        .await;
}

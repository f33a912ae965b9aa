//! Operations: what people do to many captures at once. Frozen, paced, stoppable, and each capture acted on once.

use std::collections::BTreeMap;
use std::time::Duration;

use capture::filter::Filter;
use capture::operations::{self, AbilitiesByLane, Act, Choice, ListDigest, OperationError, Request, preview, run_due};
use capture::outbox::{AuditStamp, Changed, Outbox};
use capture::retry::Disposition;
use uuid::Uuid;

use crate::by_hand::{Ask, claim};
use crate::database::{Session, connect};
use crate::kind::Kind;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
pub const REPLAY: Act = Act::Replay { also_resolved: false };

pub fn stamp(actor: &str) -> AuditStamp {
    AuditStamp {
        actor: actor.to_owned(),
        reason: "the provider is back".to_owned(),
    }
}

pub fn request(actor: &str, act: Act, choice: Choice) -> Request {
    Request {
        act,
        choice,
        all: true,
        digest: None,
        key: None,
        stamp: stamp(actor),
        rate_per_second: 10_000,
        stop_at_percent: 20,
    }
}

fn filter(pairs: &[(&str, &str)]) -> Filter {
    Filter::from_pairs(pairs.iter().copied(), chrono::Utc::now()).unwrap()
}

fn everything() -> Choice {
    Choice::Filter(Filter::default())
}

pub fn abilities(world: &World) -> AbilitiesByLane {
    let of = |kind: Kind| (kind.lane(), kind.adapter(&world.simulator).abilities());
    Kind::ALL.into_iter().map(of).collect()
}

/// So many dead letters of Afterpay, never in doubt, by hand; the ids in their order.
pub async fn letters(db: &mut Session, from: u32, to: u32) -> Vec<Uuid> {
    db.run(&format!(
        "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
         select 'afterpay', 'o-' || n, (20010000 + n)::text, 'c1', 1000, 'USD' from generate_series({from}, {to}) n"
    ))
    .await;
    bury(db, "ready", "purpose = 0").await;
    db.column(&format!(
        "select id from capture.intents where order_id = any (array(select 'o-' || n from generate_series({from}, {to}) n)) order by id"
    ))
    .await
}

/// What is there dies.
async fn bury(db: &mut Session, place: &str, which: &str) {
    db.run(&format!(
        "with gone as (delete from capture.{place} where {which} returning *)
         insert into capture.outcomes (intent, lane, state, fence, attempts, ended_at, dead_reason, last_class, last_code, created_at, amount_minor, currency)
         select intent, gone.lane, 'dead', fence, 0, capture.clock_now(), 'exhausted', 'transient', 'http_500', i.created_at, i.amount_minor, i.currency
             from gone join capture.intents i on i.id = intent"
    ))
    .await;
}

async fn states(db: &mut Session) -> BTreeMap<String, i64> {
    let rows = db.rows("select state, count(*) from capture.status group by 1").await;
    rows.iter()
        .map(|row| (sqlx::Row::get(row, 0), sqlx::Row::get(row, 1)))
        .collect()
}

/// Rounds until the operation acts no more.
async fn run_to_its_end(outbox: &Outbox, abilities: &AbilitiesByLane, id: Uuid) {
    for _ in 0..10_000 {
        run_due(outbox, abilities).await.unwrap();
        if outbox.operation(id).await.unwrap().unwrap().is_over() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it does not end: {:?}", outbox.operation(id).await);
}

async fn verdicts(outbox: &Outbox, id: Uuid) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for item in outbox.operation_items(id, 0, 100_000, false).await.unwrap() {
        *found
            .entry(item.verdict.unwrap_or_else(|| "none".to_owned()))
            .or_default() += 1;
    }
    found
}

fn counts<const N: usize>(counts: [(&str, i64); N]) -> BTreeMap<String, i64> {
    counts
        .into_iter()
        .map(|(word, count)| (word.to_owned(), count))
        .collect()
}

#[tokio::test]
async fn a_preview_counts_sums_and_explains_and_changes_nothing() {
    let mut world = World::new().await;
    let ids = letters(&mut world.db, 1, 6).await;
    // One whose authorisation is over, one that a person closed, one in doubt with nothing left, one with too little left.
    world
        .db
        .run(&format!(
            "alter table capture.intents disable trigger user;
             update capture.intents set authorization_expires_at = now() - interval '1 hour', created_at = now() - interval '2 hours' where id = '{}';
             update capture.intents set authorized_minor = 1500 where id = '{}';
             alter table capture.intents enable trigger user",
            ids[0], ids[3]
        ))
        .await;
    let tess = stamp("tess");
    world.outbox.resolve(ids[1], false, "dashboard 7", &tess).await.unwrap();
    let sibling = world.insert(Kind::Afterpay, "20010004", "c2", 500, "").await;
    world
        .db
        .run(&format!(
            "with gone as (delete from capture.ready where intent = '{sibling}' returning *)
             insert into capture.outcomes (intent, lane, state, fence, attempts, ended_at, captured_minor, provider_capture_id, proof)
             select intent, lane, 'captured', 1, 1, capture.clock_now(), 600, 'x', 'answer' from gone"
        ))
        .await;
    let ready = world.capture(Kind::Afterpay, 9, 700).await;
    let look = "select (select count(*) from capture.operations) || ' ' || (select count(*) from capture.audit) || ' '
                    || (select count(*) from capture.events) || ' ' || (select string_agg(o::text, ',' order by o.intent) from capture.outcomes o)";
    let before: String = world.db.scalar(look).await;

    let abilities = abilities(&world);
    let by_filter = preview(&world.outbox, &abilities, &REPLAY, &everything(), true, 2)
        .await
        .unwrap();
    assert_eq!((by_filter.matching, by_filter.will_act, by_filter.seconds), (6, 3, 2));
    assert_eq!(
        (by_filter.sums[0].amount_minor, by_filter.sums[0].currency.as_str()),
        (3000, "USD")
    );
    assert_eq!(
        by_filter.by_class,
        [(Some("transient".to_owned()), 3, by_filter.sums.clone())]
    );
    assert_eq!(by_filter.will.len(), 1);
    assert_eq!(by_filter.will[0].safe, Some(true));
    let mut reasons: Vec<&str> = by_filter.skipped.iter().map(|group| group.says.as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            "a person resolved it as not captured",
            "not safe: the authorisation has ended, so it would only be refused",
            "not safe: too little is left of the authorisation, so it would be refused",
        ]
    );
    assert!(
        by_filter
            .skipped
            .iter()
            .all(|group| group.safe == Some(false) && group.captures == 1)
    );
    assert_eq!(by_filter.sample.len(), 6);

    let named = Choice::Ids(vec![ids[2], ready, ids[2], Uuid::new_v4()]);
    let named = preview(&world.outbox, &abilities, &REPLAY, &named, false, 50)
        .await
        .unwrap();
    assert_eq!((named.matching, named.will_act), (3, 1));
    let reasons: Vec<&str> = named.skipped.iter().map(|group| group.says.as_str()).collect();
    assert_eq!(reasons, ["it is ready, not dead", "there is no such capture"]);

    let cancel = preview(&world.outbox, &abilities, &Act::Cancel, &everything(), true, 50)
        .await
        .unwrap();
    assert_eq!((cancel.matching, cancel.will_act), (1, 1));
    assert_eq!(world.db.scalar::<String>(look).await, before);
}

#[tokio::test]
async fn the_safety_of_a_letter_says_key_age_window_deadline_what_is_left_and_what_to_do() {
    let mut world = World::new().await;
    let id = letters(&mut world.db, 1, 1).await[0];
    world
        .db
        .run(&format!(
            "insert into capture.progress (intent, tainted, first_sent_at) values ('{id}', true, capture.clock_now() - interval '5 minutes');
             update capture.outcomes set dead_reason = 'undecided';
             alter table capture.intents disable trigger user;
             update capture.intents set authorized_minor = 4000, authorization_expires_at = capture.clock_now() + interval '2 hours';
             alter table capture.intents enable trigger user"
        ))
        .await;
    let safety = operations::safety(&world.outbox, &abilities(&world), id)
        .await
        .unwrap()
        .unwrap();
    assert!(
        safety.safe && safety.says.starts_with("safe: a read goes first, then the same key"),
        "{safety:?}"
    );
    assert!((300..330).contains(&safety.key_age_seconds.unwrap()), "{safety:?}");
    assert!(safety.key_window_seconds.unwrap() > 300);
    assert!(
        (7100..=7200).contains(&safety.seconds_to_deadline.unwrap()),
        "{safety:?}"
    );
    assert_eq!((safety.left_minor, safety.key_generation), (Some(4000), 0));
    assert_eq!(safety.key.as_deref().map(str::len), Some(36));
    assert!(
        safety.next_act.starts_with("replay it, it reads first; or"),
        "{safety:?}"
    );
    world.pass(3 * HOUR).await;
    let safety = operations::safety(&world.outbox, &abilities(&world), id)
        .await
        .unwrap()
        .unwrap();
    assert!(
        safety
            .says
            .contains("but nothing is sent any more: the authorisation ended at"),
        "{safety:?}"
    );
    assert!(safety.seconds_to_deadline.unwrap() < 0);
    assert!(
        operations::safety(&world.outbox, &abilities(&world), Uuid::new_v4())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn what_dies_after_the_list_was_frozen_is_left_alone() {
    let mut world = World::new().await;
    letters(&mut world.db, 1, 3).await;
    let ready = world.capture(Kind::Afterpay, 9, 700).await;
    let by_filter = operations::begin(&world.outbox, request("ada", REPLAY, everything()))
        .await
        .unwrap();
    let named = request("ada", REPLAY, Choice::Ids(vec![ready, Uuid::new_v4()]));
    let named = operations::begin(&world.outbox, named).await.unwrap();
    bury(&mut world.db, "ready", "true").await;
    let abilities = abilities(&world);
    run_to_its_end(&world.outbox, &abilities, by_filter).await;
    run_to_its_end(&world.outbox, &abilities, named).await;
    assert_eq!(verdicts(&world.outbox, by_filter).await, counts([("replayed", 3)]));
    assert_eq!(verdicts(&world.outbox, named).await, counts([("skipped", 2)]));
    assert_eq!(world.state(ready).await, "dead");
    let items = world.outbox.operation_items(named, 0, 10, true).await.unwrap();
    assert!(
        items[0]
            .says
            .as_deref()
            .unwrap()
            .starts_with("it died after the list was frozen"),
        "{items:?}"
    );
    assert_eq!(items[1].says.as_deref(), Some("there is no such capture"));
    // Those go behind every fresh capture.
    let urgency: Vec<i16> = world.db.column("select distinct urgency from capture.waiting").await;
    assert_eq!(urgency, [32767]);
}

#[tokio::test]
async fn those_that_expire_first_go_first_and_a_limit_takes_the_newest() {
    let mut world = World::new().await;
    let ids = letters(&mut world.db, 1, 4).await;
    world
        .db
        .run(&format!(
            "alter table capture.intents disable trigger user;
             update capture.intents set authorization_expires_at = now() + interval '9 days' where id = '{}';
             update capture.intents set authorization_expires_at = now() + interval '2 days' where id = '{}';
             alter table capture.intents enable trigger user",
            ids[2], ids[3]
        ))
        .await;
    let three = request(
        "ada",
        REPLAY,
        Choice::Filter(filter(&[("provider", "afterpay"), ("limit", "3")])),
    );
    let id = operations::begin(&world.outbox, three).await.unwrap();
    let items = world.outbox.operation_items(id, 0, 10, false).await.unwrap();
    let order: Vec<Uuid> = items.iter().map(|item| item.intent).collect();
    assert_eq!(order, [ids[3], ids[2], ids[1]]);
    let row = world.outbox.operation(id).await.unwrap().unwrap();
    assert_eq!(row.filter.unwrap()["provider"], "afterpay");
    assert_eq!(
        (row.total, row.state.as_str(), row.seconds_left),
        (3, "running", Some(1))
    );
}

#[tokio::test]
async fn of_two_operators_on_overlapping_lists_each_capture_is_acted_on_once_and_the_other_learns_by_whom_and_when() {
    let mut world = World::new().await;
    let ids = letters(&mut world.db, 1, 300).await;
    let ada = request("ada", REPLAY, Choice::Ids(ids[..200].to_vec()));
    let ada = operations::begin(&world.outbox, ada).await.unwrap();
    let mut reversed = ids[100..].to_vec();
    reversed.reverse();
    let bob = request("bob", REPLAY, Choice::Ids(reversed));
    let bob = operations::begin(&world.outbox, bob).await.unwrap();
    let other = connect(&world.url).await;
    let abilities = abilities(&world);
    let drive = async |outbox: &Outbox, first: Uuid, then: Uuid| {
        for id in [first, then] {
            for _ in 0..1000 {
                let strangers = operations::Strangers::Leave;
                if operations::drive(outbox, &abilities, id, strangers)
                    .await
                    .unwrap()
                    .is_none()
                {
                    break;
                }
            }
        }
    };
    tokio::join!(drive(&world.outbox, ada, bob), drive(&other, bob, ada));
    let (a, b) = (verdicts(&world.outbox, ada).await, verdicts(&world.outbox, bob).await);
    let of = |verdicts: &BTreeMap<String, i64>, word: &str| verdicts.get(word).copied().unwrap_or(0);
    assert_eq!(of(&a, "replayed") + of(&b, "replayed"), 300, "{a:?} {b:?}");
    assert_eq!(
        of(&a, "moved_meanwhile") + of(&b, "moved_meanwhile"),
        100,
        "{a:?} {b:?}"
    );
    let twice: i64 = world
        .db
        .scalar("select count(*) from (select from capture.audit where action = 'replay' group by intent having count(*) > 1) x")
        .await;
    assert_eq!(twice, 0);
    for (id, other) in [(ada, "bob"), (bob, "ada")] {
        for item in world.outbox.operation_items(id, 0, 1000, true).await.unwrap() {
            let says = item.says.unwrap();
            assert!(says.starts_with(&format!("{other} replayed it at 20")), "{says}");
            assert!(says.ends_with("Z (the provider is back)"), "{says}");
        }
    }
    assert_eq!(states(&mut world.db).await, counts([("verifying", 300)]));
    assert_eq!(world.outbox.verify_audit(None).await.unwrap().fault, None);
}

#[tokio::test]
async fn an_operation_pauses_resumes_and_is_cancelled_and_the_rest_is_told_as_not_done() {
    let mut world = World::new().await;
    letters(&mut world.db, 1, 100).await;
    let slow = Request {
        rate_per_second: 20,
        ..request("ada", REPLAY, everything())
    };
    let id = operations::begin(&world.outbox, slow).await.unwrap();
    let abilities = abilities(&world);
    let done = async |world: &World| {
        run_due(&world.outbox, &abilities).await.unwrap();
        world.outbox.operation(id).await.unwrap().unwrap().done
    };
    assert!(done(&world).await >= 20);
    let paused = world.outbox.pause_operation(id, &stamp("bob")).await.unwrap();
    assert_eq!(paused, Changed::Changed);
    let again = world.outbox.pause_operation(id, &stamp("bob")).await.unwrap();
    assert_eq!(again, Changed::Forbidden("paused".to_owned()));
    let before = world.outbox.operation(id).await.unwrap().unwrap();
    assert_eq!(before.last_word.as_deref(), Some("paused by bob: the provider is back"));
    world.pass(HOUR).await;
    assert_eq!(done(&world).await, before.done);
    world.outbox.resume_operation(id, &stamp("bob")).await.unwrap();
    let after = done(&world).await;
    assert!(after >= before.done + 20, "an hour's rest is worth one second: {after}");
    assert!(after <= before.done + 60, "an hour's rest is worth one second: {after}");
    assert_eq!(
        world.outbox.cancel_operation(id, &stamp("bob")).await.unwrap(),
        Changed::Changed
    );
    world.pass(HOUR).await;
    let end = done(&world).await;
    let row = world.outbox.operation(id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.done, row.is_over()), ("cancelled", end, true));
    let left = verdicts(&world.outbox, id).await["none"];
    assert_eq!((left, row.not_done()), (100 - end, 100 - end));
    let forbidden = world.outbox.resume_operation(id, &stamp("bob")).await.unwrap();
    assert_eq!(forbidden, Changed::Forbidden("cancelled".to_owned()));
    assert_eq!(
        world
            .outbox
            .cancel_operation(Uuid::new_v4(), &stamp("bob"))
            .await
            .unwrap(),
        Changed::NotFound
    );
    let acts: Vec<String> = world
        .db
        .column("select actor || ' ' || action from capture.audit where action like 'operation%' order by id")
        .await;
    assert_eq!(
        acts,
        [
            "ada operation begin",
            "bob operation pause",
            "bob operation resume",
            "bob operation cancel"
        ]
    );
}

/// What a round lets go runs at once, and what the shop sells meanwhile stands behind it.
#[tokio::test]
async fn a_driver_lets_few_go_at_once_and_comes_back_less_often_when_the_rate_is_spent() {
    let mut world = World::new().await;
    letters(&mut world.db, 1, 500).await;
    let wanted = Request {
        rate_per_second: 200,
        ..request("ada", REPLAY, everything())
    };
    operations::begin(&world.outbox, wanted).await.unwrap();
    let abilities = abilities(&world);
    let ran = run_due(&world.outbox, &abilities).await.unwrap();
    assert!(ran.acted > 0, "{ran:?}");
    assert_eq!(ran.again_in, Some(Duration::from_millis(50)));
    world
        .db
        .run("update capture.operations set spent_until = now() + interval '1 hour'")
        .await;
    let ran = run_due(&world.outbox, &abilities).await.unwrap();
    assert_eq!((ran.acted, ran.again_in), (0, Some(Duration::from_millis(200))));
}

#[tokio::test]
async fn an_operation_stops_itself_when_what_it_replayed_dies_again() {
    let mut world = World::new().await;
    letters(&mut world.db, 1, 100).await;
    let id = Request {
        rate_per_second: 25,
        ..request("ada", REPLAY, everything())
    };
    let id = operations::begin(&world.outbox, id).await.unwrap();
    let abilities = abilities(&world);
    run_due(&world.outbox, &abilities).await.unwrap();
    // Nineteen that died again are too few to judge by.
    bury(
        &mut world.db,
        "waiting",
        "intent in (select intent from capture.waiting limit 19)",
    )
    .await;
    world.pass(SECOND).await;
    run_due(&world.outbox, &abilities).await.unwrap();
    let row = world.outbox.operation(id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.ended, row.dead_again), ("running", 19, 19));
    bury(
        &mut world.db,
        "waiting",
        "intent in (select intent from capture.waiting limit 1)",
    )
    .await;
    world.pass(SECOND).await;
    run_due(&world.outbox, &abilities).await.unwrap();
    let stopped = world.outbox.operation(id).await.unwrap().unwrap();
    assert_eq!((stopped.state.as_str(), stopped.done), ("stopped", row.done));
    assert_eq!(
        stopped.last_word.as_deref(),
        Some("stopped: of 20 replayed captures that have ended, 20 are dead again, and 0 were refused: more than 20 %")
    );
    world.pass(HOUR).await;
    run_due(&world.outbox, &abilities).await.unwrap();
    assert_eq!(world.outbox.operation(id).await.unwrap().unwrap().done, row.done);
    let why: String = world
        .db
        .scalar("select actor || ': ' || reason from capture.audit where action = 'operation stop'")
        .await;
    assert!(why.starts_with("capture: stopped: of 20"), "{why}");
}

#[tokio::test]
async fn an_operation_keeps_its_rate_by_the_databases_clock() {
    let mut world = World::new().await;
    letters(&mut world.db, 1, 200).await;
    let began = world.outbox.now().await.unwrap();
    let id = Request {
        rate_per_second: 5,
        ..request("ada", REPLAY, everything())
    };
    let id = operations::begin(&world.outbox, id).await.unwrap();
    let abilities = abilities(&world);
    let mut jumped = 0;
    for seconds in [0, 0, 1, 1, 60, 3600, 0] {
        world.pass(Duration::from_secs(seconds)).await;
        jumped += seconds;
        let before = world.outbox.operation(id).await.unwrap().unwrap().done;
        run_due(&world.outbox, &abilities).await.unwrap();
        let after = world.outbox.operation(id).await.unwrap().unwrap().done;
        if seconds > 0 {
            assert!(
                after - before >= 5,
                "a second's worth after {seconds} s: {before} to {after}"
            );
        }
    }
    // Whatever the pauses, no more than the rate, and one second's worth at once: 1 + 1 + 1 + 1 + 1 seconds, and those
    // that this test took.
    let took = (world.outbox.now().await.unwrap() - began).num_milliseconds() - jumped as i64 * 1000;
    let done = world.outbox.operation(id).await.unwrap().unwrap().done;
    assert!(done * 1000 <= 5 * (5 * 1000 + took), "{done} in {took} ms");
}

#[tokio::test]
async fn one_that_is_refused_in_an_unexpected_way_keeps_no_other_from_its_turn() {
    let mut world = World::new().await;
    let ids = letters(&mut world.db, 1, 10).await;
    world
        .db
        .run(&format!(
            "create function capture.trouble() returns trigger language plpgsql as
                 $$ begin if new.intent = '{}' then raise exception 'no room on this disk'; end if; return new; end $$;
             create trigger trouble before insert on capture.waiting for each row execute function capture.trouble()",
            ids[4]
        ))
        .await;
    let id = operations::begin(&world.outbox, request("ada", REPLAY, everything()))
        .await
        .unwrap();
    run_to_its_end(&world.outbox, &abilities(&world), id).await;
    assert_eq!(
        verdicts(&world.outbox, id).await,
        counts([("failed", 1), ("replayed", 9)])
    );
    let row = world.outbox.operation(id).await.unwrap().unwrap();
    assert_eq!((row.done, row.failed, row.state.as_str()), (9, 1, "done"));
    assert!(row.last_word.unwrap().contains("no room on this disk"));
    assert_eq!(world.state(ids[4]).await, "dead");
}

/// Moving this letter fails as on a full disk, until the trigger is dropped.
async fn full_disk(db: &mut Session, letter: Uuid) {
    db.run(&format!(
        "create function capture.trouble() returns trigger language plpgsql as
             $$ begin if new.intent = '{letter}' then raise exception 'could not extend file' using errcode = '53100'; end if; return new; end $$;
         create trigger trouble before insert on capture.waiting for each row execute function capture.trouble()"
    ))
    .await;
}

#[tokio::test]
async fn a_trouble_that_passes_puts_a_capture_off_and_is_no_verdict_on_it() {
    let mut world = World::new().await;
    let ids = letters(&mut world.db, 1, 30).await;
    full_disk(&mut world.db, ids[4]).await;
    let strict = Request {
        stop_at_percent: 0,
        ..request("ada", REPLAY, everything())
    };
    let id = operations::begin(&world.outbox, strict).await.unwrap();
    let abilities = abilities(&world);
    for _ in 0..10 {
        run_due(&world.outbox, &abilities).await.unwrap();
    }
    let row = world.outbox.operation(id).await.unwrap().unwrap();
    assert_eq!(
        (row.state.as_str(), row.done, row.failed, row.not_done()),
        ("running", 29, 0, 1)
    );
    let tries: i16 = world.db.scalar("select max(tries) from capture.operation_items").await;
    assert!(
        (1..5).contains(&tries),
        "its next turn comes after a pause, not in each round: {tries}"
    );
    world.db.run("drop trigger trouble on capture.waiting").await;
    world.pass(61 * SECOND).await;
    run_to_its_end(&world.outbox, &abilities, id).await;
    assert_eq!(verdicts(&world.outbox, id).await, counts([("replayed", 30)]));
}

#[tokio::test]
async fn a_trouble_that_does_not_pass_holds_no_operation_for_ever() {
    let mut world = World::new().await;
    let ids = letters(&mut world.db, 1, 2).await;
    full_disk(&mut world.db, ids[1]).await;
    let id = operations::begin(&world.outbox, request("ada", REPLAY, everything()))
        .await
        .unwrap();
    let abilities = abilities(&world);
    // A round may find the operation still held by a step that was just refused: then it does nothing.
    let mut rounds = 0;
    while !world.outbox.operation(id).await.unwrap().unwrap().is_over() {
        assert!(rounds < 50, "it holds the operation for ever");
        rounds += 1;
        run_due(&world.outbox, &abilities).await.unwrap();
        world.pass(61 * SECOND).await;
    }
    assert!(rounds > 12, "given up after {rounds} rounds");
    let row = world.outbox.operation(id).await.unwrap().unwrap();
    assert_eq!(
        (row.state.as_str(), row.done, row.skipped, row.failed),
        ("done", 1, 1, 0)
    );
    let items = world.outbox.operation_items(id, 0, 10, true).await.unwrap();
    let says = items[0].says.as_deref().unwrap();
    assert!(
        says.starts_with("left alone after 12 tries") && says.contains("could not extend file"),
        "{says}"
    );
}

#[tokio::test]
async fn what_dies_again_after_the_list_is_through_is_still_counted() {
    let mut world = World::new().await;
    letters(&mut world.db, 1, 30).await;
    let id = operations::begin(&world.outbox, request("ada", REPLAY, everything()))
        .await
        .unwrap();
    let abilities = abilities(&world);
    run_to_its_end(&world.outbox, &abilities, id).await;
    let row = world.outbox.operation(id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.ended, row.dead_again), ("done", 0, 0));
    bury(
        &mut world.db,
        "waiting",
        "intent in (select intent from capture.waiting limit 10)",
    )
    .await;
    run_due(&world.outbox, &abilities).await.unwrap();
    let row = world.outbox.operation(id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.ended, row.dead_again), ("done", 10, 10));
    // After a week nobody looks any more.
    world.pass(8 * 24 * HOUR).await;
    bury(&mut world.db, "waiting", "true").await;
    run_due(&world.outbox, &abilities).await.unwrap();
    assert_eq!(world.outbox.operation(id).await.unwrap().unwrap().dead_again, 10);
}

#[tokio::test]
async fn what_explains_nothing_or_means_everything_by_a_slip_is_refused() {
    let world = World::new().await;
    let refused = async |request: Request| match operations::begin(&world.outbox, request).await {
        Err(error) => error.code().map(str::to_owned),
        Ok(id) => panic!("begun: {id}"),
    };
    let good = || request("ada", REPLAY, everything());
    let resolve = |evidence: &str| Act::Resolve {
        captured: true,
        evidence: evidence.to_owned(),
    };
    let with_reason = |reason: &str| AuditStamp {
        actor: "ada".to_owned(),
        reason: reason.to_owned(),
    };
    for (request, code) in [
        (Request { all: false, ..good() }, "operations_filter_means_everything"),
        (
            Request {
                stamp: with_reason(" "),
                ..good()
            },
            "operations_say_why",
        ),
        (
            Request {
                stamp: stamp(""),
                ..good()
            },
            "operations_name_who",
        ),
        (
            Request {
                act: resolve(" "),
                ..good()
            },
            "operations_resolve_by_evidence",
        ),
        (
            Request {
                choice: Choice::Ids(Vec::new()),
                ..good()
            },
            "operations_name_captures",
        ),
        (
            Request {
                rate_per_second: 0,
                ..good()
            },
            "operations_rate_plausible",
        ),
        (
            Request {
                stop_at_percent: 101,
                ..good()
            },
            "operations_stop_at_a_percentage",
        ),
        (
            Request {
                act: Act::Replay { also_resolved: true },
                ..good()
            },
            "operations_resolved_by_id",
        ),
        (
            Request {
                choice: Choice::Filter(filter(&[("state", "ready")])),
                ..good()
            },
            "operations_state_acted_on",
        ),
    ] {
        assert_eq!(refused(request).await.as_deref(), Some(code));
    }
    // The database refuses the same under the same names, whoever asks.
    let mut db = Session::open(&world.url).await;
    for (sql, name) in [
        (
            "select capture.begin_operation('replay', '{}', null, '{}', 1, 20::smallint, 'ada', ' ')",
            "operations_say_why",
        ),
        (
            "select capture.begin_operation('replay', '{}', null, '{}', 1, 20::smallint, '', 'x')",
            "operations_name_who",
        ),
        (
            "select capture.begin_operation('refund', '{}', null, '{}', 1, 20::smallint, 'ada', 'x')",
            "operations_act_known",
        ),
        (
            "select capture.begin_operation('resolve', '{}', null, '{}', 1, 20::smallint, 'ada', 'x')",
            "operations_resolve_by_evidence",
        ),
        (
            "select capture.set_operation_state(gen_random_uuid(), 'paused', 'ada', '')",
            "operations_say_why",
        ),
    ] {
        assert_eq!(db.try_run(sql).await.unwrap_err().constraint, name, "{sql}");
    }
    let none = operations::begin(&world.outbox, good()).await.unwrap();
    assert_eq!(world.outbox.operation(none).await.unwrap().unwrap().state, "done");
    let bad = Request { all: false, ..good() };
    assert!(matches!(
        operations::begin(&world.outbox, bad).await,
        Err(OperationError::Everything { .. })
    ));
}

#[tokio::test]
async fn a_cancel_of_many_takes_back_what_it_can_and_tells_the_rest() {
    let mut world = World::new().await;
    let dead = letters(&mut world.db, 1, 1).await[0];
    let mut ids = vec![dead];
    for n in 1..=3 {
        ids.push(world.capture(Kind::Afterpay, n, 1000).await);
    }
    let optty = world.capture(Kind::Optty, 1, 1000).await;
    let claim = world.claim_one(Kind::Optty).await;
    ids.push(optty);
    let ada = operations::begin(&world.outbox, request("ada", Act::Cancel, Choice::Ids(ids.clone())))
        .await
        .unwrap();
    let bob = operations::begin(&world.outbox, request("bob", Act::Cancel, Choice::Ids(ids)))
        .await
        .unwrap();
    run_to_its_end(&world.outbox, &AbilitiesByLane::new(), ada).await;
    run_to_its_end(&world.outbox, &AbilitiesByLane::new(), bob).await;
    assert_eq!(
        verdicts(&world.outbox, ada).await,
        counts([("cancelled", 3), ("in_flight", 1), ("skipped", 1)])
    );
    assert_eq!(
        verdicts(&world.outbox, bob).await,
        counts([("in_flight", 1), ("moved_meanwhile", 3), ("skipped", 1)])
    );
    let items = world.outbox.operation_items(bob, 0, 10, true).await.unwrap();
    assert_eq!(items[0].says.as_deref(), Some("it is dead"));
    assert!(
        items[1].says.as_deref().unwrap().starts_with("ada cancelled it at"),
        "{items:?}"
    );
    let acts: Vec<String> = world
        .db
        .column("select actor || ' ' || (detail ->> 'said') from capture.audit where action = 'cancel' order by id")
        .await;
    assert_eq!(
        acts,
        ["ada cancelled", "ada cancelled", "ada cancelled", "ada in_flight"]
    );
    world.settle(claim, Disposition::Cancelled).await;
    world.books_agree().await;
}

#[tokio::test]
async fn many_are_resolved_by_one_evidence_and_are_closed_to_filters() {
    let mut world = World::new().await;
    let ids = letters(&mut world.db, 1, 4).await;
    let resolve = |captured| Act::Resolve {
        captured,
        evidence: "statement 7".to_owned(),
    };
    let not_captured = request("ada", resolve(false), Choice::Ids(ids[..2].to_vec()));
    let id = operations::begin(&world.outbox, not_captured).await.unwrap();
    run_to_its_end(&world.outbox, &AbilitiesByLane::new(), id).await;
    assert_eq!(world.end(ids[0]).await, "dead: rejected (resolved_not_captured)");
    let looked = preview(
        &world.outbox,
        &AbilitiesByLane::new(),
        &resolve(true),
        &everything(),
        true,
        10,
    )
    .await
    .unwrap();
    let rest = Request {
        digest: Some(looked.digest),
        ..request("bob", resolve(true), everything())
    };
    let rest = operations::begin(&world.outbox, rest).await.unwrap();
    run_to_its_end(&world.outbox, &AbilitiesByLane::new(), rest).await;
    assert_eq!(verdicts(&world.outbox, rest).await, counts([("resolved", 2)]));
    assert_eq!(states(&mut world.db).await, counts([("captured", 2), ("dead", 2)]));
    let replay = operations::begin(&world.outbox, request("bob", REPLAY, Choice::Ids(ids.clone())))
        .await
        .unwrap();
    run_to_its_end(&world.outbox, &abilities(&world), replay).await;
    assert_eq!(verdicts(&world.outbox, replay).await, counts([("skipped", 4)]));
    let says = world.outbox.operation_items(replay, 0, 10, false).await.unwrap();
    assert!(
        says[0]
            .says
            .as_deref()
            .unwrap()
            .starts_with("ada resolved it as not-captured at 20"),
        "{says:?}"
    );
    assert!(
        says[3]
            .says
            .as_deref()
            .unwrap()
            .starts_with("it is captured, not dead: bob resolved it as captured"),
        "{says:?}"
    );
}

#[tokio::test]
async fn what_came_to_match_after_the_preview_is_not_acted_on() {
    let mut world = World::new().await;
    letters(&mut world.db, 1, 3).await;
    let none = AbilitiesByLane::new();
    let settle = Act::Resolve {
        captured: true,
        evidence: "statement 7".to_owned(),
    };
    let begin = async |digest: Option<ListDigest>| {
        let request = Request {
            digest,
            ..request("ada", settle.clone(), everything())
        };
        operations::begin(&world.outbox, request).await
    };
    let looked = preview(&world.outbox, &none, &settle, &everything(), true, 10)
        .await
        .unwrap();
    assert_eq!(
        (looked.will_act, looked.digest.text().split('-').next()),
        (3, Some("3"))
    );
    letters(&mut world.db, 4, 4).await;
    let refused = begin(Some(looked.digest.clone())).await.unwrap_err();
    assert!(matches!(refused, OperationError::ListMoved { now: 4 }), "{refused}");
    let refused = begin(None).await.unwrap_err();
    assert_eq!(refused.code(), Some("operations_resolve_previewed"));
    let begun: i64 = world.db.scalar("select count(*) from capture.operations").await;
    assert_eq!(begun, 0);
    let again = preview(&world.outbox, &none, &settle, &everything(), true, 10)
        .await
        .unwrap();
    assert_ne!(again.digest, looked.digest);
    let id = begin(Some(again.digest)).await.unwrap();
    run_to_its_end(&world.outbox, &none, id).await;
    assert_eq!(verdicts(&world.outbox, id).await, counts([("resolved", 4)]));
}

#[tokio::test]
async fn captures_of_an_account_that_a_driver_lacks_are_left_to_one_that_has_it() {
    let mut world = World::new().await;
    letters(&mut world.db, 1, 2).await;
    world.capture(Kind::Optty, 1, 1000).await;
    bury(&mut world.db, "ready", "true").await;
    let id = operations::begin(&world.outbox, request("ada", REPLAY, everything()))
        .await
        .unwrap();
    let mut some = abilities(&world);
    some.remove(&Kind::Optty.lane());
    for _ in 0..3 {
        run_due(&world.outbox, &some).await.unwrap();
    }
    assert_eq!(
        verdicts(&world.outbox, id).await,
        counts([("none", 1), ("replayed", 2)])
    );
    run_to_its_end(&world.outbox, &abilities(&world), id).await;
    assert_eq!(verdicts(&world.outbox, id).await, counts([("replayed", 3)]));
}

#[tokio::test]
async fn a_fresh_capture_whose_outcome_is_unknown_is_verified_before_all_that_an_operation_replays() {
    let mut world = World::new().await;
    letters(&mut world.db, 1, 20).await;
    let id = operations::begin(&world.outbox, request("ada", REPLAY, everything()))
        .await
        .unwrap();
    run_to_its_end(&world.outbox, &abilities(&world), id).await;
    world.outbox.move_due(1000).await.unwrap();
    let fresh = world.capture(Kind::Afterpay, 1, 1000).await;
    // The one free slot goes to the first send.
    let mut claims = claim(&world.outbox, &Ask::of(Kind::Afterpay).free(1)).await;
    assert_eq!(claims[0].intent.id.0, fresh);
    let claim = claims.remove(0);
    world
        .settle(claim, Disposition::Verify(capture::retry::Wait::None))
        .await;
    world.outbox.move_due(1000).await.unwrap();
    let first: Uuid = world
        .db
        .scalar("select intent from capture.ready order by lane, purpose, alone, urgency, seq limit 1")
        .await;
    assert_eq!(first, fresh);
}

#[tokio::test]
async fn a_producer_never_waits_for_the_audit() {
    let mut world = World::new().await;
    let id = world.capture(Kind::Afterpay, 1, 1000).await;
    let mut holder = Session::open(&world.url).await;
    holder
        .run("begin; select from capture.audit_head for update; insert into capture.audit (at, actor, action, reason) values (now(), 'a', 'b', 'c')")
        .await;
    world.db.run("set lock_timeout = '1s'").await;
    world.insert(Kind::Afterpay, "1001", "c1", 1000, "").await;
    let said: String = world
        .db
        .scalar(&format!("select capture.cancel('{id}', 'changed her mind')"))
        .await;
    assert_eq!(said, "cancelled");
    let refused = world
        .db
        .try_run("select capture.set_lane_pause(1, true, 'ada', 'x')")
        .await
        .unwrap_err();
    assert_eq!(refused.sqlstate, "55P03", "an operator does wait");
    holder.run("rollback").await;
}

#[tokio::test]
async fn workers_carry_operations_on() {
    let mut world = World::new().await;
    letters(&mut world.db, 1, 30).await;
    let id = operations::begin(&world.outbox, request("ada", REPLAY, everything()))
        .await
        .unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let until_done = async {
        loop {
            if world.outbox.operation(id).await.unwrap().unwrap().is_over() {
                shutdown.cancel();
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let ran = async { tokio::join!(world.worker.run(shutdown.clone()), until_done) };
    // Many times what it takes on a busy machine: a worker that carries nothing on fails here instead of standing still.
    let ran = tokio::time::timeout(Duration::from_secs(120), ran).await;
    assert!(
        ran.is_ok(),
        "no worker carried it on: {:?}",
        world.outbox.operation(id).await
    );
    assert_eq!(verdicts(&world.outbox, id).await, counts([("replayed", 30)]));
}

//! The audit's chain: whoever changes what stands in it is found out, and told where.

use capture::outbox::AuditVerdict;

use crate::database::Session;
use crate::kind::Kind;
use crate::operations::{abilities, letters, request, stamp};
use crate::world::World;

/// Seven rows of all kinds.
async fn chained() -> World {
    let mut world = World::new().await;
    let ids = letters(&mut world.db, 1, 3).await;
    let lane = world.outbox.lanes().await.unwrap()[0].id;
    world.outbox.set_lane_pause(lane, true, &stamp("ada")).await.unwrap();
    world.outbox.set_lane_pause(lane, false, &stamp("ada")).await.unwrap();
    world
        .outbox
        .resolve(ids[0], true, "dashboard 7", &stamp("bob"))
        .await
        .unwrap();
    let replay = request(
        "ada",
        crate::operations::REPLAY,
        capture::operations::Choice::Ids(ids[1..].to_vec()),
    );
    let id = capture::operations::begin(&world.outbox, replay).await.unwrap();
    capture::operations::run_due(&world.outbox, &abilities(&world))
        .await
        .unwrap();
    assert!(world.outbox.operation(id).await.unwrap().unwrap().is_over());
    world
}

async fn fault(world: &World) -> Option<(Option<i64>, String)> {
    let verdict = world.outbox.verify_audit(None).await.unwrap();
    let in_pages = world.outbox.verify_audit_in_pages(None, 2).await.unwrap();
    assert_eq!(verdict, in_pages, "whatever the page");
    verdict.fault.map(|fault| (fault.row, fault.says))
}

/// As somebody who owns the database.
async fn tamper(db: &mut Session, sql: &str) {
    db.run(&format!(
        "alter table capture.audit disable trigger user; {sql}; alter table capture.audit enable trigger user"
    ))
    .await;
}

#[tokio::test]
async fn every_act_is_a_link_and_the_numbers_have_no_gaps() {
    let mut world = chained().await;
    // One that was taken back leaves no gap; what an inserter passes for number and hash counts for nothing.
    world
        .db
        .run(
            "begin; insert into capture.audit (at, actor, action, reason) values (now(), 'eve', 'x', 'y'); rollback;
             insert into capture.audit (id, at, actor, action, reason, hash, previous) values (99, now(), 'eve', 'x', 'y', '\\x00', '\\x00')",
        )
        .await;
    assert_eq!(fault(&world).await, None);
    let ids: Vec<i64> = world.db.column("select id from capture.audit order by id").await;
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 8]);
    let rows = world.outbox.audit(None, 3, None, None).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [8, 7, 6]);
    assert_eq!(rows[1].action, "operation end");
    let older = world.outbox.audit(Some(6), 100, None, None).await.unwrap();
    assert_eq!(older.len(), 5);
    let of_operation = world.outbox.audit(None, 100, None, rows[1].operation).await.unwrap();
    assert_eq!(of_operation.len(), 4);
    let of_capture = world.outbox.audit(None, 100, rows[2].intent, None).await.unwrap();
    assert_eq!(of_capture.len(), 1);
    assert_eq!(of_capture[0].action, "replay");
}

#[tokio::test]
async fn an_altered_row_is_named_whichever_column_it_was() {
    for change in [
        "reason = 'nothing to see'",
        "actor = 'eve'",
        "action = 'lane pause'",
        "at = at + interval '1 microsecond'",
        "intent = gen_random_uuid()",
        "intent = null",
        "lane = 2",
        "operation = gen_random_uuid()",
        "detail = detail || '{\"evidence\": \"other\"}'",
        "previous = '\\x00'",
        "hash = '\\x00'",
    ] {
        let mut world = chained().await;
        tamper(
            &mut world.db,
            &format!("update capture.audit set {change} where id = 3"),
        )
        .await;
        let (row, says) = fault(&world).await.unwrap();
        assert_eq!(row, Some(3), "{change}: {says}");
        assert!(says.contains("was altered"), "{change}: {says}");
    }
}

#[tokio::test]
async fn a_removed_an_inserted_and_a_replaced_row_and_a_cut_tail_are_each_named() {
    let rehash = "update capture.audit a set hash = capture.audit_hash(a, a.previous) where id";
    for (sql, row, says) in [
        ("delete from capture.audit where id = 4".to_owned(), 4, "was removed"),
        ("delete from capture.audit where id = 1".to_owned(), 1, "was removed"),
        ("delete from capture.audit where id >= 6".to_owned(), 6, "and what followed it were removed"),
        ("delete from capture.audit".to_owned(), 1, "and what followed it were removed"),
        (
            "insert into capture.audit (id, at, actor, action, reason, previous, hash)
             select 8, now(), 'eve', 'x', 'y', hash, hash from capture.audit where id = 7; ".to_owned() + rehash + " = 8",
            8,
            "was inserted",
        ),
        (
            "insert into capture.audit (id, at, actor, action, reason, previous, hash) values (0, now(), 'eve', 'x', 'y', '', '')".to_owned(),
            0,
            "was inserted",
        ),
        // Renumbered to make room: the first that has another number is another row.
        (
            "update capture.audit set id = id + 100 where id >= 4; update capture.audit set id = id - 99 where id >= 100;
             insert into capture.audit (id, at, actor, action, reason, previous, hash)
             select 4, now(), 'eve', 'x', 'y', hash, hash from capture.audit where id = 3; ".to_owned() + rehash + " = 4",
            5,
            "was altered",
        ),
        // With a hash of its own that is right: the next row stands on the old one.
        ("update capture.audit set reason = 'other' where id = 4; ".to_owned() + rehash + " = 4", 4, "was replaced"),
        ("update capture.audit set reason = 'other' where id = 7; ".to_owned() + rehash + " = 7", 7, "was replaced"),
    ] {
        let mut world = chained().await;
        tamper(&mut world.db, &sql).await;
        let (at, told) = fault(&world).await.unwrap();
        assert_eq!(at, Some(row), "{sql}: {told}");
        assert!(told.contains(says), "{sql}: {told}");
    }
}

#[tokio::test]
async fn a_head_kept_elsewhere_tells_of_a_chain_that_was_rewritten_whole() {
    let mut world = chained().await;
    let AuditVerdict { head, rows, .. } = world.outbox.verify_audit(None).await.unwrap();
    assert_eq!((rows, head.len()), (7, 64));
    world
        .outbox
        .set_lane_pause(world.outbox.lanes().await.unwrap()[0].id, true, &stamp("ada"))
        .await
        .unwrap();
    let later = world.outbox.verify_audit(Some(&head.to_uppercase())).await.unwrap();
    assert_eq!((later.fault, later.expected, later.rows), (None, Some(7), 8));
    // Whoever may do all reckons it all anew, head and tail: by itself it is whole.
    tamper(
        &mut world.db,
        "update capture.audit set reason = 'nothing' where id = 2;
         do $$ declare v bytea := ''; n bigint; begin
             for n in 1..8 loop
                 update capture.audit set previous = v where id = n;
                 update capture.audit a set hash = capture.audit_hash(a, v) where id = n returning hash into v;
             end loop;
             update capture.audit_head set hash = v;
         end $$",
    )
    .await;
    assert_eq!(fault(&world).await, None);
    let told = world.outbox.verify_audit(Some(&head)).await.unwrap();
    let fault = told.fault.unwrap();
    assert_eq!(fault.row, None);
    assert!(fault.says.contains("was rewritten"), "{}", fault.says);
}

#[tokio::test]
async fn an_empty_chain_is_whole() {
    let world = World::new().await;
    let verdict = world.outbox.verify_audit(None).await.unwrap();
    assert_eq!((verdict.rows, verdict.head.as_str(), verdict.fault), (0, "", None));
}

/// Whoever waits for the head of the audit must hold no lane: a claim would wait behind them.
#[tokio::test]
async fn acts_on_a_lane_wait_for_the_audit_before_they_hold_the_lane() {
    let mut world = World::new().await;
    world.capture(Kind::Afterpay, 1, 1000).await;
    for act in [
        "set_lane_rate(1, 60, 'ada', 'x')",
        "test_lane(1, 'ada', 'x')",
        "set_lane_pause(1, true, 'ada', 'x')",
    ] {
        let mut holder = Session::open(&world.url).await;
        holder.run("begin; select from capture.audit_head for update").await;
        let mut waiting = Session::open(&world.url).await;
        let pid: i32 = waiting.scalar("select pg_backend_pid()").await;
        let acting = tokio::spawn(async move { waiting.run(&format!("select capture.{act}")).await });
        let waits = format!("select exists (select from pg_locks where pid = {pid} and not granted)");
        while !world.db.scalar::<bool>(&waits).await {
            tokio::task::yield_now().await;
        }
        world
            .db
            .run("begin; select from capture.lanes where id = 1 for update nowait; rollback")
            .await;
        holder.run("rollback").await;
        acting.await.unwrap();
    }
}

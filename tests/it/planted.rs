//! Planted bugs of the SQL functions; those of the program are in `src/planted.rs`. `CAPTURE_BUG` names the one to plant.

use super::Session;

/// Name, function, what is replaced (it must stand there exactly once), and by what.
const BUGS: [(&str, &str, &str, &str); 23] = [
    (
        "settled_twice",
        "settle_each",
        "and get_bit(l.settled, r.slot) = 0, false)",
        ", false)",
    ),
    (
        "rescue_as_retry",
        "rescue",
        "select o.intent, o.lane, 2, urgency_of",
        "select o.intent, o.lane, 1, urgency_of",
    ),
    (
        "rescue_without_quarantine",
        "rescue",
        "greatest(o.until, v_now), v_now, 1,",
        "o.claimed_at, v_now, 1,",
    ),
    (
        "late_results_dropped",
        "settle_each",
        "decode(i.attempt ->> 'evidence', 'hex'), v_now\n        from input i where i.settled = 'lease_lost'",
        "decode(i.attempt ->> 'evidence', 'hex'), v_now\n        from input i where false",
    ),
    (
        "late_receipt_missed_by_a_verdict",
        "settle_each",
        "where l.intent = i.intent and l.proof in ('answer', 'reference')",
        "where false",
    ),
    (
        "siblings_at_once",
        "claim",
        "(k.purpose < 2 or k.replayed) and (",
        "false and (",
    ),
    (
        "each_sibling_reads_them_all",
        "claim",
        "where not j.blocked",
        "where true",
    ),
    ("epoch_not_compared", "claim", "c.epoch <> v_epoch", "false"),
    (
        "asked_again_taken_for_new",
        "claim",
        "or coalesce(i.created_at < v_doubt and coalesce(p.lost_leases > 0, true), false)",
        "",
    ),
    (
        "asked_again_cancelled_unread",
        "cancel_one",
        "v_may_be_sent := exists (",
        "v_may_be_sent := false and exists (",
    ),
    (
        "rate_budget_ignored",
        "claim",
        "and (k.calls_left is null or k.calls <= k.calls_left)",
        "",
    ),
    (
        "front_before_it_is_decided",
        "claim",
        "pg_snapshot_xmin(v_running) >= f.bound and",
        "",
    ),
    (
        "front_bound_by_an_ended_transaction",
        "claim",
        "when n.is_bound then pg_current_xact_id()",
        "when n.is_bound then pg_snapshot_xmax(pg_current_snapshot())",
    ),
    (
        "front_bound_by_who_began_before",
        "claim",
        "f.bound is null and coalesce(pg_visible_in_snapshot(f.noted_by, v_began), false)",
        "f.bound is null",
    ),
    (
        "hurried_to_an_old_place",
        "watch_deadlines",
        "set urgency = -32768, seq = default",
        "set urgency = -32768",
    ),
    ("paused_lane_claimed", "claim", "and l.paused_at is null", ""),
    (
        "unreleased_sent",
        "claim",
        "i.hold is not null and rel.id is null",
        "false",
    ),
    (
        "captured_event_lost",
        "settle",
        "from held h\n        order by h.n",
        "from held h\n        where false order by h.n",
    ),
    (
        "intents_held_after_the_captures",
        "settle",
        "if jsonb_array_length(p_results) > 0 or not p_lease <@ v_leases then",
        "if false then",
    ),
    (
        "worked_lease_given_back",
        "give_back",
        "and position('1' in l.settled::text) = 0",
        "",
    ),
    (
        "replay_straight_to_a_send",
        "replay_letter",
        "select o.intent, o.lane, 2, coalesce",
        "select o.intent, o.lane, 1, coalesce",
    ),
    (
        "cancel_of_a_lost_history",
        "cancel_one",
        "v_may_be_sent or v_row_epoch is distinct from v_epoch",
        "v_may_be_sent",
    ),
    (
        "feed_reads_what_may_be_overtaken",
        "events_after",
        "pg_snapshot_xmin",
        "pg_snapshot_xmax",
    ),
];

/// Plants the bug that the environment names, if it is one of these, in a migrated database.
pub async fn plant(db: &mut Session) {
    let Ok(named) = std::env::var("CAPTURE_BUG") else {
        return;
    };
    let Some((_, function, what, by)) = BUGS.into_iter().find(|(name, ..)| *name == named) else {
        return;
    };
    let source: String = db
        .scalar(&format!(
            "select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'capture'::regnamespace and p.proname = '{function}'"
        ))
        .await;
    assert_eq!(source.matches(what).count(), 1, "{what} in {function}");
    db.run(&source.replace(what, by)).await;
}

#[tokio::test]
async fn every_planted_bug_has_its_place_in_the_functions() {
    let mut db = Session::open(&super::migrated_database().await).await;
    for (name, function, what, _) in BUGS {
        let source: String = db
            .scalar(&format!(
                "select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'capture'::regnamespace and p.proname = '{function}'"
            ))
            .await;
        assert_eq!(source.matches(what).count(), 1, "{name}: {what}");
    }
}

//! Two sessions at once: the second operation runs while the first one's transaction is held open.
//!
//! Whether it waits for a lock, passes over what is locked, or was never in the way: once both have ended, all tables are
//! as after one order or the other on `Tables`. What passes over leaves the rest to its next round, which must come to the
//! same.

use capture::outbox::memory::Tables;

use crate::database::{Refused, Session};
use crate::lines;
use crate::operation::Operation;
use crate::stages::{Act, Cast, Stage};
use crate::twins::{Twins, session};

fn after(base: &Tables, twins: &Twins, operations: &[&Operation]) -> Tables {
    let mut tables = base.clone();
    for operation in operations {
        operation.apply(&mut tables, twins.now);
        let faults = tables.faults();
        assert!(faults.is_empty(), "{faults:#?} after {operations:#?}");
    }
    tables
}

/// Runs `second` while the transaction of `first` is open, until it has ended or waits for a lock; then both end. Did it wait?
async fn overlap(
    twins: &mut Twins,
    sessions: &mut Option<[Session; 2]>,
    first: &Operation,
    second: &Operation,
) -> (bool, Option<Refused>) {
    let [mut one, mut other] = sessions.take().unwrap();
    let pid: i32 = other.scalar("select pg_backend_pid()").await;
    one.run("begin").await;
    one.rows(&first.sql()).await;
    let sql = second.sql();
    let running = tokio::spawn(async move {
        let refused = other.try_rows(&sql).await.err();
        (other, refused)
    });
    let blocked = format!("select cardinality(pg_blocking_pids({pid})) > 0");
    let mut waited = false;
    while !waited && !running.is_finished() {
        waited = twins.db.scalar(&blocked).await;
    }
    one.run("commit").await;
    let (other, refused) = running.await.unwrap();
    *sessions = Some([one, other]);
    (waited, refused)
}

/// A ticket is consumed by its result: nobody settles one claim as this and as that.
fn one_ticket_for_two_results(cast: &Cast, first: Act, second: Act) -> bool {
    let place = |what: Act| match what {
        Act::SettleCaptured | Act::SettleRetry => Some(0),
        Act::SettleDead | Act::SettleVerify | Act::SettleCancelled => Some(cast.tickets.len() - 1),
        Act::Claim
        | Act::ClaimAlone
        | Act::MoveDue
        | Act::Rescue
        | Act::MatchReleases
        | Act::WatchDeadlines
        | Act::Cancel
        | Act::CancelSibling
        | Act::Replay
        | Act::ResolveCaptured
        | Act::ResolveNotCaptured => None,
    };
    first != second && place(first).is_some() && place(first) == place(second)
}

/// Pairs of which one may miss what the other one writes, without harm: a claim that puts a sibling aside, and a result (or
/// the watch over deadlines) that would wake it, which then sleeps for its five seconds; a wish to cancel and a result,
/// which then is applied at the next claim and not at once, or is left behind by an intent that has ended; the watch over
/// deadlines, and a result after which there is a back-off to wait for, which is cut short before the deadline anyway.
fn crossed(first: Act, second: Act) -> bool {
    let settles = |what: Act| {
        matches!(
            what,
            Act::SettleCaptured | Act::SettleRetry | Act::SettleDead | Act::SettleVerify | Act::SettleCancelled
        )
    };
    let misses = |one: Act, other: Act| match one {
        Act::Claim | Act::ClaimAlone | Act::WatchDeadlines => settles(other) || other == Act::WatchDeadlines,
        Act::Cancel | Act::CancelSibling => settles(other),
        Act::MoveDue
        | Act::Rescue
        | Act::MatchReleases
        | Act::Replay
        | Act::ResolveCaptured
        | Act::ResolveNotCaptured
        | Act::SettleCaptured
        | Act::SettleRetry
        | Act::SettleDead
        | Act::SettleVerify
        | Act::SettleCancelled => false,
    };
    misses(first, second) || misses(second, first)
}

/// The lines without what such a pair may leave for later: for what cause and until when a row waits that was surely not
/// sent, and the wish of an intent that has ended.
fn unhurried(lines: &[String]) -> Vec<String> {
    let ended = |intent: &str| lines.iter().any(|line| line.starts_with(&format!("outcome {intent} ")));
    let kept = lines.iter().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["wish", intent, ..] if ended(intent) => None,
            // waiting, intent, lane, purpose, urgency, fence, epoch, cause, due_at, since
            [
                "waiting",
                _,
                _,
                purpose,
                ..,
                "scheduled" | "sibling" | "backoff",
                due_at,
                _,
            ] if *purpose != "2" => {
                assert_ne!(*due_at, "-", "{line} waits for ever");
                Some(words[..7].join(" "))
            }
            _ => Some(line.clone()),
        }
    });
    kept.collect()
}

fn difference(wanted: &[String], found: &[String]) -> [Vec<String>; 2] {
    let without = |one: &[String], other: &[String]| one.iter().filter(|line| !other.contains(line)).cloned().collect();
    [without(wanted, found), without(found, wanted)]
}

#[tokio::test]
async fn two_sessions_at_once_come_to_one_order_or_the_other() {
    let mut twins = Twins::new().await;
    let mut sessions = Some([session(&twins.url).await, session(&twins.url).await]);
    let (mut pairs, mut waits, mut passes, mut later) = (0, 0, 0, 0);
    let mut faults = Vec::new();
    for stage in Stage::ALL {
        let mut cast = twins.set(stage).await;
        let mut base = twins.tables.clone();
        let mut touched = false;
        for first in Act::ALL {
            for second in Act::ALL {
                if touched {
                    cast = twins.set(stage).await;
                    base = twins.tables.clone();
                    touched = false;
                }
                let operations = (cast.operation(&base, first, 11), cast.operation(&base, second, 12));
                let (Some(a), Some(b)) = operations else { continue };
                if one_ticket_for_two_results(&cast, first, second) {
                    continue;
                }
                let (only_a, ab) = (after(&base, &twins, &[&a]), after(&base, &twins, &[&a, &b]));
                let ba = after(&base, &twins, &[&b, &a]);
                let only_b = after(&base, &twins, &[&b]);
                // What does nothing, alone or after the other, is in nobody's way.
                if only_a == base || (only_b == base && ab == only_a) {
                    continue;
                }
                pairs += 1;
                touched = true;
                let (waited, refused) = overlap(&mut twins, &mut sessions, &a, &b).await;
                if let Some(refused) = refused {
                    faults.push(format!("{stage:?}: {first:?}, then {second:?}: {refused:?}"));
                    continue;
                }
                waits += u32::from(waited);
                let allowed = [lines::of(&ab), lines::of(&ba)];
                let mut end = twins.lines().await;
                if second.passes_over() && !allowed.contains(&end) {
                    passes += 1;
                    b.ask(&twins.outbox, &mut twins.db).await;
                    end = twins.lines().await;
                }
                if allowed.contains(&end) {
                    continue;
                }
                let end = unhurried(&end);
                let allowed = allowed.map(|lines| unhurried(&lines));
                if crossed(first, second) && allowed.contains(&end) {
                    later += 1;
                    continue;
                }
                let [missing, more] = difference(&allowed[0], &end);
                faults.push(format!(
                    "{stage:?}: {first:?}, then {second:?} (waited: {waited})\n not as in that order: {missing:#?}\n but: {more:#?}"
                ));
            }
        }
    }
    println!("{pairs} pairs: {waits} waited, {passes} passed over, {later} come to the same later");
    assert!(faults.is_empty(), "{} of {pairs}:\n{}", faults.len(), faults.join("\n"));
    assert!(pairs > 100 && waits > 20, "{pairs} pairs, {waits} waited");
}

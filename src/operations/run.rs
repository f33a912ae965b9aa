//! Working operations off, in steps. Every step is one transaction: it acts on a few captures and writes their verdicts.

use std::time::Duration;

use uuid::Uuid;

use super::safety::{ended, not_dead};
use super::{AbilitiesByLane, Act, judge};
use crate::intent::Lane;
use crate::outbox::{CaptureFacts, DueOperation, OpenItem, OutboxError, PlannedItem, Stepped, Store};

/// Captures per step: so few that nobody waits long for what a step holds.
const CHUNK: i64 = 100;
/// Steps that one round may take for one operation, so that one with a high rate keeps no other waiting.
const STEPS: usize = 20;
/// So often an item is put off for a trouble that passes, with pauses that grow to a minute: some eight minutes in all.
/// Then it is left alone, so that the operation ends.
const MOST_TRIES: i16 = 12;

/// What to do with captures of accounts that these settings lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// Leave them to a driver that has these accounts.
    Leave,
    /// Nobody else is known to drive: they are skipped, and told.
    Skip,
}

/// What a round did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    /// Operations that run.
    pub running: usize,
    /// Captures acted on.
    pub acted: u64,
    /// When the next round has something to do, as far as one can tell; `None`: nothing runs.
    pub again_in: Option<Duration>,
}

/// One round over all operations that run, and a look at what those that act no more have replayed. Cheap if there are none.
/// For workers and servers, again and again.
pub async fn run_due(store: &dyn Store, abilities: &AbilitiesByLane) -> Result<Ran, OutboxError> {
    let due = store.running_operations().await?;
    let mut ran = Ran {
        running: due.len(),
        ..Ran::default()
    };
    for operation in due {
        let (acted, again_in) = advance(store, abilities, &operation, Strangers::Leave).await?;
        ran.acted += acted;
        ran.again_in = Some(ran.again_in.map_or(again_in, |other| other.min(again_in)));
    }
    store.watch_replayed().await?;
    Ok(ran)
}

/// One round for that operation alone; `None`: it does not run. For the command line, while it watches.
pub async fn drive(
    store: &dyn Store,
    abilities: &AbilitiesByLane,
    operation: Uuid,
    strangers: Strangers,
) -> Result<Option<Ran>, OutboxError> {
    let due = store.running_operations().await?;
    let running = due.len();
    let Some(operation) = due.into_iter().find(|due| due.id == operation) else {
        return Ok(None);
    };
    let (acted, again_in) = advance(store, abilities, &operation, strangers).await?;
    Ok(Some(Ran {
        running,
        acted,
        again_in: Some(again_in),
    }))
}

/// Steps until its rate is spent, or nothing is left to do here; how many were acted on, and when to come back.
async fn advance(
    store: &dyn Store,
    abilities: &AbilitiesByLane,
    operation: &DueOperation,
    strangers: Strangers,
) -> Result<(u64, Duration), OutboxError> {
    const LATER: Duration = Duration::from_secs(1);
    let Some(act) = Act::stored(&operation.act, &operation.detail) else {
        tracing::warn!(operation = %operation.id, act = operation.act, "this version does not know what this operation does: it is left to others");
        return Ok((0, LATER));
    };
    let mut tokens = i64::from(operation.tokens);
    let mut acted = 0u64;
    for _ in 0..STEPS {
        if tokens < 1 {
            break;
        }
        let lanes: Option<Vec<Lane>> = match (&act, strangers) {
            (Act::Replay { .. }, Strangers::Leave) => Some(abilities.keys().cloned().collect()),
            (Act::Replay { .. }, Strangers::Skip) | (Act::Cancel | Act::Resolve { .. }, _) => None,
        };
        let items = store
            .open_items(operation.id, CHUNK.min(tokens), lanes.as_deref())
            .await?;
        if items.is_empty() {
            return Ok((acted, LATER));
        }
        let stepped = step(store, abilities, &act, operation.id, &items).await?;
        if stepped.written == 0 {
            // Another driver is at it, or it runs no more.
            return Ok((acted, LATER));
        }
        acted += u64::try_from(stepped.acted).unwrap_or(0);
        tokens -= i64::from(stepped.acted);
    }
    // The next act may be made after one part of a second. Few at a time: what a round lets go runs at once, and what the shop
    // sells meanwhile would find all slots taken by a burst. A round is five statements, so not one for each act either; and
    // of many drivers, those that had nothing left to do come back less often.
    let per_act = Duration::from_secs(1) / u32::try_from(operation.rate_per_second).unwrap_or(1).max(1);
    let least = Duration::from_millis(if acted > 0 { 50 } else { 200 });
    Ok((acted, per_act.clamp(least, LATER)))
}

async fn step(
    store: &dyn Store,
    abilities: &AbilitiesByLane,
    act: &Act,
    operation: Uuid,
    items: &[OpenItem],
) -> Result<Stepped, OutboxError> {
    let ids: Vec<Uuid> = items.iter().map(|item| item.intent).collect();
    let mut facts: std::collections::BTreeMap<Uuid, CaptureFacts> = store
        .capture_facts(&ids)
        .await?
        .into_iter()
        .map(|facts| (facts.row.id, facts))
        .collect();
    let planned: Vec<PlannedItem> = items
        .iter()
        .map(|item| plan(act, item, facts.remove(&item.intent), abilities))
        .collect();
    match store.operation_step(operation, &planned).await {
        Err(error) if is_refusal(&error) => {}
        other => return other,
    }
    // One of them is refused, and nothing was done: each alone, so that the others are not kept from it.
    let mut all = Stepped {
        state: "running".to_owned(),
        acted: 0,
        written: 0,
    };
    for (item, open) in planned.into_iter().zip(items) {
        let n = item.n;
        let stepped = match store.operation_step(operation, &[item]).await {
            // Somebody's open transaction holds the capture: its turn comes again.
            Err(error) if is_locked(&error) => continue,
            // The capture has nothing to do with it, so it is no verdict on it, nor a reason to stop.
            Err(error) if passes(&error) && open.tries < MOST_TRIES => {
                store.put_off_item(operation, n, &format!("put off: {error}")).await?;
                continue;
            }
            Err(error) if is_refusal(&error) => {
                let (verdict, says) = match passes(&error) {
                    true => ("skipped", format!("left alone after {MOST_TRIES} tries: {error}")),
                    false => ("failed", error.to_string()),
                };
                let given_up = PlannedItem {
                    n,
                    verdict: Some(verdict),
                    says: Some(says),
                    ..PlannedItem::default()
                };
                store.operation_step(operation, &[given_up]).await?
            }
            other => other?,
        };
        all.state = stepped.state;
        all.acted += stepped.acted;
        all.written += stepped.written;
        if stepped.written == 0 {
            break;
        }
    }
    Ok(all)
}

fn is_locked(error: &OutboxError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.sqlstate == "55P03")
}

/// Is it the server's trouble and not the capture's: it lost against another transaction (40), had no room or memory (53), was
/// told to stop (57), or its system failed it (58)?
fn passes(error: &OutboxError) -> bool {
    let class = |refusal: crate::outbox::Refusal| refusal.sqlstate.chars().take(2).collect::<String>();
    error
        .refusal()
        .map(class)
        .is_some_and(|class| matches!(class.as_str(), "40" | "53" | "57" | "58"))
}

/// Did the database refuse it, and would again? A role without the right to it is nothing that a verdict should say.
fn is_refusal(error: &OutboxError) -> bool {
    !error.is_connection_lost() && error.refusal().is_some_and(|refusal| refusal.sqlstate != "42501")
}

fn plan(act: &Act, item: &OpenItem, facts: Option<CaptureFacts>, abilities: &AbilitiesByLane) -> PlannedItem {
    let skipped = |says: String| PlannedItem {
        n: item.n,
        verdict: Some("skipped"),
        says: Some(says),
        ..PlannedItem::default()
    };
    let Some(facts) = facts else {
        return skipped("there is no such capture".to_owned());
    };
    match (act, item.mark) {
        (Act::Cancel, Some(_)) if facts.rest.is_none() => return skipped(ended(&facts)),
        // One that was split, before the list was frozen or since: what is left of it is taken back.
        (Act::Cancel, Some(_) | None) => {
            return PlannedItem {
                n: item.n,
                ..PlannedItem::default()
            };
        }
        (Act::Replay { .. } | Act::Resolve { .. }, None) => {
            return skipped(match facts.ended_at {
                Some(_) if facts.row.state == "dead" => {
                    "it died after the list was frozen: it is not on it as a dead letter".to_owned()
                }
                _ => not_dead(&facts),
            });
        }
        (Act::Replay { .. } | Act::Resolve { .. }, Some(mark)) if facts.ended_at != Some(mark) => {
            // Somebody moved it. The step finds it so, under a lock, and says who it was.
            return PlannedItem {
                n: item.n,
                ..PlannedItem::default()
            };
        }
        (Act::Replay { .. } | Act::Resolve { .. }, Some(_)) => {}
    }
    let prospect = judge(act, facts, abilities);
    if !prospect.acts {
        return skipped(prospect.says);
    }
    let safety = prospect.safety;
    PlannedItem {
        n: item.n,
        verdict: None,
        says: Some(prospect.says),
        fresh_key: prospect.fresh_key,
        generation: safety.as_ref().map(|safety| safety.key_generation),
        key: safety.and_then(|safety| safety.key),
    }
}

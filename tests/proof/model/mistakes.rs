//! What a mistaken design does to the tables behind the outbox's back.

use std::sync::Arc;

use capture::outbox::memory::{Cause, End, OutcomeRow, ProgressRow, Tables, Waiting};
use capture::outbox::{Purpose, Settlement};
use capture::progress::Progress;
use capture::retry::Disposition;

use super::state::at;

/// A settle by the intent's id alone.
pub fn without_fence(tables: &mut Tables, settlement: &Settlement) {
    let intent = settlement.intent();
    if tables.outcomes.contains_key(&intent) {
        return;
    }
    let known = [
        tables.ready_of(intent).map(|(_, row)| row.fence),
        tables.waiting.get(&intent).map(|row| row.fence),
        tables.open_slot_of(intent).map(|(_, slot)| slot.fence),
    ];
    let fence = known.into_iter().flatten().max().unwrap_or(settlement.fence());
    tables.ready.retain(|_, row| row.intent != intent);
    tables.waiting.remove(&intent);
    for lease in tables.leases.values_mut() {
        lease.slots.retain(|slot| slot.intent != intent);
    }
    tables.leases.retain(|_, lease| !lease.slots.is_empty());
    tables.late_results.retain(|(id, _, _), _| *id != intent);
    let end = match settlement.disposition() {
        Disposition::Captured(receipt) => Some(End::Captured {
            minor: receipt.amount.minor,
            id: receipt.provider_capture_id.as_str().into(),
            at: None,
            proof: receipt.proof,
        }),
        Disposition::Dead(reason, _) => Some(End::Dead(*reason)),
        Disposition::Cancelled => Some(End::Cancelled),
        Disposition::Retry(_) | Disposition::Verify(_) | Disposition::Return => None,
    };
    let lane = settlement.lane();
    let Some(end) = end else {
        let purpose = match settlement.disposition() {
            Disposition::Verify(_) => Purpose::Verify,
            _ => Purpose::Retry,
        };
        let row = Waiting {
            lane,
            purpose,
            urgency: 0,
            fence,
            epoch: tables.epoch.number,
            cause: Cause::Backoff,
            due_at: Some(at(0)),
            since: at(0),
        };
        tables.waiting.insert(intent, row);
        let progress = Progress::default();
        tables.progress.insert(
            intent,
            Arc::new(ProgressRow {
                progress,
                replayed: false,
            }),
        );
        return;
    };
    tables.deadlines.remove(&intent);
    tables.cancel_requests.remove(&intent);
    tables.progress.remove(&intent);
    let row = OutcomeRow {
        lane,
        end,
        fence,
        attempts: 0,
        ended_at: at(0),
        last_class: None,
        last_code: None,
        evidence: None,
    };
    tables.outcomes.insert(intent, Arc::new(row));
}

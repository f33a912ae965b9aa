//! All tables as lines of text, the same from SQL and from memory: one line per row, times in microseconds, `-` for null.

use capture::outbox::Purpose;
use capture::outbox::memory::{End, Tables, Told};
use capture::progress::Progress;
use chrono::{DateTime, Utc};

/// One query per table: its columns as an array of text. What nothing asks for is left out: what an attempt measured, and
/// the numbers of sequences (only their order counts). `enqueued` and `held` are told by the producer's transaction, by the
/// real clock.
const TABLES: [(&str, &str); 14] = [
    (
        "lane",
        "select array[id::text, provider, account, us(paused_at), paused_by, pause_reason, rate_per_minute::text, us(budget_spent_until),
                us(limited_until), unanswered::text, us(open_until), open_ms::text, testing::text] from lanes",
    ),
    (
        "ready",
        "select array[(row_number() over (order by lane, purpose, alone, urgency, seq))::text, lane::text, purpose::text, alone::text,
                urgency::text, intent::text, fence::text, epoch::text, us(since)] from ready",
    ),
    (
        "waiting",
        "select array[intent::text, lane::text, purpose::text, urgency::text, fence::text, epoch::text, cause, us(due_at), us(since)] from waiting",
    ),
    (
        "lease",
        "select array[id::text, worker::text, epoch::text, us(claimed_at), us(until), intents::text, lanes::text, fences::text,
                generations::text, purposes::text, epochs::text, settled::text] from leases",
    ),
    (
        "progress",
        "select array[intent::text, attempts::text, generation::text, tainted::text, accepted::text, accepted_id, pending_id, us(first_sent_at), us(quiet_after),
                quiet_reads::text, us(last_quiet_at), us(in_progress_since), us(unknown_since), refusal_class, refusal_code,
                fresh_key::text, read_first::text, looks::text, own_faults::text, lost_leases::text, last_class, last_code,
                replayed::text] from progress",
    ),
    (
        "attempt",
        "select array[intent::text, fence::text, lease::text, worker::text, purpose::text, generation::text, sent::text, outcome, class,
                code, http_status::text, us(ended_at), encode(evidence, 'hex')] from attempts",
    ),
    (
        "outcome",
        "select array[intent::text, lane::text, state, fence::text, attempts::text, us(ended_at), captured_minor::text, provider_capture_id,
                us(captured_at), proof, dead_reason, last_class, last_code, encode(evidence, 'hex')] from outcomes",
    ),
    (
        "late",
        "select array[intent::text, fence::text, lease::text, worker::text, outcome, class, code, captured_minor::text, provider_capture_id,
                us(captured_at), proof, encode(evidence, 'hex'), us(recorded_at)] from late_results",
    ),
    ("deadline", "select array[intent::text, us(expires_at), warned::text] from deadlines"),
    ("wish", "select array[intent::text, reason, us(requested_at)] from cancel_requests"),
    (
        "release",
        "select array[provider, account, payment_id, order_id, capture_ref, shipment_ref, company, us(created_at), us(next_try_at),
                intent::text, us(matched_at)] from releases",
    ),
    (
        "epoch",
        "select array[number::text, (timeline <> server_timeline())::text] from epoch",
    ),
    (
        "event",
        "select array[intent_id::text, substr(type, 9), case when type not in ('capture.enqueued', 'capture.held') then us(occurred_at) end,
                data ->> 'fence', case when type in ('capture.attempt_failed', 'capture.outcome_unknown') then data ->> 'class' end,
                case when type in ('capture.attempt_failed', 'capture.outcome_unknown') then data ->> 'code' end,
                data ->> 'attempts', data ->> 'in_ms', case when type = 'capture.dead_lettered' then data ->> 'reason' end,
                data ->> 'captured_minor', case when type = 'capture.captured' then data ->> 'provider_capture_id' end,
                us((data ->> 'captured_at')::timestamptz), data ->> 'proof', data ->> 'outcome', case when type = 'capture.late_result' then data ->> 'state' end, data ->> 'alarm',
                case when type = 'capture.auth_expiring' then us((data ->> 'expires_at')::timestamptz) end, data ->> 'within_hours', data ->> 'shipment_ref', data ->> 'as'] from events",
    ),
    (
        "act",
        "select array[us(at), actor, action, reason, intent::text, lane::text] from audit",
    ),
];

/// One query for all of them.
pub fn query() -> String {
    let each = TABLES
        .map(|(name, sql)| format!("select '{name} ' || array_to_string(columns, ' ', '-') from ({sql}) t(columns)"));
    each.join(" union all ")
}

fn show<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn us(at: DateTime<Utc>) -> String {
    at.timestamp_micros().to_string()
}

fn when(at: Option<DateTime<Utc>>) -> String {
    show(at.map(|at| at.timestamp_micros()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn set<T: ToString>(values: impl Iterator<Item = T>) -> String {
    let values: Vec<String> = values.map(|value| value.to_string()).collect();
    format!("{{{}}}", values.join(","))
}

/// Minor units, id, time and proof of a receipt.
fn receipt(end: Option<&End>) -> [String; 4] {
    match end {
        Some(End::Captured { minor, id, at, proof }) => {
            [minor.to_string(), id.to_string(), when(*at), proof.name().to_owned()]
        }
        Some(End::Dead(_) | End::Cancelled) | None => std::array::from_fn(|_| "-".to_owned()),
    }
}

macro_rules! line {
    ($($value:expr),+ $(,)?) => { vec![$($value.to_string()),+].join(" ") };
}

fn progress_line(p: &Progress) -> String {
    line!(
        p.attempts,
        p.generation.0,
        p.tainted,
        p.accepted,
        show(p.accepted_id.as_ref()),
        show(p.pending_id.as_ref()),
        when(p.first_sent_at),
        when(p.quiet_after),
        p.quiet_reads,
        when(p.last_quiet_at),
        when(p.in_progress_since),
        when(p.unknown_since),
        show(p.refusal_class.as_ref()),
        show(p.refusal_code.as_ref()),
        p.fresh_key,
        p.read_first,
        p.looks,
        p.own_faults,
        p.lost_leases,
        show(p.last_class.as_ref()),
        show(p.last_code.as_ref()),
    )
}

/// Fence, class, code, attempts, in_ms, reason, receipt (4), outcome, state, alarm, expires_at, within_hours, shipment_ref, as.
fn told_line(told: &Told) -> String {
    let mut words: [String; 17] = std::array::from_fn(|_| "-".to_owned());
    let mut put = |place: usize, word: String| words[place] = word;
    match told {
        Told::Enqueued | Told::Held | Told::Cancelled | Told::Replayed => {}
        Told::AttemptFailed {
            class,
            code,
            fence,
            attempts,
        } => {
            put(0, fence.to_string());
            put(1, show(class.as_ref()));
            put(2, show(code.as_ref()));
            put(3, attempts.to_string());
        }
        Told::Captured { receipt: end, attempts } => {
            put(3, attempts.to_string());
            for (place, word) in (6..).zip(receipt(Some(end))) {
                put(place, word);
            }
        }
        Told::RetryScheduled { in_ms, attempts } => {
            put(3, attempts.to_string());
            put(4, in_ms.to_string());
        }
        Told::OutcomeUnknown { fence, class, code } => {
            put(0, fence.to_string());
            put(1, show(class.as_ref()));
            put(2, show(code.as_ref()));
        }
        Told::DeadLettered { reason, attempts } => {
            put(3, attempts.to_string());
            put(5, reason.name().to_owned());
        }
        Told::LateResult {
            fence,
            outcome,
            state,
            alarm,
        } => {
            put(0, fence.to_string());
            put(10, (*outcome).to_owned());
            put(11, show(state.as_ref()));
            put(12, show(alarm.as_ref()));
        }
        Told::AuthExpiring {
            expires_at,
            within_hours,
        } => {
            put(13, us(*expires_at));
            put(14, within_hours.to_string());
        }
        Told::Released { shipment_ref } => put(15, show(shipment_ref.as_ref())),
        Told::Resolved { captured } => put(16, if *captured { "captured" } else { "not-captured" }.to_owned()),
    }
    words.join(" ")
}

/// The same from memory, sorted.
pub fn of(tables: &Tables) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, lane) in &tables.lanes {
        let (at, by, why) = match &lane.paused {
            Some((at, by, why)) => (Some(*at), Some(by), Some(why)),
            None => (None, None, None),
        };
        lines.push(line!(
            "lane",
            id.0,
            lane.lane.provider,
            lane.lane.account,
            when(at),
            show(by),
            show(why),
            lane.rate_per_minute,
            when(lane.budget_spent_until),
            when(lane.limited_until),
            lane.unanswered,
            when(lane.open_until),
            lane.open_ms,
            lane.testing,
        ));
    }
    for (place, (key, row)) in (1..).zip(&tables.ready) {
        lines.push(line!(
            "ready",
            place,
            key.lane.0,
            key.purpose.number(),
            key.alone,
            key.urgency,
            row.intent,
            row.fence,
            row.epoch,
            us(row.since)
        ));
    }
    for (intent, row) in &tables.waiting {
        lines.push(line!(
            "waiting",
            intent,
            row.lane.0,
            row.purpose.number(),
            row.urgency,
            row.fence,
            row.epoch,
            row.cause.name(),
            when(row.due_at),
            us(row.since)
        ));
    }
    for (id, row) in &tables.leases {
        let slots = || row.slots.iter();
        let bits: String = slots().map(|slot| if slot.settled { '1' } else { '0' }).collect();
        lines.push(line!(
            "lease",
            id,
            row.worker,
            row.epoch,
            us(row.claimed_at),
            us(row.until),
            set(slots().map(|slot| slot.intent)),
            set(slots().map(|slot| slot.lane.0)),
            set(slots().map(|slot| slot.fence)),
            set(slots().map(|slot| slot.generation.0)),
            set(slots().map(|slot| Purpose::number(slot.purpose))),
            set(slots().map(|slot| slot.epoch)),
            bits
        ));
    }
    for (intent, row) in &tables.progress {
        lines.push(line!("progress", intent, progress_line(&row.progress), row.replayed));
    }
    for ((intent, fence), row) in &tables.attempts {
        lines.push(line!(
            "attempt",
            intent,
            fence,
            row.lease,
            row.worker,
            row.purpose.number(),
            row.generation.0,
            show(row.sent),
            row.outcome,
            show(row.class),
            show(row.code.as_ref()),
            show(row.http_status),
            us(row.ended_at),
            show(row.evidence.as_ref().map(|evidence| hex(evidence.bytes())))
        ));
    }
    for (intent, row) in &tables.outcomes {
        let reason = match &row.end {
            End::Dead(reason) => Some(reason.name()),
            End::Captured { .. } | End::Cancelled => None,
        };
        lines.push(line!(
            "outcome",
            intent,
            row.lane.0,
            row.end.state(),
            row.fence,
            row.attempts,
            us(row.ended_at),
            receipt(Some(&row.end)).join(" "),
            show(reason),
            show(row.last_class.as_ref()),
            show(row.last_code.as_ref()),
            show(row.evidence.as_ref().map(|evidence| hex(evidence.bytes())))
        ));
    }
    for ((intent, fence, _), row) in &tables.late_results {
        lines.push(line!(
            "late",
            intent,
            fence,
            row.lease,
            row.worker,
            row.outcome,
            show(row.class),
            show(row.code.as_ref()),
            receipt(row.receipt.as_ref()).join(" "),
            hex(row.evidence.bytes()),
            us(row.recorded_at)
        ));
    }
    for (intent, row) in &tables.deadlines {
        lines.push(line!("deadline", intent, us(row.expires_at), row.warned));
    }
    for (intent, row) in &tables.cancel_requests {
        lines.push(line!("wish", intent, row.reason, us(row.requested_at)));
    }
    for row in &tables.releases {
        lines.push(line!(
            "release",
            row.lane.provider,
            row.lane.account,
            show(row.payment_id.as_ref()),
            show(row.order_id.as_ref()),
            show(row.capture_ref.as_ref()),
            show(row.shipment_ref.as_ref()),
            show(row.shipping.as_ref().map(|shipping| shipping.company.clone())),
            us(row.created_at),
            us(row.next_try_at),
            show(row.matched.map(|(intent, _)| intent)),
            when(row.matched.map(|(_, at)| at))
        ));
    }
    lines.push(line!("epoch", tables.epoch.number, tables.epoch.unnoticed));
    for event in &tables.events {
        let masked = matches!(event.told, Told::Enqueued | Told::Held);
        lines.push(line!(
            "event",
            event.intent,
            event.told.name(),
            when((!masked).then_some(event.at)),
            told_line(&event.told)
        ));
    }
    for act in &tables.audit {
        lines.push(line!(
            "act",
            us(act.at),
            act.actor,
            act.action,
            act.reason,
            show(act.intent),
            show(act.lane.map(|lane| lane.0))
        ));
    }
    lines.sort_unstable();
    lines
}

//! Settle: record what calls told, and move their intents on. The statement and its reasons are in
//! `migrations/0004_settle.sql`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{LaneId, Outbox, OutboxError, Purpose, Ticket, ToldDeadline, Tries};
use crate::intent::{IntentId, KeyGeneration};
use crate::outcome::{Class, Evidence, Receipt};
use crate::progress::Progress;
use crate::retry::{Decision, Disposition, Wait};

/// What is kept of one worked claim: its capture POST if one was sent, else the read that decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttemptRecord {
    /// Was a capture POST put on the wire?
    pub sent: bool,
    /// `captured`, `accepted`, `failed`, `not_sent` or `observed`.
    pub outcome: &'static str,
    /// Class of the failure, if it was one.
    pub class: Option<&'static str>,
    /// Its code.
    pub code: Option<String>,
    /// Its HTTP status.
    pub http_status: Option<u16>,
    /// The generation of the key that was used.
    pub generation: KeyGeneration,
    /// How long ago the work began, when it is recorded.
    pub began: crate::clock::Boottime,
    /// How long the calls took.
    pub took: Duration,
    /// Where they went; no secret in it.
    pub host: String,
    /// What was seen: capped and redacted.
    pub evidence: Evidence,
}

/// One worked claim, ready to be recorded. Made from the claim's ticket, which it consumes.
#[derive(Debug)]
#[cfg_attr(feature = "proof", derive(Clone, PartialEq, Eq, Hash))]
pub struct Settlement {
    pub(super) ticket: Ticket,
    pub(super) disposition: Disposition,
    pub(super) delay: Duration,
    pub(super) progress: Progress,
    pub(super) attempt: AttemptRecord,
    pub(super) was_unknown: bool,
    pub(super) told: Option<DateTime<Utc>>,
}

impl Settlement {
    /// `before`: what was behind the intent when it was claimed. Draws the jitter of the decision's wait.
    pub fn new(ticket: Ticket, before: &Progress, decision: Decision, attempt: AttemptRecord) -> Settlement {
        let delay = match &decision.disposition {
            Disposition::Retry(wait) | Disposition::Verify(wait) => wait.draw(),
            Disposition::Captured(_) | Disposition::Dead(..) | Disposition::Cancelled | Disposition::Return => {
                Wait::None.draw()
            }
        };
        Settlement::with_delay(ticket, before, decision, attempt, delay)
    }

    /// As [`Settlement::new`], with a delay that was drawn elsewhere.
    pub fn with_delay(
        ticket: Ticket,
        before: &Progress,
        decision: Decision,
        attempt: AttemptRecord,
        delay: Duration,
    ) -> Settlement {
        Settlement {
            was_unknown: before.unknown_since.is_some(),
            ticket,
            disposition: decision.disposition,
            delay,
            progress: decision.progress,
            attempt,
            told: None,
        }
    }

    /// The same, with what the provider told of when the authorisation ends.
    pub fn telling(mut self, expires_at: Option<DateTime<Utc>>) -> Settlement {
        self.told = expires_at;
        self
    }

    /// What the provider told of when the authorisation ends: for [`Outbox::tell_deadlines`], after this is recorded. It is
    /// advice, and no part of the record.
    pub fn told(&self) -> Option<ToldDeadline> {
        self.told.map(|expires_at| ToldDeadline {
            intent: self.ticket.intent,
            expires_at,
        })
    }

    /// Which intent.
    pub fn intent(&self) -> IntentId {
        self.ticket.intent
    }

    /// The fence under which it was claimed.
    pub fn fence(&self) -> i32 {
        self.ticket.fence
    }

    /// Which lane.
    pub fn lane(&self) -> LaneId {
        self.ticket.lane
    }

    /// Its provider's name.
    pub fn provider(&self) -> &str {
        &self.ticket.provider
    }

    /// What it was claimed for.
    pub fn purpose(&self) -> Purpose {
        self.ticket.purpose
    }

    /// What becomes of the intent.
    pub fn disposition(&self) -> &Disposition {
        &self.disposition
    }

    /// How its calls went.
    pub fn attempt(&self) -> &AttemptRecord {
        &self.attempt
    }

    /// What `settle` is asked, as a statement: for who asks it in a transaction of its own.
    #[cfg(feature = "proof")]
    pub fn statement(settlements: &[Settlement], lanes: &[LaneNews]) -> String {
        let (captures, others) = Captures::of(settlements);
        let worker = settlements.first().map(|one| one.ticket.worker).unwrap_or_default();
        let evidence: Vec<String> = captures.evidence.iter().map(|bytes| hex(bytes)).collect();
        let columns = [
            (json!(captures.n), "integer"),
            (json!(captures.lease), "uuid"),
            (json!(captures.slot), "integer"),
            (json!(captures.intent), "uuid"),
            (json!(captures.fence), "integer"),
            (json!(captures.attempts), "smallint"),
            (json!(captures.generation), "smallint"),
            (json!(captures.sent), "boolean"),
            (json!(captures.outcome), "text"),
            (json!(captures.http_status), "smallint"),
            (json!(captures.began_ms_ago), "bigint"),
            (json!(captures.duration_ms), "integer"),
            (json!(captures.host), "text"),
            (json!(captures.captured_minor), "bigint"),
            (json!(captures.provider_capture_id), "text"),
            (json!(captures.captured_at), "text"),
            (json!(captures.proof), "text"),
        ];
        let columns: String = columns
            .iter()
            .map(|(column, of)| {
                format!(
                    "array(select (x #>> '{{}}')::{of} from jsonb_array_elements($doc${column}$doc$) with ordinality as x(x, place) order by place), "
                )
            })
            .collect();
        format!(
            "select * from settle('{worker}', {columns}\
             array(select decode(x #>> '{{}}', 'hex') from jsonb_array_elements($doc${}$doc$) with ordinality as x(x, place) order by place), \
             $doc${}$doc$, $doc${}$doc$)",
            json!(evidence),
            Value::Array(others),
            json!(lanes)
        )
    }

    /// The receipt, where there is nothing else to tell: nothing has failed, now or before.
    fn as_capture(&self) -> Option<&Receipt> {
        let (attempt, progress) = (&self.attempt, &self.progress);
        let failed = attempt.outcome == "failed" || attempt.class.is_some() || attempt.code.is_some();
        let had_failed = progress.last_class.is_some() || progress.last_code.is_some();
        match &self.disposition {
            Disposition::Captured(receipt) => (!failed && !had_failed).then_some(receipt),
            Disposition::Retry(_)
            | Disposition::Verify(_)
            | Disposition::Dead(..)
            | Disposition::Cancelled
            | Disposition::Return => None,
        }
    }

    fn document(&self, n: usize) -> Value {
        let (to, purpose, cause) = match &self.disposition {
            Disposition::Captured(_) => ("captured", self.ticket.purpose, None),
            Disposition::Retry(_) => ("waiting", Purpose::Retry, Some("backoff")),
            Disposition::Verify(_) => ("waiting", Purpose::Verify, Some("verify")),
            Disposition::Dead(..) => ("dead", self.ticket.purpose, None),
            Disposition::Cancelled => ("cancelled", self.ticket.purpose, None),
            Disposition::Return => ("ready", self.ticket.purpose, None),
        };
        let dead_reason = match &self.disposition {
            Disposition::Dead(reason, _) => Some(reason.name()),
            Disposition::Captured(_)
            | Disposition::Retry(_)
            | Disposition::Verify(_)
            | Disposition::Cancelled
            | Disposition::Return => None,
        };
        let receipt = match &self.disposition {
            Disposition::Captured(receipt) => receipt_document(receipt),
            Disposition::Retry(_)
            | Disposition::Verify(_)
            | Disposition::Dead(..)
            | Disposition::Cancelled
            | Disposition::Return => Value::Null,
        };
        json!({
            "n": n,
            "lease": self.ticket.lease,
            "slot": self.ticket.slot,
            "intent": self.ticket.intent,
            "fence": self.ticket.fence,
            "to": to,
            "purpose": purpose.number(),
            "cause": cause,
            "delay_ms": ms(self.delay),
            "attempt": {
                "worker": self.ticket.worker,
                "sent": self.attempt.sent,
                "outcome": self.attempt.outcome,
                "class": self.attempt.class,
                "code": self.attempt.code,
                "http_status": self.attempt.http_status,
                "generation": self.attempt.generation,
                "began_ms_ago": ms(crate::clock::Boottime::now().since(self.attempt.began)),
                "duration_ms": ms(self.attempt.took).min(i64::from(i32::MAX)),
                "host": self.attempt.host,
                "evidence": hex(self.evidence().bytes()),
            },
            "progress": self.progress,
            "receipt": receipt,
            "dead_reason": dead_reason,
            "events": self.events(),
        })
    }

    /// What was seen: of what decided, if that is known, else of the attempt.
    pub(super) fn evidence(&self) -> &Evidence {
        match &self.disposition {
            Disposition::Captured(receipt) => &receipt.evidence,
            Disposition::Dead(_, evidence) if !evidence.bytes().is_empty() => evidence,
            Disposition::Dead(..)
            | Disposition::Retry(_)
            | Disposition::Verify(_)
            | Disposition::Cancelled
            | Disposition::Return => &self.attempt.evidence,
        }
    }

    /// Did the intent's outcome become unknown by this?
    pub(super) fn begins_doubt(&self) -> bool {
        // What is ours to fix was surely not processed: it is verified all the same, but nothing is in doubt.
        let ours = self.progress.last_class.as_deref() == Some(Class::Misconfigured.name());
        !self.was_unknown && !ours
    }

    /// What others learn of it.
    fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        let failed = self.attempt.outcome == "failed";
        if failed {
            events.push(json!({"type": "capture.attempt_failed", "data": {
                "class": self.attempt.class, "code": self.attempt.code, "http_status": self.attempt.http_status,
                "fence": self.ticket.fence, "attempts": self.progress.attempts, "purpose": self.ticket.purpose.name(),
            }}));
        }
        match &self.disposition {
            Disposition::Captured(receipt) => events.push(json!({"type": "capture.captured", "data": {
                "captured_minor": receipt.amount.minor, "provider_capture_id": receipt.provider_capture_id,
                "captured_at": receipt.captured_at, "proof": receipt.proof.name(), "attempts": self.progress.attempts,
            }})),
            Disposition::Retry(_) => events.push(json!({"type": "capture.retry_scheduled", "data": {
                "in_ms": ms(self.delay), "class": self.progress.last_class, "code": self.progress.last_code,
                "attempts": self.progress.attempts,
            }})),
            Disposition::Verify(_) => {
                if self.begins_doubt() {
                    events.push(json!({"type": "capture.outcome_unknown", "data": {
                        "fence": self.ticket.fence, "class": self.progress.last_class, "code": self.progress.last_code,
                    }}));
                }
            }
            Disposition::Dead(reason, _) => events.push(json!({"type": "capture.dead_lettered", "data": {
                "reason": reason.name(), "class": self.progress.last_class, "code": self.progress.last_code,
                "attempts": self.progress.attempts,
            }})),
            Disposition::Cancelled => events.push(
                json!({"type": "capture.cancelled", "data": {"by": "request", "reason": "requested while in flight"}}),
            ),
            Disposition::Return => {}
        }
        events
    }
}

/// What most results are, as columns: one place in each is one capture.
#[derive(Debug, Default)]
struct Captures<'a> {
    n: Vec<i32>,
    lease: Vec<Uuid>,
    slot: Vec<i32>,
    intent: Vec<Uuid>,
    fence: Vec<i32>,
    attempts: Vec<i16>,
    generation: Vec<i16>,
    sent: Vec<bool>,
    outcome: Vec<&'a str>,
    http_status: Vec<Option<i16>>,
    began_ms_ago: Vec<i64>,
    duration_ms: Vec<i32>,
    host: Vec<&'a str>,
    captured_minor: Vec<i64>,
    provider_capture_id: Vec<&'a str>,
    captured_at: Vec<Option<String>>,
    proof: Vec<&'a str>,
    evidence: Vec<&'a [u8]>,
}

impl<'a> Captures<'a> {
    /// The captures among them, and what the others are as documents.
    fn of(settlements: &'a [Settlement]) -> (Captures<'a>, Vec<Value>) {
        let mut captures = Captures::default();
        let mut others = Vec::new();
        for (n, settlement) in settlements.iter().enumerate() {
            match settlement.as_capture() {
                Some(receipt) => captures.add(n, settlement, receipt),
                None => others.push(settlement.document(n)),
            }
        }
        (captures, others)
    }

    fn add(&mut self, n: usize, settlement: &'a Settlement, receipt: &'a Receipt) {
        let (ticket, attempt) = (&settlement.ticket, &settlement.attempt);
        self.n.push(i32::try_from(n).unwrap_or(i32::MAX));
        self.lease.push(ticket.lease);
        self.slot.push(ticket.slot);
        self.intent.push(ticket.intent.0);
        self.fence.push(ticket.fence);
        self.attempts.push(settlement.progress.attempts);
        self.generation.push(attempt.generation.0);
        self.sent.push(attempt.sent);
        self.outcome.push(attempt.outcome);
        self.http_status
            .push(attempt.http_status.and_then(|status| i16::try_from(status).ok()));
        self.began_ms_ago
            .push(ms(crate::clock::Boottime::now().since(attempt.began)));
        self.duration_ms
            .push(i32::try_from(ms(attempt.took)).unwrap_or(i32::MAX));
        self.host.push(&attempt.host);
        self.captured_minor.push(receipt.amount.minor);
        self.provider_capture_id.push(&receipt.provider_capture_id);
        self.captured_at.push(receipt.captured_at.and_then(rfc3339));
        self.proof.push(receipt.proof.name());
        self.evidence.push(receipt.evidence.bytes());
    }
}

/// As serde writes it: events read the same whichever way a capture was recorded.
fn rfc3339(time: DateTime<Utc>) -> Option<String> {
    match serde_json::to_value(time) {
        Ok(Value::String(text)) => Some(text),
        Ok(_) | Err(_) => None,
    }
}

fn receipt_document(receipt: &Receipt) -> Value {
    json!({
        "captured_minor": receipt.amount.minor,
        "provider_capture_id": receipt.provider_capture_id,
        "captured_at": receipt.captured_at,
        "proof": receipt.proof.name(),
    })
}

pub(super) fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis())
        .unwrap_or(i64::MAX / 4)
        .min(i64::MAX / 4)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// What a batch of calls told of one lane: for its breaker, its rate limit and its pause.
#[derive(Debug, Clone, Serialize)]
pub struct LaneNews {
    /// Which lane.
    pub lane: LaneId,
    /// Did the provider answer any of the calls?
    pub answered: bool,
    /// Calls without an answer since the last answer (or in all).
    pub unanswered: u32,
    /// The breaker opens at so many in a row.
    pub failures: u32,
    /// For how long, at first.
    pub open_ms: u64,
    /// And at most.
    pub open_max_ms: u64,
    /// The provider asked the lane to wait.
    pub wait_ms: Option<u64>,
    /// Ours to fix: pause the lane, and why.
    pub pause_reason: Option<String>,
}

impl LaneNews {
    /// Is there nothing to tell but that the provider answers?
    fn is_nothing_but_answers(&self) -> bool {
        let LaneNews {
            lane: _,
            answered,
            unanswered,
            failures: _,
            open_ms: _,
            open_max_ms: _,
            wait_ms,
            pause_reason,
        } = self;
        *answered && *unanswered == 0 && wait_ms.is_none() && pause_reason.is_none()
    }
}

/// What became of one settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is recorded.
    Recorded,
    /// It was recorded before: the answer to an earlier try was lost.
    AlreadyRecorded,
    /// The lease was lost; the result is kept as a late result.
    LeaseLost,
    /// The intent itself is gone: a history of the database was lost. The result is kept nowhere but in the log.
    IntentLost,
}

impl Outbox {
    /// Records a batch; one entry of the answer per settlement, in order. Safe to repeat with the same batch when the
    /// answer is lost.
    pub async fn settle(&self, settlements: &[Settlement], lanes: &[LaneNews]) -> Result<Vec<Settled>, OutboxError> {
        let (captures, others) = Captures::of(settlements);
        let worker = settlements.first().map(|one| one.ticket.worker).unwrap_or_default();
        let others = Value::Array(others);
        // (all of them in one way or all in the other, so that lanes are locked in one order)
        let answered: Vec<i32> = lanes
            .iter()
            .filter(|news| news.is_nothing_but_answers())
            .map(|news| news.lane.0)
            .collect();
        let (answered, news) = match answered.len() == lanes.len() {
            true => (answered, json!([])),
            false => (Vec::new(), serde_json::to_value(lanes).unwrap_or_else(|_| json!([]))),
        };
        let mut seated = self.settles.take(&self.pool).await?;
        let mut tries = Tries::default();
        let rows = loop {
            let statement = sqlx::query!(
                r#"select n as "n!", settled as "settled!"
                   from settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)"#,
                worker,
                &captures.n,
                &captures.lease,
                &captures.slot,
                &captures.intent,
                &captures.fence,
                &captures.attempts,
                &captures.generation,
                &captures.sent,
                &captures.outcome as &[&str],
                &captures.http_status as &[Option<i16>],
                &captures.began_ms_ago,
                &captures.duration_ms,
                &captures.host as &[&str],
                &captures.captured_minor,
                &captures.provider_capture_id as &[&str],
                &captures.captured_at as &[Option<String>],
                &captures.proof as &[&str],
                &captures.evidence as &[&[u8]],
                others,
                news,
                &answered
            );
            match statement.fetch_all(&mut *seated).await {
                Ok(rows) => break rows,
                Err(error) => tries.again(error).await?,
            }
            // Over another connection: a plan that a migration made stale stays with its own.
            drop(seated);
            seated = self.settles.take(&self.pool).await?;
        };
        seated.keep();
        let mut settled = vec![Settled::IntentLost; settlements.len()];
        for row in rows {
            let said = match row.settled.as_str() {
                "recorded" => Settled::Recorded,
                "already_recorded" => Settled::AlreadyRecorded,
                "lease_lost" => Settled::LeaseLost,
                other => {
                    return Err(OutboxError::NotUnderstood {
                        what: format!("settle said '{other}'"),
                    });
                }
            };
            if let Some(place) = usize::try_from(row.n).ok().and_then(|n| settled.get_mut(n)) {
                *place = said;
            }
        }
        Ok(settled)
    }

    /// Which attempts of a lease are still open. For tests and tools.
    pub async fn open_slots(&self, lease: Uuid) -> Result<Option<i64>, OutboxError> {
        Ok(sqlx::query_scalar!(
            r#"select length(replace(settled::text, '1', ''))::bigint as "open!" from leases where id = $1"#,
            lease
        )
        .fetch_optional(&self.pool)
        .await?)
    }
}

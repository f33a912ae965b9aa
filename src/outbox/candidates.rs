//! The captures that an act on many may be for, and what an act on each is judged by.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{CaptureRow, Outbox, OutboxError, interval};
use crate::filter::{Filter, MOST_ROWS, State};
use crate::progress::Progress;

// The clock is asked once a statement, in a subquery: asked row by row it costs more than all the rest.

/// Ids that one statement looks for.
const PAGE: i64 = 20_000;

/// A capture with all that an act on it is judged by.
#[derive(Debug, Clone)]
pub struct CaptureFacts {
    /// The capture.
    pub row: CaptureRow,
    /// Since when it has ended; also the mark by which two operators cannot both act on it.
    pub ended_at: Option<DateTime<Utc>>,
    /// What is behind it; `None`: this version cannot read it.
    pub progress: Option<Progress>,
    /// A receipt came after its lease was lost: the next claim ends it as captured.
    pub late_receipt: bool,
    /// What was authorised in all, as far as it or a sibling says.
    pub authorized_minor: Option<i64>,
    /// What siblings have captured, or may have.
    pub committed_minor: i64,
    /// What a person said of it last.
    pub resolution: Option<Resolution>,
    /// Have shipments split it?
    pub was_split: bool,
    /// Of one that was split: what is left of it, if anything is.
    pub rest: Option<Rest>,
    /// The database's time.
    pub now: DateTime<Utc>,
}

/// What is left of a capture that shipments have split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// The capture that holds it.
    pub id: Uuid,
    /// How much.
    pub amount_minor: i64,
}

/// What a person said of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolution {
    /// Who.
    pub actor: String,
    /// `captured` or `not-captured`.
    pub truth: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Where it was seen.
    pub evidence: String,
    /// Why.
    pub reason: String,
}

/// Ids of captures that match a filter, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// What an act would be for.
    pub ids: Vec<Uuid>,
    /// Dead letters that match, but a person has resolved them as not captured: a filter does not mean them.
    pub resolved: Vec<Uuid>,
}

impl Outbox {
    /// The captures that match: dead letters if `filter.states` is `dead` alone, else such as have not ended.
    pub async fn candidates(&self, filter: &Filter) -> Result<Candidates, OutboxError> {
        let most = usize::try_from(filter.limit.unwrap_or(MOST_ROWS)).unwrap_or(usize::MAX);
        let mut found = Candidates::default();
        if filter.states != [State::Dead] {
            found.ids = self.open_candidates(filter, most).await?;
            return Ok(found);
        }
        let mut before = None;
        loop {
            let page = self.dead_page(filter, before).await?;
            let is_last = i64::try_from(page.len()).is_ok_and(|rows| rows < PAGE);
            before = page.last().map(|(id, _)| *id);
            for (id, resolved) in page {
                if found.ids.len() == most {
                    return Ok(found);
                }
                if resolved {
                    found.resolved.push(id);
                } else {
                    found.ids.push(id);
                }
            }
            if is_last {
                return Ok(found);
            }
        }
    }

    async fn dead_page(&self, filter: &Filter, before: Option<Uuid>) -> Result<Vec<(Uuid, bool)>, OutboxError> {
        let (sign, minor, currency) = amount_of(filter);
        let rows = sqlx::query!(
            r#"select o.intent, o.last_code is not distinct from 'resolved_not_captured' as "resolved!"
               from outcomes o join intents i on i.id = o.intent
               where o.state = 'dead'
                 and ($1::text is null or i.provider = $1)
                 and ($2::text is null or i.account = $2)
                 and ($3::text is null or o.last_class = $3)
                 and ($4::text is null or o.last_code = $4)
                 and ($5::text is null or i.order_id = $5)
                 and ($6::text is null or i.payment_id = $6)
                 and ($7::timestamptz is null or i.created_at >= $7)
                 and ($8::timestamptz is null or i.created_at < $8)
                 and ($9::text is null or (i.currency = $11 and case $9
                        when '<' then i.amount_minor < $10::bigint when '<=' then i.amount_minor <= $10::bigint
                        when '=' then i.amount_minor = $10::bigint when '>=' then i.amount_minor >= $10::bigint
                        when '>' then i.amount_minor > $10::bigint end))
                 and ($12::interval is null or (coalesce(o.expires_at, i.authorization_expires_at) > (select clock_now())
                      and coalesce(o.expires_at, i.authorization_expires_at) <= (select clock_now()) + $12))
                 and ($13::uuid is null or o.intent < $13)
               order by o.intent desc
               limit $14"#,
            filter.provider.as_deref(),
            filter.account.as_deref(),
            filter.class.map(|class| class.name()),
            filter.code.as_deref(),
            filter.order_id.as_deref(),
            filter.payment_id.as_deref(),
            filter.since,
            filter.until,
            sign,
            minor,
            currency,
            filter.expires_within.map(interval),
            before,
            PAGE
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.intent, row.resolved)).collect())
    }

    /// From the three places where an intent that has not ended can be: they are small beside all intents.
    async fn open_candidates(&self, filter: &Filter, most: usize) -> Result<Vec<Uuid>, OutboxError> {
        let states: Vec<String> = filter.states.iter().map(|state| state.name().to_owned()).collect();
        let (sign, minor, currency) = amount_of(filter);
        Ok(sqlx::query_scalar!(
            r#"select i.id
               from (
                   select r.intent, case when r.purpose = 2 then 'verifying' else 'ready' end as state from ready r
                   union all
                   select w.intent, case when w.purpose = 2 then 'verifying' when w.cause = 'held' then 'held' else 'scheduled' end from waiting w
                   union all
                   select s.intent, 'leased' from leases l, unnest(l.intents) with ordinality as s(intent, place)
                   where get_bit(l.settled, s.place::integer - 1) = 0
               ) open
               join intents i on i.id = open.intent
               left join progress p on p.intent = i.id
               left join deadlines d on d.intent = i.id
               where open.state = any ($13)
                 and ($1::text is null or i.provider = $1)
                 and ($2::text is null or i.account = $2)
                 and ($3::text is null or p.last_class = $3)
                 and ($4::text is null or p.last_code = $4)
                 and ($5::text is null or i.order_id = $5)
                 and ($6::text is null or i.payment_id = $6)
                 and ($7::timestamptz is null or i.created_at >= $7)
                 and ($8::timestamptz is null or i.created_at < $8)
                 and ($9::text is null or (i.currency = $11 and case $9
                        when '<' then i.amount_minor < $10::bigint when '<=' then i.amount_minor <= $10::bigint
                        when '=' then i.amount_minor = $10::bigint when '>=' then i.amount_minor >= $10::bigint
                        when '>' then i.amount_minor > $10::bigint end))
                 and ($12::interval is null or (d.expires_at > (select clock_now()) and d.expires_at <= (select clock_now()) + $12))
               order by i.id desc
               limit $14"#,
            filter.provider.as_deref(),
            filter.account.as_deref(),
            filter.class.map(|class| class.name()),
            filter.code.as_deref(),
            filter.order_id.as_deref(),
            filter.payment_id.as_deref(),
            filter.since,
            filter.until,
            sign,
            minor,
            currency,
            filter.expires_within.map(interval),
            &states,
            i64::try_from(most).unwrap_or(i64::MAX)
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// What an act on these captures is judged by, in no order. An id of no capture has no row.
    pub async fn capture_facts(&self, ids: &[Uuid]) -> Result<Vec<CaptureFacts>, OutboxError> {
        let rows = sqlx::query!(
            r#"select s.id as "id!", s.provider as "provider!", s.account as "account!", s.order_id as "order_id!",
                      s.payment_id as "payment_id!", s.capture_ref as "capture_ref!", s.amount_minor::bigint as "amount_minor!",
                      s.currency as "currency!", s.state as "state!", s.attempts as "attempts!", s.last_class, s.last_code,
                      s.next_attempt_at, s.captured_minor::bigint as captured_minor, s.provider_capture_id, s.captured_at, s.dead_reason,
                      s.created_at as "created_at!", x.expires_at as "authorization_expires_at?", x.source as "expiry_source?",
                      (select w.requested_at from cancel_requests w where w.intent = s.id) as "cancel_requested_at?",
                      o.ended_at as "ended_at?", p.progress as "progress?",
                      exists (select from late_results t where t.intent = s.id and t.proof in ('answer', 'reference')) as "late_receipt!",
                      coalesce(i.authorized_minor, sib.authorized_minor)::bigint as authorized_minor, sib.committed_minor as "committed_minor!",
                      said.actor as "actor?", said.at as "at?", said.reason as "reason?", said.detail as "detail?", (select clock_now()) as "now!",
                      exists (select from splits x where x.intent = s.id) as "was_split!",
                      rest.id as "rest?", rest.amount_minor::bigint as "rest_minor?"
               from unnest($1::uuid[]) as asked(id)
               -- Each looked up by its key, whatever the statistics say of tables that fill and empty.
               cross join lateral (select s.* from status s where s.id = asked.id offset 0) s
               cross join lateral (select i.* from intents i where i.id = asked.id limit 1) i
               cross join lateral (select x.* from expiries x where x.intent = asked.id limit 1) x
               left join lateral (select o.ended_at, o.proof, o.last_code from outcomes o where o.intent = asked.id limit 1) o on true
               left join lateral (select to_jsonb(p) - 'intent' as progress from progress p where p.intent = asked.id limit 1) p on true
               cross join lateral (
                   select coalesce(sum(case when x.state = 'captured' then x.captured_minor
                                            when x.dead_reason = 'undecided' then b.amount_minor else 0 end), 0)::bigint as committed_minor,
                          (array_agg(b.authorized_minor order by b.created_at desc, b.id desc) filter (where b.authorized_minor is not null))[1] as authorized_minor
                   from intents b left join outcomes x on x.intent = b.id
                   where b.provider = i.provider and b.account = i.account and b.payment_id = i.payment_id and b.id <> i.id
               ) sib
               left join lateral (
                   select a.actor, a.at, a.reason, a.detail from audit a
                   where a.intent = s.id and a.action = 'resolve' and (o.proof = 'person' or o.last_code = 'resolved_not_captured')
                   order by a.id desc limit 1
               ) said on true
               left join lateral (select r.id, r.amount_minor from intents r where r.id = left_of_split(s.id) limit 1) rest on true"#,
            ids
        )
        .fetch_all(&self.pool)
        .await?;
        let facts = rows.into_iter().map(|row| {
            let text = |name: &str| {
                let value = row.detail.as_ref().and_then(|detail| detail.get(name));
                value.and_then(|value| value.as_str()).unwrap_or("?").to_owned()
            };
            let resolution = match (&row.actor, row.at, &row.reason) {
                (Some(actor), Some(at), Some(reason)) => Some(Resolution {
                    actor: actor.clone(),
                    truth: text("as"),
                    at,
                    evidence: text("evidence"),
                    reason: reason.clone(),
                }),
                _ => None,
            };
            CaptureFacts {
                ended_at: row.ended_at,
                progress: row.progress.map_or(Some(Progress::default()), |progress| {
                    serde_json::from_value(progress).ok()
                }),
                late_receipt: row.late_receipt,
                authorized_minor: row.authorized_minor,
                committed_minor: row.committed_minor,
                resolution,
                was_split: row.was_split,
                rest: row
                    .rest
                    .zip(row.rest_minor)
                    .map(|(id, amount_minor)| Rest { id, amount_minor }),
                now: row.now,
                row: CaptureRow {
                    id: row.id,
                    provider: row.provider,
                    account: row.account,
                    order_id: row.order_id,
                    payment_id: row.payment_id,
                    capture_ref: row.capture_ref,
                    amount_minor: row.amount_minor,
                    currency: row.currency,
                    state: row.state,
                    attempts: row.attempts,
                    last_class: row.last_class,
                    last_code: row.last_code,
                    next_attempt_at: row.next_attempt_at,
                    captured_minor: row.captured_minor,
                    provider_capture_id: row.provider_capture_id,
                    captured_at: row.captured_at,
                    dead_reason: row.dead_reason,
                    created_at: row.created_at,
                    authorization_expires_at: row.authorization_expires_at,
                    expiry_source: row.expiry_source,
                    cancel_requested_at: row.cancel_requested_at,
                },
            }
        });
        Ok(facts.collect())
    }
}

fn amount_of(filter: &Filter) -> (Option<&'static str>, Option<i64>, Option<&'static str>) {
    match filter.amount {
        Some((comparison, money)) => (Some(comparison.sign()), Some(money.minor), Some(money.currency.code())),
        None => (None, None, None),
    }
}

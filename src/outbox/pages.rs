//! Captures that match a filter, the newest first, a page at a time, however many there are.
//!
//! The order is (created_at, id): a caller may give ids that are in no order, so the id alone would not be "the newest
//! first". A page goes on behind the last one's cursor, never by counting rows: a walk over all pages meets each capture
//! that was there at its beginning once, whatever is inserted meanwhile.
//!
//! Few of millions must be found without looking at all. [`Way`] says where a filter's captures are looked for: in the
//! small tables of what is open, in an index of what ended badly, by order or payment. Only a filter that names none of
//! these is looked up along the order itself, and then a page looks at so many captures and no more: it may come back
//! short, or empty, with a cursor to go on from.

mod arms;
mod way;

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::captures::CaptureRow;
use super::{Outbox, OutboxError};
use crate::filter::Filter;

use arms::{Span, push_arms};
use way::Way;

/// Where a walk over captures stands: behind this one. Text that means nothing to others, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// When the last capture was created.
    created_at: DateTime<Utc>,
    /// Its id.
    id: Uuid,
}

/// A text that is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor of a list of captures; pass `next` of a page as it came, or none to begin at the newest")]
pub struct CursorFault;

impl Cursor {
    /// Behind this capture.
    pub fn behind(row: &CaptureRow) -> Cursor {
        Cursor {
            created_at: row.created_at,
            id: row.id,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 24];
        let (time, id) = bytes.split_at_mut(8);
        time.copy_from_slice(&self.created_at.timestamp_micros().to_be_bytes());
        id.copy_from_slice(self.id.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorFault;

    fn from_str(text: &str) -> Result<Cursor, CursorFault> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| CursorFault)?;
        let (time, id) = bytes.split_at_checked(8).ok_or(CursorFault)?;
        let time = i64::from_be_bytes(time.try_into().map_err(|_| CursorFault)?);
        let created_at = DateTime::from_timestamp_micros(time).ok_or(CursorFault)?;
        // What the database keeps no capture of would make it refuse the question.
        let kept = (946_684_800_000_000..7_258_118_400_000_000).contains(&time);
        let id = Uuid::from_slice(id).map_err(|_| CursorFault)?;
        if kept {
            Ok(Cursor { created_at, id })
        } else {
            Err(CursorFault)
        }
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Some rows, and where to go on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page<T> {
    /// The newest first. May be fewer than were asked for, or none, while `next` says that there is more to look at.
    pub rows: Vec<T>,
    /// Pass it next time; `None`: that was all.
    pub next: Option<Cursor>,
    /// The database's time when it was read.
    pub as_of: DateTime<Utc>,
}

/// How many captures are looked at in one step of a walk along the order. The first step is small, because most filters
/// find a page's worth there; together they bound what one page costs.
const STEPS: [u32; 3] = [4_000, 16_000, 64_000];

impl Outbox {
    /// A page of the captures that match, the newest first. The filter's own limit is not looked at.
    pub async fn page(
        &self,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<CaptureRow>, OutboxError> {
        let limit = limit.max(1);
        let way = Way::of(self, filter).await?;
        let mut page = Page {
            rows: Vec::new(),
            next: after.copied(),
            as_of: self.now().await?,
        };
        let (steps, walked) = way.steps();
        for step in STEPS.into_iter().take(steps) {
            // A capture that is inserted between the two statements changes nothing: the end of a step is a place in the
            // order, not a number of rows.
            let end = self.walk_end(filter, page.next, step).await?;
            let span = Span { after: page.next, end };
            let along = Way::Walk { plain: false };
            let full = self.fill(&mut page.rows, &along, filter, span, limit).await?;
            page.next = full.or(end);
            if full.is_some() || end.is_none() {
                return Ok(page);
            }
        }
        if !walked {
            let rest = Span::behind(page.next);
            page.next = self.fill(&mut page.rows, &way, filter, rest, limit).await?;
        }
        Ok(page)
    }

    /// Adds what matches in that part of the order, up to the limit; if there is more, where to go on.
    async fn fill(
        &self,
        rows: &mut Vec<CaptureRow>,
        way: &Way,
        filter: &Filter,
        span: Span,
        limit: u32,
    ) -> Result<Option<Cursor>, OutboxError> {
        let wanted = limit as usize;
        let missing = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        let mut sql = QueryBuilder::new("with picked as materialized (select c.id, c.created_at from (");
        push_arms(&mut sql, way, filter, &span, missing.saturating_add(1));
        sql.push(") c order by c.created_at desc, c.id desc limit ");
        sql.push(missing.saturating_add(1).to_string());
        sql.push(ROWS);
        // Not prepared: a plan that is kept does not know how many rows a filter's values choose.
        let query = sql.build_query_as::<CaptureRow>().persistent(false);
        rows.extend(query.fetch_all(&self.pool).await?);
        if rows.len() <= wanted {
            return Ok(None);
        }
        rows.truncate(wanted);
        Ok(rows.last().map(Cursor::behind))
    }

    /// Where a step of so many captures along the order ends; `None`: with the oldest.
    async fn walk_end(&self, filter: &Filter, after: Option<Cursor>, step: u32) -> Result<Option<Cursor>, OutboxError> {
        let mut sql: QueryBuilder<Postgres> = QueryBuilder::new("select i.created_at, i.id from intents i where true");
        Span::behind(after).push(&mut sql, filter);
        sql.push(" order by i.created_at desc, i.id desc limit 1 offset ");
        sql.push((step - 1).to_string());
        let found: Option<(DateTime<Utc>, Uuid)> = sql
            .build_query_as()
            .persistent(false)
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.map(|(created_at, id)| Cursor { created_at, id }))
    }
}

/// What is shown of those that were picked. The limit keeps the planner at looking up each one.
const ROWS: &str = ") select s.*
    from picked k
    cross join lateral (
        select s.id, s.provider, s.account, s.order_id, s.payment_id, s.capture_ref, s.amount_minor::bigint as amount_minor,
               s.currency, s.state, s.attempts, s.last_class, s.last_code, s.next_attempt_at,
               s.captured_minor::bigint as captured_minor, s.provider_capture_id, s.captured_at, s.dead_reason, s.created_at,
               x.expires_at as authorization_expires_at, x.source as expiry_source,
               (select w.requested_at from cancel_requests w where w.intent = s.id) as cancel_requested_at
        from status s join expiries x on x.intent = s.id where s.id = k.id limit 1
    ) s
    order by k.created_at desc, k.id desc";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_nothing_else_is_one() {
        let cursor = Cursor {
            created_at: "2026-11-22T01:14:15.447123Z".parse().unwrap(),
            id: Uuid::from_u128(7),
        };
        let text = cursor.to_string();
        assert_eq!(text.parse(), Ok(cursor));
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
            "{text}"
        );
        assert_eq!(serde_json::to_value(cursor).unwrap(), text);
        for bad in [
            "",
            "x",
            "AAAA",
            "'; drop table intents",
            &text[1..],
            &format!("{text}A"),
            &"A".repeat(32),
            &"_".repeat(32),
        ] {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorFault), "{bad}");
        }
    }
}

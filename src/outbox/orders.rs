//! The ledger of an order: what was authorised, and where it is.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::captures::CaptureRow;
use super::dead_letters::RESOLVED_NOT_CAPTURED;
use super::{Outbox, OutboxError};
use crate::filter::State;
use crate::intent::Lane;
use crate::retry::DeadReason;

/// The payments of an order.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OrderLedger {
    /// The order.
    pub order_id: String,
    /// By provider, account, payment and currency.
    pub payments: Vec<PaymentLedger>,
    /// There are more captures than were read: the sums are of the newest ones only.
    pub truncated: bool,
    /// The database's time when it was read.
    pub as_of: DateTime<Utc>,
}

/// One payment in one currency, with every capture of it, also those of other orders: they draw on the same money.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PaymentLedger {
    /// Provider and account.
    #[serde(flatten)]
    pub lane: Lane,
    /// The payment.
    pub payment_id: String,
    /// ISO 4217.
    pub currency: String,
    /// Authorised in all, if a capture says so; the newest one's word.
    pub authorized_minor: Option<i64>,
    /// Captured.
    pub captured_minor: i64,
    /// Held for a release.
    pub held_minor: i64,
    /// May have been captured: verifying, or left to a person undecided.
    pub unknown_minor: i64,
    /// On its way: scheduled, ready, or in a worker's hands.
    pub open_minor: i64,
    /// Dead without doubt, and nobody has closed it.
    pub dead_minor: i64,
    /// The newest first.
    pub captures: Vec<CaptureRow>,
}

/// So many captures of an order's payments are read. No order has so many; an order id that everything is filed under has.
const MOST: usize = 5_000;

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    capture: CaptureRow,
    authorized_minor: Option<i64>,
}

impl Outbox {
    /// The ledger of an order; `None`: no capture names it. The same order id may be used with several accounts.
    pub async fn order(
        &self,
        order_id: &str,
        provider: Option<&str>,
        account: Option<&str>,
    ) -> Result<Option<OrderLedger>, OutboxError> {
        let as_of = self.now().await?;
        let mut rows: Vec<Row> = sqlx::query_as(ROWS)
            .bind(order_id)
            .bind(provider)
            .bind(account)
            .fetch_all(&self.pool)
            .await?;
        let truncated = rows.len() > MOST;
        rows.truncate(MOST);
        let mut payments: Vec<PaymentLedger> = Vec::new();
        for row in rows {
            let at = payments.iter().position(|payment| payment.is_of(&row.capture));
            match at.and_then(|at| payments.get_mut(at)) {
                Some(payment) => payment.add(row),
                None => {
                    let mut payment = PaymentLedger::new(&row.capture);
                    payment.add(row);
                    payments.push(payment);
                }
            }
        }
        payments.sort_by(|a, b| (&a.lane, &a.payment_id, &a.currency).cmp(&(&b.lane, &b.payment_id, &b.currency)));
        Ok((!payments.is_empty()).then(|| OrderLedger {
            order_id: order_id.to_owned(),
            payments,
            truncated,
            as_of,
        }))
    }
}

/// The newest first.
const ROWS: &str = "select s.*, c.authorized_minor::bigint as authorized_minor
    from (
        select i.id, i.created_at, i.authorized_minor
        from (
            select distinct o.provider, o.account, o.payment_id from intents o
            where o.order_id = $1 and ($2::text is null or o.provider = $2) and ($3::text is null or o.account = $3)
        ) p
        cross join lateral (
            select i.id, i.created_at, i.authorized_minor from intents i
            where i.provider = p.provider and i.account = p.account and i.payment_id = p.payment_id offset 0
        ) i
        order by i.created_at desc, i.id desc
        limit 5001
    ) c
    cross join lateral (
        select s.id, s.provider, s.account, s.order_id, s.payment_id, s.capture_ref, s.amount_minor::bigint as amount_minor,
               s.currency, s.state, s.attempts, s.last_class, s.last_code, s.next_attempt_at,
               s.captured_minor::bigint as captured_minor, s.provider_capture_id, s.captured_at, s.dead_reason, s.created_at,
               x.expires_at as authorization_expires_at, x.source as expiry_source,
               (select w.requested_at from cancel_requests w where w.intent = s.id) as cancel_requested_at
        from status s join expiries x on x.intent = s.id where s.id = c.id limit 1
    ) s
    order by c.created_at desc, c.id desc";

impl PaymentLedger {
    fn new(capture: &CaptureRow) -> PaymentLedger {
        PaymentLedger {
            lane: Lane {
                provider: capture.provider.clone(),
                account: capture.account.clone(),
            },
            payment_id: capture.payment_id.clone(),
            currency: capture.currency.clone(),
            authorized_minor: None,
            captured_minor: 0,
            held_minor: 0,
            unknown_minor: 0,
            open_minor: 0,
            dead_minor: 0,
            captures: Vec::new(),
        }
    }

    fn is_of(&self, capture: &CaptureRow) -> bool {
        self.lane.provider == capture.provider
            && self.lane.account == capture.account
            && self.payment_id == capture.payment_id
            && self.currency == capture.currency
    }

    fn add(&mut self, row: Row) {
        let capture = row.capture;
        self.authorized_minor = self.authorized_minor.or(row.authorized_minor);
        let asked = capture.amount_minor;
        let (sum, minor) = match State::from_name(&capture.state) {
            Some(State::Captured) => (&mut self.captured_minor, capture.captured_minor.unwrap_or(asked)),
            Some(State::Held) => (&mut self.held_minor, asked),
            Some(State::Verifying) => (&mut self.unknown_minor, asked),
            Some(State::Scheduled | State::Ready | State::Leased) => (&mut self.open_minor, asked),
            Some(State::Dead) if capture.last_code.as_deref() == Some(RESOLVED_NOT_CAPTURED) => {
                (&mut self.dead_minor, 0)
            }
            Some(State::Dead) if capture.dead_reason.as_deref() == Some(DeadReason::Undecided.name()) => {
                (&mut self.unknown_minor, asked)
            }
            Some(State::Dead) => (&mut self.dead_minor, asked),
            Some(State::Cancelled) | None => (&mut self.open_minor, 0),
        };
        *sum = sum.saturating_add(minor);
        self.captures.push(capture);
    }
}

//! The ledger of an order.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use chrono::{DateTime, Utc};

use super::fault::Fault;
use super::frame::{Frame, Look, written};
use super::rows::Row;
use super::shown::money;
use super::visitor::Visitor;
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::PaymentLedger;

/// One payment.
pub struct Ledger {
    /// `provider/account`.
    pub lane: String,
    /// The payment.
    pub payment: String,
    /// Where its money is.
    pub lines: Vec<(&'static str, String, &'static str)>,
    /// Its captures.
    pub rows: Vec<Row>,
}

impl Ledger {
    /// Of a payment.
    pub fn of(payment: &PaymentLedger, now: DateTime<Utc>) -> Ledger {
        let shown = |minor| money(minor, &payment.currency);
        let tone = |minor: i64, tone| if minor == 0 { "" } else { tone };
        let authorized = payment.authorized_minor.map_or_else(|| "not told".to_owned(), shown);
        Ledger {
            lane: payment.lane.to_string(),
            payment: payment.payment_id.clone(),
            lines: vec![
                ("Authorised", authorized, ""),
                (
                    "Captured",
                    shown(payment.captured_minor),
                    tone(payment.captured_minor, "good"),
                ),
                ("Held", shown(payment.held_minor), tone(payment.held_minor, "warn")),
                ("On its way", shown(payment.open_minor), ""),
                (
                    "Unknown",
                    shown(payment.unknown_minor),
                    tone(payment.unknown_minor, "warn"),
                ),
                ("Dead", shown(payment.dead_minor), tone(payment.dead_minor, "bad")),
            ],
            rows: payment.captures.iter().map(|capture| Row::of(capture, now)).collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "order.html")]
struct OrderPage {
    frame: Frame,
    order: String,
    ledgers: Vec<Ledger>,
    truncated: bool,
}

/// Shows it.
pub async fn page(
    State(office): State<Arc<Office>>,
    visitor: Visitor,
    Path(order): Path<String>,
    mut parameters: Parameters,
) -> Result<Response, Fault> {
    let provider = parameters.take("provider")?;
    let account = parameters.take("account")?;
    parameters.none_left(&["provider", "account"])?;
    let look = Look::begin(&office.outbox).await?;
    let found = office
        .outbox
        .order(&order, provider.as_deref(), account.as_deref())
        .await?;
    let found = found.ok_or_else(|| {
        Problem::not_found("no capture names this order").hint("look for it among the captures, by its payment")
    })?;
    let page = OrderPage {
        frame: Frame::new(&visitor, format!("Order {order}"), "/captures", 5, look.now),
        order,
        ledgers: found
            .payments
            .iter()
            .map(|payment| Ledger::of(payment, look.now))
            .collect(),
        truncated: found.truncated,
    };
    written(&page, &page.frame)
}

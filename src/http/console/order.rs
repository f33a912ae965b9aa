//! The ledger of an order, and what its providers say of it.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Redirect, Response};
use chrono::{DateTime, Utc};

use super::fault::Fault;
use super::frame::{Frame, Look, written};
use super::rows::{Row, Said};
use super::shown::{address, money, part};
use super::visitor::{Sent, Visitor};
use crate::api_key::Scope;
use crate::http::inquiry::{Answers, NO_CREDENTIALS};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{CaptureRow, OrderLedger, PaymentLedger};

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
    asking: Asking,
}

/// What a page offers, or has learnt, of what providers say.
pub struct Asking {
    /// Where its form goes; `None`: this visitor may not, or this server cannot.
    pub path: Option<String>,
    /// Why it cannot, or what went wrong.
    pub banner: Option<String>,
    /// Was it asked?
    pub asked: bool,
}

impl Asking {
    /// Before it was asked.
    pub fn offered(visitor: &Visitor, path: String, can: bool) -> Asking {
        let may = visitor.may(Scope::Operate);
        Asking {
            path: (may && can).then_some(path),
            banner: (may && !can).then(|| NO_CREDENTIALS.to_owned()),
            asked: false,
        }
    }
}

/// Of which payments.
struct Account {
    provider: Option<String>,
    account: Option<String>,
}

impl Account {
    fn read(mut parameters: Parameters) -> Result<Account, Fault> {
        let account = Account {
            provider: parameters.take("provider")?,
            account: parameters.take("account")?,
        };
        parameters.none_left(&["provider", "account"])?;
        Ok(account)
    }

    async fn order(&self, office: &Office, order: &str) -> Result<OrderLedger, Fault> {
        let (provider, account) = (self.provider.as_deref(), self.account.as_deref());
        let found = office.outbox.order(order, provider, account).await?;
        found.ok_or_else(|| {
            Problem::not_found("no capture names this order")
                .hint("look for it among the captures, by its payment")
                .into()
        })
    }

    /// Where the order is shown or, with `/ask`, asked about.
    fn address(&self, order: &str, then: &str) -> String {
        let pairs = [("provider", &self.provider), ("account", &self.account)];
        let pairs: Vec<(&str, &str)> = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect();
        address(&format!("/orders/{}{then}", part(order)), &pairs)
    }
}

/// Shows it.
pub async fn page(
    State(office): State<Arc<Office>>,
    visitor: Visitor,
    Path(order): Path<String>,
    parameters: Parameters,
) -> Result<Response, Fault> {
    let account = Account::read(parameters)?;
    let look = Look::begin(&office.outbox).await?;
    let found = account.order(&office, &order).await?;
    let can = found
        .payments
        .iter()
        .any(|payment| office.inquiry.knows(&payment.lane.provider, &payment.lane.account));
    let asking = Asking::offered(&visitor, account.address(&order, "/ask"), can);
    show(&visitor, order, &found, &look, asking, &Answers::default())
}

/// Asks the providers about its captures, and shows it with what they say.
pub async fn ask(
    State(office): State<Arc<Office>>,
    Path(order): Path<String>,
    parameters: Parameters,
    sent: Sent,
) -> Result<Response, Fault> {
    sent.visitor.caller.must(Scope::Operate)?;
    let account = Account::read(parameters)?;
    let asked = account.order(&office, &order).await?;
    let captures: Vec<&CaptureRow> = asked.payments.iter().flat_map(|payment| &payment.captures).collect();
    let answers = office.inquiry.about(&office.outbox, &captures).await?;
    tracing::info!(
        name = sent.visitor.caller.name,
        order,
        "providers were asked about an order in the console"
    );
    // Looked at anew: what moved while the provider was waited for must not be compared with what was before.
    let look = Look::begin(&office.outbox).await?;
    let found = account.order(&office, &order).await?;
    let asking = Asking {
        path: Some(account.address(&order, "/ask")),
        banner: answers.banner.clone(),
        asked: true,
    };
    show(&sent.visitor, order, &found, &look, asking, &answers)
}

/// Who opens the address of the question alone sees the order.
pub async fn back(Path(order): Path<String>, parameters: Parameters) -> Result<Redirect, Fault> {
    Ok(Redirect::to(&Account::read(parameters)?.address(&order, "")))
}

fn show(
    visitor: &Visitor,
    order: String,
    found: &OrderLedger,
    look: &Look,
    asking: Asking,
    answers: &Answers,
) -> Result<Response, Fault> {
    // An answer stands until somebody asks again: a page that updates itself would wipe it away.
    let live = if asking.asked { 0 } else { 5 };
    let ledgers = found.payments.iter().map(|payment| {
        let mut ledger = Ledger::of(payment, look.now);
        for (row, capture) in ledger.rows.iter_mut().zip(&payment.captures) {
            row.said = answers.told.get(&capture.id).map(Said::from);
        }
        ledger
    });
    let page = OrderPage {
        frame: Frame::new(visitor, format!("Order {order}"), "/captures", live, look.now),
        ledgers: ledgers.collect(),
        truncated: found.truncated,
        order,
        asking,
    };
    written(&page, &page.frame)
}

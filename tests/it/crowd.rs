//! Many captures in every state, behind the product's back: the script that also makes three million.

use capture::filter::Filter;
use capture::outbox::CaptureRow;
use chrono::{DateTime, Utc};
use sqlx::Row;
use uuid::Uuid;

use crate::database::Session;

const SCRIPT: &str = include_str!("../../benches/three_million.sql");

/// Fills the tables.
pub async fn crowd(db: &mut Session, captures: u32) {
    let ours =
        |line: &&str| !line.starts_with('\\') && !line.starts_with("vacuum") && !line.starts_with("select place");
    let script: Vec<&str> = SCRIPT.lines().filter(ours).collect();
    db.run(&script.join("\n").replace(":captures", &captures.to_string()))
        .await;
    db.run("set search_path to default").await;
    db.run("vacuum analyze").await;
}

/// What a filter is judged by, of one capture.
pub struct Known {
    pub id: Uuid,
    provider: String,
    account: String,
    order_id: String,
    payment_id: String,
    currency: String,
    amount_minor: i64,
    pub state: String,
    class: Option<String>,
    code: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}

/// Every capture there is, in the order of a list, and the time.
pub async fn known(db: &mut Session) -> Vec<Known> {
    let rows = db
        .rows(
            "select s.id, s.provider, s.account, s.order_id, s.payment_id, s.currency, s.amount_minor::bigint, s.state, s.last_class, s.last_code,
                    s.created_at, i.authorization_expires_at
             from capture.status s join capture.intents i on i.id = s.id order by s.created_at desc, s.id desc",
        )
        .await;
    let of = |row: &sqlx::postgres::PgRow| Known {
        id: row.get(0),
        provider: row.get(1),
        account: row.get(2),
        order_id: row.get(3),
        payment_id: row.get(4),
        currency: row.get(5),
        amount_minor: row.get(6),
        state: row.get(7),
        class: row.get(8),
        code: row.get(9),
        created_at: row.get(10),
        expires_at: row.get(11),
    };
    rows.iter().map(of).collect()
}

impl Known {
    pub fn order(&self) -> &str {
        &self.order_id
    }

    pub fn payment(&self) -> &str {
        &self.payment_id
    }

    /// Word by word what the filter says.
    pub fn matches(&self, filter: &Filter, now: DateTime<Utc>) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let amount = filter.amount.is_none_or(|(comparison, money)| {
            money.currency.code() == self.currency
                && match comparison.sign() {
                    "<" => self.amount_minor < money.minor,
                    "<=" => self.amount_minor <= money.minor,
                    "=" => self.amount_minor == money.minor,
                    ">=" => self.amount_minor >= money.minor,
                    _ => self.amount_minor > money.minor,
                }
        });
        let ends = filter.expires_within.is_none_or(|within| {
            self.state != "captured"
                && self.state != "cancelled"
                && self.expires_at.is_some_and(|at| at > now && at <= now + within)
        });
        is(&filter.provider, &self.provider)
            && is(&filter.account, &self.account)
            && is(&filter.order_id, &self.order_id)
            && is(&filter.payment_id, &self.payment_id)
            && (filter.states.is_empty() || filter.states.iter().any(|state| state.name() == self.state))
            && filter
                .class
                .is_none_or(|class| Some(class.name()) == self.class.as_deref())
            && filter.code.as_ref().is_none_or(|code| Some(code) == self.code.as_ref())
            && filter.since.is_none_or(|since| self.created_at >= since)
            && filter.until.is_none_or(|until| self.created_at < until)
            && amount
            && ends
    }
}

/// The ids of rows.
pub fn ids(rows: &[CaptureRow]) -> Vec<Uuid> {
    rows.iter().map(|row| row.id).collect()
}

//! A capture as a row of a list.

use chrono::{DateTime, Utc};

use super::shown::{Ends, Time, exponent, money, part, tone_of_state};
use crate::filter::State;
use crate::operations::Told;
use crate::outbox::{CaptureRow, RESOLVED_NOT_CAPTURED};

/// A row.
pub struct Row {
    /// The intent.
    pub id: String,
    /// Its order.
    pub order: String,
    /// Where the order's ledger is.
    pub order_path: String,
    /// The amount, for people.
    pub amount: String,
    /// Minor units, for the script's sum.
    pub minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Decimals of the currency.
    pub exponent: u32,
    /// Its state.
    pub state: String,
    /// The state's tone.
    pub tone: &'static str,
    /// Why it is dead.
    pub why: String,
    /// Class of the last failure.
    pub class: String,
    /// Its code.
    pub code: String,
    /// `provider/account`.
    pub lane: String,
    /// Capture POSTs that counted.
    pub attempts: i16,
    /// How soon the authorisation ends, while that matters.
    pub ends: Option<Ends>,
    /// When it was asked.
    pub created: Time,
    /// What its provider says, if it was asked.
    pub said: Option<Said>,
}

impl Row {
    /// Of a capture, looked at now.
    pub fn of(row: &CaptureRow, now: DateTime<Utc>) -> Row {
        let closed = is_closed(row);
        let state = State::from_name(&row.state);
        let matters = !closed && !matches!(state, Some(State::Captured | State::Cancelled));
        Row {
            id: row.id.to_string(),
            order: row.order_id.clone(),
            order_path: order_path(row),
            amount: money(row.amount_minor, &row.currency),
            minor: row.amount_minor,
            currency: row.currency.clone(),
            exponent: exponent(&row.currency),
            state: match closed {
                true => "closed".to_owned(),
                false => row.state.clone(),
            },
            tone: match closed {
                true => "",
                false => tone_of_state(&row.state),
            },
            why: match closed {
                true => "not captured".to_owned(),
                false => row.dead_reason.clone().unwrap_or_default(),
            },
            class: row.last_class.clone().unwrap_or_default(),
            code: row.last_code.clone().unwrap_or_default(),
            lane: format!("{}/{}", row.provider, row.account),
            attempts: row.attempts,
            ends: row
                .authorization_expires_at
                .filter(|_| matters)
                .map(|at| Ends::of(at, row.expiry_source.as_deref(), now)),
            created: Time::day(row.created_at),
            said: None,
        }
    }
}

/// A provider's word beside ours.
pub struct Said {
    /// In words.
    pub says: String,
    /// Whether the two agree.
    pub verdict: &'static str,
    /// How bad that is.
    pub tone: &'static str,
}

impl From<&Told> for Said {
    fn from(told: &Told) -> Said {
        let (verdict, tone) = match told.differs {
            Some(true) => ("differs from ours", "bad"),
            Some(false) => ("agrees with ours", "good"),
            None => ("says nothing about it", "warn"),
        };
        Said {
            says: told.says.clone(),
            verdict,
            tone,
        }
    }
}

/// Has a person settled it as not captured?
pub fn is_closed(row: &CaptureRow) -> bool {
    row.state == State::Dead.name() && row.last_code.as_deref() == Some(RESOLVED_NOT_CAPTURED)
}

/// Where the ledger of its order is.
pub fn order_path(row: &CaptureRow) -> String {
    format!(
        "/orders/{}?provider={}&account={}",
        part(&row.order_id),
        part(&row.provider),
        part(&row.account)
    )
}

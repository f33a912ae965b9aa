//! How captures are written, the same on every verb that shows them.

use crate::filter::State;
use crate::intent::{Currency, Money};
use crate::outbox::CaptureRow;

use super::output::{Cell, Column, Format, Output};

/// For programs: every field of the contract's view, under its names.
const WHOLE: [Column; 18] = [
    Column::id("id"),
    Column::text("provider"),
    Column::text("account"),
    Column::text("order_id"),
    Column::text("payment_id"),
    Column::text("capture_ref"),
    Column::money("amount"),
    Column::text("state"),
    Column::number("attempts"),
    Column::text("last_class"),
    Column::text("last_code"),
    Column::text("next_attempt_at"),
    Column::money("captured"),
    Column::text("provider_capture_id"),
    Column::text("captured_at"),
    Column::text("dead_reason"),
    Column::text("created_at"),
    Column::text("authorization_expires_at"),
];

/// For people: what fits beside each other and answers "which, how much, how far, why".
const SHORT: [Column; 8] = [
    Column::id("id"),
    Column::text("lane"),
    Column::text("order"),
    Column::money("amount"),
    Column::text("state"),
    Column::number("attempts"),
    Column::text("last"),
    Column::text("created"),
];

/// The columns of a list in this form.
pub fn columns(output: &Output) -> &'static [Column] {
    match output.format {
        Format::Table => &SHORT,
        Format::Json | Format::Ndjson | Format::Csv | Format::Id => &WHOLE,
    }
}

/// A row of a list in this form.
pub fn cells(row: &CaptureRow, output: &Output) -> Vec<Cell> {
    match output.format {
        Format::Table => vec![
            row.id.to_string().into(),
            format!("{}/{}", row.provider, row.account).into(),
            row.order_id.as_str().into(),
            amount(row.amount_minor, &row.currency),
            state(row),
            i64::from(row.attempts).into(),
            last(row).into(),
            row.created_at.into(),
        ],
        Format::Json | Format::Ndjson | Format::Csv | Format::Id => whole(row),
    }
}

/// The columns of one capture by itself: everything.
pub fn whole_columns() -> &'static [Column] {
    &WHOLE
}

/// One capture by itself.
pub fn whole(row: &CaptureRow) -> Vec<Cell> {
    vec![
        row.id.to_string().into(),
        row.provider.as_str().into(),
        row.account.as_str().into(),
        row.order_id.as_str().into(),
        row.payment_id.as_str().into(),
        row.capture_ref.as_str().into(),
        amount(row.amount_minor, &row.currency),
        state(row),
        i64::from(row.attempts).into(),
        row.last_class.as_deref().into(),
        row.last_code.as_deref().into(),
        row.next_attempt_at.into(),
        row.captured_minor.map(|minor| amount(minor, &row.currency)).into(),
        row.provider_capture_id.as_deref().into(),
        row.captured_at.into(),
        row.dead_reason.as_deref().into(),
        row.created_at.into(),
        row.authorization_expires_at.into(),
    ]
}

/// An amount of the outbox. A currency that this version does not know leaves the bare number, not a wrong point.
pub fn amount(minor: i64, currency: &str) -> Cell {
    match Currency::from_code(currency) {
        Some(currency) => Money::new(minor, currency).into(),
        None => minor.into(),
    }
}

fn state(row: &CaptureRow) -> Cell {
    match State::from_name(&row.state) {
        Some(state) => state.into(),
        None => row.state.as_str().into(),
    }
}

/// Why it is where it is: the reason of a death, then the last failure.
fn last(row: &CaptureRow) -> String {
    let failure = match (&row.last_class, &row.last_code) {
        (Some(class), Some(code)) => Some(format!("{class} {code}")),
        (class, code) => class.clone().or_else(|| code.clone()),
    };
    match (&row.dead_reason, failure) {
        (Some(reason), Some(failure)) => format!("{reason}: {failure}"),
        (Some(reason), None) => reason.clone(),
        (None, failure) => failure.unwrap_or_default(),
    }
}

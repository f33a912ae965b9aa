//! How captures are written, the same on every verb that shows them.

use chrono::{DateTime, SubsecRound, Utc};

use crate::filter::State;
use crate::intent::{Currency, Money};
use crate::outbox::{CaptureRow, RESOLVED_NOT_CAPTURED};

use super::output::{Cell, Column, Format, Output};

/// For programs: every field of the contract's view, under its names.
const WHOLE: [Column; 20] = [
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
    Column::text("expiry_source"),
    Column::text("cancel_requested_at"),
];

/// For people: what answers "which, how much, how far, why". On a narrow terminal what `get` tells of one goes first; an
/// id is cut before the reason is, because `-o id` gives it back.
const SHORT: [Column; 8] = [
    Column::id("id").shortens(4, 13),
    Column::text("lane").leaves(3),
    Column::text("order").shortens(6, 10),
    Column::money("amount"),
    Column::text("state"),
    Column::number("attempts").leaves(1),
    Column::text("last").shortens(5, 12),
    Column::text("created").leaves(2),
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
            time(row.created_at, output),
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
        row.expiry_source.as_deref().into(),
        row.cancel_requested_at.into(),
    ]
}

/// A time among others. Nobody compares milliseconds by eye, and a terminal is narrow.
pub fn time(at: DateTime<Utc>, output: &Output) -> Cell {
    match output.terminal {
        true => at.trunc_subsecs(0).into(),
        false => at.into(),
    }
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
    if row.last_code.as_deref() == Some(RESOLVED_NOT_CAPTURED) {
        // The provider's refusal or doubt before that is history.
        return RESOLVED_NOT_CAPTURED.to_owned();
    }
    let failure = match (&row.last_class, &row.last_code) {
        // A letter that was rejected as rejected: once is enough.
        (Some(class), Some(code)) if row.dead_reason.as_ref() == Some(class) => Some(code.clone()),
        (Some(class), None) if row.dead_reason.as_ref() == Some(class) => None,
        (Some(class), Some(code)) => Some(format!("{class} {code}")),
        (class, code) => class.clone().or_else(|| code.clone()),
    };
    match (&row.dead_reason, failure) {
        (Some(reason), Some(failure)) => format!("{reason}: {failure}"),
        (Some(reason), None) => reason.clone(),
        (None, failure) => failure.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn dead() -> CaptureRow {
        CaptureRow {
            id: Uuid::from_u128(0x01a2_00d1_706e_75eb_a49e_2aec_a746_bf70),
            provider: "afterpay".to_owned(),
            account: "default".to_owned(),
            order_id: "2026-11-00003".to_owned(),
            payment_id: "100026963".to_owned(),
            capture_ref: "r".to_owned(),
            amount_minor: 123_456,
            currency: "USD".to_owned(),
            state: "dead".to_owned(),
            attempts: 1,
            last_class: Some("rejected".to_owned()),
            last_code: Some("declined".to_owned()),
            next_attempt_at: None,
            captured_minor: None,
            provider_capture_id: None,
            captured_at: None,
            dead_reason: Some("rejected".to_owned()),
            created_at: "2026-11-22T01:14:15.447Z".parse().unwrap(),
            authorization_expires_at: None,
            expiry_source: None,
            cancel_requested_at: None,
        }
    }

    fn listed(width: Option<u16>) -> String {
        let output = Output {
            format: Format::Table,
            terminal: width.is_some(),
            width,
            colour: false,
            outlives_reader: false,
        };
        let mut bytes = Vec::new();
        let mut rows = output.rows_to(columns(&output), &mut bytes).unwrap();
        rows.row(&cells(&dead(), &output)).unwrap();
        rows.finish().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_list_keeps_a_line_a_row_on_a_terminal_and_everything_in_a_pipe() {
        assert_eq!(
            listed(Some(80)),
            "ID             ORDER               AMOUNT  STATE  LAST\n\
             …2aeca746bf70  2026-11-00003  1234.56 USD  dead   rejected: declined\n"
        );
        for (width, shown) in [
            (100, "2aeca746bf70  2026-11-00003"),
            (120, "afterpay/default"),
            (140, "2026-11-22T01:14:15Z"),
        ] {
            let page = listed(Some(width));
            assert_eq!(page.lines().count(), 2, "{page}");
            assert!(page.contains(shown), "{page}");
        }
        let piped = listed(None);
        for whole in [
            "01a200d1-706e-75eb-a49e-2aeca746bf70",
            "afterpay/default",
            "01:14:15.447Z",
        ] {
            assert!(piped.contains(whole), "{piped}");
        }
    }

    #[test]
    fn a_reason_that_is_also_the_class_is_told_once() {
        let mut row = dead();
        assert_eq!(last(&row), "rejected: declined");
        row.dead_reason = Some("undecided".to_owned());
        assert_eq!(last(&row), "undecided: rejected declined");
        (row.last_class, row.last_code) = (None, None);
        assert_eq!(last(&row), "undecided");
        row.last_code = Some(RESOLVED_NOT_CAPTURED.to_owned());
        assert_eq!(last(&row), "resolved_not_captured");
    }
}

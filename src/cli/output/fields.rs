//! Rows as programs read them: fields under the names of the SQL contract, as JSON or CSV.

use serde_json::Value;

use super::cell::{Cell, Column, Kind};

/// A field of the forms for programs: a column, or one of the two that a money column becomes.
#[derive(Clone, Copy)]
pub(super) struct Field {
    column: Column,
    index: usize,
    currency: bool,
}

impl Field {
    pub(super) fn name(self) -> String {
        match self.column.kind {
            _ if self.currency => "currency".to_owned(),
            Kind::Money => format!("{}_minor", self.column.name),
            Kind::Span => format!("{}_seconds", self.column.name),
            Kind::Plain | Kind::Id | Kind::Number => self.column.name.to_owned(),
        }
    }

    pub(super) fn value(self, cells: &[Cell]) -> Value {
        match cells.get(self.index).unwrap_or(&Cell::Nothing) {
            Cell::Money(money) if self.currency => Value::from(money.currency.code()),
            _ if self.currency => Value::Null,
            cell => cell.for_programs(),
        }
    }
}

pub(super) fn fields(columns: &[Column]) -> impl Iterator<Item = Field> {
    let first_money = columns.iter().position(|column| column.kind == Kind::Money);
    columns.iter().enumerate().flat_map(move |(index, column)| {
        let field = |currency| Field {
            column: *column,
            index,
            currency,
        };
        let currency = (first_money == Some(index)).then(|| field(true));
        std::iter::once(field(false)).chain(currency)
    })
}

/// A JSON object whose fields stand in the order of the columns.
pub(super) fn object(columns: &[Column], cells: &[Cell]) -> String {
    let members: Vec<String> = fields(columns)
        .map(|field| format!("{}:{}", Value::from(field.name()), field.value(cells)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a return) gets a `'` in
/// front: order numbers come from outside, and an export is opened by people who have money to lose. Numbers stay as
/// they are. Who needs the bare text takes `ndjson`.
pub(super) fn for_csv(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

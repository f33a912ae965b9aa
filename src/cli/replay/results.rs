//! What became of each, on stdout.

use std::io::{BufWriter, StdoutLock};

use uuid::Uuid;

use crate::cli::capture_rows::amount;
use crate::cli::context::Context;
use crate::cli::output::{Cell, Column, Error, Format, Rows};

use super::prospect::Prospect;

/// For programs.
const WHOLE: [Column; 11] = [
    Column::id("id"),
    Column::text("lane"),
    Column::text("order_id"),
    Column::money("amount"),
    Column::text("dead_reason"),
    Column::text("last_class"),
    Column::text("last_code"),
    Column::text("key"),
    Column::number("key_generation"),
    Column::text("result"),
    Column::text("says"),
];

/// For people: what is said of them stands above already.
const SHORT: [Column; 6] = [
    Column::id("id").shortens(4, 13),
    Column::text("lane").leaves(2),
    Column::text("order").shortens(5, 10),
    Column::money("amount"),
    Column::text("key").leaves(3),
    Column::text("result").wraps(1, 30),
];

/// From so many on, people see only those that were not replayed.
const TOO_MANY_TO_READ: usize = 50;

/// What became of each, on stdout.
pub struct Results {
    rows: Rows<BufWriter<StdoutLock<'static>>>,
    people: bool,
    only_not_done: bool,
}

impl Results {
    /// Begins; people read a shorter form.
    pub fn begin(count: usize, context: &Context) -> Result<Results, Error> {
        let people = context.output.format == Format::Table;
        Ok(Results {
            rows: context.output.rows(if people { &SHORT } else { &WHOLE })?,
            people,
            only_not_done: people && count > TOO_MANY_TO_READ,
        })
    }

    /// One that there is.
    pub fn write(&mut self, prospect: &Prospect, result: &str, done: bool) -> Result<(), Error> {
        if done && self.only_not_done {
            return Ok(());
        }
        let (row, key, generation, says) = match prospect {
            Prospect::Planned(planned) => (
                &planned.row,
                planned.key.as_deref(),
                Some(i64::from(planned.plan.next_generation.0)),
                planned.plan.says.as_str(),
            ),
            Prospect::Not(row, why) => (row.as_ref(), None, None, why.as_str()),
        };
        let mut cells = vec![
            row.id.to_string().into(),
            format!("{}/{}", row.provider, row.account).into(),
            row.order_id.as_str().into(),
            amount(row.amount_minor, &row.currency),
        ];
        if self.people {
            let told = if done {
                result.to_owned()
            } else {
                format!("{result}: {says}")
            };
            cells.extend([key.into(), told.into()]);
        } else {
            cells.extend([
                row.dead_reason.as_deref().into(),
                row.last_class.as_deref().into(),
                row.last_code.as_deref().into(),
                key.into(),
                generation.into(),
                result.into(),
                says.into(),
            ]);
        }
        self.rows.row(&cells)
    }

    /// One that there is not.
    pub fn missing(&mut self, id: &Uuid) -> Result<(), Error> {
        let mut cells = vec![Cell::from(id.to_string())];
        // Up to the result nothing is known.
        cells.resize(if self.people { 5 } else { 9 }, Cell::Nothing);
        cells.push("not_found".into());
        self.rows.row(&cells)
    }

    /// Ends.
    pub fn finish(self) -> Result<(), Error> {
        self.rows.finish().map(drop)
    }
}

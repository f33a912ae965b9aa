//! What became of each capture, on stdout.

use std::io::BufWriter;

use uuid::Uuid;

use crate::cli::capture_rows::amount;
use crate::cli::context::Context;
use crate::cli::output::{Cell, Column, Error, Format, Rows, Stdout};
use crate::cli::selection::Tally;
use crate::filter::State;
use crate::operations::{Act, Prospect, Safety};
use crate::outbox::{CaptureRow, OperationItem};

/// A capture as it was before the act.
pub struct Was {
    /// The capture.
    pub row: CaptureRow,
    /// Would it be acted on?
    pub acts: bool,
    /// What would be done, or why not.
    pub says: String,
    /// Of a dead letter.
    pub safety: Option<Safety>,
}

impl Was {
    /// As it was surveyed.
    pub fn of(prospect: &Prospect) -> Was {
        Was {
            row: prospect.facts.row.clone(),
            acts: prospect.acts,
            says: prospect.says.clone(),
            safety: prospect.safety.clone(),
        }
    }

    /// As it is now: nobody looked before.
    pub fn now(row: CaptureRow) -> Was {
        Was {
            row,
            acts: true,
            says: String::new(),
            safety: None,
        }
    }
}

/// Of a replay, for programs.
const REPLAY: [Column; 16] = [
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
    Column::text("next_act"),
    Column::number("key_age_seconds"),
    Column::number("key_window_seconds"),
    Column::number("seconds_to_deadline"),
    Column::number("left_minor"),
];

/// Of a replay, for people: what is said of them stands above already.
const REPLAY_SHORT: [Column; 6] = [
    Column::id("id").shortens(4, 13),
    Column::text("lane").leaves(2),
    Column::text("order").shortens(5, 10),
    Column::money("amount"),
    Column::text("key").leaves(3),
    Column::text("result").wraps(1, 30),
];

/// Of the other acts.
const OTHERS: [Column; 5] = [
    Column::id("id"),
    Column::text("order_id"),
    Column::money("amount"),
    Column::text("result"),
    Column::text("says").wraps(1, 30),
];

/// From so many on, people see only those that were not done.
const TOO_MANY_TO_READ: usize = 50;

/// What became of each, on stdout, and counted.
pub struct Verdicts {
    rows: Rows<BufWriter<Stdout>>,
    act: Act,
    dry_run: bool,
    people: bool,
    only_not_done: bool,
    tally: Tally,
}

impl Verdicts {
    /// Begins; people read a shorter form.
    pub fn begin(act: &Act, count: usize, dry_run: bool, context: &Context) -> Result<Verdicts, Error> {
        let people = context.output.format == Format::Table;
        let rows = match act {
            Act::Replay { .. } if people => context.output.rows(&REPLAY_SHORT)?,
            Act::Replay { .. } => context.output.rows(&REPLAY)?,
            Act::Cancel | Act::Resolve { .. } => context.output.rows(&OTHERS)?,
        };
        Ok(Verdicts {
            rows,
            act: act.clone(),
            dry_run,
            people,
            only_not_done: people && count > TOO_MANY_TO_READ,
            tally: Tally::default(),
        })
    }

    /// One that was only looked at.
    pub fn would(&mut self, was: &Was) -> Result<(), Error> {
        let in_flight = matches!(State::from_name(&was.row.state), Some(State::Leased | State::Verifying));
        let result = match (&self.act, was.acts) {
            (Act::Replay { .. }, true) => "would_replay",
            (Act::Resolve { .. }, true) => "would_resolve",
            (Act::Cancel, true) if in_flight => "may_be_in_flight",
            (Act::Cancel, true) => "would_cancel",
            (act, false) => left_alone(act),
        };
        let (key, generation) = match &was.safety {
            Some(safety) if was.acts => (safety.key.as_deref(), Some(safety.key_generation)),
            Some(_) | None => (None, None),
        };
        self.write(was, result, &was.says, key, generation)
    }

    /// One with its verdict, or without.
    pub fn item(&mut self, was: &Was, item: &OperationItem) -> Result<(), Error> {
        let says = item.says.as_deref().unwrap_or_default();
        let result = match item.verdict.as_deref() {
            None => "not_done",
            Some("replayed") => "replayed",
            Some("cancelled") => "cancelled",
            Some("in_flight") => "in_flight",
            Some("resolved") => "resolved",
            Some("moved_meanwhile") => "moved_meanwhile",
            Some("failed") => "failed",
            Some(_) => left_alone(&self.act),
        };
        self.write(was, result, says, item.key.as_deref(), item.key_generation)
    }

    fn write(
        &mut self,
        was: &Was,
        result: &'static str,
        says: &str,
        key: Option<&str>,
        generation: Option<i16>,
    ) -> Result<(), Error> {
        let done = match result {
            "replayed" | "cancelled" | "resolved" | "would_replay" | "would_cancel" | "would_resolve" => {
                self.tally.done += 1;
                true
            }
            "in_flight" | "may_be_in_flight" => {
                self.tally.open += 1;
                true
            }
            _ => {
                self.tally.forbidden += 1;
                false
            }
        };
        *self.tally.words.entry(result).or_default() += 1;
        if done && self.only_not_done {
            return Ok(());
        }
        let row = &was.row;
        let id: Cell = row.id.to_string().into();
        let money = amount(row.amount_minor, &row.currency);
        let lane = format!("{}/{}", row.provider, row.account);
        let order = row.order_id.as_str();
        let cells = match (&self.act, self.people) {
            (Act::Replay { .. }, true) => {
                let told = match done {
                    true => result.to_owned(),
                    false => format!("{result}: {says}"),
                };
                vec![id, lane.into(), order.into(), money, key.into(), told.into()]
            }
            (Act::Replay { .. }, false) => {
                let safety = was.safety.as_ref();
                vec![
                    id,
                    lane.into(),
                    order.into(),
                    money,
                    row.dead_reason.as_deref().into(),
                    row.last_class.as_deref().into(),
                    row.last_code.as_deref().into(),
                    key.into(),
                    generation.map(i64::from).into(),
                    result.into(),
                    says.into(),
                    // Of use before the act, not after it.
                    safety
                        .filter(|_| self.dry_run)
                        .map(|safety| safety.next_act.as_str())
                        .into(),
                    safety.and_then(|safety| safety.key_age_seconds).into(),
                    safety.and_then(|safety| safety.key_window_seconds).into(),
                    safety.and_then(|safety| safety.seconds_to_deadline).into(),
                    safety.and_then(|safety| safety.left_minor).into(),
                ]
            }
            (Act::Cancel | Act::Resolve { .. }, _) => vec![id, order.into(), money, result.into(), says.into()],
        };
        self.rows.row(&cells)
    }

    /// One that there is not.
    pub fn missing(&mut self, id: Uuid) -> Result<(), Error> {
        self.tally.missing += 1;
        *self.tally.words.entry("not_found").or_default() += 1;
        let mut cells = vec![Cell::from(id.to_string())];
        // Up to the result nothing is known.
        let before = match (&self.act, self.people) {
            (Act::Replay { .. }, true) => 5,
            (Act::Replay { .. }, false) => 9,
            (Act::Cancel | Act::Resolve { .. }, _) => 3,
        };
        cells.resize(before, Cell::Nothing);
        cells.push("not_found".into());
        self.rows.row(&cells)
    }

    /// Ends, and gives the counts.
    pub fn finish(self) -> Result<Tally, Error> {
        self.rows.finish()?;
        Ok(self.tally)
    }
}

fn left_alone(act: &Act) -> &'static str {
    match act {
        Act::Replay { .. } => "not_replayed",
        Act::Cancel => "ended",
        Act::Resolve { .. } => "not_resolved",
    }
}

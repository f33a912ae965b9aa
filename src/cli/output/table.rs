//! Tables for people: aligned, and on a terminal fitted to its width, a row a line.
//!
//! What gives way when a table is too wide, one after another until it fits: columns that are blank in every row, from
//! the right; then the columns that say so ([`Column::leaves`], [`Column::shortens`], [`Column::wraps`]), in the order of
//! their turns. Only what still does not fit is broken into lines within its column, and that only text. Where stdout is
//! no terminal nothing gives way.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width};

use super::cell::{Cell, Column, Kind, Way};

/// On a terminal of fewer columns no text is broken within its column: lines that the terminal breaks read better than
/// words in columns of two letters.
const LEAST_WIDTH: u16 = 60;

/// No text column is made narrower.
const LEAST_TEXT: u16 = 10;

/// Blanks between two columns.
const GAP: u16 = 2;

/// Rows that wait until the last one is there, because only then the widths are known.
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    colour: bool,
    /// Of the terminal; without one nothing gives way.
    width: Option<u16>,
}

/// A column as it is shown.
struct Shown {
    index: usize,
    column: Column,
    width: u16,
    blank: bool,
    /// Longer texts than this are cut.
    cut: Option<u16>,
    wraps: bool,
}

impl Table {
    pub(super) fn new(columns: &[Column], colour: bool, width: Option<u16>) -> Table {
        Table {
            columns: columns.to_vec(),
            rows: Vec::new(),
            colour,
            width,
        }
    }

    pub(super) fn row(&mut self, cells: &[Cell]) {
        self.rows.push(cells.to_vec());
    }

    /// Writes it. Tells whether ids were cut.
    pub(super) fn write(&self, writer: &mut impl Write) -> io::Result<bool> {
        if self.rows.is_empty() {
            return Ok(false);
        }
        let mut shown = self.whole();
        if let Some(width) = self.width {
            fit(&mut shown, width);
        }
        writeln!(writer, "{}", self.drawn(&shown).trim_fmt())?;
        Ok(shown.iter().any(|one| one.column.kind == Kind::Id && one.cut.is_some()))
    }

    /// Every column at the width of what it holds.
    fn whole(&self) -> Vec<Shown> {
        let shown = self.columns.iter().enumerate().map(|(index, column)| Shown {
            index,
            column: *column,
            width: 0,
            blank: self.cells(index).all(|cell| cell.for_people().is_empty()),
            cut: None,
            wraps: false,
        });
        let mut shown: Vec<Shown> = shown.collect();
        // How wide text is on a terminal is asked of who draws it: a character may take two places.
        let widths = self.drawn(&shown).column_max_content_widths();
        for (one, width) in shown.iter_mut().zip(widths) {
            one.width = width;
        }
        shown
    }

    fn cells(&self, index: usize) -> impl Iterator<Item = &Cell> {
        self.rows
            .iter()
            .map(move |row| row.get(index).unwrap_or(&Cell::Nothing))
    }

    fn drawn(&self, shown: &[Shown]) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        let broken = match self.width {
            // The gap behind the last column is trimmed.
            Some(width) if width >= LEAST_WIDTH && total(shown) > width => Some(width.saturating_add(GAP)),
            _ => None,
        };
        match broken {
            Some(width) => table
                .set_width(width)
                .set_content_arrangement(ContentArrangement::Dynamic),
            None => table
                .force_no_tty()
                .set_content_arrangement(ContentArrangement::Disabled),
        };
        if self.colour {
            table.enforce_styling();
        }
        table.set_header(shown.iter().map(|one| one.column.name.to_uppercase()));
        for row in &self.rows {
            table.add_row(shown.iter().map(|one| {
                let cell = row.get(one.index).unwrap_or(&Cell::Nothing);
                let drawn = comfy_table::Cell::new(one.text(cell));
                match cell.colour() {
                    Some(colour) if self.colour => drawn.fg(colour),
                    _ => drawn,
                }
            }));
        }
        // If some were to be broken, they alone are.
        let some_wrap = shown.iter().any(|one| one.wraps);
        for (at, one) in shown.iter().enumerate() {
            if let Some(made) = table.column_mut(at) {
                made.set_padding((0, GAP));
                if matches!(one.column.kind, Kind::Number | Kind::Money | Kind::Span) {
                    made.set_cell_alignment(CellAlignment::Right);
                }
                // An id, a number or an amount that is broken in two is copied wrong.
                let breakable = broken.is_some()
                    && if some_wrap {
                        one.wraps
                    } else {
                        one.column.kind == Kind::Plain
                    };
                made.set_constraint(match breakable {
                    true => ColumnConstraint::LowerBoundary(Width::Fixed(LEAST_TEXT)),
                    false => ColumnConstraint::ContentWidth,
                });
            }
        }
        table
    }
}

impl Shown {
    fn text(&self, cell: &Cell) -> String {
        let text = cell.for_people();
        match self.cut {
            None => text,
            Some(most) => cut(&text, usize::from(most), self.column.kind == Kind::Id),
        }
    }
}

/// Text of at most so many characters. Of an id the end is kept: that is where ids of one minute differ.
fn cut(text: &str, most: usize, keep_end: bool) -> String {
    let long = text.chars().count();
    if long <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(1);
    match keep_end {
        true => format!("…{}", text.chars().skip(long - kept).collect::<String>()),
        false => format!("{}…", text.chars().take(kept).collect::<String>().trim_end()),
    }
}

fn total(shown: &[Shown]) -> u16 {
    let gaps = u16::try_from(shown.len().saturating_sub(1))
        .unwrap_or(u16::MAX)
        .saturating_mul(GAP);
    shown.iter().fold(gaps, |sum, one| sum.saturating_add(one.width))
}

/// Lets columns give way until the table is no wider than this, or nothing more can.
fn fit(shown: &mut Vec<Shown>, width: u16) {
    while total(shown) > width
        && let Some(at) = shown.iter().rposition(|one| one.blank)
    {
        shown.remove(at);
    }
    let mut turns: Vec<(u8, usize, Way)> = shown
        .iter()
        .filter_map(|one| one.column.way.map(|(turn, way)| (turn, one.index, way)))
        .collect();
    turns.sort_by_key(|(turn, index, _)| (*turn, *index));
    // What wraps is drawn by its real width; here it counts as what it can do with.
    let mut saved = 0u16;
    for (_, index, way) in turns {
        let over = total(shown).saturating_sub(saved).saturating_sub(width);
        let Some(at) = shown.iter().position(|one| one.index == index) else {
            continue;
        };
        if over == 0 {
            break;
        }
        let Some(one) = shown.get_mut(at) else { continue };
        let heading = u16::try_from(one.column.name.chars().count()).unwrap_or(u16::MAX);
        match way {
            Way::Leaves => {
                shown.remove(at);
            }
            Way::Shortens(least) => {
                let least = least.max(heading).min(one.width);
                // An id is cut to one length, so that the same id looks the same on every terminal.
                let to = match one.column.kind {
                    Kind::Id => least,
                    Kind::Plain | Kind::Number | Kind::Money | Kind::Span => one.width.saturating_sub(over).max(least),
                };
                if to < one.width {
                    one.width = to;
                    one.cut = Some(to);
                }
            }
            Way::Wraps(least) => {
                let least = least.max(heading).min(one.width);
                saved = saved.saturating_add(over.min(one.width.saturating_sub(least)));
                one.wraps = true;
            }
        }
    }
}

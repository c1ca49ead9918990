//! Tables without lines, as `kubectl` has them: a head in capitals, columns two blanks apart.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use crate::view::plain;
use crate::view::state::Mood;

/// A table that grows row by row.
#[derive(Debug)]
pub(crate) struct Rows {
    table: Table,
    is_empty: bool,
}

impl Rows {
    /// A table with these heads, fitted into `width` where one is given.
    pub(crate) fn new(heads: &[&str], width: Option<u16>) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).enforce_styling();
        // Blanks with a colour are not at the end of a line for whoever trims it.
        table.style_text_only();
        match width {
            Some(width) => {
                table
                    .set_content_arrangement(ContentArrangement::Dynamic)
                    .set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        table.set_header(heads.iter().map(|head| Cell::new(head).fg(Color::DarkGrey)));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self {
            table,
            is_empty: true,
        }
    }

    /// Puts a column's cells to its right edge.
    pub(crate) fn right(mut self, column: usize) -> Self {
        if let Some(column) = self.table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, cells: Vec<Cell>) {
        self.is_empty = false;
        self.table.add_row(cells);
    }

    /// The text; `nothing` where there are no rows.
    pub(crate) fn text(&self, nothing: &str) -> String {
        if self.is_empty {
            return format!("{nothing}\n");
        }
        format!("{}\n", self.table.trim_fmt())
    }
}

/// A cell of text from outside.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(plain(text.as_ref()))
}

/// A cell of several lines.
pub(crate) fn lines(lines: &[String]) -> Cell {
    let lines: Vec<String> = lines.iter().map(|line| plain(line)).collect();
    Cell::new(lines.join("\n"))
}

/// A state in its colour.
pub(crate) fn state(word: &str) -> Cell {
    cell(word).fg(Mood::of(word).colour())
}

/// A cell that calls for attention.
pub(crate) fn bad(text: impl AsRef<str>) -> Cell {
    cell(text).fg(Mood::Bad.colour())
}

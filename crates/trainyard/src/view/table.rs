//! Tables without lines, as `kubectl` has them: a head in capitals, columns two blanks apart.

use comfy_table::{
    Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, presets,
};

use crate::view::plain;
use crate::view::state::Mood;

/// Words in a narrower column than this are no pleasure to read.
const WORDS_AT_LEAST: u16 = 20;

/// A table that grows row by row.
#[derive(Debug)]
pub(crate) struct Rows {
    table: Table,
    width: Option<u16>,
    is_empty: bool,
}

impl Rows {
    /// A table with these heads, fitted into `width` where one is given.
    pub(crate) fn new(heads: &[&str], width: Option<u16>) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).enforce_styling();
        // Blanks with a colour are not at the end of a line for whoever trims it.
        table.style_text_only();
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(heads.iter().map(|head| Cell::new(head).fg(Color::DarkGrey)));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self {
            table,
            width,
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
    pub(crate) fn text(mut self, nothing: &str) -> String {
        if self.is_empty {
            return format!("{nothing}\n");
        }
        if let Some(width) = self.width {
            self.fit(width);
        }
        format!("{}\n", self.table.trim_fmt())
    }

    /// Breaks the lines of the last column, which is the one of words, and leaves the others whole.
    /// Where there is no room for that, lines go on where the terminal breaks them.
    fn fit(&mut self, width: u16) {
        let mut taken = self.table.column_max_content_widths();
        let last = taken.pop();
        let others: u16 = taken.iter().map(|width| width.saturating_add(2)).sum();
        let left = width.saturating_sub(others);
        if last.is_none_or(|last| last <= left) || left < WORDS_AT_LEAST {
            return;
        }
        self.table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
        let count = taken.len();
        for column in self.table.column_iter_mut().take(count) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
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

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    fn table(width: Option<u16>) -> String {
        let mut rows = Rows::new(&["RUN", "MADE (UTC)", "CAUSE"], width).right(0);
        rows.add(vec![
            cell("7"),
            cell("2026-11-23 15:00:00"),
            cell("push to main by somebody with a long name"),
        ]);
        strip_str(&rows.text("nothing")).to_string()
    }

    #[test]
    fn only_the_last_column_is_broken_into_lines() {
        insta::assert_snapshot!(table(Some(50)), @"
        RUN  MADE (UTC)           CAUSE
          7  2026-11-23 15:00:00  push to main by
                                  somebody with a long
                                  name
        ");
    }

    #[test]
    fn where_there_is_no_room_or_no_need_nothing_is_broken() {
        assert_eq!(table(Some(30)), table(None));
        assert_eq!(table(Some(200)), table(None));
    }
}

//! Tables without lines, as `kubectl` prints them: a head in capitals, columns two blanks apart.
//!
//! On a terminal that is too narrow, a table shrinks in this order: moments lose their seconds, the least important
//! columns are left out, names are shortened, and the last column is broken into lines.

use comfy_table::{CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, presets};
use console::{measure_text_width, truncate_str};
use trainyard_api::Timestamp;

use crate::view::plain;
use crate::view::screen::Screen;
use crate::view::state::Coloured as _;
use trainyard_present::state::Mood;
use trainyard_present::zone::Zone;

/// A narrower column of words would be hard to read.
const WORDS_AT_LEAST: usize = 20;

/// The least length of a shortened name.
const NAME_AT_LEAST: usize = 12;

/// The blanks between two columns.
const GAP: usize = 2;

/// A table that grows row by row.
#[derive(Debug)]
pub(crate) struct Rows {
    screen: Screen,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// Columns that may be left out, by their index in `columns`; the first goes first.
    droppable: Vec<usize>,
    /// Columns whose cells may be shortened; the first goes first.
    names: Vec<usize>,
    /// Whether the last column has words, which can be broken into lines.
    ends_in_words: bool,
}

#[derive(Debug)]
struct Column {
    head: String,
    is_right: bool,
    is_shown: bool,
}

/// A cell: the text of a row in one column.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    /// The shorter text for narrow terminals.
    short: Option<String>,
    colour: Option<Color>,
}

impl Rows {
    /// A table with these heads.
    pub(crate) fn new(heads: &[&str], screen: Screen) -> Self {
        let columns = heads.iter().map(|head| Column {
            head: (*head).to_owned(),
            is_right: false,
            is_shown: true,
        });
        Self {
            screen,
            columns: columns.collect(),
            rows: Vec::new(),
            droppable: Vec::new(),
            names: Vec::new(),
            ends_in_words: true,
        }
    }

    /// Aligns a column's cells to the right.
    pub(crate) fn right(mut self, column: usize) -> Self {
        self.columns[column].is_right = true;
        self
    }

    /// Marks a column as one of moments, made by [`moment`].
    pub(crate) fn moments(mut self, column: usize) -> Self {
        if self.screen.zone == Zone::Utc {
            self.columns[column].head.push_str(" (UTC)");
        }
        self
    }

    /// Allows columns to be left out if the terminal is too narrow; the first goes first.
    pub(crate) fn droppable(mut self, columns: &[usize]) -> Self {
        self.droppable = columns.to_vec();
        self
    }

    /// Allows the cells of columns to be shortened if the terminal is too narrow; the first goes first.
    pub(crate) fn names(mut self, columns: &[usize]) -> Self {
        self.names = columns.to_vec();
        self
    }

    /// Keeps the last column from being broken into lines: users copy its content as a whole.
    pub(crate) fn whole(mut self) -> Self {
        self.ends_in_words = false;
        self
    }

    pub(crate) fn add(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The text; `nothing` if there are no rows.
    pub(crate) fn text(mut self, nothing: &str) -> String {
        if self.rows.is_empty() {
            return format!("{nothing}\n");
        }
        let room = self.screen.width.map(usize::from);
        let breaks = room.is_some_and(|room| self.fit(room));
        format!("{}\n", self.table(breaks).trim_fmt())
    }

    /// Shrinks it to `room` as far as possible. Returns whether the last column has to be broken into lines.
    fn fit(&mut self, room: usize) -> bool {
        if self.width() <= room {
            return false;
        }
        for cell in self.rows.iter_mut().flatten() {
            if let Some(short) = cell.short.take() {
                cell.text = short;
            }
        }
        for column in std::mem::take(&mut self.droppable) {
            if self.least_width() <= room {
                break;
            }
            self.columns[column].is_shown = false;
        }
        for column in std::mem::take(&mut self.names) {
            let excess = self.least_width().saturating_sub(room);
            if excess > 0 {
                self.shorten(column, excess);
            }
        }
        // If even that is not enough, the terminal wraps the lines.
        self.ends_in_words
            && self.columns.last().is_some_and(|last| last.is_shown)
            && self.width() > room
            && self.least_width() <= room
    }

    /// Shortens the cells of a column by `excess` characters, if they are long enough.
    fn shorten(&mut self, column: usize, excess: usize) {
        let width = self.column_width(column).saturating_sub(excess);
        for row in &mut self.rows {
            let cell = &mut row[column];
            cell.text = shortened(&cell.text, width.max(NAME_AT_LEAST));
        }
    }

    /// Its width without broken lines.
    fn width(&self) -> usize {
        let last = self.columns.len().saturating_sub(1);
        self.width_with(self.column_width(last))
    }

    /// Its width with the last column broken into lines of the least readable width.
    fn least_width(&self) -> usize {
        let last = self.column_width(self.columns.len().saturating_sub(1));
        self.width_with(match self.ends_in_words {
            true => last.min(WORDS_AT_LEAST),
            false => last,
        })
    }

    fn width_with(&self, last: usize) -> usize {
        let others = 0..self.columns.len().saturating_sub(1);
        let others: usize = others
            .filter(|column| self.columns[*column].is_shown)
            .map(|column| self.column_width(column) + GAP)
            .sum();
        match self.columns.last() {
            Some(column) if column.is_shown => others + last,
            Some(_) | None => others.saturating_sub(GAP),
        }
    }

    fn column_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().flat_map(|row| row[column].text.lines());
        cells
            .chain([self.columns[column].head.as_str()])
            .map(measure_text_width)
            .max()
            .unwrap_or_default()
    }

    fn table(self, breaks: bool) -> Table {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|column| self.columns[*column].is_shown)
            .collect();
        let mut table = Table::new();
        table.load_style(presets::NOTHING).enforce_styling();
        // Coloured blanks at the end of a line could not be trimmed.
        table.style_text_only();
        table.set_content_arrangement(ContentArrangement::Disabled);
        let heads = shown.iter().map(|column| &self.columns[*column].head);
        table.set_header(heads.map(|head| comfy_table::Cell::new(head).fg(Color::DarkGrey)));
        for row in &self.rows {
            table.add_row(shown.iter().map(|column| row[*column].drawn()));
        }
        for (drawn, column) in table.column_iter_mut().zip(&shown) {
            drawn.set_padding((0, 2));
            if self.columns[*column].is_right {
                drawn.set_cell_alignment(CellAlignment::Right);
            }
        }
        if let (true, Some(room)) = (breaks, self.screen.width) {
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(room);
            let whole = shown.len().saturating_sub(1);
            for column in table.column_iter_mut().take(whole) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        table
    }
}

impl Cell {
    /// The same in a colour.
    pub(crate) fn fg(mut self, colour: Color) -> Self {
        self.colour = Some(colour);
        self
    }

    fn drawn(&self) -> comfy_table::Cell {
        let cell = comfy_table::Cell::new(&self.text);
        match self.colour {
            Some(colour) => cell.fg(colour),
            None => cell,
        }
    }
}

/// A name in at most `width` columns: similar names usually share their beginning, so their ends are kept.
fn shortened(name: &str, width: usize) -> String {
    if measure_text_width(name) <= width {
        return name.to_owned();
    }
    let is_end = |place: &usize| measure_text_width(&name[*place..]) <= width / 2;
    let mut places = name.char_indices().map(|(place, _)| place);
    let end = &name[places.find(is_end).unwrap_or(name.len())..];
    let room = width.saturating_sub(measure_text_width(end) + 1);
    format!("{}…{end}", truncate_str(name, room, ""))
}

/// A cell of text from outside.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    Cell {
        text: plain(text.as_ref()),
        short: None,
        colour: None,
    }
}

/// A cell of several lines.
pub(crate) fn lines(lines: &[String]) -> Cell {
    let lines: Vec<String> = lines.iter().map(|line| plain(line)).collect();
    Cell {
        text: lines.join("\n"),
        ..cell("")
    }
}

/// A moment, or a dash.
pub(crate) fn moment(at: impl Into<Option<Timestamp>>, screen: Screen) -> Cell {
    match at.into() {
        Some(at) => Cell {
            short: Some(screen.zone.minute(at)),
            ..cell(screen.zone.moment(at))
        },
        None => cell("-"),
    }
}

/// A state in its colour.
pub(crate) fn state(word: &str) -> Cell {
    cell(word).fg(Mood::of(word).colour())
}

/// A highlighted cell.
pub(crate) fn bad(text: impl AsRef<str>) -> Cell {
    cell(text).fg(Mood::Bad.colour())
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    fn table(width: Option<u16>) -> String {
        let screen = Screen {
            width,
            zone: Zone::Utc,
        };
        let heads = ["RUN", "DAG", "COMMIT", "MADE", "CAUSE"];
        let mut rows = Rows::new(&heads, screen)
            .right(0)
            .moments(3)
            .names(&[1])
            .droppable(&[2]);
        let at: Timestamp = "2026-11-23T15:00:00Z".parse().unwrap();
        rows.add(vec![
            cell("7"),
            cell("model/churn-of-customers"),
            cell("0123456789"),
            moment(at, screen),
            cell("push to main by somebody with a long name"),
        ]);
        strip_str(&rows.text("nothing")).to_string()
    }

    #[test]
    fn a_table_loses_seconds_and_columns_before_names_are_shortened_and_lines_broken() {
        insta::assert_snapshot!(table(Some(92)));
        insta::assert_snapshot!(table(Some(72)));
        insta::assert_snapshot!(table(Some(60)));
    }

    #[test]
    fn a_table_that_fits_is_not_changed() {
        assert_eq!(table(Some(200)), table(None));
    }
}

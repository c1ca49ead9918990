//! The details of one item: a title, and lines of names and values below it.

use owo_colors::OwoColorize;

use crate::view::plain;

/// Lines of names and values, names in a column.
#[derive(Debug, Default)]
pub(crate) struct Detail {
    lines: Vec<(&'static str, String)>,
}

impl Detail {
    /// Adds a line; the value is from outside.
    pub(crate) fn line(&mut self, name: &'static str, value: impl AsRef<str>) {
        self.lines.push((name, plain(value.as_ref())));
    }

    /// Adds a line if there is a value.
    pub(crate) fn line_if(&mut self, name: &'static str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.line(name, value);
        }
    }

    /// The text below a title, which may contain colours.
    pub(crate) fn text(&self, title: &str) -> String {
        let width = self.lines.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or_default();
        let mut text = format!("{title}\n");
        for (name, value) in &self.lines {
            let padded = format!("{name:width$}");
            text.push_str(&format!("  {}  {value}\n", padded.bright_black()));
        }
        text
    }
}

//! Text from outside, on its way into a message.

use std::fmt;

/// The text with each NUL written as `\0`: Postgres stores no NUL, so a message that quotes one could not be
/// recorded. Other control characters stay; the code that shows the text handles them.
#[must_use]
pub fn without_nul(text: impl Into<String>) -> String {
    let text = text.into();
    if text.contains('\0') {
        text.replace('\0', "\\0")
    } else {
        text
    }
}

/// The longest part of a text from outside that a message quotes, in characters.
const QUOTED_AT_MOST: usize = 80;

/// The beginning of a text from outside, to be quoted in a message: long enough for every real name. The cost does
/// not grow with the length of the text.
#[must_use]
pub fn shortened(text: &str) -> Shortened<'_> {
    Shortened(text)
}

/// See [`shortened`].
#[derive(Debug, Clone, Copy)]
pub struct Shortened<'a>(&'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(QUOTED_AT_MOST) {
            None => f.write_str(self.0),
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
        }
    }
}

/// The first few of many names, each of them shortened.
#[must_use]
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const AT_MOST: usize = 20;
    let mut names = names.into_iter();
    let mut list: Vec<String> = names
        .by_ref()
        .take(AT_MOST)
        .map(|name| shortened(name).to_string())
        .collect();
    if names.next().is_some() {
        list.push("…".to_owned());
    }
    list.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_written_out_and_nothing_else_changes() {
        assert_eq!(without_nul("a\0b\0"), "a\\0b\\0");
        assert_eq!(without_nul("ü\\0\n\u{1b}"), "ü\\0\n\u{1b}");
    }
}

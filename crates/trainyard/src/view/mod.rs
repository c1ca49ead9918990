//! What people see: text made of values by pure functions, with colours in it. Times are arguments,
//! nothing is asked and nothing is printed here.

use std::borrow::Cow;

pub(crate) mod artifact;
pub(crate) mod daemon;
pub(crate) mod dag;
pub(crate) mod detail;
pub(crate) mod event;
pub(crate) mod gc;
pub(crate) mod graph;
mod lanes;
pub(crate) mod log;
pub(crate) mod metric;
pub(crate) mod quantity;
pub(crate) mod quarantine;
pub(crate) mod repo;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod state;
pub(crate) mod table;
pub(crate) mod token;

/// Text from outside with nothing in it that a terminal would obey or that breaks a line.
pub(crate) fn plain(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    visible(&text).into_owned()
}

/// Text in which nothing is hidden: letters that a terminal does not show, or for which it changes the order of
/// others, are written out as `\\u202e`. Two names that look the same are then the same.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_hidden(letter) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// Letters without a shape of their own: marks of direction and of joining, fillers, tags.
fn is_hidden(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b]52;c;x\x07b\r\nc"), "a ]52;c;x b  c");
        assert_eq!(plain("größer ✓"), "größer ✓");
    }

    #[test]
    fn nothing_is_hidden_and_nothing_turned_around() {
        assert_eq!(plain("main\u{202e}txt.exe"), "main\\u202etxt.exe");
        assert_eq!(plain("ma\u{200b}in\u{feff}"), "ma\\u200bin\\ufeff");
        assert_eq!(
            plain("a\u{2066}b\u{2069}c\u{200f}"),
            "a\\u2066b\\u2069c\\u200f"
        );
        assert_eq!(plain("a\u{e0041}"), "a\\udb40\\udc41");
        assert_eq!(plain("日本語 é ❤️ 👩"), "日本語 é ❤️ 👩");
    }
}

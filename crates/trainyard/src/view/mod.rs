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

/// Text with the colours in it, and nothing else that a terminal obeys, but for the control characters in `kept`.
pub(crate) fn tame(text: &str, kept: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '\x1b' => match rest.next() {
                Some('[') => {
                    let mut parameters = String::new();
                    let last = rest.by_ref().find(|letter| {
                        let is_last = ('@'..='~').contains(letter);
                        if !is_last {
                            parameters.push(*letter);
                        }
                        is_last
                    });
                    // `ESC [ > 4 ; 1 m` sets what keys send.
                    let is_colour = |letter: char| matches!(letter, '0'..='9' | ';' | ':');
                    if last == Some('m') && parameters.chars().all(is_colour) {
                        shown.push_str(&format!("\x1b[{parameters}m"));
                    }
                }
                // Strings for the terminal, to their end: BEL, or ESC and a backslash.
                Some(']' | 'P' | '^' | '_' | 'X') => {
                    while let Some(letter) = rest.next() {
                        if letter == '\x07' || (letter == '\x1b' && rest.next().is_some()) {
                            break;
                        }
                    }
                }
                Some(_) | None => {}
            },
            letter if letter.is_control() && !kept.contains(&letter) => {}
            letter => shown.push(letter),
        }
    }
    shown
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

/// Letters without a shape of their own: marks of direction and of joining, fillers, tags, and the control characters
/// that JSON does not write out.
fn is_hidden(letter: char) -> bool {
    matches!(
        letter,
        '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
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
    fn a_text_may_colour_itself_and_nothing_else() {
        let tame = |text| tame(text, &['\t', '\n']);
        let coloured = "\x1b[1;38:5:9mred\x1b[0m\n\tplain";
        assert_eq!(tame(coloured), coloured);
        assert_eq!(tame("a\x1b[2J\x1b[H\x1b[3Jb"), "ab");
        assert_eq!(tame("a\x1b]52;c;c2VjcmV0\x07b\x1b]0;title\x1b\\c"), "abc");
        assert_eq!(tame("a\x1bP1$r\x1b\\b\x1bcd\x1b[?1049he"), "abde");
        assert_eq!(tame("a\x1b[>4;1mb\x1b[\x1b]0;t\x07mc\x1b["), "ab0;tmc");
        assert_eq!(tame("a\x08\x07\u{9b}2J\rb"), "a2Jb");
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
        assert_eq!(visible("a\u{9b}2J\u{7f}"), "a\\u009b2J\\u007f");
        assert_eq!(plain("日本語 é ❤️ 👩"), "日本語 é ❤️ 👩");
    }
}

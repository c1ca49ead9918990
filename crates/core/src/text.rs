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

/// The longest message that is recorded, in bytes. Texts from outside are quoted in it, and it is read again with each
/// listing.
pub const MESSAGE_AT_MOST: usize = 4 << 10;

/// A message that may quote text from outside, as it is recorded: without a NUL, and no longer than [`MESSAGE_AT_MOST`].
/// Other control characters but newlines, returns and tabs become `\u{fffd}`, since JSON has six bytes for each.
#[must_use]
pub fn recorded(message: impl Into<String>) -> String {
    let message = within_bound(message.into());
    let is_kept = |sign: char| !sign.is_control() || matches!(sign, '\n' | '\r' | '\t');
    if message.chars().all(is_kept) {
        return message;
    }
    let mut plain = String::with_capacity(message.len());
    for sign in message.chars() {
        match sign {
            '\0' => plain.push_str("\\0"),
            sign if is_kept(sign) => plain.push(sign),
            _ => plain.push('\u{fffd}'),
        }
    }
    // What stands for a control character is longer than it.
    within_bound(plain)
}

fn within_bound(message: String) -> String {
    const MORE: &str = "…";
    if message.len() <= MESSAGE_AT_MOST {
        return message;
    }
    beginning(&message, MESSAGE_AT_MOST - MORE.len()).to_owned() + MORE
}

/// Messages as one: as many as [`MESSAGE_AT_MOST`] has room for, and the number of the others.
#[must_use]
pub fn joined(messages: &[&str]) -> String {
    const ROOM: usize = MESSAGE_AT_MOST - "…; and 100000 more".len();
    let Some((first, others)) = messages.split_first() else {
        return String::new();
    };
    let begin = beginning(first, ROOM);
    let mut joined = begin.to_owned();
    if begin.len() < first.len() {
        joined.push('…');
    }
    for (named, message) in others.iter().enumerate() {
        if joined.len() + "; ".len() + message.len() > ROOM {
            let left = others.len() - named;
            return format!("{joined}; and {left} more");
        }
        joined.push_str("; ");
        joined.push_str(message);
    }
    joined
}

/// The first `at_most` bytes of a text, or somewhat fewer: no word is cut, as redaction does not know half a secret.
fn beginning(text: &str, at_most: usize) -> &str {
    if text.len() <= at_most {
        return text;
    }
    let cut = &text[..text.floor_char_boundary(at_most)];
    let is_between =
        |sign: char| sign.is_whitespace() || sign.is_control() || "`'\"/,;".contains(sign);
    cut.rfind(is_between).map_or("", |end| &cut[..end])
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

/// The beginning of a commit's hash, for people.
#[must_use]
pub fn short_commit(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
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

    #[test]
    fn a_message_has_a_bound_and_half_a_word_is_not_shown() {
        let word = "x".repeat(100);
        let long = format!("{word} ").repeat(1000);
        let short = recorded(&*long);
        assert!(short.len() <= MESSAGE_AT_MOST, "{}", short.len());
        assert!(short.ends_with("x…") && short.len() > MESSAGE_AT_MOST - 200);
        assert!(
            short
                .trim_end_matches('…')
                .split(' ')
                .all(|cut| cut == word)
        );
        assert_eq!(recorded(&*short), short, "what was read is not cut again");
    }

    #[test]
    fn a_message_of_control_characters_has_the_same_bound() {
        let hostile = recorded(format!("`{}` is a pipe\u{1b}[2J", "\u{1}/".repeat(2000)));
        assert!(hostile.len() <= MESSAGE_AT_MOST, "{}", hostile.len());
        assert!(!hostile.contains(char::is_control));
        assert_eq!(recorded("a\0b\r\n\tc\u{1b}"), "a\\0b\r\n\tc\u{fffd}");
    }

    #[test]
    fn of_many_messages_the_first_are_named_and_the_others_counted() {
        let one = "m".repeat(500);
        let text = joined(&vec![&*one; 1000]);
        assert!(text.len() <= MESSAGE_AT_MOST, "{}", text.len());
        assert!(text.starts_with(&format!("{one}; {one}; ")), "{text}");
        assert!(text.ends_with("; and 992 more"), "{text}");
        assert_eq!(joined(&["a", "b"]), "a; b");
        let text = joined(&[&*"word ".repeat(2000), &*one]);
        assert!(text.len() <= MESSAGE_AT_MOST, "{}", text.len());
        assert!(text.ends_with(" word…; and 1 more"), "{text}");
    }

    #[test]
    fn a_commit_is_cut_and_a_short_one_is_not() {
        assert_eq!(short_commit("0123456789abcdef"), "0123456789");
        assert_eq!(short_commit(""), "");
    }
}

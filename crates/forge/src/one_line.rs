//! Makes text from outside fit for one line of a log, a table or an error.

/// `text` on one line, without characters that steer a terminal or turn the reading direction, and
/// of at most `limit` characters.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for (n, c) in text.trim().chars().enumerate() {
        if n == limit {
            line.push('…');
            break;
        }
        line.push(if steers(c) { ' ' } else { c });
    }
    line
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_line_breaks_become_spaces() {
        assert_eq!(one_line(" a\u{1b}[31m\nb\u{202e}c\n", 20), "a [31m b c");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(one_line("äöü", 2), "äö…");
        assert_eq!(one_line("äö", 2), "äö");
    }
}

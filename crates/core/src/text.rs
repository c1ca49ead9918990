//! Text from outside, on its way into a message.

/// The text with each NUL written as `\0`: Postgres keeps no NUL, so what quotes one could not be
/// recorded. Other control characters stay, for whoever shows the text to deal with.
#[must_use]
pub fn without_nul(text: impl Into<String>) -> String {
    let text = text.into();
    if text.contains('\0') {
        text.replace('\0', "\\0")
    } else {
        text
    }
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

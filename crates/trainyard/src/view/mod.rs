//! What people see: text made of values by pure functions, with colours in it. Times are arguments,
//! nothing is asked and nothing is printed here.

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
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b]52;c;x\x07b\r\nc"), "a ]52;c;x b  c");
        assert_eq!(plain("größer ✓"), "größer ✓");
    }
}

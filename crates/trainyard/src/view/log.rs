//! Lines of logs, of one stage or of several at once.
//!
//! Elsewhere than on a terminal, what stages wrote is passed on as it is. On a terminal it may colour
//! itself, and do nothing else: logs come from programs that nobody may have looked at.

use owo_colors::{AnsiColors, OwoColorize};
use trainyard_api::{LogLine, LogPage};

use crate::view::quantity::size;
use crate::view::visible;

const COLOURS: [AnsiColors; 6] = [
    AnsiColors::Cyan,
    AnsiColors::Yellow,
    AnsiColors::Green,
    AnsiColors::Magenta,
    AnsiColors::Blue,
    AnsiColors::BrightRed,
];

/// How lines are to look.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    /// With the time of each line.
    pub(crate) timestamps: bool,
    /// With colours of ours.
    pub(crate) colours: bool,
    /// For a terminal.
    pub(crate) terminal: bool,
}

/// Puts lines together, over pages and stages.
#[derive(Debug)]
pub(crate) struct Printer {
    look: Look,
    /// The stages, where lines say which they are of.
    stages: Vec<String>,
    /// What the last line was of, where it goes on.
    open: Option<(String, String)>,
}

impl Printer {
    /// Without prefixes where there is only one stage.
    pub(crate) fn new(look: Look, stages: &[String]) -> Self {
        let stages = match stages {
            [] | [_] => Vec::new(),
            several => several.to_vec(),
        };
        Self {
            look,
            stages,
            open: None,
        }
    }

    /// The text of a page of a stage's log.
    pub(crate) fn page(&mut self, stage: &str, page: &LogPage) -> String {
        let mut text = String::new();
        if page.dropped_bytes > 0 {
            let gone = size(page.dropped_bytes);
            text.push_str(&self.remark(stage, &format!("… {gone} of log are not kept …")));
        }
        for line in &page.lines {
            text.push_str(&self.line(stage, line));
        }
        if page.complete && self.open.take().is_some() {
            text.push('\n');
        }
        text
    }

    /// A line of ours.
    pub(crate) fn remark(&mut self, stage: &str, remark: &str) -> String {
        let break_first = if self.open.take().is_some() { "\n" } else { "" };
        let remark = if self.look.colours {
            remark.bright_black().to_string()
        } else {
            remark.to_owned()
        };
        format!("{break_first}{}{remark}\n", self.prefix(stage))
    }

    fn line(&mut self, stage: &str, line: &LogLine) -> String {
        let of = (stage.to_owned(), line.stream.clone());
        let goes_on = self.open.as_ref() == Some(&of);
        let mut text = String::new();
        if !goes_on {
            if self.open.is_some() {
                text.push('\n');
            }
            text.push_str(&self.prefix(stage));
            if self.look.timestamps {
                let at = line.at.format("%Y-%m-%dT%H:%M:%S%.3fZ");
                text.push_str(&format!("{at} "));
            }
        }
        let shown = if self.look.terminal {
            harmless(&line.text)
        } else {
            line.text.clone()
        };
        match line.stream.as_str() {
            "trainyard" if self.look.colours => {
                text.push_str(&shown.bright_black().to_string());
            }
            _ => text.push_str(&shown),
        }
        if line.continues {
            self.open = Some(of);
        } else {
            self.open = None;
            if self.look.terminal && shown.contains('\x1b') {
                text.push_str("\x1b[0m");
            }
            text.push('\n');
        }
        text
    }

    fn prefix(&self, stage: &str) -> String {
        if self.stages.is_empty() {
            return String::new();
        }
        let width = self.stages.iter().map(String::len).max();
        let name = format!("{stage:width$} |", width = width.unwrap_or_default());
        if !self.look.colours {
            return format!("{name} ");
        }
        let place = self.stages.iter().position(|name| name == stage);
        let colour = COLOURS[place.unwrap_or_default() % COLOURS.len()];
        format!("{} ", name.color(colour))
    }
}

/// A line as a terminal may see it: colours, and nothing else that a terminal obeys. Of what a
/// progress bar wrote over itself, the last is left.
fn harmless(text: &str) -> String {
    let text = text.trim_end_matches('\r');
    let text = text.rsplit('\r').next().unwrap_or(text);
    let mut shown = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => match letters.next() {
                Some('[') => {
                    let mut sequence = String::from("\x1b[");
                    let last = letters.by_ref().find(|letter| {
                        sequence.push(*letter);
                        ('@'..='~').contains(letter)
                    });
                    if last == Some('m') {
                        shown.push_str(&sequence);
                    }
                }
                // Strings for the terminal, to their end: BEL, or ESC and a backslash.
                Some(']' | 'P' | '^' | '_' | 'X') => {
                    while let Some(letter) = letters.next() {
                        if letter == '\x07' || (letter == '\x1b' && letters.next().is_some()) {
                            break;
                        }
                    }
                }
                Some(_) | None => {}
            },
            '\t' => shown.push('\t'),
            letter if letter.is_control() => {}
            letter => shown.push(letter),
        }
    }
    visible(&shown).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stream: &str, text: &str, continues: bool) -> LogLine {
        LogLine {
            at: "2026-11-23T15:00:00.5Z".parse().unwrap(),
            stream: stream.to_owned(),
            text: text.to_owned(),
            continues,
        }
    }

    fn page(lines: Vec<LogLine>) -> LogPage {
        LogPage {
            attempt: 1,
            lines,
            dropped_bytes: 0,
            next_offset: 1,
            complete: false,
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_stage_has_no_prefix_and_several_have() {
        let lines = || page(vec![line("stdout", "hi", false)]);
        let mut one = Printer::new(Look::default(), &names(&["train"]));
        assert_eq!(one.page("train", &lines()), "hi\n");
        let mut two = Printer::new(Look::default(), &names(&["train", "eval"]));
        assert_eq!(two.page("eval", &lines()), "eval  | hi\n");
        let mut timed = Printer::new(
            Look {
                timestamps: true,
                ..Look::default()
            },
            &[],
        );
        assert_eq!(
            timed.page("eval", &lines()),
            "2026-11-23T15:00:00.500Z hi\n"
        );
    }

    #[test]
    fn a_line_in_pieces_is_one_line_unless_another_comes_between() {
        let mut printer = Printer::new(Look::default(), &[]);
        let pieces = vec![line("stdout", "10%", true), line("stdout", " 20%", false)];
        assert_eq!(printer.page("a", &page(pieces)), "10% 20%\n");
        let pieces = vec![
            line("stdout", "10%", true),
            line("stderr", "warning", false),
        ];
        assert_eq!(printer.page("a", &page(pieces)), "10%\nwarning\n");
    }

    #[test]
    fn what_is_not_kept_is_told_with_its_size() {
        let mut printer = Printer::new(Look::default(), &[]);
        let page = LogPage {
            dropped_bytes: 3 << 20,
            ..page(vec![line("stdout", "end", false)])
        };
        assert_eq!(
            printer.page("a", &page),
            "… 3.0 MiB of log are not kept …\nend\n"
        );
    }

    #[test]
    fn on_a_terminal_a_log_may_colour_itself_and_nothing_else() {
        assert_eq!(harmless("\x1b[31mred\x1b[0m"), "\x1b[31mred\x1b[0m");
        assert_eq!(harmless("a\x1b[2J\x1b[Hb"), "ab");
        assert_eq!(harmless("a\x1b]52;c;c2VjcmV0\x07b"), "ab");
        assert_eq!(harmless("a\x1b]0;title\x1b\\b"), "ab");
        assert_eq!(harmless("a\x1bP1$r\x1b\\b\x1bcd"), "abd");
        assert_eq!(harmless("a\x08\x07\tb\x1b["), "a\tb");
        assert_eq!(harmless("10%\r20%\r30%\r"), "30%");
    }

    #[test]
    fn elsewhere_a_log_is_passed_on_as_it_is() {
        let mut printer = Printer::new(Look::default(), &[]);
        let text = "\x1b[31m10%\r20%\x1b[0m";
        let lines = vec![line("stdout", text, false)];
        assert_eq!(printer.page("a", &page(lines)), format!("{text}\n"));
    }
}

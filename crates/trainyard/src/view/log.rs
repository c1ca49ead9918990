//! Log lines, of one stage or of several at once.
//!
//! Logs come from untrusted programs. So of all control sequences, only colours and carriage returns are printed,
//! also to pipes and files, whose content may reach a terminal later. On a terminal, a line that a program has
//! overwritten is overwritten as well.

use owo_colors::{AnsiColors, OwoColorize};
use trainyard_api::{LogLine, LogPage, Timestamp};
use trainyard_core::measure::{counted, in_units};

use crate::view::{tame, visible};

const COLOURS: [AnsiColors; 6] = [
    AnsiColors::Cyan,
    AnsiColors::Yellow,
    AnsiColors::Green,
    AnsiColors::Magenta,
    AnsiColors::Blue,
    AnsiColors::BrightRed,
];

/// Returns to the beginning of the line, and clears it.
const LINE_AGAIN: &str = "\r\x1b[K";

/// The format of lines.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LineFormat {
    /// With the time of each line.
    pub(crate) timestamps: bool,
    pub(crate) colours: bool,
    pub(crate) terminal: bool,
}

/// Joins pieces of lines, across pages and stages.
#[derive(Debug)]
pub(crate) struct Printer {
    format: LineFormat,
    /// The stages, if lines have the name of their stage.
    stages: Vec<String>,
    /// The last line, if it continues.
    open: Option<OpenLine>,
}

#[derive(Debug)]
struct OpenLine {
    stage: String,
    stream: String,
    /// Whether the next text overwrites it.
    is_over: bool,
}

impl Printer {
    /// Without prefixes if there is only one stage.
    pub(crate) fn new(format: LineFormat, stages: &[String]) -> Self {
        let stages = match stages {
            [] | [_] => Vec::new(),
            several => several.to_vec(),
        };
        Self {
            format,
            stages,
            open: None,
        }
    }

    /// The text of a page of a stage's log.
    pub(crate) fn page(&mut self, stage: &str, page: &LogPage) -> String {
        let mut text = String::new();
        if let Some(missing) = missing(page.dropped_bytes, page.dropped_lines, page.removed_at) {
            text.push_str(&self.remark(stage, &format!("… {missing} …")));
        }
        for line in &page.lines {
            text.push_str(&self.line(stage, line));
        }
        if page.complete && self.open.take().is_some() {
            text.push('\n');
        }
        text
    }

    /// The text to print before anything else. A terminal shows all streams in one, and the last line may still be open.
    pub(crate) fn break_line(&mut self) -> &'static str {
        if self.format.terminal && self.open.take().is_some() {
            "\n"
        } else {
            ""
        }
    }

    /// A line of Trainyard's own.
    pub(crate) fn remark(&mut self, stage: &str, remark: &str) -> String {
        let break_first = if self.open.take().is_some() { "\n" } else { "" };
        let remark = if self.format.colours {
            remark.bright_black().to_string()
        } else {
            remark.to_owned()
        };
        format!("{break_first}{}{remark}\n", self.prefix(stage))
    }

    fn line(&mut self, stage: &str, line: &LogLine) -> String {
        let is_open = |open: &OpenLine| open.stage == stage && open.stream == line.stream;
        let goes_on = self.open.as_ref().is_some_and(is_open);
        // Of a progress bar, only the last state remains.
        let written = line.text.trim_end_matches('\r');
        let last = written.rsplit('\r').next().unwrap_or(written);
        let was_over = goes_on && self.open.as_ref().is_some_and(|open| open.is_over);
        let draws_over = self.format.terminal
            && goes_on
            && (last.len() < written.len() || was_over && !written.is_empty());
        let mut text = String::new();
        if !goes_on || draws_over {
            if draws_over {
                text.push_str(LINE_AGAIN);
            } else if self.open.is_some() {
                text.push('\n');
            }
            text.push_str(&self.prefix(stage));
            if self.format.timestamps {
                let at = line.at.format("%Y-%m-%dT%H:%M:%S%.3fZ");
                text.push_str(&format!("{at} "));
            }
        }
        let shown = if self.format.terminal {
            visible(&tame(last, &['\t'])).into_owned()
        } else {
            tame(&line.text, &['\t', '\r'])
        };
        match line.stream.as_str() {
            "trainyard" if self.format.colours => {
                text.push_str(&shown.bright_black().to_string());
            }
            _ => text.push_str(&shown),
        }
        if line.continues {
            let returns = written.len() < line.text.len();
            self.open = Some(OpenLine {
                stage: stage.to_owned(),
                stream: line.stream.clone(),
                is_over: returns || was_over && written.is_empty(),
            });
        } else {
            self.open = None;
            if self.format.terminal && shown.contains('\x1b') {
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
        if !self.format.colours {
            return format!("{name} ");
        }
        let place = self.stages.iter().position(|name| name == stage);
        let colour = COLOURS[place.unwrap_or_default() % COLOURS.len()];
        format!("{} ", name.color(colour))
    }
}

/// How much of a log is missing, and why; `None` if it is complete.
pub(crate) fn missing(bytes: u64, lines: u64, removed: Option<Timestamp>) -> Option<String> {
    if bytes == 0 {
        return None;
    }
    let much = match lines {
        0 => in_units(bytes),
        lines => format!("{} ({})", counted(lines, "line"), in_units(bytes)),
    };
    let are = if lines == 1 { "is" } else { "are" };
    Some(match removed {
        Some(at) => format!(
            "the log, {much}, was removed on {}, as `retention.logs_for` says",
            at.format("%Y-%m-%d")
        ),
        None => format!(
            "{much} from the middle of the log {are} not kept: it is longer than `limits.log` or \
             `limits.logs_of_a_run`"
        ),
    })
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
            next_offset: 1,
            ..LogPage::default()
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_stage_has_no_prefix_and_several_have() {
        let lines = || page(vec![line("stdout", "hi", false)]);
        let mut one = Printer::new(LineFormat::default(), &names(&["train"]));
        assert_eq!(one.page("train", &lines()), "hi\n");
        let mut two = Printer::new(LineFormat::default(), &names(&["train", "eval"]));
        assert_eq!(two.page("eval", &lines()), "eval  | hi\n");
        let mut timed = Printer::new(
            LineFormat {
                timestamps: true,
                ..LineFormat::default()
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
        let mut printer = Printer::new(LineFormat::default(), &[]);
        let pieces = vec![line("stdout", "10%", true), line("stdout", " 20%", false)];
        assert_eq!(printer.page("a", &page(pieces)), "10% 20%\n");
        let pieces = vec![
            line("stdout", "10%", true),
            line("stderr", "warning", false),
        ];
        assert_eq!(printer.page("a", &page(pieces)), "10%\nwarning\n");
    }

    #[test]
    fn a_gap_is_reported_with_its_size() {
        let mut printer = Printer::new(LineFormat::default(), &[]);
        let page = LogPage {
            dropped_bytes: 3 << 20,
            dropped_lines: 800,
            ..page(vec![line("stdout", "end", false)])
        };
        assert_eq!(
            printer.page("a", &page),
            "… 800 lines (3 MiB) from the middle of the log are not kept: it is longer than \
             `limits.log` or `limits.logs_of_a_run` …\nend\n"
        );
    }

    #[test]
    fn a_log_that_was_removed_is_reported_with_the_day() {
        let mut printer = Printer::new(LineFormat::default(), &[]);
        let page = LogPage {
            dropped_bytes: 3,
            dropped_lines: 1,
            removed_at: Some("2026-11-23T15:00:00Z".parse().unwrap()),
            complete: true,
            ..page(Vec::new())
        };
        assert_eq!(
            printer.page("a", &page),
            "… the log, 1 line (3 B), was removed on 2026-11-23, as `retention.logs_for` says …\n"
        );
    }

    fn on_a_terminal() -> Printer {
        let format = LineFormat {
            terminal: true,
            ..LineFormat::default()
        };
        Printer::new(format, &names(&["a", "b"]))
    }

    #[test]
    fn a_log_cannot_clear_or_retitle_the_terminal_wherever_it_goes() {
        let text = "a\x1b[2J\x1b]0;title\x07\x1b[32mb\u{9b}H";
        let lines = || page(vec![line("stdout", text, false)]);
        let mut printer = on_a_terminal();
        assert_eq!(
            printer.page("a", &lines()),
            "a | a\x1b[32mb\u{fffd}H\x1b[0m\n"
        );
        let mut printer = Printer::new(LineFormat::default(), &[]);
        assert_eq!(printer.page("a", &lines()), "a\x1b[32mb\u{fffd}H\n");
    }

    #[test]
    fn on_a_terminal_a_progress_bar_is_drawn_over_itself() {
        let mut printer = on_a_terminal();
        let mut show = |text: &str, continues| {
            let lines = vec![line("stderr", text, continues)];
            printer.page("a", &page(lines))
        };
        assert_eq!(show("10%\r20%\r", true), "a | 20%");
        assert_eq!(show("30%", true), "\r\x1b[Ka | 30%");
        assert_eq!(show("0 of", true), "0 of");
        assert_eq!(show("\r40%\r50%\r", true), "\r\x1b[Ka | 50%");
        assert_eq!(show("done", false), "\r\x1b[Ka | done\n");
    }

    #[test]
    fn on_a_terminal_what_is_said_in_between_begins_a_line() {
        let half = || page(vec![line("stdout", "no newline", true)]);
        let mut printer = on_a_terminal();
        assert_eq!(printer.break_line(), "");
        assert_eq!(printer.page("a", &half()), "a | no newline");
        assert_eq!((printer.break_line(), printer.break_line()), ("\n", ""));
        assert_eq!(printer.page("a", &half()), "a | no newline");
        let mut elsewhere = Printer::new(LineFormat::default(), &[]);
        let _ = elsewhere.page("a", &half());
        assert_eq!(elsewhere.break_line(), "");
    }

    #[test]
    fn elsewhere_a_progress_bar_and_its_colours_are_passed_on_as_they_are() {
        let mut printer = Printer::new(LineFormat::default(), &[]);
        let text = "\x1b[31m10%\r20%\x1b[0m";
        let lines = vec![line("stdout", text, false)];
        assert_eq!(printer.page("a", &page(lines)), format!("{text}\n"));
    }
}

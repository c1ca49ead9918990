//! Diagnostics: what to report about a file, and where.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::{Value, json};
use trainyard_core::dag::Guesses;
use trainyard_core::measure::counted;
use trainyard_core::text::recorded;

use crate::limits::{DIAGNOSTICS_AT_MOST, DIAGNOSTICS_KEPT};
use crate::outside::Outside;

/// How severe it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is not used.
    Error,
    /// The file is used, but deserves a check.
    Warning,
}

impl Severity {
    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// The kind of fault: stable words for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiagnosticCode {
    /// The file cannot be read.
    Unreadable,
    /// It is not YAML.
    Syntax,
    /// It is larger or deeper than the limits allow.
    TooLarge,
    /// There is no such key here.
    UnknownKey,
    /// A key occurs twice.
    DuplicateKey,
    /// Something required is missing.
    Missing,
    /// It has another type than wanted: a list where a text is wanted, and the like.
    WrongType,
    /// It has the right type and the wrong value.
    InvalidValue,
    /// Two things that exclude each other.
    Conflict,
    /// It is right, but this version does not support it.
    NotSupportedYet,
    /// Stages do not fit together.
    Graph,
}

impl DiagnosticCode {
    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Syntax => "syntax",
            Self::TooLarge => "too_large",
            Self::UnknownKey => "unknown_key",
            Self::DuplicateKey => "duplicate_key",
            Self::Missing => "missing",
            Self::WrongType => "wrong_type",
            Self::InvalidValue => "invalid_value",
            Self::Conflict => "conflict",
            Self::NotSupportedYet => "not_supported_yet",
            Self::Graph => "graph",
        }
    }
}

/// One fault or warning about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub code: DiagnosticCode,
    /// The fault, in a sentence without a final stop.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
    /// Where, in bytes of the text.
    pub span: Range<usize>,
    /// The line of its beginning, from 1.
    pub line: usize,
    /// The column of its beginning, in characters, from 1.
    pub column: usize,
    /// The line of its end, from 1.
    pub end_line: usize,
    /// The column after its end, in characters, from 1.
    pub end_column: usize,
}

impl Diagnostic {
    /// Whether the file is not used because of it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The fault of a file that cannot be read.
#[must_use]
pub fn unreadable(why: &str) -> Vec<Diagnostic> {
    let mut sink = Sink::new("");
    sink.error(DiagnosticCode::Unreadable, 0..0, why);
    sink.finish()
}

/// Diagnostics as JSON: a list of objects with `file`, `severity`, `code`, `message`, `help`, `line`,
/// `column`, `end_line`, `end_column`.
#[must_use]
pub fn to_json(file_name: &str, diagnostics: &[Diagnostic]) -> Value {
    diagnostics
        .iter()
        .map(|diagnostic| {
            json!({
                "file": file_name,
                "severity": diagnostic.severity.as_str(),
                "code": diagnostic.code.as_str(),
                "message": diagnostic.message,
                "help": diagnostic.help,
                "line": diagnostic.line,
                "column": diagnostic.column,
                "end_line": diagnostic.end_line,
                "end_column": diagnostic.end_column,
            })
        })
        .collect()
}

/// Collects diagnostics while a file is read: the first of them, and the number of all.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    text: &'a str,
    taken: Vec<Taken>,
    /// How many more there are, whether one of them is an error, and the last.
    beyond: Option<(usize, bool, Taken)>,
    guesses: Guesses,
    /// Whether a merge key could not be read, so that keys may be missing anywhere.
    pub(crate) has_wrong_merge: bool,
    /// The references of the file to things outside of it.
    pub(crate) outside: Outside,
}

/// A diagnostic without its line and column.
#[derive(Debug)]
pub(crate) struct Taken {
    severity: Severity,
    code: DiagnosticCode,
    message: String,
    help: Option<String>,
    span: Range<usize>,
}

impl Taken {
    /// Adds what to do about it.
    pub(crate) fn help(&mut self, help: impl Into<String>) {
        self.help = Some(recorded(help));
    }

    /// Adds what to do about it, where that is known.
    pub(crate) fn maybe_help(&mut self, help: Option<String>) {
        self.help = help.map(recorded);
    }
}

impl<'a> Sink<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            taken: Vec::new(),
            beyond: None,
            guesses: Guesses::default(),
            has_wrong_merge: false,
            outside: Outside::default(),
        }
    }

    /// The text of the file.
    pub(crate) fn source(&self) -> &'a str {
        self.text
    }

    /// The name that was meant, as long as the budget for guesses lasts and there is room for a message about it.
    pub(crate) fn nearest<'n>(
        &self,
        written: &str,
        candidates: impl IntoIterator<Item = &'n str>,
    ) -> Option<&'n str> {
        let has_room = self.taken.len() < DIAGNOSTICS_KEPT;
        has_room
            .then(|| self.guesses.nearest(written, candidates))
            .flatten()
    }

    pub(crate) fn warning(
        &mut self,
        code: DiagnosticCode,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Taken {
        self.take(Severity::Warning, code, span, message)
    }

    /// Adds an error. Its quotes of the file may hold a NUL, which no row can store.
    pub(crate) fn error(
        &mut self,
        code: DiagnosticCode,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Taken {
        self.take(Severity::Error, code, span, message)
    }

    fn take(
        &mut self,
        severity: Severity,
        code: DiagnosticCode,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Taken {
        let span = self.within(span);
        let taken = Taken {
            severity,
            code,
            message: recorded(message),
            help: None,
            span,
        };
        if self.taken.len() >= DIAGNOSTICS_KEPT {
            let (count, has_error) = match &self.beyond {
                Some((count, has_error, _)) => (*count, *has_error),
                None => (0, false),
            };
            let has_error = has_error || severity == Severity::Error;
            return &mut self.beyond.insert((count + 1, has_error, taken)).2;
        }
        self.taken.push(taken);
        let last = self.taken.len() - 1;
        &mut self.taken[last]
    }

    /// All that were added, in the order of the text.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.taken
            .sort_by_key(|taken| (taken.span.start, taken.span.end));
        // Stages that share a value share its faults.
        let mut seen = HashSet::new();
        self.taken
            .retain(|taken| seen.insert((taken.span.clone(), taken.message.clone())));
        let (beyond, mut has_error) = match self.beyond.take() {
            Some((count, has_error, _)) => (count, has_error),
            None => (0, false),
        };
        let shown = self.taken.len().min(DIAGNOSTICS_AT_MOST);
        let cut = self.taken.split_off(shown);
        has_error |= cut.iter().any(|taken| taken.severity == Severity::Error);
        let surplus = (cut.len() + beyond) as u64;
        if surplus > 0 {
            // Warnings that are not shown make no valid file invalid.
            let (severity, what) = match has_error {
                true => (Severity::Error, "more fault"),
                false => (Severity::Warning, "more warning"),
            };
            let end = self.text.len();
            let message = format!("and {}, not shown", counted(surplus, what));
            self.take(severity, DiagnosticCode::TooLarge, end..end, message);
        }
        let lines = Lines::of(self.text);
        self.taken
            .into_iter()
            .map(|taken| {
                let (line, column) = lines.place(self.text, taken.span.start);
                let (end_line, end_column) = lines.place(self.text, taken.span.end);
                Diagnostic {
                    severity: taken.severity,
                    code: taken.code,
                    message: taken.message,
                    help: taken.help,
                    span: taken.span,
                    line,
                    column,
                    end_line,
                    end_column,
                }
            })
            .collect()
    }

    /// A span that lies within the text and does not cut characters apart.
    fn within(&self, span: Range<usize>) -> Range<usize> {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = span.end.clamp(start, self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }
}

struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(
            std::iter::once(0)
                .chain(after_breaks.map(|(at, _)| at + 1))
                .collect(),
        )
    }

    fn place(&self, text: &str, at: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= at);
        let start = self.0[line - 1];
        (line, text[start..at].chars().count() + 1)
    }
}

//! The one way to standard output and standard error.
//!
//! Text comes with its colours in it; they are taken out where the stream is no terminal or
//! `NO_COLOR` is set. A reader that goes away early is an error like any other here; how the call
//! ends then is [`crate::failure`]'s affair.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::failure::Done;
use crate::view::screen::{Screen, Zone};
use crate::view::{tame, visible};

/// How listings and single things are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs; stable
    Json,
}

/// `--output`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// The output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,

    /// Show times in UTC instead of local time. JSON always has UTC
    #[arg(long)]
    pub(crate) utc: bool,
}

impl OutputArgs {
    /// What tables are made for.
    pub(crate) fn screen(self) -> Screen {
        Screen {
            width: width(),
            zone: self.zone(),
        }
    }

    /// Whose clock times are shown by.
    pub(crate) fn zone(self) -> Zone {
        zone(self.utc)
    }

    /// Whether it is for programs.
    pub(crate) fn is_json(self) -> bool {
        self.output == Format::Json
    }

    /// Prints a value: as JSON as it is, or as the text that `table` makes of it.
    pub(crate) fn show(self, value: &impl Serialize, table: impl FnOnce() -> String) -> Done {
        match self.output {
            Format::Json => json(value),
            Format::Table => text(&table()),
        }
    }
}

/// Prints text, in which nothing is hidden and nothing but colours steers a terminal, and a line break after it where it
/// has none.
pub(crate) fn text(text: &str) -> Done {
    let mut out = anstream::stdout().lock();
    out.write_all(fit(text).as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Prints a value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Done {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    self::text(&text)
}

/// Prints bytes untouched, colours of others included.
pub(crate) fn raw(bytes: &[u8]) -> Done {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Says something beside the result, on standard error.
pub(crate) fn note(text: &str) {
    complain(text);
}

/// A line on standard error. Where that is closed, there is nobody to tell.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{}", fit(line));
}

/// Text that may quote anything: names, authors, reasons. In JSON too: there `\u202e` is the same letter.
fn fit(text: &str) -> String {
    tame(&visible(text), &['\t', '\n'])
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether colours are wanted on standard output.
pub(crate) fn has_colours() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Whether colours are wanted on standard error.
pub(crate) fn complains_in_colours() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Whose clock times are shown by, with and without `--utc`.
pub(crate) fn zone(utc: bool) -> Zone {
    if utc { Zone::Utc } else { Zone::Local }
}

/// The width of the terminal; `None` where output goes elsewhere and may be of any width.
pub(crate) fn width() -> Option<u16> {
    let (_, columns) = is_terminal().then(|| console::Term::stdout().size_checked())??;
    Some(columns)
}

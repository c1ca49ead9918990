//! All output to standard output and standard error.
//!
//! Text contains its colours; they are removed if the stream is not a terminal or `NO_COLOR` is set. A reader that
//! closes the stream early is an error like any other here; [`crate::failure`] decides how the command ends then.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::failure::Done;
use crate::view::screen::Screen;
use crate::view::{tame, visible};
use trainyard_present::zone::Zone;

/// The output format of listings and single items.
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
    /// The screen that tables are formatted for.
    pub(crate) fn screen(self) -> Screen {
        Screen {
            width: width(),
            zone: self.zone(),
        }
    }

    /// The time zone that times are shown in.
    pub(crate) fn zone(self) -> Zone {
        zone(self.utc)
    }

    /// Whether the output is for programs.
    pub(crate) fn is_json(self) -> bool {
        self.output == Format::Json
    }

    /// Prints a value: as JSON, or as the text that `table` makes of it.
    pub(crate) fn show(self, value: &impl Serialize, table: impl FnOnce() -> String) -> Done {
        match self.output {
            Format::Json => json(value),
            Format::Table => text(&table()),
        }
    }
}

/// Prints text, with hidden characters made visible and without control sequences except colours. Adds a line break
/// if it has none.
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

/// Prints bytes unchanged.
pub(crate) fn raw(bytes: &[u8]) -> Done {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints a note to standard error, separate from the result.
pub(crate) fn note(text: &str) {
    complain(text);
}

/// Prints a line to standard error. Errors are ignored: if it is closed, there is no other place to report them.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{}", fit(line));
}

/// Makes text from outside safe to print: names, authors, reasons. This is valid in JSON too, where `\u202e` is the
/// same letter.
fn fit(text: &str) -> String {
    tame(&visible(text), &['\t', '\n'])
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether to use colours on standard output.
pub(crate) fn has_colours() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Whether to use colours on standard error.
pub(crate) fn complains_in_colours() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// The time zone that times are shown in, with and without `--utc`.
pub(crate) fn zone(utc: bool) -> Zone {
    if utc { Zone::Utc } else { Zone::Local }
}

/// The width of the terminal; `None` if the output is not a terminal and may have any width.
pub(crate) fn width() -> Option<u16> {
    let (_, columns) = is_terminal().then(|| console::Term::stdout().size_checked())??;
    Some(columns)
}

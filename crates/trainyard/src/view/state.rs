//! Colours of states.

use comfy_table::Color;
use owo_colors::Style;
use trainyard_core::outcome::Outcome;

/// The kind of a state, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It succeeded.
    Good,
    /// It failed.
    Bad,
    /// It was not done.
    Off,
    /// It is in progress.
    Busy,
    Waiting,
}

impl Mood {
    /// The mood of a state's word.
    pub(crate) fn of(state: &str) -> Self {
        match Outcome::from_word(state) {
            Some(Outcome::Succeeded) => Self::Good,
            Some(
                Outcome::Failed
                | Outcome::Errored
                | Outcome::TimedOut
                | Outcome::Lost
                | Outcome::UpstreamFailed,
            ) => Self::Bad,
            Some(Outcome::Cancelled | Outcome::Skipped) => Self::Off,
            None if matches!(state, "running" | "starting") => Self::Busy,
            None => Self::Waiting,
        }
    }

    /// Its colour in a table.
    pub(crate) const fn colour(self) -> Color {
        match self {
            Self::Good => Color::DarkGreen,
            Self::Bad => Color::DarkRed,
            Self::Off => Color::DarkYellow,
            Self::Busy => Color::DarkCyan,
            Self::Waiting => Color::DarkGrey,
        }
    }

    /// Its style in text.
    pub(crate) const fn style(self) -> Style {
        match self {
            Self::Good => Style::new().green(),
            Self::Bad => Style::new().red(),
            Self::Off => Style::new().yellow(),
            Self::Busy => Style::new().cyan(),
            Self::Waiting => Style::new().bright_black(),
        }
    }
}

/// Whether a run in this state has succeeded. A skipped run has not: a script that waits for it would go on with nothing
/// new.
pub(crate) fn has_succeeded(state: &str) -> bool {
    Outcome::from_word(state) == Some(Outcome::Succeeded)
}

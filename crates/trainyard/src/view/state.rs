//! Colours of states.

use comfy_table::Color;
use owo_colors::Style;
use trainyard_present::state::Mood;

/// The colour of a state.
pub(crate) trait Coloured {
    /// In a table.
    fn colour(self) -> Color;
    /// In text.
    fn style(self) -> Style;
}

impl Coloured for Mood {
    fn colour(self) -> Color {
        match self {
            Self::Good => Color::DarkGreen,
            Self::Bad => Color::DarkRed,
            Self::Off => Color::DarkYellow,
            Self::Busy => Color::DarkCyan,
            Self::Waiting => Color::DarkGrey,
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Good => Style::new().green(),
            Self::Bad => Style::new().red(),
            Self::Off => Style::new().yellow(),
            Self::Busy => Style::new().cyan(),
            Self::Waiting => Style::new().bright_black(),
        }
    }
}

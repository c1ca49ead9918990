//! The screen that text is formatted for: its width, and the time zone for moments.

use chrono::Local;
use trainyard_api::Timestamp;

/// A screen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// The width of the terminal; `None` if the output is not a terminal and may have any width.
    pub(crate) width: Option<u16>,
    /// The time zone for moments.
    pub(crate) zone: Zone,
}

/// The time zone for moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// This machine's time zone, as `TZ` or the system sets it.
    Local,
    Utc,
}

impl Zone {
    /// A moment to the second: `2026-11-23 15:04:05`.
    pub(crate) fn moment(self, at: Timestamp) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S")
    }

    /// The same to the minute.
    pub(crate) fn minute(self, at: Timestamp) -> String {
        self.format(at, "%Y-%m-%d %H:%M")
    }

    /// A moment with its time zone: `2026-11-23 15:04:05 UTC`, `2026-11-23 16:04:05 +01:00`.
    pub(crate) fn moment_in_full(self, at: Timestamp) -> String {
        match self {
            Self::Local => self.format(at, "%Y-%m-%d %H:%M:%S %:z"),
            Self::Utc => self.format(at, "%Y-%m-%d %H:%M:%S UTC"),
        }
    }

    /// The time of the day: `15:04:05`.
    pub(crate) fn time_of_day(self, at: Timestamp) -> String {
        self.format(at, "%H:%M:%S")
    }

    fn format(self, at: Timestamp, format: &str) -> String {
        match self {
            Self::Local => at.with_timezone(&Local).format(format).to_string(),
            Self::Utc => at.format(format).to_string(),
        }
    }
}

//! What text is made for: how wide the place is where it is shown, and whose clock moments are given by.

use chrono::Local;
use trainyard_api::Timestamp;

/// Where text is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// The width of the terminal; `None` where text goes elsewhere and may be of any width.
    pub(crate) width: Option<u16>,
    /// Whose clock moments are given by.
    pub(crate) zone: Zone,
}

/// Whose clock moments are given by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// This machine's, as `TZ` or the system sets it.
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

    /// A moment with the clock that it is of: `2026-11-23 15:04:05 UTC`, `2026-11-23 16:04:05 +01:00`.
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

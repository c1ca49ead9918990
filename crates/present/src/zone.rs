//! Moments in a time zone.

use chrono::Local;
use trainyard_api::Timestamp;

/// The time zone for moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// This machine's time zone, as `TZ` or the system sets it.
    Local,
    Utc,
}

impl Zone {
    /// A moment to the second: `2026-11-23 15:04:05`.
    pub fn moment(self, at: Timestamp) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S")
    }

    /// The same to the minute.
    pub fn minute(self, at: Timestamp) -> String {
        self.format(at, "%Y-%m-%d %H:%M")
    }

    /// A moment with its time zone: `2026-11-23 15:04:05 UTC`, `2026-11-23 16:04:05 +01:00`.
    pub fn moment_in_full(self, at: Timestamp) -> String {
        match self {
            Self::Local => self.format(at, "%Y-%m-%d %H:%M:%S %:z"),
            Self::Utc => self.format(at, "%Y-%m-%d %H:%M:%S UTC"),
        }
    }

    /// The time of the day: `15:04:05`.
    pub fn time_of_day(self, at: Timestamp) -> String {
        self.format(at, "%H:%M:%S")
    }

    fn format(self, at: Timestamp, format: &str) -> String {
        match self {
            Self::Local => at.with_timezone(&Local).format(format).to_string(),
            Self::Utc => at.format(format).to_string(),
        }
    }
}

//! Logs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use chrono::{DateTime, Utc};

/// A line of log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When Docker took it.
    pub at: DateTime<Utc>,
    /// `stdout`, `stderr`, or `trainyard` for the daemon's own lines.
    pub stream: String,
    /// The text. On a terminal, text after a carriage return overwrites the text before it.
    pub text: String,
    /// Whether the line continues in the stream's next one.
    #[serde(default)]
    pub continues: bool,
}

/// A piece of an attempt's log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct LogPage {
    /// The attempt's number; 0 where the stage has none yet.
    pub attempt: u32,
    /// The lines.
    pub lines: Vec<LogLine>,
    /// How many bytes of text are missing before them: the log exceeded its limit, or was removed.
    pub dropped_bytes: u64,
    /// How many lines these are; 0 where that is not known.
    #[serde(default)]
    pub dropped_lines: u64,
    /// When retention removed the log, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<DateTime<Utc>>,
    /// The offset of the next page.
    pub next_offset: u64,
    /// Whether the log has ended here.
    pub complete: bool,
}

/// The bytes of a stored record before its text: time, mark and spaces.
const HEAD: u64 = "2026-11-23T15:00:00.123456789Z O ".len() as u64;

/// How much text there is in records, in bytes.
#[must_use]
pub fn text_bytes(bytes: u64, records: u64) -> u64 {
    bytes.saturating_sub(records.saturating_mul(HEAD))
}

impl LogLine {
    /// Reads stored records, each of which ends in a line break.
    pub fn read(records: &str) -> impl Iterator<Item = Self> {
        // Not `lines`, which treats a carriage return as part of the line break.
        records.split('\n').filter_map(Self::from_record)
    }

    /// Reads a stored record: `TIME MARK TEXT`, the mark in lower case where the line continues in the next record.
    fn from_record(record: &str) -> Option<Self> {
        let (time, rest) = record.split_once(' ')?;
        let (mark, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let stream = match mark.to_ascii_uppercase().as_str() {
            "O" => "stdout",
            "E" => "stderr",
            "S" => "trainyard",
            _ => return None,
        };
        Some(Self {
            at: time.parse().ok()?,
            stream: stream.to_owned(),
            text: text.to_owned(),
            continues: mark.chars().all(|mark| mark.is_ascii_lowercase()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_lines() {
        let line = LogLine::from_record("2026-11-23T15:00:00.5Z e no end").unwrap();
        assert_eq!(
            (line.stream.as_str(), line.text.as_str(), line.continues),
            ("stderr", "no end", true)
        );
        assert_eq!(
            LogLine::from_record("2026-11-23T15:00:00Z O ")
                .unwrap()
                .text,
            ""
        );
        assert_eq!(LogLine::from_record("nonsense"), None);
    }

    #[test]
    fn a_carriage_return_at_the_end_belongs_to_the_text() {
        let records = "2026-11-23T15:00:00Z e 10%\r\n2026-11-23T15:00:01Z E 20%\n";
        let texts: Vec<String> = LogLine::read(records).map(|line| line.text).collect();
        assert_eq!(texts, ["10%\r", "20%"]);
    }
}

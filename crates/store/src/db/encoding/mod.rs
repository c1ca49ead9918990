//! How domain values are written into rows.
//!
//! 1. The domain types carry no serde: later versions must be able to read stored rows, however the domain
//!    types change. So every JSON column has mirror structs here, with conversions both ways.
//! 2. Reading is checked: the domain's own constructors run again, and a row that
//!    does not pass is an error that names it.
//! 3. Floating-point numbers are stored as text in JSON: not every reader and writer of JSON numbers keeps all of
//!    their bits. The shortest text that reads back as the same number does.
//!
//! # Formats
//! During an upgrade daemons of two versions work on one database. So the older one must leave alone what it does not
//! read, and must not take it for corrupt:
//!
//! 1. A DAG version has the number of the lowest format that can express it (`dag_version.format`), so that only DAGs
//!    that use a new key are out of an older daemon's reach.
//! 2. A run has the format of its DAG version, or a higher one if its cause needs that (`run.format`). It never
//!    changes: every daemon writes into a run only what the run's format can express.
//! 3. Statements that pick work pick only what [`latest_format`] covers, and everything else is refused as
//!    [`Error::LaterFormat`] before it is read.
//! 4. The files in `golden/` have every key and every word of a format. They never change, so that a change of these
//!    modules that breaks stored rows fails a test.
//!
//! To add a key to DAGs: raise [`FORMAT`], leave the key out of the JSON where it is not used, write the new number
//! where it is used and the old one where not, and add golden files for it.

pub(crate) mod cause;
pub(crate) mod dag;
pub(crate) mod event;
#[cfg(test)]
mod golden;
pub(crate) mod param;
#[cfg(test)]
mod round_trip;
pub(crate) mod stage;

use std::time::Duration;

use serde::de::DeserializeOwned;
use trainyard_core::outcome::{Outcome, Reason, ReasonCode};

use crate::db::error::{Error, Result};

/// The latest format that this version writes and reads.
const FORMAT: i32 = 1;

/// The latest format of DAG versions and runs that this daemon reads. For tests, a daemon can read the next one.
pub(crate) fn latest_format() -> i32 {
    FORMAT + i32::from(trainyard_failpoint::reads_next_format())
}

/// Refuses what a newer daemon wrote in a format that this one does not read.
pub(crate) fn readable(format: i32, what: impl FnOnce() -> String) -> Result<()> {
    let known = latest_format();
    if format <= known {
        return Ok(());
    }
    Err(Error::LaterFormat {
        what: what(),
        format,
        known,
    })
}

/// Reads a JSON column; `what` names the row in the error.
pub(crate) fn read<T: DeserializeOwned>(
    json: serde_json::Value,
    what: impl FnOnce() -> String,
) -> Result<T> {
    serde_json::from_value(json).map_err(|problem| Error::corrupt(what(), problem))
}

/// Writes a JSON column. The mirror structs have only string keys, so this cannot fail.
pub(crate) fn write<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

pub(crate) fn outcome(word: &str, what: impl FnOnce() -> String) -> Result<Outcome> {
    Outcome::from_word(word)
        .ok_or_else(|| Error::corrupt(what(), format!("`{word}` is not an outcome")))
}

/// Reads an optional reason. A code of a newer Trainyard is nothing that the run depends on: its message is kept.
pub(crate) fn reason(code: Option<String>, message: Option<String>) -> Option<Reason> {
    let code = ReasonCode::from_word(&code?).unwrap_or(ReasonCode::Unknown);
    Some(Reason::new(code, message?))
}

/// The code and message columns of an optional reason.
pub(crate) fn reason_columns(reason: Option<&Reason>) -> (Option<String>, Option<String>) {
    match reason {
        Some(Reason { code, message }) => (Some(code.as_str().to_owned()), Some(message.clone())),
        None => (None, None),
    }
}

/// A duration in nanoseconds. More than 584 years is stored as 584 years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The shortest text that reads back as the same number.
fn float_text(number: f64) -> String {
    number.to_string()
}

fn float(text: &str) -> Result<f64, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_was_recorded_without_a_bound_is_read_with_one() {
        let message = "outputs/x is a pipe; ".repeat(200_000);
        let read = reason(Some("missing_output".to_owned()), Some(message)).unwrap();
        assert!(read.message.len() <= trainyard_core::text::MESSAGE_AT_MOST);
    }
}

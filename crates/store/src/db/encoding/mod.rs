//! How domain values are written into rows.
//!
//! 1. The domain types carry no serde: later versions must be able to read stored rows, however the domain
//!    types change. So every JSON column has mirror structs here, with conversions both ways, and the DAG's
//!    form carries the number of its format.
//! 2. Reading is checked: the domain's own constructors run again, and a row that
//!    does not pass is an error that names it.
//! 3. Floating-point numbers are stored as text in JSON: not every reader and writer of JSON numbers keeps all of
//!    their bits. The shortest text that reads back as the same number does.

pub(crate) mod cause;
pub(crate) mod dag;
pub(crate) mod event;
pub(crate) mod param;
#[cfg(test)]
mod round_trip;
pub(crate) mod stage;

use std::time::Duration;

use serde::de::DeserializeOwned;
use trainyard_core::outcome::{Outcome, Reason, ReasonCode};

use crate::db::error::{Error, Result};

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

pub(crate) fn reason(
    code: Option<String>,
    message: Option<String>,
    what: impl FnOnce() -> String,
) -> Result<Option<Reason>> {
    let (Some(code), Some(message)) = (code, message) else {
        return Ok(None);
    };
    match ReasonCode::from_word(&code) {
        Some(code) => Ok(Some(Reason::new(code, message))),
        None => Err(Error::corrupt(what(), format!("`{code}` is not a reason"))),
    }
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
        let read = reason(Some("missing_output".to_owned()), Some(message), || {
            "attempt 1".to_owned()
        });
        let read = read.unwrap().unwrap();
        assert!(read.message.len() <= trainyard_core::text::MESSAGE_AT_MOST);
    }
}

//! Durations and sizes as values of keys: [`trainyard_core::measure`] in TOML and on the command line.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};
use trainyard_core::measure;

/// A length of time, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl Span {
    #[must_use]
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    #[must_use]
    pub const fn days(count: u64) -> Self {
        Self::seconds(count * 24 * 3600)
    }
}

impl ByteSize {
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }
}

/// The text is not a valid quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: write {form}")]
pub struct NotAQuantity {
    text: String,
    what: &'static str,
    form: &'static str,
}

macro_rules! quantity {
    ($name:ident, $what:literal, $form:path, $parse:path, $print:path) => {
        impl FromStr for $name {
            type Err = NotAQuantity;

            fn from_str(text: &str) -> Result<Self, NotAQuantity> {
                $parse(text).map(Self).ok_or_else(|| NotAQuantity {
                    text: text.to_owned(),
                    what: $what,
                    form: $form,
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&$print(self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let expected = concat!("a ", $what);
                deserializer.deserialize_any(Words(expected, $form, PhantomData))
            }
        }
    };
}

quantity! {Span, "duration", measure::DURATION_FORM, measure::parse_duration, measure::in_words}
quantity! {ByteSize, "size", measure::SIZE_FORM, measure::parse_size, measure::in_bytes}

/// Accepts a string; for any other type, the error says what to write.
struct Words<Q>(&'static str, &'static str, PhantomData<Q>);

impl<Q: FromStr<Err = NotAQuantity>> Visitor<'_> for Words<Q> {
    type Value = Q;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: write {}", self.0, self.1)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Q, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_unit_is_refused_with_an_example() {
        let error = "90".parse::<Span>().unwrap_err().to_string();
        assert!(error.contains("such as \"90s\""), "{error}");
        let error = "8".parse::<ByteSize>().unwrap_err().to_string();
        assert!(error.contains("such as \"8GiB\""), "{error}");
    }
}

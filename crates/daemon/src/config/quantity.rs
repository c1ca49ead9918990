//! Durations and sizes with units: `90s`, `1h30m`, `30d`; `512MiB`, `8GiB`.
//!
//! A number without a unit is an error: users often assume another unit.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

const MILLISECOND: u64 = 1;
const SECOND: u64 = 1000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// In milliseconds, the largest first.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", DAY),
    ("h", HOUR),
    ("m", MINUTE),
    ("s", SECOND),
    ("ms", MILLISECOND),
];

/// In bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A length of time, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// So many days.
    #[must_use]
    pub const fn days(count: u64) -> Self {
        Self::seconds(count * 24 * 3600)
    }
}

impl Size {
    /// So many MiB.
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }
}

/// The text is not a valid quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}")]
pub struct NotAQuantity {
    text: String,
    what: &'static str,
}

/// The common part of both quantities.
trait Quantity: FromStr<Err = NotAQuantity> {
    const WHAT: &'static str;
    const UNITS: [(&'static str, u64); 5];
}

impl Quantity for Span {
    const WHAT: &'static str = "duration: write a number with ms, s, m, h or d, such as \"90s\"";
    const UNITS: [(&'static str, u64); 5] = TIME_UNITS;
}

impl Quantity for Size {
    const WHAT: &'static str =
        "size: write a number with B, KiB, MiB, GiB or TiB, such as \"8GiB\"";
    const UNITS: [(&'static str, u64); 5] = SIZE_UNITS;
}

impl FromStr for Span {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        Ok(Self(Duration::from_millis(parse::<Self>(text)?)))
    }
}

impl FromStr for Size {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        Ok(Self(parse::<Self>(text)?))
    }
}

/// Reads numbers with units, one after the other, the larger unit first.
fn parse<Q: Quantity>(text: &str) -> Result<u64, NotAQuantity> {
    let fault = || NotAQuantity {
        text: text.to_owned(),
        what: Q::WHAT,
    };
    let mut rest = text.trim();
    let mut total: u64 = 0;
    let mut last = u64::MAX;
    if rest.is_empty() {
        return Err(fault());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| fault())?;
        let (_, worth) = Q::UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(fault)?;
        if worth >= last {
            return Err(fault());
        }
        last = worth;
        total = number
            .checked_mul(worth)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(fault)?;
        rest = after;
    }
    Ok(total)
}

fn write(mut rest: u64, units: [(&str, u64); 5], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = String::new();
    for (unit, worth) in units {
        if rest >= worth {
            text.push_str(&format!("{}{unit}", rest / worth));
            rest %= worth;
        }
    }
    if text.is_empty() {
        text = format!("0{}", if units[0].0 == "d" { "s" } else { "B" });
    }
    f.pad(&text)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(
            u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX),
            TIME_UNITS,
            f,
        )
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.0, SIZE_UNITS, f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words(PhantomData))
    }
}

/// Accepts a string; for any other type, the error says what to write.
struct Words<Q>(PhantomData<Q>);

impl<Q: Quantity> Visitor<'_> for Words<Q> {
    type Value = Q;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}", Q::WHAT)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Q, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, milliseconds) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("30d", 2_592_000_000),
            ("0s", 0),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0.as_millis(), milliseconds, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!("8GiB".parse(), Ok(Size(8 << 30)));
        assert_eq!("1GiB512MiB".parse(), Ok(Size(1536 << 20)));
        assert_eq!("10B".parse(), Ok(Size(10)));
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_an_example() {
        for wrong in [
            "",
            "90",
            "s",
            "-1s",
            "1.5h",
            "1x",
            "30m1h",
            "1h1h",
            "99999999999999999d",
        ] {
            let error = wrong.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains("such as \"90s\""), "{wrong}: {error}");
        }
        for wrong in ["8", "8GB", "8 GiB", "99999999999TiB"] {
            let error = wrong.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains("such as \"8GiB\""), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for text in ["0s", "15s", "1d", "1h30m", "1m30s250ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["0B", "16MiB", "8GiB", "1GiB1B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }
}

//! Durations, sizes and counts as text. DAG files, the configuration and the command line read and print them here, so
//! that all of them accept the same forms.

use std::time::Duration;

/// The units of durations in milliseconds, the largest first.
const TIME_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The units of sizes in bytes, the largest first.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Units of sizes that are read, and not printed.
const DECIMAL_UNITS: &[(&str, u64)] = &[
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
];

/// How to write a duration, for messages.
pub const DURATION_FORM: &str = "a number with ms, s, m, h or d, such as \"90s\"";

/// How to write a size, for messages.
pub const SIZE_FORM: &str = "a number with B, KiB, MiB, GiB or TiB, such as \"8GiB\"";

/// Reads a duration: whole numbers with `ms`, `s`, `m`, `h`, `d`, the larger units first, as in `1h30m`. A number
/// without a unit is refused: users often assume another unit.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let is_whole = !text.contains(['.', ' ']);
    let millis = is_whole.then(|| parse(text, &[TIME_UNITS])).flatten()?;
    Some(Duration::from_millis(millis))
}

/// Reads a size in bytes: numbers with `B`, `KiB` … `TiB`, or `kB` … `TB`, the larger units first, as in `8GiB`,
/// `1.5 GiB` and `1GiB512MiB`.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &[SIZE_UNITS, DECIMAL_UNITS])
}

/// Reads numbers with units, one after the other, each unit smaller than the one before.
fn parse(text: &str, units: &[&[(&str, u64)]]) -> Option<u64> {
    let mut rest = text.trim();
    let (mut total, mut last) = (0_u64, u64::MAX);
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start_matches(' ');
        let letters = after.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, after) = after.split_at(letters.unwrap_or(after.len()));
        let mut known = units.iter().copied().flatten();
        let (_, worth) = known.find(|(name, _)| *name == unit)?;
        if *worth >= last {
            return None;
        }
        last = *worth;
        total = total.checked_add(times(number, *worth)?)?;
        if after.is_empty() {
            return Some(total);
        }
        rest = after;
    }
}

/// A decimal number times a unit, without the fraction that is left over.
fn times(number: &str, worth: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    // More than 18 digits do not fit; the unit's bytes are fewer.
    let fraction = (fraction.len() <= 18).then_some(fraction)?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(worth) / scale;
    whole
        .checked_mul(worth)?
        .checked_add(u64::try_from(part).ok()?)
}

/// A duration as files write it: `1h30m`, `30d`, `250ms`. Fractions of a millisecond are left out.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    written(millis, TIME_UNITS).unwrap_or_else(|| "0s".to_owned())
}

/// A size as files write it, to the byte: `8GiB`, `1GiB1B`.
#[must_use]
pub fn in_bytes(bytes: u64) -> String {
    written(bytes, SIZE_UNITS).unwrap_or_else(|| "0B".to_owned())
}

/// A quantity in whole units; `None` for nothing.
fn written(mut rest: u64, units: &[(&str, u64)]) -> Option<String> {
    let mut text = String::new();
    for (unit, worth) in units {
        if rest >= *worth {
            text.push_str(&format!("{}{unit}", rest / worth));
            rest %= worth;
        }
    }
    (!text.is_empty()).then_some(text)
}

/// A size for people, in the largest binary unit that it fills, with one decimal: `4 GiB`, `1.5 GiB`.
#[must_use]
pub fn in_units(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut size = bytes as f64;
    let mut unit = 0;
    // A size that would be shown as 1024.0 is 1 of the next unit.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let text = format!("{size:.1}");
    format!(
        "{} {}",
        text.strip_suffix(".0").unwrap_or(&text),
        UNITS[unit]
    )
}

/// A count with its noun: `1 run`, `2 runs`.
#[must_use]
pub fn counted(count: impl Into<u64>, noun: &str) -> String {
    let count = count.into();
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("30d", 2_592_000_000),
            ("0s", 0),
        ] {
            let duration = parse_duration(text);
            assert_eq!(duration, Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in [
            "",
            "90",
            "s",
            "-1s",
            "1.5h",
            "1 h",
            "1x",
            "1m1h",
            "1s1s",
            "99999999999999999999d",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("8GiB", 8 << 30),
            ("1.5GiB", 3 << 29),
            ("1.5 GiB", 3 << 29),
            ("1GiB512MiB", 3 << 29),
            ("100MB", 100_000_000),
            ("10B", 10),
            ("0.1KiB", 102),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for wrong in [
            "",
            "8",
            "GiB",
            "8gib",
            "-1GiB",
            "1e3MiB",
            ".5GiB",
            "1.2.3GiB",
            "512MiB1GiB",
            "99999999999TiB",
        ] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_printed_quantity_reads_back_the_same() {
        for text in ["0s", "15s", "30d", "1h30m", "1m30s250ms"] {
            assert_eq!(in_words(parse_duration(text).unwrap()), text);
        }
        for text in ["0B", "16MiB", "8GiB", "1GiB1B"] {
            assert_eq!(in_bytes(parse_size(text).unwrap()), text);
        }
        for bytes in [512, 4 << 30, 3 << 29] {
            assert_eq!(parse_size(&in_units(bytes)), Some(bytes));
        }
        assert_eq!(in_words(Duration::from_micros(3)), "0s");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1_u32, "run"), "1 run");
        assert_eq!(counted(0_u32, "more line"), "0 more lines");
    }

    #[test]
    fn sizes_are_shown_in_the_unit_that_fits() {
        assert_eq!(in_units(512), "512 B");
        assert_eq!(in_units(4 << 30), "4 GiB");
        assert_eq!(in_units(3 << 29), "1.5 GiB");
        assert_eq!(in_units((1 << 20) - 1), "1 MiB");
        assert_eq!(in_units(u64::MAX), "16777216 TiB");
    }
}

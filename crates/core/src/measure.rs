//! Durations, sizes and counts in words; durations and sizes as DAG files write them.

use std::time::Duration;

/// A duration in its units: `1h30m`, `90s`, `250ms`. Fractions of a millisecond are left out.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let whole = duration.as_secs();
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    let millis = duration.subsec_millis();
    let mut text = String::new();
    for (count, unit) in [
        (hours, "h"),
        (minutes, "m"),
        (seconds, "s"),
        (millis.into(), "ms"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// Bytes in the largest binary unit that they fill, with one decimal: `4 GiB`, `1.5 GiB`.
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
    fn durations_are_shown_as_files_write_them() {
        assert_eq!(in_words(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(in_words(Duration::from_millis(90_250)), "1m30s250ms");
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

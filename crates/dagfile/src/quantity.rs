//! Durations and sizes with their units: `90s`, `1h30m`, `8GiB`.

use std::time::Duration;

/// Reads a duration: numbers with `ms`, `s`, `m`, `h`, `d`, the larger units first.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last = None;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = &rest[..letters];
        rest = &rest[letters..];
        let place = UNITS.iter().position(|(name, _)| *name == unit)?;
        if last.is_some_and(|last| place <= last) {
            return None;
        }
        last = Some(place);
        total = total.checked_add(number.checked_mul(UNITS[place].1)?)?;
    }
    last.map(|_| Duration::from_millis(total))
}

/// Reads a size in bytes: a number with `B`, `KiB` … `TiB`, or `kB` … `TB`.
pub(crate) fn size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 10] = [
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    let end = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = (text[..end].trim(), &text[end..]);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value: f64 = number.parse().ok().filter(|_| is_number)?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes are written with a few digits; the result is checked against bounds"
    )]
    let bytes = (value * *factor as f64) as u64;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        for wrong in [
            "",
            "90",
            "s",
            "1m1h",
            "1s1s",
            "-1s",
            "1.5h",
            "1 h",
            "99999999999999999999d",
        ] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("8GiB"), Some(8 << 30));
        assert_eq!(size("1.5GiB"), Some(3 << 29));
        assert_eq!(size("100MB"), Some(100_000_000));
        for wrong in ["", "8", "GiB", "8gib", "-1GiB", "1e3MiB"] {
            assert_eq!(size(wrong), None, "{wrong:?}");
        }
    }
}

//! Moments, durations and numbers in words.

use std::time::Duration;

use trainyard_api::Timestamp;

/// The time between two moments; zero if the clocks disagree.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

/// A duration: `0.4s`, `12s`, `3m 05s`, `2h 07m`, `3d 04h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A metric's value with at most six digits after the point.
pub fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    // Very small numbers would lose all their digits, and very large ones fill the line.
    if value != 0.0 && (value.abs() < 1e-4 || value.abs() >= 1e15) {
        return format!("{value:e}");
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_the_most() {
        let shown = |seconds| duration(Duration::from_secs_f64(seconds));
        assert_eq!(shown(0.0), "0.0s");
        assert_eq!(shown(0.44), "0.4s");
        assert_eq!(shown(59.9), "59s");
        assert_eq!(shown(60.0), "1m 00s");
        assert_eq!(shown(7_265.0), "2h 01m");
        assert_eq!(shown(200_000.0), "2d 07h");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(0.9), "0.9");
        assert_eq!(number(569.0), "569");
        assert_eq!(number(0.123_456_789), "0.123457");
        assert_eq!(number(0.000_012), "1.2e-5");
    }

    #[test]
    fn a_clock_that_is_behind_gives_no_negative_time() {
        let early: Timestamp = "2026-11-23T15:00:00Z".parse().unwrap();
        let late: Timestamp = "2026-11-23T15:00:01Z".parse().unwrap();
        assert_eq!(between(late, early), Duration::ZERO);
    }
}

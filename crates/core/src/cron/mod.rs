//! Cron expressions: crontab(5) with five fields, names and `@daily` and the like.
//!
//! Day-of-month and day-of-week are OR-ed when both are given, as crontab(5) says. The rule for
//! changes of the clock is ours and holds in every time zone: a fixed time that a change skips fires
//! at the first valid minute after it, one that is repeated fires once (on the first pass), and
//! wildcard minutes and hours fire whenever the clock shows them, so in both passes.
//! A time is fixed if neither its minutes nor its hours hold a `*`: `30 2`, `0 2,14` and `0 8-18/2`
//! are, `*/15 2` and `30 *` are not.
//!
//! Beyond crontab(5) the days take `L` (the last), `15W` (the weekday nearest to the 15th), `5#2`
//! (the second Friday) and `5L` (the last Friday).

mod ticks;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use thiserror::Error;

use self::ticks::Civil;
use crate::Timestamp;

/// The longest cron expression, in bytes.
pub const LONGEST: usize = 128;

const NICKNAMES: [(&str, &str); 8] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
    ("@every_minute", "* * * * *"),
];

const FIELDS: [&str; 5] = ["minute", "hour", "day of month", "month", "day of week"];

/// Why a text is not a cron expression that ever ticks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct CronFault {
    /// What is wrong, as a sentence without a final stop.
    pub message: String,
    /// The part at fault, in bytes of the text.
    pub range: Range<usize>,
}

/// A checked cron expression.
#[derive(Clone)]
pub struct Cron {
    source: String,
    /// Parsed once and never changed; schedules are copied with the DAG that they are of.
    parsed: Arc<Parsed>,
}

struct Parsed {
    pattern: croner::Cron,
    civil: Civil,
}

impl Cron {
    /// Checks a cron expression. One that can never tick (`0 0 30 2 *`) is refused.
    ///
    /// # Errors
    /// What is wrong and which of the fields is at fault.
    pub fn parse(text: &str) -> Result<Self, CronFault> {
        let whole = 0..text.len();
        let fault = |message: String, range| Err(CronFault { message, range });
        if text.len() > LONGEST {
            return fault(
                format!("a cron expression has at most {LONGEST} bytes"),
                whole,
            );
        }
        let trimmed = text.trim();
        let expression = if trimmed.starts_with('@') {
            match NICKNAMES.iter().find(|(name, _)| *name == trimmed) {
                Some((_, expression)) => *expression,
                None => {
                    let names: Vec<&str> = NICKNAMES.iter().map(|(name, _)| *name).collect();
                    return fault(
                        format!("`{trimmed}` is not known; there is {}", names.join(", ")),
                        whole,
                    );
                }
            }
        } else {
            trimmed
        };
        let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return fault(
                format!(
                    "a cron expression has five fields (minute, hour, day of month, month, day of week), this one has {}",
                    fields.len()
                ),
                whole,
            );
        }
        match parser().parse(expression) {
            Ok(pattern) => {
                let civil = Civil::new(pattern.pattern.clone());
                let cron = Self {
                    source: trimmed.to_owned(),
                    parsed: Arc::new(Parsed { pattern, civil }),
                };
                // 2024 is a leap year: what does not tick from then on never will.
                let from = Timestamp::from_timestamp(1_704_067_200, 0).unwrap_or_default();
                if cron.next_after(from, Tz::UTC).is_none() {
                    return fault("this never happens: no such day exists".to_owned(), whole);
                }
                Ok(cron)
            }
            Err(_) => {
                let (message, range) = field_at_fault(text, &fields)
                    .unwrap_or_else(|| ("this is not a cron expression".to_owned(), whole));
                fault(message, range)
            }
        }
    }

    /// The expression as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The first tick after `moment` by the clock of `timezone`; `None` if there is none any more.
    #[must_use]
    pub fn next_after(&self, moment: Timestamp, timezone: Tz) -> Option<Timestamp> {
        self.parsed.civil.next_after(moment, timezone)
    }

    /// The expression in English.
    #[must_use]
    pub fn describe(&self) -> String {
        self.parsed.pattern.describe()
    }
}

fn parser() -> CronParser {
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
}

/// The parser's errors have no position: the field that still fails alone is the culprit.
fn field_at_fault(text: &str, fields: &[&str]) -> Option<(String, Range<usize>)> {
    fields.iter().enumerate().find_map(|(at, field)| {
        let mut alone = ["*"; 5];
        alone[at] = field;
        parser().parse(&alone.join(" ")).err().map(|error| {
            let start = field.as_ptr() as usize - text.as_ptr() as usize;
            // Nicknames are not part of the text, but they have no faults either.
            let range = start..start + field.len();
            let detail = error.to_string();
            let detail = detail
                .rsplit(": ")
                .next()
                .unwrap_or(&detail)
                .trim_end_matches('.');
            (
                format!(
                    "`{field}` is not a valid {}: {}",
                    FIELDS[at],
                    detail.to_lowercase()
                ),
                range,
            )
        })
    })
}

impl FromStr for Cron {
    type Err = CronFault;

    fn from_str(text: &str) -> Result<Self, CronFault> {
        Self::parse(text)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.source)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.source)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Cron {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[track_caller]
    fn next(cron: &str, timezone: Tz, after: &str, expected: &str) {
        let cron = Cron::parse(cron).unwrap();
        assert_eq!(cron.next_after(at(after), timezone), Some(at(expected)));
    }

    #[test]
    fn day_of_month_or_day_of_week() {
        // 2026-11-23 is a Monday; the 1st comes after the 30th, a Monday too.
        next(
            "0 0 1,15 * MON",
            Tz::UTC,
            "2026-11-23T00:00:00Z",
            "2026-11-30T00:00:00Z",
        );
        next(
            "0 0 1,15 * MON",
            Tz::UTC,
            "2026-11-30T00:00:00Z",
            "2026-12-01T00:00:00Z",
        );
    }

    #[test]
    fn days_may_be_counted_within_the_month() {
        let from = "2026-11-23T12:00:00Z";
        next("0 3 L * *", Tz::UTC, from, "2026-11-30T03:00:00Z");
        next("0 3 * * 5L", Tz::UTC, from, "2026-11-27T03:00:00Z");
        next("0 3 * * 5#2", Tz::UTC, from, "2026-12-11T03:00:00Z");
        next("0 3 6W * *", Tz::UTC, from, "2026-12-07T03:00:00Z");
    }

    #[test]
    fn a_skipped_fixed_time_fires_at_the_first_minute_after() {
        next(
            "30 2 * * *",
            Tz::America__New_York,
            "2026-03-08T05:00:00Z",
            "2026-03-08T07:00:00Z",
        );
    }

    #[test]
    fn a_repeated_fixed_time_fires_once() {
        next(
            "30 1 * * *",
            Tz::America__New_York,
            "2026-11-01T04:00:00Z",
            "2026-11-01T05:30:00Z",
        );
        next(
            "30 1 * * *",
            Tz::America__New_York,
            "2026-11-01T05:30:00Z",
            "2026-11-02T06:30:00Z",
        );
    }

    #[test]
    fn several_fixed_times_a_day_follow_the_same_rule() {
        let new_york = Tz::America__New_York;
        next(
            "0 2,14 * * *",
            new_york,
            "2026-03-08T05:00:00Z",
            "2026-03-08T07:00:00Z",
        );
        next(
            "0 2,14 * * *",
            new_york,
            "2026-03-08T07:00:00Z",
            "2026-03-08T18:00:00Z",
        );
        next(
            "0,30 1 * * *",
            new_york,
            "2026-11-01T05:30:00Z",
            "2026-11-02T06:00:00Z",
        );
        next(
            "0 0-3 * * *",
            new_york,
            "2026-11-01T05:00:00Z",
            "2026-11-01T07:00:00Z",
        );
    }

    #[test]
    fn skipped_wildcard_minutes_are_not_made_up_for() {
        next(
            "*/30 2 * * *",
            Tz::America__New_York,
            "2026-03-08T05:00:00Z",
            "2026-03-09T06:00:00Z",
        );
    }

    #[test]
    fn fractions_of_a_minute_do_not_matter() {
        next(
            "0 * * * *",
            Tz::UTC,
            "2026-11-23T00:59:59.999999999Z",
            "2026-11-23T01:00:00Z",
        );
        next(
            "0 * * * *",
            Tz::UTC,
            "2026-11-23T01:00:00.000000001Z",
            "2026-11-23T02:00:00Z",
        );
    }

    #[test]
    fn the_end_of_time_has_no_tick_after_it() {
        let cron = Cron::parse("* * * * *").unwrap();
        assert_eq!(
            cron.next_after(Timestamp::MAX_UTC, Tz::Europe__Berlin),
            None
        );
        let leap = Cron::parse("0 0 29 2 *").unwrap();
        assert_eq!(
            leap.next_after(at("2096-03-01T00:00:00Z"), Tz::UTC),
            Some(at("2104-02-29T00:00:00Z"))
        );
    }

    #[test]
    fn wildcard_minutes_fire_in_both_passes() {
        next(
            "*/30 * * * *",
            Tz::America__New_York,
            "2026-11-01T05:30:00Z",
            "2026-11-01T06:00:00Z",
        );
        next(
            "*/30 * * * *",
            Tz::America__New_York,
            "2026-11-01T06:00:00Z",
            "2026-11-01T06:30:00Z",
        );
    }

    #[track_caller]
    fn fault(text: &str) -> (String, &str) {
        let fault = Cron::parse(text).unwrap_err();
        (fault.message.clone(), &text[fault.range])
    }

    #[test]
    fn faults_name_the_field() {
        let (message, part) = fault("0 25 * * *");
        assert!(message.contains("hour"), "{message}");
        assert_eq!(part, "25");
        assert_eq!(
            fault("0 0 30 2 *").0,
            "this never happens: no such day exists"
        );
        assert!(fault("0 0 0 * * *").0.contains("has 6"));
        assert!(fault("@often").0.contains("@daily"));
        assert!(fault("TZ=UTC 0 0 * * *").0.contains("five fields"));
        assert!(fault(&"1,".repeat(200)).0.contains("128"));
    }

    /// Each of these took some other scheduler down, or kept it busy for ever.
    #[test]
    fn class_20_expressions_that_were_attacks_elsewhere_are_refused() {
        let many_fields = "* ".repeat(60);
        let many_values = "1,".repeat(60);
        for text in [
            "0 0 30 2 *",
            "0 0 31 2,4,6,9,11 *",
            "*/0 * * * *",
            "0-59/0 * * * *",
            "*/99999999999999999999 * * * *",
            "-1 * * * *",
            "99999999999 * * * *",
            "59-0 * * * *",
            "TZ=",
            "TZ=UTC",
            "CRON_TZ=../../etc/passwd 0 0 * * *",
            "${jndi:ldap://x} 0 0 * *",
            "@every 1ns",
            "@",
            "",
            "\0 0 0 * *",
            &many_fields,
            &many_values,
        ] {
            assert!(Cron::parse(text).is_err(), "{text:?} is taken");
        }
    }

    #[test]
    fn nicknames_are_their_expressions() {
        next(
            "@monthly",
            Tz::UTC,
            "2026-11-23T00:00:00Z",
            "2026-12-01T00:00:00Z",
        );
        next(
            "@midnight",
            Tz::UTC,
            "2026-11-23T00:00:00Z",
            "2026-11-24T00:00:00Z",
        );
    }
}

//! Cron expressions: crontab(5) with five fields, names and `@daily` and the like.
//!
//! Day-of-month and day-of-week are OR-ed when both are given and neither begins with `*`, else AND-ed, as
//! crontab(5) says: `0 3 */2 * 1` is 03:00 on odd days that are Mondays. The rule for
//! changes of the clock is ours and holds in every time zone: a fixed time that a change skips fires
//! at the first valid minute after it, one that is repeated fires once (on the first pass), and
//! wildcard minutes and hours fire whenever the clock shows them, so in both passes.
//! A time is fixed if neither its minutes nor its hours hold a `*`: `30 2`, `0 2,14` and `0 8-18/2`
//! are, `*/15 2` and `30 *` are not.
//!
//! Beyond crontab(5) the days take `L` (the last), `15W` (the weekday nearest to the 15th), `5#2`
//! (the second Friday) and `5L` (the last Friday).

mod fields;
mod ticks;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use thiserror::Error;

use self::ticks::Civil;
use crate::Timestamp;
use crate::dag::nearest;

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

/// A fault of a cron expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct CronFault {
    /// The fault, as a sentence without a final stop.
    pub message: String,
    /// The expression that was probably meant, or how to write it.
    pub help: Option<String>,
    /// The part at fault, in bytes of the text.
    pub range: Range<usize>,
}

/// A checked cron expression.
#[derive(Clone)]
pub struct Cron {
    source: String,
    /// Parsed once and never changed; schedules are copied with the DAG that they are of.
    civil: Arc<Civil>,
}

impl Cron {
    /// Checks a cron expression. One that can never tick (`0 0 30 2 *`) is refused, and so is one that ticks at
    /// other times than it seems to (`*/90 * * * *`).
    ///
    /// # Errors
    /// Every fault, each with its place in the text.
    pub fn parse(text: &str) -> Result<Self, Vec<CronFault>> {
        let whole = 0..text.len();
        let fault = |message: String, help: Option<String>| {
            let range = whole.clone();
            vec![CronFault {
                message,
                help,
                range,
            }]
        };
        if text.len() > LONGEST {
            let message = format!("a cron expression has at most {LONGEST} bytes");
            return Err(fault(message, None));
        }
        let trimmed = text.trim();
        if trimmed.starts_with('@') && expanded(trimmed).is_none() {
            let names = NICKNAMES.map(|(name, _)| name);
            let message = format!("`{trimmed}` is not known; there is {}", names.join(", "));
            let meant = every(trimmed).or_else(|| nearest(trimmed, names).map(ToOwned::to_owned));
            let help = meant.map(|meant| format!("did you mean `{meant}`?"));
            return Err(fault(message, help));
        }
        // Nicknames have no faults, so that no place within them is asked for.
        let expression = expanded(trimmed).unwrap_or(trimmed);
        let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
        let Ok(fields) = <[&str; 5]>::try_from(fields.as_slice()) else {
            let message = format!(
                "a cron expression has five fields (minute, hour, day of month, month, day of week), this one has {}",
                fields.len()
            );
            let help = match fields.as_slice() {
                ["0", rest @ ..] if rest.len() == 5 => Some(format!(
                    "cron has no seconds; did you mean `{}`?",
                    rest.join(" ")
                )),
                _ => None,
            };
            return Err(fault(message, help));
        };
        let read = if trimmed.starts_with('@') {
            fields.map(ToOwned::to_owned)
        } else {
            fields::read(text, &fields)?
        };
        let civil = civil(&read.each_ref().map(String::as_str))
            .ok_or_else(|| fault(format!("`{trimmed}` is not a valid cron expression"), None))?;
        let cron = Self {
            source: trimmed.to_owned(),
            civil: Arc::new(civil),
        };
        // 2024 is a leap year: what does not tick from then on never will.
        let from = Timestamp::from_timestamp(1_704_067_200, 0).unwrap_or_default();
        if cron.next_after(from, Tz::UTC).is_none() {
            let message = "this never happens: no such day exists".to_owned();
            return Err(fault(message, None));
        }
        Ok(cron)
    }

    /// Takes what was recorded, which [`Cron::parse`] took once: its rules may have become stricter.
    #[must_use]
    pub fn stored(text: &str) -> Option<Self> {
        let fields: Vec<&str> = expanded(text)
            .unwrap_or(text)
            .split_ascii_whitespace()
            .collect();
        let civil = civil(&<[&str; 5]>::try_from(fields.as_slice()).ok()?)?;
        Some(Self {
            source: text.to_owned(),
            civil: Arc::new(civil),
        })
    }

    /// The expression as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The first tick after `moment` by the clock of `timezone`; `None` if there is none any more.
    #[must_use]
    pub fn next_after(&self, moment: Timestamp, timezone: Tz) -> Option<Timestamp> {
        self.civil.next_after(moment, timezone)
    }
}

/// The expression that a nickname stands for.
fn expanded(text: &str) -> Option<&'static str> {
    let found = NICKNAMES.iter().find(|(name, _)| *name == text);
    found.map(|(_, expression)| *expression)
}

/// The expression for `@every 5m`, where there is one: cron counts from the full hour or from midnight.
fn every(text: &str) -> Option<String> {
    let interval = text.strip_prefix("@every")?.trim();
    let (count, unit) = interval.split_at_checked(interval.len().checked_sub(1)?)?;
    let count: u32 = count.parse().ok().filter(|count| *count > 0)?;
    match (unit, count) {
        ("m", 1) => Some("* * * * *".to_owned()),
        ("m", 60) | ("h", 1) => Some("0 * * * *".to_owned()),
        ("h", 24) | ("d", 1) => Some("0 0 * * *".to_owned()),
        ("m", 2..60) if 60 % count == 0 => Some(format!("*/{count} * * * *")),
        ("h", 2..24) if 24 % count == 0 => Some(format!("0 */{count} * * *")),
        _ => None,
    }
}

fn civil([minute, hour, day, month, weekday]: &[&str; 5]) -> Option<Civil> {
    // croner counts a field as not given only where it is `*` and nothing else; its `+` means both days.
    let both = if day.starts_with('*') || weekday.starts_with('*') {
        "+"
    } else {
        ""
    };
    let expression = format!("{minute} {hour} {day} {month} {both}{weekday}");
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    Some(Civil::new(parser.parse(&expression).ok()?.pattern))
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
        let fault = Cron::parse(text).unwrap_err().remove(0);
        (fault.message.clone(), &text[fault.range])
    }

    #[test]
    fn a_day_field_that_begins_with_a_star_is_met_together_with_the_other() {
        // Odd days that are Mondays: the 7th of December 2026 is the first after the 23rd of November.
        next(
            "0 3 */2 * 1",
            Tz::UTC,
            "2026-11-23T03:00:00Z",
            "2026-12-07T03:00:00Z",
        );
        // The 15th, if it is a Sunday, Wednesday or Saturday.
        next(
            "0 3 15 * */3",
            Tz::UTC,
            "2026-11-23T03:00:00Z",
            "2027-05-15T03:00:00Z",
        );
        next(
            "0 3 * * 1",
            Tz::UTC,
            "2026-11-23T03:00:00Z",
            "2026-11-30T03:00:00Z",
        );
        // A star further on in the list does not count, as in crontab(5).
        next(
            "0 3 1,*/30 * 1",
            Tz::UTC,
            "2026-11-30T03:00:00Z",
            "2026-12-01T03:00:00Z",
        );
    }

    #[test]
    fn names_stand_for_their_numbers_in_any_case_and_sunday_ends_a_range() {
        for (named, plain) in [
            ("0 3 * * Sat-Sun", "0 3 * * 0,6"),
            ("0 3 * * fri-7", "0 3 * * 0,5,6"),
            ("0 3 1 jan,Dec *", "0 3 1 1,12 *"),
            ("0 3 * * MON#2", "0 3 * * 1#2"),
            ("0 3 * * SUNl", "0 3 * * 7L"),
            ("0 3 lw * *", "0 3 LW * *"),
        ] {
            let ticks = |expression: &str| {
                let cron = Cron::parse(expression).unwrap();
                let mut moment = Some(at("2026-01-01T00:00:00Z"));
                [(); 12].map(|()| {
                    moment = moment.and_then(|moment| cron.next_after(moment, Tz::UTC));
                    moment
                })
            };
            assert_eq!(ticks(named), ticks(plain), "{named}");
        }
    }

    #[test]
    fn what_would_run_at_other_times_than_it_says_is_refused_with_what_was_meant() {
        let faults = |text: &str| -> Vec<String> {
            let faults = Cron::parse(text).expect_err(text);
            faults
                .iter()
                .map(|fault| {
                    let help = fault.help.as_deref().unwrap_or("-");
                    format!(
                        "{:?}: {}; {help}",
                        &text[fault.range.clone()],
                        fault.message
                    )
                })
                .collect()
        };
        let all: Vec<String> = [
            "*/90 * * * *",
            "0 */48 * * *",
            "0 0 */45 * *",
            "0 0 1 */13 *",
            "0 0 * * */8",
            "0 9-17/12 * * *",
            "5/15 * * * *",
            "/15 * * * *",
            "0 0 1 MON *",
            "0 0 * * JAN",
            "0 MON * * *",
            "0 0 * * Monday",
            "0 0 1 Sept *",
            "0 0 * * MONTUE",
            "1,,5 0 * * *",
            "0 0 * * ,",
            "*,5 0 * * *",
            "0 22-6 * * *",
            "0 22-6/2 * * *",
            "0 0 * * FRI-MON",
            "0 0 * NOV-FEB *",
            "0 0 * * 7-3",
            "H 3 * * *",
            "0 3 ? * MON",
            "60 24 * * *",
            "0 0 0 13 8",
            "+5 0 * * *",
            "0 0 * * +1",
            "0 0 * * L",
            "0 0 * * 5#6",
            "0 L * * *",
            "0 0 30 2 MON",
            "0 0 31 2,4,6 *",
            "0 0 3 * * *",
            "@Dayly",
        ]
        .into_iter()
        .flat_map(faults)
        .collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn a_step_may_be_as_wide_as_its_field() {
        for text in [
            "*/60 * * * *",
            "0 */24 * * *",
            "0 0 */31 * *",
            "0 0 1 */12 *",
            "0 0 * * */7",
        ] {
            assert!(Cron::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn an_expression_that_was_taken_once_can_still_be_read() {
        assert!(Cron::parse("*/90 * * * *").is_err());
        assert!(Cron::stored("*/90 * * * *").is_some());
        assert!(Cron::stored("@daily").is_some());
        assert!(Cron::stored("daily").is_none());
    }

    #[test]
    fn an_interval_of_other_schedulers_gets_its_expression_where_there_is_one() {
        for (text, meant) in [
            ("@every 1m", Some("* * * * *")),
            ("@every 5m", Some("*/5 * * * *")),
            ("@every 6h", Some("0 */6 * * *")),
            ("@every 24h", Some("0 0 * * *")),
            ("@every 7m", None),
            ("@every 1h30m", None),
            ("@every 0m", None),
        ] {
            let help = Cron::parse(text).unwrap_err()[0].help.clone();
            let expected = meant.map(|meant| format!("did you mean `{meant}`?"));
            assert!(meant.is_none() || help == expected, "{text}: {help:?}");
            assert!(
                meant.is_some() || !help.unwrap_or_default().contains("*/"),
                "{text}"
            );
        }
    }

    #[test]
    fn faults_name_the_field() {
        let (message, part) = fault("0 25 * * *");
        assert!(message.contains("hour"), "{message}");
        assert_eq!(part, "25");
        assert_eq!(
            fault("0 0 30 2 *").0,
            "this never happens: FEB has no day 30"
        );
        assert_eq!(
            fault("0 3 30 2 mon").0,
            "FEB has no day 30, so only the day of week would count"
        );
        assert!(fault("0 0 0 * * *").0.contains("has 6"));
        assert!(fault("@often").0.contains("@daily"));
        assert!(fault("TZ=UTC 0 0 * * *").0.contains("five fields"));
        assert!(fault(&"1,".repeat(200)).0.contains("128"));
    }

    /// Each of these took some other scheduler down, or kept it busy for ever.
    #[test]
    fn class_20_a_day_that_comes_once_in_28_years_is_found_each_time() {
        let cron = Cron::parse("7 0 29 2 */7").unwrap();
        let mut tick = "2026-11-29T00:00:00Z".parse().unwrap();
        let mut ticks = Vec::new();
        for _ in 0..5 {
            tick = cron.next_after(tick, Tz::UTC).unwrap();
            ticks.push(tick.format("%F %R %a").to_string());
        }
        assert_eq!(
            ticks,
            [
                "2032-02-29 00:07 Sun",
                "2060-02-29 00:07 Sun",
                "2088-02-29 00:07 Sun",
                // 2100 has no such day.
                "2128-02-29 00:07 Sun",
                "2156-02-29 00:07 Sun",
            ]
        );
    }

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

//! The rule for changes of the clock, against an oracle that knows nothing of how ticks are searched.
//!
//! The oracle walks all minutes of the calendar, asks the time zone when each is, and applies the
//! rule as it is written: a fixed time that is skipped fires at the first valid minute after, one
//! that is repeated fires once, wildcards fire whenever the clock shows them.

use std::collections::BTreeSet;

use chrono::{Datelike, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use proptest::prelude::*;
use trainyard_core::Timestamp;
use trainyard_core::cron::Cron;

use crate::generate::draft::at;
use crate::world::cases;

const ZONES: [Tz; 5] = [
    Tz::America__New_York,
    Tz::Europe__Berlin,
    Tz::Australia__Lord_Howe,
    Tz::America__Santiago,
    Tz::Africa__Casablanca,
];

/// The oracle's own reading of an expression: `*`, steps, ranges and lists of numbers.
struct Read {
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    days: BTreeSet<u32>,
    months: BTreeSet<u32>,
    weekdays: BTreeSet<u32>,
    either_day: bool,
    fixed: bool,
}

fn read(expression: &str) -> Read {
    let fields: Vec<&str> = expression.split(' ').collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        panic!("{expression} has not five fields");
    };
    Read {
        minutes: numbers(minute, 0, 59),
        hours: numbers(hour, 0, 23),
        days: numbers(day, 1, 31),
        months: numbers(month, 1, 12),
        weekdays: numbers(weekday, 0, 6),
        either_day: day != "*" && weekday != "*",
        fixed: !minute.contains('*') && !hour.contains('*'),
    }
}

fn numbers(field: &str, least: u32, most: u32) -> BTreeSet<u32> {
    let number = |text: &str| text.parse::<u32>().expect("a number");
    field
        .split(',')
        .flat_map(|part| {
            let (range, step) = part.split_once('/').unwrap_or((part, "1"));
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (number(first), number(last)),
                None if range == "*" => (least, most),
                None => (number(range), number(range)),
            };
            (first..=last).step_by(number(step) as usize)
        })
        .collect()
}

impl Read {
    fn on_day(&self, day: NaiveDate) -> bool {
        let of_month = self.days.contains(&day.day());
        let of_week = self
            .weekdays
            .contains(&day.weekday().num_days_from_sunday());
        let matches = if self.either_day {
            of_month || of_week
        } else {
            of_month && of_week
        };
        matches && self.months.contains(&day.month())
    }

    /// All ticks of a stretch of time, by the calendar.
    fn ticks(&self, timezone: Tz, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
        let day = TimeDelta::days(1);
        let mut date = (from - day * 2).date_naive();
        let mut ticks = BTreeSet::new();
        while date <= (to + day * 2).date_naive() {
            if self.on_day(date) {
                for hour in &self.hours {
                    for minute in &self.minutes {
                        let civil = date.and_hms_opt(*hour, *minute, 0).expect("a time");
                        ticks.extend(self.moments(timezone, civil));
                    }
                }
            }
            date += day;
        }
        ticks
            .into_iter()
            .filter(|tick| from < *tick && *tick <= to)
            .collect()
    }

    fn moments(&self, timezone: Tz, civil: NaiveDateTime) -> Vec<Timestamp> {
        match (timezone.from_local_datetime(&civil), self.fixed) {
            (LocalResult::Single(moment), _) => vec![moment.to_utc()],
            (LocalResult::Ambiguous(first, _), true) => vec![first.to_utc()],
            (LocalResult::Ambiguous(first, second), false) => {
                vec![first.to_utc(), second.to_utc()]
            }
            (LocalResult::None, false) => vec![],
            (LocalResult::None, true) => {
                let minutes = (1..).map(|minute| civil + TimeDelta::minutes(minute));
                let valid = minutes
                    .map(|civil| timezone.from_local_datetime(&civil).earliest())
                    .find_map(|moment| moment);
                valid.map(|moment| moment.to_utc()).into_iter().collect()
            }
        }
    }
}

fn found(expression: &str, timezone: Tz, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let cron = Cron::parse(expression).expect("a cron expression");
    let mut ticks = Vec::new();
    let mut moment = from;
    while let Some(tick) = cron.next_after(moment, timezone).filter(|tick| *tick <= to) {
        assert!(
            tick > moment,
            "{expression} went back from {moment} to {tick}"
        );
        ticks.push(tick);
        moment = tick;
    }
    ticks
}

#[track_caller]
fn agree(expression: &str, timezone: Tz, from: Timestamp, to: Timestamp) {
    let expected = read(expression).ticks(timezone, from, to);
    let found = found(expression, timezone, from, to);
    let differs = expected
        .iter()
        .zip(&found)
        .find(|(one, other)| one != other);
    assert!(
        expected == found,
        "{expression} in {timezone}: {} expected, {} found, first difference {differs:?}",
        expected.len(),
        found.len()
    );
}

/// The years that the rule is tested in: those of the fault programme.
const YEARS: [&str; 2] = ["2020-01-01T00:00:00Z", "2038-01-01T00:00:00Z"];

/// The hours of those years in which the clock of a time zone is changed.
fn changes(timezone: Tz) -> Vec<Timestamp> {
    let changed = |from: Timestamp, to: Timestamp| {
        let offset = |at: Timestamp| at.with_timezone(&timezone).naive_local() - at.naive_utc();
        offset(from) != offset(to)
    };
    let (day, hour) = (TimeDelta::days(1), TimeDelta::hours(1));
    let [first, last] = YEARS.map(at);
    std::iter::successors(Some(first), |at| Some(*at + day))
        .take_while(|from| *from < last)
        .filter(|from| changed(*from, *from + day))
        .flat_map(|from| (0..24).map(move |hours| from + hour * hours))
        .filter(|from| changed(*from, *from + hour))
        .collect()
}

#[test]
fn daily_and_rarer_times_follow_the_rule_from_2020_to_2037() {
    let [from, to] = YEARS.map(at);
    for timezone in ZONES {
        for expression in [
            "30 2 * * *",
            "0 2 * * *",
            "0 0 * * *",
            "30 0 * * 0",
            "15,45 1,2,3 * 3,4,9,10,11 *",
            "0 3 1 * *",
            "59 23 29 2 *",
            "10 2 1-7 * 6",
        ] {
            agree(expression, timezone, from, to);
        }
    }
}

#[test]
fn frequent_times_follow_the_rule_around_every_change_from_2020_to_2037() {
    for timezone in ZONES {
        let changes = changes(timezone);
        assert!(
            changes.len() >= 34,
            "{timezone} changes its clock twice a year"
        );
        for change in changes {
            let (from, to) = (change - TimeDelta::days(2), change + TimeDelta::days(2));
            for expression in [
                "* * * * *",
                "*/15 * * * *",
                "0 * * * *",
                "45 */2 * * *",
                "*/20 2 * * *",
                "*/7 0,1,2,3 * * *",
                "0,30 0-3 * * *",
                "20-50/10 0-23 * * *",
            ] {
                agree(expression, timezone, from, to);
            }
        }
    }
}

/// Not only around changes: a tick that is lost, or reported twice, far from any. In all years where
/// `CRON_WHOLE_YEARS` is set, else in one, another for each zone.
#[test]
fn frequent_times_follow_the_rule_through_whole_years() {
    let all = std::env::var_os("CRON_WHOLE_YEARS").is_some();
    for (place, timezone) in (0_i32..).zip(ZONES) {
        let years = if all {
            2020..=2037
        } else {
            2024 + place..=2024 + place
        };
        for year in years {
            let [from, to] = [year, year + 1].map(|year| at(&format!("{year}-01-01T00:00:00Z")));
            for expression in ["0 * * * *", "*/15 * * * *"] {
                agree(expression, timezone, from, to);
            }
        }
    }
}

fn field(most: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("*".to_owned()),
        2 => (2_u32..=20).prop_map(|step| format!("*/{step}")),
        4 => (0..=most).prop_map(|number| number.to_string()),
        2 => (0..=most, 0..=most).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        2 => prop::collection::btree_set(0..=most, 1..5)
            .prop_map(|set| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
    ]
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn any_time_in_any_zone_follows_the_rule_around_changes(
        minute in field(59),
        hour in prop_oneof![field(3), field(23)],
        timezone in prop::sample::select(chrono_tz::TZ_VARIANTS.to_vec()),
        change in any::<prop::sample::Index>(),
        before in 0_i64..4_000,
    ) {
        let changes = changes(timezone);
        let quiet = vec![at("2026-03-29T00:00:00Z")];
        let change = *change.get(if changes.is_empty() { &quiet } else { &changes });
        let from = change - TimeDelta::minutes(before) - TimeDelta::seconds(before % 60);
        agree(&format!("{minute} {hour} * * *"), timezone, from, change + TimeDelta::days(2));
    }
}

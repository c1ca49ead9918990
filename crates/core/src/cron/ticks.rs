//! From a pattern of civil times to moments: the search for the next tick, and the rule for changes
//! of the clock.
//!
//! The parser's own search knows only single times as fixed: with `0 2,14 * * *` it loses the run at
//! 2 o'clock when the clock skips it, and repeats it when the clock goes back. So the search is ours.
//! It goes from one stretch of unchanged clock to the next, and within one by the calendar.

use std::sync::OnceLock;

use chrono::{
    Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone,
    Timelike,
};
use chrono_tz::Tz;
use croner::{CronPattern, Weekday};

use crate::Timestamp;

/// How far ahead the search for a day goes. Leap days on a given weekday are up to 40 years apart.
const YEARS_AHEAD: i32 = 100;

/// How far apart two readings of the clock may be for a change between them to show as a difference: no time zone
/// changes its clock there and back within days. More than any one change.
const NEAR: TimeDelta = TimeDelta::hours(26);

const MINUTE: TimeDelta = TimeDelta::minutes(1);

/// The civil times of a cron expression.
#[derive(Clone)]
pub(super) struct Civil {
    pattern: CronPattern,
    /// Times of the day, in minutes, in order.
    minutes: Vec<u32>,
    /// Neither minutes nor hours are wildcards.
    fixed: bool,
    /// The [kinds](kind_of_year) of years that no day matches, a bit for each; known once a search reaches a new year.
    empty_years: OnceLock<u16>,
}

impl Civil {
    pub(super) fn new(pattern: CronPattern) -> Self {
        let (hours, minutes) = (pattern.hours.values(), pattern.minutes.values());
        let minutes = hours
            .iter()
            .flat_map(|hour| minutes.iter().map(move |minute| (hour, minute)))
            .map(|(hour, minute)| u32::from(*hour) * 60 + u32::from(*minute))
            .collect();
        let fixed = !pattern.minutes.from_wildcard && !pattern.hours.from_wildcard;
        Self {
            pattern,
            minutes,
            fixed,
            empty_years: OnceLock::new(),
        }
    }

    /// The first tick after `moment`; `None` if there is none, or none that a `Timestamp` can hold.
    pub(super) fn next_after(&self, moment: Timestamp, timezone: Tz) -> Option<Timestamp> {
        let into_minute = TimeDelta::seconds(i64::from(moment.second()))
            + TimeDelta::nanoseconds(i64::from(moment.nanosecond()));
        let mut at = moment
            .checked_sub_signed(into_minute)?
            .checked_add_signed(MINUTE)?;
        loop {
            if self.makes_up_at(at, timezone)? {
                return Some(at);
            }
            let civil = self.next_civil(local(at, timezone)?)?;
            let here = offset(at, timezone);
            let guess = Timestamp::from_naive_utc_and_offset(civil, chrono::Utc)
                .checked_sub_signed(here)?;
            if guess - at > NEAR * 2 {
                // No civil time matches before, whatever the clock does in between.
                at = guess - NEAR;
            } else if offset(guess, timezone) != here {
                at = first_change(at, guess, timezone);
            } else if self.fixed && is_repeated(guess, timezone)? {
                at = guess.checked_add_signed(MINUTE)?;
            } else {
                return Some(guess);
            }
        }
    }

    /// Whether this is the first minute after a gap that skipped a fixed time.
    fn makes_up_at(&self, at: Timestamp, timezone: Tz) -> Option<bool> {
        let skipped = local(at - MINUTE, timezone)? + MINUTE;
        let civil = local(at, timezone)?;
        Some(
            self.fixed
                && skipped < civil
                && self.next_civil(skipped).is_some_and(|next| next < civil),
        )
    }

    fn matches_month(&self, day: NaiveDate) -> bool {
        self.pattern.month_match(day.month()).unwrap_or(false)
    }

    fn matches_day(&self, day: NaiveDate) -> bool {
        let weekday = Weekday::from_days_from_sunday(day.weekday().num_days_from_sunday());
        self.matches_month(day)
            && self
                .pattern
                .day_match(day.year(), day.month(), day.day(), weekday)
                .unwrap_or(false)
    }

    /// Whether no day matches in the year of this first day. The 29th of February is a Sunday once in 28 years: without
    /// this, each search for it would try a thousand days.
    fn is_empty_year(&self, first: NaiveDate) -> bool {
        // 28 years in a row of one century have all kinds.
        let empty = self.empty_years.get_or_init(|| {
            (2000..2028)
                .filter_map(|year| NaiveDate::from_yo_opt(year, 1))
                .filter(|first| !self.matches_in_year(*first))
                .fold(0, |kinds, first| kinds | kind_of_year(first))
        });
        empty & kind_of_year(first) != 0
    }

    fn matches_in_year(&self, first: NaiveDate) -> bool {
        let months = (0..12).filter_map(|month| first.checked_add_months(Months::new(month)));
        let mut days = months
            .filter(|month| self.matches_month(*month))
            .flat_map(|month| {
                month
                    .iter_days()
                    .take_while(move |day| day.month() == month.month())
            });
        days.any(|day| self.matches_day(day))
    }

    /// The first civil time that matches, at or after this one, whether the clock shows it or not.
    fn next_civil(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut day = from.date();
        let minute = from.hour() * 60 + from.minute();
        let mut place = self.minutes.partition_point(|other| *other < minute);
        let last_year = day.year().saturating_add(YEARS_AHEAD);
        while day.year() <= last_year {
            if day.ordinal() == 1 && self.is_empty_year(day) {
                (day, place) = (day.checked_add_months(Months::new(12))?, 0);
                continue;
            }
            if !self.matches_month(day) {
                let next_month = day.with_day(1)?.checked_add_months(Months::new(1))?;
                (day, place) = (next_month, 0);
                continue;
            }
            if let Some(minute) = self.minutes.get(place)
                && self.matches_day(day)
            {
                let time = NaiveTime::from_num_seconds_from_midnight_opt(minute * 60, 0)?;
                return Some(day.and_time(time));
            }
            (day, place) = (day.checked_add_days(Days::new(1))?, 0);
        }
        None
    }
}

/// The kind of a year, of its first day, as a bit: the weekday of that day and the length of February decide the whole
/// calendar.
fn kind_of_year(first: NaiveDate) -> u16 {
    let leap = if first.leap_year() { 7 } else { 0 };
    1 << (first.weekday().num_days_from_sunday() + leap)
}

fn offset(at: Timestamp, timezone: Tz) -> TimeDelta {
    let offset = timezone.offset_from_utc_datetime(&at.naive_utc()).fix();
    TimeDelta::seconds(i64::from(offset.local_minus_utc()))
}

fn local(at: Timestamp, timezone: Tz) -> Option<NaiveDateTime> {
    at.naive_utc().checked_add_signed(offset(at, timezone))
}

/// Whether the clock has shown the same before.
fn is_repeated(at: Timestamp, timezone: Tz) -> Option<bool> {
    let first = timezone
        .from_local_datetime(&local(at, timezone)?)
        .earliest();
    Some(first.is_some_and(|first| first < at))
}

/// The first minute of another offset than that of `from`, up to `to`, which has another one.
fn first_change(from: Timestamp, to: Timestamp, timezone: Tz) -> Timestamp {
    let before = offset(from, timezone);
    let (mut same, mut other) = (0, (to - from).num_minutes());
    while other - same > 1 {
        let middle = same.midpoint(other);
        if offset(from + TimeDelta::minutes(middle), timezone) == before {
            same = middle;
        } else {
            other = middle;
        }
    }
    from + TimeDelta::minutes(other)
}

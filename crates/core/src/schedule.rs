//! Which ticks of a schedule are due, what to do about those that were missed, and which ones come next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use chrono_tz::Tz;

use crate::Timestamp;
use crate::cron::Cron;

/// What to do about ticks that came while no daemon was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Missed {
    /// Nothing.
    None,
    /// One run, for the last of them.
    #[default]
    Last,
    /// A run for each, the oldest first, up to [`MISSED_AT_MOST`].
    All,
}

impl Missed {
    pub const ALL: [Self; 3] = [Self::None, Self::Last, Self::All];

    /// The word in DAG files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Last => "last",
            Self::All => "all",
        }
    }
}

/// A tick older than this was missed; a younger one is merely late.
pub const LATE_AT_MOST: Duration = Duration::from_secs(60);

/// The most missed ticks that `missed: all` makes up for: the newest of them.
pub const MISSED_AT_MOST: usize = 100;

/// How many ticks one call reads; the next call reads the rest.
const STEPS_AT_MOST: usize = 50_000;

/// The ticks of one schedule that are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The ticks to start runs for, oldest first.
    pub fire: Vec<Timestamp>,
    /// How many ticks pass without a run, by the rule for missed ones.
    pub passed_over: usize,
    /// The next tick to wait for; `None` if there is none. It is after `now`, unless there were too many ticks for
    /// one call: then ask again at once.
    pub next: Option<Timestamp>,
}

/// Decides about a schedule whose next tick was to be `next_tick`.
///
/// Asked twice with the same arguments it answers the same; asked again with its own `next` it never repeats a tick.
/// A clock that goes backwards fires nothing: a tick that is not due yet is waited for.
#[must_use]
pub fn due(cron: &Cron, timezone: Tz, missed: Missed, next_tick: Timestamp, now: Timestamp) -> Due {
    let mut ticks = Vec::new();
    let mut next = Some(next_tick);
    while let Some(tick) = next.filter(|tick| *tick <= now) {
        if ticks.len() == STEPS_AT_MOST {
            // Which ticks are the last ones is known only later: leave as many as may be made
            // up for to the next call.
            let passed_over = STEPS_AT_MOST - MISSED_AT_MOST;
            return Due {
                fire: Vec::new(),
                passed_over,
                next: Some(ticks[passed_over]),
            };
        }
        ticks.push(tick);
        next = cron.next_after(tick, timezone);
    }
    let late = chrono::Duration::from_std(LATE_AT_MOST).unwrap_or_default();
    let first_on_time = ticks.partition_point(|tick| *tick + late < now);
    let keep_missed = match missed {
        Missed::None => 0,
        Missed::Last => usize::from(first_on_time == ticks.len()),
        Missed::All => MISSED_AT_MOST,
    };
    let first_kept = first_on_time.saturating_sub(keep_missed);
    Due {
        fire: ticks.split_off(first_kept),
        passed_over: first_kept,
        next,
    }
}

/// The coming ticks of some schedules, the earliest first. Each costs one search, however many schedules there are.
#[derive(Debug)]
pub struct Upcoming {
    schedules: Vec<(Cron, Tz)>,
    /// The next tick of each schedule, and the schedule's place.
    next: BinaryHeap<Reverse<(Timestamp, usize)>>,
}

impl Upcoming {
    /// From the next tick of each schedule on; one without never ticks again.
    #[must_use]
    pub fn new(schedules: Vec<(Cron, Tz, Option<Timestamp>)>) -> Self {
        let next = schedules.iter().enumerate();
        let next = next.filter_map(|(place, (_, _, tick))| Some(Reverse(((*tick)?, place))));
        Self {
            next: next.collect(),
            schedules: schedules
                .into_iter()
                .map(|(cron, timezone, _)| (cron, timezone))
                .collect(),
        }
    }
}

impl Iterator for Upcoming {
    type Item = (Cron, Tz, Timestamp);

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((tick, place)) = self.next.pop()?;
        let (cron, timezone) = &self.schedules[place];
        let after = cron.next_after(tick, *timezone);
        self.next.extend(after.map(|after| Reverse((after, place))));
        Some((cron.clone(), *timezone, tick))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hourly(missed: Missed, now: &str) -> Due {
        let cron = Cron::parse("0 * * * *").unwrap();
        due(&cron, Tz::UTC, missed, at("2026-11-23T01:00:00Z"), at(now))
    }

    #[test]
    fn a_tick_on_time_fires_whatever_the_rule() {
        for missed in Missed::ALL {
            let due = hourly(missed, "2026-11-23T01:00:00Z");
            assert_eq!(due.fire, [at("2026-11-23T01:00:00Z")]);
            assert_eq!(due.next, Some(at("2026-11-23T02:00:00Z")));
        }
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let due = hourly(Missed::All, "2026-11-23T00:59:59Z");
        assert_eq!(
            due,
            Due {
                fire: vec![],
                passed_over: 0,
                next: Some(at("2026-11-23T01:00:00Z"))
            }
        );
    }

    #[test]
    fn missed_ticks_follow_the_rule() {
        let now = "2026-11-23T05:30:00Z";
        assert!(hourly(Missed::None, now).fire.is_empty());
        assert_eq!(hourly(Missed::None, now).passed_over, 5);
        assert_eq!(hourly(Missed::Last, now).fire, [at("2026-11-23T05:00:00Z")]);
        assert_eq!(hourly(Missed::All, now).fire.len(), 5);
    }

    #[test]
    fn last_needs_no_make_up_run_where_a_tick_is_on_time() {
        let due = hourly(Missed::Last, "2026-11-23T05:00:10Z");
        assert_eq!(due.fire, [at("2026-11-23T05:00:00Z")]);
    }

    #[test]
    fn a_very_long_absence_is_made_up_for_as_a_short_one_is() {
        let cron = Cron::parse("* * * * *").unwrap();
        let now = at("2026-11-23T01:00:30Z");
        for (missed, expected) in [(Missed::None, 1), (Missed::Last, 1), (Missed::All, 101)] {
            let mut next = at("2026-06-01T00:00:00Z");
            let (mut fired, mut passed_over) = (Vec::new(), 0);
            while next <= now {
                let due = due(&cron, Tz::UTC, missed, next, now);
                fired.extend(due.fire);
                passed_over += due.passed_over;
                next = due.next.unwrap();
            }
            assert_eq!(fired.len(), expected, "{missed:?}");
            assert_eq!(fired.last(), Some(&at("2026-11-23T01:00:00Z")));
            // 175 days and an hour, both ends included.
            assert_eq!(fired.len() + passed_over, 175 * 1440 + 61);
        }
    }

    #[test]
    fn all_is_bounded_and_keeps_the_newest() {
        let due = hourly(Missed::All, "2026-12-23T01:30:00Z");
        assert_eq!(due.fire.len(), MISSED_AT_MOST);
        assert_eq!(due.fire.last(), Some(&at("2026-12-23T01:00:00Z")));
    }

    #[test]
    fn upcoming_ticks_of_several_schedules_are_those_of_each_in_order() {
        let first = at("2026-11-23T01:00:00Z");
        let daily = Cron::parse("0 3 * * *").unwrap();
        let hourly = Cron::parse("0 * * * *").unwrap();
        let never = (hourly.clone(), Tz::UTC, None);
        let schedules = vec![
            (daily.clone(), Tz::UTC, daily.next_after(first, Tz::UTC)),
            never,
            (hourly, Tz::UTC, Some(first)),
        ];
        let ticks = Upcoming::new(schedules).take(4);
        let ticks: Vec<String> = ticks
            .map(|(cron, _, tick)| format!("{} {cron}", tick.format("%H")))
            .collect();
        assert_eq!(
            ticks,
            [
                "01 0 * * * *",
                "02 0 * * * *",
                "03 0 3 * * *",
                "03 0 * * * *"
            ]
        );
    }
}

//! A schedule's ticks, however irregularly the clock is read: none is lost, none repeated.

use std::time::Duration;

use chrono_tz::Tz;
use proptest::prelude::*;
use trainyard_core::Timestamp;
use trainyard_core::cron::Cron;
use trainyard_core::schedule::{LATE_AT_MOST, MISSED_AT_MOST, Missed, due};

use crate::generate::draft::at;
use crate::world::cases;

fn schedules() -> impl Strategy<Value = (Cron, Tz)> {
    let cron = prop::sample::select(vec![
        "* * * * *",
        "*/15 * * * *",
        "0 * * * *",
        "30 2 * * *",
        "0 2,14 * * *",
        "0 0 1 * *",
        "15 9-17 * * MON-FRI",
    ]);
    let timezone = prop::sample::select(vec![
        Tz::UTC,
        Tz::America__New_York,
        Tz::Europe__Berlin,
        Tz::Australia__Lord_Howe,
    ]);
    (cron, timezone)
        .prop_map(|(cron, timezone)| (Cron::parse(cron).expect("a cron expression"), timezone))
}

/// The readings of the clock: seconds since the reading before, sometimes backwards.
fn readings() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![
        6 => 0_i64..600,
        3 => 0_i64..20_000,
        1 => 0_i64..400_000,
        1 => -4_000_i64..0,
    ];
    prop::collection::vec(step, 1..40)
}

fn start() -> impl Strategy<Value = Timestamp> {
    // Around changes of the clock in spring and autumn.
    prop_oneof![
        Just(at("2026-03-07T00:00:00Z")),
        Just(at("2026-10-31T00:00:00Z")),
        Just(at("2026-06-10T00:00:00Z")),
    ]
}

fn ticks(cron: &Cron, timezone: Tz, first: Timestamp, last: Timestamp) -> Vec<Timestamp> {
    std::iter::successors(Some(first), |tick| cron.next_after(*tick, timezone))
        .take_while(|tick| *tick <= last)
        .collect()
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn every_tick_fires_once_or_is_passed_over_by_the_rule(
        (cron, timezone) in schedules(),
        missed in prop::sample::select(Missed::ALL.to_vec()),
        start in start(),
        readings in readings(),
    ) {
        let Some(first) = cron.next_after(start, timezone) else { return Ok(()) };
        let (mut next, mut now, mut latest) = (first, start, start);
        let mut fired = Vec::new();
        let mut passed_over = 0;
        for seconds in readings {
            now += chrono::Duration::seconds(seconds);
            let due = due(&cron, timezone, missed, next, now);
            if now < latest {
                // The clock went backwards: all ticks that were due have fired.
                prop_assert!(due.fire.is_empty());
            }
            latest = latest.max(now);
            let open = ticks(&cron, timezone, next, now);
            prop_assert_eq!(due.fire.len() + due.passed_over, open.len());
            prop_assert!(open.ends_with(&due.fire));
            let late = open.iter().filter(|tick| **tick + LATE_AT_MOST < now).count();
            let kept = match missed {
                Missed::None => 0,
                Missed::Last => usize::from(late > 0 && late == open.len()),
                Missed::All => late.min(MISSED_AT_MOST),
            };
            prop_assert_eq!(due.fire.len(), open.len() - late + kept);
            fired.extend(due.fire);
            passed_over += due.passed_over;
            next = due.next.expect("these tick for ever");
            prop_assert!(next > now);
        }
        prop_assert!(fired.is_sorted_by(|one, other| one < other), "repeated: {:?}", fired);
        prop_assert_eq!(fired.len() + passed_over, ticks(&cron, timezone, first, latest).len());
    }

    #[test]
    fn how_often_the_clock_is_read_makes_no_difference_where_all_are_made_up_for(
        (cron, timezone) in schedules(),
        start in start(),
        readings in prop::collection::vec(0_u64..5_000, 1..40),
    ) {
        let Some(first) = cron.next_after(start, timezone) else { return Ok(()) };
        let (mut next, mut now) = (first, start);
        let mut fired = Vec::new();
        for seconds in readings {
            now += Duration::from_secs(seconds);
            let due = due(&cron, timezone, Missed::All, next, now);
            fired.extend(due.fire);
            next = due.next.expect("these tick for ever");
        }
        prop_assert_eq!(fired, ticks(&cron, timezone, first, now));
    }
}

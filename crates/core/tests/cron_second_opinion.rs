//! Another crate's reading of the same expressions, in UTC, where both mean the same.
//!
//! It has six fields, always wants both day-of-month and day-of-week to match, and numbers Sunday 1; so both are
//! given only where one begins with `*`, and weekdays are given by name.

use std::str::FromStr;

use chrono_tz::Tz;
use proptest::prelude::*;
use trainyard_core::cron::Cron;

use crate::generate::draft::at;
use crate::world::cases;

fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
    let number = move || least..=most;
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => number().prop_map(|n| n.to_string()),
        2 => (2_u32..=12).prop_map(|step| format!("*/{step}")),
        2 => (number(), number()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (number(), number(), 1_u32..=7)
            .prop_map(|(a, b, step)| format!("{}-{}/{}", a.min(b), a.max(b), step.min(a.abs_diff(b) + 1))),
        2 => prop::collection::btree_set(number(), 1..5)
            .prop_map(|set| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
    ]
}

fn weekdays() -> impl Strategy<Value = String> {
    let names = vec!["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    prop::sample::subsequence(names, 1..=7).prop_map(|names| names.join(","))
}

fn expressions() -> impl Strategy<Value = String> {
    let days = prop_oneof![
        field(1, 28).prop_map(|day| (day, "*".to_owned())),
        weekdays().prop_map(|weekdays| ("*".to_owned(), weekdays)),
        (2_u32..=12, weekdays()).prop_map(|(step, weekdays)| (format!("*/{step}"), weekdays)),
        Just(("*".to_owned(), "*".to_owned())),
    ];
    (field(0, 59), field(0, 23), days, field(1, 12)).prop_map(
        |(minute, hour, (day, weekday), month)| format!("{minute} {hour} {day} {month} {weekday}"),
    )
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn both_agree_on_the_next_ticks(expression in expressions(), minutes in 0_i64..5_000_000) {
        let ours = Cron::parse(&expression).expect("a cron expression");
        let other = cron::Schedule::from_str(&format!("0 {expression}")).expect("a schedule");
        let from = at("2024-01-01T00:00:00Z") + chrono::Duration::minutes(minutes);
        let expected: Vec<_> = other.after(&from).take(12).collect();
        let mut found = Vec::new();
        let mut moment = from;
        for _ in 0..expected.len() {
            moment = ours.next_after(moment, Tz::UTC).expect("a tick");
            found.push(moment);
        }
        prop_assert_eq!(found, expected, "{}", expression);
    }
}

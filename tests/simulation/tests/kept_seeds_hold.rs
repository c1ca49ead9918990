//! Seeds that failed once, each with what it found.

use trainyard_simulation::{Settings, run};

use crate::kit;

/// One seed a line, and what it found.
const KEPT: &str = include_str!("../seeds.txt");

#[test]
fn seeds_that_failed_once_hold() {
    let settings = Settings::default();
    let lines = KEPT
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let (seed, found) = line.split_once(' ').expect("a seed and what it found");
        let seed = seed.parse().expect("a seed");
        let history = run(seed, settings);
        assert!(
            history.violations.is_empty(),
            "again: {found}\n{}",
            kit::report(seed, &history, settings)
        );
        count += 1;
    }
    assert!(count > 0, "no seeds are kept");
}

//! When to report something that fails again and again.
//!
//! A loop that tries each second would fill the log if it reported each failure, and would fail unnoticed if it
//! reported none. So a failure is reported once it has lasted, then once a minute while it goes on, and once when it
//! is over. The caller writes the report.

use std::time::{Duration, Instant};

/// The shortest time between two reports.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A failure that follows so long after the last try is a new one: what happened in between is not known. Longer than
/// the pause between two tries of any loop.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(180);

/// The pace of reports about one thing that may fail. It reads no clock: the time is an argument.
#[derive(Debug)]
pub struct ReportPace {
    patience: Duration,
    spell: Option<Spell>,
    reported_at: Option<Instant>,
}

/// A period of failure.
#[derive(Debug, Clone, Copy)]
struct Spell {
    since: Instant,
    failed_at: Instant,
    /// When it last began to succeed, if it does.
    well_since: Option<Instant>,
    /// Whether the failure was reported, and its end was not.
    is_reported: bool,
}

impl ReportPace {
    /// Reports a failure that has lasted for `patience`; with zero, the first failure.
    #[must_use]
    pub const fn new(patience: Duration) -> Self {
        Self {
            patience,
            spell: None,
            reported_at: None,
        }
    }

    /// Records a failure. Returns how long it has lasted, if it is to be reported now.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.failed_since(now, now)
    }

    /// Records a failure that began at `begun`: a call was not answered for so long.
    pub fn failed_since(&mut self, begun: Instant, now: Instant) -> Option<Duration> {
        let since = |then: Instant| now.saturating_duration_since(then);
        let until_begun = |then: Instant| begun.saturating_duration_since(then);
        let lasting = self.spell.filter(|spell| match spell.well_since {
            // A success for less than `patience` does not end the failure: a connection that is made and lost again
            // and again is not a working one.
            Some(well) => until_begun(well) < self.patience,
            None => until_begun(spell.failed_at) < FORGOTTEN_AFTER,
        });
        let spell = self.spell.insert(Spell {
            since: lasting.map_or(begun, |spell| spell.since),
            failed_at: now,
            well_since: None,
            is_reported: lasting.is_some_and(|spell| spell.is_reported),
        });
        let lasted = since(spell.since);
        let is_due =
            lasted >= self.patience && self.reported_at.is_none_or(|at| since(at) >= AGAIN_AFTER);
        is_due.then(|| {
            self.reported_at = Some(now);
            spell.is_reported = true;
            lasted
        })
    }

    /// Records a success. Returns how long the failure had lasted if it was
    /// reported: then its end is reported as well.
    pub fn succeeded(&mut self, now: Instant) -> Option<Duration> {
        let spell = self.spell.as_mut()?;
        spell.well_since.get_or_insert(now);
        std::mem::take(&mut spell.is_reported).then(|| now.saturating_duration_since(spell.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn it_is_reported_once_it_has_lasted_and_then_once_a_minute() {
        let (mut pace, begun) = (ReportPace::new(PATIENCE), Instant::now());
        let reported: Vec<u64> = (0..=140)
            .filter(|second| pace.failed(begun + seconds(*second)).is_some())
            .collect();
        assert_eq!(reported, [10, 70, 130]);
    }

    #[test]
    fn without_patience_the_first_failure_is_reported() {
        let mut pace = ReportPace::new(Duration::ZERO);
        assert_eq!(pace.failed(Instant::now()), Some(Duration::ZERO));
    }

    #[test]
    fn a_call_that_was_not_answered_for_long_is_reported_at_its_first_failure() {
        let (mut pace, begun) = (ReportPace::new(PATIENCE), Instant::now());
        let reported = pace.failed_since(begun, begun + seconds(12));
        assert_eq!(reported, Some(seconds(12)));
    }

    #[test]
    fn its_end_is_reported_once_and_only_where_the_failure_was() {
        let (mut pace, begun) = (ReportPace::new(PATIENCE), Instant::now());
        assert_eq!(pace.succeeded(begun), None);
        pace.failed(begun);
        assert_eq!(pace.succeeded(begun + seconds(1)), None);
        pace.failed(begun + seconds(20));
        pace.failed(begun + seconds(30));
        assert_eq!(pace.succeeded(begun + seconds(33)), Some(seconds(13)));
        assert_eq!(pace.succeeded(begun + seconds(34)), None);
    }

    #[test]
    fn what_goes_well_for_a_moment_only_has_not_ended() {
        let (mut pace, begun) = (ReportPace::new(PATIENCE), Instant::now());
        for second in (0..10).step_by(2) {
            assert_eq!(pace.failed(begun + seconds(second)), None);
            assert_eq!(pace.succeeded(begun + seconds(second + 1)), None);
        }
        assert_eq!(pace.failed(begun + PATIENCE), Some(PATIENCE));
    }

    #[test]
    fn two_failures_with_a_long_silence_between_them_are_two() {
        let (mut pace, begun) = (ReportPace::new(PATIENCE), Instant::now());
        assert_eq!(pace.failed(begun), None);
        assert_eq!(pace.failed(begun + FORGOTTEN_AFTER), None);
    }

    #[test]
    fn what_comes_and_goes_is_reported_once_a_minute_too() {
        let (mut pace, begun) = (ReportPace::new(Duration::ZERO), Instant::now());
        let (mut failures, mut ends) = (Vec::new(), Vec::new());
        for second in (0..120).step_by(2) {
            let failed = pace.failed(begun + seconds(second));
            failures.extend(failed.map(|_| second));
            let ended = pace.succeeded(begun + seconds(second + 1));
            ends.extend(ended.map(|_| second + 1));
        }
        assert_eq!((failures, ends), (vec![0, 60], vec![1, 61]));
    }
}

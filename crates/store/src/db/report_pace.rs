//! When to report something that fails again and again.
//!
//! A loop that tries each second would fill the log if it reported each failure, and fail unnoticed if it reported none.
//! So a failure is reported once it has lasted, then once a minute while it goes on, and once when it is over. The caller
//! decides what is said, and where.

use std::time::{Duration, Instant};

/// The shortest time between two complaints.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What fails after so long without a try fails anew: nobody knows what was in between. Longer than the pause
/// between two tries of any loop.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(180);

/// The reports about one thing that may fail. It reads no clock: the moment is an argument.
#[derive(Debug)]
pub struct ReportPace {
    patience: Duration,
    spell: Option<Spell>,
    told_at: Option<Instant>,
}

/// A time in which it failed.
#[derive(Debug, Clone, Copy)]
struct Spell {
    since: Instant,
    failed_at: Instant,
    /// Since when it goes well, if it does.
    well_since: Option<Instant>,
    /// Whether it was told, and not yet that it is over.
    is_told: bool,
}

impl ReportPace {
    /// Reports what has failed for `patience`; with none, the first failure.
    #[must_use]
    pub const fn new(patience: Duration) -> Self {
        Self {
            patience,
            spell: None,
            told_at: None,
        }
    }

    /// It failed. Returns for how long it has, if that is to be told now.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.failed_since(now, now)
    }

    /// It failed, and had gone wrong since `begun`: a call was not answered for so long.
    pub fn failed_since(&mut self, begun: Instant, now: Instant) -> Option<Duration> {
        let since = |then: Instant| now.saturating_duration_since(then);
        let until_begun = |then: Instant| begun.saturating_duration_since(then);
        let lasting = self.spell.filter(|spell| match spell.well_since {
            // What went well for less than the patience was no end of it: a connection that is had and lost at
            // once, again and again, is none.
            Some(well) => until_begun(well) < self.patience,
            None => until_begun(spell.failed_at) < FORGOTTEN_AFTER,
        });
        let spell = self.spell.insert(Spell {
            since: lasting.map_or(begun, |spell| spell.since),
            failed_at: now,
            well_since: None,
            is_told: lasting.is_some_and(|spell| spell.is_told),
        });
        let lasted = since(spell.since);
        let is_due =
            lasted >= self.patience && self.told_at.is_none_or(|at| since(at) >= AGAIN_AFTER);
        is_due.then(|| {
            self.told_at = Some(now);
            spell.is_told = true;
            lasted
        })
    }

    /// It went well. Returns how long it had failed, if that was told: then its end is to be told too.
    pub fn succeeded(&mut self, now: Instant) -> Option<Duration> {
        let spell = self.spell.as_mut()?;
        spell.well_since.get_or_insert(now);
        std::mem::take(&mut spell.is_told).then(|| now.saturating_duration_since(spell.since))
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
    fn it_is_told_once_it_has_lasted_and_then_once_a_minute() {
        let (mut pace, begun) = (ReportPace::new(PATIENCE), Instant::now());
        let told: Vec<u64> = (0..=140)
            .filter(|second| pace.failed(begun + seconds(*second)).is_some())
            .collect();
        assert_eq!(told, [10, 70, 130]);
    }

    #[test]
    fn without_patience_the_first_failure_is_told() {
        let mut pace = ReportPace::new(Duration::ZERO);
        assert_eq!(pace.failed(Instant::now()), Some(Duration::ZERO));
    }

    #[test]
    fn a_call_that_was_not_answered_for_long_is_told_at_its_first_failure() {
        let (mut pace, begun) = (ReportPace::new(PATIENCE), Instant::now());
        let told = pace.failed_since(begun, begun + seconds(12));
        assert_eq!(told, Some(seconds(12)));
    }

    #[test]
    fn its_end_is_told_once_and_only_where_it_was_told_itself() {
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
    fn what_comes_and_goes_is_told_once_a_minute_too() {
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

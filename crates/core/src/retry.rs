//! When a stage is retried.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::outcome::Outcome;

/// The retry rule of a stage.
///
/// Attempts that were `lost` are infrastructure's fault, not the stage's: they have their own
/// allowance and do not use up `attempts`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// How often the stage may be tried for outcomes in `on`, the first try included. At least 1.
    pub attempts: u32,
    /// Which outcomes are retried. Never contains `Succeeded`, `Cancelled`, `Lost`, `Skipped` or `UpstreamFailed`.
    pub on: BTreeSet<Outcome>,
    /// How often a lost attempt is replaced by a new one.
    pub lost: u32,
    /// The wait before the second attempt.
    pub backoff: Duration,
    /// The factor by which the wait grows with each further attempt. At least 1.
    pub factor: f64,
    pub max: Duration,
}

impl Retry {
    /// The outcomes that a rule may name in `on`.
    pub const CHOICES: [Outcome; 3] = [Outcome::Failed, Outcome::Errored, Outcome::TimedOut];

    /// The most attempts that the rule can lead to.
    #[must_use]
    pub fn attempts_at_most(&self) -> u32 {
        self.attempts.saturating_add(self.lost)
    }

    /// Whether a stage with these ended attempts, in order, is retried, and after what wait.
    ///
    /// `None` means that the last outcome stands.
    #[must_use]
    pub fn next_try(&self, ended: &[Outcome]) -> Option<Duration> {
        let last = *ended.last()?;
        let lost = ended
            .iter()
            .filter(|outcome| **outcome == Outcome::Lost)
            .count();
        let counted = ended.len() - lost;
        if last == Outcome::Lost {
            return (lost <= self.lost as usize).then(|| self.wait_after(lost));
        }
        (self.on.contains(&last) && counted < self.attempts as usize)
            .then(|| self.wait_after(counted))
    }

    /// `backoff * factor^(tries - 1)`, never more than `max`.
    fn wait_after(&self, tries: usize) -> Duration {
        if self.backoff.is_zero() {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.backoff.as_secs_f64() * self.factor.powi(exponent);
        // A value that is not a valid duration is too long, or comes from a factor that no DAG can have.
        Duration::try_from_secs_f64(seconds).map_or(self.max, |wait| wait.min(self.max))
    }
}

impl Default for Retry {
    /// One attempt; a lost one is replaced at most twice, after 10 s and 20 s.
    fn default() -> Self {
        Self {
            attempts: 1,
            on: BTreeSet::from([Outcome::Failed, Outcome::Errored]),
            lost: 2,
            backoff: Duration::from_secs(10),
            factor: 2.0,
            max: Duration::from_secs(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Retry {
        Retry {
            attempts: 4,
            on: BTreeSet::from([Outcome::Failed]),
            lost: 1,
            backoff: Duration::from_secs(30),
            factor: 2.0,
            max: Duration::from_secs(100),
        }
    }

    #[test]
    fn the_wait_doubles_up_to_its_maximum() {
        use Outcome::Failed;
        assert_eq!(rule().next_try(&[Failed]), Some(Duration::from_secs(30)));
        assert_eq!(rule().next_try(&[Failed; 2]), Some(Duration::from_secs(60)));
        assert_eq!(
            rule().next_try(&[Failed; 3]),
            Some(Duration::from_secs(100))
        );
        assert_eq!(rule().next_try(&[Failed; 4]), None);
    }

    #[test]
    fn only_named_outcomes_are_tried_again() {
        assert_eq!(rule().next_try(&[Outcome::TimedOut]), None);
        assert_eq!(rule().next_try(&[Outcome::Cancelled]), None);
    }

    #[test]
    fn a_lost_attempt_does_not_use_up_the_rule_and_has_its_own() {
        use Outcome::{Failed, Lost};
        assert!(rule().next_try(&[Lost]).is_some());
        assert!(rule().next_try(&[Lost, Failed, Failed, Failed]).is_some());
        assert_eq!(
            rule().next_try(&[Lost, Failed, Failed, Failed, Failed]),
            None
        );
        assert_eq!(rule().next_try(&[Lost, Lost]), None);
    }

    #[test]
    fn absurd_factors_end_at_the_maximum() {
        let rule = Retry {
            attempts: u32::MAX,
            factor: 1e300,
            ..rule()
        };
        assert_eq!(
            rule.next_try(&[Outcome::Failed; 50]),
            Some(Duration::from_secs(100))
        );
        for factor in [-2.0, f64::NAN, f64::INFINITY, 0.0] {
            let rule = Retry {
                factor,
                ..rule.clone()
            };
            assert!(rule.next_try(&[Outcome::Failed; 4]) <= Some(rule.max));
        }
    }

    #[test]
    fn no_wait_means_none_however_often() {
        let rule = Retry {
            attempts: u32::MAX,
            factor: 1e300,
            backoff: Duration::ZERO,
            ..rule()
        };
        assert_eq!(rule.next_try(&[Outcome::Failed]), Some(Duration::ZERO));
        assert_eq!(rule.next_try(&[Outcome::Failed; 9]), Some(Duration::ZERO));
    }
}

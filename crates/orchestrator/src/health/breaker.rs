//! The circuit breaker of a Docker engine: decides from the calls that are made anyway whether Docker answers.
//!
//! While it is open, nothing new is started on that Docker engine; supervisors of running attempts go on and retry. A
//! failed call is evidence against Docker, or only against the container that it concerns: one hanging container
//! proves nothing about the others, several at once do. Any answer counts as an answer, also a refusal.
//!
//! A state machine without a clock or a lock; [`crate::health::engine_watch`] has both.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use trainyard_core::backoff::Backoff;
use trainyard_core::id::{AttemptId, DaemonId};

/// This many calls about Docker itself have to fail in a row.
const FAILURES: u32 = 3;

/// Or this many containers have to be out of reach, with no answer in between.
const CONTAINERS: usize = 3;

/// The first wait before a trial.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait before a trial.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// A trial without an end is dropped after this time.
const TRIAL_AT_MOST: Duration = Duration::from_secs(60);

/// What a call says something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Docker itself.
    Engine,
    Container(AttemptId),
}

/// The change that a report caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Docker counts as away.
    Opened,
    /// It answers again.
    Closed,
}

/// The state of the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Docker answers, as far as is known.
    Closed,
    /// A trial call is under way.
    Trial,
    /// It does not answer.
    Open,
}

/// The breaker of one Docker engine.
#[derive(Debug, Clone)]
pub struct Breaker {
    of: DaemonId,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Closed {
        failures: u32,
        unreached: BTreeSet<AttemptId>,
    },
    Open {
        next_trial: Instant,
        backoff: Backoff,
    },
    Trial {
        begun: Instant,
        backoff: Backoff,
    },
}

impl State {
    fn closed() -> Self {
        Self::Closed {
            failures: 0,
            unreached: BTreeSet::new(),
        }
    }
}

impl Breaker {
    /// The breaker of the daemon `of`.
    #[must_use]
    pub fn new(of: DaemonId) -> Self {
        Self {
            of,
            state: State::closed(),
        }
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Closed { .. } => Phase::Closed,
            State::Open { .. } => Phase::Open,
            State::Trial { .. } => Phase::Trial,
        }
    }

    /// A call was answered.
    pub fn answered(&mut self, about: About) -> Option<Change> {
        match (&mut self.state, about) {
            (
                State::Closed {
                    failures,
                    unreached,
                },
                About::Engine,
            ) => {
                *failures = 0;
                unreached.clear();
                None
            }
            // A Docker engine that hangs for all calls may still answer one of them, so failures of
            // Docker itself stand.
            (State::Closed { unreached, .. }, About::Container(_)) => {
                unreached.clear();
                None
            }
            (State::Open { .. } | State::Trial { .. }, About::Engine) => {
                self.state = State::closed();
                Some(Change::Closed)
            }
            // The answer may have been on its way already, or the question may have needed little of Docker.
            (State::Open { .. } | State::Trial { .. }, About::Container(_)) => None,
        }
    }

    /// A call was not answered, or not in time.
    pub fn failed(&mut self, about: About, now: Instant) -> Option<Change> {
        match &mut self.state {
            State::Closed {
                failures,
                unreached,
            } => {
                match about {
                    About::Engine => *failures += 1,
                    About::Container(attempt) => {
                        unreached.insert(attempt);
                    }
                }
                if *failures < FAILURES && unreached.len() < CONTAINERS {
                    return None;
                }
                self.open(now, Backoff::new(FIRST_WAIT, LONGEST_WAIT, self.of.0));
                Some(Change::Opened)
            }
            State::Trial { backoff, .. } if about == About::Engine => {
                let backoff = backoff.clone();
                self.open(now, backoff);
                None
            }
            State::Trial { .. } | State::Open { .. } => None,
        }
    }

    /// Whether a trial call to Docker is due: while there is a suspicion, and at the times of trials. The caller that
    /// gets true makes the call and reports the result.
    pub fn take_trial(&mut self, now: Instant) -> bool {
        match &self.state {
            State::Closed {
                failures,
                unreached,
            } => *failures > 0 || !unreached.is_empty(),
            State::Open {
                next_trial,
                backoff,
            } if *next_trial <= now => {
                self.state = State::Trial {
                    begun: now,
                    backoff: backoff.clone(),
                };
                true
            }
            State::Trial { begun, backoff } if now >= *begun + TRIAL_AT_MOST => {
                self.state = State::Trial {
                    begun: now,
                    backoff: backoff.clone(),
                };
                true
            }
            State::Open { .. } | State::Trial { .. } => false,
        }
    }

    fn open(&mut self, now: Instant, mut backoff: Backoff) {
        self.state = State::Open {
            next_trial: now + backoff.next_wait(),
            backoff,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn container(number: u128) -> About {
        About::Container(AttemptId(Uuid::from_u128(number)))
    }

    fn breaker() -> Breaker {
        Breaker::new(DaemonId(Uuid::nil()))
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = breaker();
        assert_eq!(breaker.failed(About::Engine, now), None);
        assert_eq!(breaker.failed(About::Engine, now), None);
        assert_eq!(breaker.failed(About::Engine, now), Some(Change::Opened));
        breaker
    }

    #[test]
    fn failures_with_an_answer_between_them_do_not_open_it() {
        let now = Instant::now();
        let mut breaker = breaker();
        for _ in 0..10 {
            assert_eq!(breaker.failed(About::Engine, now), None);
            assert_eq!(breaker.failed(About::Engine, now), None);
            assert_eq!(breaker.answered(About::Engine), None);
        }
        assert_eq!(breaker.phase(), Phase::Closed);
    }

    #[test]
    fn one_container_that_hangs_never_opens_it_and_several_do() {
        let now = Instant::now();
        let mut breaker = breaker();
        for _ in 0..100 {
            assert_eq!(breaker.failed(container(1), now), None);
        }
        assert_eq!(breaker.failed(container(2), now), None);
        assert_eq!(breaker.failed(container(3), now), Some(Change::Opened));
    }

    #[test]
    fn containers_that_answer_do_not_hide_an_engine_that_does_not() {
        let now = Instant::now();
        let mut breaker = breaker();
        let changes: Vec<_> = (0..3)
            .map(|_| {
                breaker.answered(container(1));
                breaker.failed(About::Engine, now)
            })
            .collect();
        assert_eq!(changes, [None, None, Some(Change::Opened)]);
    }

    #[test]
    fn trials_come_ever_more_rarely_and_one_success_closes_it() {
        let begun = Instant::now();
        let mut breaker = opened(begun);
        let mut now = begun;
        let mut waits = Vec::new();
        for _ in 0..6 {
            let since = now;
            while !breaker.take_trial(now) {
                now += Duration::from_secs(1);
            }
            assert!(!breaker.take_trial(now), "one trial at a time");
            waits.push(now - since);
            assert_eq!(breaker.failed(About::Engine, now), None);
        }
        for (wait, exact) in waits.iter().zip([1, 2, 4, 8, 15, 15]) {
            let second = Duration::from_secs(1);
            let exact = second * exact;
            assert!(
                *wait >= exact * 3 / 4 && *wait <= exact * 5 / 4 + second,
                "{waits:?}"
            );
        }
        assert_eq!(breaker.answered(container(1)), None);
        assert_eq!(breaker.answered(About::Engine), Some(Change::Closed));
    }

    #[test]
    fn a_trial_without_a_report_is_repeated() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let due = now + FIRST_WAIT * 2;
        assert!(breaker.take_trial(due));
        assert!(!breaker.take_trial(due + TRIAL_AT_MOST / 2));
        assert!(breaker.take_trial(due + TRIAL_AT_MOST));
    }

    proptest! {
        /// Whatever happened before: a Docker engine that answers soon counts as up, and one that does not
        /// counts as down.
        #[test]
        fn its_state_is_correct_in_the_end(
            history in prop::collection::vec((0_u8..5, 0_u128..4, 0_u64..90), 0..200),
            answers in any::<bool>(),
        ) {
            let mut now = Instant::now();
            let mut breaker = breaker();
            let mut reported = Phase::Closed;
            for (what, of, later) in history {
                now += Duration::from_secs(later);
                let change = match what {
                    0 => breaker.failed(About::Engine, now),
                    1 => breaker.failed(container(of), now),
                    2 => breaker.answered(About::Engine),
                    3 => breaker.answered(container(of)),
                    _ => { breaker.take_trial(now); None }
                };
                // Every change is reported exactly once.
                match change {
                    Some(Change::Opened) => { prop_assert_eq!(reported, Phase::Closed); reported = Phase::Open; }
                    Some(Change::Closed) => { prop_assert_eq!(reported, Phase::Open); reported = Phase::Closed; }
                    None => {}
                }
                prop_assert_eq!(breaker.phase() == Phase::Closed, reported == Phase::Closed);
            }
            // From now on trials are accurate; a listing every 5 s starts the suspicion.
            for second in 0..120 {
                now += Duration::from_secs(1);
                if breaker.take_trial(now) || second % 5 == 0 {
                    if answers {
                        breaker.answered(About::Engine);
                    } else {
                        breaker.failed(About::Engine, now);
                    }
                }
            }
            prop_assert_eq!(breaker.phase() == Phase::Closed, answers);
        }
    }
}

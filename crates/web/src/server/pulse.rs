//! The time limits of one connection: its phase, since when it has lasted, and whether that is too long.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// From a connection's start to its first request, and from the first byte of a request to the end of its head.
const HEAD: Duration = Duration::from_secs(10);

const IDLE: Duration = Duration::from_secs(60);

/// How long a peer may read nothing while an answer is waiting for it.
const STUCK: Duration = Duration::from_secs(60);

/// The phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has arrived yet.
    New,
    /// The last request is answered.
    Idle,
    /// Part of a head has arrived.
    Head,
    /// A request is handled or answered.
    Busy,
}

/// The phase of one connection and its times, updated by its stream and its requests.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    stuck_since: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            phase: Phase::New,
            since: now,
            stuck_since: None,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_read(&self, now: Instant) {
        let mut state = self.state();
        match state.phase {
            // The first head is timed from the start of the connection.
            Phase::New => state.phase = Phase::Head,
            Phase::Idle => {
                state.phase = Phase::Head;
                state.since = now;
            }
            Phase::Head | Phase::Busy => {}
        }
    }

    /// Notes that the peer took bytes, or does not take any.
    pub(super) fn has_written(&self, is_stuck: bool, now: Instant) {
        let mut state = self.state();
        state.stuck_since = is_stuck.then(|| state.stuck_since.unwrap_or(now));
    }

    pub(super) fn request_begins(&self) {
        self.state().phase = Phase::Busy;
    }

    pub(super) fn request_ends(&self, now: Instant) {
        let mut state = self.state();
        state.phase = Phase::Idle;
        state.since = now;
    }

    pub(super) fn is_busy(&self) -> bool {
        self.state().phase == Phase::Busy
    }

    /// Whether the connection has exceeded its time limit.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let state = self.state();
        let at_most = match state.phase {
            Phase::New | Phase::Head => Some(HEAD),
            Phase::Idle => Some(IDLE),
            // Requests have a timeout of their own.
            Phase::Busy => None,
        };
        let is_stuck = state
            .stuck_since
            .is_some_and(|since| now.duration_since(since) >= STUCK);
        is_stuck || at_most.is_some_and(|at_most| now.duration_since(state.since) >= at_most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn a_head_that_trickles_has_the_time_of_a_head_since_the_connection_began() {
        let begin = Instant::now();
        let pulse = Pulse::new(begin);
        for second in 0..9 {
            pulse.has_read(after(begin, second));
            assert!(!pulse.is_over(after(begin, second)));
        }
        assert!(pulse.is_over(after(begin, 10)));
    }

    #[test]
    fn an_idle_connection_is_kept_for_a_minute_and_its_next_head_has_the_time_of_a_head() {
        let begin = Instant::now();
        let pulse = Pulse::new(begin);
        pulse.has_read(begin);
        pulse.request_begins();
        assert!(
            !pulse.is_over(after(begin, 3600)),
            "a request is in progress"
        );
        pulse.request_ends(after(begin, 100));
        assert!(!pulse.is_over(after(begin, 159)));
        assert!(pulse.is_over(after(begin, 160)));
        pulse.has_read(after(begin, 159));
        assert!(!pulse.is_over(after(begin, 168)));
        assert!(pulse.is_over(after(begin, 169)));
    }

    #[test]
    fn a_slow_reader_is_kept_as_long_as_it_takes_something_each_minute() {
        let begin = Instant::now();
        let pulse = Pulse::new(begin);
        pulse.request_begins();
        for minute in 0..10 {
            pulse.has_written(true, after(begin, 50 * minute));
            assert!(!pulse.is_over(after(begin, 50 * minute + 49)));
            pulse.has_written(false, after(begin, 50 * minute + 49));
        }
        pulse.has_written(true, after(begin, 1000));
        pulse.has_written(true, after(begin, 1059));
        assert!(pulse.is_over(after(begin, 1060)));
    }
}

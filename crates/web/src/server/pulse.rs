//! The time limits of one connection: its phase, since when it has lasted, and whether that is too long.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// From a connection's start to its first request, and from the first byte of a request to the end of its head.
const HEAD: Duration = Duration::from_secs(10);

const IDLE: Duration = Duration::from_secs(60);

/// How much of an answer a peer reads at least in this time, while there is more: 4 KiB a second. An answer is in memory
/// until it was read.
const READ_AT_LEAST: usize = 256 << 10;
const READ_WITHIN: Duration = Duration::from_secs(60);

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
    unread: Option<Unread>,
}

/// The peer has something to read.
#[derive(Debug)]
struct Unread {
    since: Instant,
    read: usize,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            phase: Phase::New,
            since: now,
            unread: None,
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

    /// Notes how many bytes the peer took; `None` where it takes none at the moment.
    pub(super) fn has_written(&self, bytes: Option<usize>, now: Instant) {
        let mut state = self.state();
        match (bytes, &mut state.unread) {
            (None, unread @ None) => {
                *unread = Some(Unread {
                    since: now,
                    read: 0,
                });
            }
            (Some(bytes), Some(unread)) => {
                unread.read += bytes;
                if unread.read >= READ_AT_LEAST {
                    state.unread = None;
                }
            }
            (None, Some(_)) | (Some(_), None) => {}
        }
    }

    /// Notes that the peer took all that there was.
    pub(super) fn has_written_all(&self, now: Instant) {
        let mut state = self.state();
        if state.unread.take().is_some() && state.phase == Phase::Idle {
            state.since = now;
        }
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
            // The end of the last answer is still being read.
            Phase::Idle if state.unread.is_some() => None,
            Phase::Idle => Some(IDLE),
            // Requests have a timeout of their own.
            Phase::Busy => None,
        };
        let is_slow = state
            .unread
            .as_ref()
            .is_some_and(|unread| now.duration_since(unread.since) >= READ_WITHIN);
        is_slow || at_most.is_some_and(|at_most| now.duration_since(state.since) >= at_most)
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
    fn a_slow_reader_is_kept_as_long_as_it_takes_enough_each_minute() {
        let begin = Instant::now();
        let pulse = Pulse::new(begin);
        pulse.request_begins();
        for minute in 0..10 {
            pulse.has_written(None, after(begin, 60 * minute));
            pulse.has_written(Some(READ_AT_LEAST / 2), after(begin, 60 * minute + 20));
            pulse.has_written(None, after(begin, 60 * minute + 20));
            assert!(!pulse.is_over(after(begin, 60 * minute + 59)));
            pulse.has_written(Some(READ_AT_LEAST / 2), after(begin, 60 * minute + 59));
        }
        pulse.has_written(None, after(begin, 1000));
        for second in 1000..1060 {
            pulse.has_written(Some(100), after(begin, second));
            pulse.has_written(None, after(begin, second));
        }
        assert!(!pulse.is_over(after(begin, 1059)));
        assert!(
            pulse.is_over(after(begin, 1060)),
            "a hundred bytes a second"
        );
    }

    #[test]
    fn a_connection_is_idle_once_its_last_answer_was_read() {
        let begin = Instant::now();
        let pulse = Pulse::new(begin);
        pulse.request_begins();
        pulse.has_written(None, begin);
        // The last part of the answer was handed over, and is not read yet.
        pulse.request_ends(begin);
        pulse.has_written(Some(READ_AT_LEAST), after(begin, 50));
        pulse.has_written(None, after(begin, 50));
        assert!(!pulse.is_over(after(begin, 100)), "it reads");
        pulse.has_written_all(after(begin, 100));
        assert!(!pulse.is_over(after(begin, 159)));
        assert!(pulse.is_over(after(begin, 160)));
    }
}

//! How much a remote may cost, and the watch that holds a running fetch to it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::Cancel;

/// What one fetch may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// How long it may take from end to end. A server that falls silent is given up much sooner.
    pub time: Duration,
    /// How many bytes of objects the remote may send.
    pub bytes: usize,
    /// How many branches and tags the remote may have.
    pub refs: usize,
}

impl Default for FetchLimits {
    /// Half an hour, 4 GiB, 50,000 branches and tags: room for the first fetch of a large repo.
    fn default() -> Self {
        Self {
            time: Duration::from_secs(30 * 60),
            bytes: 4 << 30,
            refs: 50_000,
        }
    }
}

/// Why a fetch was stopped from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    TooLong,
    TooLarge,
}

/// Watches one fetch.
#[derive(Debug)]
pub(super) struct Watch {
    limits: FetchLimits,
    deadline: Instant,
    cancel: Cancel,
    stop: Cell<Option<Stop>>,
}

impl Watch {
    pub(super) fn start(limits: FetchLimits, cancel: Cancel) -> Self {
        let deadline = Instant::now() + limits.time;
        Self {
            limits,
            deadline,
            cancel,
            stop: Cell::new(None),
        }
    }

    /// Whether to go on, `received` bytes of objects having come in so far.
    pub(super) fn goes_on(&self, received: usize) -> bool {
        let stop = if self.cancel.is_cancelled() {
            Stop::Cancelled
        } else if Instant::now() >= self.deadline {
            Stop::TooLong
        } else if received > self.limits.bytes {
            Stop::TooLarge
        } else {
            return true;
        };
        self.stop.set(Some(stop));
        false
    }

    /// Why it does not go on.
    pub(super) fn stop(&self) -> Option<Stop> {
        self.stop.get()
    }

    pub(super) fn limits(&self) -> FetchLimits {
        self.limits
    }
}

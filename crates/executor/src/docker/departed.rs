//! The attempts whose containers this process removed last.
//!
//! A container is removed once its end is durably recorded, so its attempt never comes back: unless the
//! database loses commits, as in a failover to a standby that lagged behind. Then the attempt is queued
//! again under the same id, there is no container to adopt, and creating one would run it twice. A daemon that
//! remembers the removal refuses to. The list is in memory only: a daemon that restarts in between forgets it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use trainyard_core::id::AttemptId;

/// How many are remembered: more than can end in the few seconds that a failover loses.
const AT_MOST: usize = 4_096;

/// Attempts, the latest [`AT_MOST`].
#[derive(Debug, Default)]
pub(super) struct Departed(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    known: HashSet<AttemptId>,
    order: VecDeque<AttemptId>,
}

impl Departed {
    /// Notes that an attempt's container was removed.
    pub(super) fn add(&self, attempt: AttemptId) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.known.insert(attempt) {
            memory.order.push_back(attempt);
        }
        if memory.order.len() > AT_MOST
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.known.remove(&oldest);
        }
    }

    pub(super) fn holds(&self, attempt: AttemptId) -> bool {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.known.contains(&attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_latest_are_remembered_and_no_more_than_fit() {
        let departed = Departed::default();
        let id = |number: usize| AttemptId(Uuid::from_u128(number as u128));
        for number in 0..=AT_MOST {
            departed.add(id(number));
            departed.add(id(number));
        }
        assert!(!departed.holds(id(0)));
        assert!(departed.holds(id(1)) && departed.holds(id(AT_MOST)));
    }
}

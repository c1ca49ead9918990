//! Whose leases are seen to be renewed, by this daemon's monotonic clock.
//!
//! That another daemon's lease has run out by the database's clock proves nothing where that clock was
//! set: whoever lives renews within seconds, and what was taken over from it meanwhile had to be let go
//! for nothing. So a lease counts as run out only once it has also stood unrenewed for as long as it
//! should in the sight of this daemon. As the other renews more often than a lease is long, that costs
//! no time where no clock was set, but for a daemon that has only just begun to look.

use std::collections::BTreeMap;

use tokio::time::Instant;
use trainyard_core::Timestamp;
use trainyard_core::id::DaemonId;
use trainyard_store::LeaseSeen;

use crate::loops::keeper::TICK;

/// What is known of the others.
#[derive(Debug, Default)]
pub struct Neighbours {
    seen: BTreeMap<DaemonId, (Timestamp, Instant)>,
}

impl Neighbours {
    /// Notes how the others' leases stand. Returns those who may have renewed theirs too lately to be gone.
    pub fn look(&mut self, leases: &[LeaseSeen], now: Instant) -> Vec<DaemonId> {
        let mut seen = BTreeMap::new();
        let mut spared = Vec::new();
        for lease in leases {
            let since = match self.seen.get(&lease.daemon) {
                Some((until, since)) if *until == lease.until => *since,
                Some(_) | None => now,
            };
            seen.insert(lease.daemon, (lease.until, since));
            // It may have been renewed a tick before it was seen.
            if now.duration_since(since) < lease.length.saturating_sub(TICK) {
                spared.push(lease.daemon);
            }
        }
        self.seen = seen;
        spared
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(15);

    fn lease(until: i64) -> LeaseSeen {
        LeaseSeen {
            daemon: DaemonId(uuid::Uuid::nil()),
            until: Timestamp::from_timestamp(until, 0).unwrap(),
            length: LENGTH,
        }
    }

    #[test]
    fn who_renews_is_spared_whatever_the_database_s_clock_shows() {
        let (mut neighbours, begun) = (Neighbours::default(), Instant::now());
        for renewal in 0..10_u32 {
            // There and back by more than a lease.
            let until = 1_000_000 + i64::from(renewal % 2) * 86_400 + i64::from(renewal);
            let spared = neighbours.look(&[lease(until)], begun + TICK * renewal);
            assert_eq!(spared.len(), 1);
        }
    }

    #[test]
    fn who_is_silent_for_a_lease_is_not() {
        let (mut neighbours, begun) = (Neighbours::default(), Instant::now());
        let mut look = |after| neighbours.look(&[lease(1_000_000)], begun + after).len();
        assert_eq!(look(Duration::ZERO), 1, "nobody knows yet for how long");
        assert_eq!(look(LENGTH - TICK * 2), 1);
        assert_eq!(look(LENGTH - TICK), 0);
    }
}

//! Tracks which other daemons still renew their leases, by this daemon's monotonic clock.
//!
//! A lease that has expired by the database's clock proves nothing if that clock was set: a live daemon renews within
//! seconds, and an adoption meanwhile would be for nothing. So a lease counts as expired only once this daemon has
//! also seen it unrenewed for the length of the lease. Since daemons renew more often than that, this costs no time
//! where no clock was set, except for a daemon that has only just started.

use std::collections::BTreeMap;

use tokio::time::Instant;
use trainyard_core::Timestamp;
use trainyard_core::id::DaemonId;
use trainyard_store::LeaseSeen;

use crate::loops::keeper::TICK;

/// The renewals of the other daemons that were seen.
#[derive(Debug, Default)]
pub struct Neighbours {
    seen: BTreeMap<DaemonId, (Timestamp, Instant)>,
}

impl Neighbours {
    /// Records the state of the others' leases. Returns the daemons that may have renewed too recently to be gone.
    pub fn observe(&mut self, leases: &[LeaseSeen], now: Instant) -> Vec<DaemonId> {
        let mut seen = BTreeMap::new();
        let mut spared = Vec::new();
        for lease in leases {
            let since = match self.seen.get(&lease.daemon) {
                Some((until, since)) if *until == lease.until => *since,
                Some(_) | None => now,
            };
            seen.insert(lease.daemon, (lease.until, since));
            // It may have been renewed one tick before it was seen.
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
            // Forward and back by more than a lease.
            let until = 1_000_000 + i64::from(renewal % 2) * 86_400 + i64::from(renewal);
            let spared = neighbours.observe(&[lease(until)], begun + TICK * renewal);
            assert_eq!(spared.len(), 1);
        }
    }

    #[test]
    fn who_is_silent_for_a_lease_is_not() {
        let (mut neighbours, begun) = (Neighbours::default(), Instant::now());
        let mut look = |after| neighbours.observe(&[lease(1_000_000)], begun + after).len();
        assert_eq!(look(Duration::ZERO), 1, "not known yet for how long");
        assert_eq!(look(LENGTH - TICK * 2), 1);
        assert_eq!(look(LENGTH - TICK), 0);
    }
}

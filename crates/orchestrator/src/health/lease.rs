//! The right of this daemon to act on attempts, by its own monotonic clock.
//!
//! The lease in the database says when other daemons may adopt this daemon's attempts. Whether this daemon may still
//! act cannot be read there: the answer might come after the lease has expired, for example after a pause of the
//! whole process. So the daemon counts for itself, from just before each request for a renewal, and stops a third of
//! the lease before its end. A lapsed lease is never resumed by its holders: a new tenure begins, and supervision
//! under the old one ends.
//!
//! The clock is the system's monotonic one, which stands still while the whole machine is suspended; the database
//! refuses writes under an old fence in any case.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The last part of a lease, in which its holder no longer acts.
const MARGIN: u32 = 3;

#[derive(Debug, Clone, Copy)]
struct Term {
    number: u64,
    until: Instant,
}

/// A daemon's lease. Clones are the same lease.
#[derive(Debug, Clone)]
pub struct Lease {
    term: Arc<Mutex<Term>>,
}

impl Lease {
    /// A lease of `length` that was requested at `asked`.
    #[must_use]
    pub fn new(asked: Instant, length: Duration) -> Self {
        let term = Term {
            number: 1,
            until: end(asked, length),
        };
        Self {
            term: Arc::new(Mutex::new(term)),
        }
    }

    /// Records a renewal. Returns whether the lease had lapsed before: then a new tenure has begun.
    pub fn renewed(&self, asked: Instant, length: Duration) -> bool {
        let mut term = self.term.lock().unwrap_or_else(PoisonError::into_inner);
        let lapsed = term.until <= Instant::now();
        if lapsed {
            term.number += 1;
        }
        term.until = term.until.max(end(asked, length));
        lapsed
    }

    /// Whether this daemon may act now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        Instant::now() < self.term().until
    }

    /// The right to act until the lease lapses.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        Tenure {
            number: self.term().number,
            lease: self.clone(),
        }
    }

    fn term(&self) -> Term {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to act until the lease lapses for the first time.
#[derive(Debug, Clone)]
pub struct Tenure {
    number: u64,
    lease: Lease,
}

impl Tenure {
    /// Whether the tenure still lasts.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let term = self.lease.term();
        term.number == self.number && Instant::now() < term.until
    }

    /// Returns once the tenure is over. A renewal only makes it longer, so it needs no notice of one.
    pub async fn over(&self) {
        while self.is_held() {
            tokio::time::sleep_until(self.lease.term().until).await;
        }
    }

    /// Returns at once while the tenure lasts, and never after.
    pub(crate) async fn held(&self) {
        if !self.is_held() {
            std::future::pending::<()>().await;
        }
    }
}

fn end(asked: Instant, length: Duration) -> Instant {
    asked + length - length / MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn acting_ends_before_the_lease_does() {
        let lease = Lease::new(Instant::now(), LENGTH);
        let tenure = lease.tenure();
        let begun = Instant::now();
        tenure.over().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        assert!(!lease.is_held() && !tenure.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_counts_from_before_it_was_asked_for() {
        let lease = Lease::new(Instant::now(), LENGTH);
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(8)).await;
        assert!(!lease.renewed(asked, LENGTH), "the answer took 8 s");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!lease.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_lapsed_begins_a_new_tenure_and_never_goes_on_with_the_old_one() {
        let lease = Lease::new(Instant::now(), LENGTH);
        let old = lease.tenure();
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(lease.renewed(Instant::now(), LENGTH));
        assert!(lease.is_held() && lease.tenure().is_held());
        assert!(!old.is_held());
        old.over().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_in_time_keeps_the_tenure() {
        let lease = Lease::new(Instant::now(), LENGTH);
        let tenure = lease.tenure();
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(5)).await;
            assert!(!lease.renewed(Instant::now(), LENGTH));
            assert!(tenure.is_held());
        }
    }
}

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

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::stage::RelativePath;
use trainyard_executor::AttemptSpec;
use trainyard_executor::{
    Attempts, BlobSink, Containers, Error, Exit, Handle, ImageRequest, Listed, LogCursor,
    LogStream, PreparedImage, Proof, StageFolder, Status,
};

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
    term: watch::Sender<Term>,
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
            term: watch::Sender::new(term),
        }
    }

    /// Records a renewal. Returns whether the lease had lapsed before: then a new tenure has begun.
    pub fn renewed(&self, asked: Instant, length: Duration) -> bool {
        let now = Instant::now();
        let mut lapsed = false;
        self.term.send_modify(|term| {
            lapsed = term.until <= now;
            if lapsed {
                term.number += 1;
            }
            term.until = term.until.max(end(asked, length));
        });
        lapsed
    }

    /// Whether this daemon may act now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        Instant::now() < self.term.borrow().until
    }

    /// The right to act until the lease lapses.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        let term = self.term.subscribe();
        let number = term.borrow().number;
        Tenure { number, term }
    }
}

/// The right to act until the lease lapses for the first time.
#[derive(Debug, Clone)]
pub struct Tenure {
    number: u64,
    term: watch::Receiver<Term>,
}

impl Tenure {
    /// Whether the tenure still lasts.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let term = *self.term.borrow();
        term.number == self.number && Instant::now() < term.until
    }

    /// Returns once the tenure is over.
    pub async fn over(&self) {
        let mut changes = self.term.clone();
        while self.is_held() {
            let until = changes.borrow_and_update().until;
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                changed = changes.changed() => if changed.is_err() {
                    // The daemon is stopping; other daemons see that in the database.
                    tokio::time::sleep_until(until).await;
                },
            }
        }
    }

    /// Returns at once while the tenure lasts, and never after.
    async fn held(&self) {
        if !self.is_held() {
            std::future::pending::<()>().await;
        }
    }
}

fn end(asked: Instant, length: Duration) -> Instant {
    asked + length - length / MARGIN
}

/// An executor that changes things only during a tenure. After it, calls that change something do not return: their
/// supervisors are about to be dropped.
#[derive(Debug, Clone)]
pub struct Leased<E> {
    executor: E,
    tenure: Tenure,
}

impl<E> Leased<E> {
    /// `executor` during `tenure`.
    #[must_use]
    pub fn new(executor: E, tenure: Tenure) -> Self {
        Self { executor, tenure }
    }
}

impl<E: Containers> Containers for Leased<E> {
    fn kind(&self) -> &'static str {
        self.executor.kind()
    }

    async fn create(&self, spec: &AttemptSpec) -> Result<Handle, Error> {
        self.tenure.held().await;
        self.executor.create(spec).await
    }

    async fn start(&self, handle: &Handle) -> Result<(), Error> {
        self.tenure.held().await;
        self.executor.start(handle).await
    }

    async fn inspect(&self, handle: &Handle) -> Result<Option<Status>, Error> {
        self.executor.inspect(handle).await
    }

    async fn wait(&self, handle: &Handle) -> Result<Status, Error> {
        self.executor.wait(handle).await
    }

    async fn logs(&self, handle: &Handle, after: Option<LogCursor>) -> Result<LogStream, Error> {
        self.executor.logs(handle, after).await
    }

    async fn written(&self, handle: &Handle) -> Result<Option<u64>, Error> {
        self.executor.written(handle).await
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        self.tenure.held().await;
        self.executor.stop(handle, grace).await
    }

    async fn remove(&self, handle: &Handle) -> Result<(), Error> {
        self.tenure.held().await;
        self.executor.remove(handle).await
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        self.executor.list().await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.executor.ping().await
    }
}

impl<E: Attempts> Attempts for Leased<E> {
    async fn prepare(
        &self,
        request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        self.executor.prepare(request, progress).await
    }

    fn starts_once(&self) -> bool {
        self.executor.starts_once()
    }

    async fn prove(&self, handle: &Handle, seen: &Exit) -> Result<Proof, Error> {
        self.executor.prove(handle, seen).await
    }

    async fn collect(
        &self,
        handle: &Handle,
        output: &RelativePath,
        to: &Arc<dyn BlobSink>,
        limit: u64,
    ) -> Result<Option<ArtifactContent>, Error> {
        self.executor.collect(handle, output, to, limit).await
    }

    async fn files(&self, handle: &Handle, folder: StageFolder) -> Result<Vec<String>, Error> {
        self.executor.files(handle, folder).await
    }
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

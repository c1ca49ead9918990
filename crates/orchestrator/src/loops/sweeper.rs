//! The sweeper: compares the executor's full listing of containers with the database.
//!
//! A container whose attempt has finished is removed; one that ended or vanished unnoticed wakes its supervisor.
//! Containers that the database does not know are left alone for [`STRANGER_GRACE`], then stopped and reported, never
//! removed: they are the only trace of what happened.
//!
//! It is a loop of its own, apart from the [`crate::loops::keeper`]: its calls wait for Docker, and a
//! Docker engine that is slow or silent must not keep the lease from being renewed. Removals are tasks of
//! their own ([`crate::loops::removals`]).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use trainyard_core::id::AttemptId;
use trainyard_executor::{AnyExecutor, Attempts, Containers as _, Listed, Status};
use trainyard_store::Error;

use crate::health::guarded::Guarded;
use crate::health::lease::Lease;
use crate::loops::dispatcher::Dispatcher;
use crate::loops::keeper::TICK;
use crate::loops::removals::Removals;
use crate::records::{Records, StoreRecords};

/// How long a container unknown to the database is left alone: its row may be about to be committed.
const STRANGER_GRACE: Duration = Duration::from_secs(60);

/// How many lost records of removed containers one pass makes good.
const NOTED_AT_ONCE: u32 = 1_000;

/// How long a pass waits for the removals that it began: they are usually done by then.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

/// Compares the containers of one Docker engine with the database.
#[derive(Debug)]
pub struct Sweeper<R = StoreRecords, E = AnyExecutor> {
    records: R,
    executor: Guarded<E>,
    dispatcher: Dispatcher<R, E>,
    lease: Lease,
    removals: Removals<R, E>,
    strangers: HashMap<AttemptId, Instant>,
    /// Unknown containers that were reported and do not run.
    reported: HashSet<AttemptId>,
}

impl<R: Records, E: Attempts + Clone + 'static> Sweeper<R, E> {
    /// A sweeper next to `dispatcher`.
    #[must_use]
    pub fn new(
        records: R,
        executor: Guarded<E>,
        dispatcher: Dispatcher<R, E>,
        lease: Lease,
    ) -> Self {
        let removals = Removals::new(records.clone(), executor.clone(), dispatcher.grace());
        Self {
            records,
            executor,
            dispatcher,
            lease,
            removals,
            strangers: HashMap::new(),
            reported: HashSet::new(),
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let looked = async {
                if let Err(problem) = self.pass().await {
                    warn!(error = %problem, "containers could not be compared with the database; will retry");
                }
                tokio::time::sleep(TICK).await;
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = looked => {}
            }
        }
    }

    /// Makes one full pass.
    ///
    /// # Errors
    /// The database does not answer. Errors of the executor are logged: the next pass comes anyway.
    pub async fn pass(&mut self) -> Result<(), Error> {
        // Read before the listing: an attempt that ends later may well have a container that is not in it.
        let request = self.dispatcher.request();
        let unremoved = self.records.unremoved(request, NOTED_AT_ONCE).await?;
        match self.executor.list().await {
            Ok(listed) => {
                self.note_removed(unremoved, &listed).await?;
                self.sweep(listed).await
            }
            Err(problem) => {
                warn!(error = %problem, "the executor's containers could not be listed");
                Ok(())
            }
        }
    }

    /// Records the removal for ended attempts whose container is gone: it was removed, and the record was lost.
    async fn note_removed(&self, ended: Vec<AttemptId>, listed: &[Listed]) -> Result<(), Error> {
        let there: HashSet<AttemptId> = listed
            .iter()
            .map(|container| container.handle.attempt)
            .collect();
        let gone = ended
            .into_iter()
            // Its supervisor is about to record it.
            .filter(|attempt| {
                !there.contains(attempt) && self.dispatcher.signal(*attempt).is_none()
            });
        let notes = gone.map(|attempt| self.records.mark_removed(attempt));
        futures_util::future::try_join_all(notes).await?;
        Ok(())
    }

    /// Compares a complete listing with what the database knows.
    async fn sweep(&mut self, listed: Vec<Listed>) -> Result<(), Error> {
        let attempts: Vec<AttemptId> = listed
            .iter()
            .map(|container| container.handle.attempt)
            .collect();
        self.strangers
            .retain(|attempt, _| attempts.contains(attempt));
        self.reported.retain(|attempt| attempts.contains(attempt));
        for (attempt, signal) in self.dispatcher.signals() {
            // Absent from one listing does not mean gone, but its supervisor may wait for an answer that never comes.
            // A supervisor without a container yet is not disturbed.
            if !attempts.contains(&attempt) {
                signal.inspect();
            }
        }
        let known = self.records.known_attempts(&attempts).await?;
        for container in listed {
            if !self.lease.is_held() {
                return Ok(());
            }
            let attempt = container.handle.attempt;
            match known.get(&attempt) {
                Some(known) if !known.ended => {
                    let ended =
                        !matches!(container.status, Status::Created | Status::Running { .. });
                    if let Some(signal) = self.dispatcher.signal(attempt).filter(|_| ended) {
                        signal.inspect();
                    }
                }
                // Its supervisor is about to remove it.
                Some(_) if self.dispatcher.signal(attempt).is_some() => {}
                Some(_) => self.removals.begin(container),
                None => self.suspect(&container).await,
            }
        }
        self.removals.settle(REMOVED_WITHIN).await;
        Ok(())
    }

    /// Reports a container that stays unknown, and stops it if it runs.
    async fn suspect(&mut self, container: &Listed) {
        let attempt = container.handle.attempt;
        let seen = *self.strangers.entry(attempt).or_insert_with(Instant::now);
        if seen.elapsed() < STRANGER_GRACE {
            return;
        }
        let id = &container.handle.container;
        if !matches!(container.status, Status::Running { .. }) {
            if self.reported.insert(attempt) {
                error!(%attempt, container = id, "a container of this installation is unknown to the database, as after the loss of commits; it does not run, and is kept for inspection: `docker rm {id}` removes it");
            }
            return;
        }
        error!(%attempt, container = id, "a container of this installation is unknown to the database; stopping it");
        let grace = self.dispatcher.grace();
        if let Err(problem) = self.executor.stop(&container.handle, grace).await {
            warn!(%attempt, error = %problem, "an unknown container was not stopped");
        }
    }
}

//! The keeper: holds on to what this daemon has, and takes over what nobody holds.
//!
//! One pass renews the daemon's lease and what it leads, passes stop requests on, claims attempts again
//! whose owner is gone, and compares the executor's full listing with what should be: a container whose
//! attempt has finished is removed, one that ended or vanished unnoticed wakes its supervisor. Containers that the
//! database does not know are left alone for [`STRANGER_GRACE`], then stopped, never removed: they are
//! the only trace of what happened.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use trainyard_core::id::AttemptId;
use trainyard_executor::{AnyExecutor, Executor, Listed, Status};
use trainyard_store::{Error, Store};

use crate::dispatcher::Dispatcher;
use crate::leadership::Leadership;
use crate::lease::Lease;

/// The time between two looks: a third of the lease.
pub const TICK: Duration = Duration::from_secs(5);

/// How long after a claim its supervisor may take to begin, before the attempt counts as forgotten.
/// Between the claim's commit and its supervisor lie a few reads. Should they ever take longer, the late
/// supervisor has the older fence, and is told so before it starts anything.
const ATTEND_WITHIN: Duration = Duration::from_secs(15);

/// How long a container unknown to the database is left alone: the row may be on its way.
const STRANGER_GRACE: Duration = Duration::from_secs(60);

/// How long a program without an attempt has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// Keeps the attempts of one daemon.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    executor: AnyExecutor,
    dispatcher: Dispatcher,
    lease: Lease,
    lease_length: Duration,
    leadership: Leadership,
    strangers: HashMap<AttemptId, Instant>,
}

impl Keeper {
    /// A keeper beside `dispatcher`.
    #[must_use]
    pub fn new(
        store: Store,
        executor: AnyExecutor,
        dispatcher: Dispatcher,
        lease: Lease,
        lease_length: Duration,
        leadership: Leadership,
    ) -> Self {
        Self {
            store,
            executor,
            dispatcher,
            lease,
            lease_length,
            leadership,
            strangers: HashMap::new(),
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut next_full = Instant::now();
        let mut wake = self.store.wakes().supervise.subscribe();
        loop {
            if let Err(problem) = self.pass_stops_on().await {
                warn!(error = %problem, "stop requests could not be read; trying again");
            }
            if Instant::now() >= next_full {
                next_full = Instant::now() + TICK;
                match self.pass().await {
                    Ok(()) => {}
                    Err(problem @ Error::NotFound { .. }) => {
                        error!(error = %problem, "another daemon has taken this one's place; giving up");
                        return;
                    }
                    Err(problem) => {
                        error!(error = %problem, "attempts could not be looked after; trying again");
                    }
                }
            }
            tokio::select! {
                () = wake.woken() => {}
                () = tokio::time::sleep_until(next_full) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// One full look.
    ///
    /// # Errors
    /// The database does not answer. Trouble of the executor is logged: it concerns the sweep only.
    pub async fn pass(&mut self) -> Result<(), Error> {
        let request = self.dispatcher.request().clone();
        let asked = Instant::now();
        self.store
            .renew_leases(request.daemon, self.lease_length)
            .await?;
        let lapsed = self.lease.renewed(asked, self.lease_length);
        let roles = self.store.lead(request.daemon, self.lease_length).await?;
        self.leadership.set(roles);
        // After a lapse all was let go; otherwise a claim may be on its way to its supervisor.
        let attend_within = if lapsed {
            warn!("the lease had lapsed; taking over again what nobody else has");
            Duration::ZERO
        } else {
            ATTEND_WITHIN
        };
        let attended = self.dispatcher.supervised();
        let adopted = self
            .store
            .adoptable(&request, &attended, attend_within)
            .await?;
        if !adopted.is_empty() {
            info!(
                attempts = adopted.len(),
                "took over attempts that nobody held"
            );
        }
        self.dispatcher.take(adopted);
        match self.executor.list().await {
            Ok(listed) => self.sweep(listed).await,
            Err(problem) => {
                warn!(error = %problem, "the executor's containers could not be listed");
                Ok(())
            }
        }
    }

    async fn pass_stops_on(&self) -> Result<(), Error> {
        for (attempt, _, why) in self.store.stop_requests(self.dispatcher.daemon()).await? {
            if let Some(line) = self.dispatcher.line(attempt) {
                line.stop(why);
            }
        }
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
        for (attempt, line) in self.dispatcher.lines() {
            // Absent from one listing is not gone, but its supervisor may wait for an answer that
            // never comes. One that has no container yet is not disturbed.
            if !attempts.contains(&attempt) {
                line.look();
            }
        }
        let known = self.store.known_attempts(&attempts).await?;
        for container in listed {
            if !self.lease.is_held() {
                return Ok(());
            }
            let attempt = container.handle.attempt;
            match known.get(&attempt) {
                Some(known) if !known.ended => {
                    let ended =
                        !matches!(container.status, Status::Created | Status::Running { .. });
                    if let Some(line) = self.dispatcher.line(attempt).filter(|_| ended) {
                        line.look();
                    }
                }
                // Its supervisor is about to remove it.
                Some(_) if self.dispatcher.line(attempt).is_some() => {}
                Some(_) => match self.executor.remove(&container.handle).await {
                    Ok(()) => self.store.mark_removed(attempt).await?,
                    Err(problem) => {
                        warn!(%attempt, error = %problem, "a finished container was not removed");
                    }
                },
                None => self.suspect(&container).await,
            }
        }
        Ok(())
    }

    /// Stops a container that stays unknown.
    async fn suspect(&mut self, container: &Listed) {
        let attempt = container.handle.attempt;
        let seen = *self.strangers.entry(attempt).or_insert_with(Instant::now);
        if seen.elapsed() < STRANGER_GRACE || !matches!(container.status, Status::Running { .. }) {
            return;
        }
        error!(%attempt, container = container.handle.container, "a container of this installation is unknown to the database; stopping it");
        if let Err(problem) = self.executor.stop(&container.handle, GRACE).await {
            warn!(%attempt, error = %problem, "an unknown container was not stopped");
        }
    }
}

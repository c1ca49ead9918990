//! The keeper holds this daemon's lease and its attempts, and adopts attempts without an owner:
//!
//! 1. It renews the daemon's lease and the jobs that the daemon leads.
//! 2. It passes stop requests on to supervisors.
//! 3. It ends the supervision of attempts that another owner, an abandon or a quarantine has ended.
//! 4. It adopts attempts whose owner is gone.
//!
//! It makes no calls to the executor, and renewals wait for nothing else: neither a slow Docker engine nor a busy
//! database may cost the lease. The [`crate::loops::sweeper`] inspects Docker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use trainyard_executor::{AnyExecutor, Attempts};
use trainyard_store::fleet::metrics::{ATTEMPTS_ADOPTED, LEASES_LOST};
use trainyard_store::{ClaimRequest, Error, answered_within};

use crate::health::leadership::Leadership;
use crate::health::lease::Lease;
use crate::health::neighbours::Neighbours;
use crate::loops::dispatcher::Dispatcher;
use crate::records::{Records, StoreRecords};

/// The time between two renewals: a third of the lease.
pub const TICK: Duration = Duration::from_secs(5);

/// The time until a failed call is retried: after a whole tick, one lost answer might cost the lease.
const AGAIN: Duration = Duration::from_secs(1);

/// How long after a claim its supervisor may take to begin, before the attempt counts as forgotten. Between the
/// claim's commit and its supervisor lie a few reads. Should they ever take longer, the late supervisor has the older
/// fence, which fails before it starts anything.
const ATTEND_WITHIN: Duration = Duration::from_secs(15);

/// How long after the end of an attempt its supervisor usually knows that it has recorded it: the answer to the
/// commit may be on its way, or lost. Where it takes longer, ending the supervision does no harm.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// How often the keeper reports attempts that wait for a daemon that reaches their Docker engine.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// How long the database may take to answer. A connection whose other end fell silent never fails by itself; it is
/// abandoned, and another one is tried while the lease still holds.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long adoption may take: there may be thousands of attempts to read.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(60);

/// Keeps the attempts of one daemon.
#[derive(Debug)]
pub struct Keeper<R = StoreRecords, E = AnyExecutor> {
    records: R,
    dispatcher: Dispatcher<R, E>,
    lease: Lease,
    lease_length: Duration,
    leadership: Leadership,
    neighbours: Mutex<Neighbours>,
    /// Whether supervision was ended by a lapse of the lease since the last pass.
    has_lapsed: AtomicBool,
    lapsed: Notify,
}

impl<R: Records, E: Attempts + Clone + 'static> Keeper<R, E> {
    /// A keeper next to `dispatcher`.
    #[must_use]
    pub fn new(
        records: R,
        dispatcher: Dispatcher<R, E>,
        lease: Lease,
        lease_length: Duration,
        leadership: Leadership,
    ) -> Self {
        Self {
            records,
            dispatcher,
            lease,
            lease_length,
            leadership,
            neighbours: Mutex::default(),
            has_lapsed: AtomicBool::new(false),
            lapsed: Notify::new(),
        }
    }

    /// Runs until `shutdown`. Renewals and passes use different connections and do not wait for each other: a pass
    /// that is held up does not cost the lease.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.renew_in_time() => {}
            () = self.look_in_time() => {}
        }
    }

    /// Renews the lease until another daemon replaces this one.
    async fn renew_in_time(&self) {
        loop {
            let wait = match self.renew().await {
                Ok(()) => TICK,
                Err(problem @ Error::NotFound { .. }) => {
                    error!(daemon.id = %self.dispatcher.daemon(), error = %problem, "another daemon replaced this one; no longer renewing the lease");
                    return;
                }
                Err(problem) => {
                    error!(daemon.id = %self.dispatcher.daemon(), error = %problem, "the lease could not be renewed; will retry");
                    AGAIN
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Passes stops on and adopts attempts, on a hint and from time to time.
    async fn look_in_time(&self) {
        let mut next_full = Instant::now();
        let mut next_report = Instant::now() + REPORT_EVERY;
        let mut wake = self.records.wakes().supervise.subscribe();
        loop {
            if let Err(problem) = self.pass_stops_on().await {
                warn!(error = %problem, "stop requests could not be read; will retry");
            }
            if Instant::now() >= next_full {
                next_full = Instant::now() + TICK;
                if let Err(problem) = self.adopt().await {
                    error!(error = %problem, "attempts could not be adopted; will retry");
                    next_full = Instant::now() + AGAIN;
                }
            }
            if Instant::now() >= next_report {
                next_report = Instant::now() + REPORT_EVERY;
                if let Err(problem) = self.report_left_behind().await {
                    warn!(error = %problem, "could not read the attempts that no daemon can adopt; will retry");
                }
            }
            tokio::select! {
                biased;
                () = self.lapsed.notified() => next_full = Instant::now(),
                () = wake.woken() => {}
                () = tokio::time::sleep_until(next_full) => {}
            }
        }
    }

    /// Renews the lease and the jobs that this daemon leads.
    ///
    /// # Errors
    /// The database does not answer; `NotFound` if another daemon has replaced this one.
    pub async fn renew(&self) -> Result<(), Error> {
        let daemon = self.dispatcher.daemon();
        let asked = Instant::now();
        let renewal = self.records.renew_leases(daemon, self.lease_length);
        answered_within(ANSWER_WITHIN, renewal).await?;
        if self.lease.renewed(asked, self.lease_length) {
            LEASES_LOST.add(1);
            warn!(daemon.id = %daemon, "the lease had expired; adopting again the attempts that no other daemon holds");
            self.has_lapsed.store(true, Ordering::Relaxed);
            self.lapsed.notify_one();
        }
        let roles = self.records.lead(daemon, self.lease_length);
        self.leadership
            .set(answered_within(ANSWER_WITHIN, roles).await?);
        Ok(())
    }

    /// Ends the supervision of attempts that have ended, and adopts attempts without a supervisor: those of daemons
    /// that are gone, and its own that it dropped.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn adopt(&self) -> Result<(), Error> {
        let request = self.dispatcher.request().clone();
        let has_lapsed = self.has_lapsed.swap(false, Ordering::Relaxed);
        let taken = self.adopt_claims(&request, has_lapsed).await;
        if has_lapsed && taken.is_err() {
            self.has_lapsed.store(true, Ordering::Relaxed);
        }
        taken
    }

    async fn adopt_claims(&self, request: &ClaimRequest, has_lapsed: bool) -> Result<(), Error> {
        // After a lapse all supervision has ended; otherwise a claim may be on its way to its supervisor.
        let attend_within = if has_lapsed {
            Duration::ZERO
        } else {
            ATTEND_WITHIN
        };
        let attended = self.dispatcher.supervised();
        let ended = self.records.ended_before(&attended, KNOWN_WITHIN);
        for attempt in answered_within(ANSWER_WITHIN, ended).await? {
            self.dispatcher.stop_supervising_ended(attempt);
        }
        let leases = self.records.leases_of_others(request.daemon);
        let leases = answered_within(ANSWER_WITHIN, leases).await?;
        let spared = self
            .neighbours
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .observe(&leases, Instant::now());
        let adopted = self
            .records
            .adoptable(request, &attended, attend_within, &spared);
        let adopted = answered_within(TAKE_OVER_WITHIN, adopted).await?;
        ATTEMPTS_ADOPTED.add(adopted.len() as u64);
        for claim in &adopted {
            info!(
                daemon.id = %request.daemon,
                run.id = %claim.run.facts.id,
                stage = %claim.pinned.dag.stage(claim.reference.stage).name,
                attempt.id = %claim.attempt,
                "adopted an attempt that no daemon held"
            );
        }
        self.dispatcher.start_supervisors(adopted);
        self.dispatcher.claim_from_now_on();
        Ok(())
    }

    /// Reports attempts that daemons that are gone left on Docker engines that this one does not reach: it
    /// cannot adopt them.
    async fn report_left_behind(&self) -> Result<(), Error> {
        let left = self.records.left_behind(self.dispatcher.request());
        for claim in answered_within(ANSWER_WITHIN, left).await? {
            warn!(
                run.id = %claim.run,
                attempt.id = %claim.attempt,
                engine.id = claim.engine,
                owner.id = %claim.owner,
                "the daemon of an attempt is gone, and no other one reaches its Docker engine; `trainyard run abandon` counts the attempt as lost"
            );
        }
        Ok(())
    }

    async fn pass_stops_on(&self) -> Result<(), Error> {
        let requests = self.records.stop_requests(self.dispatcher.daemon());
        for request in answered_within(ANSWER_WITHIN, requests).await? {
            if let Some(signal) = self.dispatcher.signal(request.attempt) {
                signal.stop(request.why);
                if request.is_forced {
                    signal.force();
                }
            }
        }
        Ok(())
    }
}

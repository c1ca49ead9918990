//! The keeper: holds on to what this daemon has, and takes over what nobody holds.
//!
//! It renews the daemon's lease and what it leads, and beside that passes stop requests on, lets go of what somebody
//! else has ended, and claims attempts again whose owner is gone. It never asks the executor anything, and renewing waits for nothing else: neither an
//! engine that is slow nor a database that is busy must cost the lease. Looking at Docker is the
//! [`crate::loops::sweeper`]'s.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use trainyard_store::fleet::figures::{ATTEMPTS_ADOPTED, LEASES_LOST};
use trainyard_store::{ClaimRequest, Error, Store, answered_within};

use crate::health::leadership::Leadership;
use crate::health::lease::Lease;
use crate::health::neighbours::Neighbours;
use crate::loops::dispatcher::Dispatcher;

/// The time between two looks: a third of the lease.
pub const TICK: Duration = Duration::from_secs(5);

/// The time until a look that failed is tried again: a tick later, the lease might have lapsed over one lost
/// answer.
const AGAIN: Duration = Duration::from_secs(1);

/// How long after a claim its supervisor may take to begin, before the attempt counts as forgotten.
/// Between the claim's commit and its supervisor lie a few reads. Should they ever take longer, the late
/// supervisor has the older fence, and is told so before it starts anything.
const ATTEND_WITHIN: Duration = Duration::from_secs(15);

/// How long after the end of an attempt its supervisor usually knows that it has recorded it: the answer to the
/// commit may be on its way, or be lost. Where it takes longer, letting go does no harm.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// How often it is told that attempts wait for a daemon that reaches their engine.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How long the database may take to answer a question. A connection whose other end fell silent never
/// fails by itself; it is given up, and another one is tried while the lease still holds.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long taking over may take: there may be thousands of attempts to be read.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(60);

/// Keeps the attempts of one daemon.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    dispatcher: Dispatcher,
    lease: Lease,
    lease_length: Duration,
    leadership: Leadership,
    neighbours: Mutex<Neighbours>,
    /// Whether all was let go since attempts were last looked after.
    has_lapsed: AtomicBool,
    lapsed: Notify,
}

impl Keeper {
    /// A keeper beside `dispatcher`.
    #[must_use]
    pub fn new(
        store: Store,
        dispatcher: Dispatcher,
        lease: Lease,
        lease_length: Duration,
        leadership: Leadership,
    ) -> Self {
        Self {
            store,
            dispatcher,
            lease,
            lease_length,
            leadership,
            neighbours: Mutex::default(),
            has_lapsed: AtomicBool::new(false),
            lapsed: Notify::new(),
        }
    }

    /// Runs until `shutdown`. Renewing and looking after attempts wait for different connections, and not for
    /// each other: however long the work of others holds up the one, the lease is kept.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.renew_in_time() => {}
            () = self.look_in_time() => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Renews for as long as this daemon is one.
    async fn renew_in_time(&self) {
        loop {
            let wait = match self.renew().await {
                Ok(()) => TICK,
                Err(problem @ Error::NotFound { .. }) => {
                    error!(daemon.id = %self.dispatcher.daemon(), error = %problem, "another daemon replaced this one; no longer renewing the lease");
                    return;
                }
                Err(problem) => {
                    error!(daemon.id = %self.dispatcher.daemon(), error = %problem, "the lease could not be renewed; trying again");
                    AGAIN
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Passes stops on and takes over, on a hint and from time to time.
    async fn look_in_time(&self) {
        let mut next_full = Instant::now();
        let mut next_telling = Instant::now() + TELL_EVERY;
        let mut wake = self.store.wakes().supervise.subscribe();
        loop {
            if let Err(problem) = self.pass_stops_on().await {
                warn!(error = %problem, "stop requests could not be read; trying again");
            }
            if Instant::now() >= next_full {
                next_full = Instant::now() + TICK;
                if let Err(problem) = self.take_over().await {
                    error!(error = %problem, "attempts could not be looked after; trying again");
                    next_full = Instant::now() + AGAIN;
                }
            }
            if Instant::now() >= next_telling {
                next_telling = Instant::now() + TELL_EVERY;
                if let Err(problem) = self.tell_left_behind().await {
                    warn!(error = %problem, "could not look for attempts that no daemon can adopt");
                }
            }
            tokio::select! {
                () = wake.woken() => {}
                () = self.lapsed.notified() => next_full = Instant::now(),
                () = tokio::time::sleep_until(next_full) => {}
            }
        }
    }

    /// Renews the lease, and what this daemon leads.
    ///
    /// # Errors
    /// The database does not answer; `NotFound` where another daemon has taken this one's place.
    pub async fn renew(&self) -> Result<(), Error> {
        let daemon = self.dispatcher.daemon();
        let asked = Instant::now();
        let renewal = self.store.renew_leases(daemon, self.lease_length);
        answered_within(ANSWER_WITHIN, renewal).await?;
        if self.lease.renewed(asked, self.lease_length) {
            LEASES_LOST.add(1);
            warn!(daemon.id = %daemon, "the lease had expired; adopting again what no other daemon holds");
            self.has_lapsed.store(true, Ordering::Relaxed);
            self.lapsed.notify_one();
        }
        let roles = self.store.lead(daemon, self.lease_length);
        self.leadership
            .set(answered_within(ANSWER_WITHIN, roles).await?);
        Ok(())
    }

    /// Lets go of what has ended, and takes over what nobody attends to: attempts of daemons that are gone, and
    /// its own that it let go.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn take_over(&self) -> Result<(), Error> {
        let request = self.dispatcher.request().clone();
        let has_lapsed = self.has_lapsed.swap(false, Ordering::Relaxed);
        let taken = self.adopt(&request, has_lapsed).await;
        if has_lapsed && taken.is_err() {
            self.has_lapsed.store(true, Ordering::Relaxed);
        }
        taken
    }

    async fn adopt(&self, request: &ClaimRequest, has_lapsed: bool) -> Result<(), Error> {
        // After a lapse all was let go; otherwise a claim may be on its way to its supervisor.
        let attend_within = if has_lapsed {
            Duration::ZERO
        } else {
            ATTEND_WITHIN
        };
        let attended = self.dispatcher.supervised();
        let ended = self.store.ended_before(&attended, KNOWN_WITHIN);
        for attempt in answered_within(ANSWER_WITHIN, ended).await? {
            self.dispatcher.let_go_of_ended(attempt);
        }
        let leases = self.store.leases_of_others(request.daemon);
        let leases = answered_within(ANSWER_WITHIN, leases).await?;
        let spared = self
            .neighbours
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look(&leases, Instant::now());
        let adopted = self
            .store
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
        self.dispatcher.take(adopted);
        self.dispatcher.claim_from_now_on();
        Ok(())
    }

    /// Tells of what daemons that are gone left at engines that this one does not reach: nobody here can take
    /// it over.
    async fn tell_left_behind(&self) -> Result<(), Error> {
        let left = self.store.left_behind(self.dispatcher.request());
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
        let requests = self.store.stop_requests(self.dispatcher.daemon());
        for (attempt, _, why) in answered_within(ANSWER_WITHIN, requests).await? {
            if let Some(signal) = self.dispatcher.signal(attempt) {
                signal.stop(why);
            }
        }
        Ok(())
    }
}

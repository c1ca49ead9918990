//! The dispatcher: claims attempts as capacity permits and starts a supervisor for each.
//!
//! The end of an attempt frees its slot and may make others ready. The transaction that records it also claims the
//! next attempts, so a chain of stages never waits for this loop. The loop claims the rest: attempts of runs that were
//! started or planned, and capacity freed elsewhere.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, error_span, warn};
use trainyard_core::id::{AttemptId, DaemonId, Fence, InstanceId, RunId};
use trainyard_executor::{AnyExecutor, Attempts};
use trainyard_store::{Claim, ClaimRequest, Subject, Weight};

use crate::attempt::allowance::Allowances;
use crate::attempt::assignment::Assignment;
use crate::attempt::store_ledger::StoreLedger;
use crate::attempt::supervisor::{StopSignal, Supervised, Surroundings, supervise};
use crate::health::engine_watch::EngineWatch;
use crate::health::guarded::Guarded;
use crate::health::lease::{Lease, Tenure};
use crate::health::panics::panic_text;
use crate::records::{Records, StoreRecords};
use crate::tasks;

/// The longest time between two passes, in case every wake is lost.
const TICK: Duration = Duration::from_secs(2);

/// Claims and starts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dispatcher<R = StoreRecords, E = AnyExecutor> {
    shared: Arc<Shared<R, E>>,
}

#[derive(Debug)]
struct Shared<R, E> {
    records: R,
    surroundings: Surroundings<E>,
    request: ClaimRequest,
    allowances: Allowances,
    instance: InstanceId,
    lease: Lease,
    watch: EngineWatch,
    supervisors: TaskTracker,
    /// Cancelled once the attempts of earlier daemons were adopted.
    has_adopted: CancellationToken,
    shutdown: CancellationToken,
    /// The attempts that this daemon supervises.
    board: Mutex<BTreeMap<AttemptId, Supervision>>,
}

#[derive(Debug)]
struct Supervision {
    fence: Fence,
    signal: StopSignal,
    /// Whether its supervisor has recorded its end, and is about to remove its container.
    recorded: bool,
    /// Ends its supervision.
    unsupervised: CancellationToken,
}

impl<R: Records, E: Attempts + Clone + 'static> Dispatcher<R, E> {
    /// A dispatcher that claims by `request`. Supervision ends at `shutdown`, and when the lease lapses.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of its own, wired once"
    )]
    pub fn new(
        records: R,
        surroundings: Surroundings<E>,
        instance: InstanceId,
        request: ClaimRequest,
        allowances: Allowances,
        lease: Lease,
        watch: EngineWatch,
        shutdown: CancellationToken,
    ) -> Self {
        let shared = Shared {
            records,
            surroundings,
            request,
            allowances,
            instance,
            lease,
            watch,
            supervisors: TaskTracker::new(),
            has_adopted: CancellationToken::new(),
            shutdown,
            board: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Runs until shutdown, then waits for the supervisors to end. Claims nothing before the attempts that an earlier
    /// daemon left running were adopted: they take their part of the capacity.
    pub async fn run(self) {
        let shared = &self.shared;
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => {}
            () = shared.has_adopted.cancelled() => {}
        }
        let mut wake = shared.records.wakes().dispatch.subscribe();
        while !shared.shutdown.is_cancelled() {
            let wait = match self.pass().await {
                Ok(_) => TICK,
                Err(error) => {
                    let now = Instant::now().into_std();
                    shared.records.health().note_refusal(&error, now);
                    error!(%error, "attempts could not be claimed; will retry");
                    Duration::from_millis(500)
                }
            };
            tokio::select! {
                biased;
                () = shared.shutdown.cancelled() => {}
                () = wake.woken() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        shared.supervisors.close();
        shared.supervisors.wait().await;
    }

    /// Claims the attempts that may start now, and starts them. Returns how many.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn pass(&self) -> Result<usize, trainyard_store::Error> {
        if !self.shared.lease.is_held() {
            return Ok(0);
        }
        let claims = self.shared.records.claim(&self.shared.request).await?;
        let count = claims.len();
        self.start_supervisors(claims);
        Ok(count)
    }

    /// Starts a supervisor for each claim.
    pub fn start_supervisors(&self, claims: Vec<Claim>) {
        for claim in claims {
            // Without a parent: a claim at the end of an attempt happens within that attempt's span. At the level of
            // errors, so that log lines have their ids whatever is filtered.
            let span = error_span!(
                parent: None,
                "attempt",
                run.id = claim.run.facts.id.0,
                stage = %claim.pinned.dag.stage(claim.reference.stage).name,
                attempt.id = %claim.attempt,
            );
            let dispatcher = self.clone();
            let signal = StopSignal::new();
            let unsupervised = CancellationToken::new();
            let entry = Supervision {
                fence: claim.fence,
                signal: signal.clone(),
                recorded: false,
                unsupervised: unsupervised.clone(),
            };
            self.board().insert(claim.attempt, entry);
            let shutdown = self.shared.shutdown.clone();
            let tenure = self.shared.lease.tenure();
            let work = async move {
                let (run, attempt, fence) = (claim.run.facts.id, claim.attempt, claim.fence);
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {}
                    () = tenure.over() => {
                        warn!("the lease expired; no longer supervising the attempt");
                    }
                    () = unsupervised.cancelled() => {
                        warn!("the attempt was abandoned or quarantined; no longer supervising it");
                    }
                    done = AssertUnwindSafe(dispatcher.supervise(claim, &signal, &tenure)).catch_unwind() => {
                        if let Err(panic) = done {
                            let text = panic_text(&*panic).to_owned();
                            drop(panic);
                            dispatcher.panicked(run, &text).await;
                        }
                    }
                }
                dispatcher.forget(attempt, fence);
            };
            let task = tasks::task(work.instrument(span));
            self.shared.supervisors.spawn(task);
        }
    }

    /// Records that a supervisor panicked. Its attempt is adopted like any attempt without a supervisor, unless its
    /// run is quarantined by then.
    async fn panicked(&self, run: RunId, text: &str) {
        let reason = format!("its supervisor panicked: {text}");
        let recorded = self
            .shared
            .records
            .record_trouble(Subject::Run(run), "supervision", &reason, Weight::Suspect)
            .await;
        if let Err(error) = recorded {
            error!(%error, %run, reason, "could not record a failure of a run");
        }
    }

    /// Supervises one claim, and starts what was claimed with the record of its end.
    async fn supervise(&self, claim: Claim, signal: &StopSignal, tenure: &Tenure) {
        let shared = &self.shared;
        let ledger = StoreLedger {
            records: &shared.records,
            claim: &claim,
            request: &shared.request,
            allowances: &shared.allowances,
        };
        let assignment = assignment(shared.instance, &claim);
        // Until the container is gone: the next stage has usually started by then, and shares the source archive.
        let held = R::Held::default();
        let supplies = shared.records.supplies(&claim, &assignment, &held).await;
        let executor = shared.surroundings.executor.clone();
        let executor = Guarded::new(executor, shared.watch.clone()).during(tenure.clone());
        let surroundings = shared.surroundings.with_executor(executor);
        let supervised = Box::pin(supervise(
            &surroundings,
            &assignment,
            supplies,
            &ledger,
            signal,
        ))
        .await;
        if let Supervised::Finished { next, container } = supervised {
            self.recorded(claim.attempt, claim.fence);
            self.start_supervisors(next);
            if let Some(container) = container {
                surroundings.remove(&container, &ledger).await;
            }
        }
    }

    /// The attempts that this daemon supervises.
    #[must_use]
    pub fn supervised(&self) -> Vec<AttemptId> {
        self.board().keys().copied().collect()
    }

    /// The signals of all its supervisors.
    #[must_use]
    pub fn signals(&self) -> Vec<(AttemptId, StopSignal)> {
        let board = self.board();
        let signals = board.iter();
        signals
            .map(|(attempt, entry)| (*attempt, entry.signal.clone()))
            .collect()
    }

    /// The signal of the supervisor of an attempt.
    #[must_use]
    pub fn signal(&self, attempt: AttemptId) -> Option<StopSignal> {
        self.board().get(&attempt).map(|entry| entry.signal.clone())
    }

    /// Allows claims: adoption is complete.
    pub fn claim_from_now_on(&self) {
        self.shared.has_adopted.cancel();
    }

    /// Records that the supervisor of a claim has recorded its end.
    fn recorded(&self, attempt: AttemptId, fence: Fence) {
        let mut board = self.board();
        if let Some(entry) = board.get_mut(&attempt).filter(|entry| entry.fence == fence) {
            entry.recorded = true;
        }
    }

    /// Ends supervision of an attempt that has ended, unless its supervisor recorded the end and only removes the
    /// container: a supervisor that did not record it may wait for a Docker engine that never reports the end.
    pub fn stop_supervising_ended(&self, attempt: AttemptId) {
        if let Some(entry) = self.board().get(&attempt).filter(|entry| !entry.recorded) {
            entry.unsupervised.cancel();
        }
    }

    /// How attempts are claimed.
    #[must_use]
    pub fn request(&self) -> &ClaimRequest {
        &self.shared.request
    }

    /// How long a program has between SIGTERM and SIGKILL.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.shared.surroundings.grace
    }

    #[must_use]
    pub fn daemon(&self) -> DaemonId {
        self.shared.request.daemon
    }

    fn forget(&self, attempt: AttemptId, fence: Fence) {
        let mut board = self.board();
        if board
            .get(&attempt)
            .is_some_and(|entry| entry.fence == fence)
        {
            board.remove(&attempt);
        }
    }

    fn board(&self) -> std::sync::MutexGuard<'_, BTreeMap<AttemptId, Supervision>> {
        self.shared
            .board
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn assignment(instance: InstanceId, claim: &Claim) -> Assignment {
    Assignment {
        instance,
        repo: Some(claim.pinned.repo),
        attempt: claim.attempt,
        fence: claim.fence,
        reference: claim.reference,
        dag: claim.pinned.dag.clone(),
        run: claim.run.clone(),
        adopted: claim.adopted.clone(),
    }
}

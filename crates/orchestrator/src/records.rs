//! What the loops around attempts ask of a daemon's database and files, so that a simulation can answer instead.
//!
//! The planner, the dispatcher and its supervisors, the keeper, the sweeper and the guard use [`Records`] alone.
//! [`StoreRecords`] are those of a daemon; each call is the store's call of that name. The scheduler, the watcher and
//! the pruner use the store itself.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::event::Event;
use trainyard_core::id::{AttemptId, DaemonId, Fence, RunId};
use trainyard_store::{
    Advanced, Blobs, Claim, ClaimRequest, DaemonHealth, Finished, FinishedAttempt, LeaseSeen,
    LeftBehind, LogChunk, NextWake, RecordedAttempt, Result, Role, StopRequest, Store, Subject,
    Wakes, Weight,
};

use crate::attempt::assignment::Assignment;
use crate::attempt::claim_supplies::ClaimSupplies;
use crate::attempt::sources::{Archive, Sources};
use crate::attempt::supplies::Supplies;

macro_rules! records {
    ($($call:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        /// The records of one daemon. Cheap to clone; all clones are the same.
        pub trait Records: Clone + Send + Sync + 'static {
            /// What is held of an attempt's supplies until its container is gone.
            type Held: Default + Send + Sync;

            fn wakes(&self) -> &Wakes;

            fn health(&self) -> &DaemonHealth;

            /// Everything that a claimed attempt's container is created with.
            fn supplies<'a>(
                &'a self,
                claim: &'a Claim,
                assignment: &'a Assignment,
                held: &'a Self::Held,
            ) -> impl Future<Output = impl Supplies> + Send;

            /// Moves a collected file into the artifact store.
            fn keep(
                &self,
                file: &Path,
                content: &ArtifactContent,
            ) -> impl Future<Output = Result<()>> + Send;

            $(fn $call(&self, $($argument: $kind),*) -> impl Future<Output = Result<$answer>> + Send;)*
        }

        impl Records for StoreRecords {
            type Held = OnceLock<Archive>;

            fn wakes(&self) -> &Wakes {
                self.store.wakes()
            }

            fn health(&self) -> &DaemonHealth {
                self.store.health()
            }

            fn supplies<'a>(
                &'a self,
                claim: &'a Claim,
                assignment: &'a Assignment,
                held: &'a Self::Held,
            ) -> impl Future<Output = impl Supplies> + Send {
                ClaimSupplies::new(self, held, claim, assignment)
            }

            fn keep(
                &self,
                file: &Path,
                content: &ArtifactContent,
            ) -> impl Future<Output = Result<()>> + Send {
                self.blobs.ingest(file, &content.sha256, content.size)
            }

            $(fn $call(&self, $($argument: $kind),*) -> impl Future<Output = Result<$answer>> + Send {
                self.store.$call($($argument),*)
            })*
        }
    };
}

records! {
    // The planner.
    due_runs(limit: u32) -> Vec<RunId>;
    plan(run: RunId) -> Advanced;
    look_again() -> ();
    next_wake() -> NextWake;

    // The dispatcher, and the ledger of its supervisors.
    claim(request: &ClaimRequest) -> Vec<Claim>;
    save_handle(attempt: AttemptId, fence: Fence, handle: &str, spec_hash: &str, notes: &[String]) -> ();
    mark_started(attempt: AttemptId, fence: Fence, image: Option<&str>, since: Option<Timestamp>) -> ();
    append_log(attempt: AttemptId, fence: Fence, chunks: &[LogChunk]) -> ();
    advance(run: RunId, events: &[Event]) -> Advanced;
    kept_by_run(run: RunId) -> u64;
    finish_attempt(finished: FinishedAttempt, claim: Option<ClaimRequest>) -> Finished;
    mark_removed(attempt: AttemptId) -> ();
    record_trouble(subject: Subject, place: &str, reason: &str, weight: Weight) -> bool;

    // The keeper.
    renew_leases(daemon: DaemonId, lease: Duration) -> ();
    lead(daemon: DaemonId, lease: Duration) -> BTreeSet<Role>;
    stop_requests(daemon: DaemonId) -> Vec<StopRequest>;
    ended_before(attempts: &[AttemptId], ago: Duration) -> Vec<AttemptId>;
    leases_of_others(daemon: DaemonId) -> Vec<LeaseSeen>;
    adoptable(
        request: &ClaimRequest, attended: &[AttemptId], attend_within: Duration, spared: &[DaemonId]
    ) -> Vec<Claim>;
    left_behind(request: &ClaimRequest) -> Vec<LeftBehind>;

    // The sweeper.
    unremoved(request: &ClaimRequest, limit: u32) -> Vec<AttemptId>;
    known_attempts(attempts: &[AttemptId]) -> HashMap<AttemptId, RecordedAttempt>;

    // The guard.
    leaderless_for(role: Role) -> Option<Duration>;
    publish_health(daemon: DaemonId) -> ();
}

/// The database, the artifact folder and the source archives of a daemon.
#[derive(Debug, Clone)]
pub struct StoreRecords {
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) sources: Sources,
}

impl StoreRecords {
    #[must_use]
    pub fn new(store: Store, blobs: Blobs, sources: Sources) -> Self {
        Self {
            store,
            blobs,
            sources,
        }
    }
}

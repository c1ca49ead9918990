//! The records of a simulated daemon: its connection to the store, whose statements and answers may get lost.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::artifact::{ArtifactContent, ArtifactKind};
use trainyard_core::event::Event;
use trainyard_core::id::{AttemptId, DaemonId, Fence, RunId};
use trainyard_core::outcome::Reason;
use trainyard_core::render::RenderedStage;
use trainyard_executor::{InputSpec, LocalFile};
use trainyard_orchestrator::attempt::assignment::{Assignment, Materials};
use trainyard_orchestrator::attempt::supplies::Supplies;
use trainyard_orchestrator::records::Records;
use trainyard_store::{
    Advanced, Claim, ClaimRequest, DaemonHealth, Error, Finished, FinishedAttempt, LeaseSeen,
    LeftBehind, LogChunk, NextWake, RecordedAttempt, Result, Role, StopRequest, Subject, Wakes,
    Weight,
};

use crate::network::exchange;
use crate::process::{self, Peer, Process};
use crate::store::Store;
use crate::world::{Invariant, World};
use crate::{docker, held};

/// How long a statement is waited for.
const DEADLINE: Duration = Duration::from_secs(10);

/// A connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SimulatedRecords {
    world: Arc<World>,
    process: Arc<Process>,
    store: Arc<Mutex<Store>>,
    wakes: Wakes,
    health: Arc<DaemonHealth>,
}

impl SimulatedRecords {
    pub(crate) fn new(world: Arc<World>, process: Arc<Process>, store: Arc<Mutex<Store>>) -> Self {
        Self {
            world,
            process,
            store,
            wakes: Wakes::default(),
            health: Arc::default(),
        }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Makes the daemon of a host known.
    pub(crate) async fn register(&self, host: usize, lease: Duration) -> Result<DaemonId> {
        let wakes = self.wakes.clone();
        self.call(move |store| Ok(store.register(host, lease, wakes)))
            .await
    }

    /// A transaction, of which only the request or the answer can be lost.
    async fn call<T: Send + 'static>(
        &self,
        transaction: impl FnOnce(&mut Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.store);
        let effect = move |_| {
            let mut store = held(&store);
            (!store.down).then(|| transaction(&mut store))
        };
        let answer = exchange(&self.world, &self.process, Peer::Store, DEADLINE, effect).await;
        let answer = answer.ok().flatten();
        let answer = answer.unwrap_or_else(|| Err(Error::silent(DEADLINE)));
        if let (Err(Error::Fenced), Some(claim)) = (&answer, process::claim()) {
            claim.fenced_off.store(true, Ordering::Relaxed);
        }
        answer
    }
}

/// Calls that are one transaction each. It owns what it takes with it: it arrives even if its sender is gone.
macro_rules! transactions {
    ($($call:ident($($argument:ident: $kind:ty),*) -> $answer:ty = $transaction:expr;)*) => {$(
        async fn $call(&self, $($argument: $kind),*) -> Result<$answer> {
            self.call($transaction).await
        }
    )*};
}

impl Records for SimulatedRecords {
    type Held = ();

    fn wakes(&self) -> &Wakes {
        &self.wakes
    }

    fn health(&self) -> &DaemonHealth {
        &self.health
    }

    async fn supplies<'a>(
        &'a self,
        claim: &'a Claim,
        assignment: &'a Assignment,
        (): &'a (),
    ) -> impl Supplies {
        process::supervise(docker::Claim {
            attempt: claim.attempt,
            fence: claim.fence,
            run: claim.run.facts.id.0.unsigned_abs(),
            stage: assignment.stage().name.to_string(),
            number: claim.reference.number,
            fenced_off: AtomicBool::new(false),
        });
        materials(assignment)
    }

    async fn keep(&self, _file: &Path, _content: &ArtifactContent) -> Result<()> {
        Ok(())
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>> {
        if self.health.pauses_claims() {
            return Ok(Vec::new());
        }
        let request = request.clone();
        self.call(move |store| Ok(store.claim(&request))).await
    }

    async fn finish_attempt(
        &self,
        finished: FinishedAttempt,
        claim: Option<ClaimRequest>,
    ) -> Result<Finished> {
        let claim = claim.filter(|_| !self.health.pauses_claims());
        self.call(move |store| store.finish(finished, claim.as_ref()))
            .await
    }

    async fn record_trouble(
        &self,
        _subject: Subject,
        place: &str,
        reason: &str,
        _weight: Weight,
    ) -> Result<bool> {
        let what = format!("{place} failed: {reason}");
        self.world.violate(Invariant::CoreAgrees, what);
        Ok(false)
    }

    transactions! {
        due_runs(limit: u32) -> Vec<RunId> = move |store| Ok(store.due_runs(limit));
        plan(run: RunId) -> Advanced = move |store| Ok(store.plan(run));
        look_again() -> () = Store::look_again;
        next_wake() -> NextWake = |store| Ok(store.next_wake());

        save_handle(attempt: AttemptId, fence: Fence, handle: &str, _hash: &str, _notes: &[String]) -> () = {
            let handle = handle.to_owned();
            move |store| store.created(attempt, fence, handle)
        };
        mark_started(attempt: AttemptId, fence: Fence, image: Option<&str>, since: Option<Timestamp>) -> () = {
            let image = image.map(ToOwned::to_owned);
            move |store| store.started(attempt, fence, image, since)
        };
        append_log(attempt: AttemptId, fence: Fence, chunks: &[LogChunk]) -> () = {
            let chunks = chunks.to_vec();
            move |store| store.append_log(attempt, fence, &chunks)
        };
        advance(run: RunId, events: &[Event]) -> Advanced = {
            let events = events.to_vec();
            move |store| Ok(store.tell(run, &events))
        };
        kept_by_run(_run: RunId) -> u64 = |_| Ok(0);
        mark_removed(attempt: AttemptId) -> () = move |store| store.removed(attempt);

        renew_leases(daemon: DaemonId, lease: Duration) -> () = move |store| store.renew(daemon, lease);
        lead(_daemon: DaemonId, _lease: Duration) -> BTreeSet<Role> = |_| Ok(BTreeSet::new());
        stop_requests(daemon: DaemonId) -> Vec<StopRequest> = move |store| Ok(store.stop_requests(daemon));
        ended_before(attempts: &[AttemptId], ago: Duration) -> Vec<AttemptId> = {
            let attempts = attempts.to_vec();
            move |store| Ok(store.ended_before(attempts, ago))
        };
        leases_of_others(daemon: DaemonId) -> Vec<LeaseSeen> = move |store| Ok(store.leases_of_others(daemon));
        adoptable(
            request: &ClaimRequest, attended: &[AttemptId], attend_within: Duration, spared: &[DaemonId]
        ) -> Vec<Claim> = {
            let (daemon, attended, spared) = (request.daemon, attended.to_vec(), spared.to_vec());
            move |store| Ok(store.adopt(daemon, &attended, attend_within, &spared))
        };
        left_behind(_request: &ClaimRequest) -> Vec<LeftBehind> = |_| Ok(Vec::new());

        unremoved(_request: &ClaimRequest, limit: u32) -> Vec<AttemptId> = move |store| Ok(store.unremoved(limit));
        known_attempts(attempts: &[AttemptId]) -> HashMap<AttemptId, RecordedAttempt> = {
            let attempts = attempts.to_vec();
            move |store| Ok(store.known(&attempts))
        };

        leaderless_for(_role: Role) -> Option<Duration> = |_| Ok(None);
        publish_health(_daemon: DaemonId) -> () = |_| Ok(());
    }
}

/// Every input is there, and empty.
fn materials(assignment: &Assignment) -> Result<(RenderedStage, Materials), Reason> {
    let rendered = assignment.render()?;
    let inputs = &assignment.stage().program().inputs;
    let inputs = inputs.keys().map(|name| InputSpec {
        name: name.clone(),
        content: ArtifactContent {
            kind: ArtifactKind::File,
            sha256: "00".repeat(32),
            size: 0,
        },
        blob: LocalFile::blob("/nowhere"),
    });
    let materials = Materials {
        inputs: inputs.collect(),
        ..Materials::default()
    };
    Ok((rendered, materials))
}

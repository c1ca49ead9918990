//! The store: what Postgres holds of runs, attempts and daemons, and its transactions.
//!
//! A transaction is one call of a method here: it happens as a whole or not at all. Writes that the
//! real store makes without waiting for the disk can be lost in a crash, until a durable one follows.
//! Every write for an attempt carries its fence.

mod advance;
mod claim;
mod crash;
mod progress;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::dag::Dag;
use trainyard_core::event::Event;
use trainyard_core::id::{AttemptId, DaemonId, DagId, DagVersionId, Fence, RepoId, RunId};
use trainyard_core::name::{PoolName, RepoName};
use trainyard_core::outcome::Outcome;
use trainyard_core::run::{AttemptRef, AttemptState, Run, RunFacts};
use trainyard_executor::LogCursor;
use trainyard_store::{
    Advanced, ClaimRequest, Concern, Error, Finished, FinishedAttempt, LeaseSeen, PinnedDag,
    Result, Wakes,
};
use uuid::Uuid;

use self::crash::Undo;
use crate::held;
use crate::settings::Mutation;
use crate::world::{Invariant, World};

/// How many attempts a daemon may hold at the same time.
pub(crate) const SLOTS: u32 = 3;

pub(crate) struct Store {
    world: Arc<World>,
    pub(crate) down: bool,
    dags: Vec<Arc<PinnedDag>>,
    pub(crate) runs: BTreeMap<RunId, RunRow>,
    pub(crate) attempts: BTreeMap<AttemptId, AttemptRow>,
    daemons: BTreeMap<DaemonId, DaemonRow>,
    fence: i64,
    undo: Vec<Undo>,
    /// DAGs of which a run has ended, so that another may start.
    to_judge: Vec<usize>,
    /// Its clock, less the true time.
    offset: chrono::Duration,
    pools: BTreeMap<PoolName, u32>,
}

pub(crate) struct RunRow {
    pub(crate) dag_place: usize,
    pub(crate) pinned: Arc<PinnedDag>,
    pub(crate) run: Run,
    wake_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(crate) struct AttemptRow {
    pub(crate) run: RunId,
    pub(crate) reference: AttemptRef,
    pub(crate) stage: String,
    pub(crate) owner: Option<DaemonId>,
    pub(crate) fence: Fence,
    queued_at: Timestamp,
    claimed_at: Option<Timestamp>,
    handle: Option<String>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    pub(crate) removed: bool,
    pub(crate) log: Vec<u8>,
    cursor: Option<LogCursor>,
    last_piece: Vec<u8>,
}

impl AttemptRow {
    pub(crate) fn is_finished(&self) -> bool {
        self.finished_at.is_some()
    }

    /// Whether a daemon holds it: it is claimed and has not ended.
    fn is_held(&self) -> bool {
        self.owner.is_some() && !self.is_finished()
    }
}

struct DaemonRow {
    host: usize,
    stopped: bool,
    lease: Duration,
    lease_until: Timestamp,
    /// Hints to it that there is something to do. They may get lost.
    wakes: Wakes,
}

impl Store {
    pub(crate) fn new(world: Arc<World>, dags: Vec<Dag>) -> Self {
        let offset = world.draw(|random| random.pick(&[0, 0, 0, 7_000, -500_000]));
        Self {
            world,
            down: false,
            dags: dags.into_iter().enumerate().map(pinned).collect(),
            runs: BTreeMap::new(),
            attempts: BTreeMap::new(),
            daemons: BTreeMap::new(),
            fence: 0,
            undo: Vec::new(),
            to_judge: Vec::new(),
            offset: chrono::Duration::milliseconds(offset),
            pools: crate::dags::pools(),
        }
    }

    fn now(&self) -> Timestamp {
        self.world.now() + self.offset
    }

    pub(crate) fn jump(&mut self, by: chrono::Duration) {
        self.world
            .note(|| format!("the store's clock jumps by {by}"));
        self.offset += by;
    }

    fn wake(&self, concern: Concern) {
        for daemon in self.daemons.values().filter(|daemon| !daemon.stopped) {
            if !self.world.strikes(|weather| weather.lose_wake) {
                daemon.wakes.of(concern).wake();
            }
        }
    }

    /// A cause makes a run.
    pub(crate) fn make_run(&mut self, dag_place: usize) {
        let id = RunId(i64::try_from(self.runs.len() + 1).unwrap_or_default());
        let pinned = Arc::clone(&self.dags[dag_place]);
        let now = self.now();
        let facts = RunFacts {
            id,
            repo: None,
            dag: pinned.dag.name().clone(),
            cause: "manual".to_owned(),
            commit: String::new(),
            branch: None,
            logical_time: now,
            params: BTreeMap::new(),
        };
        let row = RunRow {
            dag_place,
            run: Run::new(&pinned.dag, facts),
            pinned,
            wake_at: Some(now),
        };
        self.world
            .note(|| format!("run {id} of dag{dag_place} is made"));
        self.runs.insert(id, row);
        self.undo.clear();
        self.wake(Concern::Plan);
    }

    /// Events of a run come from outside.
    pub(crate) fn tell(&mut self, run: RunId, events: &[Event]) -> Advanced {
        self.undo.clear();
        let advanced = self.advance(run, events);
        self.settle();
        advanced
    }

    /// An operator abandons all attempts of a run.
    pub(crate) fn abandon(&mut self, run: RunId) {
        let held = self.attempts.values();
        let held = held.filter(|row| row.run == run && row.is_held());
        let events = held.map(|row| Event::AttemptAbandoned {
            attempt: row.reference,
            by: "ada".to_owned(),
            patience: Duration::ZERO,
            unattended: true,
        });
        let events: Vec<Event> = events.collect();
        self.tell(run, &events);
    }

    /// Makes a daemon known; earlier ones of its host are gone.
    pub(crate) fn register(&mut self, host: usize, lease: Duration, wakes: Wakes) -> DaemonId {
        for daemon in self
            .daemons
            .values_mut()
            .filter(|daemon| daemon.host == host)
        {
            daemon.stopped = true;
        }
        let id = DaemonId(Uuid::from_u128(1 + self.daemons.len() as u128));
        let row = DaemonRow {
            host,
            stopped: false,
            lease,
            lease_until: self.now() + lease,
            wakes,
        };
        self.daemons.insert(id, row);
        self.undo.clear();
        id
    }

    fn lives(&self, daemon: DaemonId) -> bool {
        let now = self.now();
        self.daemons
            .get(&daemon)
            .is_some_and(|row| !row.stopped && row.lease_until > now)
    }

    /// The row of an attempt, for a write under this fence.
    fn fenced(&mut self, attempt: AttemptId, fence: Fence) -> Result<&mut AttemptRow> {
        let ignores = self.world.has(Mutation::StoreIgnoresFences);
        let row = self.attempts.get_mut(&attempt);
        row.filter(|row| row.is_held() && (ignores || row.fence == fence))
            .ok_or(Error::Fenced)
    }

    fn attempt_state(&self, row: &AttemptRow) -> Option<&AttemptState> {
        let attempt = self.runs.get(&row.run)?.run.attempt(row.reference)?;
        Some(&attempt.state)
    }

    /// How an attempt ended, once that is recorded.
    pub(crate) fn outcome_of(&self, row: &AttemptRow) -> Option<Outcome> {
        self.runs
            .get(&row.run)?
            .run
            .attempt(row.reference)?
            .outcome()
    }

    /// Gives a claim a fence higher than all before.
    fn next_fence(&mut self, attempt: AttemptId) -> Fence {
        self.fence += 1;
        let fence = Fence(self.fence);
        let mut witness = held(&self.world.witness);
        let program = witness.of(attempt);
        let before = program.fence.replace(fence);
        self.world
            .demand(Invariant::Fences, before < Some(fence), || {
                format!(
                    "{} has fence {fence:?} after {before:?}",
                    crate::engine::short(attempt)
                )
            });
        fence
    }

    /// Records an end once, whatever becomes of the answer, and claims what may start then.
    pub(crate) fn finish(
        &mut self,
        finished: FinishedAttempt,
        claim: Option<&ClaimRequest>,
    ) -> Result<Finished> {
        let FinishedAttempt {
            run,
            attempt,
            fence,
            end,
            ..
        } = finished;
        let before = self
            .attempts
            .get(&attempt)
            .is_some_and(|row| row.is_finished() && row.fence == fence);
        let mut advanced = Advanced::default();
        if !before {
            let attempt = self.fenced(attempt, fence)?.reference;
            advanced = self.tell(run, &[Event::AttemptFinished { attempt, end }]);
        }
        let claims = claim.map_or_else(Vec::new, |request| self.claim(request));
        Ok(Finished {
            advanced,
            before,
            claims,
        })
    }

    /// Renews the lease of a daemon that was not declared gone, and cuts those of others to their length.
    pub(crate) fn renew(&mut self, daemon: DaemonId, lease: Duration) -> Result<()> {
        let now = self.now();
        let is_known = |row: &&mut DaemonRow| !row.stopped;
        let row = self.daemons.get_mut(&daemon).filter(is_known);
        let gone = || Error::NotFound {
            what: format!("daemon {daemon}"),
        };
        row.ok_or_else(gone)?.lease_until = now + lease;
        for (_, row) in self.daemons.iter_mut().filter(|(id, _)| **id != daemon) {
            row.lease_until = row.lease_until.min(now + row.lease);
        }
        Ok(())
    }

    pub(crate) fn leases_of_others(&self, daemon: DaemonId) -> Vec<LeaseSeen> {
        let others = self.daemons.iter();
        let others = others.filter(|(id, row)| **id != daemon && !row.stopped);
        let seen = others.map(|(id, row)| LeaseSeen {
            daemon: *id,
            until: row.lease_until,
            length: row.lease,
        });
        seen.collect()
    }

    /// Whether every run has ended.
    pub(crate) fn all_ended(&self) -> bool {
        self.runs.values().all(|row| row.run.is_finished())
    }
}

/// Each DAG is of a repo of its own.
fn pinned((place, dag): (usize, Dag)) -> Arc<PinnedDag> {
    let id = Uuid::from_u128(place as u128);
    Arc::new(PinnedDag {
        version: DagVersionId(id),
        dag_id: DagId(id),
        repo: RepoId(id),
        repo_name: RepoName::new(format!("repo{place}")).expect("a name"),
        commit: String::new(),
        path: String::new(),
        dag: Arc::new(dag),
        bytes: 0,
    })
}

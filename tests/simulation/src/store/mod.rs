//! The store: what Postgres holds of runs, attempts and daemons, and its transactions.
//!
//! A transaction is one call of a method here: it happens as a whole or not at all. Writes that the
//! real store makes without waiting for the disk can be lost in a crash, until a durable one follows.
//! Every write for an attempt carries its fence.

mod advance;
mod claim;
mod crash;
mod link;
mod progress;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use trainyard_core::Timestamp;
use trainyard_core::dag::Dag;
use trainyard_core::event::{AttemptEnd, Event};
use trainyard_core::id::{AttemptId, DaemonId, Fence, RunId};
use trainyard_core::name::PoolName;
use trainyard_core::outcome::Outcome;
use trainyard_core::run::{AttemptRef, AttemptState, Run, RunFacts};
use trainyard_executor::LogCursor;
use uuid::Uuid;

pub(crate) use self::claim::Claimed;
use self::crash::Undo;
pub(crate) use self::link::{Link, Unavailable};
pub(crate) use self::progress::Taken;
use crate::held;
use crate::settings::Mutation;
use crate::world::{Invariant, World};

/// How many attempts a daemon may hold at the same time.
pub(crate) const SLOTS: u32 = 3;

pub(crate) struct Store {
    world: Arc<World>,
    pub(crate) down: bool,
    dags: Vec<Arc<Dag>>,
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
    pub(crate) dag: Arc<Dag>,
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
    claimed_at: Option<Timestamp>,
    handle: Option<String>,
    started_at: Option<Timestamp>,
    pub(crate) ended: bool,
    pub(crate) removed: bool,
    pub(crate) log: Vec<u8>,
    cursor: Option<LogCursor>,
    last_piece: Vec<u8>,
}

struct DaemonRow {
    host: usize,
    stopped: bool,
    lease_until: Timestamp,
    wakes: Wakes,
}

/// Hints to one daemon that there is something to do. They may get lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wakes {
    /// Runs to plan, attempts to claim.
    pub(crate) dispatch: Arc<Notify>,
    pub(crate) supervise: Arc<Notify>,
}

/// Which loop a hint is for.
#[derive(Debug, Clone, Copy)]
enum Wake {
    Dispatch,
    Supervise,
}

impl Store {
    pub(crate) fn new(world: Arc<World>, dags: Vec<Dag>) -> Self {
        let offset = world.draw(|random| random.pick(&[0, 0, 0, 7_000, -500_000]));
        Self {
            world,
            down: false,
            dags: dags.into_iter().map(Arc::new).collect(),
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
        // The real planner finds that out at its next look, and so do those that come after it.
        let now = self.now();
        for row in self.runs.values_mut() {
            row.wake_at = row.wake_at.map(|at| at.min(now));
        }
    }

    fn wake(&self, whom: Wake) {
        for daemon in self.daemons.values().filter(|daemon| !daemon.stopped) {
            if !self.world.strikes(|weather| weather.lose_wake) {
                match whom {
                    Wake::Dispatch => daemon.wakes.dispatch.notify_one(),
                    Wake::Supervise => daemon.wakes.supervise.notify_one(),
                }
            }
        }
    }

    /// A cause makes a run.
    pub(crate) fn make_run(&mut self, dag_place: usize) {
        let id = RunId(i64::try_from(self.runs.len() + 1).unwrap_or_default());
        let dag = Arc::clone(&self.dags[dag_place]);
        let now = self.now();
        let facts = RunFacts {
            id,
            repo: None,
            dag: dag.name().clone(),
            cause: "manual".to_owned(),
            commit: String::new(),
            branch: None,
            logical_time: now,
            params: BTreeMap::new(),
        };
        let row = RunRow {
            dag_place,
            run: Run::new(&dag, facts),
            dag,
            wake_at: Some(now),
        };
        self.world
            .note(|| format!("run {id} of dag{dag_place} is made"));
        self.runs.insert(id, row);
        self.undo.clear();
        self.wake(Wake::Dispatch);
    }

    /// An event of a run comes from outside.
    pub(crate) fn tell(&mut self, run: RunId, event: &Event) {
        self.undo.clear();
        self.advance(run, std::slice::from_ref(event));
        self.settle();
    }

    /// An operator abandons all attempts of a run.
    pub(crate) fn abandon(&mut self, run: RunId) {
        let held = self
            .attempts
            .values()
            .filter(|row| row.run == run && row.owner.is_some() && !row.ended);
        let events = held.map(|row| Event::AttemptAbandoned {
            attempt: row.reference,
            by: "ada".to_owned(),
            patience: Duration::ZERO,
            unattended: true,
        });
        let events: Vec<Event> = events.collect();
        self.undo.clear();
        self.advance(run, &events);
        self.settle();
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

    /// Whether a write under this fence counts.
    fn fenced_in(&self, attempt: AttemptId, fence: Fence) -> bool {
        self.attempts.get(&attempt).is_some_and(|row| {
            !row.ended
                && row.owner.is_some()
                && (row.fence == fence || self.world.has(Mutation::StoreIgnoresFences))
        })
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

    /// Records an end once, whatever becomes of the answer.
    pub(crate) fn finish(&mut self, attempt: AttemptId, fence: Fence, end: AttemptEnd) -> Taken {
        let Some(row) = self.attempts.get(&attempt) else {
            return Taken::Fenced;
        };
        if row.ended {
            return if row.fence == fence {
                Taken::Before
            } else {
                Taken::Fenced
            };
        }
        if !self.fenced_in(attempt, fence) {
            return Taken::Fenced;
        }
        let (run, reference) = (row.run, row.reference);
        self.undo.clear();
        let event = Event::AttemptFinished {
            attempt: reference,
            end,
        };
        self.advance(run, &[event]);
        self.settle();
        Taken::Now
    }

    /// Whether every run has ended.
    pub(crate) fn all_ended(&self) -> bool {
        self.runs.values().all(|row| row.run.is_finished())
    }
}

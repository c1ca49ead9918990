//! `why`: what a stage waits for, or why it is as it is, in one line.
//!
//! It tells the same that [`crate::plan::plan`] and [`crate::admit::admit`] decide by, and decides
//! nothing. What other runs hold is an argument, [`Queue`], since a run's state does not know it.

mod line;

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::Timestamp;
use crate::admit::{Blocked, Capacity, Waiting};
use crate::dag::Dag;
use crate::id::{RepoId, RunId};
use crate::name::{PoolName, StageName};
use crate::outcome::{Outcome, Reason};
use crate::run::{AttemptRef, AttemptState, Run, RunPhase, StageRun, StageState};
use crate::stage::StageIndex;

/// The repo of the run that is asked about: a [`Queue`] knows no other.
const THE_REPO: RepoId = RepoId(Uuid::nil());

/// What stands between a run and its turn, seen from outside of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// When this was looked at; moments of another day are told with their date.
    pub now: Timestamp,
    /// How many attempts may run at the same time, over all daemons; 0 where none is running.
    pub slots: u32,
    pub slots_used: u32,
    /// How many are of the run's repo.
    pub repo_used: u32,
    /// How many of one repo may run at the same time; `None` is no bound.
    pub stages_of_a_repo: Option<u32>,
    /// The pools that are configured.
    pub pools: BTreeMap<PoolName, PoolUse>,
    /// Where the run has not started: the runs of its DAG, and group, that count against the concurrency limit
    /// or come before it, the oldest first.
    pub ahead: Vec<RunId>,
    /// Why no daemon starts anything new, where none does.
    pub paused: Vec<Paused>,
    /// The attempts of the run whose daemon is gone and that none has taken over, and since when.
    pub unattended: BTreeMap<AttemptRef, Timestamp>,
}

/// Something that keeps daemons from starting anything new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// What is so: `Docker does not answer`.
    pub what: String,
    pub since: Timestamp,
}

/// What is taken of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolUse {
    /// How many slots it has.
    pub slots: u32,
    /// Who holds some of them.
    pub holders: Vec<Holder>,
}

impl PoolUse {
    /// How many of its slots are taken.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.holders
            .iter()
            .fold(0, |used, holder| used.saturating_add(holder.slots))
    }
}

/// An attempt that holds slots of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub run: RunId,
    pub stage: StageName,
    pub slots: u32,
}

/// What a stage waits for, or how far it is. `Display` is the line that people see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Its run has not started: others of the same DAG have to end first.
    Runs {
        ahead: Vec<RunId>,
        /// How many runs of the DAG, or of the group, may be active.
        limit: u32,
        /// The group that they are in, where the DAG has groups.
        group: Option<String>,
    },
    /// Its run has not started, and nothing is in the way: the next look at it starts it.
    RunStart,
    /// Stages that it needs have not ended.
    Stages(Vec<Need>),
    /// All that it needs has ended; the next look at the run decides about it.
    Decision,
    /// All slots are in use.
    Slot {
        used: u32,
        /// Of how many; 0 where no daemon is running.
        slots: u32,
    },
    /// As many stages of its repo run as may.
    Repo { used: u32, most: u32 },
    /// A pool has not enough free slots.
    Pool {
        pool: PoolName,
        /// How many slots it takes.
        wanted: u32,
        taken: PoolUse,
    },
    /// It takes more slots of a pool than there are.
    PoolTooSmall {
        pool: PoolName,
        /// How many slots it takes.
        wanted: u32,
        /// How many the pool has.
        slots: u32,
    },
    /// It takes slots of a pool that no configuration defines.
    UnknownPool(PoolName),
    /// No daemon starts anything new now.
    Paused(Vec<(String, Moment)>),
    /// There is room for it: the next look at the queue starts it.
    Turn,
    /// Its container is being prepared.
    Preparing { attempt: u32, since: Moment },
    /// It runs.
    Running { attempt: u32, since: Moment },
    /// It was asked to stop.
    Stopping { since: Moment, why: Reason },
    /// It is being prepared, runs or is being stopped, but the daemon that held it is gone, and none has taken
    /// it over.
    Unattended { since: Moment, held: Box<Self> },
    /// It waits before its next attempt.
    BackOff {
        until: Moment,
        /// The number of the attempt that ended.
        attempt: u32,
        outcome: Outcome,
        /// Why, where there is more to say than the outcome.
        reason: Option<Reason>,
    },
    Ended {
        at: Moment,
        outcome: Outcome,
        /// Why, where there is more to say than the outcome.
        reason: Option<Reason>,
        /// How often it was tried.
        attempts: usize,
        /// The earlier run whose result stands in for running it again.
        reused_from: Option<RunId>,
    },
}

/// A stage that another one needs, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub stage: StageName,
    pub state: NeedState,
}

/// How far a stage is that another one needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NeedState {
    /// It waits for what it needs itself.
    Waiting,
    /// It waits for capacity.
    Queued,
    /// Its container is being prepared.
    Preparing,
    /// It runs: since when, and its attempt's number.
    Running(Moment, u32),
    /// It waits before its next attempt, until then.
    BackingOff(Moment),
    /// Its last attempt has ended, and is being decided about.
    Ending,
}

/// A moment as people see it: with its date unless that is today's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    at: Timestamp,
    now: Timestamp,
}

impl Moment {
    #[must_use]
    pub fn at(self) -> Timestamp {
        self.at
    }
}

/// What a stage waits for, or why it is as it is, in one line.
///
/// # Panics
/// If `stage` is not of this DAG, or `run` is a run of another one.
#[must_use]
pub fn why(dag: &Dag, run: &Run, stage: StageIndex, queue: &Queue) -> String {
    wait(dag, run, stage, queue).to_string()
}

/// What keeps a queued run from starting: what its first stage waits for that has not ended, as one with a reused
/// result has. `None` where all have ended.
///
/// # Panics
/// If `run` is a run of another DAG.
#[must_use]
pub fn why_not_started(dag: &Dag, run: &Run, queue: &Queue) -> Option<String> {
    let waits = |stage: &StageRun| stage.outcome().is_none();
    let first = run.stages.iter().position(waits)?;
    Some(why(dag, run, StageIndex(first), queue))
}

/// What a stage waits for, or how far it is.
///
/// # Panics
/// If `stage` is not of this DAG, or `run` is a run of another one.
#[must_use]
pub fn wait(dag: &Dag, run: &Run, stage: StageIndex, queue: &Queue) -> Wait {
    let moment = |at| Moment { at, now: queue.now };
    let state = &run.stages[stage.0];
    match &state.state {
        StageState::Finished {
            at,
            outcome,
            reason,
        } => Wait::Ended {
            at: moment(*at),
            outcome: *outcome,
            reason: reason.clone(),
            attempts: state.attempts.len(),
            reused_from: state.reused_from,
        },
        StageState::BackingOff { until } => {
            let last = run.last_attempt(stage);
            let (outcome, reason) = last.map_or((Outcome::Errored, None), |(_, last)| {
                match &last.state {
                    AttemptState::Finished {
                        outcome, reason, ..
                    } => (*outcome, reason.clone()),
                    // A stage backs off only after its attempt has ended.
                    AttemptState::Queued { .. }
                    | AttemptState::Claimed { .. }
                    | AttemptState::Running { .. } => (Outcome::Errored, None),
                }
            });
            Wait::BackOff {
                until: moment(*until),
                attempt: last.map_or(0, |(last, _)| last.number),
                outcome,
                reason,
            }
        }
        StageState::Waiting if run.phase == RunPhase::Queued => {
            match dag.declared().concurrency.limit {
                Some(limit) if queue.ahead.len() >= limit as usize => Wait::Runs {
                    ahead: queue.ahead.clone(),
                    limit,
                    group: dag.declared().concurrency.group_of(&run.facts_of_cause()),
                },
                Some(_) | None => Wait::RunStart,
            }
        }
        StageState::Waiting => {
            let needs: Vec<Need> = dag
                .needs(stage)
                .iter()
                .filter_map(|need| need_of(dag, run, *need, queue))
                .collect();
            if needs.is_empty() {
                Wait::Decision
            } else {
                Wait::Stages(needs)
            }
        }
        StageState::Active => active(dag, run, stage, queue),
    }
}

fn active(dag: &Dag, run: &Run, stage: StageIndex, queue: &Queue) -> Wait {
    let moment = |at| Moment { at, now: queue.now };
    let Some((reference, last)) = run.last_attempt(stage) else {
        return Wait::Decision;
    };
    let attempt = reference.number;
    let wait = match (&last.state, &last.stop) {
        (AttemptState::Queued { since }, _) => {
            let waiting = Waiting {
                repo: THE_REPO,
                run: run.facts.id,
                since: *since,
                pools: dag.stage(stage).pools.clone(),
            };
            capacity_wait(&waiting, queue)
        }
        (AttemptState::Claimed { .. } | AttemptState::Running { .. }, Some((asked, why))) => {
            Wait::Stopping {
                since: moment(*asked),
                why: why.clone(),
            }
        }
        (AttemptState::Claimed { since }, None) => Wait::Preparing {
            attempt,
            since: moment(*since),
        },
        (AttemptState::Running { since }, None) => Wait::Running {
            attempt,
            since: moment(*since),
        },
        (AttemptState::Finished { .. }, _) => Wait::Decision,
    };
    match queue.unattended.get(&reference) {
        Some(since) if last.is_held() => Wait::Unattended {
            since: moment(*since),
            held: Box::new(wait),
        },
        _ => wait,
    }
}

/// What keeps a queued attempt from starting, by the rule of [`Capacity::blocks`].
fn capacity_wait(waiting: &Waiting, queue: &Queue) -> Wait {
    // First, since room that comes free helps nobody then.
    if !queue.paused.is_empty() {
        let paused = queue.paused.iter().map(|paused| {
            let since = Moment {
                at: paused.since,
                now: queue.now,
            };
            (paused.what.clone(), since)
        });
        return Wait::Paused(paused.collect());
    }
    let free = Capacity {
        slots: queue.slots.saturating_sub(queue.slots_used),
        pools: queue
            .pools
            .iter()
            .map(|(name, pool)| (name.clone(), pool.slots.saturating_sub(pool.used())))
            .collect(),
        held: BTreeMap::new(),
        held_by_repo: BTreeMap::from([(THE_REPO, queue.repo_used)]),
        stages_of_a_repo: queue.stages_of_a_repo,
    };
    match free.blocks(waiting) {
        None => Wait::Turn,
        Some(Blocked::NoSlot) => Wait::Slot {
            used: queue.slots_used,
            slots: queue.slots,
        },
        Some(Blocked::RepoFull) => Wait::Repo {
            used: queue.repo_used,
            most: queue.stages_of_a_repo.unwrap_or_default(),
        },
        Some(Blocked::UnknownPool(pool)) => Wait::UnknownPool(pool),
        Some(Blocked::PoolFull(pool)) => {
            let wanted = waiting.pools.get(&pool).copied().unwrap_or_default();
            let taken = queue.pools.get(&pool).cloned().unwrap_or_default();
            if wanted > taken.slots {
                Wait::PoolTooSmall {
                    pool,
                    wanted,
                    slots: taken.slots,
                }
            } else {
                Wait::Pool {
                    pool,
                    wanted,
                    taken,
                }
            }
        }
    }
}

/// A stage that has not ended yet, as those see it that need it.
fn need_of(dag: &Dag, run: &Run, stage: StageIndex, queue: &Queue) -> Option<Need> {
    let moment = |at| Moment { at, now: queue.now };
    let state = match &run.stages[stage.0].state {
        StageState::Finished { .. } => return None,
        StageState::Waiting => NeedState::Waiting,
        StageState::BackingOff { until } => NeedState::BackingOff(moment(*until)),
        StageState::Active => match run.last_attempt(stage) {
            None => NeedState::Ending,
            Some((reference, last)) => match &last.state {
                AttemptState::Queued { .. } => NeedState::Queued,
                AttemptState::Claimed { .. } => NeedState::Preparing,
                AttemptState::Running { since } => {
                    NeedState::Running(moment(*since), reference.number)
                }
                AttemptState::Finished { .. } => NeedState::Ending,
            },
        },
    };
    Some(Need {
        stage: dag.stage(stage).name.clone(),
        state,
    })
}

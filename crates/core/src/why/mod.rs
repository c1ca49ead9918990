//! `why`: what a stage waits for, or why it is as it is, in one line.
//!
//! It explains the decisions of [`crate::plan::plan`] and [`crate::admit::admit`], and decides nothing. The slots
//! that other runs hold are an argument, [`Queue`], since a run's state does not have them.

mod line;

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::Timestamp;
use crate::admit::{Blocked, Capacity, Waiting};
use crate::dag::Dag;
use crate::id::{RepoId, RunId};
use crate::name::{PoolName, StageName};
use crate::outcome::{Outcome, Reason};
use crate::overlap::Overlap;
use crate::run::{AttemptRef, AttemptState, Run, RunPhase, StageRun, StageState};
use crate::stage::{Keep, StageIndex};

/// The repo of the run that is asked about: a [`Queue`] knows no other.
const THE_REPO: RepoId = RepoId(Uuid::nil());

/// Everything outside of a run that keeps it from its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// When this was read; moments of another day are shown with their date.
    pub now: Timestamp,
    /// How many attempts may run at the same time, over all daemons; 0 where none is running.
    pub slots: u32,
    pub slots_used: u32,
    /// How many are of the run's repo.
    pub repo_used: u32,
    /// How many of one repo may run at the same time; `None` sets no limit.
    pub stages_of_a_repo: Option<u32>,
    /// The pools that are configured.
    pub pools: BTreeMap<PoolName, PoolUse>,
    /// Where the run has not started: the runs of its DAG, and group, that count against the concurrency limit
    /// or come before it, the oldest first.
    pub ahead: Vec<RunId>,
    /// Why no daemon starts anything new, where none does.
    pub paused: Vec<Pause>,
    /// The attempts of the run whose daemon is gone and that no other daemon has adopted, and since when.
    pub unattended: BTreeMap<AttemptRef, Timestamp>,
}

/// Something that keeps daemons from starting anything new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// The condition: `Docker does not answer`.
    pub what: String,
    pub since: Timestamp,
}

/// The use of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolUse {
    /// How many slots it has.
    pub slots: u32,
    /// The attempts that hold some of them.
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

/// The thing that a stage waits for, or its progress. `Display` is the line that people see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Its run has not started: others of the same DAG have to end first.
    Runs {
        ahead: Vec<RunId>,
        /// How many runs of the DAG, or of the group, may be active.
        limit: u32,
        /// The group that they are in, where the DAG has groups.
        group: Option<String>,
        /// Whether the oldest is being cancelled for this run (`overlap: cancel_running`).
        replaces: bool,
    },
    /// Its run has not started, and nothing blocks it: the planner starts it next.
    RunStart,
    /// Stages that it needs have not ended.
    Stages(Vec<Need>),
    /// All that it needs has ended; the planner decides about it next.
    Decision,
    /// All slots are in use.
    Slot {
        used: u32,
        /// Of how many; 0 where no daemon is running.
        slots: u32,
    },
    /// The stages of its repo use as many slots as they may.
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
    /// There is room for it: the dispatcher starts it next.
    Turn,
    /// Its container is being prepared.
    Preparing { attempt: u32, since: Moment },
    /// It runs.
    Running { attempt: u32, since: Moment },
    /// It was asked to stop.
    Stopping {
        since: Moment,
        why: Reason,
        /// Whether it has outputs that are copied before it ends.
        keeps_outputs: bool,
    },
    /// It is being prepared, runs or is being stopped, but the daemon that held it is gone, and no
    /// other daemon has adopted it.
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
    /// Its last attempt has ended, and the planner decides about it next.
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

/// Explains in one line what a stage waits for, or why it is in its state.
///
/// # Panics
/// If `stage` is not of this DAG, or `run` is a run of another one.
#[must_use]
pub fn why(dag: &Dag, run: &Run, stage: StageIndex, queue: &Queue) -> String {
    wait(dag, run, stage, queue).to_string()
}

/// The reason why a queued run has not started: that of its first stage that has not ended, as one with a reused result
/// has. `None` if all have ended.
///
/// # Panics
/// If `run` is a run of another DAG.
#[must_use]
pub fn why_not_started(dag: &Dag, run: &Run, queue: &Queue) -> Option<String> {
    let waits = |stage: &StageRun| stage.outcome().is_none();
    let first = run.stages.iter().position(waits)?;
    Some(why(dag, run, StageIndex(first), queue))
}

/// The thing that a stage waits for, or its progress.
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
            let concurrency = &dag.declared().concurrency;
            match concurrency.limit {
                Some(limit) if queue.ahead.len() >= limit as usize => Wait::Runs {
                    ahead: queue.ahead.clone(),
                    limit,
                    group: concurrency.group_of(&run.facts_of_cause()),
                    replaces: concurrency.overlap == Overlap::CancelRunning,
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
                pools: dag.stage(stage).program().pools.clone(),
            };
            capacity_wait(&waiting, queue)
        }
        (AttemptState::Claimed { .. } | AttemptState::Running { .. }, Some((asked, why))) => {
            Wait::Stopping {
                since: moment(*asked),
                why: why.clone(),
                keeps_outputs: !run.cancel.as_ref().is_some_and(|cancel| cancel.force)
                    && dag
                        .stage(stage)
                        .program()
                        .outputs
                        .values()
                        .any(|output| output.keep == Keep::Always),
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

/// The reason why a queued attempt does not start, by the rule of [`Capacity::blocks`].
fn capacity_wait(waiting: &Waiting, queue: &Queue) -> Wait {
    // First, because free room does not help while the daemons are paused.
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

/// A stage that has not ended yet, as the stages that need it see it.
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

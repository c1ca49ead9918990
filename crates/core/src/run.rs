//! The state of one run: plain data, changed only by [`crate::transition::apply`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::Timestamp;
use crate::dag::Dag;
use crate::expression::{Condition, Facts, StageFacts};
use crate::id::RunId;
use crate::name::{DagName, MetricName, ParamName, RepoName, StageName};
use crate::outcome::{Outcome, Reason, ReasonCode};
use crate::param::ParamValue;
use crate::stage::{RunOn, Stage, StageIndex};

/// The facts of a run that are fixed when it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFacts {
    pub id: RunId,
    /// The repo of its DAG; `None` for a file run by hand with no daemon.
    pub repo: Option<RepoName>,
    pub dag: DagName,
    /// The word of its cause's kind.
    pub cause: String,
    /// The full hash of its commit; empty where there is none.
    pub commit: String,
    /// The branch; `None` where there is none.
    pub branch: Option<String>,
    /// The moment that it is for: a schedule's tick, else when it was asked for.
    pub logical_time: Timestamp,
    pub params: BTreeMap<ParamName, ParamValue>,
}

/// One execution of a DAG version.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub facts: RunFacts,
    pub phase: RunPhase,
    /// The request to cancel it, if there was one.
    pub cancel: Option<Cancel>,
    /// Its stage runs, in the order of the DAG's stages.
    pub stages: Vec<StageRun>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunPhase {
    /// It waits until its DAG's concurrency rule lets it start.
    Queued,
    /// Its stages are being run.
    Running { since: Timestamp },
    /// It ended. Final.
    Finished {
        at: Timestamp,
        outcome: Outcome,
        /// Why, where there is more to say than the outcome.
        reason: Option<Reason>,
    },
}

/// A request to cancel a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// When it was asked for.
    pub at: Timestamp,
    pub by: CancelledBy,
    /// Whether stages with `run_on: always` are cancelled too (a second request).
    pub force: bool,
}

impl Cancel {
    /// Whether it cancels this stage of a run that has started: those that run always are spared,
    /// unless it is forced.
    #[must_use]
    pub fn concerns(&self, stage: &Stage) -> bool {
        self.force || !stage.run_on.contains(&RunOn::Always)
    }
}

/// The person, program or rule that cancels a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelledBy {
    /// A person or program, by name.
    Actor(String),
    /// A newer run of the same DAG (`overlap: cancel_running`).
    Newer(RunId),
    /// The run's own timeout.
    Timeout,
}

impl CancelledBy {
    /// The reason of everything that this request cancels.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Actor(name) => {
                Reason::new(ReasonCode::CancelRequested, format!("cancelled by {name}"))
            }
            Self::Newer(run) => Reason::new(
                ReasonCode::Superseded,
                format!("the newer run {run} needed its place (`overlap: cancel_running`)"),
            ),
            Self::Timeout => Reason::new(ReasonCode::RunTimeout, "the run reached its timeout"),
        }
    }
}

/// The most metrics that the stages of a run have together: all of them are read with the run.
pub const METRICS_OF_A_RUN: usize = 20_000;

/// One stage within a run.
#[derive(Debug, Clone, PartialEq)]
pub struct StageRun {
    pub state: StageState,
    /// Its attempts, the first first. Only the last one can be live.
    pub attempts: Vec<Attempt>,
    /// The metrics of its last finished attempt.
    pub metrics: BTreeMap<MetricName, f64>,
    /// The image of its last started attempt, by digest where Docker knows one.
    pub image: Option<String>,
    /// The earlier run whose result stands in for running it again.
    pub reused_from: Option<RunId>,
}

/// How far a stage run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageState {
    /// It waits for what it needs.
    Waiting,
    /// Its last attempt is live, or has just ended and the planner has not decided about it yet.
    Active,
    /// It waits before its next attempt.
    BackingOff { until: Timestamp },
    /// It ended. Final.
    Finished {
        at: Timestamp,
        outcome: Outcome,
        /// Why, where there is more to say than the outcome.
        reason: Option<Reason>,
    },
}

/// One try of a stage run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub state: AttemptState,
    /// The request to stop it, if there was one: when, and why.
    pub stop: Option<(Timestamp, Reason)>,
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptState {
    /// It waits for capacity.
    Queued { since: Timestamp },
    /// A daemon has taken it and prepares its container.
    Claimed { since: Timestamp },
    /// Its container runs.
    Running { since: Timestamp },
    /// It ended. Final.
    Finished {
        at: Timestamp,
        outcome: Outcome,
        /// Why, where there is more to say than the outcome.
        reason: Option<Reason>,
    },
}

impl AttemptState {
    pub const QUEUED: &'static str = "queued";
    pub const STARTING: &'static str = "starting";
    pub const RUNNING: &'static str = "running";

    /// The state as people and programs see it: one of these words, or that of its outcome.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Queued { .. } => Self::QUEUED,
            Self::Claimed { .. } => Self::STARTING,
            Self::Running { .. } => Self::RUNNING,
            Self::Finished { outcome, .. } => outcome.as_str(),
        }
    }
}

/// An attempt within a run: which stage's, and its number from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptRef {
    pub stage: StageIndex,
    /// The attempt's number within the stage run, from 1.
    pub number: u32,
}

impl fmt::Display for AttemptRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt {} of stage #{}", self.number, self.stage.0)
    }
}

impl Run {
    /// A run that has not started.
    #[must_use]
    pub fn new(dag: &Dag, facts: RunFacts) -> Self {
        let stages = dag.stages().iter().map(|_| StageRun::waiting()).collect();
        Self {
            facts,
            phase: RunPhase::Queued,
            cancel: None,
            stages,
        }
    }

    /// The facts for the group of the run: nothing of its stages.
    #[must_use]
    pub fn facts_of_cause(&self) -> Facts {
        Facts {
            params: self.facts.params.clone(),
            cause: self.facts.cause.clone(),
            branch: self.facts.branch.clone().unwrap_or_default(),
            commit: self.facts.commit.clone(),
            logical_time: rfc3339(self.facts.logical_time),
            stages: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, RunPhase::Finished { .. })
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.phase {
            RunPhase::Finished { outcome, .. } => Some(*outcome),
            RunPhase::Queued | RunPhase::Running { .. } => None,
        }
    }

    /// The attempt that is meant, if the run has it.
    #[must_use]
    pub fn attempt(&self, attempt: AttemptRef) -> Option<&Attempt> {
        let place = (attempt.number as usize).checked_sub(1)?;
        self.stages.get(attempt.stage.0)?.attempts.get(place)
    }

    /// The facts for the templates of one stage.
    #[must_use]
    pub fn expression_facts_of(&self, dag: &Dag, stage: StageIndex) -> Facts {
        let mut wanted = BTreeSet::new();
        for template in dag.stage(stage).templates() {
            template.add_stages(&mut wanted);
        }
        self.facts_with(dag, stage, &wanted, |index| self.stages[index.0].outcome())
    }

    /// The facts for the condition of one stage, with outcomes that are decided but not applied yet.
    pub(crate) fn facts_for(
        &self,
        dag: &Dag,
        stage: StageIndex,
        condition: &Condition,
        outcome: impl Fn(StageIndex) -> Option<Outcome>,
    ) -> Facts {
        let mut wanted = BTreeSet::new();
        condition.add_stages(&mut wanted);
        self.facts_with(dag, stage, &wanted, outcome)
    }

    /// Of the stages, only those that the expression names and that come before this one: these have ended by its
    /// turn. So an answer never depends on what else happened to end, and costs no more than the expression does.
    fn facts_with(
        &self,
        dag: &Dag,
        stage: StageIndex,
        wanted: &BTreeSet<&str>,
        outcome: impl Fn(StageIndex) -> Option<Outcome>,
    ) -> Facts {
        let before = wanted
            .iter()
            .filter_map(|name| dag.index_of(name))
            .filter(|index| dag.comes_before(*index, stage));
        let stages = before.filter_map(|index| {
            let stage = &self.stages[index.0];
            let facts = StageFacts {
                outcome: outcome(index)?,
                metrics: stage.metrics.clone(),
                image: stage.image.clone(),
            };
            Some((dag.stage(index).name.clone(), facts))
        });
        Facts {
            stages: stages.collect::<BTreeMap<StageName, StageFacts>>(),
            ..self.facts_of_cause()
        }
    }

    /// The last attempt of a stage, if it has one.
    #[must_use]
    pub fn last_attempt(&self, stage: StageIndex) -> Option<(AttemptRef, &Attempt)> {
        let attempts = &self.stages.get(stage.0)?.attempts;
        let number = u32::try_from(attempts.len()).ok()?;
        Some((AttemptRef { stage, number }, attempts.last()?))
    }
}

/// A moment as stages and expressions see it: `2026-11-23T03:00:00Z`.
#[must_use]
pub fn rfc3339(moment: Timestamp) -> String {
    moment.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

impl StageRun {
    /// A stage run that nothing has happened to.
    #[must_use]
    pub fn waiting() -> Self {
        Self {
            state: StageState::Waiting,
            attempts: Vec::new(),
            metrics: BTreeMap::new(),
            image: None,
            reused_from: None,
        }
    }

    /// Its state as people and programs see it: `waiting`, `queued`, `starting`, `running`, `backing_off`, or the word
    /// of its outcome.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match &self.state {
            StageState::Waiting => "waiting",
            StageState::Active => match self.attempts.last().map(|attempt| &attempt.state) {
                None => AttemptState::QUEUED,
                // The planner has not decided about its end yet.
                Some(AttemptState::Finished { .. }) => AttemptState::RUNNING,
                Some(state) => state.word(),
            },
            StageState::BackingOff { .. } => "backing_off",
            StageState::Finished { outcome, .. } => outcome.as_str(),
        }
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.state {
            StageState::Finished { outcome, .. } => Some(*outcome),
            StageState::Waiting | StageState::Active | StageState::BackingOff { .. } => None,
        }
    }

    /// How its attempts that ended did, in order.
    #[must_use]
    pub fn ended_attempts(&self) -> Vec<Outcome> {
        self.attempts.iter().filter_map(Attempt::outcome).collect()
    }
}

impl Attempt {
    /// How it ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.state {
            AttemptState::Finished { outcome, .. } => Some(*outcome),
            AttemptState::Queued { .. }
            | AttemptState::Claimed { .. }
            | AttemptState::Running { .. } => None,
        }
    }

    /// Whether a daemon holds it: claimed or running.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(
            self.state,
            AttemptState::Claimed { .. } | AttemptState::Running { .. }
        )
    }
}

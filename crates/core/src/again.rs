//! Runs made from earlier ones: which results are reused, and which stages run again.
//!
//! A result stands if the request does not name its stage, and the stage succeeded, comes after no stage that runs
//! again, and has the same definition. The source tree is not compared: with the usual checkout of the whole tree,
//! each commit would change each stage, and no run could be resumed with fixed code. `--from STAGE` names a stage
//! whose code has changed in a way that affects its result.

use std::collections::{BTreeMap, BTreeSet};

use crate::Timestamp;
use crate::cause::Again;
use crate::dag::Dag;
use crate::name::StageName;
use crate::outcome::Outcome;
use crate::run::{Run, RunFacts, StageRun, StageState};
use crate::stage::{RunOn, Stage, StageIndex};

/// An earlier run that is to be run again.
#[derive(Debug, Clone, Copy)]
pub struct Earlier<'a> {
    /// The DAG that it was a run of.
    pub dag: &'a Dag,
    pub run: &'a Run,
    /// Which of its stages run again.
    pub again: &'a Again,
    /// Stages whose Dockerfile has changed since.
    pub rebuilt: &'a BTreeSet<StageName>,
}

impl Earlier<'_> {
    /// Whether a run of `dag` would have anything to do: a stage failed, has changed, or is named by the request.
    #[must_use]
    pub fn leaves_work(&self, dag: &Dag) -> bool {
        match self.again {
            Again::All | Again::From(_) => true,
            Again::FromFailed => {
                self.run.outcome() != Some(Outcome::Succeeded)
                    || dag.stages().iter().any(|stage| self.same(stage).is_none())
            }
        }
    }

    /// This stage as it was, where its definition has not changed.
    fn same(&self, stage: &Stage) -> Option<StageIndex> {
        let index = self.dag.index_of(stage.name.as_str())?;
        let same =
            self.dag.stage(index).makes_the_same_as(stage) && !self.rebuilt.contains(&stage.name);
        same.then_some(index)
    }
}

impl Run {
    /// A run of the stages that an earlier run left to do; it reuses the results that stand.
    ///
    /// Stages with `run_on: [always]` or `[failed]` always run again, and so do, at another branch or commit, those
    /// whose condition, variables, image or arguments name the run's cause.
    #[must_use]
    pub fn again(dag: &Dag, facts: RunFacts, earlier: &Earlier<'_>, now: Timestamp) -> Self {
        let mut run = Self::new(dag, facts);
        let from = match earlier.again {
            Again::All => return run,
            Again::FromFailed => None,
            Again::From(name) => dag.index_of(name.as_str()),
        };
        let (new, old) = (&run.facts, &earlier.run.facts);
        let same_cause = new.branch == old.branch && new.commit == old.commit;
        let mut taken_over: BTreeMap<StageIndex, StageRun> = BTreeMap::new();
        for index in dag.topological() {
            let stage = dag.stage(*index);
            let Some(same) = earlier.same(stage) else {
                continue;
            };
            let old = &earlier.run.stages[same.0];
            let stands = old.outcome() == Some(Outcome::Succeeded)
                && stage.run_on.iter().all(|on| *on == RunOn::Success)
                && Some(*index) != from
                && (same_cause || !stage.reads_cause())
                && dag
                    .needs(*index)
                    .iter()
                    .all(|need| taken_over.contains_key(need));
            if stands {
                let result = StageRun {
                    state: StageState::Finished {
                        at: now,
                        outcome: Outcome::Succeeded,
                        reason: None,
                    },
                    attempts: Vec::new(),
                    metrics: old.metrics.clone(),
                    image: old.image.clone(),
                    reused_from: Some(old.reused_from.unwrap_or(earlier.run.facts.id)),
                };
                taken_over.insert(*index, result);
            }
        }
        for (index, result) in taken_over {
            run.stages[index.0] = result;
        }
        run
    }
}

//! Stages ahead of a run: those that are sure to run unless an earlier stage fails.
//!
//! The needs of these stages can be requested before anything starts.
//! Nothing is known of the others until their turn.

use std::collections::BTreeSet;

use crate::dag::Dag;
use crate::outcome::Outcome;
use crate::run::{AttemptState, Run};
use crate::stage::{RunOn, StageIndex};

/// Whether a program of the run was ever started.
#[must_use]
pub fn has_begun(run: &Run) -> bool {
    run.stages.iter().any(|stage| {
        let started = stage.image.is_some() && stage.reused_from.is_none();
        let runs = |state: &AttemptState| matches!(state, AttemptState::Running { .. });
        started || stage.attempts.iter().any(|attempt| runs(&attempt.state))
    })
}

/// The stages that have not ended and are sure to run, unless one before them fails: their conditions hold already,
/// and so do those of all that they need.
#[must_use]
pub fn sure_to_run(dag: &Dag, run: &Run) -> Vec<StageIndex> {
    let mut sure = vec![false; dag.stages().len()];
    for index in dag.topological() {
        sure[index.0] = match run.stages[index.0].outcome() {
            Some(outcome) => outcome == Outcome::Succeeded,
            None => {
                let stage = dag.stage(*index);
                let needs = stage.run_on.contains(&RunOn::Always)
                    || (stage.run_on.contains(&RunOn::Success)
                        && dag.needs(*index).iter().all(|need| sure[need.0]));
                needs && condition_holds(dag, run, *index)
            }
        };
    }
    dag.indices()
        .filter(|index| sure[index.0] && run.stages[index.0].outcome().is_none())
        .collect()
}

/// Whether the condition of a stage holds whatever happens. A condition that names a stage that
/// has not ended may not hold.
fn condition_holds(dag: &Dag, run: &Run, index: StageIndex) -> bool {
    let Some(condition) = &dag.stage(index).condition else {
        return true;
    };
    let outcome = |stage: StageIndex| run.stages[stage.0].outcome();
    let mut asked = BTreeSet::new();
    condition.add_stages(&mut asked);
    let all_ended = asked.iter().all(|name| {
        dag.index_of(name)
            .is_some_and(|stage| outcome(stage).is_some())
    });
    all_ended && condition.holds(&run.facts_for(dag, index, condition, outcome)) == Ok(true)
}

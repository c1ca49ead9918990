//! Warns of inputs that may not be there when their stage runs: their source was skipped, and the stage runs all the
//! same.

use trainyard_core::dag::Dag;
use trainyard_core::stage::{RunOn, Stage};

use super::places::Places;
use crate::diagnostic::{DiagnosticCode as Code, Sink};

/// One warning for each stage, for its first such input.
pub(super) fn warn(dag: &Dag, places: &Places, sink: &mut Sink<'_>) {
    let may_be_skipped = may_be_skipped(dag);
    for index in dag.indices() {
        let stage = dag.stage(index);
        let absent = stage.program().inputs.iter().find(|(_, source)| {
            let source = dag.index_of(source.stage.as_str());
            source.is_some_and(|source| may_be_skipped[source.0])
        });
        let (Some((name, source)), true) = (absent, runs_after_a_skipped_stage(stage)) else {
            continue;
        };
        let at = places.stages.get(index.0);
        let Some(at) = at.and_then(|stage| stage.inputs.get(name)) else {
            continue;
        };
        let message = format!(
            "stage `{}` also runs where `{}` was skipped, and then errors: its input `{name}` was not made",
            stage.name, source.stage
        );
        sink.warning(Code::InvalidValue, at.clone(), message).help(
            "let one stage decide by itself what it writes, and take its output; an input cannot be optional",
        );
    }
}

/// Where one of several needed stages failed, `failed` is enough, whatever became of the others.
fn runs_after_a_skipped_stage(stage: &Stage) -> bool {
    stage.run_on.contains(&RunOn::Always)
        || (stage.run_on.contains(&RunOn::Failed) && stage.needs.len() > 1)
}

/// Which stages a run may skip although none failed: those with an `if`, those that run after a failure alone, and
/// those that need one of them.
fn may_be_skipped(dag: &Dag) -> Vec<bool> {
    let mut may_be = vec![false; dag.stages().len()];
    for index in dag.topological() {
        let stage = dag.stage(*index);
        let runs_anyway = stage.run_on.contains(&RunOn::Always);
        may_be[index.0] = stage.condition.is_some()
            || !(runs_anyway || stage.run_on.contains(&RunOn::Success))
            || (!runs_anyway && dag.needs(*index).iter().any(|need| may_be[need.0]));
    }
    may_be
}

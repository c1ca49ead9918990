//! DAGs and runs by hand: the plainest of each, to be changed where a test is about it.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_core::Timestamp;
use trainyard_core::dag::{Dag, DagDraft};
use trainyard_core::expression::Template;
use trainyard_core::id::RunId;
use trainyard_core::overlap::Concurrency;
use trainyard_core::retry::Retry;
use trainyard_core::run::{Run, RunFacts};
use trainyard_core::stage::{
    Command, ImageSource, PullPolicy, RunOn, Stage, StageIndex, StageKind, StageProgram,
};
use trainyard_core::trigger::Triggers;

/// A moment by its text.
pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

/// When tests begin: a Monday, at noon.
pub(crate) fn noon() -> Timestamp {
    at("2026-11-23T12:00:00Z")
}

/// A stage that needs nothing and is tried once.
pub(crate) fn named(name: &str) -> Stage {
    let image = ImageSource::Reference {
        image: Template::literal("alpine:3"),
        pull: PullPolicy::IfMissing,
    };
    Stage {
        name: name.parse().expect("a name"),
        needs: Vec::new(),
        run_on: BTreeSet::from([RunOn::Success]),
        condition: None,
        kind: StageKind::Program(StageProgram {
            command: Some(Command::Script("true".to_owned())),
            retry: Retry {
                lost: 0,
                ..Retry::default()
            },
            ..StageProgram::new(image)
        }),
    }
}

/// A stage that needs others.
pub(crate) fn after(name: &str, needs: &[&str]) -> Stage {
    Stage {
        needs: needs
            .iter()
            .map(|need| need.parse().expect("a name"))
            .collect(),
        ..named(name)
    }
}

/// A draft of these stages.
pub(crate) fn draft_of(stages: Vec<Stage>) -> DagDraft {
    DagDraft {
        name: "churn".parse().expect("a name"),
        description: None,
        triggers: Triggers::default(),
        params: BTreeMap::new(),
        concurrency: Concurrency::default(),
        timeout: None,
        stages,
    }
}

/// A DAG of these stages, changed before it is checked.
pub(crate) fn dag_of(stages: Vec<Stage>, change: impl FnOnce(&mut DagDraft)) -> Dag {
    let mut draft = draft_of(stages);
    change(&mut draft);
    Dag::new(draft).unwrap_or_else(|faults| panic!("not a DAG: {faults:?}"))
}

/// A DAG's stage by its name.
pub(crate) fn index(dag: &Dag, name: &str) -> StageIndex {
    dag.index_of(name).expect("a stage of this name")
}

/// A run that has not started.
pub(crate) fn run_of(dag: &Dag, id: i64) -> Run {
    let facts = RunFacts {
        id: RunId(id),
        repo: None,
        dag: dag.name().clone(),
        cause: "manual".to_owned(),
        commit: String::new(),
        branch: Some("main".to_owned()),
        logical_time: noon(),
        params: BTreeMap::new(),
    };
    Run::new(dag, facts)
}

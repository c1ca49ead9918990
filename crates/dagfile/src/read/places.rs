//! Where in the text a place of the draft is.

use std::collections::BTreeMap;
use std::ops::Range;

use trainyard_core::dag::Place;
use trainyard_core::name::{InputName, VariableName};

/// Places of a DAG.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) root: Range<usize>,
    pub(super) schedules: Vec<Range<usize>>,
    /// Of the DAG's own variables.
    pub(super) env: BTreeMap<VariableName, Range<usize>>,
    pub(super) stages: Vec<StagePlaces>,
}

/// Places of one stage.
#[derive(Debug, Default)]
pub(super) struct StagePlaces {
    pub(super) key: Range<usize>,
    pub(super) needs: Vec<Range<usize>>,
    pub(super) condition: Range<usize>,
    pub(super) image: Range<usize>,
    pub(super) build_args: BTreeMap<VariableName, Range<usize>>,
    pub(super) command: Vec<Range<usize>>,
    pub(super) env: BTreeMap<VariableName, Range<usize>>,
    pub(super) inputs: BTreeMap<InputName, Range<usize>>,
    pub(super) gate: Vec<Range<usize>>,
}

impl Places {
    pub(super) fn of(&self, place: &Place) -> Range<usize> {
        let stage = |index: usize| self.stages.get(index);
        let key = |index: usize| stage(index).map_or(self.root.clone(), |stage| stage.key.clone());
        let found = match place {
            Place::Dag => None,
            Place::Schedule(at) => self.schedules.get(*at).cloned(),
            Place::Stage(index) => return key(index.0),
            Place::Need(index, at) => stage(index.0)
                .and_then(|stage| stage.needs.get(*at).cloned())
                .or_else(|| Some(key(index.0))),
            Place::Condition(index) => stage(index.0).map(|stage| stage.condition.clone()),
            Place::Image(index) => stage(index.0).map(|stage| stage.image.clone()),
            Place::BuildArg(index, name) => {
                stage(index.0).and_then(|stage| stage.build_args.get(name).cloned())
            }
            Place::CommandItem(index, at) => {
                stage(index.0).and_then(|stage| stage.command.get(*at).cloned())
            }
            Place::Env(index, name) => stage(index.0)
                .and_then(|stage| stage.env.get(name).cloned())
                .or_else(|| self.env.get(name).cloned()),
            Place::Input(index, name) => {
                stage(index.0).and_then(|stage| stage.inputs.get(name).cloned())
            }
            Place::Gate(index, at) => stage(index.0).and_then(|stage| stage.gate.get(*at).cloned()),
        };
        found.unwrap_or_else(|| self.root.clone())
    }
}

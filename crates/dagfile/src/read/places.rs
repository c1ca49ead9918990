//! The places of a draft in the text.

use std::collections::BTreeMap;
use std::ops::Range;

use trainyard_core::dag::{DagFault, Place};
use trainyard_core::expression::Condition;
use trainyard_core::name::{InputName, VariableName};

use super::FileReader;
use crate::tree::{Node, Value};

/// Places of a DAG.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) root: Range<usize>,
    pub(super) schedules: Vec<Range<usize>>,
    /// The key of the push trigger.
    pub(super) push: Option<Range<usize>>,
    /// The expression of `group`, and how many bytes its source has before what is written.
    pub(super) group: Option<(Node, usize)>,
    /// Of the DAG's own variables.
    pub(super) env: BTreeMap<VariableName, Node>,
    pub(super) stages: Vec<StagePlaces>,
}

#[derive(Debug, Default)]
pub(super) struct StagePlaces {
    pub(super) key: Range<usize>,
    pub(super) needs: Vec<Range<usize>>,
    pub(super) condition: Option<Node>,
    pub(super) image: ImagePlaces,
    pub(super) command: Vec<Node>,
    pub(super) env: BTreeMap<VariableName, Node>,
    pub(super) inputs: BTreeMap<InputName, Range<usize>>,
    pub(super) gate: Vec<Range<usize>>,
}

/// Places of a stage's image.
#[derive(Debug, Clone, Default)]
pub(super) struct ImagePlaces {
    pub(super) image: Option<Node>,
    pub(super) build_args: BTreeMap<VariableName, Node>,
}

impl Places {
    pub(super) fn of(&self, fault: &DagFault, reader: &FileReader<'_>) -> Range<usize> {
        let key = |index: usize| self.stages.get(index).map(|stage| stage.key.clone());
        let spans = |index: usize| self.stages.get(index);
        let found = match &fault.place {
            Place::Dag => None,
            Place::Schedule(at) => self.schedules.get(*at).cloned(),
            Place::Push => self.push.clone(),
            Place::Group => self.group.as_ref().map(|(node, before)| {
                let part = fault.part.clone().unwrap_or_default();
                let moved = |at: usize| at.saturating_sub(*before);
                reader.part(node, &(moved(part.start)..moved(part.end)))
            }),
            Place::Stage(index) => key(index.0),
            Place::Need(index, at) => spans(index.0)
                .and_then(|stage| stage.needs.get(*at).cloned())
                .or_else(|| key(index.0)),
            Place::Input(index, name) => {
                spans(index.0).and_then(|stage| stage.inputs.get(name).cloned())
            }
            Place::Gate(index, at) => spans(index.0).and_then(|stage| stage.gate.get(*at).cloned()),
            Place::Condition(_)
            | Place::Image(_)
            | Place::BuildArg(..)
            | Place::CommandItem(..)
            | Place::Env(..) => self.text(&fault.place).map(|node| match &fault.part {
                None => node.span.clone(),
                Some(part) => {
                    // A condition is kept without the text around it.
                    let before = match (&fault.place, &node.value) {
                        (Place::Condition(_), Value::Scalar { text, .. }) => {
                            Condition::within(text).start
                        }
                        _ => 0,
                    };
                    reader.part(node, &(part.start + before..part.end + before))
                }
            }),
        };
        found.unwrap_or_else(|| self.root.clone())
    }

    /// The text at a place that holds expressions.
    fn text(&self, place: &Place) -> Option<&Node> {
        let stage = |index: usize| self.stages.get(index);
        match place {
            Place::Condition(index) => stage(index.0)?.condition.as_ref(),
            Place::Image(index) => stage(index.0)?.image.image.as_ref(),
            Place::BuildArg(index, name) => stage(index.0)?.image.build_args.get(name),
            Place::CommandItem(index, at) => stage(index.0)?.command.get(*at),
            Place::Env(index, name) => {
                let own = stage(index.0).and_then(|stage| stage.env.get(name));
                own.or_else(|| self.env.get(name))
            }
            Place::Dag
            | Place::Schedule(_)
            | Place::Push
            | Place::Group
            | Place::Stage(_)
            | Place::Need(..)
            | Place::Input(..)
            | Place::Gate(..) => None,
        }
    }
}

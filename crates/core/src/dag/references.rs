//! What stages refer to: outputs of stages before them, names within expressions, parameters.

use std::collections::BTreeSet;

use crate::dag::order::{IndexByName, unknown_stage};
use crate::dag::{DagDraft, DagFault, Place, nearest};
use crate::expression::{Scope, Template};
use crate::name::{OutputName, ParamName, StageName};
use crate::param::GivenValue;
use crate::stage::{Command, ImageSource, Stage, StageIndex};

/// For each stage, the stages that come before it, directly or not: a bit each.
struct Upstream {
    words: usize,
    bits: Vec<u64>,
}

impl Upstream {
    fn new(needs: &[Vec<StageIndex>], order: &[StageIndex]) -> Self {
        let words = needs.len().div_ceil(64);
        let mut bits = vec![0_u64; words * needs.len()];
        for stage in order {
            for need in &needs[stage.0] {
                bits[stage.0 * words + need.0 / 64] |= 1 << (need.0 % 64);
                for word in 0..words {
                    bits[stage.0 * words + word] |= bits[need.0 * words + word];
                }
            }
        }
        Self { words, bits }
    }

    fn contains(&self, stage: StageIndex, other: StageIndex) -> bool {
        self.bits[stage.0 * self.words + other.0 / 64] & (1 << (other.0 % 64)) != 0
    }
}

/// Checks what stages refer to. Where stages have no order, since they need each other in a circle,
/// anything that exists may be referred to: what comes before what shows once the circle is mended.
pub(super) fn check_references(
    draft: &DagDraft,
    index: &IndexByName,
    needs: &[Vec<StageIndex>],
    order: Option<&[StageIndex]>,
    faults: &mut Vec<DagFault>,
) {
    let upstream = order.map(|order| Upstream::new(needs, order));
    let comes_before = |stage: StageIndex, other: StageIndex| {
        stage != other
            && upstream
                .as_ref()
                .is_none_or(|upstream| upstream.contains(stage, other))
    };
    let params: BTreeSet<ParamName> = draft.params.keys().cloned().collect();
    for (at, stage) in draft.stages.iter().enumerate() {
        let at = StageIndex(at);
        if uses_expressions(stage) {
            let before = (0..draft.stages.len())
                .map(StageIndex)
                .filter(|other| comes_before(at, *other));
            let scope = Scope {
                params: params.clone(),
                stages: before
                    .map(|other| draft.stages[other.0].name.clone())
                    .collect::<BTreeSet<StageName>>(),
            };
            check_expressions(at, stage, &scope, faults);
        }
        check_inputs(draft, at, stage, index, &comes_before, faults);
        if !stage.gate.is_empty() && stage.metrics.is_none() {
            faults.push(DagFault {
                place: Place::Gate(at, 0),
                message: format!("stage `{}` has a gate but reports no metrics", stage.name),
                help: Some("add `metrics: metrics.json`".to_owned()),
            });
        }
    }
}

/// A stage's templates, each with its place.
fn templates(at: StageIndex, stage: &Stage) -> Vec<(Place, &Template)> {
    let mut templates: Vec<(Place, &Template)> = stage
        .env
        .iter()
        .map(|(name, template)| (Place::Env(at, name.clone()), template))
        .collect();
    match &stage.image {
        ImageSource::Reference { image, .. } => templates.push((Place::Image(at), image)),
        ImageSource::Build(build) => templates.extend(
            build
                .args
                .iter()
                .map(|(name, template)| (Place::BuildArg(at, name.clone()), template)),
        ),
    }
    if let Some(Command::Exec(items)) = &stage.command {
        templates.extend(
            items
                .iter()
                .enumerate()
                .map(|(item, template)| (Place::CommandItem(at, item), template)),
        );
    }
    templates
}

fn uses_expressions(stage: &Stage) -> bool {
    stage.condition.is_some()
        || templates(StageIndex(0), stage)
            .iter()
            .any(|(_, template)| !template.is_literal())
}

fn check_expressions(at: StageIndex, stage: &Stage, scope: &Scope, faults: &mut Vec<DagFault>) {
    let mut add = |place: &Place, found: Vec<(String, Option<String>)>| {
        faults.extend(found.into_iter().map(|(message, help)| DagFault {
            place: place.clone(),
            message,
            help,
        }));
    };
    for (place, template) in templates(at, stage) {
        add(&place, template.faults(scope));
    }
    if let Some(condition) = &stage.condition {
        add(&Place::Condition(at), condition.faults(scope));
    }
}

fn check_inputs(
    draft: &DagDraft,
    at: StageIndex,
    stage: &Stage,
    index: &IndexByName,
    comes_before: &dyn Fn(StageIndex, StageIndex) -> bool,
    faults: &mut Vec<DagFault>,
) {
    for (name, source) in &stage.inputs {
        let place = Place::Input(at, name.clone());
        let Some(from) = index.get(&source.stage) else {
            let fault = unknown_stage(place, &source.stage, &draft.stages, faults);
            faults.push(fault);
            continue;
        };
        let outputs = &draft.stages[from.0].outputs;
        if !outputs.contains_key(&source.output) {
            let known = outputs.keys().map(OutputName::as_str);
            faults.push(DagFault {
                place,
                message: format!(
                    "stage `{}` has no output named `{}`",
                    source.stage, source.output
                ),
                help: nearest(source.output.as_str(), known)
                    .map(|name| format!("did you mean `{}.{name}`?", source.stage)),
            });
        } else if *from == at {
            faults.push(DagFault {
                place,
                message: format!("stage `{}` takes its own output as an input", stage.name),
                help: Some("take it from a stage that it needs".to_owned()),
            });
        } else if !comes_before(at, *from) {
            faults.push(DagFault {
                place,
                message: format!(
                    "`{}` does not run after `{}`, whose output it takes",
                    stage.name, source.stage
                ),
                help: Some(format!(
                    "add `{}` to the needs of `{}`",
                    source.stage, stage.name
                )),
            });
        }
    }
}

pub(super) fn check_schedules(draft: &DagDraft, faults: &mut Vec<DagFault>) {
    let mut seen = BTreeSet::new();
    for (item, schedule) in draft.triggers.schedule.iter().enumerate() {
        // Ticks are told apart by these two; a second run for the same tick would never come.
        if !seen.insert((schedule.cron.as_str(), schedule.timezone.name())) {
            faults.push(DagFault {
                place: Place::Schedule(item),
                message: format!(
                    "there are two schedules `{}` in {}",
                    schedule.cron, schedule.timezone
                ),
                help: Some("remove one of them; a tick starts one run".to_owned()),
            });
        }
        let given = schedule
            .params
            .iter()
            .map(|(name, value)| (name.to_string(), GivenValue::Typed(value.clone())))
            .collect();
        if let Err(problems) = crate::param::resolve(&draft.params, &given) {
            faults.extend(problems.into_iter().map(|problem| DagFault {
                place: Place::Schedule(item),
                message: problem.to_string(),
                help: None,
            }));
        }
    }
}
